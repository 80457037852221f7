"""``SqlLedger``: what was bought, kept in a database, so that it outlives the process.

SQLAlchemy Core, one table. It knows how to keep entries atomically among processes and nothing of
when. No secret is stored; of a prompt, only a hash, unless told otherwise.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, cast

try:
    import sqlalchemy as sql
    from sqlalchemy.exc import IntegrityError, ProgrammingError
    from sqlalchemy.schema import CreateTable
except ImportError as error:
    raise ImportError(
        "SqlLedger needs SQLAlchemy: pip install 'langchain-shortapi-flux[ledger]'"
    ) from error

from langchain_shortapi_flux.ledger import Bought, Claim, Ended, Entry

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCK_WAIT_SECONDS = 30.0
"""How long SQLite waits for another process's write."""
LOCK_LOOK_SECONDS = 0.01

_metadata = sql.MetaData()
_jobs = sql.Table(
    "flux_jobs",
    _metadata,
    sql.Column("key", sql.Text, primary_key=True),
    sql.Column("digest", sql.String(64), nullable=False),
    sql.Column("holder", sql.String(64), nullable=False),
    sql.Column("state", sql.String(16), nullable=False),
    sql.Column("claimed_at", sql.Float(53), nullable=False),
    sql.Column("lease_ends", sql.Float(53), nullable=False),
    sql.Column("job_id", sql.Text),
    sql.Column("outcome", sql.Text),
    sql.Column("prompt", sql.Text),
)


class SqlLedger:
    """Keeps entries in a database: SQLite in a file, or PostgreSQL.

    Needs the extra ``langchain-shortapi-flux[ledger]``; PostgreSQL also needs its driver.

    Args:
        url: As SQLAlchemy writes it: ``sqlite:///flux-jobs.db``,
            ``postgresql+psycopg://user:password@host/database``. The table ``flux_jobs`` is made
            if it is missing, on first use.
        store_prompts: Keep the prompts too, in clear. Without it only a hash is kept.

    Raises:
        ValueError: The URL is none that SQLAlchemy reads, or it names a database in memory.
    """

    blocking = True

    def __init__(self, url: str, *, store_prompts: bool = False) -> None:
        problem: str | None = None
        try:
            self._url = sql.make_url(url)
        except sql.exc.ArgumentError:
            problem = "url is no database URL such as sqlite:///flux-jobs.db"
        if problem is not None:
            raise ValueError(problem)  # out here, for the other error's text holds the URL
        self._sqlite = self._url.get_backend_name() == "sqlite"
        named = self._url.database or ":memory:"
        if self._sqlite and (":memory:" in named or self._url.query.get("mode") == "memory"):
            raise ValueError("url names a database in memory; use MemoryLedger() for that")
        self.store_prompts = store_prompts
        self._engine: sql.Engine | None = None
        self._pid = os.getpid()
        self._lock = threading.Lock()

    def claim(self, claim: Claim) -> Entry:
        """See ``Ledger``."""
        fresh = claim.entry() if self.store_prompts else replace(claim.entry(), prompt=None)
        values = asdict(fresh)
        with self._connect() as connection:
            try:
                with connection.begin():
                    connection.execute(_jobs.insert().values(**values))
            except IntegrityError:
                pass
            else:
                return fresh
            if claim.instead_of is not None:
                with connection.begin():
                    replaced = connection.execute(
                        _jobs.update()
                        .where(
                            _jobs.c.key == claim.key,
                            _jobs.c.holder == claim.instead_of,
                            _jobs.c.state != "bought",
                        )
                        .values(**values)
                    )
                if replaced.rowcount == 1:
                    return fresh
            with connection.begin():
                row = connection.execute(
                    _jobs.select().where(_jobs.c.key == claim.key)
                ).one_or_none()
        # Released between the two looks: the key is free again, so it can be claimed again.
        return self.claim(claim) if row is None else _entry(row)

    def bought(self, act: Bought) -> None:
        """See ``Ledger``."""
        mine = (_jobs.c.key == act.key, _jobs.c.holder == act.holder)
        self._write(_jobs.update().where(*mine).values(state="bought", job_id=act.job_id))

    def ended(self, act: Ended) -> None:
        """See ``Ledger``."""
        if act.result == "ended":
            outcome = json.dumps(act.outcome)
            self._write(
                _jobs.update()
                .where(
                    _jobs.c.key == act.key,
                    _jobs.c.job_id == act.job_id,
                    _jobs.c.state == "bought",
                )
                .values(state="ended", outcome=outcome)
            )
            return
        mine = (
            _jobs.c.key == act.key,
            _jobs.c.holder == act.holder,
            _jobs.c.job_id.is_(None),
        )
        if act.result == "released":
            self._write(_jobs.delete().where(*mine))
        else:
            self._write(_jobs.update().where(*mine).values(state="unknown"))

    def entries(self) -> Iterator[Entry]:
        """Every entry, oldest claim first: for looking after what was bought."""
        with self._connect() as connection, connection.begin():
            rows = connection.execute(_jobs.select().order_by(_jobs.c.claimed_at)).all()
        return map(_entry, rows)

    def close(self) -> None:
        """Close the database's connections. The next use opens them again."""
        with self._lock:
            if self._engine is not None:
                self._engine.dispose()
            self._engine = None

    def __repr__(self) -> str:
        # A query can hold a password as well.
        shown = self._url.set(query={}).render_as_string(hide_password=True)
        return f"SqlLedger({shown!r})"

    def __getstate__(self) -> dict[str, Any]:
        """Connections and locks stay behind."""
        return self.__dict__ | {"_engine": None, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    def _write(self, statement: sql.Executable) -> None:
        with self._connect() as connection, connection.begin():
            connection.execute(statement)

    def _connect(self) -> sql.Connection:
        with self._lock:
            if self._engine is not None and self._pid != os.getpid():
                # After a fork: the parent's sockets are the parent's, so they are not even closed.
                self._engine.dispose(close=False)
                self._engine = None
            if self._engine is None:
                self._engine, self._pid = self._open(), os.getpid()
            return self._engine.connect()

    def _open(self) -> sql.Engine:
        waits = {"timeout": LOCK_WAIT_SECONDS} if self._sqlite else {}
        engine = sql.create_engine(
            self._url, connect_args=waits, hide_parameters=True, pool_pre_ping=True
        )
        if self._sqlite:
            sql.event.listen(engine, "connect", _use_wal)
        try:
            try:
                _make_table(engine)
            except (IntegrityError, ProgrammingError):
                # PostgreSQL, where another process made the table at the same moment.
                _make_table(engine)
        except BaseException:
            engine.dispose()
            raise
        return engine


def _make_table(engine: sql.Engine) -> None:
    # Looking first spares those who may use the table but make none.
    if not sql.inspect(engine).has_table(_jobs.name):
        with engine.begin() as connection:
            connection.execute(CreateTable(_jobs, if_not_exists=True))


def _use_wal(connection: Any, _record: object) -> None:
    # Readers and a writer side by side, and a commit that survives a killed process.
    cursor = connection.cursor()
    ends = time.monotonic() + LOCK_WAIT_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            break
        except sqlite3.OperationalError as error:
            # SQLite waits for every lock but the one of this change of mode, so we do.
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > ends:
                raise
            time.sleep(LOCK_LOOK_SECONDS)
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


def _entry(row: sql.Row[Any]) -> Entry:
    values = cast("dict[str, Any]", dict(row._mapping))  # noqa: SLF001 - SQLAlchemy's public way
    if values["outcome"] is not None:
        values["outcome"] = json.loads(values["outcome"])
    return Entry(**values)
