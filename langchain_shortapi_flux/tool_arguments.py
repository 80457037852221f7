"""``Arguments``: what a model fills in for a tool, and what it is told where that was wrong.

It knows nothing of what the arguments are for. Whatever a model gives may be anything, also a key
that it was shown: what looks like one is not said again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, model_validator

from langchain_shortapi_flux.invalid_values import describe_invalid, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import ValidationError

INJECTED = "runtime"
"""The name under which LangGraph adds its own to a call."""
UNKNOWN_NAMES_SHOWN = 5
"""How many arguments that do not exist are named at most."""


class Arguments(BaseModel):
    """Arguments that a model fills in; unknown ones are refused by name."""

    # Not extra="forbid": that would also refuse what LangGraph injects.
    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _no_unknown_arguments(cls, values: Any) -> Any:
        known = {*cls.model_fields, INJECTED}
        unknown = sorted(map(str, set(values) - known)) if isinstance(values, dict) else []
        if unknown:
            named = ", ".join(map(shown, unknown[:UNKNOWN_NAMES_SHOWN]))
            names = ", ".join(cls.model_fields)
            raise ValueError(f"{named} unknown; the arguments are {names}")
        return values


def explain_invalid(error: ValidationError, allowed: Sequence[str]) -> str:
    """Which argument was wrong, and what is allowed, in one line that holds no secret.

    Args:
        error: What pydantic found wrong.
        allowed: The names of the arguments that exist.
    """
    return f"invalid arguments: {describe_invalid(error.errors(), allowed)}"
