"""Knows colours: harmonious ones from dice, and how to blend them.

It must not know what they are used for.
"""

import math
from dataclasses import dataclass
from random import Random
from typing import TypeAlias

Colour: TypeAlias = tuple[int, int, int]

_SRGB_KNEE = 0.0031308
_DEGREES = 360.0
_CHANNEL_MAX = 255


def oklch(lightness: float, chroma: float, hue: float) -> Colour:
    """A colour by perceived lightness (0 to 1), chroma (0 to about 0.3) and hue (degrees).

    The matrices are those of Björn Ottosson's Oklab, https://bottosson.github.io/posts/oklab/:
    equal steps look equal, so that colours chosen by dice still go together.
    """
    a = chroma * math.cos(math.radians(hue))
    b = chroma * math.sin(math.radians(hue))
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    return (
        _channel(4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short),
        _channel(-1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short),
        _channel(-0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short),
    )


def blend(one: Colour, other: Colour, share: float) -> Colour:
    """A mix of two colours, `share` (0 to 1) of it the other."""
    share = min(1.0, max(0.0, share))
    return (
        round(one[0] + (other[0] - one[0]) * share),
        round(one[1] + (other[1] - one[1]) * share),
        round(one[2] + (other[2] - one[2]) * share),
    )


@dataclass(frozen=True, slots=True)
class Palette:
    """The colours of one picture, from the top of its sky to its nearest shadow."""

    sky: Colour
    middle: Colour
    horizon: Colour
    light: Colour
    accent: Colour
    shade: Colour
    night: bool


def day_palette(dice: Random) -> Palette:
    """A bright sky over a dark foreground."""
    hue = dice.uniform(0, _DEGREES)
    turn = dice.choice((-1, 1)) * dice.uniform(50, 130)
    depth = dice.uniform(0.42, 0.66)
    return Palette(
        sky=oklch(depth, 0.11, hue),
        middle=oklch((depth + 0.84) / 2, 0.11, hue + turn * 0.5),
        horizon=oklch(0.88, 0.09, hue + turn),
        light=oklch(0.97, 0.05, hue + turn * 1.1),
        accent=oklch(0.68, 0.17, hue + turn * 1.3),
        shade=oklch(0.2, 0.055, hue + dice.uniform(-30, 30)),
        night=False,
    )


def night_palette(dice: Random) -> Palette:
    """A dark sky that glows at the horizon."""
    hue = dice.uniform(190, 330)
    turn = dice.choice((-1, 1)) * dice.uniform(40, 110)
    return Palette(
        sky=oklch(0.16, 0.05, hue),
        middle=oklch(0.28, 0.09, hue + turn * 0.3),
        horizon=oklch(0.5, 0.12, hue + turn * 0.7),
        light=oklch(0.95, 0.04, hue + turn),
        accent=oklch(0.76, 0.16, hue + turn * 1.6),
        shade=oklch(0.1, 0.03, hue),
        night=True,
    )


def _channel(linear: float) -> int:
    linear = min(1.0, max(0.0, linear))
    value = 12.92 * linear if linear <= _SRGB_KNEE else 1.055 * linear ** (1 / 2.4) - 0.055
    return round(value * _CHANNEL_MAX)
