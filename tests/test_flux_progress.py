"""Bars for jobs: what they say, what they count, and that they never harm a job."""

from __future__ import annotations

import asyncio
import io
import json
import re
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, cast
from uuid import uuid4

import pytest
from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from langchain.agents import create_agent
from langchain_core.callbacks import (
    AsyncCallbackHandler,
    BaseCallbackHandler,
    CallbackManager,
    dispatch_custom_event,
)
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.runnables.config import set_config_context
from quick_flux import QUICK_POLL, QUICK_RETRY
from scripted_model import ScriptedModel, tool_call
from traitlets.config import Config
from typing_extensions import override

from langchain_shortapi_flux import (
    CreateOutcomeUnknown,
    FluxJob,
    FluxRequest,
    JobFailed,
    RetryLimits,
    ShortAPIFlux,
    ShortAPIFluxToolkit,
)
from langchain_shortapi_flux.errors import RateLimited
from langchain_shortapi_flux.progress import FluxProgress
from langchain_shortapi_flux.progress_count import Spent
from langchain_shortapi_flux.run_progress import (
    BatchSize,
    RunProgress,
    current_batch,
    told_by_a_tool,
)
from langchain_shortapi_flux.sandbox import Fault, Sandbox
from langchain_shortapi_flux.tool_progress import PROGRESS_EVENT, progress_event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from uuid import UUID

    from langchain_core.runnables import Runnable, RunnableConfig


Call = Literal["invoke", "ainvoke", "stream", "astream"]
CALLS = pytest.mark.parametrize("call", ["invoke", "ainvoke", "stream", "astream"])
BOTH_WAYS = pytest.mark.parametrize("way", ["sync", "async"])
DEV, NOTHING = Decimal("0.02"), Decimal(0)
tqdm: Any = import_module("tqdm.auto").tqdm
NAME, LOOK = "flux_text_to_image", "flux_get_job"
RUNNING_TWICE = Fault("query", "status_word", times=2)


_Telling = ShortAPIFlux


class _Terminal(io.StringIO):
    """Where bars are drawn: the lines that were ever to be seen, one after another."""

    @property
    def lines(self) -> list[str]:
        """Each drawing of a line, without what moves the cursor and what only pads."""
        text = re.sub(r"\x1b\[[A-Z]", "", self.getvalue())
        drawn = (line.rstrip() for line in re.split(r"[\r\n]", text))
        return [line for line in drawn if line]

    @property
    def screen(self) -> list[str]:
        """What is to be seen in the end."""
        rows: list[str] = [""]
        row = column = 0
        for mark in re.findall(r"\x1b\[A|.", self.getvalue(), re.DOTALL):
            if mark == "\n":
                row, column = row + 1, 0
                rows += [""] * (row + 1 - len(rows))
            elif mark == "\r":
                column = 0
            elif mark == "\x1b[A":
                row -= 1
            else:
                rows[row] = rows[row].ljust(column)[:column] + mark + rows[row][column + 1 :]
                column += 1
        return [line.rstrip() for line in rows if line.strip()]


@pytest.fixture
def terminal() -> _Terminal:
    """Where the bars of a test are drawn."""
    return _Terminal()


_kept: list[FluxProgress] = []
"""The handlers of a test: a bar that is thrown away closes itself, and would not be missed."""


@pytest.fixture(autouse=True)
def _no_bar_is_left_open() -> Iterator[None]:
    yield
    left = len(tqdm._instances)
    tqdm._instances.clear()
    _kept.clear()
    assert left == 0


def _flux(sandbox: Sandbox, **fields: Any) -> ShortAPIFlux:
    quick = {"poll": QUICK_POLL, "retry": QUICK_RETRY, "timeout": 10.0}
    where = {"base_url": sandbox.base_url, "api_key": sandbox.api_key}
    return _Telling(**{**where, **quick, **fields})


def _progress(terminal: _Terminal, **options: Any) -> FluxProgress:
    progress = FluxProgress(file=terminal, refresh_seconds=0.0, **options)
    _kept.append(progress)
    return progress


def _config(*handlers: BaseCallbackHandler, max_concurrency: int | None = None) -> RunnableConfig:
    return {"callbacks": list(handlers), "max_concurrency": max_concurrency}


async def _called(
    call: Call, flux: Any, asked: Any, *handlers: BaseCallbackHandler, **options: Any
) -> Any:
    config = _config(*handlers)
    if call == "invoke":
        return flux.invoke(asked, config, **options)
    if call == "ainvoke":
        return await flux.ainvoke(asked, config, **options)
    if call == "stream":
        *_, last = flux.stream(asked, config, **options)
        return last
    *_, last = [job async for job in flux.astream(asked, config, **options)]
    return last


def _times_cut(line: str) -> str:
    return re.sub(r"\d+\.\d s", "N s", re.sub(r"\[\d+:\d+\]", "[time]", line))


# --- one job ------------------------------------------------------------------------------------


@CALLS
async def test_a_jobs_bar_says_how_it_is_going(
    call: Call, sandbox: Sandbox, terminal: _Terminal
) -> None:
    """State, seconds, queries and money, and no share of a time that nobody knows."""
    sandbox.inject(RUNNING_TWICE)
    progress = _progress(terminal)
    await _called(call, _flux(sandbox), "a red fox", progress)
    (job,) = sandbox.jobs
    name = "a red fox" if "invoke" in call else job.job_id
    lines = [_times_cut(line) for line in terminal.lines]
    assert list(dict.fromkeys(lines)) == [
        f"{'a red fox' if 'invoke' in call else 'flux'} · creating",
        *(
            f"{name} · pending · N s · {queries} · 0.02 USD"
            for queries in ("0 queries", "1 query", "2 queries")
        ),
        f"{name} · succeeded · N s · 3 queries · 0.02 USD",
        *(["a red fox · succeeded · N s · 3 queries · 0.02 USD"] if "stream" in call else []),
    ]
    assert [_times_cut(line) for line in terminal.screen] == [
        "a red fox · succeeded · N s · 3 queries · 0.02 USD"
    ]
    assert "%" not in terminal.getvalue()
    assert progress.spent == DEV


@pytest.mark.parametrize(
    "asked",
    ["a red fox", {"prompt": "a red fox"}, FluxRequest(prompt="a red fox")],
    ids=["text", "dict", "request"],
)
def test_a_bar_begins_with_the_prompt(asked: Any, sandbox: Sandbox, terminal: _Terminal) -> None:
    """Whatever way it was given."""
    _flux(sandbox).invoke(asked, _config(_progress(terminal)))
    assert terminal.lines[0] == "a red fox · creating"


def test_a_prompt_does_not_steer_the_terminal(sandbox: Sandbox, terminal: _Terminal) -> None:
    """It may come from a model; a long one is cut."""
    prompt = "a \x1b]0;owned\x07 fox\r\n\u202e" + "x" * 100
    _flux(sandbox).invoke(prompt, _config(_progress(terminal)))
    assert terminal.lines[0] == "a ]0;owned fox xxxxxxxxxxxxxxxx… · creating"
    assert not {"\x1b]", "\x07", "\u202e"} & set(
        re.findall(r"\x1b\]|\x07|\u202e", terminal.getvalue())
    )


def test_prompts_may_be_kept_out(sandbox: Sandbox, terminal: _Terminal) -> None:
    """What goes to stderr often ends in a log."""
    progress = _progress(terminal, show_prompts=False)
    _flux(sandbox).invoke("a secret fox", _config(progress))
    assert "secret" not in terminal.getvalue()
    assert terminal.lines[-1].startswith(sandbox.jobs[0].job_id)


# --- batches ------------------------------------------------------------------------------------


@contextmanager
def _in_a_notebook() -> Iterator[list[dict[str, Any]]]:
    """What is shown below a cell, in the order in which it is sent there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # IPython's own
        settings = Config()
        settings.HistoryManager.enabled = False
        shell = InteractiveShell.instance(config=settings)
    publisher: Any = cast("Any", CapturingDisplayPublisher)()
    shell.display_pub = publisher
    yield publisher.outputs
    InteractiveShell.clear_instance()


@BOTH_WAYS
async def test_a_batch_has_a_bar_that_counts_its_jobs_and_their_money(
    way: str, sandbox: Sandbox, terminal: _Terminal
) -> None:
    """It stays when the jobs' own bars are gone; one that failed and was refunded cost nothing."""
    sandbox.inject(Fault("create", "job_fails"))
    progress, made = _progress(terminal, job_bars=2), []
    make_bar = progress._bars._bar_class

    def bar(**options: Any) -> Any:
        made.append(options)
        return make_bar(**options)

    progress._bars._bar_class = bar
    flux, config = _flux(sandbox), _config(progress, max_concurrency=3)
    prompts: Any = [f"fox {number}" for number in range(7)]
    if way == "sync":
        flux.batch(prompts, config, return_exceptions=True)
    else:
        await flux.abatch(prompts, config, return_exceptions=True)
    assert progress.spent == 6 * DEV
    assert re.fullmatch(r"7/7 \|\S+\| 1 failed, 0\.12 USD \[\d\d:\d\d\]", terminal.lines[-1])
    assert re.fullmatch(r"0/7 \|\s+\| 1 running, 0 USD \[\d\d:\d\d\]", terminal.lines[0])
    assert not [line for line in terminal.lines if re.match(r"\d+/(?!7 )", line)]
    assert terminal.screen == terminal.lines[-1:]
    assert terminal.getvalue().count("\x1b[A" * 3) == 0, "never more than two bars below it"
    assert len(made) == 3, "each is handed on: a notebook keeps every widget"


def test_what_a_notebook_keeps_of_widgets_is_the_last_line(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opened again, a widget shows nothing; and what was closed should leave nothing behind."""
    monkeypatch.setattr("tqdm.auto.tqdm", import_module("tqdm.notebook").tqdm)
    sandbox.inject(Fault("create", "job_fails"))
    progress, widgets = FluxProgress(job_bars=2, refresh_seconds=0.0), []
    make_bar = progress._bars._bar_class

    def bar(**options: Any) -> Any:
        made = make_bar(**options)
        widgets.append(made.container)
        return made

    progress._bars._bar_class = bar
    flux, prompts = _flux(sandbox), ["fox 0", "fox 1", "fox 2"]
    with _in_a_notebook() as published:
        flux.batch(prompts, _config(progress, max_concurrency=2), return_exceptions=True)
    kept: dict[str, dict[str, str]] = {}
    for message in published:
        assert message["update"] == (message["transient"]["display_id"] in kept)
        kept[message["transient"]["display_id"]] = message["data"]
    assert "application/vnd.jupyter.widget-view+json" in published[0]["data"]
    hidden = [widget.children[1].layout.display for widget in widgets]
    assert hidden == [None, "none", "none"], "what has no share to show has words alone"
    (last,) = [data for data in kept.values() if data]
    assert len(kept) == 3
    assert list(last) == ["text/plain"]
    assert re.fullmatch(r"3/3 \|█+\| 1 failed, 0\.04 USD \[\d\d:\d\d\]", last["text/plain"])
    assert len(last["text/plain"]) == 72


async def test_jobs_at_once_are_counted_without_being_announced(
    sandbox: Sandbox, terminal: _Terminal
) -> None:
    """Nobody knows how many will come, so no share is shown."""
    progress = _progress(terminal)
    flux, config = _flux(sandbox), _config(progress)
    await asyncio.gather(*(flux.ainvoke(f"fox {number}", config) for number in range(3)))
    assert re.fullmatch(r"3 done, 0\.06 USD \[\d\d:\d\d\]", terminal.lines[-1])
    assert not any("|" in line for line in terminal.lines)


def test_jobs_one_by_one_make_one_lot_where_their_number_is_given(
    sandbox: Sandbox, terminal: _Terminal
) -> None:
    """The bar is drawn anew for each, and only its last line stays."""
    progress = _progress(terminal, total=3)
    flux, config = _flux(sandbox), _config(progress)
    for number in range(3):
        flux.invoke(f"fox {number}", config)
        assert len(tqdm._instances) == 0, "open bars would be left behind by an interrupt"
        assert re.match(rf"{number + 1}/3 ", terminal.lines[-1])
        if number == 0:  # an hour goes by
            count, since = progress._bars._since or (None, 0.0)
            progress._bars._since = (cast("Any", count), since - 3600)
    (line,) = terminal.screen
    assert re.fullmatch(r"3/3 \|\S+\| 0\.06 USD \[1:00:\d\d\]", line)
    flux.invoke("the next lot", config)
    assert re.match(r"1/3 .* 0\.08 USD \[00:", terminal.lines[-1])


def test_two_batches_are_two_lots(sandbox: Sandbox, terminal: _Terminal) -> None:
    """One that was left half way does not go on in the next; the money is counted on."""
    progress = _progress(terminal)
    flux, config = _flux(sandbox), _config(progress)
    for jobs, started in ((5, 1), (2, 2)):
        token = current_batch.set(BatchSize(jobs))
        for number in range(started):
            flux.invoke(f"fox {number}", config)
        current_batch.reset(token)
    assert re.match(r"2/2 .* 0\.06 USD", terminal.lines[-1])


def test_a_chain_around_jobs_counts_only_the_jobs(sandbox: Sandbox, terminal: _Terminal) -> None:
    """Each has several runs around it, and other tools' runs beside it."""
    progress = _progress(terminal)
    chain: Runnable[Any, Any] = (
        RunnableLambda(lambda word: f"a {word} fox") | _flux(sandbox) | RunnableLambda(str)
    )
    chain.batch(["red", "blue"], _config(progress))
    assert progress.spent == 2 * DEV
    assert re.match(r"2( done,|/2 \|\S+\|) 0\.04 USD ", terminal.lines[-1])


def test_a_second_attempt_takes_the_place_of_the_first(
    sandbox: Sandbox, terminal: _Terminal
) -> None:
    """``with_retry`` makes a new run; there are not more jobs for it."""
    sandbox.inject(Fault("create", "rate_limited"))
    flux = _flux(sandbox, retry=RetryLimits(create_attempts=1)).with_retry(
        wait_exponential_jitter=False
    )
    progress = _progress(terminal, total=2)
    config = _config(progress)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda prompt: flux.invoke(prompt, config), ["fox 0", "fox 1"]))
    assert len(sandbox.charges) == 2
    assert re.match(r"2/2 \|\S+\| 0\.04 USD", terminal.lines[-1])


def test_a_second_attempt_that_starts_when_all_others_have_ended_is_one_of_them(
    terminal: _Terminal,
) -> None:
    """Else two jobs would show as one of two, and then as one of two again."""
    progress, known = _progress(terminal, total=2), {"ls_provider": "shortapi"}
    around = uuid4()

    def start(parent: UUID, *tags: str) -> UUID:
        run_id = uuid4()
        progress.on_chain_start(
            *({}, "a fox"),
            run_id=run_id,
            parent_run_id=parent,
            tags=list(tags),
            metadata=known,
            run_type="tool",
        )
        return run_id

    first, other = start(around), start(uuid4())
    progress.on_chain_error(RateLimited("too many"), run_id=first)
    progress.on_chain_end({}, run_id=other)
    progress.on_chain_end({}, run_id=start(around, "retry:attempt:2"))
    assert terminal.lines[-1].startswith("2/2 ")


# --- endings ------------------------------------------------------------------------------------


@CALLS
async def test_a_failed_job_closes_its_bar_and_says_so(
    call: Call, sandbox: Sandbox, terminal: _Terminal
) -> None:
    """What was given back was not spent."""
    sandbox.inject(Fault("create", "job_fails"))
    progress = _progress(terminal)
    with pytest.raises(JobFailed):
        await _called(call, _flux(sandbox), "a red fox", progress)
    assert terminal.lines[-1].endswith(" · 0.02 USD · refunded · JobFailed")
    assert progress.spent == 0


def test_after_a_failure_the_bar_of_a_lot_stays(sandbox: Sandbox, terminal: _Terminal) -> None:
    """Nobody knows if another job comes; what was spent is still to be read."""
    sandbox.inject(Fault("create", "job_fails"))
    with pytest.raises(JobFailed):
        _flux(sandbox).invoke("a red fox", _config(_progress(terminal, total=3)))
    (line,) = terminal.screen
    assert re.match(r"1/3 \|.*\| 1 failed, 0\.00 USD", line)


def test_more_jobs_than_announced_are_counted_as_they_are(
    sandbox: Sandbox, terminal: _Terminal
) -> None:
    """The number given may be wrong."""
    _flux(sandbox).batch(["fox 0", "fox 1"], _config(_progress(terminal, total=1)))
    assert re.match(r"2/2 \|", terminal.lines[-1])


@CALLS
async def test_a_create_without_an_answer_is_counted_as_what_it_is(
    call: Call, sandbox: Sandbox, terminal: _Terminal
) -> None:
    """Neither spent nor not spent."""
    sandbox.inject(Fault("create", "drop_after"))
    progress = _progress(terminal)
    with pytest.raises(CreateOutcomeUnknown):
        await _called(call, _flux(sandbox), "a red fox", progress)
    assert (progress.spent, progress.may_have_been_charged) == (NOTHING, 1)
    assert terminal.lines[-1].endswith("creating · CreateOutcomeUnknown")
    await asyncio.gather(*(_called("ainvoke", _flux(sandbox), "x", progress) for _ in range(2)))
    assert "0.04 USD, 1 may have been charged" in terminal.lines[-1]


@CALLS
async def test_a_request_that_is_refused_here_costs_nothing(
    call: Call, sandbox: Sandbox, terminal: _Terminal
) -> None:
    """It was never sent."""
    progress = _progress(terminal)
    with pytest.raises(ValueError, match="aspect_ratio"):
        await _called(call, _flux(sandbox), {"prompt": "x", "aspect_ratio": "0:0"}, progress)
    assert terminal.screen == terminal.lines[-1:]
    assert terminal.lines[-1].endswith(" · creating · InvalidRequest")
    assert (progress.spent, progress.may_have_been_charged) == (NOTHING, 0)


class _AtTheFirstSnapshot(BaseCallbackHandler):
    """Does something when a job was bought."""

    raise_error = True
    run_inline = True

    def __init__(self, act: Callable[[], object]) -> None:
        self._act = act

    @override
    def on_custom_event(self, name: str, data: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self._act()


async def test_a_cancelled_job_closes_its_bar(sandbox: Sandbox, terminal: _Terminal) -> None:
    """It goes on at the service and is paid for."""
    sandbox.inject(Fault("create", "job_never_ends"))
    bought = asyncio.Event()
    progress = _progress(terminal)
    handlers = (progress, _AtTheFirstSnapshot(bought.set))
    task = asyncio.create_task(_called("ainvoke", _flux(sandbox), "a red fox", *handlers))
    await bought.wait()
    assert len(tqdm._instances) == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert terminal.lines[-1].endswith(" · cancelled")
    assert (progress.spent, progress.may_have_been_charged) == (DEV, 0)


@pytest.mark.parametrize("call", ["invoke", "stream"])
async def test_an_interrupted_job_closes_its_bar(
    call: Call, sandbox: Sandbox, terminal: _Terminal
) -> None:
    """Ctrl-C is no Exception."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    progress = _progress(terminal)
    with pytest.raises(KeyboardInterrupt):
        await _called(call, _flux(sandbox), "a fox", progress, _AtTheFirstSnapshot(interrupt))
    assert terminal.lines[-1].endswith(" · interrupted")
    assert progress.spent == DEV


@BOTH_WAYS
async def test_a_stream_that_is_left_closes_its_bar(
    way: str, sandbox: Sandbox, terminal: _Terminal
) -> None:
    """And is no failure."""
    sandbox.inject(Fault("create", "job_never_ends", times=2))
    progress = _progress(terminal, total=2)
    config = _config(progress)
    if way == "sync":
        jobs: Any = _flux(sandbox).stream("a fox", config)
        next(jobs)
        assert len(tqdm._instances) == 2
        jobs.close()
    else:
        ajobs: Any = _flux(sandbox).astream("a fox", config)
        await anext(ajobs)
        assert len(tqdm._instances) == 2
        await ajobs.aclose()
    assert progress.spent == DEV
    assert re.match(r"1/2 \|.*\| 0\.02 USD", terminal.lines[-1])


async def test_the_jobs_of_a_batch_that_is_cancelled_have_not_failed(
    sandbox: Sandbox, terminal: _Terminal
) -> None:
    """They go on at the service; one that had its pictures by then is done."""
    sandbox.inject(Fault("create", "none"), Fault("create", "job_never_ends", times=2))
    progress, told = _progress(terminal), asyncio.Event()

    def tell() -> None:
        if progress.spent == 3 * DEV:
            told.set()

    handlers = (progress, _AtTheFirstSnapshot(tell))
    flux, prompts = _flux(sandbox), ["a fox", "a hare", "a bear"]
    ends = flux.abatch_as_completed(prompts, _config(*handlers))

    async def first_and_then_wait() -> None:
        async for _ in ends:
            await told.wait()
            asyncio.get_running_loop().call_soon(batch.cancel)

    batch = asyncio.create_task(first_and_then_wait())
    with pytest.raises(asyncio.CancelledError):
        await batch
    assert re.match(r"1/3 \|.*\| 2 left, 0\.06 USD", terminal.lines[-1])


def test_bars_can_be_closed_by_hand(sandbox: Sandbox, terminal: _Terminal) -> None:
    """Where a generator is kept and never goes on."""
    sandbox.inject(RUNNING_TWICE)
    progress = _progress(terminal, total=2)
    jobs: Any = _flux(sandbox).stream("a fox", _config(progress))
    next(jobs)
    progress.close()
    assert len(tqdm._instances) == 0
    assert [job.status for job in jobs] == ["pending", "pending", "succeeded"]
    assert progress.spent == DEV


def test_bars_that_are_closed_for_good_stay_closed(sandbox: Sandbox, terminal: _Terminal) -> None:
    """Whatever is still told, of this run or another; money is counted all the same."""
    sandbox.inject(RUNNING_TWICE)
    progress = _progress(terminal, total=2)
    jobs: Any = _flux(sandbox).stream("a fox", _config(progress))
    next(jobs)
    progress.close(for_good=True)
    drawn = terminal.getvalue()
    assert [job.status for job in jobs] == ["pending", "pending", "succeeded"]
    _flux(sandbox).invoke("a hare", _config(progress))
    assert terminal.getvalue() == drawn
    assert progress.spent == 2 * DEV


# --- money --------------------------------------------------------------------------------------


@CALLS
async def test_a_job_that_was_bought_before_costs_nothing_again(
    call: Call, sandbox: Sandbox, terminal: _Terminal
) -> None:
    """The ledger knows it; the same handler, or a new one, counts it once."""
    flux, progress = _flux(sandbox), _progress(terminal)
    for handler in (progress, progress, later := _progress(terminal)):
        await _called(call, flux, "a red fox", handler, request_key="fox")
    assert len(sandbox.charges) == 1
    assert (progress.spent, later.spent) == (DEV, NOTHING)


def _event(**known: Any) -> dict[str, Any]:
    pending = {"status": "pending", "charge": "charged", "cost": "0.02", "queries": 0}
    return {"job_id": "1", "elapsed": 0.0, "refunded": None, **pending, **known}


@pytest.mark.parametrize(
    ("events", "usd", "words"),
    [
        ([], "0", "0 USD"),
        ([_event()], "0.02", "0.02 USD"),
        ([_event(), _event(cost="0.018", queries=1)], "0.018", "0.018 USD"),
        ([_event(), _event(), _event(job_id="2")], "0.04", "0.04 USD"),
        ([_event(queries=1)], "0", "0 USD"),
        ([_event(charge="unknown")], "0", "0 USD"),
        ([_event(status="succeeded", queries=3)], "0", "0 USD"),
        ([_event(), _event(charge="refunded")], "0", "0.00 USD"),
        ([_event(), _event(charge="refunded", refunded="0.005")], "0.015", "0.015 USD"),
        ([_event(), _event(charge="refunded", refunded="0")], "0", "0.00 USD"),
        ([_event(), _event(charge="refunded", refunded="9")], "0", "0.00 USD"),
        ([_event(), _event(charge="unknown", status="failed")], "0.02", "0.02 USD"),
        ([_event(cost=None)], "0", "0 USD, cost of 1 not reported"),
        ([_event(cost=None), _event(queries=1)], "0.02", "0.02 USD"),
        ([_event(cost=None), _event(job_id="2")], "0.02", "0.02 USD, cost of 1 not reported"),
    ],
)
def test_money_is_counted_as_it_is_reported(events: Any, usd: str, words: str) -> None:
    """Each job once, by its last snapshot, less what was given back."""
    spent = Spent()
    for event in events:
        spent.see(event)
    assert spent.usd == Decimal(usd)
    assert spent.words == words


def test_a_handler_serves_many_threads(sandbox: Sandbox, terminal: _Terminal) -> None:
    """The money is exact, and every bar is closed."""
    progress, jobs, workers = _progress(terminal), 48, 8
    flux, config = _flux(sandbox, performance="schnell"), _config(progress)
    start = threading.Barrier(workers)

    def work(first: int) -> None:
        start.wait(timeout=10)
        for number in range(first, jobs, workers):
            flux.invoke(f"fox {number}", config)

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(work, range(workers)))
    assert progress.spent == jobs * Decimal("0.002")
    assert len(sandbox.charges) == jobs


# --- agents -------------------------------------------------------------------------------------


@BOTH_WAYS
async def test_an_agents_calls_have_a_bar_each_and_are_paid_for_once(
    way: str, sandbox: Sandbox, terminal: _Terminal
) -> None:
    """The tool tells on its own run, around the job's: they are one."""
    calls = [tool_call(NAME, prompt=f"fox {number}").tool_calls[0] for number in range(3)]
    model = ScriptedModel(answers=[AIMessage("", tool_calls=calls), "There."])
    agent: Any = create_agent(model, ShortAPIFluxToolkit(flux=_flux(sandbox)).get_tools())
    progress = _progress(terminal, total=3)
    asked, config = {"messages": [("user", "draw")]}, _config(progress)
    _ = agent.invoke(asked, config) if way == "sync" else await agent.ainvoke(asked, config)
    assert progress.spent == 3 * DEV
    assert re.match(r"3/3 \|\S+\| 0\.06 USD", terminal.lines[-1])
    named = {line.split(" · ")[0] for line in terminal.lines if " · succeeded" in line}
    assert named <= {job.job_id for job in sandbox.jobs}


@BOTH_WAYS
async def test_a_tool_that_only_looks_has_a_bar_and_costs_nothing(
    way: str, sandbox: Sandbox, flux: ShortAPIFlux, terminal: _Terminal
) -> None:
    """Its run is known by what it tells, and has no job's run in it."""
    job_id = flux.create("a red fox").job_id
    sandbox.inject(RUNNING_TWICE)
    look = ShortAPIFluxToolkit(flux=flux).get_tools()[1]
    progress = _progress(terminal)
    call, config = (
        tool_call(LOOK, job_id=job_id, wait=True).tool_calls[0],
        _config(progress),
    )
    _ = look.invoke(call, config) if way == "sync" else await look.ainvoke(call, config)
    assert terminal.lines[0].startswith(f"{job_id} · pending")
    assert re.fullmatch(
        rf"{job_id} · succeeded · \d\.\d s · 3 queries · 0\.02 USD", terminal.lines[-1]
    )
    assert progress.spent == 0


@BOTH_WAYS
async def test_a_look_at_a_job_that_has_ended_has_no_bar(
    way: str, sandbox: Sandbox, flux: ShortAPIFlux, terminal: _Terminal
) -> None:
    """There is nothing to wait for."""
    asked = {"job_id": flux.invoke("a red fox").job_id}
    look = ShortAPIFluxToolkit(flux=flux).get_tools()[1]
    config = _config(_progress(terminal))
    _ = look.invoke(asked, config) if way == "sync" else await look.ainvoke(asked, config)
    assert terminal.getvalue() == ""


# --- never a job's trouble ----------------------------------------------------------------------


class _Broken(_Terminal):
    """A terminal that goes away."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self._left = after

    @override
    def write(self, text: str) -> int:
        self._left -= 1
        if self._left < 0:
            raise OSError("the terminal is gone")
        return super().write(text)


class _Interrupted(_Terminal):
    """A terminal at which Ctrl-C is pressed in the middle of a drawing."""

    @override
    def write(self, text: str) -> int:
        if "pending" in text and "interrupted" not in text:
            raise KeyboardInterrupt
        return super().write(text)


def _another_thread_can_draw() -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: tqdm(total=1, file=io.StringIO()).close()).result(timeout=20)


@pytest.mark.parametrize("after", [0, 1, 5, 12])
@BOTH_WAYS
async def test_a_terminal_that_goes_away_harms_no_job(
    way: str, after: int, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said once; jobs and money go on."""
    sandbox.inject(RUNNING_TWICE)
    progress = _progress(_Broken(after), total=3)
    flux, config = _flux(sandbox), _config(progress)
    prompts: Any = ["fox 0", "fox 1", "fox 2"]
    jobs = flux.batch(prompts, config) if way == "sync" else await flux.abatch(prompts, config)
    assert [job.status for job in jobs] == ["succeeded"] * 3
    assert progress.spent == 3 * DEV
    assert [record.message for record in caplog.records] == [
        "progress bars are off, for drawing them failed"
    ]
    _another_thread_can_draw()


async def test_an_interrupt_while_a_bar_is_drawn_stops_no_other_bar(sandbox: Sandbox) -> None:
    """All bars of a process, also a user's own, are drawn under one lock."""
    progress = _progress(terminal := _Interrupted())
    with pytest.raises(KeyboardInterrupt):
        await _called("invoke", _flux(sandbox), "a red fox", progress)
    assert terminal.lines[-1].endswith(" · interrupted")
    assert progress.spent == DEV
    _another_thread_can_draw()


@pytest.mark.parametrize(
    "data",
    [
        None,
        "text",
        {},
        {"job_id": "1"},
        {**_event(), "cost": "much"},
        {**_event(), "elapsed": "long"},
        {**_event(), "job_id": ["1"]},
    ],
)
def test_an_event_that_is_none_of_ours_is_left_alone(
    data: Any, terminal: _Terminal, caplog: pytest.LogCaptureFixture
) -> None:
    """Anybody may dispatch one of that name."""

    def step(_: object) -> None:
        dispatch_custom_event(PROGRESS_EVENT, data)
        dispatch_custom_event("another", _event())

    progress = _progress(terminal)
    RunnableLambda(step).invoke("x", _config(progress))
    assert caplog.records == []
    assert terminal.getvalue() == ""
    assert progress.spent == 0


def test_runs_of_others_have_no_bar(terminal: _Terminal) -> None:
    """Models, chains and tools that make no pictures, also below our own provider's name."""
    progress = _progress(terminal)
    chain: Runnable[Any, Any] = RunnableLambda(lambda _: "x") | ScriptedModel(answers=["y", "z"])
    chain.invoke("x", _config(progress))
    chain.invoke("x", {**_config(progress), "metadata": {"ls_provider": "shortapi"}})
    for known in (None, {}, {"ls_provider": "another"}):
        progress.on_chain_start({}, "x", run_id=uuid4(), metadata=known, run_type="tool")
    assert terminal.getvalue() == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"total": 0}, "total=0: allowed are 1 and more, and None"),
        ({"job_bars": -1}, "job_bars=-1: allowed are 0 and more"),
        ({"refresh_seconds": -0.1}, "refresh_seconds=-0.1: allowed are 0 and more"),
        ({"refresh_seconds": float("nan")}, "refresh_seconds=nan: allowed are 0 and more"),
    ],
)
def test_a_number_that_makes_no_sense_is_refused(options: Any, message: str) -> None:
    """By name, with what is allowed."""
    with pytest.raises(ValueError, match=re.escape(message)):
        FluxProgress(**options)


def test_no_bars_for_jobs_leaves_the_one_that_counts(sandbox: Sandbox, terminal: _Terminal) -> None:
    """For logs that keep every line."""
    progress = _progress(terminal, job_bars=0, total=2)
    _flux(sandbox).batch(["fox 0", "fox 1"], _config(progress))
    assert not any("fox" in line for line in terminal.lines)
    assert re.match(r"2/2 ", terminal.lines[-1])


def test_without_tqdm_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """When it is made, not in the middle of a job."""
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pytest.raises(ImportError, match=r"needs tqdm.*langchain-shortapi-flux\[notebook\]"):
        FluxProgress()


_A_BAR = """
import sys, threading, uuid
from langchain_shortapi_flux.progress import FluxProgress
print([name for name in sys.modules if name.split(".")[0] in ("tqdm", "IPython")])
progress, run_id = FluxProgress(), uuid.uuid4()
known = {"ls_provider": "shortapi"}
progress.on_chain_start({}, "a fox", run_id=run_id, metadata=known, run_type="tool")
progress.on_chain_end(None, run_id=run_id)
print(threading.active_count())
"""


@pytest.mark.thorough
def test_it_imports_tqdm_when_it_is_made_and_starts_no_thread() -> None:
    """It is optional and slow, and has a watchman who never goes home."""
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", _A_BAR], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (0, "[]\n1\n")
    assert "a fox · creating" in ended.stderr


def test_what_create_answers_is_shown_however_quick(sandbox: Sandbox, terminal: _Terminal) -> None:
    """It stands there until the first query; the last word is never left out either."""
    sandbox.inject(RUNNING_TWICE)
    progress = FluxProgress(file=terminal, refresh_seconds=3600.0)
    shown = [terminal.lines[-1] for _ in _flux(sandbox).stream("a fox", _config(progress))]
    assert " · pending · " in shown[0]
    assert " · 0 queries" in shown[0]
    assert set(shown) == {shown[0]}
    assert " · succeeded · " in terminal.lines[-1]


# --- what the Runnable's own run tells ----------------------------------------------------------


class _Heard(BaseCallbackHandler):
    """What a handler is told."""

    def __init__(self) -> None:
        self.told: list[tuple[UUID, Any]] = []
        self.runs: list[UUID] = []

    @override
    def on_chain_start(self, serialized: Any, inputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self.runs.append(run_id)

    @override
    def on_custom_event(self, name: str, data: Any, *, run_id: UUID, **kwargs: Any) -> None:
        assert name == PROGRESS_EVENT
        self.told.append((run_id, data))


class _HeardAsync(AsyncCallbackHandler):
    """The async twin of ``_Heard``."""

    def __init__(self) -> None:
        self.told: list[tuple[UUID, Any]] = []
        self.runs: list[UUID] = []

    @override
    async def on_chain_start(
        self, serialized: Any, inputs: Any, *, run_id: UUID, **kwargs: Any
    ) -> None:
        self.runs.append(run_id)

    @override
    async def on_custom_event(self, name: str, data: Any, *, run_id: UUID, **kwargs: Any) -> None:
        assert name == PROGRESS_EVENT
        self.told.append((run_id, data))


@pytest.mark.parametrize("kind", [_Heard, _HeardAsync])
@CALLS
async def test_a_run_tells_each_snapshot_on_itself(
    call: Call, kind: type[_Heard], sandbox: Sandbox
) -> None:
    """As the tools do: plain JSON types, under the run's own id."""
    sandbox.inject(RUNNING_TWICE)
    handler = kind()
    job = await _called(call, _flux(sandbox), "a secret fox", handler)
    assert [event["status"] for _, event in handler.told] == ["pending"] * 3 + ["succeeded"]
    assert [run_id for run_id, _ in handler.told] == handler.runs * 4
    assert handler.told[-1][1] == progress_event(job, None)
    assert "secret" not in json.dumps([event for _, event in handler.told])


@BOTH_WAYS
async def test_within_a_tool_call_the_tool_alone_tells(way: str, sandbox: Sandbox) -> None:
    """Else whoever listens would hear everything twice."""
    handler = _Heard()
    token = told_by_a_tool.set(True)
    await _called("invoke" if way == "sync" else "ainvoke", _flux(sandbox), "a fox", handler)
    told_by_a_tool.reset(token)
    assert handler.told == []


class _Deaf(BaseCallbackHandler):
    """Does nothing with custom events, as tracers do not."""


class _Refusing(_Heard):
    """Wants none."""

    @property
    @override
    def ignore_custom_event(self) -> bool:
        return True


@pytest.mark.parametrize("handlers", [[], [_Deaf()], [AsyncCallbackHandler()], [_Refusing()]])
@BOTH_WAYS
async def test_where_nobody_listens_nothing_is_done(way: str, handlers: Any) -> None:
    """Not even an event is made, for five hundred jobs would make thousands."""

    class _NoJob:
        """Whoever makes an event of it fails."""

    nobody: Any = _NoJob()
    done: list[str] = []

    def step(_: object) -> None:
        RunProgress().tell(nobody)
        done.append("told")

    async def astep(_: object) -> None:
        await RunProgress().atell(nobody)
        done.append("told")

    config = _config(*handlers)
    if way == "sync":
        RunnableLambda(step).invoke("x", config)
    else:
        await RunnableLambda(astep).ainvoke("x", config)
    RunProgress().tell(nobody)
    assert done == ["told"]


async def test_what_taps_the_stream_is_not_told_twice(sandbox: Sandbox) -> None:
    """``astream_events`` gives every snapshot as a chunk."""
    events = [event async for event in _flux(sandbox).astream_events("a fox", version="v2")]
    kinds = [event["event"] for event in events]
    assert kinds == ["on_tool_start", "on_tool_stream", "on_tool_stream", "on_tool_end"]


def test_where_no_run_goes_on_nothing_is_told() -> None:
    """There is none that an event could be of."""
    manager = CallbackManager.configure([handler := _Heard()])
    with set_config_context({"callbacks": manager}) as context:
        context.run(lambda: RunProgress().tell(FluxJob(job_id="1", status="pending")))
    assert handler.told == []


def test_a_run_that_is_told_of_twice_is_counted_once(terminal: _Terminal) -> None:
    """A handler may be handed down twice."""
    progress = _progress(terminal)
    run_id, known = uuid4(), {"ls_provider": "shortapi"}
    for _ in range(2):
        progress.on_chain_start({}, "a fox", run_id=run_id, metadata=known, run_type="tool")
    assert len(tqdm._instances) == 1
    for _ in range(2):
        progress.on_chain_end(None, run_id=run_id)
    assert terminal.lines[-1] == "a fox · creating"
