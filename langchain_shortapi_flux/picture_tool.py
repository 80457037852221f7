"""``PictureTool``: what the tools do with a job's pictures: save them, and show them to a model.

It knows nothing of how a tool comes by its job.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from langchain_shortapi_flux.answering_tool import AnsweringTool
from langchain_shortapi_flux.errors import (
    ConfigurationError,
    DownloadFailed,
    JobFailed,
    UnexpectedReply,
)
from langchain_shortapi_flux.tool_content import (
    NOT_SAVED,
    Content,
    JobArtifact,
    Saved,
    job_artifact,
    job_content,
    waiting_text,
)

if TYPE_CHECKING:
    from langchain_shortapi_flux.job import FluxJob


_logger = logging.getLogger(__package__)


class PictureTool(AnsweringTool):
    """A tool whose answer is a job: its pictures, or that it has not ended."""

    content: Literal["text", "image"] = "text"
    """What the model gets: text with URLs, or image blocks (by URL) as well. Not every provider
    takes images in tool messages: OpenAI's Responses API and Anthropic do; Bedrock takes no URL."""
    save_to: Path | None = None
    """A folder to save the pictures in at once, as ``FluxJob.save`` does; the model then gets their
    short local paths. One that cannot be written to is told before anything is bought."""

    def _require_folder(self) -> None:
        """See that pictures can be saved: before money is spent, not after. Blocking.

        Raises:
            ConfigurationError: They cannot.
        """
        if self.save_to is None:
            return
        from langchain_shortapi_flux.image_files import require_writable  # noqa: PLC0415 - on use

        reason: str | None = None
        try:
            require_writable(self.save_to)
        except OSError as error:
            reason = error.strerror or type(error).__name__
        except ValueError:  # a NUL or a lone surrogate
            reason = "it is no path"
        if reason is not None:
            raise ConfigurationError(
                f"save_to={str(self.save_to)!r}: no file can be written there ({reason}); allowed "
                "is a folder that can be written to, or made. Nothing was sent"
            )

    def _save(self, job: FluxJob) -> Saved:
        """Save the pictures, where that is asked for and there are any."""
        if self.save_to is None or not job.images:
            return NOT_SAVED
        try:
            return Saved(tuple(map(str, job.save(self.save_to, keep_existing=True))))
        except DownloadFailed as error:
            return Saved(trouble=str(error))
        except BaseException:
            _log_unsaved(job)
            raise

    async def _asave(self, job: FluxJob) -> Saved:
        """The async twin of ``_save``."""
        if self.save_to is None or not job.images:
            return NOT_SAVED
        try:
            return Saved(tuple(map(str, await job.asave(self.save_to, keep_existing=True))))
        except DownloadFailed as error:
            return Saved(trouble=str(error))
        except BaseException:
            _log_unsaved(job)
            raise

    def _told(self, job: FluxJob, saved: Saved) -> tuple[Content, JobArtifact]:
        """What the model reads of the job, and what goes with it."""
        left = self._budget_left()
        if job.status == "pending":
            return waiting_text(job, left), job_artifact(job)
        return job_content(job, self.content, saved, left), job_artifact(job, saved.paths)


def _log_unsaved(job: FluxJob) -> None:
    _logger.warning("left while the pictures of job %s were saved; the job is paid for", job.job_id)


def usable(job: FluxJob | None) -> FluxJob:
    """The job, if it has its pictures or has not ended.

    Raises:
        JobFailed: It failed.
        UnexpectedReply: It ended without pictures.
    """
    if job is None:
        raise RuntimeError("a flow ended without a job")
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
    return job
