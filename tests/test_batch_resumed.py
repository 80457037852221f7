"""``--batch`` killed with SIGKILL, while it waits and while it buys, and run again.

Never two charges for one line; and every line has its picture or is listed as what it is: "may have
been charged". The prompts are Parti's (Apache-2.0), not part of this repository.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections import Counter
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from command_process import started
from taught_delays import teach_that_jobs_end_at_once

from langchain_shortapi_flux.__main__ import main
from langchain_shortapi_flux.command_line.command_options import AT_ONCE
from langchain_shortapi_flux.sandbox import Fault, Sandbox

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

PROMPTS = Path(__file__).parents[2] / "shared" / "prompts" / "parti_prompts.tsv"
REAL_PROMPTS = 100
OWN_PROMPTS = [f"a fox and {number} hares" for number in range(8)]
SECONDS = 120
AN_HOUR = 3600.0
NEVER_ENDS = Fault("create", "job_never_ends")
HELD = Fault("create", "hold", seconds=SECONDS)
HEALTHY = Fault("create", "none")

thorough = [
    pytest.mark.thorough,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not PROMPTS.exists(), reason="the prompts are not beside this repository"),
]


@dataclass(frozen=True)
class _Ended:
    """How a run ended that was not killed."""

    code: int
    out: str
    err: str

    @property
    def unknown(self) -> int:
        """How many lines it lists as perhaps charged, each with its key."""
        return self.err.count("unknown: may have been charged; key ")


class _Command:
    """The command on one file and one folder, run in processes of its own."""

    def __init__(self, sandbox: Sandbox, folder: Path) -> None:
        self.sandbox = sandbox
        self._folder = folder
        self.file = folder / "prompts.tsv"

    @property
    def arguments(self) -> list[str]:
        """What it is called with, each time."""
        options = ["--performance", "schnell", "-o", str(self._folder / "out")]
        return ["--batch", str(self.file), *options]

    @property
    def pictures(self) -> set[str]:
        """The pictures on disk."""
        return {path.name for path in (self._folder / "out").glob("*.png")}

    def entries(self, state: str) -> int:
        """How many lines are in that state."""
        database = self._folder / "out" / "flux-jobs.db"
        if not database.exists():
            return 0
        with closing(sqlite3.connect(database, timeout=SECONDS)) as connection:
            count = "SELECT count(*) FROM flux_jobs WHERE state = ?"
            try:
                return int(connection.execute(count, (state,)).fetchone()[0])
            except sqlite3.OperationalError:  # before the table is there
                return 0

    def killed(self, when: Callable[[], bool]) -> bool:
        """Run it and kill it as soon as that is so; whether it lived until then."""
        with self._running() as process:
            ends = time.monotonic() + SECONDS
            while not when():
                if process.poll() is not None:
                    return False
                assert time.monotonic() < ends
                time.sleep(0.005)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        return True

    def ended(self) -> _Ended:
        """Run it to its end."""
        with self._running() as process:
            out, err = process.communicate(timeout=SECONDS)
            return _Ended(process.returncode, out, err)

    def an_hour_passes(self) -> None:
        """As for the claims that are in the ledger: they are as dead as who made them."""
        database = self._folder / "out" / "flux-jobs.db"
        with closing(sqlite3.connect(database)) as connection, connection:
            connection.execute("UPDATE flux_jobs SET lease_ends = lease_ends - ?", (AN_HOUR,))

    def charged_twice(self) -> list[str]:
        """The prompts that were paid for more than once, refunds aside."""
        prompts = {job.job_id: str(job.args["prompt"]) for job in self.sandbox.jobs}
        counts = Counter(prompts[charge.job_id] for charge in self.sandbox.charges)
        return [prompt for prompt, count in counts.items() if count > 1]

    @contextmanager
    def _running(self) -> Iterator[subprocess.Popen[str]]:
        with started(self.arguments) as process:
            try:
                yield process
            finally:
                process.kill()


@pytest.fixture
def command(sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> _Command:
    """The command with a key, on a sandbox whose jobs end at once."""
    teach_that_jobs_end_at_once(sandbox)
    monkeypatch.setenv("SHORTAPI_KEY", sandbox.api_key)
    monkeypatch.setenv("SHORTAPI_BASE_URL", sandbox.base_url)
    command = _Command(sandbox, tmp_path)
    command.file.write_text("\n".join(["prompt", *OWN_PROMPTS]), encoding="utf-8")
    return command


@pytest.fixture
def real(command: _Command) -> _Command:
    """The same for the first hundred of the real prompts, with all columns."""
    lines = PROMPTS.read_text(encoding="utf-8").splitlines(keepends=True)
    command.file.write_text("".join(lines[: 1 + REAL_PROMPTS]), encoding="utf-8")
    return command


@pytest.mark.thorough
def test_killed_while_it_waits_it_goes_on_where_it_was(command: _Command) -> None:
    """What was bought is followed and not bought again."""
    command.sandbox.inject(*[NEVER_ENDS] * len(OWN_PROMPTS))
    assert command.killed(lambda: command.entries("bought") == len(OWN_PROMPTS))
    command.sandbox.finish()
    assert main(command.arguments) == 0
    assert len(command.pictures) == len(command.sandbox.charges) == len(OWN_PROMPTS)
    assert not command.charged_twice()


@pytest.mark.thorough
def test_killed_while_it_buys_it_lists_what_may_have_been_charged(
    command: _Command, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those whose answer it did not live to read, and only those; the rest has its pictures."""
    held = 3
    healthy = len(OWN_PROMPTS) - held
    command.sandbox.inject(*[NEVER_ENDS] * healthy, *[HELD] * held)
    assert command.killed(
        lambda: (
            command.entries("bought") == healthy and len(command.sandbox.jobs) == len(OWN_PROMPTS)
        )
    )
    command.sandbox.finish()
    command.an_hour_passes()
    for _ in range(2):
        assert main(command.arguments) == 1
        assert len(command.pictures) == healthy
        assert capsys.readouterr().err.count("unknown: may have been charged; key ") == held
    assert len(command.sandbox.charges) == len(OWN_PROMPTS)
    assert not command.charged_twice()


class TestRealPrompts:
    """Of a hundred real prompts, each time."""

    pytestmark = thorough

    def test_killed_with_no_create_in_flight(self, real: _Command) -> None:
        """A hundred pictures, a hundred charges."""
        real.sandbox.inject(*[NEVER_ENDS] * AT_ONCE)
        assert real.killed(lambda: real.entries("bought") == AT_ONCE)
        real.sandbox.finish()
        ended = real.ended()
        assert ended.code == 0, ended.err
        assert f"{AT_ONCE} bought, and followed now" in ended.err
        assert len(ended.out.splitlines()) == REAL_PROMPTS
        assert len(real.pictures) == len(real.sandbox.charges) == REAL_PROMPTS
        assert not real.charged_twice()

        calls = len(real.sandbox.calls)
        assert real.ended().code == 0
        assert len(real.sandbox.calls) == calls

    def test_killed_while_it_waits_and_again_while_it_buys(self, real: _Command) -> None:
        """Each line has a picture, or is listed with its key; no line is paid for twice."""
        bought = 20
        real.sandbox.inject(*[NEVER_ENDS] * AT_ONCE)
        assert real.killed(lambda: real.entries("bought") == AT_ONCE)
        real.sandbox.finish()
        real.sandbox.inject(*[HEALTHY] * bought, *[HELD] * AT_ONCE)
        assert real.killed(lambda: len(real.sandbox.jobs) == 2 * AT_ONCE + bought)
        in_doubt = real.entries("claimed")
        assert in_doubt >= AT_ONCE
        real.an_hour_passes()
        for _ in range(2):
            ended = real.ended()
            assert ended.code == 1
            assert ended.unknown == in_doubt
            assert len(real.pictures) == REAL_PROMPTS - in_doubt
        assert len(real.sandbox.charges) == REAL_PROMPTS
        assert not real.charged_twice()

    def test_killed_again_and_again_at_any_moment(self, real: _Command) -> None:
        """Each time when some more jobs exist, whatever it is doing then."""

        def ten_more_jobs() -> Callable[[], bool]:
            there = len(real.sandbox.jobs)
            return lambda: len(real.sandbox.jobs) >= there + 10

        kills = 0
        while real.killed(ten_more_jobs()):
            kills += 1
            real.an_hour_passes()
        ended = real.ended()
        assert kills > 1
        assert len(real.pictures) + ended.unknown == REAL_PROMPTS
        assert ended.code == (1 if ended.unknown else 0)
        assert not real.charged_twice()
