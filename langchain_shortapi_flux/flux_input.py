"""What a ``ShortAPIFlux`` takes, as a type."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.prompt_values import PromptValue

from langchain_shortapi_flux.job import FluxRequest

FluxInput = str | dict[str, Any] | FluxRequest | PromptValue | BaseMessage | list[BaseMessage]
"""What a ``ShortAPIFlux`` takes: the prompt as text, a dict with the fields of ``FluxRequest``, a
``FluxRequest``, or what a prompt template or a chat model gives (the text of the last message)."""
