"""How a service is reached: headers, timeouts, proxy, CA bundle, User-Agent, and hiding the key.

It knows nothing of jobs and makes no request; both drivers take from it what they need, so that
they mean the same by HTTP. ``account`` says which service, and whose key.
"""

from __future__ import annotations

import os
import re
import time
import urllib.request
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from pydantic import SecretStr

from langchain_shortapi_flux.account import KEY_VARIABLES
from langchain_shortapi_flux.errors import ConfigurationError
from langchain_shortapi_flux.loopback import is_loopback
from langchain_shortapi_flux.version import __version__

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    from langchain_shortapi_flux.http_acts import HttpReply

CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
CONNECT_TIMEOUT_SECONDS = 10.0
READ_TIMEOUT_SECONDS = 30.0
"""How long one read may stay silent."""
IDLE_SECONDS_MAX = 5.0
"""How long an idle connection is kept for a query. The next one of a job mostly comes sooner."""
IDLE_SECONDS_FOR_CREATE = 1.0
"""An older one is not used for a create: the other side may have closed it unnoticed, which would
look like a lost answer."""
REPLY_LIMIT_BYTES = 64 * 2**20
"""A longer reply of the job API is cut off and counts as unusable."""
HEADERS_READ = ("location", "retry-after", "date")
"""The headers of a reply that mean something to anyone here."""
USER_AGENT = f"langchain-shortapi-flux/{__version__}"
HIDDEN = b"[key]"
SHORTEST_HIDDEN_KEY = 6
"""A shorter key is no key of this service; hiding it would tear replies apart."""


@dataclass(frozen=True)
class Connection:
    """How to reach one account on one service. Hashable: equal values share connections.

    Attributes:
        base_url: The service, without the API's path: scheme, host and any prefix.
        api_key: The account's key.
        proxy: The proxy's URL, which may hold a password; None for a direct connection.
        ca_bundle: Path of the certificate authorities' file; None for certifi's.
        max_connections: Sockets open at a time, at most, per event loop.
    """

    base_url: str
    api_key: SecretStr
    proxy: SecretStr | None
    ca_bundle: str | None
    max_connections: int

    @property
    def api_url(self) -> str:
        """What the job API's paths are appended to."""
        return f"{self.base_url}/api/v1"

    @property
    def proxy_url(self) -> str | None:
        """The proxy's URL in clear."""
        return self.proxy.get_secret_value() if self.proxy is not None else None

    @property
    def ca_path(self) -> str:
        """The certificate authorities' file that holds for both drivers."""
        return self.ca_bundle or _certifi_path()

    def headers(self, *, has_body: bool) -> dict[str, str]:
        """Headers of one request, the key in clear: never keep or show them."""
        headers = self._headers
        return headers | {"Content-Type": "application/json"} if has_body else headers

    @cached_property
    def _headers(self) -> dict[str, str]:
        return {
            "Authorization": f"Bearer {self.api_key.get_secret_value()}",
            "Accept": "application/json",
            "User-Agent": USER_AGENT,
        }

    def reply(self, status: int, headers: Mapping[str, str], body: bytes) -> HttpReply:
        """What came back, without the key, so that nothing made from it can show the key.

        Args:
            status: The HTTP status.
            headers: All of them, to be asked in any case; only ``HEADERS_READ`` are taken over.
            body: The body, unpacked.
        """
        from langchain_shortapi_flux.http_acts import HttpReply  # noqa: PLC0415 - on first use

        named = {
            name: self._hide_key(headers[name].encode("utf-8", "surrogateescape")).decode(
                "utf-8", "replace"
            )
            for name in HEADERS_READ
            if name in headers
        }
        # JSON holds no NUL; UTF-16 does, and would show the key letter by letter.
        return HttpReply(status, named, self._hide_key(body.replace(b"\x00", b"")), time.time())

    def _hide_key(self, text: bytes) -> bytes:
        for spelling in self._key_spellings:
            text = text.replace(spelling, HIDDEN)
        if b"\\" in text and self._key_spellings:
            key = self.api_key.get_secret_value()
            text = re.sub("".join(map(_json_spellings, key)).encode(), HIDDEN, text)
        return text

    @cached_property
    def _key_spellings(self) -> tuple[bytes, ...]:
        key = self.api_key.get_secret_value()
        if len(key) < SHORTEST_HIDDEN_KEY:
            return ()
        return tuple({key.encode(), quote(key, safe="").encode()})


def _json_spellings(character: str) -> str:
    """A pattern of the ways in which JSON may spell a character."""
    hexadecimal = rf"\\u(?i:{ord(character):04x})"
    escaped = rf"\\{re.escape(character)}|" if character in '"\\/' else ""
    return f"(?:{hexadecimal}|{escaped}{re.escape(character)})"


def connect(base_url: str, api_key: SecretStr | None, max_connections: int) -> Connection:
    """Put together how to reach the service; proxy and CA bundle come from the environment.

    Args:
        base_url: As ``read_base_url`` gives it.
        api_key: The key, or None.
        max_connections: See ``Connection``.

    Raises:
        ConfigurationError: There is no key, or the key, the proxy or the CA bundle cannot be used.
    """
    if api_key is None:
        raise ConfigurationError(
            "no ShortAPI key: make one at https://shortapi.ai/console/keys and set the environment "
            f"variable {KEY_VARIABLES[0]}, or pass api_key=...; to try without a key, start the "
            "sandbox: python -m langchain_shortapi_flux.sandbox"
        )
    if re.search(r"[^\x21-\x7e]", api_key.get_secret_value()):
        raise ConfigurationError(
            "api_key holds a space or a character that no HTTP header can carry; copy it again"
        )
    ca_bundle = ca_bundle_from_environment()
    if ca_bundle is not None and base_url.startswith("https"):
        ssl_context(ca_bundle)  # read now, so that a file that is none is told before a job is made
    return _shared(base_url, api_key, proxy_for(base_url), ca_bundle, max_connections)


# So that what a connection works out is worked out once, not for each job.
_shared = lru_cache(maxsize=64)(Connection)


def ca_bundle_from_environment() -> str | None:
    """The file of certificate authorities that the environment names, if it does."""
    return next((path for name in CA_VARIABLES if (path := os.environ.get(name))), None)


def proxy_for(url: str) -> SecretStr | None:
    """The environment's proxy for this URL, as the standard library reads it; never for loopback.

    Raises:
        ConfigurationError: It is of a kind that the HTTP libraries here cannot use.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if is_loopback(host) or urllib.request.proxy_bypass(host):
        return None
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy:
        return None
    if "://" not in proxy:
        proxy = f"http://{proxy}"
    try:
        named = urlsplit(proxy)
        usable = bool(named.hostname) and (named.port is None or named.port > 0)
        usable = usable and re.fullmatch(r"[\x21-\x7e]+", proxy) is not None
    except ValueError:
        named, usable = urlsplit(""), False
    if usable and named.scheme in ("http", "https"):
        return SecretStr(proxy)
    kind = f"a {named.scheme} proxy" if usable else "a proxy that is no URL"
    raise ConfigurationError(
        f"the environment names {kind} for {host}; only http and "
        "https proxies work here (add the host to NO_PROXY, or change the variable)"
    )


def why_lost(error: BaseException) -> str:
    """Why no reply came, in words that are the same whichever HTTP library says so."""
    import socket  # noqa: PLC0415 - both HTTP libraries have imported them
    import ssl  # noqa: PLC0415

    chain: list[BaseException] = [error]
    for link in chain:  # grows on the way
        inner = (link.__cause__, *link.args)
        chain += [one for one in inner if isinstance(one, BaseException) and one not in chain]
    if any("Proxy" in type(link).__name__ for link in chain):
        return "the proxy could not be used"
    for kind, words in (
        (ssl.SSLCertVerificationError, "its certificate is not trusted"),
        (socket.gaierror, "its host name cannot be resolved"),
        (ConnectionRefusedError, "it refused the connection"),
        (TimeoutError, "it took too long"),
    ):
        if any(isinstance(link, kind) for link in chain):
            return words
    return "the connection broke off"


def ssl_context(ca_bundle: str | None) -> ssl.SSLContext:
    """A TLS context over that file, or certifi's; kept, for building one takes milliseconds.

    Raises:
        ConfigurationError: The file cannot be read, or holds no certificate authorities.
    """
    path = ca_bundle or _certifi_path()
    try:
        return _ssl_context(path, file_version(path))
    except OSError as error:
        problem = type(error).__name__
    raise ConfigurationError(f"the CA bundle {ca_bundle!r} cannot be used: {problem}")


@lru_cache(maxsize=4)
def _ssl_context(path: str, _version: tuple[int, int]) -> ssl.SSLContext:
    import ssl  # noqa: PLC0415 - only where TLS is used

    return ssl.create_default_context(cafile=path)


def file_version(path: str) -> tuple[int, int]:
    """What tells a file from one that was put in its place; ``OSError`` where there is none."""
    found = Path(path).stat()
    return found.st_mtime_ns, found.st_size


@lru_cache(maxsize=1)
def _certifi_path() -> str:
    import certifi  # noqa: PLC0415 - only where TLS is used

    return certifi.where()
