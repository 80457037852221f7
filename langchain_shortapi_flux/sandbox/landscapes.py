"""Knows landscapes: mountains, sea and northern lights, each from dice and colours.

It must not know the prompt: whoever throws the dice does. The plain numbers in a scene are its
composition, mostly shares of the picture's width and height.
"""

import math
from collections.abc import Callable
from random import Random
from typing import Final

from PIL import Image, ImageDraw, ImageFilter

from langchain_shortapi_flux.sandbox.canvas import (
    Canvas,
    Point,
    circle,
    crags,
    height_at,
    waves,
)
from langchain_shortapi_flux.sandbox.palette import Palette, blend

_STEP_PIXELS: Final = 6  # Between the points of a smooth outline.
_AURORA_REDUCTION: Final = 6


def mountains(canvas: Canvas, dice: Random, palette: Palette) -> None:
    """Ridge behind ridge in the haze, before a low sun or moon."""
    width, height = canvas.width, canvas.height
    _sky(canvas, dice, palette)
    _light(canvas, dice, palette, y=height * dice.uniform(0.2, 0.42))
    count = dice.randint(5, 7)
    for layer in range(count):
        nearness = (layer + 1) / count
        base = height * (0.42 + 0.46 * nearness)
        tall = min(width, height) * dice.uniform(0.1, 0.17) * (1.25 - 0.45 * nearness)
        line = crags(dice, 128, 0.52 + 0.04 * (1 - nearness))
        crest = [(i * width / (len(line) - 1), base - tall * value) for i, value in enumerate(line)]
        near = blend(palette.horizon, palette.shade, nearness**0.8)
        mist = blend(near, palette.horizon, 0.55 * (1.15 - nearness))
        canvas.shape(_down(canvas, crest), [near, mist])
    _firs(canvas, dice, palette)


def sea(canvas: Canvas, dice: Random, palette: Palette) -> None:
    """A sun over the water, its path of light, islands and a sail."""
    width, height = canvas.width, canvas.height
    _sky(canvas, dice, palette)
    line = height * dice.uniform(0.48, 0.56)
    x = _light(canvas, dice, palette, y=line - height * dice.uniform(0.05, 0.2))
    _clouds(canvas, dice, palette, line)
    _islands(canvas, dice, palette, line)
    deep = blend(palette.shade, palette.sky, 0.45)
    bright = blend(palette.horizon, palette.middle, 0.55)
    canvas.shape(
        [(0, line), (width, line), (width, height), (0, height)],
        [bright, blend(deep, bright, 0.35), deep],
    )
    _glints(canvas, dice, palette, (x, line))
    _sail(canvas, dice, palette, line)


def northern_lights(canvas: Canvas, dice: Random, palette: Palette) -> None:
    """Curtains of light over a dark forest."""
    width, height = canvas.width, canvas.height
    canvas.wash([palette.sky, palette.sky, palette.middle, palette.horizon])
    canvas.stars(dice, height * 0.7, palette.light)
    for share in (0.0, 0.45, 0.9):
        colour = blend(palette.accent, palette.horizon, share)
        canvas.veil(_curtain(canvas, dice, foot=0.72 - 0.22 * share), colour)
    for nearness in (0.2, 0.6):
        base = height * (0.76 + 0.14 * nearness)
        parts = waves(dice, 4, width * 1.2)
        crest: list[Point] = [
            (x, base - height * 0.035 * height_at(x, parts))
            for x in range(0, width + _STEP_PIXELS, _STEP_PIXELS)
        ]
        tone = blend(palette.horizon, palette.shade, 0.45 + nearness * 0.6)
        canvas.shape(_down(canvas, crest), [tone, blend(tone, palette.horizon, 0.3)])
    _firs(canvas, dice, palette)


def _sky(canvas: Canvas, dice: Random, palette: Palette) -> None:
    canvas.wash([palette.sky, palette.middle, palette.horizon, palette.horizon])
    if palette.night:
        canvas.stars(dice, canvas.height * 0.5, palette.light)


def _light(canvas: Canvas, dice: Random, palette: Palette, y: float) -> float:
    x = canvas.width * dice.uniform(0.22, 0.78)
    radius = min(canvas.width, canvas.height) * dice.uniform(0.055, 0.1)
    canvas.glow(x, y, radius * 7, palette.light, 0.6)
    canvas.glow(x, y, radius * 2.6, palette.light, 0.7)
    canvas.disc(x, y, radius, [palette.light, blend(palette.light, palette.accent, 0.22)])
    return x


def _clouds(canvas: Canvas, dice: Random, palette: Palette, line: float) -> None:
    for _ in range(dice.randint(5, 9)):
        y = line * dice.uniform(0.15, 0.85)
        x = dice.uniform(0, canvas.width)
        tone = blend(palette.horizon, palette.light, dice.random())
        for _ in range(dice.randint(3, 6)):
            reach = canvas.width * dice.uniform(0.04, 0.16)
            place = (x + dice.uniform(-1, 1) * reach * 1.2, y + dice.uniform(-7, 7))
            canvas.shape(circle(*place, reach, 0.07), [tone], opacity=0.28)


def _islands(canvas: Canvas, dice: Random, palette: Palette, line: float) -> None:
    for nearness in (0.25, 0.5):
        middle = canvas.width * dice.uniform(-0.1, 1.1)
        half = canvas.width * dice.uniform(0.18, 0.38)
        tall = canvas.height * dice.uniform(0.05, 0.13)
        rough = crags(dice, 64, 0.5)
        crest: list[Point] = []
        for i, value in enumerate(rough):
            across = i / (len(rough) - 1)
            bulge = math.sin(math.pi * across) ** 0.8
            x = middle + half * (2 * across - 1)
            crest.append((x, line - tall * bulge * (1 + 0.5 * value)))
        tone = blend(palette.horizon, palette.shade, 0.2 + nearness)
        canvas.shape(
            [*crest, (middle + half, line + 1), (middle - half, line + 1)],
            [tone, blend(tone, palette.horizon, 0.4)],
        )


def _glints(canvas: Canvas, dice: Random, palette: Palette, foot: Point) -> None:
    x, line = foot
    depth = canvas.height - line
    for _ in range(150):
        far = dice.random() ** 1.6
        y = line + 2 + depth * far
        spread = canvas.width * (0.025 + 0.13 * far)
        place = x + dice.gauss(0, 0.55) * spread
        length = spread * dice.uniform(0.15, 0.6)
        glint = circle(place, y, length, (1.2 + 2.6 * far) / length)
        canvas.shape(glint, [palette.light], opacity=dice.uniform(0.3, 0.85) * (1 - 0.5 * far))
    for _ in range(90):
        far = dice.random() ** 1.4
        length = canvas.width * (0.01 + 0.05 * far) * dice.uniform(0.6, 1.6)
        ripple = circle(
            dice.uniform(0, canvas.width), line + 3 + depth * far, length, (1 + 2 * far) / length
        )
        canvas.shape(ripple, [palette.horizon], opacity=0.2)


def _sail(canvas: Canvas, dice: Random, palette: Palette, line: float) -> None:
    x = canvas.width * dice.uniform(0.15, 0.85)
    y = line + canvas.height * dice.uniform(0.06, 0.12)
    tall = canvas.height * dice.uniform(0.08, 0.13)
    white = blend(palette.light, palette.accent, 0.12)
    dark = blend(palette.shade, palette.accent, 0.15)
    canvas.shape([(x, y - tall), (x, y), (x + tall * 0.5, y)], [white])
    canvas.shape(
        [(x - 4, y - tall * 0.9), (x - 4, y), (x - tall * 0.3, y)],
        [blend(white, palette.middle, 0.35)],
    )
    hull = tall * 0.14
    canvas.shape(
        [
            (x - tall * 0.38, y + 4),
            (x + tall * 0.55, y + 4),
            (x + tall * 0.4, y + 4 + hull),
            (x - tall * 0.26, y + 4 + hull),
        ],
        [dark],
    )


def _curtain(canvas: Canvas, dice: Random, foot: float) -> Image.Image:
    width, height = canvas.width // _AURORA_REDUCTION, canvas.height // _AURORA_REDUCTION
    mask = Image.new("L", (width, height))
    draw = ImageDraw.Draw(mask)
    sway, shine = waves(dice, 3, width * 1.1), waves(dice, 3, width * 0.6)
    rays = waves(dice, 3, width * 0.09)
    tall = height * dice.uniform(0.42, 0.6)
    for x in range(width):
        bottom = height * foot - height * 0.06 * height_at(x, sway)
        strength = 150 + 60 * height_at(x, shine) + 32 * height_at(x, rays)
        top = bottom - tall * max(0.3, 1 + 0.16 * height_at(x, shine) + 0.14 * height_at(x, rays))
        for row in range(max(0, int(top)), min(height, int(bottom) + 4)):
            rise = min(1.0, max(0.0, (row - top) / (bottom - top)))
            fade = max(0.0, 1 - max(0.0, row - bottom) / 4)
            draw.point((x, row), max(0, min(235, round(strength * rise**2 * fade))))
    return mask.filter(ImageFilter.GaussianBlur(0.8))


def _firs(canvas: Canvas, dice: Random, palette: Palette) -> None:
    width, height = canvas.width, canvas.height
    ground = waves(dice, 3, width * 1.4)
    base = height * 0.95

    def floor(x: float) -> float:
        return base - height * 0.025 * height_at(x, ground)

    canvas.shape(_down(canvas, _smooth(canvas, floor)), [palette.shade])
    x = -20.0
    while x < width + 20:
        tall = min(width, height) * dice.uniform(0.05, 0.15)
        canvas.shape(_fir(dice, (x, floor(x) + 8), tall), [palette.shade])
        x += tall * dice.uniform(0.16, 0.7)


def _fir(dice: Random, foot: Point, tall: float) -> list[Point]:
    x, y = foot
    tiers = 6
    right: list[Point] = []
    left: list[Point] = []
    for tier in range(tiers):
        reach = tall * 0.2 * (tier + 1) / tiers * dice.uniform(0.8, 1.15)
        low = y - tall * (1 - (tier + 1) / tiers * 0.94)
        right += [(x + reach, low), (x + reach * 0.4, low - tall * 0.015)]
        left += [(x - reach, low), (x - reach * 0.4, low - tall * 0.015)]
    return [(x, y - tall), *right, (x, y), *reversed(left)]


def _smooth(canvas: Canvas, height_of: Callable[[float], float]) -> list[Point]:
    return [(x, height_of(x)) for x in range(0, canvas.width + _STEP_PIXELS, _STEP_PIXELS)]


def _down(canvas: Canvas, crest: list[Point]) -> list[Point]:
    return [*crest, (crest[-1][0], canvas.height), (crest[0][0], canvas.height)]
