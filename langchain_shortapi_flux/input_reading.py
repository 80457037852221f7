"""Reads what LangChain hands over: text, dict, prompt value, message or messages, and options.

It turns each into a ``FluxRequest`` and says in one line what is wrong with one that cannot be. It
knows nothing of the service.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from langchain_core.messages import BaseMessage
from langchain_core.prompt_values import PromptValue
from pydantic import Field, ValidationError

from langchain_shortapi_flux.errors import InvalidRequest
from langchain_shortapi_flux.invalid_values import describe_invalid
from langchain_shortapi_flux.job import FluxRequest, Repeat, made_of

if TYPE_CHECKING:
    from langchain_core.messages import MessageLikeRepresentation
    from langchain_core.runnables import RunnableConfig

    from langchain_shortapi_flux.flux_input import FluxInput


_REQUEST_FIELDS = tuple(FluxRequest.model_fields)


class Asked(FluxRequest):
    """A request, and what its caller said about buying it once. Never on the wire.

    Attributes:
        request_key: The caller's name for this purchase; the same name never buys twice.
        on_unknown: See ``ShortAPIFlux.on_unknown``; None leaves it to the Runnable.
        on_failed: See ``ShortAPIFlux.on_failed``; None leaves it to the Runnable.
        max_wait: Seconds after which this call stops waiting (``JobTimeout``), if that comes
            before the Runnable's ``timeout``. It never cuts a create short.
    """

    request_key: (
        Annotated[str, Field(pattern=r"^[^\x00]*[^\s\x00][^\x00]*$", max_length=1000)] | None
    ) = None
    on_unknown: Repeat | None = None
    on_failed: Repeat | None = None
    max_wait: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None

    @property
    def request(self) -> FluxRequest:
        """What is asked for, alone."""
        # Not validated once more: the fields were, as part of this.
        own = {name: getattr(self, name) for name in _REQUEST_FIELDS}
        return made_of(FluxRequest, own, self.model_fields_set & own.keys())


def read_input(
    value: FluxInput, options: Mapping[str, Any], config: RunnableConfig | None = None
) -> Asked:
    """The request in an input. ``options`` (bound or passed by keyword) win over the input's own.

    An option that is None is unset, and wins over nothing. A ``request_key`` may also stand in
    ``config["configurable"]``.

    Raises:
        InvalidRequest: There is no prompt in it, or a field is unknown or out of range. Nothing
            was sent.
    """
    problem: str
    given = {name: option for name, option in options.items() if option is not None}
    try:
        fields = {**_configured(config), **_fields(value), **given}
        return Asked.model_validate(fields)
    except ValidationError as error:
        problem = describe_invalid(error.errors(), list(Asked.model_fields))
    except _NoPrompt as error:
        problem = str(error)
    # Raised out here, so that pydantic's error, which holds the whole input, is not its context.
    raise InvalidRequest(f"invalid request: {problem}; nothing was sent")


def _configured(config: RunnableConfig | None) -> dict[str, Any]:
    key = ((config or {}).get("configurable") or {}).get("request_key")
    return {} if key is None else {"request_key": key}


class _NoPrompt(Exception):
    """What came in holds no prompt."""


def _fields(value: object) -> dict[str, Any]:
    if isinstance(value, FluxRequest):
        return value.model_dump(exclude_none=True)
    if isinstance(value, str):
        return {"prompt": value}
    if isinstance(value, Mapping):
        return {str(name): entry for name, entry in value.items()}
    if isinstance(value, PromptValue):
        return _fields_of_messages(value.to_messages())
    if isinstance(value, BaseMessage):
        return _fields_of_messages([value])
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return _fields_of_messages(value)
    message = f"input is {type(value).__name__}; allowed are str, dict, FluxRequest, prompt value, "
    raise _NoPrompt(message + "message and list of messages")


def _fields_of_messages(messages: Sequence[MessageLikeRepresentation]) -> dict[str, Any]:
    if not messages:
        raise _NoPrompt("the list of messages is empty")
    last: Any = messages[-1]
    if not isinstance(last, BaseMessage):
        from langchain_core.messages import convert_to_messages  # noqa: PLC0415 - rarely needed

        try:
            last = convert_to_messages([last])[-1]
        except (ValueError, NotImplementedError, KeyError, TypeError):
            raise _NoPrompt(f"the list ends with {type(last).__name__}, not a message") from None
    text = str(last.text)
    if not text.strip():
        raise _NoPrompt(f"the last message ({last.type}) has no text to take as prompt")
    return {"prompt": text}
