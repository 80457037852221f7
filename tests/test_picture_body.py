"""What arrives as a picture: unpacked in bounded pieces, measured, and looked at first."""

from __future__ import annotations

import gzip
import zlib

import pytest
from whole_pictures import png

from langchain_shortapi_flux.picture_body import (
    PIECE_BYTES,
    Intake,
    NotFetched,
    Packing,
    shown_url,
)

URL = "https://file.example/x.png"
CONTENT = png(at_least=3 * PIECE_BYTES)


def _unpacked(encoding: str, packed: bytes, step: int) -> bytes:
    packing = Packing(encoding, URL)
    pieces: list[bytes] = []
    for at in range(0, len(packed), step):
        pieces += packing.unpack(packed[at : at + step])
    packing.end()
    return b"".join(pieces)


@pytest.mark.parametrize("step", [1, 1000, 10**9])
@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("", CONTENT),
        ("identity", CONTENT),
        ("gzip", gzip.compress(CONTENT)),
        (" X-GZIP ", gzip.compress(CONTENT, 0)),
        ("deflate", zlib.compress(CONTENT)),
        ("gzip", gzip.compress(CONTENT[:9]) + gzip.compress(b"") + gzip.compress(CONTENT[9:])),
    ],
)
def test_a_packed_body_is_unpacked_however_it_arrives(
    encoding: str, packed: bytes, step: int
) -> None:
    """Nobody is asked to pack, and some file hosts do."""
    step = max(step, len(packed) // 5000)
    assert _unpacked(encoding, packed, step) == CONTENT


def test_a_bomb_is_unpacked_in_bounded_pieces() -> None:
    """Twenty megabytes fit into twenty kilobytes, and must never be in memory at once."""
    bomb = gzip.compress(bytes(20 * 2**20))
    sizes = [len(piece) for piece in Packing("gzip", URL).unpack(bomb)]
    assert len(bomb) < 40_000
    assert sum(sizes) == 20 * 2**20
    assert max(sizes) <= PIECE_BYTES


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("gzip", CONTENT),
        ("gzip", gzip.compress(CONTENT) + b"what follows"),
        ("gzip", gzip.compress(CONTENT)[:-8] + bytes(8)),
    ],
)
def test_what_cannot_be_unpacked_is_damaged(encoding: str, packed: bytes) -> None:
    """Its checksum is read, too."""
    with pytest.raises(NotFetched, match="cannot be unpacked"):
        _unpacked(encoding, packed, 1000)


@pytest.mark.parametrize("cut", [1, 9, 100])
def test_a_packed_body_that_ends_too_soon_broke_off(cut: int) -> None:
    """Also where the body was exactly as long as announced."""
    with pytest.raises(NotFetched, match="broke off"):
        _unpacked("gzip", gzip.compress(CONTENT)[:-cut], 1000)


def test_an_unknown_packing_is_refused() -> None:
    """None was asked for; bytes of it would look like no picture at all."""
    with pytest.raises(NotFetched, match="packed as 'br'"):
        Packing("br", URL)


def _taken(content: bytes, *, step: int, max_bytes: int = 10**9) -> list[bytes]:
    intake = Intake(URL, max_bytes)
    taken = [intake.passed(content[at : at + step]) for at in range(0, len(content), step)]
    intake.end()
    return taken


@pytest.mark.parametrize("step", [1, 11, 12, 13, 10**9])
def test_what_begins_as_a_picture_is_let_through(step: int) -> None:
    """All of it, also where its first bytes come one by one; none before they tell what it is."""
    content = png(at_least=100)
    taken = _taken(content, step=step)
    assert b"".join(taken) == content
    assert not any(taken[: 11 // step])


@pytest.mark.parametrize("step", [1, 10**9])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<html>no such picture</html>", "a web page"),
        (b'{"code": 1, "info": "x"}', "JSON"),
        (b"<html>", "a web page"),
        (b"", "nothing"),
        (b"\x89PNG\r\n\x1a\n", "only the beginning"),
        (b"\xff\xd8\xff", "only the beginning"),
    ],
)
def test_anything_else_is_refused_at_its_first_bytes(content: bytes, said: str, step: int) -> None:
    """A web page of any length is not brought here first."""
    with pytest.raises(NotFetched, match=f"gave .*{said}"):
        _taken(content, step=step)


def test_a_picture_may_have_just_as_many_bytes_as_allowed() -> None:
    """And not one more."""
    content = png(at_least=1000)
    assert b"".join(_taken(content, step=100, max_bytes=len(content))) == content
    with pytest.raises(NotFetched, match=f"larger than max_bytes={len(content) - 1:,}"):
        _taken(content, step=100, max_bytes=len(content) - 1)


@pytest.mark.parametrize("status", [403, 404, 410])
def test_some_answers_mean_that_a_url_is_dead(status: int) -> None:
    """The service's URLs are temporary, and file hosts say so in these ways."""
    assert NotFetched("x", status=status).gone
    assert not NotFetched("x", status=500).gone
    assert not NotFetched("x").gone


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://file.example/a.png?Signature=s3cret&x=1", "https://file.example/a.png"),
        ("https://file.example/a.png#s3cret", "https://file.example/a.png"),
        ("https://me:s3cret@file.example/a@b.png", "https://file.example/a@b.png"),
        ("https://[", "https://["),
        ("data:image/png;base64,s3cret", "data:image/png"),
        ("https://file.example/" + "x" * 1000, "https://file.example/" + "x" * 279 + "…"),
    ],
)
def test_a_url_is_shown_without_what_is_secret_in_it(url: str, shown: str) -> None:
    """A signed URL is as good as a key while it lives, and errors go to logs and traces."""
    assert shown_url(url) == shown
