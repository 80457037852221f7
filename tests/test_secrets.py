"""The key is in no text, repr, dump, pickle, log, trace or traceback.

A key is planted, everything that can be shown is shown, and each is searched for it.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import pickle
import traceback
import warnings
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

import pytest
import requests
from every_surface import SANDBOX_LOGGER, Story, told
from langchain_core.load import dumpd, dumps, load
from langchain_core.runnables import RunnableLambda
from langchain_core.tracers.base import BaseTracer
from langchain_core.utils.function_calling import convert_to_openai_tool
from leaping_time import leap_at_each_query
from pydantic import SecretStr, ValidationError
from quick_flux import flux_on
from typing_extensions import override

from langchain_shortapi_flux import ShortAPIError, ShortAPIFlux, ShortAPIFluxTool
from langchain_shortapi_flux.connection import connect
from langchain_shortapi_flux.sandbox import Fault, Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from langchain_core.tracers.schemas import Run

Way = Literal["sync", "async"]
BOTH_WAYS = pytest.mark.parametrize("way", ["sync", "async"])

KEY = 'sk-planted/0123456789+abc"def='
PROXY_PASSWORD = "word-of-the-proxy"
SPELLINGS = {
    KEY,
    KEY[:12],
    KEY[-12:],
    quote(KEY, safe=""),
    json.dumps(KEY)[1:-1],
    base64.b64encode(KEY.encode()).decode()[:-4],
    PROXY_PASSWORD,
}


def _leaks(shown: object) -> list[str]:
    """The spellings of the key that are in what was shown."""
    text = shown.decode("latin-1") if isinstance(shown, bytes) else str(shown)
    return sorted(spelling for spelling in SPELLINGS if spelling in text)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and all that it came from, whether shown by a traceback or not."""
    seen: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is not None and one not in seen:
            seen.append(one)
            waiting += [one.__cause__, one.__context__, *getattr(one, "exceptions", ())]
            yield one


FOREIGN = ("requests", "urllib3", "aiohttp", "json", "pydantic", "pydantic_core", "http", "ssl")


def _foreign(error: BaseException) -> list[str]:
    """The exceptions of other libraries in an error's chain: they may hold header and request."""
    names = [f"{type(one).__module__}.{type(one).__qualname__}" for one in _chain(error)]
    return [name for name in names if name.split(".")[0] in FOREIGN]


def _shown(error: ShortAPIError) -> list[object]:
    """All that can be shown of an error."""
    return [
        *(f"{one!s} {one!r} {one.args!r} {vars(one)!r}" for one in _chain(error)),
        "".join(traceback.format_exception(error)),
        pickle.dumps(error),
    ]


class _Recorder(BaseTracer):
    """A tracer that keeps what LangSmith would be sent."""

    def __init__(self) -> None:
        super().__init__()
        self.runs: list[Run] = []

    @override
    def _persist_run(self, run: Run) -> None:
        self.runs.append(run)

    def sent(self) -> str:
        """All runs, whole, as text."""

        def lines(run: Run) -> Iterator[str]:
            whole = {name: getattr(run, name) for name in type(run).model_fields if name[0] != "_"}
            yield repr({name: value for name, value in whole.items() if name != "child_runs"})
            yield dumps([run.inputs, run.outputs, run.error, run.extra, run.serialized])
            for child in run.child_runs:
                yield from lines(child)

        return "\n".join(line for run in self.runs for line in lines(run))


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A sandbox that demands the planted key."""
    with Sandbox(job_seconds=0.0, api_key=KEY) as running:
        yield running


# --- at rest ------------------------------------------------------------------------------------


def test_nothing_that_is_made_from_an_instance_shows_the_key(
    sandbox: Sandbox, flux: ShortAPIFlux
) -> None:
    """Notebooks print, frameworks dump, queues pickle."""
    assert flux.api_key is not None
    assert flux.api_key.get_secret_value() == KEY, "else this test searches for nothing"
    tool = ShortAPIFluxTool(flux=flux)
    for one in (flux, tool):
        shown = [
            *(repr(one), str(one), f"{one}", repr(vars(one)), repr(list(one))),
            *(repr(one.model_dump()), repr(dumpd(one)), dumps(one), dumps(one, pretty=True)),
            *(repr(one.to_json()), repr(one.get_graph()), one.get_graph().draw_mermaid()),
            *(json.dumps(one.get_input_jsonschema()), json.dumps(one.get_output_jsonschema())),
        ]
        assert [_leaks(text) for text in shown] == [[]] * len(shown)
    assert not _leaks(repr(flux.model_dump(mode="json")))
    assert not _leaks(flux.model_dump_json())
    assert not _leaks(pickle.dumps(flux))
    assert not _leaks(json.dumps(convert_to_openai_tool(tool)))
    assert not _leaks(tool.description)


def test_a_pickled_chain_and_tool_flux_hold_no_key(flux: ShortAPIFlux) -> None:
    """Pickled inside something else it is the same."""
    assert not _leaks(pickle.dumps({"bound": flux.bind(num_images=2), "plain": [flux]}))
    assert not _leaks(pickle.dumps(flux.with_retry()))


def test_a_connection_shows_neither_key_nor_proxy_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is in the locals of every driver's frame, which error reporters print."""
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:{PROXY_PASSWORD}@proxy.example:3128")
    connection = connect("https://api.shortapi.ai", SecretStr(KEY), 4)
    assert connection.proxy_url is not None
    assert PROXY_PASSWORD in connection.proxy_url, "else this test searches for nothing"
    assert not _leaks(repr(connection))
    assert not _leaks(str(connection))


@pytest.mark.parametrize(
    "construct",
    [
        lambda: ShortAPIFlux(apikey=KEY),  # type: ignore[call-arg]
        lambda: ShortAPIFlux(api_key=[KEY]),
        lambda: ShortAPIFlux(api_key=KEY.encode()),
        lambda: ShortAPIFlux(base_url=f"https://{quote(KEY, safe='')}@api.shortapi.ai"),
        lambda: ShortAPIFlux(callback_url=KEY),
        lambda: ShortAPIFluxTool(flux={"api_key": [KEY]}),
        lambda: ShortAPIFluxTool(flux={"shortapi_key": KEY}),
    ],
)
def test_a_failed_construction_does_not_show_the_key(construct: Any) -> None:
    """Pydantic's errors show the input; a misspelt argument may be the key."""
    with pytest.raises(ValidationError) as caught:
        construct()
    text = f"{caught.value} {caught.value!r} {''.join(traceback.format_exception(caught.value))}"
    source = "".join(line for line in text.splitlines(keepends=True) if "KEY" not in line)
    assert not _leaks(source)


def test_an_assignment_that_fails_does_not_show_the_key(flux: ShortAPIFlux) -> None:
    """Likewise."""
    with pytest.raises(ValidationError) as caught:
        flux.api_key = [KEY]  # type: ignore[assignment]
    assert not _leaks(caught.value)


# --- at work ------------------------------------------------------------------------------------

# What goes wrong; a service that echoes the key is the worst of them.
ECHO = f"the key {KEY} ({quote(KEY, safe='')}) is not known; you sent Authorization: Bearer {KEY}"
FAULTS: dict[str, list[Fault]] = {
    "nothing": [],
    "401 with echo": [Fault("create", "refuse", status=401, info=ECHO)],
    "200 with echo": [Fault("create", "refuse", info=ECHO)],
    "429 with echo": [Fault("create", "rate_limited", info=ECHO, times=4)],
    "500 with echo": [Fault("create", "error", status=500, info=ECHO)],
    "3000 with echo": [Fault("create", "code_3000", info=ECHO, times=4)],
    "html": [Fault("create", "html")],
    "truncated": [Fault("create", "truncated")],
    "empty": [Fault("create", "empty")],
    "redirect": [Fault("create", "redirect")],
    "no id": [Fault("create", "no_id")],
    "dropped before": [Fault("create", "drop_before")],
    "dropped after": [Fault("create", "drop_after")],
    "failed with echo": [Fault("create", "job_fails", info=ECHO)],
    "no pictures": [Fault("create", "no_images")],
    "query: 403 with echo": [Fault("query", "refuse", status=403, info=ECHO)],
    "query: 200 with echo": [Fault("query", "refuse", info=ECHO)],
    "query: redirect": [Fault("query", "redirect")],
    "query: broken": [
        Fault("query", "drop_before"),
        Fault("query", "truncated"),
        Fault("query", "html"),
        Fault("query", "error", info=ECHO),
    ],
    "query: status with echo": [
        Fault("create", "job_never_ends"),
        Fault("query", "status_word", word=ECHO, times=100),
    ],
}


async def _outcome(way: Way, flux: ShortAPIFlux, config: Any) -> ShortAPIError | str:
    try:
        job = flux.invoke("a fox", config) if way == "sync" else await flux.ainvoke("a fox", config)
    except ShortAPIError as error:
        return error
    return f"{job!r} {job.model_dump_json()} {dumps(job)}"


@pytest.mark.usefixtures("quick_turns")
@BOTH_WAYS
@pytest.mark.parametrize("case", FAULTS)
async def test_whatever_goes_wrong_does_not_show_the_key(
    case: str,
    way: Way,
    sandbox: Sandbox,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Error, traceback, causes, logs at their most talkative and traces are searched."""
    caplog.set_level(logging.DEBUG)
    for name in ("urllib3", "requests", "aiohttp", "asyncio", "langchain_shortapi_flux"):
        caplog.set_level(logging.DEBUG, name)
    asyncio.get_running_loop().set_debug(True)
    recorder = _Recorder()
    sandbox.inject(*FAULTS[case])
    if case == "query: status with echo":
        leap_at_each_query(monkeypatch, sandbox)
    outcome = await _outcome(way, flux_on(sandbox), {"callbacks": [recorder]})
    goes_well = case in ("nothing", "query: broken")
    assert isinstance(outcome, str if goes_well else ShortAPIError)
    if isinstance(outcome, ShortAPIError):
        assert _foreign(outcome) == []
        for shown in _shown(outcome):
            assert not _leaks(shown)
    else:
        assert not _leaks(outcome)
    assert recorder.runs, "else nothing was recorded"
    assert not _leaks(recorder.sent())
    assert not _leaks(caplog.text)
    assert not _leaks([repr(vars(record)) for record in caplog.records])


@BOTH_WAYS
@pytest.mark.parametrize("case", ["nothing", "401 with echo", "failed with echo", "redirect"])
async def test_the_tool_does_not_show_the_key(case: str, way: Way, sandbox: Sandbox) -> None:
    """Its answer goes to a model, a checkpoint and a trace."""
    recorder = _Recorder()
    sandbox.inject(*FAULTS[case])
    tool = ShortAPIFluxTool(flux=flux_on(sandbox))
    call: Any = {"type": "tool_call", "id": "1", "name": tool.name, "args": {"prompt": "a fox"}}
    config: Any = {"callbacks": [recorder]}
    message = tool.invoke(call, config) if way == "sync" else await tool.ainvoke(call, config)
    assert message.status == ("success" if case == "nothing" else "error")
    assert not _leaks(repr(message))
    assert not _leaks(json.dumps(message.artifact))
    assert [run.name for run in recorder.runs] == [tool.name]
    assert recorder.runs[0].child_runs
    assert not _leaks(recorder.sent())


def test_an_unreachable_service_does_not_show_the_key(sandbox: Sandbox, flux: ShortAPIFlux) -> None:
    """The libraries' own errors hold the request, and with it the header."""
    sandbox.stop()
    with pytest.raises(ShortAPIError) as caught:
        flux.invoke("a fox")
    assert _foreign(caught.value) == []
    assert not any(_leaks(shown) for shown in _shown(caught.value))


@BOTH_WAYS
async def test_a_service_without_tls_does_not_show_the_key(way: Way, sandbox: Sandbox) -> None:
    """A TLS handshake that fails has errors of its own."""
    flux = flux_on(sandbox, base_url=sandbox.base_url.replace("http:", "https:"))
    outcome = await _outcome(way, flux, None)
    assert isinstance(outcome, ShortAPIError)
    assert _foreign(outcome) == []
    assert not any(_leaks(shown) for shown in _shown(outcome))


@pytest.mark.parametrize("key", [f"{KEY} x", f"{KEY}\n{KEY}", f"{KEY}\u00e4"])
def test_a_key_that_cannot_be_sent_is_not_shown(key: str, sandbox: Sandbox) -> None:
    """The HTTP libraries would print the whole header."""
    with pytest.raises(ShortAPIError, match="api_key holds") as caught:
        flux_on(sandbox, api_key=key).invoke("a fox")
    assert _foreign(caught.value) == []
    assert not any(_leaks(shown) for shown in _shown(caught.value))
    assert sandbox.calls == ()


@pytest.mark.parametrize("wrong", [{"prompt": " "}, {"prompt": "a", "api_key": KEY}, 7, []])
def test_a_refused_request_has_no_foreign_error_behind_it(wrong: Any, flux: ShortAPIFlux) -> None:
    """Pydantic's error holds the whole input, and LangChain traces the chain of causes."""
    with pytest.raises(ShortAPIError) as caught:
        flux.invoke(wrong)
    assert _foreign(caught.value) == []
    assert not any(_leaks(shown) for shown in _shown(caught.value))


@pytest.mark.parametrize("kind", ["error", "html", "truncated", "drop_before", "redirect"])
async def test_a_failed_download_has_no_key_to_show(
    kind: str, sandbox: Sandbox, flux: ShortAPIFlux, tmp_path: Path
) -> None:
    """A picture's host is a stranger: the key is not sent there at all."""
    job = await flux.ainvoke("a fox")
    sandbox.inject(Fault("image", kind, times=9))
    with pytest.raises(ShortAPIError) as caught:
        await job.asave(tmp_path)
    assert _foreign(caught.value) == []
    assert not any(_leaks(shown) for shown in _shown(caught.value))
    images = [call for call in sandbox.calls if call.on == "image"]
    assert images
    assert not any("authorization" in map(str.lower, call.header_names) for call in images)


# --- every surface ------------------------------------------------------------------------------

SURFACES = (
    *("repr", "str", "model_dump", "dumpd", "pickles", "tool schema"),
    *("exceptions", "exceptions: causes and contexts", "exceptions: pickles"),
    *("logs at DEBUG", "sandbox logs", "sandbox call log"),
    *("traces: inputs", "traces: outputs", "traces: errors", "traces: metadata"),
    *("traces: configurable", "traces: tags", "traces: every byte sent"),
    *("MemoryLedger", "SqlLedger: rows"),
    *("SqlLedger: bytes of the .db file", "SqlLedger: bytes of the -wal file"),
    *("cassettes", "artifacts", "what the model reads", "progress events"),
)
"""Wherever something of a job, a call or a setting can be seen."""


@BOTH_WAYS
async def test_the_key_is_on_no_surface(
    way: Way, sandbox: Sandbox, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One story with every act in it; all that can be seen of it is searched, by name."""
    shown = await told(Story(asynchronous=way == "async"), sandbox, tmp_path, caplog)
    assert set(shown) == set(SURFACES)
    assert [name for name in SURFACES if not any(shown[name])] == [], "else nothing was searched"
    assert [name for name in SURFACES if any(map(_leaks, shown[name]))] == []


IN_A_URL = quote(KEY, safe="")
A_PART = KEY[:12]  # the whole key would be hidden in replies, and as an argument
PLANTED: tuple[tuple[dict[str, Any], tuple[str, ...]], ...] = (
    (
        {"callback_url": f"https://callback.example/{IN_A_URL}"},
        ("repr", "str", "model_dump", "dumpd"),
    ),
    ({"kept": KEY}, ("pickles",)),
    ({"description": f"Draws with {KEY}."}, ("tool schema",)),
    ({"wrong": A_PART}, ("exceptions", "exceptions: pickles", "traces: errors")),
    ({"behind": ValueError(f"Bearer {KEY}")}, ("exceptions: causes and contexts",)),
    ({"logged": {"urllib3.connectionpool": f"Bearer {KEY}"}}, ("logs at DEBUG",)),
    ({"logged": {SANDBOX_LOGGER: f"Bearer {KEY}"}}, ("sandbox logs",)),
    ({"prompt": A_PART}, ("sandbox call log", "cassettes")),
    ({"prompt": KEY}, ("traces: inputs", "traces: outputs")),
    ({"metadata": {"account": KEY}}, ("traces: metadata",)),
    ({"configurable": {"account": KEY}}, ("traces: configurable",)),
    ({"tags": [KEY]}, ("traces: tags", "traces: every byte sent")),
    (
        {"request_key": KEY},
        (
            *("MemoryLedger", "SqlLedger: rows"),
            *("SqlLedger: bytes of the .db file", "SqlLedger: bytes of the -wal file"),
        ),
    ),
    ({"folder": IN_A_URL}, ("artifacts", "what the model reads")),
    ({"call_id": KEY}, ("progress events",)),
)
"""Stories with the key in one of their words, and the surfaces on which each is to be found."""


def test_a_key_is_planted_on_each_surface() -> None:
    """So that the next test is about all of them."""
    assert sorted(name for _, found_on in PLANTED for name in found_on) == sorted(SURFACES)


async def test_keys_planted_everywhere_are_found_on_every_surface(
    sandbox: Sandbox, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A search that finds nothing proves something only where it can find."""
    words: dict[str, Any] = {}
    for more, _ in PLANTED:
        words = {**words, **more}
    words |= {"prompt": A_PART, "logged": {"urllib3.connectionpool": KEY, SANDBOX_LOGGER: KEY}}
    shown = await told(Story(**words), sandbox, tmp_path, caplog)
    assert [name for name in SURFACES if not any(map(_leaks, shown[name]))] == []


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("words", "surfaces"), PLANTED, ids=[", ".join(found_on) for _, found_on in PLANTED]
)
async def test_a_key_planted_on_a_surface_is_found_there(
    words: dict[str, Any],
    surfaces: tuple[str, ...],
    sandbox: Sandbox,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The same for one surface at a time, so that none is found by what stands on another."""
    shown = await told(Story(**words), sandbox, tmp_path, caplog)
    assert [name for name in surfaces if not any(map(_leaks, shown[name]))] == []


def test_unpickled_and_loaded_objects_read_the_environment(
    sandbox: Sandbox, flux: ShortAPIFlux, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key stays behind, so the other side brings one of its own, or none."""

    def keys() -> list[str | None]:
        again: list[ShortAPIFlux] = [
            pickle.loads(pickle.dumps(flux)),
            pickle.loads(pickle.dumps(flux.bind(num_images=2))).bound,
            pickle.loads(pickle.dumps(flux.with_retry())).bound,
            _loaded(dumpd(flux)),
        ]
        return [one.api_key.get_secret_value() if one.api_key else None for one in again]

    assert keys() == [None] * 4
    monkeypatch.setenv("SHORTAPI_API_KEY", "of-the-other-side")
    assert keys() == ["of-the-other-side"] * 4
    monkeypatch.setenv("SHORTAPI_KEY", KEY)
    assert keys() == [KEY] * 4
    assert _loaded(dumpd(flux)).invoke("a fox").status == "succeeded"


def _loaded(dumped: Any) -> ShortAPIFlux:
    """What ``load`` makes of it, with the arguments that the README names."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The function `load` is in beta")
        flux = load(
            dumped, allowed_objects=[ShortAPIFlux], valid_namespaces=["langchain_shortapi_flux"]
        )
    assert isinstance(flux, ShortAPIFlux)
    return flux


def test_a_round_trip_keeps_how_purchases_are_made(sandbox: Sandbox) -> None:
    """A setting that is lost on the way is a picture bought twice, or not at all."""
    flux = flux_on(sandbox, claim_lease=12.5, on_unknown="buy", on_failed="buy")
    loaded = _loaded(json.loads(json.dumps(dumpd(flux))))
    assert (loaded.claim_lease, loaded.on_unknown, loaded.on_failed) == (12.5, "buy", "buy")
    assert loaded == flux.model_copy(update={"api_key": None})
    assert loaded.ledger is not flux.ledger


@pytest.mark.parametrize(
    "base_url",
    [
        "http://shortapi.example",
        "https://user:word@shortapi.example",
        "https://shortapi.example/?to=elsewhere",
        "file:///etc/passwd",
    ],
)
def test_a_loaded_base_url_is_checked_as_a_constructed_one(
    base_url: str, flux: ShortAPIFlux, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dump is a file that anybody can write, and the key goes to the host that it names."""
    monkeypatch.setenv("SHORTAPI_KEY", KEY)
    dumped: Any = dumpd(flux)
    dumped["kwargs"]["base_url"] = base_url
    with pytest.raises(ValidationError, match="base_url") as constructing:
        ShortAPIFlux(base_url=base_url)
    with pytest.raises(ValidationError, match="base_url") as loading:
        _loaded(dumped)
    assert loading.value.errors(include_context=False) == constructing.value.errors(
        include_context=False
    )
    assert not _leaks(loading.value)


# --- the search itself --------------------------------------------------------------------------


@pytest.mark.parametrize("spelling", sorted(SPELLINGS))
def test_a_planted_leak_is_found(spelling: str) -> None:
    """A search that finds nothing proves something only if it can find."""
    assert _leaks(f"Authorization: Bearer {spelling} was sent")
    assert _leaks(f"Bearer {spelling}".encode())


def test_a_planted_foreign_error_is_found() -> None:
    """Behind an error, hidden by ``from None`` or not."""
    outer = ShortAPIError("x")
    outer.__context__ = ValueError("between")
    outer.__suppress_context__ = True
    outer.__context__.__cause__ = requests.ConnectionError(f"Bearer {KEY}")
    assert _foreign(outer) == ["requests.exceptions.ConnectionError"]
    assert any(_leaks(shown) for shown in _shown(outer))


def test_a_planted_leak_in_a_trace_is_found() -> None:
    """The recorder keeps inputs, outputs, errors and metadata, of children too."""

    def fail(_input: object) -> None:
        raise ShortAPIError(f"Bearer {KEY}")

    leaky: list[tuple[RunnableLambda[Any, Any], Any, dict[str, Any]]] = [
        (RunnableLambda(lambda _input: 1), KEY, {}),
        (RunnableLambda(lambda _input: KEY), "x", {}),
        (RunnableLambda(fail), "x", {}),
        (RunnableLambda(lambda _input: 1), "x", {"metadata": {"said": KEY}}),
        (RunnableLambda(lambda _input: RunnableLambda(lambda _input: KEY)), "x", {}),
    ]
    for runnable, input_, config in leaky:
        recorder = _Recorder()
        given: Any = {**config, "callbacks": [recorder]}
        runnable.with_fallbacks([RunnableLambda(lambda _input: 2)]).invoke(input_, given)
        assert _leaks(recorder.sent())
