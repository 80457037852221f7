"""Knows how a job becomes a PNG file, the same one every time.

It must not know HTTP or jobs. Pillow is imported when first drawn with, so that the sandbox can
be imported, and say what is missing, without it.
"""

from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Final

from langchain_shortapi_flux.sandbox.menu import SIZES

DRAWINGS_KEPT: Final = 8

_INSTALL: Final = "the sandbox draws with Pillow: pip install 'langchain-shortapi-flux[sandbox]'"


@dataclass(frozen=True, slots=True)
class Picture:
    """What a picture depends on, and nothing else.

    Attributes:
        prompt: The prompt.
        aspect_ratio: The ratio as asked for; its size in pixels is the menu's.
        mode: The mode, only written on it.
        index: Which image of its job it is, from 0.
        count: How many images that job has, only written on it.
    """

    prompt: str
    aspect_ratio: str
    mode: str
    index: int = 0
    count: int = 1


def require_pillow() -> None:
    """Raise the ImportError that says how to install Pillow, if it is missing."""
    try:
        import_module("PIL.Image")
    except ImportError as error:
        raise ImportError(_INSTALL) from error


@lru_cache(maxsize=DRAWINGS_KEPT)
def draw_png(picture: Picture) -> bytes:
    """Draw a picture: the bytes of a PNG file."""
    require_pillow()
    from langchain_shortapi_flux.sandbox.studio import compose  # noqa: PLC0415

    return compose(picture, SIZES[picture.aspect_ratio])
