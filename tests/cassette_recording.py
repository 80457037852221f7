"""Plays cassettes to the tests that take ``recorded_flux``, and records them when told to.

It knows which cassette belongs to which test, and what a recording talks to. How a cassette is
written is ``cassette_file``'s business.

::

    python -m pytest tests/test_recorded_jobs.py                                    # plays them
    python -m pytest tests/test_recorded_jobs.py -k refunded --record-mode=rewrite  # records one
"""

from __future__ import annotations

import argparse
import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from cassette_file import (
    OFFICIAL_API,
    CassetteText,
    cleaned_reply,
    cleaned_request,
    read_origin,
    same_body,
)
from pytest_recording.network import blocking_context
from quick_flux import QUICK_POLL, QUICK_RETRY
from yaml import safe_load

from langchain_shortapi_flux import PollPolicy, RetryLimits, ShortAPIFlux
from langchain_shortapi_flux.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

KEY_VARIABLE = "SHORTAPI_KEY"
NO_KEY = "no-key-is-needed-to-play-a-cassette"
RECORDING_GAP_SECONDS = 1.0
"""Between two queries of the sandbox, so that how many a job takes is not left to chance."""
RECORDING_POLL = PollPolicy(
    first_delay=0.0, gap_min=RECORDING_GAP_SECONDS, gap_max=RECORDING_GAP_SECONDS, jitter=0.0
)


@dataclass(frozen=True)
class Recording:
    """What a test's cassette is recorded from; ``@pytest.mark.recording`` takes the fields.

    Attributes:
        sandbox: The sandbox's settings.
        live_usd: What a live recording may spend; None where the service cannot be made to do it.
    """

    sandbox: dict[str, Any] = field(default_factory=dict)
    live_usd: str | None = None


@dataclass(frozen=True)
class Service:
    """What the test talks to, or seems to: the cassette, a sandbox being recorded, the service."""

    base_url: str = OFFICIAL_API
    api_key: str = field(default=NO_KEY, repr=False)
    sandbox_origin: str | None = None
    poll: PollPolicy = QUICK_POLL
    retry: RetryLimits = QUICK_RETRY


_TEXT_OF_THIS_TEST = pytest.StashKey[CassetteText]()
_KEY = pytest.StashKey[str]()


# --- command line -------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where to record from, what it may cost, and where cassettes lie."""
    group = parser.getgroup("cassettes")
    group.addoption(
        "--record-from",
        choices=("sandbox", "live"),
        default="sandbox",
        help="What --record-mode=rewrite records; live needs SHORTAPI_KEY and costs money.",
    )
    group.addoption(
        "--spend-up-to",
        type=amount_in_usd,
        default=None,
        help="USD that --record-from=live may spend.",
    )
    group.addoption(
        "--cassettes-in",
        type=Path,
        default=Path(__file__).parents[1] / "cassettes",
        help="Folder of the cassettes.",
    )


def amount_in_usd(text: str) -> Decimal:
    """An amount as given on the command line."""
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal(-1)
    if not amount.is_finite() or amount < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no amount in USD")
    return amount


def pytest_configure(config: pytest.Config) -> None:
    """Refuse the ways of recording that could mix old replies with new ones."""
    config.addinivalue_line(
        "markers", "recording(sandbox, live_usd): what a test's cassette is recorded from."
    )
    if config.getoption("record_mode") not in (None, "none", "rewrite"):
        raise pytest.UsageError("cassettes are played, or recorded whole: --record-mode=rewrite")
    if _live(config) and not _records(config):
        raise pytest.UsageError("--record-from=live records: it goes with --record-mode=rewrite")
    # Kept now, for no test finds it in its environment.
    config.stash[_KEY] = os.environ.get(KEY_VARIABLE, "").strip() if _live(config) else ""


def _records(config: pytest.Config) -> bool:
    return bool(config.getoption("record_mode") == "rewrite")


def _live(config: pytest.Config) -> bool:
    return bool(config.getoption("record_from") == "live")


# --- which tests, which cassettes ---------------------------------------------------------------


def pytest_itemcollected(item: pytest.Item) -> None:
    """A test that takes ``recorded_flux`` plays a cassette, and has no sandbox."""
    fixtures = getattr(item, "fixturenames", [])
    if "recorded_flux" in fixtures:
        if "sandbox" in fixtures:
            raise pytest.UsageError(f"{item.nodeid}: a cassette or the sandbox, never both")
        item.add_marker("vcr")
    elif item.get_closest_marker("vcr"):
        raise pytest.UsageError(f"{item.nodeid}: a test on a cassette takes recorded_flux")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """When recording: each cassette once, none that is hand-written, and not for more than agreed.

    Raises:
        pytest.UsageError: A live recording lacks the key or the permission to spend.
    """
    if not _records(config):
        return
    recorded: dict[Path, pytest.Item] = {}
    for item in items:
        if item.get_closest_marker("vcr"):
            path = cassette_of(item)
            reason = _why_not(item, path, live=_live(config), done=path in recorded)
            if reason is None:
                recorded[path] = item
            else:
                item.add_marker(pytest.mark.skip(reason=reason))
    if _live(config):
        bounds = (Decimal(_recording(item).live_usd or 0) for item in recorded.values())
        spend = sum(bounds, Decimal())
        said = f"Recording {len(recorded)} cassettes live may spend up to {spend} USD"
        problem = why_not_live(config.stash[_KEY], spend, config.getoption("spend_up_to"))
        if problem is not None:
            raise pytest.UsageError(f"{said}; nothing was sent: {problem}")
        config.get_terminal_writer().line(f"{said} (the official page's prices).")


def why_not_live(key: str, spend: Decimal, limit: Decimal | None) -> str | None:
    """What a live recording lacks; None if it may begin."""
    if not key:
        return f"{KEY_VARIABLE} is not set"
    if limit is None or spend > limit:
        return f"to agree to it, add --spend-up-to={spend}"
    return None


def _why_not(item: pytest.Item, path: Path, *, live: bool, done: bool) -> str | None:
    if done:
        return "its cassette was recorded by the test before; run again without --record-mode"
    if path.is_file() and read_origin(safe_load(path.read_text("utf-8")))[0] == "documented":
        return "its cassette is written by hand, after the official page"
    if live and _recording(item).live_usd is None:
        return "the service cannot be made to do this"
    return None


def cassette_of(item: pytest.Item) -> Path:
    """The cassette of a test: its module's folder, its name, whichever driver plays it."""
    marker = item.get_closest_marker("default_cassette")
    name = marker.args[0] if marker else getattr(item, "originalname", item.name)
    folder = cast("Path", item.config.getoption("cassettes_in"))
    return folder / _bare(item.path.stem) / f"{_bare(name)}.yaml"


def _bare(name: str) -> str:
    return name.removeprefix("test_")


def _recording(item: pytest.Item) -> Recording:
    marker = item.get_closest_marker("recording")
    return Recording(**marker.kwargs) if marker else Recording()


# --- what pytest-recording asks for -------------------------------------------------------------


@pytest.fixture(scope="module")
def vcr_cassette_dir(request: pytest.FixtureRequest) -> str:
    """The module's folder of cassettes."""
    folder = cast("Path", request.config.getoption("cassettes_in"))
    return str(folder / _bare(request.node.path.stem))


@pytest.fixture
def default_cassette_name(request: pytest.FixtureRequest) -> str:
    """The test's cassette, without its ending."""
    return cassette_of(request.node).stem


@pytest.fixture
def vcr_config(request: pytest.FixtureRequest) -> dict[str, Any]:
    """How cassettes are matched and cleaned. No record_mode: it would beat the command line."""
    if "recorded_flux" not in request.fixturenames:
        return {}
    service: Service = request.getfixturevalue("_service")
    request.config.stash[_TEXT_OF_THIS_TEST] = CassetteText(
        source=str(request.config.getoption("record_from")),
        note=_first_line(request),
        secret=service.api_key,
    )
    return {
        "match_on": ["method", "uri", "same_body"],
        "allow_playback_repeats": False,  # else a polled job stays queued for ever
        "before_record_request": partial(cleaned_request, origin=service.sandbox_origin),
        "before_record_response": partial(cleaned_reply, origin=service.sandbox_origin),
    }


def _first_line(request: pytest.FixtureRequest) -> str:
    shared = request.node.get_closest_marker("default_cassette") and request.cls
    doc = (request.cls if shared else request.function).__doc__ or ""
    return str(doc).strip().split("\n")[0]


def pytest_recording_configure(config: pytest.Config, vcr: Any) -> None:
    """Write and compare as ``cassette_file`` does."""
    vcr.register_serializer("yaml", config.stash[_TEXT_OF_THIS_TEST])
    vcr.register_matcher("same_body", same_body)


# --- what a test takes --------------------------------------------------------------------------


@pytest.fixture
def recorded_flux(_service: Service) -> ShortAPIFlux:
    """A Runnable whose calls are answered by this test's cassette."""
    return ShortAPIFlux(
        base_url=_service.base_url,
        api_key=_service.api_key,
        poll=_service.poll,
        retry=_service.retry,
    )


@pytest.fixture
def _service(request: pytest.FixtureRequest) -> Iterator[Service]:
    if not _records(request.config):
        yield Service()
    elif _live(request.config):
        yield Service(api_key=request.config.stash[_KEY], poll=PollPolicy(), retry=RetryLimits())
    else:
        with _sandbox_alone(_recording(request.node)) as service:
            yield service


@contextmanager
def _sandbox_alone(recording: Recording) -> Iterator[Service]:
    """A sandbox to record from, and no way to any other machine meanwhile."""
    with (
        Sandbox(**{"job_seconds": 0.0, **recording.sandbox}) as sandbox,
        blocking_context(["127.0.0.1"]),
    ):
        yield Service(sandbox.base_url, sandbox.api_key, sandbox.base_url, RECORDING_POLL)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """A test that leaves a part of its cassette unplayed has not seen what it claims to."""
    result = yield
    cassette = getattr(item, "funcargs", {}).get("vcr")
    if cassette is not None and not _records(item.config):
        played, recorded = cassette.play_count, len(cassette)
        if not recorded or played != recorded:
            pytest.fail(f"{played} of the cassette's {recorded} replies were played")
    return result
