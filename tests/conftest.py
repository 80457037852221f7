"""What every test stands on: no key and no proxy in the environment, and a sandbox of its own."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest
from quick_flux import flux_on

from langchain_shortapi_flux import CallbackReceiver
from langchain_shortapi_flux.learned_delay import learned_delays
from langchain_shortapi_flux.pace import pace_of
from langchain_shortapi_flux.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_shortapi_flux import ShortAPIFlux

pytest_plugins = ["cassette_recording", "postgres_server"]

# What is imported and collected lives to the end: to look through it for garbage, again and again,
# took a fifth of the whole suite.
gc.disable()


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    """From here on garbage is collected, among what the tests make."""
    gc.enable()
    gc.collect()
    gc.freeze()


_UNSET = (
    *("SHORTAPI_KEY", "SHORTAPI_API_KEY", "SHORTAPI_BASE_URL", "REQUESTS_CA_BUNDLE"),
    *("SSL_CERT_FILE", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("http_proxy", "https_proxy", "all_proxy", "no_proxy", "LANGSMITH_TRACING"),
    *(
        "LANGCHAIN_TRACING_V2",
        "LANGSMITH_API_KEY",
        "LANGSMITH_HIDE_INPUTS",
        "LANGSMITH_HIDE_OUTPUTS",
    ),
)


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in _UNSET:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def _nothing_learned() -> None:
    """Ports come back, and with them what earlier tests taught about the sandbox on them."""
    pace_of.cache_clear()
    learned_delays.forget()


@pytest.fixture
def quick_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Creates that take turns after an HTTP 429 do so in milliseconds, not in half a second."""
    monkeypatch.setattr("langchain_shortapi_flux.pace.CREATES_PER_SECOND_FIRST", 1_000.0)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A sandbox whose jobs end at once."""
    with Sandbox(job_seconds=0.0) as running:
        yield running


@pytest.fixture
def flux(sandbox: Sandbox) -> ShortAPIFlux:
    """A Runnable on the sandbox that does not dawdle."""
    return flux_on(sandbox)


@pytest.fixture
def receiver() -> Iterator[CallbackReceiver]:
    """One that listens on this machine, in a thread."""
    with CallbackReceiver() as running:
        yield running
