"""``dumpd`` and ``load`` of what purchases are bound by: never lost without a word."""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.load import dumpd, dumps, load
from langchain_core.rate_limiters import InMemoryRateLimiter

from langchain_shortapi_flux import (
    Budget,
    CallbackReceiver,
    MemoryLedger,
    ShortAPIFlux,
    SqlLedger,
)

if TYPE_CHECKING:
    from pathlib import Path


def loaded(dumped: Any, **options: Any) -> ShortAPIFlux:
    """What ``load`` makes of it as JSON, with the arguments that the README names."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The function `load` is in beta")
        flux = load(
            json.loads(json.dumps(dumped)),
            allowed_objects=[ShortAPIFlux],
            valid_namespaces=["langchain_shortapi_flux"],
            **options,
        )
    assert isinstance(flux, ShortAPIFlux)
    return flux


def test_a_budget_is_not_lost_by_loading_without_a_word() -> None:
    """What is loaded would spend without a bound; its amounts are of this process alone."""
    dumped = dumpd(ShortAPIFlux(budget=Budget(usd="5.00")))
    with pytest.raises(NotImplementedError, match="Budget"):
        loaded(dumped)
    assert "5.00" not in json.dumps(dumped)


def test_who_says_so_may_load_without_the_budget() -> None:
    """By LangChain's own word for it."""
    dumped = dumpd(ShortAPIFlux(budget=Budget(usd="5.00"), performance="schnell"))
    flux = loaded(dumped, ignore_unserializable_fields=True)
    assert (flux.budget, flux.performance) == (None, "schnell")


def test_a_ledger_that_outlives_the_process_is_not_lost_by_loading_without_a_word(
    tmp_path: Path,
) -> None:
    """What is loaded would buy again what is known there; its URL may hold a password."""
    ledger = SqlLedger(f"sqlite:///{tmp_path}/horse-battery.db")
    flux = ShortAPIFlux(ledger=ledger)
    with pytest.raises(NotImplementedError, match="SqlLedger"):
        loaded(dumpd(flux))
    assert "horse" not in dumps(flux)


def test_what_costs_nothing_to_lose_is_left_out() -> None:
    """A memory of one process, LangChain's rate limiter (as in its own models), a receiver."""
    flux = ShortAPIFlux(
        ledger=MemoryLedger(),
        rate_limiter=InMemoryRateLimiter(),
        callback_receiver=CallbackReceiver("https://my.host/flux"),
        performance="schnell",
    )
    again = loaded(dumpd(flux))
    assert (again.performance, again.rate_limiter, again.callback_receiver) == (
        "schnell",
        None,
        None,
    )
    assert again.ledger is not flux.ledger
