"""Knows pictures of no place on earth: cut paper and planets, each from dice and colours.

It must not know the prompt: whoever throws the dice does. The plain numbers in a scene are its
composition, mostly shares of the picture's width and height.
"""

import math
from random import Random

from langchain_shortapi_flux.sandbox.canvas import Canvas, Point
from langchain_shortapi_flux.sandbox.palette import Colour, Palette, blend


def paper(canvas: Canvas, dice: Random, palette: Palette) -> None:
    """Sheets of coloured paper with a wavy hole, one above the other, casting shadows."""
    width, height = canvas.width, canvas.height
    canvas.wash([palette.light, palette.horizon])
    x, y = width * dice.uniform(0.35, 0.65), height * dice.uniform(0.32, 0.46)
    reach = math.hypot(width, height) * 0.5
    canvas.glow(x, y, reach * 0.6, (255, 255, 255), 0.7)
    canvas.disc(x, y, reach * 0.1, [palette.accent, blend(palette.accent, palette.light, 0.4)])
    count = dice.randint(6, 8)
    lobes = dice.randint(2, 5)
    phase = dice.uniform(0, math.tau)
    for layer in range(count):
        share = (layer + 1) / count
        radius = reach * (0.14 + 0.76 * share**1.25)
        phase += dice.uniform(0.15, 0.5)
        hole = [
            (
                x + radius * swell * math.cos(angle) * 1.1,
                y + radius * swell * math.sin(angle) * 0.9,
            )
            for angle in (math.tau * i / 240 for i in range(241))
            for swell in [
                1 + 0.11 * math.sin(lobes * angle + phase) + 0.05 * math.sin(7 * angle - phase)
            ]
        ]
        sheet = _around(canvas, hole)
        lit = blend(palette.horizon, palette.middle, share * 2)
        tone = blend(lit, palette.shade, share * 2 - 1)
        canvas.shadow([(px + 6, py + 10) for px, py in sheet], blur=26, opacity=0.42)
        canvas.shape(sheet, [blend(tone, palette.light, 0.14), tone])


def planets(canvas: Canvas, dice: Random, palette: Palette) -> None:
    """A banded planet with a ring, a moon, a nebula and stars."""
    width, height = canvas.width, canvas.height
    canvas.wash([palette.shade, palette.sky, blend(palette.sky, palette.middle, 0.6)])
    for _ in range(7):
        tone = dice.choice((palette.horizon, palette.accent, palette.middle))
        radius = max(width, height) * dice.uniform(0.2, 0.5)
        canvas.glow(dice.uniform(0, width), dice.uniform(0, height), radius, tone, 0.3)
    canvas.stars(dice, height, palette.light, crowding=2)
    radius = min(width * 0.8, height) * dice.uniform(0.25, 0.33)
    x, y = width * dice.uniform(0.35, 0.65), height * dice.uniform(0.44, 0.54)
    tilt = dice.choice((-1, 1)) * dice.uniform(0.15, 0.5)
    canvas.glow(x, y, radius * 1.9, palette.accent, 0.4)
    _ring(canvas, (x, y), radius, tilt + math.pi, palette)
    canvas.ball((x, y), radius, _bands(dice, palette), palette.shade, tilt)
    _ring(canvas, (x, y), radius, tilt, palette)
    moon = radius * dice.uniform(0.13, 0.22)
    side = width * (dice.uniform(0.1, 0.2) if x > width / 2 else dice.uniform(0.8, 0.9))
    place = (side, height * dice.uniform(0.14, 0.8))
    canvas.ball(place, moon, _bands(dice, palette), palette.shade, -tilt)


def _ring(canvas: Canvas, place: Point, radius: float, tilt: float, palette: Palette) -> None:
    for inner, outer, opacity in ((1.38, 1.52, 0.4), (1.55, 1.83, 0.7), (1.88, 2.0, 0.35)):
        band = [
            *_half_ellipse(place, radius * outer, tilt),
            *reversed(_half_ellipse(place, radius * inner, tilt)),
        ]
        canvas.shape(band, [blend(palette.light, palette.accent, 0.25)], opacity=opacity)


def _half_ellipse(place: Point, radius: float, tilt: float) -> list[Point]:
    angles = [math.pi * i / 120 for i in range(121)]
    flat = [(radius * math.cos(a), radius * 0.27 * math.sin(a)) for a in angles]
    cos, sin = math.cos(tilt), math.sin(tilt)
    return [(place[0] + x * cos - y * sin, place[1] + x * sin + y * cos) for x, y in flat]


def _bands(dice: Random, palette: Palette) -> list[Colour]:
    tones = (palette.horizon, palette.accent, palette.middle, palette.light)
    return [blend(dice.choice(tones), palette.horizon, dice.random()) for _ in range(26)]


def _around(canvas: Canvas, hole: list[Point]) -> list[Point]:
    far = canvas.width + canvas.height
    start = hole[0]
    frame = [(far, start[1]), (far, far), (-far, far), (-far, -far), (far, -far), (far, start[1])]
    return [*hole, *frame, start]
