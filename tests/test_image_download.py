"""Fetching one picture: to whom the request goes, what it carries, and what ends it."""

from __future__ import annotations

import asyncio
import base64
import gzip
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from reply_server import RESET, Pieces, ReplyServer, as_bytes
from tls_place import TlsPlace, make_tls_place
from whole_pictures import png

from langchain_shortapi_flux import FluxImage
from langchain_shortapi_flux.http_acts import HttpReply
from langchain_shortapi_flux.image_download import Downloader, DownloadLimits
from langchain_shortapi_flux.picture_address import AddressRules
from langchain_shortapi_flux.picture_body import NotFetched

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

HOST = "file.example"
CONTENT = png(at_least=300_000)
HERE = AddressRules(loopback=True)
ELSEWHERE = AddressRules(loopback=False)
PRIVATE_TOO = AddressRules(loopback=False, allow_private=True)
METADATA = "169.254.169.254"


def _reply(body: bytes = CONTENT, status: int = 200, **headers: str) -> HttpReply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return HttpReply(status, named, body, 0.0)


def _then_closed(reply: HttpReply) -> Pieces:
    """The same, on a connection that serves nothing else."""
    return Pieces((as_bytes(reply),))


PICTURE = _reply()


class Names:
    """A name service: one answer after the other, the last one for ever; notes what it is asked."""

    def __init__(self, *answers: list[str]) -> None:
        self._answers = answers
        self.asked: list[str] = []

    async def __call__(self, host: str, _port: int) -> list[str]:
        self.asked.append(host)
        return self._answers[min(len(self.asked), len(self._answers)) - 1]


async def _fetched(
    url: str,
    rules: AddressRules = HERE,
    names: Names | None = None,
    *,
    timeout: float = 10.0,  # noqa: ASYNC109 - it is the subject
    max_bytes: int = 2**20,
) -> bytes:
    pieces: list[bytes] = []

    async def take(piece: bytes) -> None:
        pieces.append(piece)

    limits = DownloadLimits(timeout, max_bytes)
    async with Downloader(rules, limits, names or Names(["127.0.0.1"])) as downloader:
        await downloader.bring(FluxImage(url=url), take)
    return b"".join(pieces)


# --- what the request carries ---------------------------------------------------------------------


async def test_the_request_carries_nothing_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No key, no password of ``.netrc``, and no cookie, even one that the host itself has set."""
    netrc = tmp_path / "netrc"
    netrc.write_text("default login me password s3cret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("SHORTAPI_KEY", "s3cret")
    onward = _reply(b"", 302, location="/there", set_cookie="a=s3cret; Path=/")
    with ReplyServer(onward, PICTURE) as server:
        # By its name: cookies of bare addresses are not kept by anybody.
        assert await _fetched(f"http://localhost:{server.port}/here?sign=%2Fa%7E+b") == CONTENT
    assert [asked.path for asked in server.asked] == ["/here?sign=%2Fa%7E+b", "/there"]
    carried = {"host", "user-agent", "accept", "accept-encoding"}
    assert [set(asked.headers) for asked in server.asked] == [carried, carried]
    assert {asked.headers["accept-encoding"] for asked in server.asked} == {"identity"}
    assert "s3cret" not in str(server.asked)


async def test_a_url_of_other_letters_is_written_in_ascii() -> None:
    """HTTP has no other letters; a redirect may bring some all the same."""
    with ReplyServer(PICTURE) as server:
        assert await _fetched(f"{server.base_url}/füchse.png") == CONTENT
    assert server.asked[0].path == "/f%C3%BCchse.png"


# --- to whom it goes ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> TlsPlace:
    """TLS under the name ``file.example``."""
    return make_tls_place(tmp_path_factory.mktemp("tls"), HOST)


@pytest.fixture
def trusted(tls: TlsPlace, monkeypatch: pytest.MonkeyPatch) -> TlsPlace:
    """The same, trusted by this process."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tls.ca_path))
    tls.names_asked.clear()
    return tls


async def test_the_checked_address_is_the_one_that_is_asked(trusted: TlsPlace) -> None:
    """A name that resolves differently a moment later gains nothing: it is resolved once.

    Greeting and certificate are the host's all the same.
    """
    names = Names(["127.0.0.1"], [METADATA])
    with ReplyServer(PICTURE, tls=trusted.server) as server:
        assert await _fetched(f"https://{HOST}:{server.port}/x", PRIVATE_TOO, names) == CONTENT
    assert names.asked == [HOST]
    assert trusted.names_asked == [HOST]
    assert server.asked[0].headers["host"] == f"{HOST}:{server.port}"


async def test_each_new_connection_is_checked_anew(trusted: TlsPlace) -> None:
    """A redirect back to the same name must not find it somewhere else."""
    back = _then_closed(_reply(b"", 307, location="/there", connection="close"))
    names = Names(["127.0.0.1"], [METADATA])
    with (
        ReplyServer(back, PICTURE, tls=trusted.server) as server,
        pytest.raises(NotFetched, match=f"{METADATA} is link-local"),
    ):
        await _fetched(f"https://{HOST}:{server.port}/x", PRIVATE_TOO, names)
    assert names.asked == [HOST, HOST]
    assert len(server.asked) == 1


@pytest.mark.parametrize("rules", [HERE, ELSEWHERE])
@pytest.mark.parametrize("answer", [["127.0.0.1"], ["10.0.0.1"], ["93.184.216.34", "::1"]])
async def test_a_name_that_leads_inside_is_not_asked(
    answer: list[str], rules: AddressRules
) -> None:
    """Not even where the service itself runs on this machine."""
    with ReplyServer(PICTURE) as server, pytest.raises(NotFetched, match=r"is (private|loopback)"):
        await _fetched(f"https://{HOST}:{server.port}/x", rules, Names(answer))
    assert server.connections == 0


async def test_a_certificate_for_another_name_is_not_trusted(trusted: TlsPlace) -> None:
    """The address is ours to check, the name the certificate's."""
    with ReplyServer(PICTURE, tls=trusted.server) as server:
        with pytest.raises(NotFetched, match="certificate is not trusted"):
            await _fetched(f"https://other.example:{server.port}/x", PRIVATE_TOO)
        with pytest.raises(NotFetched, match="certificate is not trusted"):
            await _fetched(f"{server.base_url}/x", PRIVATE_TOO)
    assert server.asked == []


async def test_a_bundle_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the user's own setting."""
    monkeypatch.setenv("SSL_CERT_FILE", "/no/such/file")
    with pytest.raises(NotFetched, match="CA bundle '/no/such/file'"):
        await _fetched(f"https://{HOST}/x")


ODD_URLS = [
    *("https://2130706433/x", "https://0x7f.1/x", "https://127.1/x", "https://0177.0.0.1/x"),
    *("https://[::ffff:127.0.0.1]/x", "https://127.0.0.1./x", "https://[fe80::1%25eth0]/x"),
    *("https://[::ffff:a9fe:a9fe]/x", "https://10.0.0.1/x", "https://[::]/x", "https://0/x"),
    *("http://[::ffff:127.0.0.1]/x", "http://file.example/x", "http://localhost.example/x"),
    *("http://localhost\\@file.example/x", "https://a:b@file.example/x", "ftp://127.0.0.1/x"),
    *("file:///etc/passwd", "//127.0.0.1/x", "", "https://", "https://[", "https:///x"),
    *("http://①27.0.0.1/x", "https://file.example\\x", "https://a b/x", "https://x\ud800/x"),
]
FOREIGN_DIGITS = ["https://①②⑦.⓪.⓪.①/x", "https://127。0。0。1/x", "https://127.0.0.1/x"]


@pytest.mark.parametrize(
    ("rules", "url"),
    [
        *((rules, url) for rules in (HERE, ELSEWHERE) for url in ODD_URLS),
        *((ELSEWHERE, url) for url in (*FOREIGN_DIGITS, "http://127.0.0.1/x")),
    ],
)
async def test_what_is_no_plain_https_url_of_a_public_host_is_not_fetched(
    rules: AddressRules, url: str
) -> None:
    """Judged as the HTTP library will read it, and before anybody is asked anything."""
    names = Names(["127.0.0.1"])
    with pytest.raises(NotFetched, match="not fetched"):
        await _fetched(url, rules, names)
    assert names.asked == []


# --- redirects ------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_five_redirects_are_followed_and_no_sixth(status: int) -> None:
    """File hosts redirect to their delivery networks; nobody needs more."""
    onward = _reply(b"x" * 100, status, location="/on")
    with ReplyServer(*[onward] * 5, PICTURE) as server:
        assert await _fetched(f"{server.base_url}/x") == CONTENT
    with ReplyServer(onward) as server, pytest.raises(NotFetched, match="more than 5 times"):
        await _fetched(f"{server.base_url}/x")
    assert len(server.asked) == 6


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("", "redirects to nowhere"),
        ("https://[", "redirects to what is no URL"),
        ("http://file.example/x", "not fetched: only https"),
        ("//file.example/x", "not fetched: only https"),
        ("https://10.0.0.1/x", "10.0.0.1 is not fetched from: this address is private"),
        ("https://file.example/x", "file.example is not fetched from: its address 10.0.0.1"),
        (f"http://{METADATA}/latest/meta-data", "not fetched"),
        ("data:image/png;base64,AAAA", "not fetched"),
        ("file:///etc/passwd", "not fetched"),
    ],
)
async def test_a_redirect_leads_only_where_a_url_may(location: str, said: str) -> None:
    """Otherwise any file host could look into the user's network."""
    with (
        ReplyServer(_reply(b"", 302, location=location)) as server,
        pytest.raises(NotFetched) as refused,
    ):
        await _fetched(f"{server.base_url}/x", names=Names(["10.0.0.1"]))
    assert said in str(refused.value)
    assert len(server.asked) == 1


# --- what comes back ------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_damaged_packing_is_told(encoding: str) -> None:
    """It is unpacked here and not by the HTTP library, which knows no bounds."""
    with (
        ReplyServer(_reply(CONTENT, content_encoding=encoding)) as server,
        pytest.raises(NotFetched, match="cannot be unpacked"),
    ):
        await _fetched(f"{server.base_url}/x")


async def test_a_packing_that_ends_too_soon_is_told() -> None:
    """The length was true, but only to what the host had left."""
    with (
        ReplyServer(_reply(gzip.compress(CONTENT)[:-9], content_encoding="gzip")) as server,
        pytest.raises(NotFetched, match="broke off"),
    ):
        await _fetched(f"{server.base_url}/x")


async def test_a_packed_picture_is_unpacked() -> None:
    """Some hosts pack whatever they are asked."""
    with ReplyServer(_reply(gzip.compress(CONTENT), content_encoding="gzip")) as server:
        assert await _fetched(f"{server.base_url}/x") == CONTENT


HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"Content-Length: 999999999\r\n\r\n", "larger than max_bytes=1,048,576"),
        (b"Content-Length: 400000\r\n\r\n", "broke off"),
        (b"Transfer-Encoding: chunked\r\n\r\n5dc0\r\n", "broke off"),
        (b"Content-Length: much\r\n\r\n", "broke off"),
        (b"Content-Encoding: br\r\n\r\n", "packed as 'br'"),
    ],
)
async def test_a_head_that_does_not_fit_the_body_is_told(head: bytes, said: str) -> None:
    """Too much is refused before it is read, and too little is not taken for all."""
    with (
        ReplyServer(Pieces((HEAD + head + CONTENT[:24_000],))) as server,
        pytest.raises(NotFetched, match=said),
    ):
        await _fetched(f"{server.base_url}/x")


async def test_a_body_without_a_length_ends_with_its_connection() -> None:
    """Old servers send such; whether all is there is seen by the picture itself."""
    with ReplyServer(Pieces((HEAD + b"\r\n", CONTENT))) as server:
        assert await _fetched(f"{server.base_url}/x") == CONTENT


@pytest.mark.parametrize("packed", [False, True])
async def test_bytes_are_counted_unpacked(packed: bool) -> None:
    """A bomb is small on the wire."""
    large = png(at_least=2 * 2**20)
    reply = _reply(gzip.compress(large), content_encoding="gzip") if packed else None
    with ReplyServer(reply or Pieces((HEAD + b"\r\n", large))) as server:
        with pytest.raises(NotFetched, match="larger than max_bytes"):
            await _fetched(f"{server.base_url}/x")
        assert await _fetched(f"{server.base_url}/x", max_bytes=3 * 2**20) == large


async def test_empty_members_of_a_gzip_are_counted_as_they_come() -> None:
    """They unpack to nothing, and could go on for ever."""
    members = gzip.compress(CONTENT) + gzip.compress(b"") * 60_000
    with (
        ReplyServer(Pieces((HEAD + b"Content-Encoding: gzip\r\n\r\n", members))) as server,
        pytest.raises(NotFetched, match="larger than max_bytes"),
    ):
        await _fetched(f"{server.base_url}/x")


@pytest.mark.parametrize("status", [204, 206, 304, 403, 404, 410, 429, 500])
async def test_another_answer_is_told_by_its_number(status: int) -> None:
    """Whatever its body is: an error page may come as a picture, too."""
    body = b"" if status in (204, 304) else CONTENT
    with (
        ReplyServer(_then_closed(_reply(body, status))) as server,
        pytest.raises(NotFetched, match=f"/x answers HTTP {status}") as failed,
    ):
        await _fetched(f"{server.base_url}/x?Signature=s3cret")
    assert failed.value.status == status
    assert failed.value.gone == (status in (403, 404, 410))
    assert "s3cret" not in str(failed.value)


async def test_a_lost_connection_and_a_closed_port_are_told_apart() -> None:
    """One is the other side's trouble, the other may be a firewall."""
    with ReplyServer(RESET) as server, pytest.raises(NotFetched, match="broke off"):
        await _fetched(f"{server.base_url}/x")
    with pytest.raises(NotFetched, match="refused the connection"):
        await _fetched(f"{server.base_url}/x")
    with pytest.raises(NotFetched, match="host name cannot be resolved"):
        await _fetched(f"https://{HOST}/x", names=Names([]))


async def test_a_host_that_drips_is_left_at_the_time_limit() -> None:
    """Each single read may well be in time."""
    dripping = Pieces((HEAD + b"\r\n", *(CONTENT[at : at + 1] for at in range(400))), gap=0.02)
    with ReplyServer(dripping) as server, pytest.raises(NotFetched, match=r"within 0\.3 s"):
        await _fetched(f"{server.base_url}/x", timeout=0.3)


async def test_a_name_that_nobody_resolves_is_left_at_the_time_limit() -> None:
    """The limit is for all of it."""

    class Silent(Names):
        async def __call__(self, host: str, port: int) -> list[str]:
            await asyncio.Event().wait()
            return await super().__call__(host, port)

    with pytest.raises(NotFetched, match=r"within 0\.05 s"):
        await _fetched(f"https://{HOST}/x", names=Silent([]), timeout=0.05)


# --- data: URLs -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spelled",
    [
        lambda text: f"data:image/png;base64,{text}",
        lambda text: f"DATA:text/html;charset=x;BASE64,{text}",
        lambda text: f"data:;base64,{text[:40]}\n {text[40:]}",
        lambda text: "data:image/png;base64," + text.replace("+", "%2B").replace("/", "%2F"),
        lambda text: "data:," + "".join(f"%{byte:02x}" for byte in png()),
    ],
)
async def test_a_data_url_holds_the_picture_itself(spelled: Callable[[str], str]) -> None:
    """Nobody is asked for it, and its bytes say what it is."""
    url = spelled(base64.b64encode(png()).decode())
    assert await _fetched(url) == png()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("data:image/png;base64,????", "damaged"),
        ("data:image/png;base64,AAA", "damaged"),
        ("data:image/png;base64,ü", "damaged"),
        ("data:image/png;base64,AAAA", "unknown bytes"),
        ("data:image/png,", "nothing"),
        ("data:text/html,<p>", "a web page"),
        ("data:image/png (1,234 bytes, inside the reply)", "bytes were not kept"),
        ("data:image/png", "bytes were not kept"),
    ],
)
async def test_a_data_url_without_a_picture_is_refused(url: str, said: str) -> None:
    """As for one that is fetched."""
    with pytest.raises(NotFetched, match=said):
        await _fetched(url)


async def test_a_picture_inside_the_reply_has_limits_too() -> None:
    """They are for what arrives on disk, however it came."""
    large = FluxImage.from_bytes(png(at_least=1000), "image/png")
    async with Downloader(HERE, DownloadLimits(1.0, 1000), Names([])) as downloader:
        with pytest.raises(NotFetched, match="larger than max_bytes=1,000"):
            await downloader.bring(large, lambda _: asyncio.sleep(0))


# --- behind a proxy -------------------------------------------------------------------------------


@asynccontextmanager
async def _proxy(port: int) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A proxy that leads every CONNECT to this port of this machine; its URL, what it is asked."""
    heads: list[bytes] = []

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(2**16):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(
            pipe(reader, there_writer), pipe(there_reader, writer), return_exceptions=True
        )

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://me:pass@localhost:{server.sockets[0].getsockname()[1]}", heads


async def test_behind_a_proxy_the_proxy_resolves_names(
    trusted: TlsPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its address is its owner's choice, and so is whom it lets be asked."""
    names = Names([METADATA])
    with ReplyServer(PICTURE, tls=trusted.server) as server:
        async with _proxy(server.port) as (proxy, heads):
            monkeypatch.setenv("HTTPS_PROXY", proxy)
            assert await _fetched(f"https://{HOST}/x", ELSEWHERE, names) == CONTENT
    assert heads[0].startswith(f"CONNECT {HOST}:443 ".encode())
    assert b"Proxy-Authorization" in heads[0]
    assert names.asked == []
    assert trusted.names_asked == [HOST]
    assert not any("authorization" in name for name in server.asked[0].headers)


async def test_behind_a_proxy_an_address_in_a_url_is_checked_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It needs no resolving. Hosts that go without the proxy are checked in full."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "direct.example")
    for url in ("https://10.0.0.1/x", "https://2130706433/x"):
        with pytest.raises(NotFetched, match="not fetched"):
            await _fetched(url, ELSEWHERE)
    with pytest.raises(NotFetched, match="is loopback"):
        await _fetched("https://direct.example/x", ELSEWHERE)
    with pytest.raises(NotFetched, match="proxy could not be used"):
        await _fetched("https://file.example/x", ELSEWHERE)
    monkeypatch.setenv("HTTPS_PROXY", "socks5://127.0.0.1:9")
    with pytest.raises(NotFetched, match="a socks5 proxy"):
        await _fetched("https://file.example/x", ELSEWHERE)
