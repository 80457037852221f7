"""What arrives as a picture's bytes: unpacked in bounded pieces, and let through within limits.

The bytes are a stranger's: no type, no length and no packing that was announced is believed. It
knows nothing of connections.
"""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING

from langchain_shortapi_flux.picture_type import SIGNATURE_BYTES, image_ending, what_else

if TYPE_CHECKING:
    from collections.abc import Iterator

PIECE_BYTES = 256 * 2**10
"""At most so much of a picture is unpacked at a time, however little it was packed into."""
_GONE = (403, 404, 410)
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
_SHOWN_URL_LENGTH = 300


class NotFetched(Exception):
    """Why there is no picture.

    Attributes:
        status: The HTTP status that says so, if one does.
        gone: Whether its URL seems to have served its time.
    """

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.gone = status in _GONE


class Intake:
    """Lets bytes through while they may be those of a picture: by their type and their number."""

    def __init__(self, url: str, max_bytes: int) -> None:
        self._shown = shown_url(url)
        self._max_bytes = max_bytes
        self._count = 0
        self._start: bytes | None = b""

    def expect(self, count: int) -> None:
        """Refuse so many bytes if they are too many.

        Raises:
            NotFetched: They are.
        """
        if count > self._max_bytes:
            raise NotFetched(f"{self._shown} is larger than max_bytes={self._max_bytes:,}")

    def passed(self, piece: bytes) -> bytes:
        """What may go on now. The first bytes are held back until they tell what they are.

        Raises:
            NotFetched: It is no picture, or too large.
        """
        self._count += len(piece)
        self.expect(self._count)
        if self._start is None:
            return piece
        self._start += piece
        if len(self._start) < SIGNATURE_BYTES:
            return b""
        self._refuse_others(self._start)
        ready, self._start = self._start, None
        return ready

    def end(self) -> None:
        """Say that nothing follows.

        Raises:
            NotFetched: What came is too short for a picture.
        """
        if self._start is not None:
            self._refuse_others(self._start)
            raise NotFetched(f"{self._shown} gave only the beginning of a picture")

    def _refuse_others(self, start: bytes) -> None:
        if image_ending(start) is None:
            raise NotFetched(f"{self._shown} gave no PNG, JPEG, WebP or GIF but {what_else(start)}")


class Packing:
    """Unpacks a body that was sent as gzip or deflate, or leaves it as it is.

    Args:
        encoding: What the header ``Content-Encoding`` says; blank for a body as it is.
        url: For the text of an error.

    Raises:
        NotFetched: It is another packing, which was never asked for.
    """

    def __init__(self, encoding: str, url: str) -> None:
        self._shown = shown_url(url)
        name = encoding.strip().lower()
        if name not in ("", "identity", "gzip", "x-gzip", "deflate"):
            raise NotFetched(f"{self._shown} is packed as {encoding[:40]!r}, unasked")
        packed = name not in ("", "identity")
        self._zlib = zlib.decompressobj(wbits=_GZIP_OR_ZLIB) if packed else None

    def unpack(self, raw: bytes) -> Iterator[bytes]:
        """What comes of these bytes.

        Raises:
            NotFetched: They cannot be unpacked.
        """
        if self._zlib is None:
            yield raw
            return
        while raw:
            try:
                piece = self._zlib.decompress(raw, PIECE_BYTES)
            except zlib.error:
                raise NotFetched(f"{self._shown} is damaged: it cannot be unpacked") from None
            yield piece
            raw = self._zlib.unconsumed_tail
            if self._zlib.eof and (raw := self._zlib.unused_data):  # another member of a gzip
                self._zlib = zlib.decompressobj(wbits=_GZIP_OR_ZLIB)

    def end(self) -> None:
        """Say that nothing follows.

        Raises:
            NotFetched: What is packed goes on.
        """
        if self._zlib is not None and not self._zlib.eof:
            raise NotFetched(f"{self._shown}: the connection broke off")


def shown_url(url: str) -> str:
    """A URL for an error's text: without its query, which may be a signature, and any password."""
    if url[:5].lower() == "data:":
        return url.partition(";base64,")[0][:_SHOWN_URL_LENGTH]
    text = re.sub(r"^([^/?#]*//)[^/?#]*@", r"\1", re.split(r"[?#]", url, maxsplit=1)[0])
    return text if len(text) <= _SHOWN_URL_LENGTH else f"{text[:_SHOWN_URL_LENGTH]}…"
