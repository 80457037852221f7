"""The garbage collector closes abandoned streams anywhere, also in the middle of a ledger's act.

What such a stream leaves to be noted is noted then, by the same thread, right after the act: it
neither waits for a lock that this thread has itself nor gets lost.
"""

from __future__ import annotations

import gc
import pickle
import sys
import threading
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
import sqlalchemy
from postgres_server import table_dropped
from quick_flux import flux_on

import langchain_shortapi_flux
from langchain_shortapi_flux import MemoryLedger, SqlLedger
from langchain_shortapi_flux.ledger import Bought, Claim, Ended, Entry, perform_ledger_act
from langchain_shortapi_flux.sandbox import Fault
from langchain_shortapi_flux.surroundings import Surroundings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from langchain_shortapi_flux import ShortAPIFlux
    from langchain_shortapi_flux.ledger import Ledger
    from langchain_shortapi_flux.sandbox import Sandbox

CLAIM = Claim(key="k", digest="d", holder="me", now=1.0, lease=90.0)
LOOP_THREAD = "langchain-shortapi-flux-loop"
WHERE_LOCKS_ARE = (str(Path(langchain_shortapi_flux.__file__).parent), threading.__file__)


class PlainLedger:
    """Another's keeper: its lock lets nobody in twice, and it is slow enough to be disturbed."""

    blocking = True

    def __init__(self) -> None:
        self.kept = MemoryLedger()
        self._lock = threading.Lock()

    def claim(self, claim: Claim) -> Entry:
        with self._lock:
            gc.collect()
            return self.kept.claim(claim)

    def bought(self, act: Bought) -> None:
        with self._lock:
            self.kept.bought(act)

    def ended(self, act: Ended) -> None:
        with self._lock:
            self.kept.ended(act)

    def entries(self) -> list[Entry]:
        return list(self.kept._open.values())


@pytest.fixture(params=["plain", "sqlite", "postgres"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[PlainLedger | SqlLedger]:
    """A keeper that the collector disturbs while it holds a lock."""
    if request.param == "plain":
        yield PlainLedger()
        return
    url = f"sqlite:///{tmp_path}/flux-jobs.db"
    if request.param == "postgres":
        url = table_dropped(request.getfixturevalue("postgres_url"))
    kept = SqlLedger(url)
    kept.claim(replace(CLAIM, key="an older one"))
    engine = kept._database._here().engine
    sqlalchemy.event.listen(engine, "commit", lambda _: gc.collect())
    yield kept
    kept.close()


@pytest.fixture(autouse=True)
def collected_only_where_told() -> Iterator[None]:
    """Otherwise what is abandoned may be closed at once."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def abandon(jobs: Iterator[Any]) -> None:
    """Take the first and forget the rest, in a way that only the collector finds."""
    cycle: list[Any] = [jobs]
    next(jobs)
    cycle.append(cycle)


def open_jobs(ledger: PlainLedger | SqlLedger) -> set[str | None]:
    return {entry.job_id for entry in ledger.entries() if entry.state == "bought"}


def pending_stream(flux: ShortAPIFlux) -> Iterator[Any]:
    return flux.stream("a fox")


def pending_batch(flux: ShortAPIFlux) -> Iterator[Any]:
    return flux.batch_as_completed(["a fox", "a hare"])


@pytest.mark.parametrize("jobs", [pending_stream, pending_batch])
def test_what_the_collector_closes_in_the_middle_of_an_act_is_noted(
    jobs: Callable[[ShortAPIFlux], Iterator[Any]],
    ledger: PlainLedger | SqlLedger,
    sandbox: Sandbox,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """And no loop is left behind."""
    quiet = [Fault("create", "none")] if jobs is pending_batch else []
    sandbox.inject(*quiet, Fault("create", "job_never_ends"))
    abandon(jobs(flux_on(sandbox, ledger=ledger)))
    answer = perform_ledger_act(ledger, CLAIM)
    assert isinstance(answer, Entry)
    assert answer.holder == "me"
    (running,) = (job.job_id for job in sandbox.jobs if job.status != "succeeded")
    assert open_jobs(ledger) == {running}
    assert "could not note" not in caplog.text
    assert LOOP_THREAD not in {thread.name for thread in threading.enumerate()}


@contextmanager
def disturbed(place: int, disturb: Callable[[], None]) -> Iterator[list[str]]:
    """Do that at so many lines from here that run in our own code or in Python's locks."""
    done: list[str] = []
    lines = count()

    def watch(frame: FrameType, event: str, _: object) -> Any:
        if not frame.f_code.co_filename.startswith(WHERE_LOCKS_ARE):
            return None
        if event == "line" and next(lines) == place:
            done.append(f"{frame.f_code.co_filename}:{frame.f_lineno}")
            disturb()
        return watch

    before = sys.gettrace()
    sys.settrace(watch)
    try:
        yield done
    finally:
        sys.settrace(before)


def lines_disturbed(ledger: Ledger, act: Callable[[], object]) -> int:
    """Do it again and again, and have a job's end noted in the middle of the next of its lines."""
    surroundings = Surroundings(ledger)
    claim = replace(CLAIM, key="abandoned", instead_of=CLAIM.holder)
    end = Ended("abandoned", "ended", holder="me", job_id="j", outcome={"status": "succeeded"})
    for place in count():
        assert perform_ledger_act(ledger, claim) == claim.entry()
        with disturbed(place, lambda: surroundings.part(end)) as done:
            act()
        if not done:
            return place
        found = perform_ledger_act(ledger, replace(claim, holder="other", instead_of=None))
        assert isinstance(found, Entry)
        assert found.state == "ended", done
    raise AssertionError


@pytest.fixture(params=["sqlite", "postgres"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlLedger]:
    """Each kind of database."""
    url = f"sqlite:///{tmp_path}/flux-jobs.db"
    if request.param == "postgres":
        url = table_dropped(request.getfixturevalue("postgres_url"))
    ledger = SqlLedger(url, timeout=2.0)
    yield ledger
    ledger.close()


@pytest.mark.thorough
def test_a_database_may_be_disturbed_at_any_line(kept: SqlLedger) -> None:
    """Also while it waits in line for a connection, where Python's own locks are held."""

    def act() -> None:
        assert perform_ledger_act(kept, CLAIM) == CLAIM.entry()
        assert perform_ledger_act(kept, Ended("k", "released", holder="me")) is None

    assert lines_disturbed(kept, act) > 50


def test_the_upkeep_of_a_database_may_be_disturbed_at_any_line(kept: SqlLedger) -> None:
    """No flow calls that, so it is no act."""
    assert lines_disturbed(kept, lambda: kept.prune(before=0.5)) > 50


def test_a_memory_may_be_disturbed_at_any_line() -> None:
    """Its lock lets the thread in again, but its entries must not change under its hands."""
    memory = MemoryLedger()
    again = replace(CLAIM, instead_of="me")

    def act() -> None:
        assert perform_ledger_act(memory, again) == again.entry()
        assert perform_ledger_act(memory, Bought("k", "me", "j")) is None
        pickle.dumps(memory)
        end = Ended("k", "ended", holder="me", job_id="j", outcome={"status": "succeeded"})
        assert perform_ledger_act(memory, end) is None
        pickle.dumps(memory)

    assert lines_disturbed(memory, act) > 50


def test_a_transaction_within_another_leaves_it_its_time(postgres_url: str) -> None:
    """As a finalizer may begin one that is nobody's leave."""
    ledger = SqlLedger(table_dropped(postgres_url))
    database = ledger._database
    inner = iter([5.0])

    def ask_meanwhile(*_: object) -> None:
        for seconds in inner:
            with database.transaction(seconds):
                pass

    sqlalchemy.event.listen(database._here().engine, "checkout", ask_meanwhile)
    how = "select setting::int from pg_settings where name = 'lock_timeout'"
    with database.transaction(60.0) as connection:
        assert (connection.exec_driver_sql(how).scalar() or 0) > 10_000
    assert next(inner, None) is None
    ledger.close()


def test_connecting_within_a_connect_leaves_it_its_time() -> None:
    """As above."""
    database = SqlLedger("postgresql+psycopg://me@127.0.0.1:1/flux")._database
    engine = database._here().engine
    inner, given = iter([5.0]), []

    def ask_meanwhile(*_: object) -> None:
        for seconds in inner:
            with pytest.raises(ConnectionRefusedError), database.transaction(seconds):
                pass

    def connect(*_: object, **parameters: object) -> NoReturn:
        given.append(parameters["connect_timeout"])
        raise ConnectionRefusedError

    engine.dialect.connect = connect  # type: ignore[method-assign]
    sqlalchemy.event.listen(sqlalchemy.Engine, "do_connect", ask_meanwhile)
    try:
        with pytest.raises(ConnectionRefusedError), database.transaction(60.0):
            pass
    finally:
        sqlalchemy.event.remove(sqlalchemy.Engine, "do_connect", ask_meanwhile)
    assert given == [5, 60]
