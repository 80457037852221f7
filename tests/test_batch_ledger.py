"""What a ledger is told again of a batch's jobs, and which of its rows are left alone."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from langchain_shortapi_flux import SqlLedger
from langchain_shortapi_flux.command_line.batch_ledger import BatchLedger
from langchain_shortapi_flux.ledger import Bought, Claim, Ended, Entry, purchase_key

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BASE_URL = "https://api.shortapi.ai"
NOW = 1000.0
KEY = purchase_key(BASE_URL, "batch fox 1")
MINE, ANOTHERS = (Claim(KEY, "digest", who, NOW, 90.0) for who in ("me", "another"))


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqlLedger]:
    """An empty one."""
    with closing(SqlLedger(f"sqlite:///{tmp_path / 'jobs.db'}")) as opened:
        yield opened


def _told_again(
    ledger: SqlLedger, job_id: str | None, holders: dict[int, str]
) -> tuple[list[int], Entry]:
    """What is still lost of the one line, after the ledger was told again; and its row."""
    kept = BatchLedger(ledger, BASE_URL, ["batch fox 1"], wall=lambda: NOW)
    lost, known = kept.unkept({0: job_id}, holders, lambda _place: "digest")
    return lost, known.entries[0]


@pytest.mark.parametrize("holders", [{0: "me"}, {}], ids=["bought now", "bought before"])
@pytest.mark.parametrize("unknown", [False, True])
def test_a_claim_of_another_run_is_left_alone(
    ledger: SqlLedger, holders: dict[int, str], unknown: bool
) -> None:
    """Its job is not the one that failed here: who took it for that would buy a third."""
    ledger.claim(ANOTHERS)
    if unknown:
        ledger.ended(Ended(KEY, "unknown", holder="another"))
    (before,) = ledger.entries()
    assert _told_again(ledger, "job1", holders) == ([], before)


def test_a_job_that_was_not_noted_on_the_own_claim_is_noted(ledger: SqlLedger) -> None:
    """The ledger failed at the first attempt."""
    ledger.claim(MINE)
    lost, entry = _told_again(ledger, "job1", {0: "me"})
    assert lost == []
    assert (entry.state, entry.holder, entry.job_id) == ("bought", "me", "job1")


@pytest.mark.parametrize("holders", [{0: "me"}, {}], ids=["bought now", "bought before"])
def test_a_row_that_is_gone_is_written_again(ledger: SqlLedger, holders: dict[int, str]) -> None:
    """Whoever bought the job."""
    lost, entry = _told_again(ledger, "job1", holders)
    assert lost == []
    assert (entry.state, entry.job_id) == ("bought", "job1")


def test_a_create_of_unknown_outcome_is_claimed_again_without_a_lease(ledger: SqlLedger) -> None:
    """So that the next run lists it, and does not wait for anybody."""
    lost, entry = _told_again(ledger, None, {0: "me"})
    assert lost == []
    assert (entry.state, entry.holder, entry.lease_ends) == ("claimed", "me", NOW)


def test_what_ended_under_another_job_is_not_lost(ledger: SqlLedger) -> None:
    """Another run bought the line anew, and saw it end."""
    ledger.claim(ANOTHERS)
    ledger.bought(Bought(KEY, "another", "job2"))
    (before,) = ledger.entries()
    assert _told_again(ledger, "job1", {0: "me"}) == ([], before)
