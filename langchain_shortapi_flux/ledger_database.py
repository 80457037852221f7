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
LOCK_WAIT_SECONDS = 0.1
"""How long SQLite itself waits for a lock, again and again: it hears no Ctrl-C meanwhile."""
SILENCE_SECONDS = 0.5
"""How long after its limit a server may still say that it gives up, before it is hung up on."""
DRIVERS = (
    *("sqlite", "sqlite+pysqlite"),
    *("postgresql", "postgresql+psycopg", "postgresql+psycopg2"),
)


@dataclass(frozen=True)
class _Due:
    """When a transaction must be over, in monotonic seconds."""

    at: float

    def left(self) -> float:
        """Seconds until then.

        Raises:
            TimeoutError: There are none.
        """
        left = self.at - time.monotonic()
        if not left > 0:  # so that what is no number is no time
            raise TimeoutError("the database took all the time there was")
        return left


class _Connecting(threading.local):
    """For whom this thread is connecting, where SQLAlchemy does not say."""

    due = _Due(math.inf)


_LIMIT_TRANSACTION = (
    "SELECT set_config('lock_timeout', %s, true), set_config('statement_timeout', %s, true)"
)


@dataclass(frozen=True)
class _Opened:
    """An engine, and what belongs to it in one process."""

    engine: sql.Engine
    room: threading.BoundedSemaphore
    connecting: _Connecting
    watch: SocketWatch = field(default_factory=SocketWatch)
    tables_seen: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def connect(self, due: _Due) -> Iterator[sql.Connection]:
        """A connection that knows when it is due."""
        before, self.connecting.due = self.connecting.due, due
        try:
            connection = self.engine.connect()
        finally:
            self.connecting.due = before
        with connection:
            yield connection.execution_options(due=due)


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
        due = _Due(time.monotonic() + seconds)
        with self._a_place(due) as opened:
            for last in (False, True):
                with opened.connect(due) as connection, self._cut_off(connection, opened, due):
                    try:
                        self._make_ready(connection, opened, due)
                    except DBAPIError as error:
                        # A connection that the server has closed meanwhile: all were dropped now.
                        if last or not error.connection_invalidated:
                            raise
                        continue
                    yield connection
                    if self.is_sqlite:  # a commit is not asked again
                        connection.exec_driver_sql(_lock_wait(due, due.left())).close()
                    connection.commit()
                    return

    def close(self) -> None:
        """Close this process's connections. The next use opens them again."""
        opened = self._opened.pop(os.getpid(), None)
        if opened is not None:
            opened.engine.dispose()

    def shown_url(self) -> str:
        """The URL without its secrets. A query can hold a password as well."""
        return self.url.set(query={}).render_as_string(hide_password=True)

    @contextmanager
    def _a_place(self, due: _Due) -> Iterator[_Opened]:
        opened = self._here()
        if not opened.room.acquire(timeout=due.left()):
            raise TimeoutError(f"all {CONNECTIONS_MAX} connections stayed in use")
        try:
            yield opened
        finally:
            opened.room.release()

    def _here(self) -> _Opened:
        # By process: after a fork the parent's sockets and locks are the parent's, so they are
        # left as they are, not even closed. Without a lock, for a fork may catch one being held.
        known = self._opened.get(os.getpid())
        return known or self._opened.setdefault(os.getpid(), self._open())

    def _open(self) -> _Opened:
        connecting = _Connecting()
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
        if self.is_sqlite:
            sql.event.listen(engine, "do_execute", _execute_when_free)
        else:

            def connect(
                dialect: sql.Dialect, _record: object, args: Any, parameters: dict[str, Any]
            ) -> Any:
                seconds = max(CONNECT_SECONDS_MIN, math.ceil(connecting.due.left()))
                return dialect.connect(*args, **{"connect_timeout": seconds, **parameters})

            sql.event.listen(engine, "do_connect", connect)
        # Who forgets to close it leaves no connection open. Not at exit: that would wait for one.
        weakref.finalize(self, _dispose, engine, os.getpid()).atexit = False
        return _Opened(engine, room, connecting)

    def _make_ready(self, connection: sql.Connection, opened: _Opened, due: _Due) -> None:
        self._limit(connection, due)
        if self.is_sqlite and "wal" not in connection.info:
            # Readers and a writer side by side, and a commit that survives a killed process.
            connection.exec_driver_sql("PRAGMA journal_mode=WAL").close()
            connection.exec_driver_sql("PRAGMA synchronous=FULL").close()
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
        self._limit(connection, due)

    def _limit(self, connection: sql.Connection, due: _Due) -> None:
        """Let the database itself give up in time."""
        if self.is_sqlite:
            connection.exec_driver_sql(_lock_wait(due)).close()
            return
        limit = f"{math.ceil(due.left() * 1000)}ms"
        connection.exec_driver_sql(_LIMIT_TRANSACTION, (limit, limit))

    def _make_table(self, connection: sql.Connection) -> None:
        # Looking first spares those who may use the table but make none.
        if not sql.inspect(connection).has_table(self._table.name):
            connection.execute(CreateTable(self._table, if_not_exists=True))

    @contextmanager
    def _cut_off(self, connection: sql.Connection, opened: _Opened, due: _Due) -> Iterator[None]:
        """Break the connection when the time is over: a server that fell silent keeps no limit."""
        if self.is_sqlite:
            yield
            return
        fileno = connection.connection.dbapi_connection.fileno()  # type: ignore[union-attr]
        with opened.watch.breaking(fileno, due.at + SILENCE_SECONDS):
            yield


def _dispose(engine: sql.Engine, process: int) -> None:
    if process == os.getpid():  # in a forked child the connections are the parent's
        engine.dispose()


def _lock_wait(due: _Due, longest: float = LOCK_WAIT_SECONDS) -> str:
    return f"PRAGMA busy_timeout = {math.ceil(min(longest, due.left()) * 1000)}"


def _execute_when_free(
    cursor: sqlite3.Cursor, statement: str, parameters: Any, context: sql.ExecutionContext
) -> bool:
    """Execute a statement, again and again while another has the lock, until its time is over."""
    due: _Due = context.execution_options["due"]
    while True:
        try:
            cursor.execute(statement, parameters)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            # SQLite has waited, but not for the lock of a change of journal mode.
            time.sleep(min(LOCK_LOOK_SECONDS, due.left()))
            cursor.execute(_lock_wait(due))
        else:
            return True
