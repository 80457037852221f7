"""``SqlLedger``: what was bought, kept in a database, so that it outlives the process.

One table. It knows how to keep entries atomically among processes and nothing of when. No secret
is stored; of a prompt, only a hash, unless told otherwise.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

try:
    import sqlalchemy as sql
    from sqlalchemy.dialects import postgresql, sqlite

    from langchain_shortapi_flux.ledger_database import LedgerDatabase
except ImportError as error:
    raise ImportError(
        "SqlLedger needs SQLAlchemy: pip install 'langchain-shortapi-flux[ledger]'"
    ) from error

from langchain_shortapi_flux.leave_taking import undisturbed
from langchain_shortapi_flux.ledger import (
    Bought,
    Claim,
    Ended,
    Entry,
    LedgerAct,
    without_service_words,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Result = TypeVar("Result")

ACT_SECONDS_MAX = 10.0
"""How long an act may take, unless the ledger is told otherwise."""
ACT_SECONDS_LIMIT = 3600.0
UPKEEP_SECONDS_MAX = 60.0
"""How long ``entries`` and ``prune`` may take: nobody's call waits for them."""

_jobs = sql.Table(
    "flux_jobs",
    sql.MetaData(),
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

    Needs the extra ``langchain-shortapi-flux[ledger]``; PostgreSQL also needs ``psycopg`` (or
    ``psycopg2``). The table ``flux_jobs`` is made if it is missing, on first use.

    **It only grows**, until ``prune`` is called.

    **A pickle of it holds the URL with its password**, for it has to reach the same database: so
    does a pickle of a ``ShortAPIFlux`` that has it. Treat such pickles as secrets, or give a URL
    without a password and let PostgreSQL's own means supply it (``PGPASSWORD``, ``~/.pgpass``).
    Entries and ``repr`` hold no password.

    **Leases compare the clocks of those who share the database.** Clocks that differ by less than
    a tenth of ``claim_lease`` (9 s of the default 90 s) do no harm. Beyond that a claim may be
    taken for dead too early, and be reported as ``CreateOutcomeUnknown``; with
    ``on_unknown="buy"`` it would be bought twice. Keep such machines on network time.

    Args:
        url: As SQLAlchemy writes it, as text or its ``URL``: ``sqlite:///flux-jobs.db``,
            ``postgresql+psycopg://user:password@host/database``. A ``connect_timeout`` in it
            stands, in place of the time that an act has.
        store_prompts: Keep the prompts too, in clear, and what the service said of a job. Without
            it only a hash is kept, and in place of the service's words a text that says so.
        timeout: Seconds that an act may take, at most: waiting for a connection, for another's
            lock and for the database's answer. A call with less time left waits less for its
            claim. Connecting to an address that does not answer takes at least 2 s.

    Raises:
        ValueError: ``timeout`` is not above 0 and at most 3600 s; or the URL is none that
            SQLAlchemy reads, names another kind of database or driver, or one in memory.
    """

    blocking = True

    def __init__(
        self, url: str | sql.URL, *, store_prompts: bool = False, timeout: float = ACT_SECONDS_MAX
    ) -> None:
        if not 0 < timeout <= ACT_SECONDS_LIMIT:
            raise ValueError(f"timeout={timeout}: above 0, at most {ACT_SECONDS_LIMIT:g} seconds")
        self._database = LedgerDatabase(url, _jobs)
        self.store_prompts = store_prompts
        self.timeout = timeout

    def claim(self, claim: Claim) -> Entry:
        """See ``Ledger``.

        Raises:
            TimeoutError: The database took all the time there was.
            sqlalchemy.exc.SQLAlchemyError: It is locked, out of reach, silent, or else.
        """
        fresh = claim.entry() if self.store_prompts else replace(claim.entry(), prompt=None)
        values = asdict(fresh)
        insert = sqlite.insert if self._database.is_sqlite else postgresql.insert
        theirs = (_jobs.c.key == claim.key, _jobs.c.holder == claim.instead_of)

        def take(connection: sql.Connection) -> Entry:
            while True:
                granted = connection.execute(
                    insert(_jobs).values(**values).on_conflict_do_nothing(),
                    execution_options={"preserve_rowcount": True},
                ).rowcount
                if not granted and claim.instead_of is not None:
                    granted = connection.execute(
                        _jobs.update().where(*theirs, _jobs.c.state != "bought").values(**values)
                    ).rowcount
                if granted:
                    return fresh
                found = connection.execute(
                    _jobs.select().where(_jobs.c.key == claim.key)
                ).one_or_none()
                if found is not None:
                    return _entry(found)
                # Released between the two looks: free again, so it can be claimed again.

        return self._transact(self._time(claim), take)

    def bought(self, act: Bought) -> None:
        """See ``Ledger``. Raises as ``claim``."""
        self._write(
            act,
            _jobs.update()
            .where(
                _jobs.c.key == act.key,
                _jobs.c.holder == act.holder,
                _jobs.c.state != "ended",
            )
            .values(state="bought", job_id=act.job_id),
        )

    def ended(self, act: Ended) -> None:
        """See ``Ledger``. Raises as ``claim``."""
        mine = sql.and_(_jobs.c.holder == act.holder, _jobs.c.job_id.is_(None))
        if act.result == "ended":
            if act.job_id is None:
                return
            kept = act.outcome
            if not self.store_prompts:
                kept = without_service_words(kept, act.job_id)
            its = sql.and_(_jobs.c.job_id == act.job_id, _jobs.c.state != "ended")
            self._write(
                act,
                _jobs.update()
                .where(_jobs.c.key == act.key, sql.or_(its, mine))
                .values(state="ended", job_id=act.job_id, outcome=json.dumps(kept)),
            )
        elif act.result == "released":
            self._write(act, _jobs.delete().where(_jobs.c.key == act.key, mine))
        else:
            self._write(
                act,
                _jobs.update()
                .where(_jobs.c.key == act.key, mine)
                .values(state="unknown", job_id=act.job_id),
            )

    def entries(self) -> Iterator[Entry]:
        """Every entry, oldest claim first: for looking after what was bought.

        Raises:
            TimeoutError: The database took more than 60 seconds.
            sqlalchemy.exc.SQLAlchemyError: It is locked, out of reach, silent, or else.
        """
        rows = self._transact(
            UPKEEP_SECONDS_MAX,
            lambda connection: connection.execute(
                _jobs.select().order_by(_jobs.c.claimed_at)
            ).all(),
        )
        return map(_entry, rows)

    def prune(self, before: float, *, open_too: bool = False) -> int:
        """Delete the ended entries that were claimed before a time, and say how many there were.

        A key whose entry is gone **buys again**. To keep thirty days::

            ledger.prune(before=time.time() - 30 * 86_400)

        Args:
            before: Unix seconds, not in the future.
            open_too: Delete entries without an end as well: claims, unknown outcomes, and jobs
                that run or were left at their timeout. Their job ids are forgotten.

        Raises:
            ValueError: ``before`` is in the future, or no number.
            TimeoutError: As ``entries``.
            sqlalchemy.exc.SQLAlchemyError: Likewise.
        """
        now = time.time()
        if not -math.inf < before <= now:
            raise ValueError(f"before={before}: Unix seconds, at most now ({now:.0f})")
        old = _jobs.delete().where(_jobs.c.claimed_at < before)
        if not open_too:
            old = old.where(_jobs.c.state == "ended")
        return self._transact(
            UPKEEP_SECONDS_MAX, lambda connection: connection.execute(old).rowcount
        )

    def close(self) -> None:
        """Close the database's connections. The next use opens them again."""
        self._database.close()

    def __repr__(self) -> str:
        return f"SqlLedger({self._database.shown_url()!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Connections stay behind."""
        again = partial(type(self), store_prompts=self.store_prompts, timeout=self.timeout)
        return again, (self._database.url,)

    def _time(self, act: LedgerAct) -> float:
        return min(act.time_left, self.timeout)

    def _write(self, act: LedgerAct, statement: sql.Executable) -> None:
        self._transact(self._time(act), lambda connection: connection.execute(statement))

    def _transact(self, seconds: float, work: Callable[[sql.Connection], Result]) -> Result:
        def run() -> Result:
            with self._database.transaction(seconds) as connection:
                return work(connection)

        return undisturbed(run)


def _entry(row: sql.Row[Any]) -> Entry:
    values = cast("dict[str, Any]", dict(row._mapping))  # noqa: SLF001 - SQLAlchemy's public way
    if values["outcome"] is not None:
        values["outcome"] = json.loads(values["outcome"])
    return Entry(**values)
