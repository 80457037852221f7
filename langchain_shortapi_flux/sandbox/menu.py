"""Knows what the sandbox sells: one model, its prices, its arguments and the sizes it draws.

It must not know HTTP, jobs or time.
"""

from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Final

MODEL_ID: Final = "shortapi/flux-1.0/text-to-image"

DEFAULT_MODE: Final = "dev"
DEFAULT_NUM_IMAGES: Final = 1
IMAGE_COUNTS: Final = (1, 2, 4, 8)

PRICES_USD: Final[Mapping[str, Decimal]] = MappingProxyType(
    {"schnell": Decimal("0.002"), "dev": Decimal("0.02")}
)
"""USD per request, by mode: the official page's prices.

The page says "per request". Whether the service multiplies by `num_images` is unknown; the
sandbox does not, and no client should compute a bill from that.
"""

SIZES: Final[Mapping[str, tuple[int, int]]] = MappingProxyType(
    {
        "1:1": (1024, 1024),
        "9:16": (768, 1360),
        "16:9": (1360, 768),
        "4:3": (1152, 864),
        "3:4": (864, 1152),
        "3:2": (1248, 832),
        "2:3": (832, 1248),
        "21:9": (1568, 672),
    }
)
"""Width and height in pixels, by aspect ratio.

1:1, 16:9, 3:2 and 2:3 are sizes seen in images made with the service; the other four are an
assumption: about one megapixel, in multiples of sixteen. No client should rely on any of them.
"""


class Refused(Exception):
    """The service would say no; the text is what its `info` says."""


def check_model(model: object) -> None:
    """Refuse any model but the one on the menu; the wording was reported by a client author."""
    if model != MODEL_ID:
        msg = f"invalid model: {model}"
        raise Refused(msg)


def check_args(args: object) -> None:
    """Refuse arguments that the official page does not allow, naming the argument.

    Unknown arguments are let through: one author sends some and gets images. `num_images` is
    accepted as a JSON integer only. That is stricter than what is known (the page types it as
    an int but prints its options in quotes), so that a sloppy client is noticed here.
    """
    if not isinstance(args, dict):
        msg = "args: must be an object"
        raise Refused(msg)
    prompt = args.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        msg = "prompt: a non-empty string is required"
        raise Refused(msg)
    if "aspect_ratio" not in args:
        msg = "aspect_ratio: is required"
        raise Refused(msg)
    _check_choice("aspect_ratio", args["aspect_ratio"], tuple(SIZES))
    _check_choice("performance", args.get("performance", DEFAULT_MODE), tuple(PRICES_USD))
    num_images = args.get("num_images", DEFAULT_NUM_IMAGES)
    if type(num_images) is not int:
        msg = f"num_images: must be an integer, one of {_listed(IMAGE_COUNTS)}"
        raise Refused(msg)
    _check_choice("num_images", num_images, IMAGE_COUNTS)


def mode_of(args: Mapping[str, object]) -> str:
    """The mode that checked arguments ask for."""
    return str(args.get("performance", DEFAULT_MODE))


def image_count_of(args: Mapping[str, object]) -> int:
    """The number of images that checked arguments ask for."""
    return int(str(args.get("num_images", DEFAULT_NUM_IMAGES)))


def _check_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    if isinstance(value, (str, int)) and value in choices:
        return
    msg = f"{name}: must be one of {_listed(choices)}"
    raise Refused(msg)


def _listed(choices: tuple[object, ...]) -> str:
    return ", ".join(str(choice) for choice in choices)
