"""Knows the band at the foot of every picture: that it is not Flux, and what was asked for.

It must not know what is above it.
"""

import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby
from typing import Final

from PIL import Image, ImageDraw, ImageFont

from langchain_shortapi_flux.sandbox.palette import Colour, blend

NOTICE: Final = "SANDBOX - not made by Flux"
UNREADABLE: Final = "(a prompt in a script that this typeface lacks)"

PROMPT_LINES_MAX: Final = 2
_INK: Final[Colour] = (12, 12, 16)
_PAPER: Final[Colour] = (255, 255, 255)
_SMALL_PIXELS: Final = 17
_LINE_PIXELS: Final = 22
_NOTICE_SHARE_OF_WIDTH: Final = 0.66
_NOTICE_SHARE_OF_HEIGHT: Final = 0.07
_MARGIN_PIXELS: Final = 28
_PADDING_PIXELS: Final = 13
_STRIPE_PIXELS: Final = 10
# Longer prompts are cut before they are measured: nothing beyond could ever be shown.
_PROMPT_CHARACTERS_MAX: Final = 600
_MISSING_GLYPH: Final = "\U0010fffd"
_PLACEHOLDER: Final = "\u2026"

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


class Caption:
    """The band of one picture: laid out first, so that the scene can keep clear of it."""

    def __init__(self, size: tuple[int, int], prompt: str, details: str) -> None:
        """Lay out the band of a picture of that size, in pixels."""
        self._width, self._full_height = size
        self._details = details
        self._notice_font = _font(_notice_size(*size))
        self._small_font = _font(_SMALL_PIXELS)
        self._notice_height = round(self._notice_font.getbbox(NOTICE)[3])
        room = self._width - 2 * _MARGIN_PIXELS
        self._lines = _prompt_lines(prompt, self._small_font, room)
        beside = self._notice_font.getlength(NOTICE) + self._small_font.getlength(details)
        self._details_beside = beside + _MARGIN_PIXELS <= room
        rows = len(self._lines) + (0 if self._details_beside else 1)
        self.height = (
            _STRIPE_PIXELS + self._notice_height + rows * _LINE_PIXELS + 7 * _PADDING_PIXELS // 2
        )

    def write(self, image: Image.Image, accent: Colour) -> None:
        """Write the band over the foot of an image."""
        draw = ImageDraw.Draw(image)
        top = self._full_height - self.height
        draw.rectangle((0, top, self._width, self._full_height), fill=_INK)
        _draw_stripes(draw, self._width, top, accent)
        y = top + _STRIPE_PIXELS + _PADDING_PIXELS
        draw.text(
            (_MARGIN_PIXELS, y),
            NOTICE,
            _PAPER,
            self._notice_font,
            stroke_width=1,
            stroke_fill=_PAPER,
        )
        y += self._notice_height
        tint = blend(accent, _PAPER, 0.35)
        if self._details_beside:
            x = self._width - _MARGIN_PIXELS - self._small_font.getlength(self._details)
            draw.text((x, y - _LINE_PIXELS), self._details, tint, self._small_font)
        y += _PADDING_PIXELS
        for line in self._lines:
            draw.text((_MARGIN_PIXELS, y), line, blend(_INK, _PAPER, 0.85), self._small_font)
            y += _LINE_PIXELS
        if not self._details_beside:
            draw.text((_MARGIN_PIXELS, y), self._details, tint, self._small_font)


def _draw_stripes(draw: ImageDraw.ImageDraw, width: int, top: int, accent: Colour) -> None:
    bottom = top + _STRIPE_PIXELS - 1
    long = 1.5 * _STRIPE_PIXELS
    for x in range(-_STRIPE_PIXELS, width, 3 * _STRIPE_PIXELS):
        lean = x + _STRIPE_PIXELS
        draw.polygon([(lean, top), (lean + long, top), (x + long, bottom), (x, bottom)], accent)


def _notice_size(width: int, height: int) -> int:
    per_pixel = _font(100).getlength(NOTICE) / 100
    return int(min(width * _NOTICE_SHARE_OF_WIDTH / per_pixel, height * _NOTICE_SHARE_OF_HEIGHT))


@lru_cache(maxsize=8)
def _font(size: int) -> Font:
    # Pillow's own typeface: the same on every machine, so the same picture on every machine.
    return ImageFont.load_default(size)


def _prompt_lines(prompt: str, font: Font, room: float) -> list[str]:
    words = _drawable(" ".join(prompt.split())[:_PROMPT_CHARACTERS_MAX]).split(" ")
    lines: list[str] = []
    while words and len(lines) < PROMPT_LINES_MAX:
        taken = _fitting_words(words, font, room)
        if taken:
            lines.append(" ".join(words[:taken]))
            words = words[taken:]
        else:
            cut = _fitting_letters(words[0], font, room)
            lines.append(words[0][:cut])
            words[0] = words[0][cut:]
    if words:
        lines[-1] = _shortened(lines[-1], font, room)
    return lines


def _fitting_words(words: Sequence[str], font: Font, room: float) -> int:
    taken = 0
    while taken < len(words) and font.getlength(" ".join(words[: taken + 1])) <= room:
        taken += 1
    return taken


def _fitting_letters(word: str, font: Font, room: float) -> int:
    cut = 1
    while cut < len(word) and font.getlength(word[: cut + 1]) <= room:
        cut += 1
    return cut


def _shortened(line: str, font: Font, room: float) -> str:
    while line and font.getlength(line + _PLACEHOLDER) > room:
        line = line[:-1]
    return line.rstrip() + _PLACEHOLDER


def _drawable(prompt: str) -> str:
    # The typeface knows little beyond ASCII: letters lose their accents, and each run of what
    # it still lacks becomes one ellipsis.
    plain = "".join(
        c for c in unicodedata.normalize("NFKD", prompt) if not unicodedata.combining(c)
    )
    runs = groupby(plain, key=lambda c: c == " " or _has_glyph(c))
    text = "".join("".join(run) if known else _PLACEHOLDER for known, run in runs)
    return text if any(c.isalnum() for c in text) else UNREADABLE


@lru_cache(maxsize=4096)
def _has_glyph(character: str) -> bool:
    font = _font(_SMALL_PIXELS)
    if not character.isprintable():
        return False
    return bytes(font.getmask(character)) != bytes(font.getmask(_MISSING_GLYPH))
