"""No wait for a database without an end: locked, out of reach, silent, or all in use."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

import pytest
import sqlalchemy
from postgres_server import table_dropped
from sqlalchemy.schema import CreateTable

from langchain_shortapi_flux import SqlLedger
from langchain_shortapi_flux.ledger import (
    Bought,
    Claim,
    Ended,
    Entry,
    LedgerTrouble,
    perform_ledger_act,
)
from langchain_shortapi_flux.ledger_database import (
    CONNECTIONS_MAX,
    LOCK_WAIT_SECONDS,
    _Due,
    _lock_wait,
)
from langchain_shortapi_flux.sql_ledger import _jobs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

CLAIM = Claim(key="k", digest="d", holder="me", now=1.0, lease=90.0)
ACTS = (CLAIM, Bought("k", "me", "j1"), Ended("k", "ended", holder="me", job_id="j1"))
AT_ONCE = 0.05
HELD_SECONDS = 5.0
"""When a lock that ought to be given up on is released all the same: who waited gets it then."""
KEYS = tuple(f"key {number}" for number in range(100))
THREADS = 64


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database in which there is no table yet."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/flux-jobs.db"
    return table_dropped(request.getfixturevalue("postgres_url"))


@pytest.fixture
def ledgers() -> Iterator[Callable[..., SqlLedger]]:
    """What makes ledgers that are closed in the end."""
    with ExitStack() as closing:

        def make(url: str, timeout: float = 10.0) -> SqlLedger:
            ledger = SqlLedger(url, timeout=timeout)
            closing.callback(ledger.close)
            return ledger

        yield make


@contextmanager
def locked(url: str, seconds: float) -> Iterator[threading.Timer]:
    """Another's lock on the table, until the end or for that many seconds, as the timer says."""
    engine = sqlalchemy.create_engine(url, connect_args=other_threads_too(url))
    with engine.connect() as connection:
        if url.startswith("sqlite"):
            connection.exec_driver_sql("begin immediate")
        else:
            connection.exec_driver_sql("lock table flux_jobs in access exclusive mode")
        release = threading.Timer(seconds, connection.rollback)
        release.start()
        try:
            yield release
        finally:
            release.cancel()
            release.join()
    engine.dispose()


def other_threads_too(url: str) -> dict[str, bool]:
    return {"check_same_thread": False} if url.startswith("sqlite") else {}


# --- a locked table -----------------------------------------------------------------------------


@pytest.mark.parametrize("act", ACTS, ids=type)
def test_an_act_waits_for_a_lock_no_longer_than_its_call_has_time(
    url: str, ledgers: Callable[..., SqlLedger], act: Claim | Bought | Ended
) -> None:
    """A timeout of five seconds means five seconds, whoever holds the database."""
    ledger = ledgers(url)
    ledger.claim(replace(CLAIM, holder="a predecessor"))
    with locked(url, HELD_SECONDS):
        answer = perform_ledger_act(ledger, replace(act, time_left=AT_ONCE))
    assert isinstance(answer, LedgerTrouble)
    assert [entry.holder for entry in ledger.entries()] == ["a predecessor"]


@pytest.mark.parametrize("act", ACTS, ids=type)
def test_an_act_waits_for_a_lock_no_longer_than_the_ledger_allows(
    url: str, ledgers: Callable[..., SqlLedger], act: Claim | Bought | Ended
) -> None:
    """Also where its call has all the time of the world."""
    ledgers(url).claim(replace(CLAIM, holder="a predecessor"))
    with locked(url, HELD_SECONDS):
        answer = perform_ledger_act(ledgers(url, timeout=AT_ONCE), act)
    assert isinstance(answer, LedgerTrouble)


@pytest.mark.parametrize("limit", ["lock_timeout", "statement_timeout"])
def test_a_server_is_told_the_limit_in_every_transaction(
    limit: str, postgres_url: str, ledgers: Callable[..., SqlLedger]
) -> None:
    """Also in the first one, which makes the table: it gives up by itself, no line is broken."""
    how = f"select setting::int from pg_settings where name = '{limit}'"
    database = ledgers(table_dropped(postgres_url))._database
    for seconds in (60, 40):
        with database.transaction(seconds) as connection:
            assert 0 < (connection.exec_driver_sql(how).scalar() or 0) <= seconds * 1000


def test_sqlite_never_waits_long_by_itself(
    tmp_path: Path, ledgers: Callable[..., SqlLedger]
) -> None:
    """It is deaf meanwhile."""
    database = ledgers(f"sqlite:///{tmp_path}/flux-jobs.db")._database
    for _ in range(2):
        with database.transaction(60.0) as connection:
            waits = connection.exec_driver_sql("pragma busy_timeout").scalar() or 0
        assert 0 < waits <= LOCK_WAIT_SECONDS * 1000


def test_sqlite_waits_no_longer_than_there_is_time() -> None:
    told = _lock_wait(_Due(time.monotonic() + 60.0), longest=120.0)
    assert 0 < int(told.split()[-1]) <= 60_000


def test_sqlite_is_told_anew_each_time_how_long_it_may_wait(
    tmp_path: Path, ledgers: Callable[..., SqlLedger]
) -> None:
    """The last time there is less than usual."""
    url = f"sqlite:///{tmp_path}/flux-jobs.db"
    ledger = ledgers(url)
    ledger.claim(replace(CLAIM, key="first"))
    told: list[str] = []

    def hear(statement: str) -> None:
        told.append(statement.split()[1])
        if told[-3:] == ["busy_timeout", "INTO", "busy_timeout"]:
            held.function()

    with ledger._database.transaction(10.0) as connection:
        connection.connection.dbapi_connection.set_trace_callback(hear)  # type: ignore[union-attr]
    told.clear()
    with locked(url, HELD_SECONDS) as held:
        assert ledger.claim(CLAIM).holder == "me"
        assert held.is_alive()


def test_ctrl_c_is_heard_while_a_lock_is_waited_for(
    tmp_path: Path, ledgers: Callable[..., SqlLedger]
) -> None:
    """Whoever sits before a locked file is not told to wait until it is free."""
    url = f"sqlite:///{tmp_path}/flux-jobs.db"
    ledger = ledgers(url, timeout=60.0)
    ledger.claim(replace(CLAIM, key="first"))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    main = threading.main_thread().ident or 0
    interrupt = threading.Timer(AT_ONCE, signal.pthread_kill, (main, signal.SIGINT))
    try:
        with locked(url, HELD_SECONDS) as held:
            interrupt.start()
            with pytest.raises(KeyboardInterrupt):
                ledger.claim(CLAIM)
            assert held.is_alive()
    finally:
        interrupt.join()
        signal.signal(signal.SIGINT, before)
    assert [entry.key for entry in ledger.entries()] == ["first"]
    assert ledger.claim(CLAIM).holder == "me"


def test_a_lock_that_is_released_in_time_is_waited_for(
    url: str, ledgers: Callable[..., SqlLedger]
) -> None:
    """Other processes write too, each for some milliseconds."""
    ledger = ledgers(url)
    ledger.claim(replace(CLAIM, key="first"))
    with locked(url, 4 * AT_ONCE):
        assert ledger.claim(CLAIM).holder == "me"


@pytest.mark.parametrize("time_left", [0.0, -1.0, float("nan")])
@pytest.mark.parametrize("act", ACTS, ids=type)
def test_an_act_without_time_is_not_performed(
    url: str, ledgers: Callable[..., SqlLedger], act: Claim | Bought | Ended, time_left: float
) -> None:
    """Its call is over."""
    ledger = ledgers(url)
    ledger.claim(replace(CLAIM, holder="a predecessor"))
    answer = perform_ledger_act(ledger, replace(act, time_left=time_left))
    assert answer == LedgerTrouble("TimeoutError")
    ((entry),) = ledger.entries()
    assert (entry.holder, entry.state) == ("a predecessor", "claimed")


def test_the_change_to_writing_ahead_waits_no_longer_either(
    tmp_path: Path, ledgers: Callable[..., SqlLedger]
) -> None:
    """SQLite itself does not wait for that one, so the ledger does, and must end it."""
    path = tmp_path / "flux-jobs.db"
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("create table other (x)")
    reader.execute("begin")
    reader.execute("select * from other").fetchall()
    ledger = ledgers(f"sqlite:///{path}")
    hurried = perform_ledger_act(ledger, replace(CLAIM, time_left=AT_ONCE))
    assert hurried == LedgerTrouble("TimeoutError")
    reader.close()
    assert ledger.claim(CLAIM).holder == "me"


# --- a server that does not answer --------------------------------------------------------------


def test_a_server_that_accepts_and_says_nothing_is_not_waited_for(
    ledgers: Callable[..., SqlLedger],
) -> None:
    """As behind a broken proxy; the library's own least is two seconds."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql+psycopg://me@127.0.0.1:{silent.getsockname()[1]}/flux"
        answer = perform_ledger_act(ledgers(url), replace(CLAIM, time_left=AT_ONCE))
    assert answer == LedgerTrouble("OperationalError")


def test_the_time_to_connect_is_that_of_the_act_unless_the_url_says_otherwise(
    ledgers: Callable[..., SqlLedger],
) -> None:
    """In whole seconds, and never less than the library's two; to the URL's owner its own."""
    given: list[object] = []

    def connect(*_: object, **parameters: object) -> NoReturn:
        given.append(parameters["connect_timeout"])
        raise ConnectionRefusedError

    for query, seconds in (("", 0.5), ("", 3.2), ("?connect_timeout=7", 3.2)):
        ledger = ledgers(f"postgresql+psycopg://me@127.0.0.1:1/flux{query}")
        ledger._database._here().engine.dialect.connect = connect  # type: ignore[method-assign]
        answer = perform_ledger_act(ledger, replace(CLAIM, time_left=seconds))
        assert answer == LedgerTrouble("ConnectionRefusedError")
    assert given == [2, 4, "7"]


def backends(url: str) -> tuple[sqlalchemy.Engine, list[int]]:
    """The server's processes for other connections than the one that asks."""
    engine = sqlalchemy.create_engine(url)
    others = (
        "select pid from pg_stat_activity where pid <> pg_backend_pid() "
        "and backend_type = 'client backend' and datname = current_database()"
    )
    with engine.connect() as connection:
        return engine, list(connection.exec_driver_sql(others).scalars())


def test_a_server_that_falls_silent_is_not_waited_for(
    postgres_url: str, ledgers: Callable[..., SqlLedger]
) -> None:
    """It keeps no limit that it was given, and its host goes on acknowledging every packet."""
    ledger = ledgers(table_dropped(postgres_url))
    ledger.claim(CLAIM)
    engine, pids = backends(postgres_url)
    assert len(pids) == 1
    os.kill(pids[0], signal.SIGSTOP)
    try:
        answer = perform_ledger_act(ledger, replace(CLAIM, key="new", time_left=4 * AT_ONCE))
        assert answer == LedgerTrouble("TimeoutError")
        assert ledger.claim(replace(CLAIM, key="new")).holder == "me"
    finally:
        os.kill(pids[0], signal.SIGCONT)
        engine.dispose()


def test_connections_that_the_server_has_closed_are_replaced_unnoticed(
    postgres_url: str, ledgers: Callable[..., SqlLedger]
) -> None:
    """Servers restart and proxies close what is idle; no call should fail for that."""
    ledger = ledgers(table_dropped(postgres_url))
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(ledger._database.transaction(10.0))
    engine, pids = backends(postgres_url)
    assert len(pids) == 3
    with engine.begin() as connection:
        for pid in pids:
            connection.exec_driver_sql(f"select pg_terminate_backend({pid}, 5000)")
    assert ledger.claim(CLAIM).holder == "me"
    engine.dispose()


def test_a_table_that_another_makes_at_the_same_moment_is_used(
    postgres_url: str, ledgers: Callable[..., SqlLedger]
) -> None:
    """PostgreSQL lets both begin, and tells the second one too late."""
    ledger = ledgers(table_dropped(postgres_url))
    engine = sqlalchemy.create_engine(postgres_url, isolation_level="READ COMMITTED")
    waiting = "select count(*) from pg_locks where not granted"
    with ThreadPoolExecutor(1) as threads, engine.connect() as other:
        other.execute(CreateTable(_jobs))
        claim = threads.submit(ledger.claim, CLAIM)
        while not other.exec_driver_sql(waiting).scalar():
            assert not claim.done()
        other.commit()
        assert claim.result().holder == "me"
    engine.dispose()


# --- many at once -------------------------------------------------------------------------------


@contextmanager
def connections_counted() -> Iterator[list[object]]:
    """Every connection that any pool makes."""
    made: list[object] = []

    def count(connection: object, _record: object) -> None:
        made.append(connection)

    sqlalchemy.event.listen(sqlalchemy.Pool, "connect", count)
    try:
        yield made
    finally:
        sqlalchemy.event.remove(sqlalchemy.Pool, "connect", count)


async def test_many_jobs_at_once_share_few_connections(
    url: str, ledgers: Callable[..., SqlLedger]
) -> None:
    """A new connection for each act would cost more than the act, and a server has not many."""
    ledger = ledgers(url)
    loop = asyncio.get_running_loop()

    async def buy(key: str) -> list[Entry | LedgerTrouble | None]:
        acts = (replace(act, key=key) for act in ACTS)
        return [
            await loop.run_in_executor(threads, perform_ledger_act, ledger, act) for act in acts
        ]

    with ThreadPoolExecutor(THREADS) as threads, connections_counted() as made:
        answers = await asyncio.gather(*map(buy, KEYS))
        entries = await loop.run_in_executor(threads, lambda: list(ledger.entries()))
    assert [
        answer for each in answers for answer in each if isinstance(answer, LedgerTrouble)
    ] == []
    assert sorted(entry.key for entry in entries) == sorted(KEYS)
    assert {entry.state for entry in entries} == {"ended"}
    assert len(made) <= CONNECTIONS_MAX


def test_who_finds_all_connections_in_use_waits_within_his_time(
    url: str, ledgers: Callable[..., SqlLedger]
) -> None:
    """And gets one that is given back."""
    ledger = ledgers(url)
    with ExitStack() as in_use:
        talks: list[AbstractContextManager[object]] = [
            ledger._database.transaction(60.0) for _ in range(CONNECTIONS_MAX)
        ]
        for talk in talks:
            in_use.enter_context(talk)
        hurried = perform_ledger_act(ledger, replace(CLAIM, time_left=AT_ONCE))
        assert hurried == LedgerTrouble("TimeoutError")
        free = threading.Timer(AT_ONCE, in_use.pop_all().close)
        free.start()
        assert ledger.claim(CLAIM).holder == "me"
        free.join()
