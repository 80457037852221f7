"""Knows how to put smooth shapes, gradients and light on an image with Pillow.

It must not know what the shapes depict.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from random import Random
from typing import Final, TypeAlias

from PIL import Image, ImageDraw, ImageFilter

from langchain_shortapi_flux.sandbox.palette import Colour, blend

Point: TypeAlias = tuple[float, float]

_SCALE: Final = 2  # Shapes are drawn at twice the size and reduced, for smooth edges.
_GRADIENT_STEPS: Final = 256
_OPAQUE: Final = 255
_SHADOW_REDUCTION: Final = 4
_LEVELS: Final = 256
_STARS_PER_PIXEL: Final = 0.00052
# What Pillow's radial gradient reaches in the middle of its edges; beyond are only its corners.
_RADIAL_EDGE: Final = 181


class Canvas:
    """An image to draw on, in pixels from its top left corner."""

    def __init__(self, width: int, height: int) -> None:
        """Start with a black image of that size, in pixels."""
        self.width = width
        self.height = height
        self.image = Image.new("RGB", (width, height))

    def wash(self, stops: Sequence[Colour]) -> None:
        """Cover everything with a vertical gradient, evenly through the stops."""
        self.image.paste(_gradient(self.width, self.height, stops))

    def shape(
        self, outline: Sequence[Point], stops: Sequence[Colour], *, opacity: float = 1.0
    ) -> None:
        """Fill an outline with a vertical gradient that spans it."""
        box = self._box(outline)
        if box is None:
            return
        left, top, right, bottom = box
        size = (right - left, bottom - top)
        mask = self._mask(outline, box, opacity)
        self.image.paste(_gradient(*size, stops), (left, top), mask)

    def shadow(self, outline: Sequence[Point], blur: float, opacity: float) -> None:
        """Darken around an outline, softly, as if it hung before the image."""
        size = (self.width // _SHADOW_REDUCTION, self.height // _SHADOW_REDUCTION)
        mask = Image.new("L", size)
        ImageDraw.Draw(mask).polygon(
            [(x / _SHADOW_REDUCTION, y / _SHADOW_REDUCTION) for x, y in outline],
            fill=round(_OPAQUE * opacity),
        )
        mask = mask.filter(ImageFilter.GaussianBlur(blur / _SHADOW_REDUCTION))
        black = Image.new("RGB", self.image.size)
        self.image.paste(black, mask=mask.resize(self.image.size, Image.Resampling.BICUBIC))

    def disc(self, x: float, y: float, radius: float, stops: Sequence[Colour]) -> None:
        """Fill a circle."""
        self.shape(circle(x, y, radius), stops)

    def glow(self, x: float, y: float, radius: float, colour: Colour, strength: float) -> None:
        """Add light around a point; it fades out at the radius."""
        size = max(2, round(radius * 2))
        fade = [max(0.0, 1 - i / _RADIAL_EDGE) ** 2 for i in range(_LEVELS)]
        mask = Image.radial_gradient("L").point([round(strength * _OPAQUE * f) for f in fade])
        mask = mask.resize((size, size), Image.Resampling.BICUBIC)
        corner = (round(x - radius), round(y - radius))
        self.image.paste(Image.new("RGB", (size, size), colour), corner, mask)

    def ball(
        self, place: Point, radius: float, stops: Sequence[Colour], shade: Colour, tilt: float
    ) -> None:
        """A banded sphere, lit from the upper left; `tilt` of its bands in radians."""
        size = 2 * math.ceil(radius)
        wide = _gradient(2 * size, 2 * size, stops)
        wide = wide.rotate(-math.degrees(tilt), Image.Resampling.BICUBIC)
        face = wide.crop((size // 2, size // 2, size // 2 + size, size // 2 + size))
        reach = round(size * 2.4)
        dusk = [
            round(_OPAQUE * 0.92 * min(1.0, i / _RADIAL_EDGE * 1.5) ** 2) for i in range(_LEVELS)
        ]
        mask = Image.radial_gradient("L").point(dusk).resize((reach, reach))
        left, top = round(reach / 2 - size * 0.3), round(reach / 2 - size * 0.28)
        mask = mask.crop((left, top, left + size, top + size))
        face.paste(Image.new("RGB", face.size, shade), mask=mask)
        outline = circle(size / 2, size / 2, radius - 1)
        rim = self._mask(outline, (0, 0, size, size), 1.0)
        self.image.paste(face, (round(place[0] - size / 2), round(place[1] - size / 2)), rim)

    def veil(self, low: Image.Image, colour: Colour) -> None:
        """Lay a colour over the image through a small mask, enlarged smoothly."""
        mask = low.resize(self.image.size, Image.Resampling.BICUBIC)
        self.image.paste(Image.new("RGB", self.image.size, colour), mask=mask)

    def stars(self, dice: Random, bottom: float, colour: Colour, crowding: float = 1) -> None:
        """Scatter small points of light above a line."""
        draw = ImageDraw.Draw(self.image)
        for _ in range(round(crowding * _STARS_PER_PIXEL * self.width * self.height)):
            x = int(dice.uniform(0, self.width - 1))
            y = min(int(bottom * dice.random() ** 1.3), self.height - 1)
            brightness = dice.random() ** 2
            size = int(brightness + 0.4)
            below = self.image.getpixel((x, y))
            if isinstance(below, tuple):
                tone = blend((below[0], below[1], below[2]), colour, 0.3 + 0.7 * brightness)
                draw.rectangle((x, y, x + size, y + size), fill=tone)

    def _box(self, outline: Sequence[Point]) -> tuple[int, int, int, int] | None:
        left = max(0, math.floor(min(x for x, _ in outline)))
        top = max(0, math.floor(min(y for _, y in outline)))
        right = min(self.width, math.ceil(max(x for x, _ in outline)) + 1)
        bottom = min(self.height, math.ceil(max(y for _, y in outline)) + 1)
        return (left, top, right, bottom) if left < right and top < bottom else None

    def _mask(
        self, outline: Sequence[Point], box: tuple[int, int, int, int], opacity: float
    ) -> Image.Image:
        left, top, right, bottom = box
        mask = Image.new("L", ((right - left) * _SCALE, (bottom - top) * _SCALE))
        ImageDraw.Draw(mask).polygon(
            [((x - left) * _SCALE, (y - top) * _SCALE) for x, y in outline],
            fill=round(_OPAQUE * opacity),
        )
        return mask.reduce(_SCALE)


def circle(x: float, y: float, radius: float, flatness: float = 1.0) -> list[Point]:
    """The outline of a circle, or of an ellipse `flatness` times as high as wide."""
    steps = max(24, round(radius))
    return [
        (
            x + radius * math.cos(math.tau * i / steps),
            y + radius * flatness * math.sin(math.tau * i / steps),
        )
        for i in range(steps)
    ]


def waves(dice: Random, count: int, longest: float) -> list[tuple[float, float, float]]:
    """Random waves (frequency, phase, height), the shorter the lower, for `height_at`."""
    return [
        (
            math.tau / longest * 2**i * dice.uniform(0.8, 1.3),
            dice.uniform(0, math.tau),
            0.5**i * dice.uniform(0.7, 1.1),
        )
        for i in range(count)
    ]


def height_at(x: float, parts: Sequence[tuple[float, float, float]]) -> float:
    """The sum of the waves at x, between about -2 and 2."""
    return sum(height * math.sin(x * frequency + phase) for frequency, phase, height in parts)


def crags(dice: Random, steps: int, roughness: float) -> list[float]:
    """A rugged line of about `steps` heights, about -1 to 1, by midpoint displacement."""
    line = [dice.uniform(-0.5, 0.5), dice.uniform(-0.5, 0.5)]
    spread = 1.0
    while len(line) < steps:
        finer: list[float] = []
        for one, other in pairwise(line):
            finer += [one, (one + other) / 2 + dice.uniform(-spread, spread) / 2]
        line = [*finer, line[-1]]
        spread *= roughness
    return line


def _gradient(width: int, height: int, stops: Sequence[Colour]) -> Image.Image:
    column = Image.new("RGB", (1, _GRADIENT_STEPS))
    pixels = column.load()
    if pixels is not None:
        for i in range(_GRADIENT_STEPS):
            place = i / (_GRADIENT_STEPS - 1) * (len(stops) - 1)
            low = min(int(place), max(0, len(stops) - 2))
            high = min(low + 1, len(stops) - 1)
            pixels[0, i] = blend(stops[low], stops[high], place - low)
    return column.resize((1, height), Image.Resampling.BICUBIC).resize((width, height))
