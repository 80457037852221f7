"""Knows how scene, colours and caption become one picture, from the prompt's own dice.

It must not know HTTP or jobs.
"""

import hashlib
import io
from collections.abc import Callable
from random import Random
from typing import Final, TypeAlias

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from langchain_shortapi_flux.sandbox.canvas import Canvas
from langchain_shortapi_flux.sandbox.caption import NOTICE, Caption
from langchain_shortapi_flux.sandbox.fantasies import paper, planets
from langchain_shortapi_flux.sandbox.landscapes import mountains, northern_lights, sea
from langchain_shortapi_flux.sandbox.painter import Picture
from langchain_shortapi_flux.sandbox.palette import Palette, day_palette, night_palette

Scene: TypeAlias = Callable[[Canvas, Random, Palette], None]

SCENES: Final[tuple[Scene, ...]] = (mountains, sea, northern_lights, paper, planets)
NIGHT_ONLY: Final[frozenset[Scene]] = frozenset({northern_lights, planets})

_NIGHT_SHARE: Final = 0.25
_PNG_COMPRESSION: Final = 4


def compose(picture: Picture, size: tuple[int, int]) -> bytes:
    """The bytes of a PNG file of that size, in pixels."""
    width, height = size
    # The prompt alone chooses scene and colours: the images of one job are of one family.
    theme = _dice(picture.prompt)
    scene = theme.choice(SCENES)
    night = scene in NIGHT_ONLY or theme.random() < _NIGHT_SHARE
    palette = night_palette(theme) if night else day_palette(theme)
    caption = Caption(
        size,
        picture.prompt,
        f"{picture.aspect_ratio}   {width} x {height}   {picture.mode}"
        f"   {picture.index + 1} of {picture.count}",
    )
    canvas = Canvas(width, height - caption.height)
    scene(canvas, _dice(picture.prompt, str(picture.index), f"{width}x{height}"), palette)
    image = Image.new("RGB", size)
    image.paste(canvas.image)
    caption.write(image, palette.accent)
    labels = PngInfo()
    labels.add_text("Comment", NOTICE)
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=_PNG_COMPRESSION, pnginfo=labels)
    return file.getvalue()


def _dice(*seeds: str) -> Random:
    # surrogatepass: a JSON string may hold half a surrogate pair, which UTF-8 has no bytes for.
    digest = hashlib.sha256("\0".join(seeds).encode("utf-8", "surrogatepass")).digest()
    return Random(digest)
