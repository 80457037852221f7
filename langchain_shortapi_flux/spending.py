"""``Budget``: what jobs may cost together, what they have cost, what is left.

It knows the official page's prices and what may be started, and nothing of when a job is, of HTTP
or of time; ``budget_books`` counts. A job's life here::

    reserve ── no job was made ──> give_back
       ├────── nobody can tell ──> keep: stays reserved, listed in Budget.unknown
       └────── bought ── settle, settle, ... ──> spent, less what was refunded
"""

from __future__ import annotations

import os
import reprlib
from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

from langchain_shortapi_flux.budget_books import Amounts, Books, Line, read_usd, units_of, usd_of
from langchain_shortapi_flux.errors import BudgetExceeded, ConfigurationError, NotCreated
from langchain_shortapi_flux.job import FLUX_MODEL

if TYPE_CHECKING:
    from types import TracebackType

    from langchain_shortapi_flux.job import FluxJob, FluxRequest, Performance

__all__ = ["Amounts", "Budget", "Reservation"]

PAGE_PRICES: Mapping[Performance, Decimal] = MappingProxyType(
    {"schnell": Decimal("0.002"), "dev": Decimal("0.02")}
)
"""USD per request to that model, as the official page has it."""
PAGE_PERFORMANCE: Performance = "dev"
"""What the official page says ``performance`` is when left out."""
PAGE_NUM_IMAGES = 1
"""What the official page says ``num_images`` is when left out."""

Usd = str | Decimal | int
"""An amount as users write it. A float is none, for 0.1 is not a tenth."""


class Budget:
    """An upper bound: no job is started whose price is more than what is left.

    Shared by any number of Runnables, tools, threads and tasks **of one process**::

        budget = Budget(usd="5.00")
        flux = ShortAPIFlux(budget=budget)

    Before create, the worst case is reserved: the price of a request times the number of pictures,
    for the official page does not say whether more of them cost more. It stays reserved until the
    job has ended. Then counts what the service reports, also if it is more, or the reserved price
    where it reports nothing. A refusal or a refund gives back. What nobody can tell the outcome of
    stays reserved; see ``unknown``.

    A copy is the same budget. A pickle, or a forked process, gets one that can be read and starts
    nothing: two processes would spend the same money twice.

    Args:
        usd: What jobs may cost together, as text (``"5.00"``), ``Decimal`` or ``int``.
        price: USD of one request: one price whatever the model, or one for each model id. The
            official page's own model has the page's prices (0.002 for ``schnell``, 0.02 for
            ``dev``) unless it is given one here; another model needs one.

    Raises:
        TypeError: An amount is a float, or no amount at all.
        ValueError: An amount is negative, not finite, above ``USD_MAX`` or has more than
            ``DECIMAL_PLACES``.
    """

    def __init__(self, usd: Usd, *, price: Usd | Mapping[str, Usd] | None = None) -> None:
        self._books = Books(read_usd("usd", usd))
        self._process: int | None = os.getpid()
        self._prices: dict[str, int] = {}
        self._price: int | None = None
        if isinstance(price, Mapping):
            self._prices = {
                model: read_usd(f"price[{reprlib.repr(model)}]", one)
                for model, one in price.items()
            }
        elif price is not None:
            self._price = read_usd("price", price)

    @property
    def amounts(self) -> Amounts:
        """All four amounts in USD, read at one moment."""
        return self._books.amounts()

    @property
    def usd(self) -> Decimal:
        """USD that jobs may cost together, from the beginning."""
        return self.amounts.usd

    @property
    def spent(self) -> Decimal:
        """USD that ended jobs cost, less what was refunded."""
        return self.amounts.spent

    @property
    def reserved(self) -> Decimal:
        """USD that jobs may cost which have not ended, or whose outcome nobody knows."""
        return self.amounts.reserved

    @property
    def left(self) -> Decimal:
        """USD that further jobs may cost. Below zero where the service charged more than that."""
        return self.amounts.left

    @property
    def unknown(self) -> tuple[Reservation, ...]:
        """What stays reserved because nobody can tell what came of it, the oldest first.

        Each create whose answer was lost, and each failed job of which the service does not say
        whether it was charged. After a look at the account::

            for reservation in budget.unknown:
                reservation.give_back()  # nothing was charged; or
                reservation.spend("0.02")  # so much was; or, where a job turned up,
                reservation.bought(flux.query(job_id))
        """
        with self._books.lock:
            lines = list(self._books.unknown)
        return tuple(Reservation(self._books, line) for line in lines)

    def price_of(self, request: FluxRequest, model: str) -> Decimal:
        """USD that a job may cost at worst. Options left out are what the official page says.

        Args:
            request: What is asked for.
            model: The service's model id.

        Raises:
            ConfigurationError: What a request to that model costs is not known.
        """
        return usd_of(self._price_of_one(request, model) * (request.num_images or PAGE_NUM_IMAGES))

    def reserve(self, request: FluxRequest, model: str, base_url: str) -> Reservation:
        """Set aside what a job may cost at worst, before it is created.

        Args:
            request: What is asked for.
            model: The service's model id.
            base_url: The service: the job is known by it and its id.

        Raises:
            BudgetExceeded: That is more than what is left.
            ConfigurationError: What a request to that model costs is not known, or the budget is
                another process's.
        """
        if self._is_a_copy():
            raise ConfigurationError(
                "budget: it belongs to another process, and this copy of it starts nothing, for "
                "both would spend the same money; give this process a Budget of its own"
            )
        one = self._price_of_one(request, model)
        count = request.num_images or PAGE_NUM_IMAGES
        line = Line(one * count, model, base_url)
        with self._books.lock:
            too_little = self._books.reserve(line)
        if too_little is not None:
            raise _exceeded(too_little, one, count)
        return Reservation(self._books, line)

    def settle(self, job: FluxJob) -> None:
        """Take note of what ``job`` says. Jobs not bought from this budget are ignored.

        It may be called with every snapshot, again and again, from any call that follows the job.
        """
        with self._books.lock:
            self._books.settle(job)

    def _price_of_one(self, request: FluxRequest, model: str) -> int:
        price = self._prices.get(model, self._price)
        if price is not None:
            return price
        if model != FLUX_MODEL:
            raise ConfigurationError(
                f"budget: what a request to the model {model!r} costs is not known; say it in USD "
                'with Budget(..., price="0.05"); nothing was sent'
            )
        return units_of(PAGE_PRICES[request.performance or PAGE_PERFORMANCE])

    def _is_a_copy(self) -> bool:
        return self._process != os.getpid()

    def __copy__(self) -> Budget:
        """Copies of a Runnable spend from the same budget."""
        return self

    def __deepcopy__(self, _: object) -> Budget:
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Another process may read it."""
        return {**self.__dict__, "_process": None}

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={amount:f}" for name, amount in self.amounts._asdict().items())
        return f"Budget({shown}{', of another process' if self._is_a_copy() else ''})"


class Reservation:
    """What is set aside for one job, from before create until the job has ended.

    As a context manager around create it reads how that went: ``NotCreated`` gives back, and every
    other way out without ``bought`` keeps it reserved, for a job may have been made. Calling a
    method again changes nothing.
    """

    def __init__(self, books: Books, line: Line) -> None:
        self._books = books
        self._line = line

    @property
    def price(self) -> Decimal:
        """USD that the job may cost at worst."""
        return usd_of(self._line.price)

    @property
    def model(self) -> str:
        """The model id that was asked for."""
        return self._line.model

    @property
    def base_url(self) -> str:
        """The service that was asked."""
        return self._line.base_url

    @property
    def job_id(self) -> str | None:
        """The service's id of the job, if one is known."""
        return None if self._line.key is None else self._line.key[1]

    def bought(self, job: FluxJob) -> None:
        """A job was made; from now on ``Budget.settle`` knows ``job`` by its id.

        It counts even after ``give_back``: the service has charged it all the same.
        """
        with self._books.lock:
            self._books.bought(self._line, job)

    def give_back(self) -> None:
        """Nothing was charged: no job was made, or a failed one was free after all.

        Changes nothing for a job that runs, or of which the service has said what it cost.
        """
        with self._books.lock:
            self._books.end(self._line, spent=0)

    def spend(self, usd: Usd) -> None:
        """``usd`` were charged, as the account shows. Otherwise as ``give_back``.

        Raises:
            TypeError: As for ``Budget``.
            ValueError: As for ``Budget``.
        """
        spent = read_usd("usd", usd)
        with self._books.lock:
            self._books.end(self._line, spent=spent)

    def keep(self, job_id: str | None = None) -> None:
        """Nobody can tell whether a job was made; if it is ``job_id``, ``Budget.settle`` may."""
        with self._books.lock:
            self._books.keep(self._line, job_id)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, NotCreated):
            self.give_back()
        else:
            self.keep(getattr(error, "job_id", None))

    def __repr__(self) -> str:
        job = f"job {self.job_id}" if self.job_id is not None else "no job known"
        return f"Reservation({self.price:f} USD, {self.model}, {self.base_url}, {job})"


def _exceeded(amounts: Amounts, one: int, count: int) -> BudgetExceeded:
    price = usd_of(one * count)
    pictures = f" ({count} pictures at {usd_of(one):f})" if count > 1 else ""
    error = BudgetExceeded(
        f"the job may cost {price:f} USD{pictures}, and {amounts.left:f} of the budget's "
        f"{amounts.usd:f} USD are left ({amounts.spent:f} spent, {amounts.reserved:f} reserved for "
        "jobs that have not ended); nothing was sent"
    )
    error.price, error.left, error.usd = price, amounts.left, amounts.usd
    return error
