"""``FluxGetJobTool``: how a job bought earlier is going, and its pictures. Never buys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, PrivateAttr

from langchain_shortapi_flux.answering_tool import Injected, seen
from langchain_shortapi_flux.errors import JobTimeout
from langchain_shortapi_flux.picture_tool import PictureTool, usable
from langchain_shortapi_flux.tool_arguments import Arguments
from langchain_shortapi_flux.tool_content import GET_JOB_TOOL_NAME, Content, JobArtifact
from langchain_shortapi_flux.tool_progress import atell, tell

if TYPE_CHECKING:
    from langchain_core.callbacks import (
        AsyncCallbackManagerForToolRun,
        CallbackManagerForToolRun,
    )

    from langchain_shortapi_flux.job import FluxJob

WAIT_SECONDS = 60.0
JOB_ID_LENGTH_MAX = 200
"""Ids are opaque; those seen have 24 characters. Whatever a model gives is said again to it."""


class GetJobArguments(Arguments):
    """Arguments of a look at a job."""

    job_id: str = Field(
        description="The job id that the earlier answer named.",
        min_length=1,
        max_length=JOB_ID_LENGTH_MAX,
    )
    wait: bool = Field(
        default=False,
        description="True waits until the job ends, for a while; false looks once.",
    )


class FluxGetJobTool(PictureTool):
    """One free look at a job, or waiting for its end. Never buys.

    For a model that was told "still running, job id ...". A failed job is answered as a failure.
    With ``save_to`` the pictures are saved as by ``ShortAPIFluxTool``, and files that it saved are
    kept; where they cannot be saved, the model gets their URLs and is told why.

    Raises:
        pydantic.ValidationError: A field has a value that is not allowed.
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
    max_wait: float = Field(default=WAIT_SECONDS, gt=0, allow_inf_nan=False)
    """Seconds that ``wait=True`` waits at most, if less than the Runnable's ``timeout``."""

    def _run(
        self,
        job_id: str,
        wait: bool = False,  # noqa: FBT001, FBT002 - an argument of the model's
        run_manager: CallbackManagerForToolRun | None = None,
        runtime: Injected = None,
    ) -> tuple[Content, JobArtifact]:
        job: FluxJob | None = None
        if wait:
            try:
                jobs = self.flux.stream_job(job_id, max_wait=self.max_wait)
                for snapshot in self._watch(jobs, runtime, run_manager):
                    job = snapshot
            except JobTimeout as error:
                job = _still_running(job, error)
        else:
            job = self.flux.query(job_id)
            tell(seen(job), runtime, run_manager)
        job = usable(job)
        return self._told(job, self._save(job))

    async def _arun(
        self,
        job_id: str,
        wait: bool = False,  # noqa: FBT001, FBT002 - an argument of the model's
        run_manager: AsyncCallbackManagerForToolRun | None = None,
        runtime: Injected = None,
    ) -> tuple[Content, JobArtifact]:
        job: FluxJob | None = None
        if wait:
            try:
                jobs = self.flux.astream_job(job_id, max_wait=self.max_wait)
                async for snapshot in self._awatch(jobs, runtime, run_manager):
                    job = snapshot
            except JobTimeout as error:
                job = _still_running(job, error)
        else:
            job = await self.flux.aquery(job_id)
            await atell(seen(job), runtime, run_manager)
        job = usable(job)
        return self._told(job, await self._asave(job))


def _still_running(job: FluxJob | None, error: JobTimeout) -> FluxJob:
    """What was last heard of a job that has not ended; the error, if nothing was."""
    if job is None or job.charge == "unknown":
        raise error
    return job
