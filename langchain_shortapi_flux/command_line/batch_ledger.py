"""Under which keys the lines of a batch are bought, and what the ledger knows of each.

So a batch that was broken off goes on where it stopped, and one whose ledger failed meanwhile is
told. It knows nothing of how jobs are bought.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, TypeVar

from langchain_shortapi_flux.ledger import Bought, Claim, purchase_key

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from langchain_shortapi_flux.job import FluxRequest
    from langchain_shortapi_flux.ledger import Entry
    from langchain_shortapi_flux.sql_ledger import SqlLedger

_T = TypeVar("_T")


def line_keys(requests: Sequence[FluxRequest], model: str) -> list[str]:
    """A request key for each line: by what it asks for, and how many equal ones stand above it.

    Never by its number: lines may be moved, added and taken out, and what was bought stays bought.

    Args:
        requests: With their options filled in.
        model: Whom they are for.
    """
    equals: Counter[str] = Counter()
    keys = []
    for request in requests:
        # Without what is unset, so that an option of a later version changes no key of today's.
        asked = [model, request.model_dump(exclude_none=True)]
        text = json.dumps(asked, sort_keys=True, separators=(",", ":"))
        digest = hashlib.sha256(text.encode()).hexdigest()
        equals[digest] += 1
        keys.append(f"batch {digest} {equals[digest]}")
    return keys


@dataclass(frozen=True)
class Known:
    """What a ledger knows of the lines of a batch, at one moment.

    Attributes:
        entries: By the line's place in the batch; lines without one were never bought.
        now: When it was asked, in Unix seconds.
    """

    entries: Mapping[int, Entry]
    now: float

    @property
    def ended(self) -> list[int]:
        """The lines whose job has ended, one way or the other."""
        return [place for place, entry in self.entries.items() if entry.state == "ended"]

    @property
    def running(self) -> list[int]:
        """The lines whose job was not seen to end."""
        return [place for place, entry in self.entries.items() if entry.state == "bought"]

    @property
    def being_bought(self) -> list[int]:
        """The lines that another run is buying, or was buying when it died."""
        return [
            place
            for place, entry in self.entries.items()
            if entry.state == "claimed" and entry.lease_ends > self.now
        ]

    @property
    def in_doubt(self) -> list[int]:
        """The lines that may have been charged without anybody knowing."""
        others = {*self.ended, *self.running, *self.being_bought}
        return [place for place in self.entries if place not in others]

    def lost(self, jobs: Mapping[int, str | None], holders: Mapping[int, str]) -> list[int]:
        """The lines that are not kept as what they are.

        One that another run has claimed meanwhile is not lost: it is that run's now.

        Args:
            jobs: The job of each line, by its place; None where nobody can tell whether there is
                one.
            holders: As whose claim each job is known, as far as this run bought it.
        """
        return [
            place
            for place, job_id in jobs.items()
            if (entry := self.entries.get(place)) is None
            or (job_id is not None and entry.job_id is None and entry.holder == holders.get(place))
        ]

    @property
    def wait(self) -> float:
        """Seconds until nobody can be buying any more."""
        ends = (self.entries[place].lease_ends - self.now for place in self.being_bought)
        return max(ends, default=0.0)


class BatchLedger:
    """Looks up the lines of one batch.

    Args:
        ledger: Where they are kept; None where nothing outlives the command.
        base_url: The service.
        keys: As ``line_keys`` gives them.
        wall: Unix seconds.
    """

    def __init__(
        self,
        ledger: SqlLedger | None,
        base_url: str,
        keys: Sequence[str],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._ledger = ledger
        self._places = {purchase_key(base_url, key): place for place, key in enumerate(keys)}
        self._wall = wall

    def look(self) -> Known:
        """What is known of them now. It raises what the ledger raises.

        Raises:
            ValueError: A row, of whatever line, cannot be read.
        """
        found: dict[int, Entry] = {}
        for entry in () if self._ledger is None else self._ledger.entries():
            # SQLite keeps any text in a column of numbers.
            if not (isinstance(entry.claimed_at, Real) and isinstance(entry.lease_ends, Real)):
                raise ValueError(  # noqa: TRY004 - like a row that holds no JSON
                    f"key {entry.key}: a time in the ledger is no number"
                )
            if entry.key in self._places:
                found[self._places[entry.key]] = entry
        return Known(found, self._wall())

    def look_afresh(self) -> Known:
        """As ``look``, on a new connection: an old one may show a file that is deleted by now."""
        if self._ledger is not None:
            self._ledger.close()
        return self.look()

    def by_place(self, known: Mapping[str, _T]) -> dict[int, _T]:
        """What is known of the lines, by their places, from what is known by the ledger's keys."""
        return {self._places[key]: what for key, what in known.items() if key in self._places}

    def unkept(
        self,
        jobs: Mapping[int, str | None],
        holders: Mapping[int, str],
        digest_of: Callable[[int], str],
    ) -> tuple[list[int], Known]:
        """The lines that the ledger has lost, though it was told again; and what it knows.

        It raises what the ledger raises when it is looked at.

        Args:
            jobs: As ``Known.lost`` takes them.
            holders: Likewise.
            digest_of: The hash of what a line asks for, by its place.
        """
        known = self.look_afresh()
        lost = known.lost(jobs, holders)
        if self._ledger is None or not lost:
            return [], known
        keys = {place: key for key, place in self._places.items()}
        # Whatever a database raises: each further line could wait as long for the same lock, and
        # what is still lost is seen below.
        with suppress(Exception):
            for place in lost:
                holder = holders.get(place) or secrets.token_hex()
                if place not in known.entries:
                    # Without a lease: whoever finds a claim that got no further is not to wait.
                    digest = digest_of(place)
                    self._ledger.claim(Claim(keys[place], digest, holder, self._wall(), lease=0.0))
                job_id = jobs[place]
                if job_id is not None:
                    self._ledger.bought(Bought(keys[place], holder, job_id))
        known = self.look()
        return known.lost(jobs, holders), known
