"""A chat model that says what it was told to say, for agents in tests."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import Field, PrivateAttr

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_core.callbacks import CallbackManagerForLLMRun
    from langchain_core.runnables import Runnable

_numbers = count(1)


def tool_call(name: str, **arguments: Any) -> AIMessage:
    """An answer that calls one tool, under an id of its own."""
    call = {"name": name, "args": arguments, "id": f"call_{next(_numbers)}", "type": "tool_call"}
    return AIMessage("", tool_calls=[call])


class ScriptedModel(BaseChatModel):
    """Gives its answers one after another, whatever it is asked; ``asked`` keeps what that was."""

    answers: list[Any] = Field(default_factory=list)
    _asked: list[list[BaseMessage]] = PrivateAttr(default_factory=list)
    _tools: list[Any] = PrivateAttr(default_factory=list)

    @property
    def asked(self) -> list[list[BaseMessage]]:
        """The messages of each call."""
        return self._asked

    @property
    def tools(self) -> list[Any]:
        """The tools that it was given, each time."""
        return self._tools

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **_: Any) -> Runnable[Any, AIMessage]:
        """Take tools as a real model does; which to call is in the script."""
        self._tools.extend(tools)
        return self

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **_: Any,
    ) -> ChatResult:
        answer = self.answers[len(self._asked)]
        self._asked.append(list(messages))
        message = AIMessage(answer) if isinstance(answer, str) else answer
        return ChatResult(generations=[ChatGeneration(message=message)])
