"""What a batch's lines are counted as where it is broken off."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from langchain_shortapi_flux import FluxJob, JobTimeout
from langchain_shortapi_flux.command_line.batch_ledger import Known
from langchain_shortapi_flux.command_line.line_outcomes import LineOutcomes, Unsettled
from langchain_shortapi_flux.errors import BudgetExceeded, CreateOutcomeUnknown
from langchain_shortapi_flux.ledger import Entry

if TYPE_CHECKING:
    from langchain_shortapi_flux.ledger import State

NOW = 100.0
ALIVE, DEAD = NOW + 1, NOW - 1


def _known(state: State, lease_ends: float = DEAD) -> Known:
    """A ledger that knows of the one line, in that state."""
    job_id = "fox1" if state in ("bought", "ended") else None
    return Known({0: Entry("key", "digest", "holder", state, 0.0, lease_ends, job_id)}, NOW)


NOTHING = Known({}, NOW)
BOUGHT, IN_DOUBT = Unsettled([0], [], []), Unsettled([], [0], [])
UNTOUCHED, SETTLED = Unsettled([], [], [0]), Unsettled([], [], [])


@pytest.mark.parametrize(
    ("after", "heard", "counted"),
    [
        (NOTHING, {}, UNTOUCHED),
        (None, {}, UNTOUCHED),
        (_known("bought"), {}, BOUGHT),
        (_known("ended"), {}, BOUGHT),
        (_known("claimed", ALIVE), {}, IN_DOUBT),
        (_known("claimed"), {}, IN_DOUBT),
        (_known("unknown"), {}, IN_DOUBT),
        (NOTHING, {0: "fox1"}, BOUGHT),
        (None, {0: "fox1"}, BOUGHT),
        (_known("claimed"), {0: "fox1"}, BOUGHT),
        (_known("unknown"), {0: "fox1"}, BOUGHT),
        (NOTHING, {0: None}, IN_DOUBT),
        (None, {0: None}, IN_DOUBT),
    ],
)
def test_a_line_without_an_end_is_what_ledger_or_command_know_of_its_job(
    after: Known | None, heard: dict[int, str | None], counted: Unsettled
) -> None:
    """Whoever of them knows of a job is right."""
    outcomes = LineOutcomes(1, NOTHING)
    outcomes.hear(heard)
    assert outcomes.unsettled(after) == counted


@pytest.mark.parametrize("after", [NOTHING, None, _known("bought"), _known("unknown")])
def test_a_line_with_an_end_is_counted_as_that_alone(after: Known | None) -> None:
    """Saved, or failed; but a failure that says that nobody knows is in doubt."""
    saved, failed, unknown = (LineOutcomes(1, NOTHING) for _ in range(3))
    saved.save(0, FluxJob(job_id="fox1", status="succeeded"), 0)
    failed.fail(0, JobTimeout("late", job_id="fox1"), None)
    unknown.fail(0, CreateOutcomeUnknown("no clear answer", job_id="fox1"), None)
    assert saved.unsettled(after) == failed.unsettled(after) == SETTLED
    unknown.hear({0: "fox1"})
    assert unknown.unsettled(after) == IN_DOUBT


def test_a_line_that_did_not_fit_into_the_budget_is_not_bought() -> None:
    """It is no failure: with a larger one the next run buys it."""
    outcomes = LineOutcomes(1, NOTHING)
    outcomes.fail(0, BudgetExceeded("too much"), None)
    assert outcomes.unsettled(NOTHING) == outcomes.unsettled(None) == UNTOUCHED
