"""Knows how to look at a page in headless Chromium: what it asked for, what failed, what it shows.

It must not know whose page it is. ``from browser.chromium import opened`` in a test marked
``browser``; where Chromium or Playwright is missing, the test is skipped and says which.
"""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Request

NAMES = ("chromium", "chromium-browser")
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
LOCAL_SCHEMES = frozenset({"about", "blob", "data", "file"})

DEADLINE_MS = 20_000  # For each thing a test waits for; reached only when something is broken.
WIDTH_PX, HEIGHT_PX = 1_200, 900

_ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Whatever is not loopback ends at a port where nobody listens, by name and by address.
    "--proxy-server=http://127.0.0.1:9",
)

# A picture further down is not loaded until it is looked at; here all of them are.
_DECODE_ALL = """async (deadlineMs) => Promise.all(Array.from(document.images, async (image) => {
    image.loading = "eager";
    const late = new Promise((end) => setTimeout(end, deadlineMs));
    await Promise.race([image.decode().catch(() => {}), late]);
    return {
        source: image.currentSrc, alt: image.alt, complete: image.complete,
        width: image.naturalWidth, height: image.naturalHeight,
        shown_width: image.clientWidth, shown_height: image.clientHeight,
    };
}))"""


@dataclass(frozen=True)
class LoadedPicture:
    """An ``<img>`` after the browser decoded it, or could not; 0 pixels if it could not."""

    source: str
    alt: str
    complete: bool
    width: int
    height: int
    shown_width: int
    shown_height: int


@dataclass
class OpenedPage:
    """A page in the browser, and all that happened while it was there.

    ``requests`` are the URLs of everything asked for, by its frames and pop-ups too; ``failed``
    are those that got no answer, with why.
    """

    page: Page
    requests: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    console_errors: list[str] = field(default_factory=list)
    page_errors: list[str] = field(default_factory=list)

    def pictures(self) -> list[LoadedPicture]:
        """Every picture in every frame, once all are decoded or have failed."""
        found: list[dict[str, Any]] = []
        for frame in self.page.frames:
            # What Chromium shows in place of a frame that failed has pictures of its own.
            if not frame.url.startswith("chrome-error:"):
                found += frame.evaluate(_DECODE_ALL, DEADLINE_MS)
        return [LoadedPicture(**one) for one in found]

    def assert_nothing_left_loopback(self) -> None:
        """Nothing was asked of another machine; what the browser refused to ask counts too."""
        assert self.requests, "the browser asked for nothing at all: it saw no page"
        left = [url for url in self.requests if not is_local(url)]
        assert not left, f"asked for from outside this machine: {left}"

    def assert_no_errors(self) -> None:
        """No line of error in the console, no exception in a script, no answer missing."""
        told = {
            "console": self.console_errors,
            "scripts": self.page_errors,
            "requests": self.failed,
        }
        assert not any(told.values()), told


@contextmanager
def opened(
    url: str,
    *,
    color_scheme: Literal["light", "dark"] = "light",
    width: int = WIDTH_PX,
    height: int = HEIGHT_PX,
    javascript: bool = True,
) -> Iterator[OpenedPage]:
    """A page, loaded, in a browser of its own, which is closed at the end.

    For tests that are plain functions: Playwright's blocking half cannot run inside a loop.
    """
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip("chromium is not installed: the browser checks are skipped")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        pytest.skip("playwright is not installed: the browser checks are skipped")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=[*_ARGUMENTS])
        try:
            context = browser.new_context(
                color_scheme=color_scheme,
                viewport={"width": width, "height": height},
                java_script_enabled=javascript,
            )
            context.set_default_timeout(DEADLINE_MS)
            shown = OpenedPage(context.new_page())
            _listen(context, shown)
            shown.page.goto(url)
            yield shown
        finally:
            browser.close()


def is_local(url: str) -> bool:
    """Whether nothing leaves this machine when that is loaded."""
    parts = urlsplit(url)
    if parts.scheme in LOCAL_SCHEMES:
        return not parts.hostname  # A file may be another machine's, too.
    return parts.hostname in LOOPBACK


def _listen(context: BrowserContext, shown: OpenedPage) -> None:
    def failed(request: Request) -> None:
        shown.failed.append(f"{request.url}: {request.failure}")

    def said(message: ConsoleMessage) -> None:
        if message.type == "error":
            shown.console_errors.append(message.text)

    context.on("request", lambda request: shown.requests.append(request.url))
    context.on("requestfailed", failed)
    context.on("console", said)
    context.on("weberror", lambda error: shown.page_errors.append(str(error.error)))
    shown.page.on("websocket", lambda websocket: shown.requests.append(websocket.url))
