"""Which service, and whose account: the base URL, the key, and where the environment names them.

It knows how people write these and brings them to one form. How the service is reached is
``connection``'s.
"""

from __future__ import annotations

import os
import re
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import SecretStr

from langchain_shortapi_flux.loopback import is_loopback

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_BASE_URL = "https://api.shortapi.ai"
KEY_VARIABLES = ("SHORTAPI_KEY", "SHORTAPI_API_KEY")
"""The official page's name first; many applications use the second."""
BASE_URL_VARIABLE = "SHORTAPI_BASE_URL"
_DEFAULT_PORTS = {"https": "443", "http": "80"}


def key_from_environment(environment: Mapping[str, str] | None = None) -> SecretStr | None:
    """The key from ``SHORTAPI_KEY``, then ``SHORTAPI_API_KEY``; blank counts as unset."""
    values = environment if environment is not None else os.environ
    for name in KEY_VARIABLES:
        if key := read_key(values.get(name)):
            return key
    return None


def read_key(value: str | SecretStr | None) -> SecretStr | None:
    """A key as pasted: spaces around it and a leading ``Bearer`` go; None where nothing is left."""
    text = value.get_secret_value() if isinstance(value, SecretStr) else value or ""
    text = re.sub(r"^bearer\s+", "", text.strip(), flags=re.IGNORECASE).strip()
    return SecretStr(text) if text else None


def base_url_from_environment() -> str:
    """``SHORTAPI_BASE_URL``, or the official host."""
    return os.environ.get(BASE_URL_VARIABLE, "").strip() or DEFAULT_BASE_URL


def read_base_url(value: str) -> str:
    """A base URL as people write it, brought to one form: no slash at the end, no ``/api/v1``.

    Raises:
        ValueError: It is no https URL (http is for this machine only), or it holds a user name,
            a query or a fragment.
    """
    text = value.strip()
    try:
        parts = urlsplit(text)
        host, _port = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if not host or parts.scheme not in ("http", "https") or re.search(r"[\s\x00-\x1f\\]", text):
        raise ValueError("base_url must be a URL such as https://api.shortapi.ai")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("base_url must hold no user name, password, query or fragment")
    if parts.scheme == "http" and not is_loopback(host):
        raise ValueError(
            f"base_url must be https: the key would travel in clear to {host} (http is for "
            "this machine only, such as http://127.0.0.1:8787)"
        )
    path = re.sub(r"(/api)?/v1$", "", parts.path.rstrip("/")).rstrip("/")
    # One spelling for one service: the ledger's keys begin with it.
    place = re.sub(rf":(?:{_DEFAULT_PORTS[parts.scheme]})?$", "", parts.netloc.lower())
    place = re.sub(r"(?<=[a-z0-9])\.(?=:|$)", "", place)
    return f"{parts.scheme}://{place}{path}"


def read_callback_url(value: str | None) -> str | None:
    """A callback URL as given; blank counts as unset.

    Raises:
        ValueError: It is no http or https URL.
    """
    text = (value or "").strip()
    if not text:
        return None
    try:
        text.encode()  # a lone surrogate could not be sent
        parts = urlsplit(text)
        host = parts.hostname
    except ValueError:
        host, parts = None, urlsplit("")
    if not host or parts.scheme not in ("http", "https"):
        raise ValueError("callback_url must be an http or https URL that accepts POST")
    return text


@lru_cache(maxsize=64)  # asked with each job, of the same few services
def runs_here(base_url: str) -> bool:
    """Whether the service at this base URL runs on this machine."""
    return is_loopback(urlsplit(base_url).hostname or "")
