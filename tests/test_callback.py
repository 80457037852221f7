"""Callbacks: the right job is woken, and callers whom nobody vouches for get nothing else done."""

from __future__ import annotations

import asyncio
import copy
import gc
import json
import logging
import pickle
import re
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import web

from langchain_shortapi_flux import callback, callback_body, callback_server
from langchain_shortapi_flux.callback import EARLY_LOOKS_MAX, CallbackReceiver, Expected
from langchain_shortapi_flux.callback_body import BODY_LIMIT_BYTES, JOB_ID_LIMIT
from langchain_shortapi_flux.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

GIVE_UP_SECONDS = 20.0
LONG_SECONDS = 3600.0
AIOHTTP_LINGERS_SECONDS = 10.0
PUBLIC_URL = "https://my.host/flux"
JOB_ID = "69a1b2c3d4e5f60718293a4b"
RECORD = json.dumps({"id": JOB_ID, "status": 2, "result": {"images": []}}).encode()
TOO_LONG = json.dumps({"id": JOB_ID, "more": "x" * BODY_LIMIT_BYTES}).encode()


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    """Each test ends with the threads that it began with."""
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def expect(receiver: CallbackReceiver) -> Expected:
    expected = receiver.expect()
    assert expected is not None
    return expected


def token_of(expected: Expected) -> str:
    return expected.url.rpartition("/")[2]


def head(url: str, *fields: str, method: str = "POST") -> bytes:
    lines = [f"{method} {urlsplit(url).path} HTTP/1.1", "Host: my.host", *fields, "", ""]
    return "\r\n".join(lines).encode()


@contextmanager
def caller(url: str) -> Iterator[socket.socket]:
    """A connection to whoever serves that URL."""
    parts = urlsplit(url)
    address = (parts.hostname or "", parts.port or 0)
    with socket.create_connection(address, timeout=GIVE_UP_SECONDS) as connection:
        yield connection


def all_from(connection: socket.socket) -> bytes:
    """What the server says until it closes the connection, however it does."""
    said = b""
    try:
        while piece := connection.recv(65536):
            said += piece
    except ConnectionError:  # closed while we still had something to say
        pass
    return said


def call(url: str, body: bytes = RECORD, method: str = "POST") -> bytes:
    """Make one call; gives the whole answer, byte for byte, without its date."""
    with caller(url) as connection:
        length = f"Content-Length: {len(body)}"
        connection.sendall(head(url, length, method=method) + body)
        return re.sub(rb"Date: [^\r]*", b"", all_from(connection))


# --- who is woken -----------------------------------------------------------------------------


def test_a_call_wakes_the_job_whose_url_it_is_and_no_other(receiver: CallbackReceiver) -> None:
    """The whole point: one early look at the job that has ended."""
    called, other = expect(receiver), expect(receiver)
    assert call(called.url).startswith(b"HTTP/1.1 204 ")
    assert (called.doorbell.rung, other.doorbell.rung) == (True, False)


def test_a_job_that_waits_in_blocking_code_is_woken(receiver: CallbackReceiver) -> None:
    """The requests driver waits in its own thread, the receiver lives in another."""
    expected = expect(receiver)
    with ThreadPoolExecutor(2) as threads:
        waiting = threads.submit(expected.doorbell.wait, LONG_SECONDS)
        threads.submit(call, expected.url)
        waiting.result(GIVE_UP_SECONDS)
    assert expected.doorbell.rung


async def test_a_receiver_runs_on_the_jobs_own_loop_and_leaves_it_clean() -> None:
    """The usual shape in an async program: one loop for everything."""
    tasks = asyncio.all_tasks()
    descriptors = _open_descriptors()
    async with CallbackReceiver() as receiver:
        expected = expect(receiver)
        calling = asyncio.create_task(asyncio.to_thread(call, expected.url))
        await asyncio.wait_for(expected.doorbell.await_ring(LONG_SECONDS), GIVE_UP_SECONDS)
        assert expected.doorbell.rung
        assert (await calling).startswith(b"HTTP/1.1 204 ")
        expected.close()
        idle = socket.create_connection(("127.0.0.1", receiver.port))
        await asyncio.to_thread(call, expected.url)
    idle.close()
    assert receiver.waiting == 0
    assert asyncio.all_tasks() == tasks
    assert _open_descriptors() == descriptors
    await asyncio.get_running_loop().shutdown_default_executor()


async def test_a_receiver_is_mounted_in_an_application() -> None:
    """Whoever has an aiohttp server needs no second one."""
    app = web.Application()
    receiver = CallbackReceiver("http://127.0.0.1/flux/")
    app.add_subapp("/flux", receiver.app)
    assert receiver.app is receiver.app
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        origin = f"http://127.0.0.1:{runner.addresses[0][1]}"
        expected, other = expect(receiver), expect(receiver)
        url = expected.url.replace("http://127.0.0.1", origin)
        assert urlsplit(url).path == f"/flux/{token_of(expected)}"
        async with aiohttp.ClientSession() as session:
            for method, path, status in (
                ("GET", url, 405),
                ("POST", f"{origin}/flux/unknown", 204),
                ("POST", f"{origin}/flux/a/b", 204),
            ):
                async with session.request(method, path) as response:
                    assert (response.status, await response.read()) in ((status, b""), (405, _405))
            assert not expected.doorbell.rung
            async with session.post(url, data=RECORD) as response:
                assert (response.status, await response.read()) == (204, b"")
        assert (expected.doorbell.rung, other.doorbell.rung) == (True, False)
    finally:
        await runner.cleanup()


_405 = b"405: Method Not Allowed"


def test_a_proxy_may_cut_the_beginning_of_the_path(receiver: CallbackReceiver) -> None:
    """Nginx passes /flux/token on as /token, or as it is, as its owner likes."""
    for before in ("", "/flux", "/a/b"):
        expected = expect(receiver)
        place = f"http://127.0.0.1:{receiver.port}{before}/{token_of(expected)}"
        assert call(place).startswith(b"HTTP/1.1 204 ")
        assert expected.doorbell.rung


def test_the_sandbox_calls_when_a_job_has_ended(receiver: CallbackReceiver) -> None:
    """Over real HTTP: the bare record, as one recorded callback was."""
    expected = expect(receiver)
    order = {
        "model": "shortapi/flux-1.0/text-to-image",
        "args": {"prompt": "a lighthouse", "aspect_ratio": "1:1", "num_images": 1},
        "callback_url": expected.url,
    }

    async def create(base_url: str, key: str) -> str:
        headers = {"Authorization": f"Bearer {key}"}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.post(f"{base_url}/api/v1/job/create", json=order) as response,
        ):
            return str((await response.json())["data"]["job_id"])

    with Sandbox(job_seconds=0) as sandbox:
        job_id = asyncio.run(create(sandbox.base_url, sandbox.api_key))
        expected.doorbell.wait(GIVE_UP_SECONDS)
        assert expected.doorbell.rung
        assert expected.hint == job_id


async def test_a_call_wakes_all_that_wait_for_the_same_job() -> None:
    """The same request_key twice: the second follows the first one's job, and its URL is unused."""
    receiver = CallbackReceiver(PUBLIC_URL)
    buyer, follower, other = expect(receiver), expect(receiver), expect(receiver)
    for one, job_id in ((buyer, JOB_ID), (follower, JOB_ID), (other, "another")):
        one.job_is(job_id)
    await receiver.handle(RECORD, token=token_of(buyer))
    assert [one.doorbell.rung for one in (buyer, follower, other)] == [True, True, False]
    assert [one.called for one in (buyer, follower, other)] == [True, True, False]


async def test_a_call_is_remembered_after_it_was_heard() -> None:
    """Where the query then says pending, nobody waits for a second call."""
    receiver = CallbackReceiver(PUBLIC_URL)
    expected = expect(receiver)
    await receiver.handle(RECORD, token="forged")
    assert not expected.called
    await receiver.handle(RECORD, token=token_of(expected))
    expected.doorbell.heard()
    assert expected.called


# --- the hint ---------------------------------------------------------------------------------


async def _pieces(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


@pytest.mark.parametrize(
    "body",
    [
        RECORD,
        bytearray(RECORD),
        RECORD.decode(),
        {"id": JOB_ID},
        {"job_id": JOB_ID, "id": "of the call"},
        {"code": 0, "data": {"id": JOB_ID}, "id": "of the call"},
        {"code": 0, "data": {"job_id": f" {JOB_ID} "}},
        {"data": [], "id": JOB_ID},
    ],
)
async def test_a_body_names_its_job_in_any_shape(body: Any) -> None:
    """Bare as in the one recorded body, or enveloped as everywhere else."""
    receiver = CallbackReceiver(PUBLIC_URL)
    expected = expect(receiver)
    await receiver.handle(body, token=token_of(expected))
    assert (expected.hint, expected.doorbell.rung) == (JOB_ID, True)


@pytest.mark.parametrize(
    "body",
    [
        *("\ud800", "[" * 60_000, 7, [JOB_ID], {"id": [1]}, TOO_LONG, TOO_LONG.decode()),
        *({"id": 10**5000}, {"data": {"job_id": -(10**5000)}}, '{"id": ' + "9" * 5000 + "}"),
        *({"id": float("nan")}, {"id": float("inf")}, {"id": True}, {"id": "\ud800"}),
        *('{"id": NaN}', '{"id": 1e999}', '{"id": "\\ud800"}', {"id": "a\0b"}, {1: {2: {}}}),
        *("{" * 60_000, '{"data":' * 7000, {"id": "x" * 5000}, {"data": {"data": {"id": JOB_ID}}}),
    ],
)
async def test_what_another_server_has_parsed_may_be_hostile_too(body: Any) -> None:
    """``await request.json()`` gives whatever was sent."""
    receiver = CallbackReceiver(PUBLIC_URL)
    expected = expect(receiver)
    await receiver.handle(body, token=token_of(expected))
    assert (expected.hint, expected.doorbell.rung) == (None, True)


async def test_a_body_is_read_in_pieces() -> None:
    """A server passes its stream on and reads nothing itself."""
    receiver = CallbackReceiver(PUBLIC_URL)
    expected = expect(receiver)
    await receiver.handle(_pieces(RECORD[:9], RECORD[9:]), token=token_of(expected))
    assert (expected.hint, expected.doorbell.rung) == (JOB_ID, True)


async def test_the_first_hint_stays() -> None:
    """Whoever repeats a call later changes nothing."""
    receiver = CallbackReceiver(PUBLIC_URL)
    expected = expect(receiver)
    for body in (b"", RECORD, b'{"id": "another"}'):
        await receiver.handle(body, token=token_of(expected))
    assert expected.hint == JOB_ID


async def test_a_body_is_not_read_where_the_job_is_known() -> None:
    """Its token says it all, so a slow or huge body costs nothing."""
    receiver = CallbackReceiver(PUBLIC_URL)
    expected = expect(receiver)
    expected.job_is(JOB_ID)
    read = []

    async def body() -> AsyncIterator[bytes]:
        read.append(1)
        yield b'{"id": "another"}'

    await receiver.handle(body(), token=token_of(expected))
    assert (expected.doorbell.rung, expected.hint, read) == (True, None, [])


# --- another server, without a token ----------------------------------------------------------


async def test_without_a_token_the_named_job_is_looked_up() -> None:
    """For a server with one fixed callback URL."""
    receiver = CallbackReceiver(PUBLIC_URL)
    first, again, other = expect(receiver), expect(receiver), expect(receiver)
    first.job_is(JOB_ID)
    again.job_is(JOB_ID)
    other.job_is("another")
    await receiver.handle(RECORD)
    assert [one.doorbell.rung for one in (first, again, other)] == [True, True, False]
    first.close()
    again.doorbell.heard()
    await receiver.handle({"code": 0, "data": {"id": JOB_ID}})
    assert again.doorbell.rung
    again.close()
    other.close()
    assert receiver._by_job == {}


async def test_a_job_that_turns_out_to_be_another_is_found_under_its_last_id_alone() -> None:
    """A hint may have been told first, and been wrong."""
    receiver = CallbackReceiver(PUBLIC_URL)
    expected = expect(receiver)
    expected.job_is("hinted")
    expected.job_is(JOB_ID)
    await receiver.handle({"id": "hinted"})
    assert not expected.doorbell.rung
    await receiver.handle(RECORD)
    assert expected.doorbell.rung
    expected.close()
    expected.job_is(JOB_ID)
    assert (receiver._by_job, receiver.waiting) == ({}, 0)


@pytest.mark.parametrize("body", [None, b"", b"{}", RECORD, {"id": ""}, [JOB_ID], 7])
async def test_without_a_token_an_unknown_job_wakes_nobody(body: Any) -> None:
    """Also jobs that wait, but have not been announced."""
    receiver = CallbackReceiver(PUBLIC_URL)
    waiting, announced = expect(receiver), expect(receiver)
    announced.job_is("another")
    await receiver.handle(body)
    assert not waiting.doorbell.rung
    assert not announced.doorbell.rung


# --- nothing is believed, nothing grows -------------------------------------------------------

HOSTILE = {
    "nothing": b"",
    "no JSON": b"<html>",
    "broken off": RECORD[:-9],
    "no UTF-8": b'{"id": "\xff\xfe"}',
    "UTF-16": RECORD.decode().encode("utf-16"),
    "deep": b'{"id":' + b"[" * 30_000,
    "a list": b"[1, 2]",
    "a number": b"1" * 9_000,
    "null": b"null",
    "an id that is a list": b'{"id": [1]}',
    "an id that is a truth": b'{"id": true}',
    "a blank id": b'{"id": "  "}',
    "half a letter": b'{"id": "\\ud800"}',
    "a control character": b'{"id": "a\\u0000b"}',
    "a line break": b'{"id": "a\\nb"}',
    "a long id": json.dumps({"id": "7" * (JOB_ID_LIMIT + 1)}).encode(),
    "too long": TOO_LONG,
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_body_is_answered_like_any_other_and_names_no_job(
    receiver: CallbackReceiver, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """It wakes its job, which is a query at worst; a forged token wakes nobody."""
    caplog.set_level(logging.DEBUG)
    expected = expect(receiver)
    forged = expected.url[:-1] + ("A" if expected.url[-1] != "A" else "B")
    assert call(forged, body) == call(expected.url, body)
    assert (expected.hint, expected.doorbell.rung) == (None, True)
    assert receiver.waiting == 1
    _logged_nothing_much(caplog, expected)


def _logged_nothing_much(caplog: pytest.LogCaptureFixture, expected: Expected) -> None:
    ours = [one for one in caplog.records if one.name != "asyncio"]
    assert all(one.levelno <= logging.DEBUG for one in ours)
    assert len(ours) <= 5
    assert token_of(expected) not in caplog.text
    assert JOB_ID not in caplog.text


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_another_method_wakes_nobody(receiver: CallbackReceiver, method: str) -> None:
    """Crawlers and link previews GET whatever they find in a log."""
    expected = expect(receiver)
    forged = expected.url[:-1] + "."
    assert call(expected.url, method=method) == call(forged, method=method)
    assert call(forged, method=method).startswith(b"HTTP/1.1 405 ")
    assert not expected.doorbell.rung


def test_a_flood_of_calls_wakes_a_job_a_few_times(receiver: CallbackReceiver) -> None:
    """Each wake is a query of ours: who knows a URL must not make us ask like mad."""
    expected = expect(receiver)
    woken = 0
    for _ in range(3 * EARLY_LOOKS_MAX):
        call(expected.url)
        woken += expected.doorbell.rung
        expected.doorbell.heard()
    assert woken == EARLY_LOOKS_MAX


async def test_calls_to_a_job_that_is_awake_use_no_wake_up() -> None:
    """A service that repeats a call at once has called once."""
    receiver = CallbackReceiver(PUBLIC_URL)
    expected = expect(receiver)
    for _ in range(10 * EARLY_LOOKS_MAX):
        await receiver.handle(token=token_of(expected))
    expected.doorbell.heard()
    await receiver.handle(token=token_of(expected))
    assert expected.doorbell.rung


def test_a_closed_url_wakes_nobody_and_is_forgotten(receiver: CallbackReceiver) -> None:
    """However the wait ended: left, done, failed, thrown away."""
    closed, left = expect(receiver), expect(receiver)
    closed.job_is(JOB_ID)
    closed.close()
    closed.close()
    with left:
        pass
    with pytest.raises(LookupError), expect(receiver):
        raise LookupError

    def flow() -> Iterator[None]:
        with expect(receiver):
            yield

    thrown_away = flow()
    next(thrown_away)
    del thrown_away
    gc.collect()
    assert receiver.waiting == 0
    assert receiver._by_job == {}
    call(closed.url)
    asyncio.run(receiver.handle(RECORD))
    assert not closed.doorbell.rung
    assert not left.doorbell.rung


async def test_a_job_that_ends_while_its_call_is_read_is_not_woken() -> None:
    """The doorbell may serve nobody any more, or somebody else."""
    receiver = CallbackReceiver(PUBLIC_URL)
    expected = expect(receiver)

    async def body() -> AsyncIterator[bytes]:
        expected.close()
        yield RECORD

    await receiver.handle(body(), token=token_of(expected))
    assert (expected.hint, expected.doorbell.rung) == (None, False)


async def test_as_many_calls_are_expected_as_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job on top of that polls as usual: no job fails for want of a callback."""
    monkeypatch.setattr(callback, "EXPECTED_MAX", 2)
    receiver = CallbackReceiver(PUBLIC_URL)
    first, _second = expect(receiver), expect(receiver)
    assert receiver.expect() is None
    for number in range(100):
        await receiver.handle({"id": str(number)}, token=f"forged-{number}")
        await receiver.handle({"id": str(number)})
    assert receiver.waiting == 2
    first.close()
    assert expect(receiver).url != first.url


def test_urls_are_unguessable_and_are_not_shown(receiver: CallbackReceiver) -> None:
    """128 random bits and more: what stands between a forger and a query of ours."""
    many = [expect(receiver) for _ in range(1000)]
    tokens = {token_of(one) for one in many}
    assert len(tokens) == 1000
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{22,}", token) for token in tokens)
    assert all(one.url.startswith(f"http://127.0.0.1:{receiver.port}/") for one in many)
    for shown in (repr(many[0]), str(many[0]), f"{receiver}", f"{many[:2]}"):
        assert not any(token in shown for token in tokens)
    assert "waiting=1000" in repr(receiver)


# --- callers that take their time, or more than their share -----------------------------------


def test_a_known_job_is_woken_before_its_body_has_come(receiver: CallbackReceiver) -> None:
    """Headers, and then nothing: the answer waits for no body."""
    expected = expect(receiver)
    expected.job_is(JOB_ID)
    with caller(expected.url) as connection:
        connection.sendall(head(expected.url, "Content-Length: 99999999999"))
        assert connection.recv(65536).startswith(b"HTTP/1.1 204 ")
        assert expected.doorbell.rung


def test_a_forged_call_is_answered_before_its_body_has_come(receiver: CallbackReceiver) -> None:
    """Nothing is read for it."""
    url = f"http://127.0.0.1:{receiver.port}/flux/forged"
    with caller(url) as connection:
        connection.sendall(head(url, "Transfer-Encoding: chunked") + b"5\r\nabcde\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 204 ")


def test_a_slow_body_is_not_waited_for(
    receiver: CallbackReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job is woken without a hint."""
    monkeypatch.setattr(callback_body, "BODY_SECONDS_MAX", 0.02)
    expected = expect(receiver)
    with caller(expected.url) as connection:
        connection.sendall(head(expected.url, "Content-Length: 5000") + b'{"id": "half')
        assert all_from(connection).startswith(b"HTTP/1.1 204 ")
    assert (expected.hint, expected.doorbell.rung) == (None, True)


def test_a_huge_body_is_not_read_on(
    receiver: CallbackReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few kilobytes and the connection is closed, whatever was announced."""
    monkeypatch.setattr(callback_body, "BODY_SECONDS_MAX", LONG_SECONDS)
    monkeypatch.setattr(callback_server, "CONNECTION_SECONDS_MAX", LONG_SECONDS)
    expected = expect(receiver)
    with caller(expected.url) as connection:
        connection.sendall(head(expected.url, "Content-Length: 99999999999"))
        connection.sendall(b"x" * (BODY_LIMIT_BYTES + 1))
        assert connection.recv(65536).startswith(b"HTTP/1.1 204 ")
        connection.settimeout(AIOHTTP_LINGERS_SECONDS / 2)
        assert all_from(connection) == b""
    assert (expected.hint, expected.doorbell.rung) == (None, True)


def test_a_body_is_not_inflated(receiver: CallbackReceiver) -> None:
    """A gzipped kilobyte may be a megabyte."""
    import gzip

    expected = expect(receiver)
    body = gzip.compress(RECORD)
    fields = ("Content-Encoding: gzip", f"Content-Length: {len(body)}")
    with caller(expected.url) as connection:
        connection.sendall(head(expected.url, *fields) + body)
        assert all_from(connection).startswith(b"HTTP/1.1 204 ")
    assert (expected.hint, expected.doorbell.rung) == (None, True)


def test_a_caller_who_says_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Open sockets are what a slow caller is after."""
    monkeypatch.setattr(callback_server, "CONNECTION_SECONDS_MAX", 0.02)
    with CallbackReceiver() as receiver:
        url = expect(receiver).url
        for beginning in (b"", b"POST /", head(url)[:-2]):
            with caller(url) as connection:
                connection.sendall(beginning)
                assert all_from(connection) == b""


def test_callers_on_top_of_the_limit_are_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """They cost a job its early look, and nobody memory or sockets."""
    monkeypatch.setattr(callback_server, "CONNECTIONS_MAX", 2)
    monkeypatch.setattr(callback_server, "CONNECTION_SECONDS_MAX", LONG_SECONDS)
    with CallbackReceiver() as receiver:
        expected = expect(receiver)
        with caller(expected.url) as first, caller(expected.url) as second:
            with caller(expected.url) as third:
                assert all_from(third) == b""
            for connection in (first, second):
                connection.sendall(head(expected.url, "Content-Length: 0"))
                assert all_from(connection).startswith(b"HTTP/1.1 204 ")
        assert call(expected.url).startswith(b"HTTP/1.1 204 ")


@pytest.mark.parametrize(
    "said",
    [
        b"\x16\x03\x01\x02\x00\x01",
        b"no HTTP at all\r\n\r\n",
        b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/9.9\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        b"POST /%ff%00/%2e%2e/ HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
def test_what_is_no_call_ends_quickly_and_quietly(
    receiver: CallbackReceiver,
    said: bytes,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Scanners find every open port; a log line each would be a flood."""
    caplog.set_level(logging.DEBUG)
    expected = expect(receiver)
    with caller(expected.url) as connection:
        try:
            connection.sendall(said)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # cut off already
        all_from(connection)
    assert call(expected.url).startswith(b"HTTP/1.1 204 ")
    _logged_nothing_much(caplog, expected)
    assert capfd.readouterr().err == ""


async def _never() -> AsyncIterator[bytes]:
    await asyncio.sleep(LONG_SECONDS)
    yield RECORD


async def _broken_off() -> AsyncIterator[bytes]:
    yield RECORD
    raise ConnectionResetError


async def _endless(closed: list[bool]) -> AsyncIterator[bytes]:
    try:
        while True:
            yield b"x" * 1024
    finally:
        closed.append(True)


async def test_another_servers_stream_is_kept_short_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slow, endless or broken off: the job is woken, and the stream is closed."""
    monkeypatch.setattr(callback_body, "BODY_SECONDS_MAX", 0.02)
    receiver = CallbackReceiver(PUBLIC_URL)
    closed: list[bool] = []
    for body in (_never(), _broken_off(), _endless(closed)):
        expected = expect(receiver)
        await receiver.handle(body, token=token_of(expected))
        assert (expected.hint, expected.doorbell.rung) == (None, True)
    assert closed == [True]


async def test_cancelling_a_call_is_not_swallowed() -> None:
    """A server that shuts down cancels what it handles."""
    receiver = CallbackReceiver(PUBLIC_URL)
    expected = expect(receiver)
    handling = asyncio.create_task(receiver.handle(_never(), token=token_of(expected)))
    await asyncio.sleep(0)
    handling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await handling
    assert not expected.doorbell.rung


# --- its life ---------------------------------------------------------------------------------


def test_leaving_ends_the_thread_and_every_connection() -> None:
    """Also those of callers that are in the middle of something."""
    descriptors = _open_descriptors()
    with CallbackReceiver() as receiver:
        expected = expect(receiver)
        idle = socket.create_connection(("127.0.0.1", receiver.port), timeout=GIVE_UP_SECONDS)
        slow = socket.create_connection(("127.0.0.1", receiver.port), timeout=GIVE_UP_SECONDS)
        slow.sendall(head(expected.url, "Content-Length: 5000") + b"{")
        assert call(expected.url).startswith(b"HTTP/1.1 204 ")
    for connection in (idle, slow):
        all_from(connection)
        connection.close()
    with pytest.raises(ConnectionRefusedError):
        call(expected.url)
    assert _open_descriptors() == descriptors


def test_a_receiver_that_was_left_gives_no_url_until_it_runs_again() -> None:
    """A job is not told to wait for a call that cannot come."""
    receiver = CallbackReceiver()
    assert receiver.expect() is None
    for _ in range(2):
        with receiver, expect(receiver) as expected:
            call(expected.url)
            assert expected.doorbell.rung
        assert receiver.expect() is None


def test_a_receiver_runs_once_at_a_time(receiver: CallbackReceiver) -> None:
    """A second server would take the first one's place without a word."""
    with pytest.raises(RuntimeError, match="runs already"), receiver:
        pass
    expected = expect(receiver)
    call(expected.url)
    assert expected.doorbell.rung


def test_a_port_in_use_is_an_error_and_the_receiver_can_be_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Both ways of running it; nothing is left of the attempt."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        receiver = CallbackReceiver(port=port)
        with pytest.raises(OSError, match="in use"), receiver:
            pass

        async def enter() -> None:
            async with receiver:
                pass

        with pytest.raises(OSError, match="in use"):
            asyncio.run(enter())
        assert receiver.expect() is None
        assert [one for one in caplog.records if one.levelno > logging.DEBUG] == []
    with receiver:
        assert expect(receiver).url.startswith(f"http://127.0.0.1:{port}/")


async def test_leaving_what_was_never_entered_does_nothing() -> None:
    """Clean-up code runs also after a start that failed."""
    receiver = CallbackReceiver(PUBLIC_URL)
    receiver.__exit__(None, None, None)
    await receiver.__aexit__(None, None, None)
    assert receiver.expect() is None


def test_an_error_while_the_thread_ends_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can be handed it any more, so it is told as any thread's error is."""
    told: list[type[BaseException]] = []
    monkeypatch.setattr(threading, "excepthook", lambda given: told.append(given.exc_type))

    @asynccontextmanager
    async def server() -> AsyncIterator[None]:
        yield
        raise LookupError

    with callback_server.in_thread(server()):
        pass
    assert told == [LookupError]


@pytest.mark.parametrize(
    ("host", "called"),
    [("127.0.0.1", "127.0.0.1"), ("LocalHost", "127.0.0.1"), ("::1", "[::1]")],
)
def test_without_a_public_url_it_is_called_where_it_listens(host: str, called: str) -> None:
    """Enough to try it against the sandbox on this machine. ``localhost`` may be two addresses."""
    with CallbackReceiver(host=host) as receiver, expect(receiver) as expected:
        assert expected.url.startswith(f"http://{called}:{receiver.port}/")
        call(expected.url)
        assert expected.doorbell.rung


def test_a_copy_is_the_same_receiver_and_a_pickle_one_that_does_not_run() -> None:
    """Copies of a Runnable share it; another process would be given calls it cannot get."""
    receiver = CallbackReceiver(PUBLIC_URL, port=8700)
    expected = expect(receiver)
    assert copy.copy(receiver) is receiver
    assert copy.deepcopy([receiver])[0] is receiver
    pickled = pickle.dumps(receiver)
    assert token_of(expected).encode() not in pickled
    elsewhere = pickle.loads(pickled)
    assert (elsewhere.public_url, elsewhere.port) == (PUBLIC_URL, 8700)
    assert elsewhere.expect() is None
    assert receiver.waiting == 1


@pytest.mark.thorough
def test_nothing_heavy_is_imported_before_it_serves() -> None:
    """Whoever has another server needs none of ours."""
    program = """
import asyncio, sys
from langchain_shortapi_flux.callback import CallbackReceiver
receiver = CallbackReceiver("https://my.host/flux")
with receiver.expect() as expected:
    asyncio.run(receiver.handle(b"{}", token=expected.url.rpartition("/")[2]))
    assert expected.doorbell.rung
print("aiohttp" in sys.modules)
receiver.app
print("aiohttp" in sys.modules)
"""
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True
    )
    assert ended.stdout.split() == ["False", "True"]


# --- settings ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://my.host", "https://my.host"),
        (" HTTPS://my.host:8443/flux// ", "https://my.host:8443/flux"),
        ("http://127.0.0.1:8700/flux", "http://127.0.0.1:8700/flux"),
        ("http://localhost:8700", "http://localhost:8700"),
        ("https://my.host/@me/%7Eflux", "https://my.host/@me/%7Eflux"),
    ],
)
def test_a_public_url_is_brought_to_one_form(given: str, kept: str) -> None:
    """A slash and a token are put to its end."""
    receiver = CallbackReceiver(given)
    assert receiver.public_url == kept
    assert expect(receiver).url.rpartition("/")[0] == kept


@pytest.mark.parametrize(
    "given",
    [
        "",
        "my.host/flux",
        "ftp://my.host/flux",
        "https://",
        "https:///flux",
        "https://[::1",
        "https://my.host:99999",
        "https://my.host/flux?key=1",
        "https://my.host/flux?",
        "https://my.host/flux#a",
        "https://my.host/fl ux",
        "https://my.host/flux\r\nX: y",
        "https://my.host\\flux",
        "https://my.host/{token}",
        "https://bücher.example",
        "https://my.host/\ud800",
        "https://my.host/" + "a" * 1000,
        7,
    ],
)
def test_a_public_url_that_cannot_be_called_is_refused(given: Any) -> None:
    """The error names the field, what was given and what is allowed."""
    with pytest.raises(ValueError, match=r"public_url=.*allowed is an https URL") as refused:
        CallbackReceiver(given)
    assert repr(given)[1:20].rstrip("'") in str(refused.value)


def test_a_password_in_a_public_url_is_refused_and_not_shown() -> None:
    """Errors end up in logs."""
    with pytest.raises(ValueError, match="public_url holds a user name") as refused:
        CallbackReceiver("https://me:secret-word@my.host")
    assert "secret-word" not in str(refused.value)


def test_plain_http_to_another_machine_has_to_be_asked_for() -> None:
    """The record holds the prompt."""
    with pytest.raises(ValueError, match=r"http://10\.0\.0\.7.*in clear.*allow_http=True"):
        CallbackReceiver("http://10.0.0.7/flux")
    receiver = CallbackReceiver("http://10.0.0.7/flux", allow_http=True)
    assert receiver.public_url == "http://10.0.0.7/flux"
    assert pickle.loads(pickle.dumps(receiver)).public_url == "http://10.0.0.7/flux"


def test_what_cannot_be_listened_on_or_called_is_refused() -> None:
    """Before anything is started."""
    for port in (-1, 65536):
        with pytest.raises(ValueError, match=f"port={port}; allowed are 0 to 65535"):
            CallbackReceiver(port=port)
    with pytest.raises(ValueError, match=r"public_url=None with host='0\.0\.0\.0'"):
        CallbackReceiver(host="0.0.0.0")
    with pytest.raises(ValueError, match=r"public_url=None: .* mounted"):
        CallbackReceiver().app  # noqa: B018 - what it raises is the point


def _open_descriptors() -> int:
    gc.collect()
    return len(list(Path("/dev/fd").iterdir()))
