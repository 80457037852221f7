"""``ShortAPIFluxTool``: pictures as a tool that an agent calls.

It joins LangChain's way of calling tools to the Runnable. It knows nothing of how the service
spells things.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator
from typing_extensions import override

from langchain_shortapi_flux.answering_tool import Injected, agent_call
from langchain_shortapi_flux.errors import JobTimeout
from langchain_shortapi_flux.job import FluxRequest, left_out
from langchain_shortapi_flux.picture_tool import PictureTool, usable
from langchain_shortapi_flux.runnable import ShortAPIFlux
from langchain_shortapi_flux.tool_arguments import Arguments

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langchain_core.callbacks import (
        AsyncCallbackManagerForToolRun,
        CallbackManagerForToolRun,
    )

    from langchain_shortapi_flux.job import FluxJob
    from langchain_shortapi_flux.tool_content import Content, JobArtifact

TOOL_NAME = "flux_text_to_image"
DIGEST_LENGTH = 16
"""Digits of the request's hash in a purchase's key: enough to tell one call's arguments apart."""
KEY_LENGTH_MAX = 500
"""A longer key of a purchase is made a hash: the Runnable takes 1,000 characters."""
_DESCRIPTION = (
    "Make pictures from a text description with the Flux model. Give one complete description of "
    "what the picture should show (subject, setting, style, light); it has no memory of earlier "
    "pictures. Takes a few seconds to a minute and costs money on every call, so call it once per "
    "picture that the user wants. Answers with URLs of the pictures."
)


def _arguments_for(flux: ShortAPIFlux) -> type[BaseModel]:
    """The arguments' schema, each option described with what this instance takes if it is unset."""
    fields: dict[str, Any] = {}
    for name in ("aspect_ratio", "num_images", "performance"):
        field = FluxRequest.model_fields[name]
        text = f"{field.description} Default: {getattr(flux, name)}."
        option = Field(default_factory=left_out, description=text)
        fields[name] = (field.rebuild_annotation(), option)
    return create_model("FluxTextToImage", __base__=_arguments(), **fields)


def _made_here(schema: object) -> bool:
    return isinstance(schema, type) and issubclass(schema, _arguments())


@cache
def _arguments() -> type[BaseModel]:
    class FluxArguments(Arguments, FluxRequest):
        """Arguments of a picture."""

        model_config = ConfigDict(extra="ignore")

    return FluxArguments


class ShortAPIFluxTool(PictureTool):
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

    In an agent the same tool call never buys twice: the purchase is known in ``flux.ledger`` by
    thread (or task), tool call and arguments. Where a provider gives tool calls no id, LangGraph's
    task stands in for it; then two calls of one task with equal arguments are one purchase.

    Raises:
        pydantic.ValidationError: A field, the Runnable's ones included, has a value that is not
            allowed.
    """

    name: str = TOOL_NAME
    description: str = _DESCRIPTION
    flux: ShortAPIFlux = Field(default_factory=ShortAPIFlux)
    """What makes the pictures; its fields are the defaults of the arguments."""
    max_wait: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Seconds after which the tool answers that the job is still running, and how to ask for it."""

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
        runtime: Injected = None,
    ) -> tuple[Content, JobArtifact]:
        self._require_folder()
        asked = _asked(prompt, aspect_ratio, num_images, performance)
        callbacks = run_manager.get_child() if run_manager else None
        jobs = self.flux.stream(asked, {"callbacks": callbacks}, **self._options(asked, runtime))
        job: FluxJob | None = None
        try:
            for snapshot in self._watch(jobs, runtime, run_manager):
                job = snapshot
        except JobTimeout as error:
            job = self._still_running(job, error)
        job = usable(job)
        return self._told(job, self._save(job))

    async def _arun(
        self,
        prompt: str,
        aspect_ratio: str | None = None,
        num_images: int | None = None,
        performance: str | None = None,
        run_manager: AsyncCallbackManagerForToolRun | None = None,
        runtime: Injected = None,
    ) -> tuple[Content, JobArtifact]:
        if self.save_to is not None:
            await asyncio.to_thread(self._require_folder)
        asked = _asked(prompt, aspect_ratio, num_images, performance)
        callbacks = run_manager.get_child() if run_manager else None
        jobs = self.flux.astream(asked, {"callbacks": callbacks}, **self._options(asked, runtime))
        job: FluxJob | None = None
        try:
            async for snapshot in self._awatch(jobs, runtime, run_manager):
                job = snapshot
        except JobTimeout as error:
            job = self._still_running(job, error)
        job = usable(job)
        return self._told(job, await self._asave(job))

    def _options(self, asked: Mapping[str, Any], runtime: object) -> dict[str, Any]:
        """How long to wait, and the purchase's key where this is a call of an agent."""
        call = agent_call(runtime)
        if call is None:
            return {"max_wait": self.max_wait}
        from langchain_shortapi_flux.ledger import request_digest  # noqa: PLC0415 - on first use

        try:
            request = FluxRequest.model_validate(dict(asked)).filled_from(self.flux)
        except ValidationError:  # a user's own schema let it pass; the Runnable says what is wrong
            return {"max_wait": self.max_wait}
        digest = request_digest(self.flux.base_url, self.flux.model, request)
        key = json.dumps(["agent", *call, digest[:DIGEST_LENGTH]])
        if len(key) > KEY_LENGTH_MAX:  # gateways put whole signatures into a tool call's id
            key = f"agent sha256:{hashlib.sha256(key.encode()).hexdigest()}"
        return {"max_wait": self.max_wait, "request_key": key}

    def _still_running(self, job: FluxJob | None, error: JobTimeout) -> FluxJob:
        """The job at ``max_wait``; the error, if it is the whole job's deadline that is over."""
        if job is None or self.max_wait is None or self.max_wait >= self.flux.timeout:
            raise error
        return job

    @override
    def __getstate__(self) -> dict[Any, Any]:
        """Pickles leave out arguments made for this instance; what is unpickled makes its own."""
        state = super().__getstate__()
        if not _made_here(self.args_schema):
            return state
        return {**state, "__dict__": {**state["__dict__"], "args_schema": None}}

    @override
    def __setstate__(self, state: dict[Any, Any]) -> None:
        super().__setstate__(state)
        if self.__dict__["args_schema"] is None:
            self.__dict__["args_schema"] = _arguments_for(self.flux)


def _asked(
    prompt: str, aspect_ratio: str | None, num_images: int | None, performance: str | None
) -> dict[str, Any]:
    """The arguments as the Runnable's input. It checks them again: a string input is unchecked."""
    return {
        "prompt": prompt,
        "aspect_ratio": aspect_ratio,
        "num_images": num_images,
        "performance": performance,
    }
