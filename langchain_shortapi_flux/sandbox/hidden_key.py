"""Knows how the key is taken out of what people see.

It must not know where that is shown.
"""

from functools import lru_cache
from typing import Final
from urllib.parse import quote, quote_plus

HIDDEN: Final = "[key]"

_KEYS_KEPT: Final = 8  # One for each sandbox that is likely to run at a time.


def without_key(text: str, key: str) -> str:
    """The text with the key hidden, also as it is spelled in a URL."""
    for spelling in _spellings(key):
        text = text.replace(spelling, HIDDEN)
    return text


@lru_cache(maxsize=_KEYS_KEPT)
def _spellings(key: str) -> frozenset[str]:
    return frozenset({key, quote(key), quote(key, safe=""), quote_plus(key)})
