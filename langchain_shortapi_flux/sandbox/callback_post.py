"""Knows how to post a finished job's record to its callback URL.

It must not know when: the server says so. What the service does about headers, signatures and
retries is unknown; here it is one POST of the bare record, as one author's log shows it.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

import aiohttp

POST_SECONDS_MAX: Final = 5.0

_log = logging.getLogger(__name__)


def is_loopback(host: str | None) -> bool:
    """Whether a host is this machine: `localhost` or a loopback address, no other name."""
    if host == "localhost":
        return True
    try:
        return ip_address(host or "").is_loopback
    except ValueError:
        return False


class CallbackPost:
    """Posts records in the background; whatever goes wrong there is only logged and told."""

    def __init__(self, *, allow_remote: bool) -> None:
        """Post to this machine only, unless `allow_remote`."""
        self._allow_remote = allow_remote
        self._tasks: set[asyncio.Task[None]] = set()
        self._session: aiohttp.ClientSession | None = None

    def post(self, url: str, body: Mapping[str, object], tell: Callable[[str], None]) -> None:
        """Start posting a record; must be called on the server's loop.

        Args:
            url: Where to.
            body: The record.
            tell: Told what becomes of it, in words without the URL, such as `answered 204`.
        """
        try:
            parts = urlsplit(url)
            host, scheme = parts.hostname, parts.scheme
        except ValueError:
            host, scheme = None, ""
        if scheme not in ("http", "https") or not host:
            _log.warning("callback not sent: the callback URL is not an http(s) URL")
            tell("not sent: not an http(s) URL")
            return
        if not self._allow_remote and not is_loopback(host):
            _log.warning("callback not sent: %s is not this machine (allow_remote=True)", host)
            tell("not sent: not this machine")
            return
        tell("being posted")
        posting = self._post(url, json.dumps(body).encode(), tell)
        task = asyncio.get_running_loop().create_task(posting)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(
            lambda posted: tell("given up: the sandbox stopped") if posted.cancelled() else None
        )

    async def close(self) -> None:
        """Give up what is still being posted."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def _post(self, url: str, body: bytes, tell: Callable[[str], None]) -> None:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=POST_SECONDS_MAX),
                connector=aiohttp.TCPConnector(force_close=True),
            )
        headers = {"Content-Type": "application/json"}
        try:
            # A redirect could lead away from this machine.
            async with self._session.post(
                url, data=body, headers=headers, allow_redirects=False
            ) as response:
                await response.read()
            tell(f"answered {response.status}")
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            _log.warning("callback failed: %s", type(error).__name__)
            tell(f"failed: {type(error).__name__}")
