"""What a picture is by its own bytes: PNG, JPEG, WebP or GIF, and whether its end is there.

Whatever a URL or a header says. The bytes are a stranger's, so they are walked over and never
decoded. It knows nothing of networks and folders.
"""

from __future__ import annotations

from os import SEEK_CUR, SEEK_END
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import BinaryIO

MEDIA_TYPES = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp", "gif": "image/gif"}
"""The types that are let in, by the ending of their files' names."""
SIGNATURE_BYTES = 12
"""So many first bytes tell each type."""
_SEARCHED_BYTES = 64 * 2**10
"""Read at a time, in search of a JPEG's end."""


def image_ending(start: bytes) -> str | None:
    """The file ending for a picture, by its first bytes: png, jpg, webp, gif, or None."""
    if start.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if start.startswith(b"\xff\xd8\xff"):
        return "jpg"
    if start.startswith(b"RIFF") and start[8:12] == b"WEBP":
        return "webp"
    if start.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    return None


def what_else(start: bytes) -> str:
    """What the first bytes look like, where they are no picture's."""
    if not start:
        return "nothing"
    shown = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if shown.startswith(b"<"):
        return "a web page"
    return "JSON" if shown.startswith((b"{", b"[")) else "unknown bytes"


def whole_image_ending(file: BinaryIO) -> str | None:
    """The file ending for a picture that is there from its first bytes to its last, or None.

    What follows its end is not looked at: cameras and editors put data there.
    """
    file.seek(0)
    ending = image_ending(file.read(SIGNATURE_BYTES))
    return ending if ending is not None and _ENDS[ending](file) else None


def _png_ends(file: BinaryIO) -> bool:
    file.seek(8)
    while len(head := file.read(8)) == 8:
        length_and_checksum = int.from_bytes(head[:4], "big") + 4
        if head[4:] == b"IEND":
            return len(file.read(length_and_checksum)) == length_and_checksum
        file.seek(length_and_checksum, SEEK_CUR)
    return False


def _jpeg_ends(file: BinaryIO) -> bool:
    file.seek(2)
    # A segment may hold a small JPEG with an end of its own, so the search begins after the first
    # scan's head. From there on FF D9 is the end: in a scan, FF is followed by 00 or a restart.
    while len(marker := file.read(2)) == 2 and marker[:1] == b"\xff":
        if marker == b"\xff\xff":  # a byte of padding
            file.seek(-1, SEEK_CUR)
            continue
        length = int.from_bytes(file.read(2), "big")
        if length < 2:
            return False
        file.seek(length - 2, SEEK_CUR)
        if marker == b"\xff\xda":
            return _holds(file, b"\xff\xd9")
    return False


def _holds(file: BinaryIO, two_bytes: bytes) -> bool:
    last = b""
    while piece := file.read(_SEARCHED_BYTES):
        if two_bytes in last + piece:
            return True
        last = piece[-1:]
    return False


def _webp_ends(file: BinaryIO) -> bool:
    file.seek(4)
    stated = int.from_bytes(file.read(4), "little")
    return file.seek(0, SEEK_END) >= 8 + stated


def _gif_ends(file: BinaryIO) -> bool:
    file.seek(10)
    flags = file.read(1)
    file.seek(2, SEEK_CUR)  # which colour is the background, and the shape of a pixel
    _skip_colours(file, flags)
    while kind := file.read(1):
        if kind == b";":
            return True
        if kind == b"!":  # an extension, and its label
            file.seek(1, SEEK_CUR)
        elif kind == b",":  # an image: its place, its colours, and the size of its codes
            file.seek(8, SEEK_CUR)
            _skip_colours(file, file.read(1))
            file.seek(1, SEEK_CUR)
        else:
            return False
        while length := file.read(1):  # until one of length 0
            if length == b"\x00":
                break
            file.seek(length[0], SEEK_CUR)
    return False


def _skip_colours(file: BinaryIO, flags: bytes) -> None:
    if flags and flags[0] & 0x80:
        file.seek(3 << ((flags[0] & 0x07) + 1), SEEK_CUR)


_ENDS = {"png": _png_ends, "jpg": _jpeg_ends, "webp": _webp_ends, "gif": _gif_ends}
