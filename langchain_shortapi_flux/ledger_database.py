"""The database behind ``SqlLedger``: how it is reached, and how each wait for it gets an end.

It knows SQLAlchemy, SQLite and PostgreSQL, and nothing of keys, jobs or money.
"""

from __future__ import annotations

import math
import os
import sqlite3
import threading
import time
import weakref
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import sqlalchemy as sql
from sqlalchemy.exc import DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.schema import CreateTable

from langchain_shortapi_flux.socket_watch import SocketWatch

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECTIONS_MAX = 5
"""Connections that one process keeps open. Who finds all in use waits for one, within its time."""
CONNECT_SECONDS_MIN = 2
"""PostgreSQL's library waits no less than this for a server that does not answer."""
LOCK_LOOK_SECONDS = 0.01
SILENCE_SECONDS = 0.5
"""How long after its limit a server may still say that it gives up, before it is hung up on."""
DRIVERS = (
    *("sqlite", "sqlite+pysqlite"),
    *("postgresql", "postgresql+psycopg", "postgresql+psycopg2"),
)


class _Due(threading.local):
    """When this thread's transaction must be over, in monotonic seconds."""

    at: float = math.inf

    def left(self) -> float:
        """Seconds until then.

        Raises:
            TimeoutError: There are none.
        """
        left = self.at - time.monotonic()
        if not left > 0:  # so that what is no number is no time
            raise TimeoutError("the database took all the time there was")
        return left

    def left_ms(self) -> int:
        """The same in whole milliseconds."""
        return math.ceil(self.left() * 1000)


_LIMIT_TRANSACTION = (
    "SELECT set_config('lock_timeout', %s, true), set_config('statement_timeout', %s, true)"
)


@dataclass(frozen=True)
class _Opened:
    """An engine, and what belongs to it in one process."""

    engine: sql.Engine
    room: threading.BoundedSemaphore
    due: _Due
    watch: SocketWatch = field(default_factory=SocketWatch)
    tables_seen: threading.Event = field(default_factory=threading.Event)


class LedgerDatabase:
    """A SQLite file or a PostgreSQL database in which one table is made if it is missing.

    After a fork each process has connections of its own.

    Args:
        url: As SQLAlchemy writes it. A PostgreSQL URL's own ``connect_timeout`` stands.
        table: What to make.

    Raises:
        ValueError: The URL is none that SQLAlchemy reads, names another kind of database or
            driver, or a database in memory. The error never shows it, for it may hold a password.
    """

    def __init__(self, url: str | sql.URL, table: sql.Table) -> None:
        problem: str | None = None
        try:
            self.url = sql.make_url(url)
        except sql.exc.ArgumentError:
            problem = "url is no database URL such as sqlite:///flux-jobs.db"
        if problem is not None:
            raise ValueError(problem)  # out here, for the other error's text holds the URL
        if self.url.drivername not in DRIVERS:
            raise ValueError(
                f"url begins with a database or driver that is not known here; allowed are "
                f"{', '.join(f'{name}://' for name in DRIVERS)}"
            )
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        named = self.url.database or ":memory:"
        if self.is_sqlite and (":memory:" in named or self.url.query.get("mode") == "memory"):
            raise ValueError("url names a database in memory; use MemoryLedger() for that")
        self._table = table
        self._opened: dict[int, _Opened] = {}

    @contextmanager
    def transaction(self, seconds: float) -> Iterator[sql.Connection]:
        """A transaction, committed at the end, that fails rather than last longer than that.

        The time is for everything: a free connection, connecting, other writers' locks, answers.

        Raises:
            TimeoutError: There was no time, or all connections of this process stayed in use.
            sqlalchemy.exc.SQLAlchemyError: The database is locked, out of reach, silent, or else.
        """
        opened = self._here()
        opened.due.at = time.monotonic() + seconds
        if not opened.room.acquire(timeout=opened.due.left()):
            raise TimeoutError(f"all {CONNECTIONS_MAX} connections stayed in use")
        try:
            for last in (False, True):
                with opened.engine.connect() as connection, self._cut_off(connection, opened):
                    try:
                        self._make_ready(connection, opened)
                    except DBAPIError as error:
                        # A connection that the server has closed meanwhile: all were dropped now.
                        if last or not error.connection_invalidated:
                            raise
                        continue
                    yield connection
                    connection.commit()
                    return
        finally:
            opened.room.release()

    def close(self) -> None:
        """Close this process's connections. The next use opens them again."""
        opened = self._opened.pop(os.getpid(), None)
        if opened is not None:
            opened.engine.dispose()

    def shown_url(self) -> str:
        """The URL without its secrets. A query can hold a password as well."""
        return self.url.set(query={}).render_as_string(hide_password=True)

    def _here(self) -> _Opened:
        # By process: after a fork the parent's sockets and locks are the parent's, so they are
        # left as they are, not even closed. Without a lock, for a fork may catch one being held.
        known = self._opened.get(os.getpid())
        return known or self._opened.setdefault(os.getpid(), self._open())

    def _open(self) -> _Opened:
        due = _Due()
        room = threading.BoundedSemaphore(CONNECTIONS_MAX)
        # ``room`` lets in no more than the pool holds, so none waits in the pool itself.
        engine = sql.create_engine(
            self.url,
            hide_parameters=True,
            pool_size=CONNECTIONS_MAX,
            max_overflow=0,
            pool_timeout=0,
            isolation_level=None if self.is_sqlite else "READ COMMITTED",
        )
        if not self.is_sqlite:

            def connect(
                dialect: sql.Dialect, _record: object, args: Any, parameters: dict[str, Any]
            ) -> Any:
                seconds = max(CONNECT_SECONDS_MIN, math.ceil(due.left()))
                return dialect.connect(*args, **{"connect_timeout": seconds, **parameters})

            sql.event.listen(engine, "do_connect", connect)
        # Who forgets to close it leaves no connection open. Not at exit: that would wait for one.
        weakref.finalize(self, _dispose, engine, os.getpid()).atexit = False
        return _Opened(engine, room, due)

    def _make_ready(self, connection: sql.Connection, opened: _Opened) -> None:
        self._limit(connection, opened.due)
        if self.is_sqlite and "wal" not in connection.info:
            _use_wal(connection.connection, opened.due)
            connection.info["wal"] = True
        if opened.tables_seen.is_set():
            return
        try:
            self._make_table(connection)
        except (IntegrityError, ProgrammingError):
            # PostgreSQL, where another process made the table at the same moment.
            connection.rollback()
            self._make_table(connection)
        connection.commit()
        opened.tables_seen.set()
        self._limit(connection, opened.due)

    def _limit(self, connection: sql.Connection, due: _Due) -> None:
        """Let the database itself give up in time."""
        if self.is_sqlite:
            connection.exec_driver_sql(f"PRAGMA busy_timeout = {due.left_ms()}")
            return
        limit = f"{due.left_ms()}ms"
        connection.exec_driver_sql(_LIMIT_TRANSACTION, (limit, limit))

    def _make_table(self, connection: sql.Connection) -> None:
        # Looking first spares those who may use the table but make none.
        if not sql.inspect(connection).has_table(self._table.name):
            connection.execute(CreateTable(self._table, if_not_exists=True))

    @contextmanager
    def _cut_off(self, connection: sql.Connection, opened: _Opened) -> Iterator[None]:
        """Break the connection when the time is over: a server that fell silent keeps no limit."""
        if self.is_sqlite:
            yield
            return
        fileno = connection.connection.dbapi_connection.fileno()  # type: ignore[union-attr]
        with opened.watch.breaking(fileno, opened.due.at + SILENCE_SECONDS):
            yield


def _dispose(engine: sql.Engine, process: int) -> None:
    if process == os.getpid():  # in a forked child the connections are the parent's
        engine.dispose()


def _use_wal(connection: Any, due: _Due) -> None:
    # Readers and a writer side by side, and a commit that survives a killed process.
    cursor = connection.cursor()
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            break
        except sqlite3.OperationalError as error:
            # SQLite waits for every lock but the one of this change of mode, so we do.
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            time.sleep(min(LOCK_LOOK_SECONDS, due.left()))
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()
