"""``ShortAPIFluxTool``: pictures as a tool that an agent calls.

It joins LangChain's way of calling tools to the Runnable. It knows nothing of how the service
spells things.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator
from typing_extensions import override

from langchain_shortapi_flux.errors import ShortAPIError
from langchain_shortapi_flux.job import FluxRequest, describe_invalid, left_out
from langchain_shortapi_flux.runnable import ShortAPIFlux
from langchain_shortapi_flux.tool_content import (
    FailureArtifact,
    JobArtifact,
    failure_artifact,
    failure_text,
    job_artifact,
    job_text,
)

if TYPE_CHECKING:
    from langchain_core.callbacks import (
        AsyncCallbackManagerForToolRun,
        CallbackManagerForToolRun,
    )
    from langchain_core.messages import ToolCall
    from langchain_core.runnables import RunnableConfig

TOOL_NAME = "flux_text_to_image"
_DESCRIPTION = (
    "Make pictures from a text description with the Flux model. Give one complete description of "
    "what the picture should show (subject, setting, style, light); it has no memory of earlier "
    "pictures. Takes a few seconds to a minute and costs money on every call, so call it once per "
    "picture that the user wants. Answers with URLs of the pictures."
)
_INJECTED = frozenset({"runtime"})
"""Arguments that LangGraph may add beside the model's own."""


def explain_invalid_arguments(error: ValidationError | Any) -> str:
    """Tell a model which argument was wrong, and what is allowed."""
    problem = describe_invalid(error.errors(), list(FluxRequest.model_fields))
    return f"No image: invalid arguments: {problem}. Nothing was charged. Correct them, call again."


class _FluxArguments(FluxRequest):
    """The arguments that a model fills in."""

    # Not extra="forbid": that would also refuse what LangGraph injects.
    model_config = ConfigDict(extra="ignore")

    @model_validator(mode="before")
    @classmethod
    def _no_unknown_arguments(cls, values: Any) -> Any:
        known = set(cls.model_fields) | _INJECTED
        unknown = sorted(set(values) - known) if isinstance(values, dict) else []
        if unknown:
            names = ", ".join(cls.model_fields)
            raise ValueError(f"{', '.join(map(repr, unknown))} unknown; the arguments are {names}")
        return values


def _arguments_for(flux: ShortAPIFlux) -> type[BaseModel]:
    """The arguments' schema, each option described with what this instance takes if it is unset."""
    fields: dict[str, Any] = {}
    for name in ("aspect_ratio", "num_images", "performance"):
        field = FluxRequest.model_fields[name]
        text = f"{field.description} Default: {getattr(flux, name)}."
        option = Field(default_factory=left_out, description=text)
        fields[name] = (field.rebuild_annotation(), option)
    return create_model(
        "FluxTextToImage", __base__=_FluxArguments, __doc__="Arguments of a picture.", **fields
    )


class ShortAPIFluxTool(BaseTool):
    """Pictures from Flux on ShortAPI, as a tool for an agent.

    Setup::

        tool = ShortAPIFluxTool(flux=ShortAPIFlux(performance="schnell"))
        agent = create_agent(model, tools=[tool])

    Invoked with a ``ToolCall`` it gives a ``ToolMessage``: short text with the pictures' URLs as
    content, a ``JobArtifact`` (plain JSON types) as artifact. Invoked with plain arguments it gives
    the text alone; in chains and notebooks use ``ShortAPIFlux``, which gives the job itself.

    A ``ShortAPIError`` is answered with an error ``ToolMessage`` that says what happened, whether
    it was charged and what to do, with a ``FailureArtifact``; traces show the failure all the same.
    Set ``handle_tool_error`` to LangChain's own values to have it otherwise; ``False`` raises.
    """

    # As in ShortAPIFlux, whose fields may be given here as a dict.
    model_config = ConfigDict(hide_input_in_errors=True)

    name: str = TOOL_NAME
    description: str = _DESCRIPTION
    flux: ShortAPIFlux = Field(default_factory=ShortAPIFlux)
    """What makes the pictures; its fields are the defaults of the arguments."""
    response_format: Literal["content", "content_and_artifact"] = "content_and_artifact"
    handle_tool_error: bool | str | Callable[[Any], Any] | None = None
    """None: answered as described above. Otherwise as in LangChain."""
    handle_validation_error: bool | str | Callable[[Any], str] | None = explain_invalid_arguments

    @model_validator(mode="before")
    @classmethod
    def _make_arguments(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("args_schema") is None:
            flux = values.get("flux") or ShortAPIFlux()
            flux = flux if isinstance(flux, ShortAPIFlux) else ShortAPIFlux.model_validate(flux)
            return {**values, "flux": flux, "args_schema": _arguments_for(flux)}
        return values

    def _run(
        self,
        prompt: str,
        aspect_ratio: str | None = None,
        num_images: int | None = None,
        performance: str | None = None,
        run_manager: CallbackManagerForToolRun | None = None,
    ) -> tuple[str, JobArtifact]:
        request = _fields(prompt, aspect_ratio, num_images, performance)
        callbacks = run_manager.get_child() if run_manager else None
        *_, job = self.flux.stream(request, {"callbacks": callbacks})
        return job_text(job), job_artifact(job)

    async def _arun(
        self,
        prompt: str,
        aspect_ratio: str | None = None,
        num_images: int | None = None,
        performance: str | None = None,
        run_manager: AsyncCallbackManagerForToolRun | None = None,
    ) -> tuple[str, JobArtifact]:
        request = _fields(prompt, aspect_ratio, num_images, performance)
        callbacks = run_manager.get_child() if run_manager else None
        *_, job = [job async for job in self.flux.astream(request, {"callbacks": callbacks})]
        return job_text(job), job_artifact(job)

    @override
    def invoke(
        self,
        input: str | dict[str, Any] | ToolCall,
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Any:
        """As in LangChain; a ``ShortAPIError`` becomes an answer (see the class)."""
        try:
            return super().invoke(input, config, **kwargs)
        except ShortAPIError as error:
            if self.handle_tool_error is not None:
                raise
            return self._answer(error, input)

    @override
    async def ainvoke(
        self,
        input: str | dict[str, Any] | ToolCall,
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Any:
        """The async twin of ``invoke``."""
        try:
            return await super().ainvoke(input, config, **kwargs)
        except ShortAPIError as error:
            if self.handle_tool_error is not None:
                raise
            return self._answer(error, input)

    def _answer(self, error: ShortAPIError, input: Any) -> ToolMessage | str:
        text = failure_text(error)
        is_call = isinstance(input, dict) and input.get("type") == "tool_call"
        if not is_call or input["id"] is None:  # as LangChain does with what goes well
            return text
        artifact: FailureArtifact = failure_artifact(error)
        return ToolMessage(
            text, artifact=artifact, tool_call_id=input["id"], name=self.name, status="error"
        )


def _fields(
    prompt: str, aspect_ratio: str | None, num_images: int | None, performance: str | None
) -> dict[str, Any]:
    """The arguments as the Runnable's input. It checks them again: a string input is unchecked."""
    return {
        "prompt": prompt,
        "aspect_ratio": aspect_ratio,
        "num_images": num_images,
        "performance": performance,
    }
