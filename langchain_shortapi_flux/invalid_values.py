"""What is wrong with a value, said in one line: the field, the value, and what is allowed.

It knows pydantic's errors, and what must not be shown because it may be a secret.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


def describe_invalid(errors: Sequence[Any], allowed: Sequence[str]) -> str:
    """Say in one line what pydantic found wrong: field, value, and what is allowed.

    Args:
        errors: What ``ValidationError.errors()`` gives.
        allowed: The names of the fields that exist.
    """
    return "; ".join(_describe_one(error, allowed) for error in errors)


_SHOWN_VALUE_LENGTH = 60
_NEVER_SHOWN = ("base_url", "callback_url", "api_key")
"""They may hold a password, also where they are refused for it."""


def _describe_one(error: Any, allowed: Sequence[str]) -> str:
    reason = str(error["msg"]).removeprefix("Value error, ")
    if not error["loc"]:
        return reason  # about the whole, whose value is too much to show
    field = _cut(str(error["loc"][0]))
    if error["type"] == "extra_forbidden":
        named = shown(str(error["loc"][0]))
        return f"{named} is not an argument; the arguments are {', '.join(allowed)}"
    if error["type"] == "missing":
        return f"{field} is missing"
    if field in _NEVER_SHOWN:
        return f"{field}: {reason}"
    if error["type"] == "literal_error":
        reason = f"allowed are {error['ctx']['expected']}"
    return f"{field}={shown(error['input'])}: {reason}"


def shown(value: object) -> str:
    """A wrong value, as an error names it; not where it may be a secret or hold one.

    What is given for an option may be anything, also a key that was pasted into the wrong place.
    """
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - a huge int, a value nested too deep, a repr that fails
        return f"a value of the type {_cut(type(value).__name__)}"
    plain = value if isinstance(value, str) else text
    return NOT_SHOWN if _PERHAPS_SECRET.search(plain) else _cut(text)


NOT_SHOWN = "(not shown)"
_PERHAPS_SECRET = re.compile(r"\S{20}")
"""No option and no name is a word that long; a key of the service has 35 characters."""


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_VALUE_LENGTH else text[:_SHOWN_VALUE_LENGTH] + "…"
