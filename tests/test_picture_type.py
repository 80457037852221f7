"""What a picture is, read from real encoders' files and from what is left of them."""

from __future__ import annotations

from io import BytesIO

import pytest
from PIL import Image
from whole_pictures import WHOLE, png

from langchain_shortapi_flux.picture_type import image_ending, what_else, whole_image_ending


def _read(content: bytes) -> str | None:
    return whole_image_ending(BytesIO(content))


@pytest.mark.parametrize(("ending", "content"), WHOLE.values(), ids=WHOLE)
def test_a_whole_picture_is_known_by_its_bytes(ending: str, content: bytes) -> None:
    """Refusing one would throw away what was paid for."""
    assert image_ending(content) == ending
    assert _read(content) == ending


@pytest.mark.parametrize("content", [content for _, content in WHOLE.values()], ids=WHOLE)
def test_a_picture_cut_anywhere_is_not_whole(content: bytes) -> None:
    """Viewers draw half of it and say nothing, so it would be found out too late."""
    assert [size for size in range(len(content)) if _read(content[:size]) is not None] == []


@pytest.mark.parametrize("content", [content for _, content in WHOLE.values()], ids=WHOLE)
def test_what_follows_the_end_does_no_harm(content: bytes) -> None:
    """Editors and cameras put data there, and viewers stop at the end."""
    assert _read(content + b"\x00trailing") is not None


def test_the_end_of_a_thumbnail_is_not_the_end_of_the_picture() -> None:
    """A JPEG may hold a small one in its head, whose end comes first."""
    file = BytesIO()
    exif = Image.Exif()
    exif[0x9286] = WHOLE["jpeg"][1]
    Image.new("RGB", (8, 8)).save(file, "JPEG", exif=exif)
    content = file.getvalue()
    assert content.count(b"\xff\xd9") == 2
    assert _read(content) == "jpg"
    assert _read(content[:-2]) is None


def test_the_end_of_a_jpeg_is_found_across_two_reads() -> None:
    """It may lie just where the search goes on to its next piece."""
    whole = WHOLE["grey jpeg"][1]
    for padding in range(64 * 2**10 - len(whole), 64 * 2**10 + len(whole), 7):
        content = whole[:-2] + b"\x00" * padding + whole[-2:]
        assert _read(content) == "jpg"
        assert _read(content[:-1]) is None


def test_padding_before_a_marker_of_a_jpeg_is_allowed() -> None:
    """The standard has it, if few encoders."""
    content = WHOLE["jpeg"][1]
    for count in (1, 2, 5):
        assert _read(content[:2] + b"\xff" * count + content[2:]) == "jpg"


@pytest.mark.parametrize(
    ("content", "ending", "instead"),
    [
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", None, "unknown bytes"),
        (b"  <!doctype html>", None, "a web page"),
        (b"\xef\xbb\xbf<html>", None, "a web page"),
        (b'\n{"code": 1}', None, "JSON"),
        (b"[1]", None, "JSON"),
        (b"%PDF-1.7", None, "unknown bytes"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", None, "a web page"),
        (b"\x89PNG", None, "unknown bytes"),
        (b"", None, "nothing"),
    ],
)
def test_what_is_no_picture_is_named(content: bytes, ending: str | None, instead: str) -> None:
    """The error then says what came in its place."""
    assert image_ending(content) is ending
    assert what_else(content) == instead
    assert _read(content) is None


@pytest.mark.parametrize(
    "content",
    [
        b"\x89PNG\r\n\x1a\n" + b"\xff" * 64,
        b"\x89PNG\r\n\x1a\n" + bytes(64),
        b"\xff\xd8\xff\xe0\x00\x00" + bytes(64),
        b"\xff\xd8\xff\xe0\x00\x04" + bytes(64),
        b"\xff\xd8\xff\xd9" + bytes(64),
        b"GIF89a" + b"\xff" * 3,
        b"GIF89a" + b"\xff" * 4000,
        b"GIF89a" + bytes(64),
        b"RIFF\xff\xff\xff\xffWEBP" + bytes(64),
    ],
)
def test_nonsense_behind_a_good_beginning_is_no_picture(content: bytes) -> None:
    """Lengths that lead nowhere end the walk, and it says no."""
    assert _read(content) is None


def test_a_picture_of_no_use_to_a_viewer_may_still_be_whole() -> None:
    """It is walked over, not decoded: whether pixels are good is for whoever looks at them."""
    assert _read(png(at_least=500_000)) == "png"
