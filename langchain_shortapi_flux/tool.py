"""``ShortAPIFluxTool``: pictures as a tool that an agent calls.

It joins LangChain's way of calling tools to the Runnable. It knows nothing of how the service
spells things.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator

from langchain_shortapi_flux.answering_tool import AnsweringTool, Arguments, Injected, agent_call
from langchain_shortapi_flux.errors import DownloadFailed, JobTimeout
from langchain_shortapi_flux.job import FluxJob, FluxRequest, left_out
from langchain_shortapi_flux.runnable import ShortAPIFlux
from langchain_shortapi_flux.tool_content import (
    Content,
    JobArtifact,
    job_artifact,
    job_content,
    waiting_text,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langchain_core.callbacks import (
        AsyncCallbackManagerForToolRun,
        CallbackManagerForToolRun,
    )

TOOL_NAME = "flux_text_to_image"
DIGEST_LENGTH = 16
"""Digits of the request's hash in a purchase's key: enough to tell one call's arguments apart."""
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


@cache
def _arguments() -> type[BaseModel]:
    class FluxArguments(Arguments, FluxRequest):
        """Arguments of a picture."""

        model_config = ConfigDict(extra="ignore")

    return FluxArguments


class ShortAPIFluxTool(AnsweringTool):
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
    thread (or task), tool call and arguments.
    """

    name: str = TOOL_NAME
    description: str = _DESCRIPTION
    flux: ShortAPIFlux = Field(default_factory=ShortAPIFlux)
    """What makes the pictures; its fields are the defaults of the arguments."""
    content: Literal["text", "image"] = "text"
    """What the model gets: text with URLs, or image blocks (by URL) as well. Not every provider
    takes images in tool messages: OpenAI's Responses API and Anthropic do; Bedrock takes no URL."""
    save_to: Path | None = None
    """A folder to save the pictures in at once; the model then gets their short local paths."""
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
        asked = _asked(prompt, aspect_ratio, num_images, performance)
        callbacks = run_manager.get_child() if run_manager else None
        jobs = self.flux.stream(asked, {"callbacks": callbacks}, **self._options(asked, runtime))
        job: FluxJob | None = None
        try:
            for seen in self._watch(jobs, runtime, run_manager):
                job = seen
        except JobTimeout as error:
            return self._still_running(job, error, asked)
        paths: list[Path] | str = []
        if job is not None and self.save_to is not None:
            try:
                paths = job.save(self.save_to, keep_existing=True)
            except DownloadFailed as error:
                paths = str(error)
        return self._made(job, paths)

    async def _arun(
        self,
        prompt: str,
        aspect_ratio: str | None = None,
        num_images: int | None = None,
        performance: str | None = None,
        run_manager: AsyncCallbackManagerForToolRun | None = None,
        runtime: Injected = None,
    ) -> tuple[Content, JobArtifact]:
        asked = _asked(prompt, aspect_ratio, num_images, performance)
        callbacks = run_manager.get_child() if run_manager else None
        jobs = self.flux.astream(asked, {"callbacks": callbacks}, **self._options(asked, runtime))
        job: FluxJob | None = None
        try:
            async for seen in self._awatch(jobs, runtime, run_manager):
                job = seen
        except JobTimeout as error:
            return self._still_running(job, error, asked)
        paths: list[Path] | str = []
        if job is not None and self.save_to is not None:
            try:
                paths = await job.asave(self.save_to, keep_existing=True)
            except DownloadFailed as error:
                paths = str(error)
        return self._made(job, paths)

    def _options(self, asked: Mapping[str, Any], runtime: object) -> dict[str, Any]:
        """How long to wait, and the purchase's key where this is a call of an agent."""
        call = agent_call(runtime)
        if call is None:
            return {"max_wait": self.max_wait}
        from langchain_shortapi_flux.ledger import request_digest  # noqa: PLC0415 - on first use

        digest = request_digest(self.flux.base_url, self.flux.model, self._request(asked))
        key = json.dumps(["agent", *call, digest[:DIGEST_LENGTH]])
        return {"max_wait": self.max_wait, "request_key": key}

    def _request(self, asked: Mapping[str, Any]) -> FluxRequest:
        return FluxRequest.model_validate(dict(asked)).filled_from(self.flux)

    def _still_running(
        self, job: FluxJob | None, error: JobTimeout, asked: Mapping[str, Any]
    ) -> tuple[Content, JobArtifact]:
        """The answer at ``max_wait``. Without one, the whole job's deadline is over: a failure."""
        if error.job_id is None or self.max_wait is None or self.max_wait >= self.flux.timeout:
            raise error
        if job is None:  # create alone took that long, so no snapshot was shown
            job = FluxJob(
                job_id=error.job_id,
                status="pending",
                request=self._request(asked),
                charge=error.charge,
                elapsed=self.max_wait,
                model=self.flux.model,
                base_url=self.flux.base_url,
            )
        return waiting_text(job), job_artifact(job)

    def _made(self, job: FluxJob | None, paths: list[Path] | str) -> tuple[Content, JobArtifact]:
        if job is None:
            raise RuntimeError("a flow ended without a job")
        saved = [str(path) for path in paths] if isinstance(paths, list) else []
        trouble = paths if isinstance(paths, str) else None
        return job_content(job, self.content, saved, trouble), job_artifact(job, saved)


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
