"""One call over HTTP with ``requests``: its reply, or that none came and whether it went out.

It knows how a blocking exchange is bounded in time and size, and nothing of jobs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import requests
from requests.structures import CaseInsensitiveDict
from requests.utils import DEFAULT_ACCEPT_ENCODING
from urllib3.exceptions import HTTPError

from langchain_shortapi_flux.connection import (
    CONNECT_TIMEOUT_SECONDS,
    READ_TIMEOUT_SECONDS,
    REPLY_LIMIT_BYTES,
    Connection,
    why_lost,
)
from langchain_shortapi_flux.http_acts import HttpReply, HttpRequest, Lost

if TYPE_CHECKING:
    from langchain_shortapi_flux.socket_contact import SocketContact

READ_CHUNK_BYTES = 64 * 2**10
_HEADERS = {"Accept-Encoding": DEFAULT_ACCEPT_ENCODING, "Connection": "keep-alive"}


def perform(
    act: HttpRequest, session: requests.Session, connection: Connection, contact: SocketContact
) -> HttpReply | Lost:
    """Make one call and give its reply, or say that none came and whether anything was sent.

    ``contact`` says the latter also where this is interrupted.
    """
    if not act.repeatable:
        session.close()  # drops idle connections; the session itself stays usable
    proxy = connection.proxy_url
    try:
        with (
            contact,
            session.send(
                _prepared(act, connection),
                timeout=(
                    max(min(CONNECT_TIMEOUT_SECONDS, act.time_left), 0.001),
                    max(min(READ_TIMEOUT_SECONDS, act.time_left), 0.001),
                ),
                allow_redirects=False,
                proxies={"http": proxy, "https": proxy} if proxy else {},
                verify=connection.ca_path,
                stream=True,
            ) as response,
        ):
            body = _read(response)
            if len(body) > REPLY_LIMIT_BYTES:
                return Lost(sent=True, reason="the reply is too long")
            return connection.reply(response.status_code, response.headers, body)
    except (requests.RequestException, HTTPError, OSError, ValueError) as error:
        return Lost(sent=contact.made, reason=why_lost(error))


def _prepared(act: HttpRequest, connection: Connection) -> requests.PreparedRequest:
    # By hand: a session would look for cookies, logins and settings to merge, all of them unwanted,
    # and take longer over it than over sending.
    prepared = requests.PreparedRequest()
    prepared.method = act.method
    prepared.url = connection.api_url + act.path
    prepared.headers = CaseInsensitiveDict(_HEADERS)
    prepared.headers.update(connection.headers(has_body=act.body is not None))
    if act.body is not None:
        prepared.body = act.body
        prepared.headers["Content-Length"] = str(len(act.body))
    return prepared


def _read(response: requests.Response) -> bytes:
    body = bytearray()
    response.raw.decode_content = True
    while len(body) <= REPLY_LIMIT_BYTES and (chunk := response.raw.read1(READ_CHUNK_BYTES)):
        body += chunk
    return bytes(body)
