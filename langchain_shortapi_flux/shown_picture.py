"""What a page may load for a picture: its URL, or its bytes, whole or as a thumbnail.

It knows which URLs are safe to load. It fetches nothing; what does is passed in.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from urllib.parse import urlsplit

from langchain_shortapi_flux.errors import ShortAPIError
from langchain_shortapi_flux.job import FluxImage
from langchain_shortapi_flux.picture_type import MEDIA_TYPES, image_ending

Fetch = Callable[[FluxImage], bytes]
"""Gives the bytes of a picture, or raises a ``ShortAPIError`` or an ``OSError``."""

THUMBNAIL_QUALITY = 85
"""Of JPEG, out of 100: about 40 kB at 512 px."""
REDUCING_GAP = 3.0
"""Pillow's own measure: shrinks in two steps, and looks as if it were one."""
_DATA_URL = re.compile(r"data:image/(?:png|jpeg|webp|gif);base64,[A-Za-z0-9+/]+={0,2}")


@dataclass(frozen=True)
class ShownPicture:
    """What is shown for one picture.

    Attributes:
        source: What an ``img`` loads; None where nothing may be loaded.
        link: Where a click leads.
        note: What to say below. From a server: to be escaped.
        size: Width and height in px, where they are known.
    """

    source: str | None
    link: str | None = None
    note: str | None = None
    size: tuple[int, int] | None = None


def linked(image: FluxImage) -> ShownPicture:
    """A picture as it lies: by its URL, or with the bytes that came inside the reply."""
    if image.inline is not None:
        ending = image_ending(image.inline)
        if ending is not None:
            return ShownPicture(_data_url(image.inline, ending))
    elif _DATA_URL.fullmatch(image.url):
        return ShownPicture(image.url)
    elif _may_be_loaded(image.url):
        return ShownPicture(image.url, image.url)
    return ShownPicture(None, note=image.url)


def embedder(fetch: Fetch, max_width_px: int | None) -> Callable[[FluxImage], ShownPicture]:
    """How to look at a picture with its bytes in the page.

    A picture that cannot be had is shown as ``linked`` does, with the reason.

    Raises:
        ImportError: Thumbnails are asked for, and Pillow is missing.
    """
    if max_width_px is not None:
        _require_pillow()

    def embedded(image: FluxImage) -> ShownPicture:
        try:
            content = image.inline if image.inline is not None else fetch(image)
            return _embedded(content, linked(image).link, max_width_px)
        except (ShortAPIError, OSError, _NoPicture) as error:
            there = linked(image)
            return ShownPicture(there.source, there.link, note=f"not embedded: {error}")

    return embedded


class _NoPicture(Exception):
    """Bytes that cannot be shown."""


def _embedded(content: bytes, link: str | None, max_width_px: int | None) -> ShownPicture:
    ending = image_ending(content)
    if ending is None:
        raise _NoPicture(f"its {len(content):,} bytes are no PNG, JPEG, WebP or GIF")
    if max_width_px is None:
        return ShownPicture(_data_url(content, ending), link)
    try:
        return _shrunk(content, ending, link, max_width_px)
    except Exception as error:  # noqa: BLE001 - a broken picture breaks a decoder in any way
        raise _NoPicture(f"the picture is broken ({type(error).__name__})") from None


def _shrunk(content: bytes, ending: str, link: str | None, width: int) -> ShownPicture:
    from PIL import Image  # noqa: PLC0415 - on first use

    with Image.open(BytesIO(content)) as picture:
        size = picture.size
        if size[0] <= width:
            picture.load()  # where it is cut off, this finds it
            return ShownPicture(_data_url(content, ending), link, size=size)
        small = (width, max(1, round(size[1] * width / size[0])))
        transparent = picture.has_transparency_data
        whole = picture.convert("RGBA" if transparent else "RGB")
    thumbnail, file = whole.resize(small, reducing_gap=REDUCING_GAP), BytesIO()
    ending = "png" if transparent else "jpg"
    if transparent:
        thumbnail.save(file, "PNG", optimize=True)
    else:
        thumbnail.save(file, "JPEG", quality=THUMBNAIL_QUALITY, optimize=True)
    note = f"thumbnail, {small[0]} by {small[1]} px of {size[0]} by {size[1]}"
    return ShownPicture(_data_url(file.getvalue(), ending), link, note, small)


def _may_be_loaded(url: str) -> bool:
    """Whether it is a web address, spelt plainly and without a password."""
    if not url.isprintable() or set(url) & set(" \\"):
        return False
    try:
        parts = urlsplit(url)
        return (
            parts.scheme in {"http", "https"} and bool(parts.hostname) and "@" not in parts.netloc
        )
    except ValueError:
        return False


def _data_url(content: bytes, ending: str) -> str:
    return f"data:{MEDIA_TYPES[ending]};base64,{base64.b64encode(content).decode('ascii')}"


def _require_pillow() -> None:
    try:
        import PIL  # noqa: F401, PLC0415 - on first use
    except ImportError:
        raise ImportError(
            "thumbnails need Pillow: pip install 'langchain-shortapi-flux[notebook]', or pass "
            "max_width_px=None to embed the pictures as they are"
        ) from None
