"""A process killed before or after each act of the ledger, and the next one with the same key.

Never two charges; never a paid job that is neither followed nor reported as
``CreateOutcomeUnknown`` with its key and time.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from both_drivers import DRIVERS
from buyer_process import Errand, Report, answer_of, forks, run_errand, started

from langchain_shortapi_flux import CreateOutcomeUnknown
from langchain_shortapi_flux.sandbox import Fault

if TYPE_CHECKING:
    from pathlib import Path

    from langchain_shortapi_flux.sandbox import Sandbox

pytestmark = [forks, pytest.mark.thorough]

HELD = ("create", "held")
"""Killed from outside, while the sandbox holds back the answer to a create that it accepted."""
POINTS = [(act, moment) for act in ("claim", "bought", "ended") for moment in ("before", "after")]
PAID = {HELD, *POINTS[2:]}
LEFT_IN_DOUBT = {HELD, ("claim", "after"), ("bought", "before")}


@pytest.fixture
def errand(sandbox: Sandbox, tmp_path: Path, request: pytest.FixtureRequest) -> Errand:
    """For one picture under one key, from the sandbox, with a ledger in a file."""
    url = f"sqlite:///{tmp_path}/flux-jobs.db"
    return Errand(sandbox.base_url, sandbox.api_key, url, driver="aiohttp")


def go(errand: Errand) -> Report:
    """Send a process of its own for one picture."""
    with started(run_errand, errand, None) as (_, answers):
        report: Report = answer_of(answers)[0]
        return report


def die(errand: Errand, sandbox: Sandbox, point: tuple[str, str]) -> None:
    """Send a process that is killed at that point."""
    if point == HELD:
        sandbox.inject(Fault("create", "hold", seconds=60.0))
    dies = None if point == HELD else point
    with started(run_errand, replace(errand, dies=dies), None) as (process, answers):
        while point == HELD and not sandbox.jobs:
            assert process.is_alive()
            time.sleep(0.005)
        if point == HELD:
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(EOFError):
            answer_of(answers)
        process.join()
        assert process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("point", [*POINTS, HELD], ids=" ".join)
def test_a_killed_purchase_is_never_paid_twice_and_never_lost(
    point: tuple[str, str], driver: str, errand: Errand, sandbox: Sandbox
) -> None:
    """The same key in a fresh process an hour later: follow, answer, buy, or say what is known."""
    errand = replace(errand, driver=driver)
    before = time.time()
    die(errand, sandbox, point)
    killed = time.time()
    assert len(sandbox.charges) == (1 if point in PAID else 0)
    calls = len(sandbox.calls)

    errand = replace(errand, an_hour_later=True)
    report = go(errand)
    if point in LEFT_IN_DOUBT:
        error = report.error
        assert isinstance(error, CreateOutcomeUnknown)
        assert error.key == f"{sandbox.base_url} k"
        assert error.claimed_at is not None
        assert before <= error.claimed_at <= killed
        when = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(error.claimed_at))
        assert (error.key in str(error), when in str(error)) == (True, True)
        assert len(sandbox.calls) == calls  # nothing was sent to find that out
        assert len(sandbox.charges) == (1 if point in PAID else 0)
        report = go(replace(errand, on_unknown="buy"))
        assert report.job is not None
        assert report.job.job_id == sandbox.charges[-1].job_id
        assert len(sandbox.charges) == (2 if point in PAID else 1)
    else:
        assert report.job is not None
        assert [charge.job_id for charge in sandbox.charges] == [report.job.job_id]
    assert report.job.images

    # And whatever became of it, from now on the key is answered from the ledger.
    calls, charges = len(sandbox.calls), len(sandbox.charges)
    again = go(errand)
    assert again.job is not None
    assert (again.job.job_id, again.job.images) == (report.job.job_id, report.job.images)
    assert (len(sandbox.calls), len(sandbox.charges)) == (calls, charges)


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_lease_that_ends_by_itself_is_waited_for(
    driver: str, errand: Errand, sandbox: Sandbox
) -> None:
    """The same on the real clock: who comes at once waits for the dead claim's lease to end."""
    errand = replace(errand, driver=driver, lease=0.7)
    die(errand, sandbox, HELD)
    report = go(errand)
    assert isinstance(report.error, CreateOutcomeUnknown)
    assert report.error.claimed_at is not None
    assert time.time() >= report.error.claimed_at + 0.7
    assert len(sandbox.charges) == 1
