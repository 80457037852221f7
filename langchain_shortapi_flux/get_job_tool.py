"""``FluxGetJobTool``: how a job bought earlier is going, and its pictures. Never buys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, PrivateAttr

from langchain_shortapi_flux.answering_tool import AnsweringTool, Arguments, Injected, tool_call_id
from langchain_shortapi_flux.errors import JobFailed, JobTimeout, UnexpectedReply
from langchain_shortapi_flux.runnable import ShortAPIFlux
from langchain_shortapi_flux.tool_content import (
    GET_JOB_TOOL_NAME,
    Content,
    JobArtifact,
    job_artifact,
    job_content,
    waiting_text,
)

if TYPE_CHECKING:
    from langchain_core.callbacks import (
        AsyncCallbackManagerForToolRun,
        CallbackManagerForToolRun,
    )

    from langchain_shortapi_flux.job import FluxJob
from langchain_shortapi_flux.tool_progress import atell, progress_event, tell

WAIT_SECONDS = 60.0


class GetJobArguments(Arguments):
    """Arguments of a look at a job."""

    job_id: str = Field(description="The job id that the earlier answer named.", min_length=1)
    wait: bool = Field(
        default=False,
        description="True waits until the job ends, for a while; false looks once.",
    )


class FluxGetJobTool(AnsweringTool):
    """One free look at a job, or waiting for its end. Never buys.

    For a model that was told "still running, job id ...". A failed job is answered as a failure.
    """

    _advice: str | None = PrivateAttr(
        default="This only looked: it bought nothing. Ask for this job again only if it was still "
        "running; otherwise tell the user."
    )

    name: str = GET_JOB_TOOL_NAME
    description: str = (
        "Ask for a picture job that was started earlier, by its job id: its state, or its pictures "
        "when they are done. Free; never starts a new job."
    )
    args_schema: type[GetJobArguments] = GetJobArguments
    flux: ShortAPIFlux = Field(default_factory=ShortAPIFlux)
    """Whose service and key are used."""
    max_wait: float = Field(default=WAIT_SECONDS, gt=0, allow_inf_nan=False)
    """Seconds that ``wait=True`` waits at most."""

    def _run(
        self,
        job_id: str,
        wait: bool = False,  # noqa: FBT001, FBT002 - an argument of the model's
        run_manager: CallbackManagerForToolRun | None = None,
        runtime: Injected = None,
    ) -> tuple[Content, JobArtifact]:
        if not wait:
            looked = self.flux.query(job_id)
            tell(progress_event(looked, tool_call_id()), runtime, run_manager)
            return _answer(looked)
        job: FluxJob | None = None
        try:
            jobs = self.flux.stream_job(job_id, max_wait=self.max_wait)
            for seen in self._watch(jobs, runtime, run_manager):
                job = seen
        except JobTimeout:
            pass
        return _answer(job or self.flux.query(job_id))

    async def _arun(
        self,
        job_id: str,
        wait: bool = False,  # noqa: FBT001, FBT002 - an argument of the model's
        run_manager: AsyncCallbackManagerForToolRun | None = None,
        runtime: Injected = None,
    ) -> tuple[Content, JobArtifact]:
        if not wait:
            looked = await self.flux.aquery(job_id)
            await atell(progress_event(looked, tool_call_id()), runtime, run_manager)
            return _answer(looked)
        job: FluxJob | None = None
        try:
            jobs = self.flux.astream_job(job_id, max_wait=self.max_wait)
            async for seen in self._awatch(jobs, runtime, run_manager):
                job = seen
        except JobTimeout:
            pass
        return _answer(job or await self.flux.aquery(job_id))


def _answer(job: FluxJob) -> tuple[Content, JobArtifact]:
    if job.status == "failed":
        raise JobFailed(
            f"job {job.job_id} failed: {job.error}", job_id=job.job_id, charge=job.charge
        )
    if job.status == "succeeded" and not job.images:
        raise UnexpectedReply(
            f"job {job.job_id} succeeded, but gave no picture: {job.error}",
            job_id=job.job_id,
            charge=job.charge,
        )
    if job.status == "pending":
        return waiting_text(job), job_artifact(job)
    return job_content(job), job_artifact(job)
