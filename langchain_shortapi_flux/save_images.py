"""``SaveImages``: the last step of a chain, which brings a job's pictures to disk.

It knows LangChain's ways of calling; how pictures are fetched and saved is ``FluxJob.save``'s
business.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from langchain_core.runnables import RunnableSerializable
from pydantic import BeforeValidator, ConfigDict, Field, field_validator
from typing_extensions import override

from langchain_shortapi_flux.job import FluxJob
from langchain_shortapi_flux.picture_names import is_prefix

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig


def _as_text(value: object) -> object:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


class SaveImages(RunnableSerializable[FluxJob, list[Path]]):
    """Saves a finished job's pictures and gives their paths, as ``FluxJob.save`` does.

    The last step of a chain::

        chain = prompt | llm | flux | SaveImages("images/")
        chain.invoke({"it": "a red fox"})  # [PosixPath('images/6b03...-1.png')]

    Where the job is wanted as well, let it through beside them::

        flux | {"job": RunnablePassthrough(), "paths": SaveImages("images/")}

    In a chain that streams, it waits for the last snapshot of the job, saves that one, and gives
    all paths at once. Nothing is bought here, so it may be repeated: unlike ``FluxJob.save`` it
    takes files that are there for this job's pictures, saved before, unless told otherwise.

    Args:
        folder: Where to write; made when the first job is saved.

    Raises:
        pydantic.ValidationError: A field is unknown, or its value is not allowed.
        DownloadFailed: By each call: the job has no pictures (yet), or they could not be saved;
            the error carries the job id. See ``FluxJob.save``.
        TypeError: By each call: what comes in is no ``FluxJob``.
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    folder: Annotated[str, BeforeValidator(_as_text)]
    """Where to write."""
    prefix: str = ""
    """Put before each file's name."""
    keep_existing: bool = True
    """Take a file of a picture's name for that picture, saved before; if False, it is an error."""
    timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Seconds for each picture, redirects included; 120 where not given."""
    max_bytes: Annotated[int, Field(gt=0)] | None = None
    """Bytes of each picture; 32 MiB where not given."""
    allow_private: bool = False
    """Whether pictures may come from private and loopback addresses; see ``FluxImage.download``."""

    def __init__(self, folder: str | Path, **fields: Any) -> None:
        super().__init__(folder=folder, **fields)

    @field_validator("prefix")
    @classmethod
    def _check_prefix(cls, value: str) -> str:
        if not is_prefix(value):
            raise ValueError("a file name can begin neither with a path nor with what is no text")
        return value

    @override
    def invoke(
        self, input: FluxJob, config: RunnableConfig | None = None, **kwargs: Any
    ) -> list[Path]:
        """Save a job's pictures; gives their paths.

        Raises:
            DownloadFailed: See the class.
            TypeError: Likewise.
        """
        return self._call_with_config(self._save, input, config, **kwargs)

    @override
    async def ainvoke(
        self, input: FluxJob, config: RunnableConfig | None = None, **kwargs: Any
    ) -> list[Path]:
        """The async twin of ``invoke``: no thread but those that write."""
        return await self._acall_with_config(self._asave, input, config, **kwargs)

    def _save(self, job: FluxJob) -> list[Path]:
        return _checked(job).save(self.folder, **self._options())

    async def _asave(self, job: FluxJob) -> list[Path]:
        return await _checked(job).asave(self.folder, **self._options())

    def _options(self) -> dict[str, Any]:
        return {
            "prefix": self.prefix,
            "keep_existing": self.keep_existing,
            "timeout": self.timeout,
            "max_bytes": self.max_bytes,
            "allow_private": self.allow_private,
        }

    # --- saving and loading -----------------------------------------------------------------------

    @classmethod
    @override
    def is_lc_serializable(cls) -> bool:
        """Yes: ``dumpd`` and ``load`` round-trip."""
        return True


def _checked(job: object) -> FluxJob:
    if not isinstance(job, FluxJob):
        raise TypeError(
            f"SaveImages takes a FluxJob, as ShortAPIFlux gives, and not {type(job).__name__}"
        )
    return job
