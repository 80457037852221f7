"""Pictures for tests, whole and of every type that is let in. It knows nothing of the package."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from typing import Any

from PIL import Image

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


def png(*, at_least: int = 0) -> bytes:
    """A PNG of one black pixel, padded by text to at least so many bytes."""
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    text = _chunk(b"tEXt", b"Comment\x00" + b"x" * at_least)
    rest = _chunk(b"IDAT", zlib.compress(b"\x00\x00")) + _chunk(b"IEND", b"")
    return PNG_SIGNATURE + head + text + rest


def _encoded(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    shade = Image.effect_noise((24, 16), 60).convert(mode)
    file = BytesIO()
    shade.save(file, kind, **options)
    return file.getvalue()


def _frames() -> list[Image.Image]:
    return [Image.effect_noise((24, 16), 60).convert("P") for _ in range(2)]


WHOLE: dict[str, tuple[str, bytes]] = {
    "png": ("png", _encoded("PNG")),
    "jpeg": ("jpg", _encoded("JPEG", quality=100)),
    "progressive jpeg": ("jpg", _encoded("JPEG", progressive=True)),
    "grey jpeg": ("jpg", _encoded("JPEG", mode="L")),
    "lossy webp": ("webp", _encoded("WEBP")),
    "lossless webp": ("webp", _encoded("WEBP", lossless=True)),
    "gif": ("gif", _encoded("GIF", mode="P")),
    "moving gif": ("gif", _encoded("GIF", mode="P", save_all=True, append_images=_frames())),
}
"""What a real encoder makes, under a name: the ending of its file, and its bytes."""
