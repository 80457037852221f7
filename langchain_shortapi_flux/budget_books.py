"""A budget's books: what each job reserves or has cost, and the totals. Whole units, under a lock.

It knows how a snapshot of a job counts, and nothing of prices, of models or of who asks. A unit is
``10 ** -DECIMAL_PLACES`` USD: sums of integers are exact, whatever a thread's decimal context says.
"""

from __future__ import annotations

import math
import reprlib
from dataclasses import dataclass
from decimal import Context, Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, NamedTuple

from langchain_shortapi_flux.process_lock import ProcessLock

if TYPE_CHECKING:
    import threading

    from langchain_shortapi_flux.job import FluxJob

USD_MAX = 1_000_000_000
"""No amount is larger; a larger one that the service reports counts as this much."""
DECIMAL_PLACES = 12
"""How finely USD are counted; a finer amount that the service reports is rounded up."""


class Amounts(NamedTuple):
    """What a budget stands at, in USD, all read at one moment.

    Attributes:
        usd: USD that jobs may cost together.
        spent: USD that jobs cost which have ended, less what was refunded.
        reserved: USD that jobs may cost which have not ended, or whose outcome nobody knows.
        left: USD that are left. Below zero where the service charged more than could be expected.
    """

    usd: Decimal
    spent: Decimal
    reserved: Decimal
    left: Decimal


@dataclass(eq=False, slots=True)
class Line:
    """One job in the books, until it is closed: then it does not change any more."""

    price: int
    model: str
    base_url: str
    reserved: int = 0
    spent: int = 0
    reported: int | None = None
    key: tuple[str, str] | None = None  # base URL and job id
    ended: bool = False
    closed: bool = False


class Books:
    """The totals, and the lines that may still change them. All but ``amounts`` under ``lock``.

    The lock lets the thread in again that has it. That is safe where garbage collection closes a
    flow, which keeps or gives back its reservation: it touches no line but its own and makes no
    total larger, and ``put`` cannot be cut in two.
    """

    def __init__(self, usd: int, reserved: int = 0, spent: int = 0) -> None:
        self.usd = usd
        self.reserved = reserved
        self.spent = spent
        self.jobs: dict[tuple[str, str], Line] = {}
        self.unknown: dict[Line, None] = {}
        self._lock = ProcessLock()

    @property
    def lock(self) -> threading.RLock:
        """This process's."""
        return self._lock.own

    def __reduce__(self) -> tuple[Any, ...]:
        """The totals alone: jobs are settled where they were bought."""
        with self.lock:
            return (Books, (self.usd, self.reserved, self.spent))

    def amounts(self) -> Amounts:
        """The totals of one moment."""
        with self.lock:
            reserved, spent = self.reserved, self.spent
        left = self.usd - reserved - spent
        return Amounts(usd_of(self.usd), usd_of(spent), usd_of(reserved), usd_of(left))

    def put(self, line: Line, *, reserved: int = 0, spent: int = 0) -> None:
        """What a line comes to from now on."""
        # No call in here: nothing may come between reading a total and writing it.
        self.spent += spent - line.spent
        line.spent = spent
        self.reserved += reserved - line.reserved
        line.reserved = reserved

    def reserve(self, line: Line) -> Amounts | None:
        """Set aside its price; None if that is done, else the amounts that do not cover it."""
        if line.price > self.usd - self.reserved - self.spent:
            return self.amounts()
        self.put(line, reserved=line.price)
        return None

    def bought(self, line: Line, job: FluxJob) -> None:
        """A job was made for that line, whatever was thought of it before."""
        if line.key is None:
            line.closed = False
            self.put(line, reserved=line.price)
            self.name(line, (job.base_url or line.base_url, job.job_id))
        if line.key is not None and line.key[1] == job.job_id:
            self.read(line, job)

    def keep(self, line: Line, job_id: str | None) -> None:
        """Nobody can tell whether a job was made; if so, it may be this one."""
        if line.key is None and not line.closed:
            self.unknown[line] = None
            if job_id is not None:
                self.name(line, (line.base_url, job_id))

    def name(self, line: Line, key: tuple[str, str]) -> None:
        """From now on the line is found by its job."""
        if self.jobs.setdefault(key, line) is line:
            line.key = key
        else:
            # Two creates were answered with one id; what came of the second nobody can tell.
            self.unknown[line] = None

    def end(self, line: Line, *, spent: int) -> None:
        """Close a line of which the service has not said what it came to. It still may."""
        if line.key is None or line in self.unknown:
            self.close(line, spent=spent)
            line.key = None

    def close(self, line: Line, *, spent: int) -> None:
        """What it comes to is final."""
        if line.closed:
            return
        self.put(line, spent=spent)
        line.closed = True
        self.unknown.pop(line, None)
        if line.key is not None:
            del self.jobs[line.key]

    def settle(self, job: FluxJob) -> None:
        """Let a snapshot count, if its job was bought from here."""
        line = self.jobs.get((job.base_url or "", job.job_id))
        if line is not None:
            self.read(line, job)

    def read(self, line: Line, job: FluxJob) -> None:
        """What a snapshot says of a line. One older than what is known changes nothing."""
        reported = _reported(job.cost)
        if line.closed or (line.ended and job.status == "pending"):
            return
        if reported is not None:
            line.reported = reported
        if job.status == "pending":
            # What a running job is said to cost may yet grow, so it never makes room for others.
            self.unknown.pop(line, None)
            self.put(line, reserved=max(line.reserved, reported or 0))
            return
        line.ended = True
        cost = line.price if line.reported is None else line.reported
        rest = max(cost - _given_back(job, cost), 0)
        if job.images or rest == 0:
            self.close(line, spent=rest)
        elif job.status == "failed" and job.charge == "unknown":
            if line.spent == 0:
                self.unknown[line] = None
                self.put(line, reserved=rest)
        else:
            # Paid, and no picture: it stays open, for the refund may come later.
            self.unknown.pop(line, None)
            self.put(line, spent=rest)


# --- amounts --------------------------------------------------------------------------------------

# Wide enough for every amount; the thread's own context may round to a few digits.
_EXACT = Context(prec=80)
_CENT = Decimal("0.01")


def units_of(usd: Decimal) -> int:
    """Rounded up where it is finer than a unit."""
    return math.ceil(usd.scaleb(DECIMAL_PLACES, _EXACT))


def usd_of(units: int) -> Decimal:
    """In cents, or as finely as it takes."""
    usd = Decimal(units).scaleb(-DECIMAL_PLACES, _EXACT).normalize(_EXACT)
    cents = usd.quantize(_CENT, context=_EXACT)
    return cents if cents == usd else usd


def read_usd(name: str, value: object) -> int:
    """An amount as a user writes it, in units.

    Raises:
        TypeError: It is a float, or no amount at all.
        ValueError: It is negative, not finite, too large or too fine.
    """
    if isinstance(value, bool) or not isinstance(value, (str, Decimal, int)):
        raise TypeError(
            f"{name}={reprlib.repr(value)}: allowed is USD as text such as '5.00', as Decimal or "
            "int; a float is not exact"
        )
    try:
        usd = Decimal(value)
    except InvalidOperation:
        usd = Decimal("NaN")
    if usd.is_finite() and 0 <= usd <= USD_MAX and usd_of(units_of(usd)) == usd:
        return units_of(usd)
    raise ValueError(
        f"{name}={reprlib.repr(value)}: allowed is USD from 0 to {USD_MAX:,} with at most "
        f"{DECIMAL_PLACES} decimal places"
    )


def _reported(usd: Decimal | None) -> int | None:
    """What the service reports; anything odd counts as unreported."""
    if usd is None or not usd.is_finite() or usd < 0:
        return None
    return units_of(min(usd, Decimal(USD_MAX)))


def _given_back(job: FluxJob, cost: int) -> int:
    back = _reported(job.refunded) or 0
    if job.charge == "none" or (job.charge == "refunded" and back == 0):
        return cost
    return back
