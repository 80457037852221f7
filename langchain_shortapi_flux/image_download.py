"""Fetching one picture over HTTP from wherever its URL leads, piece by piece and within limits.

That host is a stranger: it never sees the key, a cookie or a password, and it is asked only at an
address that is allowed. It knows nothing of the job API and nothing of disks.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self
from urllib.parse import unquote_to_bytes, urljoin

import aiohttp
from yarl import URL

from langchain_shortapi_flux.connection import (
    CONNECT_TIMEOUT_SECONDS,
    READ_TIMEOUT_SECONDS,
    USER_AGENT,
    ca_bundle_from_environment,
    proxy_for,
    ssl_context,
    why_lost,
)
from langchain_shortapi_flux.errors import ConfigurationError
from langchain_shortapi_flux.job_record import is_picture_url
from langchain_shortapi_flux.loopback import is_loopback
from langchain_shortapi_flux.picture_address import (
    AddressRefused,
    AddressRules,
    CheckedResolver,
    Resolve,
)
from langchain_shortapi_flux.picture_body import PIECE_BYTES, Intake, NotFetched, Packing, shown_url

if TYPE_CHECKING:
    import ssl

    from langchain_shortapi_flux.job import FluxImage

Take = Callable[[bytes], Awaitable[object]]
"""Is handed a picture's bytes, piece by piece."""

REDIRECT_LIMIT = 5
_REDIRECTS = (301, 302, 303, 307, 308)
# RFC 2397. Not what a dumped picture shows in the place of its bytes, though it has a comma too.
_DATA_URL = re.compile(r"data:([^\s,()]*),(.*)", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True)
class DownloadLimits:
    """What one picture may take.

    Attributes:
        timeout: Seconds from the first look at its URL to its last byte.
        max_bytes: Bytes, packed or unpacked.
    """

    timeout: float
    max_bytes: int


class Downloader:
    """Fetches pictures; an async context manager around its connections.

    Args:
        rules: Where they may come from. Behind a proxy of the environment it is the proxy that
            resolves names: only an address that stands in the URL itself is checked here then, and
            for the rest the proxy's own rules hold.
        limits: What each may take.
        resolve: What a host's name resolves to.
    """

    def __init__(self, rules: AddressRules, limits: DownloadLimits, resolve: Resolve) -> None:
        self._rules = rules
        self._limits = limits
        self._resolve = resolve
        self._stack = AsyncExitStack()
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def bring(self, image: FluxImage, take: Take) -> None:
        """Hand a picture's bytes to ``take``, from wherever they are.

        What is handed over begins as a picture does; whether it is whole is not asked here.

        Raises:
            NotFetched: There is none, or not within the limits, or it may not be fetched.
        """
        content = image.inline
        if content is None and image.url[:5].lower() == "data:":
            content = _read_data_url(image.url)
        if content is None:
            return await self._fetch(image.url, take)
        intake = Intake(image.url, self._limits.max_bytes)
        if ready := intake.passed(content):
            await take(ready)
        intake.end()
        return None

    async def _fetch(self, url: str, take: Take) -> None:
        problem: str
        try:
            async with asyncio.timeout(self._limits.timeout) as limit:
                return await self._follow(url, take)
        except (AddressRefused, ConfigurationError) as error:
            problem = str(error)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            problem = why_lost(error)
            if limit.expired():
                problem = f"no picture within {self._limits.timeout:g} s"
        raise NotFetched(f"{shown_url(url)}: {problem}")

    async def _follow(self, url: str, take: Take) -> None:
        for _ in range(REDIRECT_LIMIT + 1):
            # Checked at every hop: a redirect must not lead to where the first URL may not.
            where = self._checked(url)
            proxy = proxy_for(str(where))
            async with self._session(proxied=proxy is not None).get(
                where,
                allow_redirects=False,
                proxy=None if proxy is None else proxy.get_secret_value(),
                ssl=await _tls() if where.scheme == "https" else True,
            ) as response:
                if response.status == 200:
                    return await self._read(response, url, take)
                if response.status not in _REDIRECTS:
                    raise NotFetched(
                        f"{shown_url(url)} answers HTTP {response.status}", status=response.status
                    )
                url = _next(url, response.headers.get("Location"))
        raise NotFetched(f"{shown_url(url)}: redirected more than {REDIRECT_LIMIT} times")

    def _checked(self, url: str) -> URL:
        """The URL as it is sent: what is checked here is what the connection is made by."""
        if "\\" not in url and is_picture_url(url, loopback=self._rules.loopback):
            # A signature is made over a URL as it is written, so it is not written anew.
            where = URL(url, encoded=url.isascii())
            host = where.raw_host or ""
            if where.scheme == "https" or is_loopback(host):
                self._rules.check_host(host)
                return where
        raise NotFetched(
            f"{shown_url(url)} is not fetched: only https (or this machine's own sandbox)"
        )

    def _session(self, *, proxied: bool) -> aiohttp.ClientSession:
        if proxied not in self._sessions:
            # A proxy's own address is the choice of whoever set it; a stranger's is checked.
            resolver = None if proxied else CheckedResolver(self._resolve, self._rules)
            session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(resolver=resolver, use_dns_cache=False),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,  # ``Packing`` does it, within bounds
                headers={
                    "User-Agent": USER_AGENT,
                    "Accept": "image/*",
                    "Accept-Encoding": "identity",
                },
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=CONNECT_TIMEOUT_SECONDS, sock_read=READ_TIMEOUT_SECONDS
                ),
            )
            self._stack.push_async_callback(session.close)
            self._sessions[proxied] = session
        return self._sessions[proxied]

    async def _read(self, response: aiohttp.ClientResponse, url: str, take: Take) -> None:
        packing = Packing(response.headers.get("Content-Encoding", ""), url)
        intake = Intake(url, self._limits.max_bytes)
        intake.expect(response.content_length or 0)
        received = 0
        async for raw in response.content.iter_chunked(PIECE_BYTES):
            received += len(raw)
            intake.expect(received)
            for piece in packing.unpack(raw):
                if ready := intake.passed(piece):
                    await take(ready)
        packing.end()
        intake.end()


def _read_data_url(url: str) -> bytes:
    problem: str
    if (match := _DATA_URL.fullmatch(url)) is None:
        # As after a dump: JSON does not keep the bytes of ``FluxImage.from_bytes``.
        raise NotFetched(f"{shown_url(url)} came inside the reply, and its bytes were not kept")
    try:
        content = unquote_to_bytes(match[2])
        if match[1].lower().endswith(";base64"):
            content = base64.b64decode(b"".join(content.split()), validate=True)
        return content
    except ValueError:
        problem = f"{shown_url(url)} is damaged: it cannot be decoded"
    raise NotFetched(problem)


def _next(url: str, location: str | None) -> str:
    """Where a redirect leads."""
    problem: str
    try:
        if location:
            return urljoin(url, location)
        problem = "nowhere"
    except ValueError:
        problem = "what is no URL"
    raise NotFetched(f"{shown_url(url)} redirects to {problem}")


async def _tls() -> ssl.SSLContext:
    return await asyncio.to_thread(ssl_context, ca_bundle_from_environment())
