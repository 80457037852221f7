"""``--batch`` on Ctrl-C: what is waited for, what is not bought any more, and what is told."""

from __future__ import annotations

import io
import re
import signal
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from command_process import started, until
from taught_delays import teach_that_jobs_end_at_once

from langchain_shortapi_flux import SqlLedger
from langchain_shortapi_flux.__main__ import main
from langchain_shortapi_flux.command_line.batch_command import run_batch
from langchain_shortapi_flux.command_line.command_options import ANSWER_SECONDS_MAX, read_options
from langchain_shortapi_flux.command_line.command_service import Service, make_flux
from langchain_shortapi_flux.command_line.prompt_file import read_prompt_file
from langchain_shortapi_flux.command_line.terminal import Terminal
from langchain_shortapi_flux.pace import pace_of
from langchain_shortapi_flux.sandbox import Fault, Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from langchain_shortapi_flux.ledger import Entry

SECONDS = 30
ANSWERED_AFTER_SECONDS = 2.5
"""Time enough to see that a create was accepted, and to interrupt before its answer."""
AN_HOUR = 3600.0
HEALTHY = Fault("create", "none")
NEVER_ENDS = Fault("create", "job_never_ends")
NEVER_ANSWERED = Fault("create", "hold", seconds=AN_HOUR)
LEDGER = Path("out/flux-jobs.db")


@pytest.fixture
def with_key(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Sandbox]:
    """A sandbox that the environment names; after the test, signals do what they did before."""
    teach_that_jobs_end_at_once(sandbox)
    monkeypatch.setenv("SHORTAPI_KEY", sandbox.api_key)
    monkeypatch.setenv("SHORTAPI_BASE_URL", sandbox.base_url)
    monkeypatch.chdir(tmp_path)
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    yield sandbox
    for number, handler in before.items():
        signal.signal(number, handler)


def _batch(*prompts: str) -> list[str]:
    Path("prompts.txt").write_text("\n".join(prompts), encoding="utf-8")
    return ["--batch", "prompts.txt", "--performance", "schnell", "-o", "out"]


def _states() -> list[str]:
    with closing(SqlLedger("sqlite:///out/flux-jobs.db")) as ledger:
        return sorted(entry.state for entry in ledger.entries())


class _Watched(io.StringIO):
    """A stream on which something is done when a text has come."""

    def __init__(self, text: str, act: Callable[[], object]) -> None:
        super().__init__()
        self._text = text
        self._act = act

    def flush(self) -> None:
        if self._text in self.getvalue():
            self._act()
            self._act = lambda: None


class _Screen(_Watched):
    """The same as a terminal."""

    def isatty(self) -> bool:
        return True


def _interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


def _run(
    arguments: list[str], answer_seconds: float, ledger_class: type[SqlLedger] = SqlLedger
) -> int:
    """The command, as ``main`` runs it, but for how long it waits for answers."""
    options = read_options(arguments)
    Path(options.output).mkdir(exist_ok=True)
    prompts = read_prompt_file(options.batch, {"performance": options.performance})
    service = Service(make_flux(options, in_sandbox=False))
    with closing(ledger_class("sqlite:///out/flux-jobs.db")) as ledger:
        return run_batch(service, prompts, ledger, options, Terminal(), answer_seconds)


@pytest.mark.thorough
def test_creates_under_way_are_answered_and_nothing_else_is_bought(with_key: Sandbox) -> None:
    """The jobs are in the ledger and run; the next run buys only the lines that are missing."""
    with_key.inject(Fault("create", "hold", seconds=ANSWERED_AFTER_SECONDS, times=2))
    arguments = _batch("a fox", "a hare", "a bear", "a wolf")
    with started([*arguments, "--max-concurrency", "2"]) as running:
        try:
            until(lambda: len(with_key.jobs) == 2, running)
            running.send_signal(signal.SIGINT)
            _out, err = running.communicate(timeout=SECONDS)
        finally:
            running.kill()
    assert running.returncode == 130
    *_, waits, last = err.splitlines()
    assert waits == (
        "stopping: nothing more is bought; waiting up to 8 s for the answers to 2 creates under "
        "way (Ctrl-C again leaves at once)"
    )
    assert last == (
        "shortapi-flux: interrupted: 0 of 4 lines saved, 2 bought and running or not saved yet, 2 "
        "not bought; run the same command again to go on: nothing is bought twice"
    )
    assert _states() == ["bought", "bought"]
    assert len(with_key.charges) == 2

    assert main(arguments) == 0
    bought = Counter(job.args["prompt"] for job in with_key.jobs)
    assert bought == {"a fox": 1, "a hare": 1, "a bear": 1, "a wolf": 1}
    assert len(with_key.charges) == 4


def test_an_answer_that_never_comes_is_waited_for_only_so_long(
    with_key: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its line may have been charged; one that waits to be sent again is not sent meanwhile."""
    arguments = _batch("a fox", "a hare", "a bear")
    with_key.inject(HEALTHY, NEVER_ANSWERED, Fault("create", "code_3000"))
    monkeypatch.setattr("sys.stdout", _Watched("\n", _interrupt))  # when the fox is saved
    assert _run(arguments, answer_seconds=1.5) == 130
    assert len(with_key.jobs) == len(with_key.charges) == 2
    err = capsys.readouterr().err
    assert "for the answers to 1 create under way" in err
    assert err.splitlines()[-1].startswith(
        "shortapi-flux: interrupted: 1 of 3 lines saved, 0 bought and running or not saved yet, 1 "
        "may have been charged, 1 not bought; "
    )
    assert _states() == ["ended", "unknown"]


def test_a_second_interrupt_leaves_at_once(
    with_key: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long there would be to wait."""
    with_key.inject(HEALTHY, NEVER_ANSWERED)
    monkeypatch.setattr("sys.stdout", _Watched("\n", _interrupt))
    err = _Watched("stopping: ", _interrupt)
    monkeypatch.setattr("sys.stderr", err)
    assert _run(_batch("a fox", "a hare"), answer_seconds=AN_HOUR) == 130
    assert "for the answers to 1 create under way (" in err.getvalue()
    assert "1 may have been charged, 0 not bought" in err.getvalue().splitlines()[-1]
    assert _states() == ["ended", "unknown"]


class _Interrupting(SqlLedger):
    """Whoever looks into it a second time presses Ctrl-C meanwhile."""

    looks = 0

    def entries(self) -> Iterator[Entry]:
        self.looks += 1
        if self.looks > 1:
            _interrupt()
        return iter(list(super().entries()))


def test_an_interrupt_while_the_ledger_is_looked_at_changes_nothing(
    with_key: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is bought is told all the same."""
    with_key.inject(HEALTHY, NEVER_ENDS)
    monkeypatch.setattr("sys.stdout", _Watched("\n", _interrupt))
    assert _run(_batch("a fox", "a hare"), AN_HOUR, _Interrupting) == 130
    assert "1 bought and running or not saved yet, 0 not bought" in capsys.readouterr().err


@pytest.mark.parametrize(("at_once", "sockets"), [([], 64), (["--max-concurrency", "100"], 100)])
@pytest.mark.usefixtures("with_key")
def test_each_line_in_flight_has_a_socket(at_once: list[str], sockets: int) -> None:
    """A create that waited for one would still go out after an interrupt."""
    options = read_options([*_batch("a fox"), *at_once])
    assert make_flux(options, in_sandbox=False).max_connections == sockets


def test_the_readme_says_how_long_answers_are_waited_for() -> None:
    """The help takes it from the same place as the command."""
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    assert f"waits up to {ANSWER_SECONDS_MAX:g} s for the answers" in readme


def test_with_no_create_under_way_it_leaves_at_once(
    with_key: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A job that is only waited for goes on without the command."""
    with_key.inject(HEALTHY, NEVER_ENDS)
    monkeypatch.setattr("sys.stdout", _Watched("\n", _interrupt))
    assert _run(_batch("a fox", "a hare"), answer_seconds=AN_HOUR) == 130
    err = capsys.readouterr().err
    assert "stopping" not in err
    assert "1 bought and running or not saved yet, 0 not bought" in err


def test_in_the_sandbox_no_answer_is_waited_for(
    tmp_path: Path, with_key: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing outlives it."""
    started: list[Sandbox] = []

    class Held(Sandbox):
        def start(self) -> None:
            super().start()
            teach_that_jobs_end_at_once(self)
            self.inject(HEALTHY, NEVER_ANSWERED)
            started.append(self)

    monkeypatch.setattr("langchain_shortapi_flux.sandbox.Sandbox", Held)
    monkeypatch.setattr("sys.stdout", _Watched("\n", _interrupt))
    err = io.StringIO()
    monkeypatch.setattr("sys.stderr", err)
    assert main([*_batch("a fox", "a hare"), "--sandbox"]) == 130
    assert "stopping" not in err.getvalue()
    assert "1 of 2 lines saved; the sandbox ended with this command" in err.getvalue()
    assert len(started[0].jobs) == 2


def test_a_bar_does_not_take_what_is_left_for_failed(
    with_key: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor for charged without a known outcome: of that the last line tells."""
    with_key.inject(HEALTHY, NEVER_ENDS)
    monkeypatch.setattr("sys.stdout", _Watched("\n", _interrupt))
    screen = _Screen("nothing of the kind", lambda: None)
    monkeypatch.setattr("sys.stderr", screen)
    assert main([*_batch("a fox", "a hare", "a bear"), "--max-concurrency", "2"]) == 130
    bar, _, last = screen.getvalue().rpartition("shortapi-flux: interrupted: ")
    assert "1/3 |" in bar
    assert not re.search("failed|charged|left", bar)
    assert "failed" not in last


def _lose(*, for_good: bool) -> None:
    """Delete the ledger's file; ``for_good``, put something else in its place."""
    for part in Path("out").glob("flux-jobs.db*"):
        part.unlink()
    if for_good:
        LEDGER.write_text("my notes" * 1000, encoding="utf-8")
    _interrupt()


def test_a_ledger_that_is_deleted_meanwhile_is_written_again(
    with_key: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command heard which jobs were bought; the next run buys nothing."""
    with_key.inject(HEALTHY, NEVER_ENDS)
    arguments = _batch("a fox", "a hare")
    with monkeypatch.context() as reading:
        reading.setattr("sys.stdout", _Watched("\n", lambda: _lose(for_good=False)))
        assert main(arguments) == 130
    assert capsys.readouterr().err.endswith(
        "1 of 2 lines saved, 1 bought and running or not saved yet, 0 not bought; run the same "
        "command again to go on: nothing is bought twice\n"
    )
    pace_of.cache_clear()  # as in a process of its own
    with_key.finish()
    assert main(arguments) == 0
    assert len(with_key.charges) == 2


def test_a_ledger_that_is_lost_meanwhile_is_told_with_the_jobs_ids(
    with_key: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A job that runs is bought, whatever the ledger says."""
    with_key.inject(HEALTHY, NEVER_ENDS)
    monkeypatch.setattr("sys.stdout", _Watched("\n", lambda: _lose(for_good=True)))
    assert main(_batch("a fox", "a hare")) == 130
    (running,) = [job for job in with_key.jobs if job.job_id not in _saved()]
    line = 1 if running.args["prompt"] == "a fox" else 2
    assert capsys.readouterr().err.endswith(
        "1 of 2 lines saved, 1 bought and running or not saved yet; the ledger cannot be read "
        "(DatabaseError): what it did not keep, the same command run again would buy again "
        f"(line {line}: job {running.job_id})\n"
    )


def _saved() -> set[str]:
    return {
        path.name.removesuffix("-1.png").rpartition("-")[2] for path in Path("out").glob("*.png")
    }
