"""Knows the page as HTTP: its paths, who may see it, and what a browser may do with it.

It must not know what the page shows. It only answers reads, for they are all it is for.
"""

from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from langchain_shortapi_flux.sandbox.answers import Answer, refusal
from langchain_shortapi_flux.sandbox.call_log import CallOn
from langchain_shortapi_flux.sandbox.callback_post import is_loopback
from langchain_shortapi_flux.sandbox.job_book import JobBook
from langchain_shortapi_flux.sandbox.page import (
    JOBS_SHOWN,
    PICTURE_QUERY,
    page_html,
    page_json,
    page_look,
)

PAGE_PATH: Final = "/"
JSON_PATH: Final = "/page.json"
READING: Final = ("GET", "HEAD")

_FILE_TYPES: Final = MappingProxyType(
    {"/page.css": "text/css", "/page.js": "text/javascript", "/page.svg": "image/svg+xml"}
)
# Read when imported, for nothing may be read where a loop runs.
_FILES: Final = MappingProxyType(
    {path: Path(__file__).with_name(path[1:]).read_bytes() for path in _FILE_TYPES}
)
PATHS: Final = frozenset({PAGE_PATH, JSON_PATH, *_FILE_TYPES})

_NO_SNIFFING: Final = MappingProxyType({"X-Content-Type-Options": "nosniff"})
_HEADERS: Final = MappingProxyType(
    {
        # Prompts come from models: should one get past the escaping, it still runs nothing.
        "Content-Security-Policy": (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
            "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'; "
            "require-trusted-types-for 'script'; trusted-types 'none'"
        ),
        **_NO_SNIFFING,
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "no-store",
    }
)
PICTURE_HEADERS: Final = MappingProxyType(
    # A picture never changes; loading the page again need not draw it again.
    {**_NO_SNIFFING, "Cache-Control": "private, max-age=3600, immutable"}
)


class PageSite:
    """Answers browsers from a job book."""

    def __init__(self, *, book: JobBook, api_key: str, any_host: bool) -> None:
        """Show this book.

        Args:
            book: The jobs and the money.
            api_key: What is never shown.
            any_host: Answer whatever name the sandbox was called by; else only this machine's,
                or a web site could have its own name lead here and read along.
        """
        self._book = book
        self._api_key = api_key
        self._any_host = any_host

    def is_look(self, request: web.BaseRequest, on: CallOn) -> bool:
        """Whether this only looks, at the page or at a picture on it: no call of a client."""
        if request.method not in READING or not self._is_called_right(request):
            return False
        if on == "image":
            return request.query_string == PICTURE_QUERY
        return on == "other" and request.path in PATHS

    def answer(self, request: web.BaseRequest) -> Answer | None:
        """What stands there; None where nothing of the page does, for this caller."""
        if request.path not in PATHS or not self._is_called_right(request):
            return None
        if request.method not in READING:
            status = HTTPStatus.METHOD_NOT_ALLOWED
            refused = refusal(status, status.phrase.lower(), status)
            return replace(refused, headers={"Allow": ", ".join(READING)})
        path = request.path
        if path in _FILES:
            return Answer(_FILES[path], content_type=_FILE_TYPES[path], headers=_HEADERS)
        look = page_look(self._book.glance(JOBS_SHOWN), self._api_key)
        if path == JSON_PATH:
            return Answer(page_json(look), headers=_HEADERS)
        return Answer(page_html(look), content_type="text/html", headers=_HEADERS)

    def _is_called_right(self, request: web.BaseRequest) -> bool:
        if self._any_host:
            return True
        try:
            host = urlsplit(f"//{request.headers.get('Host', '')}").hostname
        except ValueError:
            return False
        return is_loopback(host)
