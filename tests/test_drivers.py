"""Both drivers over real HTTP: the same replies mean the same, whichever library carries them."""

from __future__ import annotations

import asyncio
import gc
import gzip
import json
import socket
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from both_drivers import DRIVERS, Caller
from loop_waits import live_timers
from pydantic import SecretStr
from quick_flux import QUICK_POLL, QUICK_RETRY, flux_on
from reply_server import KEY, RESET, Pieces, ReplyServer, as_bytes
from screenplay import MODEL, REQUEST, Clock, buy, here
from transcripts import (
    BROKE_OFF,
    CREATED,
    JOB_ID,
    RUNNING,
    SUCCEEDED,
    TRANSCRIPTS,
    UNSTABLE,
    page,
    pictures,
    raw,
    record,
    said,
)

from langchain_shortapi_flux import (
    Budget,
    ConfigurationError,
    CreateOutcomeUnknown,
    FluxJob,
    InvalidRequest,
    JobFailed,
    JobTimeout,
    RetryLimits,
    ServiceUnavailable,
    ShortAPIError,
    ShortAPIFlux,
    UnexpectedReply,
    aiohttp_call,
    aiohttp_driver,
    requests_call,
    requests_driver,
)
from langchain_shortapi_flux.connection import IDLE_SECONDS_FOR_CREATE, USER_AGENT, connect
from langchain_shortapi_flux.flow_steps import JobFlow, Order, Step
from langchain_shortapi_flux.job_flow import buy_job
from langchain_shortapi_flux.ledger import Bought, Claim, MemoryLedger
from langchain_shortapi_flux.loop_session import LoopSession, _sessions, loop_session
from langchain_shortapi_flux.sandbox import Fault, Sandbox
from langchain_shortapi_flux.surroundings import Surroundings

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from pathlib import Path

    from langchain_shortapi_flux.connection import Connection

OFFICIAL = "https://api.shortapi.ai"


@dataclass
class Shown:
    """What a caller sees of a job: its snapshots, and the error if there was one."""

    jobs: list[FluxJob]
    error: ShortAPIError | None
    waits: list[float]

    @property
    def fault(self) -> tuple[type[Exception], str, dict[str, Any]] | None:
        """The error by type, text and attributes."""
        if self.error is None:
            return None
        return type(self.error), str(self.error), vars(self.error)


def drive(driver: str, flow: JobFlow, connection: Connection, clock: Clock) -> Shown:
    """Run a flow through a driver; its waits pass on the clock and take no time."""
    shown = Shown([], None, [])

    def wait(seconds: float) -> None:
        shown.waits.append(round(seconds, 6))
        clock.pass_by(seconds)

    async def await_(seconds: float) -> None:
        wait(seconds)

    async def run_async() -> None:
        async for job in aiohttp_driver.run(flow, connection, Surroundings(MemoryLedger()), await_):
            shown.jobs.append(job)

    try:
        if driver == "requests":
            shown.jobs.extend(
                requests_driver.run(flow, connection, Surroundings(MemoryLedger()), wait)
            )
        else:
            asyncio.run(run_async())
    except ShortAPIError as error:
        shown.error = error
    return shown


def buy_through(driver: str, base_url: str, **changes: Any) -> Shown:
    """Buy a job from a service, with the default policies and no time wasted."""
    clock = Clock()
    flow = buy_job(Order(REQUEST, MODEL), here(clock, base_url, **changes))
    return drive(driver, flow, connect(base_url, SecretStr(KEY), 8), clock)


def caller(driver: str, server: ReplyServer, **fields: Any) -> Caller:
    """A Runnable on the reply server, in real time and without dawdling."""
    quick = {"poll": QUICK_POLL, "retry": QUICK_RETRY, "timeout": 10.0, "api_key": KEY}
    return Caller(driver, ShortAPIFlux(**{"base_url": server.base_url, **quick, **fields}))


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as lent:
        lent.bind(("127.0.0.1", 0))
        return int(lent.getsockname()[1])


# --- the same transcripts -----------------------------------------------------------------------


@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_a_transcript_means_the_same_on_paper_and_through_both_drivers(name: str) -> None:
    """A pair of drivers that were written apart differ somewhere: snapshots, waits, errors."""
    answers = TRANSCRIPTS[name]
    for driver in DRIVERS:
        with ReplyServer(*answers) as server:
            paper = buy(answers, base_url=server.base_url)
            shown = buy_through(driver, server.base_url)
        assert [_without_its_home(job) for job in shown.jobs] == [
            _without_its_home(job) for job in paper.snapshots
        ]
        assert shown.fault == Shown([], paper.error, []).fault
        assert shown.waits == [round(step.wait, 6) for step in paper.steps if step.wait]
        assert [asked.path.partition("?")[0] for asked in server.asked] == [
            f"/api/v1{path}" for path in paper.paths
        ]


def _without_its_home(job: FluxJob) -> dict[str, Any]:
    return job.model_dump(exclude={"base_url"})


# --- replies that break off, are odd, or too much -----------------------------------------------

_HEAD = b"HTTP/1.1 200 OK\r\n"
DROPS = 600
DRIPPING_SECONDS = 30.0
_BROKEN: dict[str, Any] = {
    "a close": BROKE_OFF,
    "a reset": RESET,
    "another protocol": Pieces((b"SSH-2.0-OpenSSH_9.6\r\n",)),
    "a body shorter than promised": Pieces((_HEAD + b"Content-Length: 500\r\n\r\n{}",)),
    "a chunk that breaks off": Pieces((_HEAD + b"Transfer-Encoding: chunked\r\n\r\n40\r\n{}",)),
    "no gzip": Pieces(
        (_HEAD + b"Connection: close\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",)
    ),
}


@pytest.mark.parametrize("broken", _BROKEN.values(), ids=_BROKEN)
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_create_whose_answer_breaks_off_is_not_sent_again(driver: str, broken: Any) -> None:
    """Something reached the service, so a job may exist: one send, and an honest error."""
    with ReplyServer(broken) as server:
        shown = buy_through(driver, server.base_url)
        assert len(server.asked) == 1
    assert type(shown.error) is CreateOutcomeUnknown
    assert "no answer came (the connection broke off)" in str(shown.error)


@pytest.mark.parametrize("broken", _BROKEN.values(), ids=_BROKEN)
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_query_whose_answer_breaks_off_is_made_again_by_the_flow_alone(
    driver: str, broken: Any
) -> None:
    """Left alone, aiohttp sends a lost GET twice, unseen: then no backoff would hold."""
    with ReplyServer(CREATED, broken, broken, SUCCEEDED) as server:
        shown = buy_through(driver, server.base_url)
        assert len(server.asked) == 4
    assert shown.error is None
    assert shown.jobs[-1].queries == 3
    assert shown.waits == [2.0, 1.125, 2.25]


@pytest.mark.parametrize(
    "reply",
    [
        Pieces(
            (
                _HEAD + b"Content-Encoding: gzip\r\nConnection: close\r\n\r\n",
                gzip.compress(CREATED.body),
            )
        ),
        Pieces(
            (
                _HEAD + b"Transfer-Encoding: chunked\r\n\r\n",
                b"%x\r\n%s\r\n0\r\n\r\n" % (len(CREATED.body), CREATED.body),
            )
        ),
        Pieces((_HEAD + b"\r\n", CREATED.body)),
        Pieces((_HEAD + b"X-Long: " + b"x" * 20_000 + b"\r\n\r\n", CREATED.body)),
        Pieces((b"HTTP/1.1 100 Continue\r\n\r\n" + as_bytes(CREATED),)),
    ],
    ids=["gzip", "chunked", "until the end", "a long header", "after 100 Continue"],
)
@pytest.mark.parametrize("driver", DRIVERS)
def test_every_form_of_a_good_create_reply_is_read(driver: str, reply: Pieces) -> None:
    """The job is paid for by then: a reply that one library cannot read costs money."""
    with ReplyServer(reply, SUCCEEDED) as server:
        shown = buy_through(driver, server.base_url)
    assert shown.error is None
    assert shown.jobs[-1].job_id == JOB_ID


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_reply_over_the_limit_is_cut_off(driver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server gone mad must not fill the memory; create stays unclear, queries go on."""
    monkeypatch.setattr(requests_call, "REPLY_LIMIT_BYTES", 1000)
    monkeypatch.setattr(aiohttp_call, "REPLY_LIMIT_BYTES", 1000)
    long = raw(b"x" * 5000)
    with ReplyServer(long) as server:
        shown = buy_through(driver, server.base_url)
    assert type(shown.error) is CreateOutcomeUnknown
    assert "the reply is too long" in str(shown.error)
    with ReplyServer(CREATED, long, SUCCEEDED) as server:
        shown = buy_through(driver, server.base_url)
    assert shown.jobs[-1].status == "succeeded"


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("bought", [False, True])
def test_a_dripping_reply_ends_at_the_deadline(driver: str, bought: bool) -> None:
    """A byte now and then keeps every socket timeout happy: only the deadline can end it."""
    drip = Pieces((_HEAD + b"Content-Length: 1000\r\n\r\n", *[b" "] * DROPS), gap=0.05)
    script = (CREATED, drip) if bought else (drip,)
    with ReplyServer(*script) as server:
        began = time.monotonic()
        with pytest.raises(ShortAPIError, match="it took too long") as caught:
            caller(driver, server, timeout=0.4).invoke("a fox")
        assert time.monotonic() - began < DRIPPING_SECONDS / 2
    assert type(caught.value) is (JobTimeout if bought else CreateOutcomeUnknown)
    assert caught.value.job_id == (JOB_ID if bought else None)


_DRIPPING: dict[str, tuple[bytes, bytes]] = {
    "headers": (_HEAD, b"X-Slow: yes\r\n"),
    "one header": (_HEAD + b"X-Slow: ", b"y"),
    "100 Continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "a chunk's extension": (_HEAD + b"Transfer-Encoding: chunked\r\n\r\n5;", b"x"),
    "trailers": (_HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X-Slow: yes\r\n"),
    "a gzip's name": (
        _HEAD + b"Content-Encoding: gzip\r\n\r\n" + bytes.fromhex("1f8b08080000000000ff"),
        b"x",
    ),
    "a body until the end": (_HEAD + b"Connection: close\r\n\r\n", b" "),
    "a redirect's body": (b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", b" "),
}


@pytest.mark.parametrize("drip", _DRIPPING.values(), ids=_DRIPPING)
@pytest.mark.parametrize("driver", DRIVERS)
def test_whatever_drips_ends_at_the_deadline(driver: str, drip: tuple[bytes, bytes]) -> None:
    """Not only a body can drip, and each library reads the other parts in its own loops."""
    head, drop = drip
    with ReplyServer(Pieces((head, *[drop] * DROPS), gap=0.05)) as server:
        began = time.monotonic()
        with pytest.raises(CreateOutcomeUnknown, match="it took too long"):
            caller(driver, server, timeout=0.4).invoke("a fox")
        assert time.monotonic() - began < DRIPPING_SECONDS / 2
        assert len(server.asked) == 1


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_handshake_that_drips_ends_at_the_deadline_and_nothing_was_sent(
    driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same before there is a connection: also a proxy can drip, and it saw no create."""
    drip = Pieces((_HEAD, *[b"X-Slow: yes\r\n"] * DROPS), gap=0.05)
    with ReplyServer(drip) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.base_url)
        began = time.monotonic()
        with pytest.raises(ServiceUnavailable, match=r"it took too long|proxy"):
            caller(driver, proxy, base_url=OFFICIAL, timeout=0.4).invoke("a fox")
        assert time.monotonic() - began < DRIPPING_SECONDS / 2


@pytest.mark.parametrize("driver", DRIVERS)
def test_what_never_got_a_connection_was_not_sent(driver: str) -> None:
    """Both drivers know it from the socket, not from the name of an error."""
    with ReplyServer(Pieces((b"HTTP/1.1 400 Bad Request\r\n\r\n",))) as plain:
        for base_url in (plain.base_url.replace("http:", "https:"), "https://a..invalid"):
            shown = buy_through(driver, base_url)
            assert type(shown.error) is ServiceUnavailable
            assert shown.error.charge == "none"


@pytest.mark.parametrize("bundle", ["missing.pem", "."])
def test_a_ca_bundle_that_cannot_be_read_is_told_before_anything_is_sent(
    bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever TLS is spoken, this machine included."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / bundle))
    for base_url in (OFFICIAL, "https://127.0.0.1:8787"):
        with pytest.raises(ConfigurationError, match="CA bundle"):
            connect(base_url, SecretStr(KEY), 8)
    assert connect("http://127.0.0.1:8787", SecretStr(KEY), 8).ca_bundle is not None


@pytest.mark.parametrize("driver", DRIVERS)
def test_the_body_of_a_redirect_is_read_to_the_limit_only(
    driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Left alone, requests reads it to its end, although it was told to follow nothing."""
    monkeypatch.setattr(requests_call, "REPLY_LIMIT_BYTES", 1000)
    monkeypatch.setattr(aiohttp_call, "REPLY_LIMIT_BYTES", 1000)
    long = raw(b"x" * 5000, 302, Location="/elsewhere")
    with ReplyServer(long) as server:
        shown = buy_through(driver, server.base_url)
    assert type(shown.error) is CreateOutcomeUnknown
    assert "the reply is too long" in str(shown.error)


# --- nobody there -------------------------------------------------------------------------------


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("attempts", [1, 4])
def test_a_refused_connection_is_tried_again_and_costs_nothing(driver: str, attempts: int) -> None:
    """No connection, no create: it is safe to repeat, here and by LangChain's retries."""
    base_url = f"http://127.0.0.1:{free_port()}"
    shown = buy_through(driver, base_url, retry=RetryLimits(create_attempts=attempts))
    assert type(shown.error) is ServiceUnavailable
    assert str(shown.error) == f"{base_url} was not reached: it refused the connection"
    assert (shown.error.charge, shown.error.is_retryable) == ("none", True)
    assert shown.waits == [1.125, 2.25, 4.5][: attempts - 1]


@pytest.mark.parametrize("driver", DRIVERS)
def test_an_unknown_host_name_is_tried_again_and_costs_nothing(
    driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same for a name that the resolver does not know."""

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    shown = buy_through(driver, OFFICIAL)
    assert type(shown.error) is ServiceUnavailable
    assert str(shown.error) == f"{OFFICIAL} was not reached: its host name cannot be resolved"
    assert len(shown.waits) == 3


# --- what goes out ------------------------------------------------------------------------------


def test_both_drivers_send_the_same_bytes_and_headers() -> None:
    """A server, and a cassette, must not be able to tell the drivers apart by what matters."""
    asked = []
    for driver in DRIVERS:
        with ReplyServer(CREATED, SUCCEEDED) as server:
            buy_through(driver, server.base_url)
            asked.append(server.asked)
    names = ("authorization", "accept", "user-agent", "content-type")
    blocking, on_loop = (
        [(a.method, a.path, a.body, [a.headers.get(name) for name in names]) for a in one]
        for one in asked
    )
    assert blocking == on_loop
    assert blocking[0][3] == [
        f"Bearer {KEY}",
        "application/json",
        USER_AGENT,
        "application/json",
    ]
    assert blocking[1][3][3] is None


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirected_create_goes_nowhere(driver: str, status: int) -> None:
    """On a 307 both libraries would buy a second time, and show the key to whoever it names."""
    away = raw(b"", status, Location="/api/v1/job/create")
    with ReplyServer(away, CREATED, SUCCEEDED) as server:
        shown = buy_through(driver, server.base_url)
        assert len(server.asked) == 1
    assert type(shown.error) is UnexpectedReply
    assert shown.error.charge == "unknown"
    assert "redirects are not followed, mend base_url" in str(shown.error)


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_redirected_query_goes_nowhere(driver: str) -> None:
    """The key travels with a query too."""
    with ReplyServer(CREATED, raw(b"", 307, Location="/elsewhere"), SUCCEEDED) as server:
        shown = buy_through(driver, server.base_url)
        assert [asked.path for asked in server.asked][1:] == [f"/api/v1/job/query?id={JOB_ID}"]
    assert type(shown.error) is UnexpectedReply
    assert shown.error.job_id == JOB_ID


@pytest.mark.parametrize("driver", DRIVERS)
def test_netrc_never_replaces_the_key(
    driver: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Left alone, requests sends the login that some other tool left there, not the key."""
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login eve password hers\ndefault login eve password hers\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(netrc))
    with ReplyServer(CREATED, SUCCEEDED) as server:
        buy_through(driver, server.base_url)
        assert {asked.headers["authorization"] for asked in server.asked} == {f"Bearer {KEY}"}


@pytest.mark.parametrize("driver", DRIVERS)
def test_cookies_are_never_sent_back(driver: str) -> None:
    """A load balancer's cookie would tie every job of a process to one server."""
    sticky = said(
        {"code": 0, "data": {"job_id": JOB_ID}}, Set_Cookie="who=you; Path=/", Connection="close"
    )
    running = said(record(status=1), Set_Cookie="who=you; Path=/")
    with ReplyServer(sticky, running, SUCCEEDED) as server:
        buy_through(driver, server.base_url)
        assert len(server.asked) == 3
        assert not any("cookie" in asked.headers for asked in server.asked)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("key", [KEY, 'odd/key+with="quotes"\\and%25'])
def test_a_key_that_a_reply_echoes_is_hidden_everywhere(driver: str, key: str) -> None:
    """Gateways like to quote what they refuse; errors and snapshots end up in traces and logs."""
    echoes = [
        (said({"code": 1, "info": f"invalid api key {key}"}),),
        (raw(f"<p>Bearer {key}</p>".encode(), 403),),
        (raw(f"no such key: {key}".encode(), 502),),
        (raw(b"", 302, Location=f"https://login.example/?key={key.replace('%', '%25')}"),),
        (raw(b"", 302, Location=f"https://login.example/?key={key}"),),
        (CREATED, said({"code": 1, "info": f"invalid api key {key}"})),
        (CREATED, said(record(status=3, error={"message": f"key {key}"}))),
        (CREATED, said(record(status=2, result={"images": [f"https://x.example/{KEY}.png"]}))),
    ]
    for answers in echoes:
        clock = Clock()
        with ReplyServer(*answers) as server:
            flow = buy_job(Order(REQUEST, MODEL), here(clock, server.base_url))
            connection = connect(server.base_url, SecretStr(key), 8)
            shown = drive(driver, flow, connection, clock)
        told = f"{shown.error} {shown.error!r} {shown.jobs!r}"
        assert key not in told
        assert shown.error is None or "[key]" in told or "%25" in told


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_key_is_hidden_in_whatever_spelling(driver: str) -> None:
    """JSON has several ways to write a letter, and all of them are read as the same."""
    key = "ak-12/34\\56"
    escaped = "".join(f"\\u{ord(letter):04X}" for letter in key)
    slashed = key.replace("\\", "\\\\").replace("/", "\\/")
    mixed = "\\u0061" + key.replace("\\", "\\\\")[1:]
    bodies = [
        *(f'{{"code":1,"info":"bad key {spelt}"}}'.encode() for spelt in (escaped, slashed, mixed)),
        json.dumps({"code": 1, "info": f"bad key {key}"}).encode("utf-16"),
        f"bad key {key}".encode("utf-16-be"),
    ]
    for body in bodies:
        clock = Clock()
        with ReplyServer(raw(body, 400)) as server:
            flow = buy_job(Order(REQUEST, MODEL), here(clock, server.base_url))
            shown = drive(driver, flow, connect(server.base_url, SecretStr(key), 8), clock)
        assert key not in str(shown.error).replace("\0", "")
        assert "[key]" in str(shown.error).replace("\0", "")


# --- proxies ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "url", "proxy"),
    [
        ({}, OFFICIAL, None),
        ({"HTTPS_PROXY": "http://proxy:3128"}, OFFICIAL, "http://proxy:3128"),
        ({"https_proxy": "http://u:p@proxy:3128"}, OFFICIAL, "http://u:p@proxy:3128"),
        ({"HTTPS_PROXY": "proxy:3128"}, OFFICIAL, "http://proxy:3128"),
        ({"ALL_PROXY": "http://proxy:3128"}, OFFICIAL, "http://proxy:3128"),
        ({"HTTP_PROXY": "http://proxy:3128"}, OFFICIAL, None),
        ({"HTTPS_PROXY": "http://proxy:1", "NO_PROXY": "shortapi.ai"}, OFFICIAL, None),
        ({"HTTPS_PROXY": "http://proxy:1", "NO_PROXY": "*"}, OFFICIAL, None),
        ({"HTTPS_PROXY": "http://proxy:1"}, "https://127.0.0.1:8787", None),
        ({"HTTP_PROXY": "http://proxy:1"}, "http://localhost:8787", None),
        ({"ALL_PROXY": "socks5://proxy:1"}, "http://[::1]:8787", None),
    ],
)
def test_the_environments_proxy_is_for_others_than_this_machine(
    variables: dict[str, str], url: str, proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Companies reach the service through a proxy, and their own sandbox without one."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert connect(url, SecretStr(KEY), 8).proxy_url == proxy


def test_a_proxy_that_cannot_be_used_is_refused_before_anything_is_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without this, one driver would fail on it and the other go around it."""
    monkeypatch.setenv("ALL_PROXY", "socks5://proxy:1080")
    with pytest.raises(ConfigurationError, match="names a socks5 proxy for api"):
        connect(OFFICIAL, SecretStr(KEY), 8)


@pytest.mark.parametrize("proxy", ["http://[::1", "http://p:99999", "http://", "http://a b:1"])
def test_a_proxy_that_is_no_url_is_refused_before_anything_is_sent(
    proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And its text, which may hold a password, is not shown."""
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(ConfigurationError, match="no URL") as caught:
        connect(OFFICIAL, SecretStr(KEY), 8)
    assert proxy not in str(caught.value)


def test_a_proxys_password_shows_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection is a value, and values get printed."""
    monkeypatch.setenv("HTTPS_PROXY", "http://user:hunter2@proxy:3128")
    connection = connect(OFFICIAL, SecretStr(KEY), 8)
    assert "hunter2" not in repr(connection)
    assert KEY not in repr(connection)


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_proxy_is_asked_for_a_tunnel_and_never_sees_the_key(
    driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tunnel that is refused carried nothing: create may be repeated and cost nothing."""
    with ReplyServer(said({"info": "not today"}, 403)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.base_url)
        shown = buy_through(driver, OFFICIAL)
        assert {(asked.method, asked.path) for asked in proxy.asked} == {
            ("CONNECT", "api.shortapi.ai:443")
        }
        assert len(proxy.asked) == 4
        assert KEY not in str([asked.headers for asked in proxy.asked])
    assert type(shown.error) is ServiceUnavailable
    assert str(shown.error) == f"{OFFICIAL} was not reached: the proxy could not be used"


@pytest.mark.parametrize("driver", DRIVERS)
def test_this_machine_is_reached_without_the_proxy(
    driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both libraries read the environment themselves, unless they are kept from it."""
    with ReplyServer(page(502)) as proxy, ReplyServer(CREATED, SUCCEEDED) as server:
        monkeypatch.setenv("HTTP_PROXY", proxy.base_url)
        monkeypatch.setenv("ALL_PROXY", proxy.base_url)
        assert buy_through(driver, server.base_url).error is None
        assert proxy.asked == []


# --- sockets ------------------------------------------------------------------------------------


def test_a_blocking_create_opens_a_connection_of_its_own() -> None:
    """One that was idle may have been closed unnoticed, which would look like a lost answer."""
    with ReplyServer(UNSTABLE, UNSTABLE, CREATED, RUNNING, SUCCEEDED) as server:
        buy_through("requests", server.base_url)
        over = [asked.connection for asked in server.asked]
    assert over == [1, 2, 3, 3, 3]


async def test_an_async_create_rides_no_connection_that_was_idle_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As above; a connection in steady use may be shared, for jobs in a batch come fast."""
    monkeypatch.setattr("langchain_shortapi_flux.loop_session.IDLE_SECONDS_FOR_CREATE", 0.2)
    with ReplyServer(CREATED, CREATED, RUNNING, CREATED) as server:
        flux = caller("aiohttp", server).flux
        async with _kept(flux):
            await flux.acreate("a fox")
            job = await flux.acreate("a fox")
            await asyncio.sleep(0.3)
            await flux.aquery(job)  # may be lost and made again, so it saves a handshake
            await asyncio.sleep(0.3)
            await flux.acreate("a fox")
        assert [asked.connection for asked in server.asked] == [1, 1, 1, 2]


async def test_what_was_said_out_of_turn_answers_no_later_request() -> None:
    """It would be another job's record, or another's id in the place of a create's own."""
    twice = Pieces((as_bytes(RUNNING), as_bytes(SUCCEEDED), *[b""] * DROPS), gap=0.05)
    with ReplyServer(twice, RUNNING) as server:
        flux = caller("aiohttp", server).flux
        async with _kept(flux):
            await flux.aquery("one")
            await asyncio.sleep(0.5)
            other = await flux.aquery("other")
        assert other.status == "pending"
        assert [asked.connection for asked in server.asked] == [1, 2]


async def test_what_is_known_of_connections_does_not_outgrow_them() -> None:
    """A service that closes each one must not fill the memory of a loop that runs for days."""
    with ReplyServer(*[Pieces((as_bytes(RUNNING),))] * 12) as server:
        flux = caller("aiohttp", server, max_connections=2).flux
        async with _kept(flux) as session:
            for _ in range(12):
                await flux.aquery("one")
            assert len(vars(session.http.connector)["_used_by"]) <= 2 * 2 + 1
            assert session.contacts == {}
        assert len({asked.connection for asked in server.asked}) == 12


async def test_a_job_is_logged_that_is_left_while_its_session_closes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its flow has ended by then, and nobody will be given the job."""
    closing, close = asyncio.Event(), aiohttp.ClientSession.close

    async def close_slowly(session: aiohttp.ClientSession) -> None:
        closing.set()
        try:
            await asyncio.sleep(60.0)
        finally:
            await close(session)

    monkeypatch.setattr(aiohttp.ClientSession, "close", close_slowly)
    with ReplyServer(CREATED) as server:
        task = asyncio.create_task(caller("aiohttp", server).flux.acreate("a fox"))
        await closing.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert f"left when job {JOB_ID} was known: pending" in caplog.text


@asynccontextmanager
async def _kept(flux: ShortAPIFlux) -> AsyncIterator[LoopSession]:
    """A session that is there as long as this is, also between jobs."""
    session = loop_session(flux.connection())
    session.enter()
    try:
        yield session
    finally:
        await session.leave()


def test_a_create_rides_no_connection_that_was_idle_for_a_second() -> None:
    """The number that the test above shrinks."""
    assert IDLE_SECONDS_FOR_CREATE == 1.0


async def test_jobs_on_one_loop_share_a_session_that_the_last_one_closes(
    sandbox: Sandbox,
) -> None:
    """A session per job would open sockets without bound; one left open warns at exit."""
    sandbox.inject(Fault("create", "hold", times=5, seconds=0.25))
    flux = flux_on(sandbox)
    tasks = [asyncio.create_task(flux.ainvoke("a fox")) for _ in range(5)]
    await asyncio.sleep(0.05)
    shared = list(_sessions[asyncio.get_running_loop()].values())
    assert len(shared) == 1
    assert shared[0].jobs == 5
    session = shared[0].http
    assert not session.closed
    await asyncio.gather(*tasks)
    assert session.closed
    assert not _sessions[asyncio.get_running_loop()]
    del shared, session
    gc.collect()  # an open session would warn here, and warnings are errors


async def test_accounts_do_not_share_a_session(sandbox: Sandbox) -> None:
    """Two keys on one loop must never meet on one connection pool's settings."""
    sandbox.inject(Fault("create", "hold", times=2, seconds=0.25))
    tasks = [
        asyncio.create_task(flux_on(sandbox, max_connections=count).ainvoke("a fox"))
        for count in (3, 4)
    ]
    await asyncio.sleep(0.05)
    assert len(_sessions[asyncio.get_running_loop()]) == 2
    await asyncio.gather(*tasks)


async def _calls_reach(sandbox: Sandbox, count: int) -> None:
    while len(sandbox.calls) < count:  # noqa: ASYNC110 - the sandbox runs in another thread
        await asyncio.sleep(0.01)


async def test_a_cancelled_call_stops_querying_at_once(sandbox: Sandbox) -> None:
    """An agent that is stopped must not leave a loop behind that asks for five minutes."""
    sandbox.inject(Fault("create", "job_never_ends"))
    task = asyncio.create_task(flux_on(sandbox).ainvoke("a fox"))
    await _calls_reach(sandbox, 3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0.05)
    calls = len(sandbox.calls)
    await asyncio.sleep(0.15)
    assert len(sandbox.calls) == calls
    assert sandbox.open_connections == 0


async def test_no_more_sockets_than_max_connections(sandbox: Sandbox) -> None:
    """A batch of hundreds must not open hundreds of sockets."""
    sandbox.inject(Fault("create", "hold", times=20, seconds=0.02))
    flux = flux_on(sandbox, max_connections=3)
    jobs = await asyncio.gather(*(flux.ainvoke("a fox") for _ in range(20)))
    assert {job.status for job in jobs} == {"succeeded"}
    assert sandbox.peak_connections == 3


async def test_waiting_for_a_socket_leaves_no_timer(sandbox: Sandbox) -> None:
    """One that is left holds on to the session until the deadline of a job that has long ended."""
    before = len(live_timers())
    flux = flux_on(sandbox, max_connections=1)
    await asyncio.gather(*(flux.ainvoke("a fox") for _ in range(5)))
    assert len(live_timers()) <= before


async def test_a_create_that_found_no_socket_in_time_was_not_sent(sandbox: Sandbox) -> None:
    """Queueing on this side is no lost answer: nothing was bought, and the caller may know it."""
    sandbox.inject(Fault("create", "hold", seconds=0.5))
    flux = flux_on(sandbox, max_connections=1)
    first = asyncio.create_task(flux.ainvoke("a fox"))
    await _calls_reach(sandbox, 1)
    with pytest.raises(ServiceUnavailable, match="was not reached: it took too long") as caught:
        await flux.model_copy(update={"timeout": 0.2}).ainvoke("a hare")
    assert caught.value.charge == "none"
    assert (await first).status == "succeeded"
    assert len(sandbox.charges) == 1
    assert [call.on for call in sandbox.calls].count("create") == 1


async def test_creates_that_are_cancelled_while_they_queue_for_a_socket_cost_nothing(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    """Half-way through 500 on four sockets: reserved is what may have been charged, no more."""
    sandbox.inject(Fault("create", "hold", seconds=30.0, times=4))
    budget = Budget(usd="5")
    flux = flux_on(sandbox, max_connections=4, performance="schnell", budget=budget, timeout=50.0)
    tasks = [
        asyncio.create_task(flux.ainvoke(f"fox {number}", request_key=f"order {number}"))
        for number in range(500)
    ]
    await _calls_reach(sandbox, 4)
    assert budget.reserved == 1
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    charged = sum(charge.usd for charge in sandbox.charges)
    assert budget.reserved + budget.spent == charged == Decimal("0.008")
    assert isinstance(flux.ledger, MemoryLedger)
    left = [entry.key.rpartition(" ")[2] for entry in flux.ledger._open.values()]
    assert {entry.state for entry in flux.ledger._open.values()} == {"unknown"}
    assert len(left) == 4
    assert caplog.text.count("stopped while a job was being created") == 4
    free = next(str(number) for number in range(500) if str(number) not in left)
    again = await flux.ainvoke(f"fox {free}", request_key=f"order {free}")
    assert again.status == "succeeded"
    assert len(sandbox.charges) == 5


async def test_a_second_try_that_is_cancelled_while_it_queues_is_given_up_for_good(
    sandbox: Sandbox,
) -> None:
    """Also where it was the last that ``create_attempts`` allows."""
    sandbox.inject(Fault("create", "hold", seconds=30.0))
    budget, once = Budget(usd="5"), RetryLimits(create_attempts=1)
    flux = flux_on(sandbox, max_connections=1, budget=budget, retry=once, timeout=50.0)
    first = asyncio.create_task(flux.ainvoke("a fox"))
    await _calls_reach(sandbox, 1)
    second = asyncio.create_task(flux.ainvoke("a hare", request_key="one"))
    third = asyncio.create_task(flux.ainvoke("an owl"))
    while budget.reserved < Decimal("0.06"):  # noqa: ASYNC110 - the flows set no event
        await asyncio.sleep(0.005)
    await asyncio.sleep(0.02)
    for task in (second, third):
        task.cancel()
    await asyncio.gather(second, third, return_exceptions=True)
    assert isinstance(flux.ledger, MemoryLedger)
    assert (budget.reserved, len(flux.ledger)) == (Decimal("0.02"), 0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert (budget.reserved, len(flux.ledger)) == (Decimal("0.02"), 1)


@pytest.mark.parametrize("key", [None, "one"])
def test_an_interrupt_while_create_connects_costs_nothing(
    key: str | None, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C on the main thread: there was no connection, so nothing can have been bought."""
    budget = Budget(usd="5")
    flux = flux_on(sandbox, budget=budget)

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as socketless:
        socketless.setattr(socket, "getaddrinfo", interrupted)
        with pytest.raises(KeyboardInterrupt):
            flux.bind(request_key=key).invoke("a fox")
    assert isinstance(flux.ledger, MemoryLedger)
    assert budget.reserved == len(flux.ledger) == len(sandbox.calls) == 0


@pytest.mark.parametrize("key", [None, "one"])
def test_an_interrupt_once_create_is_connected_leaves_it_in_doubt(
    key: str | None, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From here on the bytes may be on their way."""
    budget = Budget(usd="5")
    flux = flux_on(sandbox, budget=budget)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as deaf:
        deaf.setattr("http.client.HTTPConnection.getresponse", interrupted)
        with pytest.raises(KeyboardInterrupt):
            flux.bind(request_key=key).invoke("a fox")
    assert isinstance(flux.ledger, MemoryLedger)
    assert [entry.state for entry in flux.ledger._open.values()] == ["unknown"]
    assert budget.reserved == Decimal("0.02")


@pytest.mark.parametrize("driver", DRIVERS)
def test_lone_surrogates_in_a_reply_break_nothing(driver: str) -> None:
    """JSON can spell half a character; it must not crash a call whose job is paid for."""
    half = "\ud83d"
    odd = said(record(status=2, result={"images": [f"https://x.example/{half}.png", pictures(1)]}))
    with ReplyServer(CREATED, odd) as server:
        shown = buy_through(driver, server.base_url)
    assert type(shown.error) is UnexpectedReply
    with ReplyServer(CREATED, said(record(status=3, error=f"no {half}!"))) as server:
        shown = buy_through(driver, server.base_url)
    assert type(shown.error) is JobFailed
    assert "no ?!" in str(shown.error)
    with ReplyServer(said({"code": 0, "data": {"job_id": half}})) as server:
        shown = buy_through(driver, server.base_url)
    assert type(shown.error) is CreateOutcomeUnknown


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_request_that_is_refused_here_touches_no_socket(driver: str) -> None:
    """What the official page does not list is refused before it can cost anything."""
    with ReplyServer(CREATED) as server:
        with pytest.raises(InvalidRequest, match="aspect_ratio"):
            caller(driver, server).invoke({"prompt": "a fox", "aspect_ratio": "5:4"})
        assert server.connections == 0


@pytest.mark.parametrize("driver", DRIVERS)
def test_an_interrupt_inside_the_flow_notes_what_was_to_be_noted(driver: str) -> None:
    """Ctrl-C may come at any moment, also while a flow reads a reply."""
    ledger = MemoryLedger()
    claim = Claim("key", "digest", "holder", now=0.0, lease=1.0)

    def interrupted() -> JobFlow:
        yield Step(None, 0.0, None, (claim, Bought("key", "holder", "j1")))
        raise KeyboardInterrupt

    def run() -> None:
        connection = connect("http://127.0.0.1:9", SecretStr("not-a-key"), 1)
        surroundings = Surroundings(ledger)
        if driver == "requests":
            list(requests_driver.run(interrupted(), connection, surroundings))
        else:
            asyncio.run(_listed(aiohttp_driver.run(interrupted(), connection, surroundings)))

    with pytest.raises(KeyboardInterrupt):
        run()
    assert ledger._open["key"].job_id == "j1"


async def _listed(jobs: AsyncGenerator[FluxJob]) -> list[FluxJob]:
    return [job async for job in jobs]
