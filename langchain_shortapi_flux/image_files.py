"""Pictures as bytes and as files: brought here, checked, and saved whole under names of their own.

It joins its neighbours: ``image_download`` brings bytes, ``picture_type`` checks them,
``whole_file`` writes them, ``picture_names`` names them, ``sidecar`` tells what they are. It never
sees the key.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

from langchain_shortapi_flux.account import runs_here
from langchain_shortapi_flux.errors import DownloadFailed
from langchain_shortapi_flux.job import Origin
from langchain_shortapi_flux.loop_thread import run_in_loop_thread
from langchain_shortapi_flux.picture_body import NotFetched, shown_url
from langchain_shortapi_flux.picture_names import PictureNames, is_prefix
from langchain_shortapi_flux.picture_type import whole_image_ending
from langchain_shortapi_flux.sidecar import sidecar_bytes
from langchain_shortapi_flux.whole_file import NameTaken, NotWritten, WholeFile

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from langchain_shortapi_flux.image_download import Downloader
    from langchain_shortapi_flux.job import FluxImage, FluxJob
    from langchain_shortapi_flux.picture_address import Resolve

IMAGE_LIMIT_BYTES = 32 * 2**20
DOWNLOAD_TIMEOUT_SECONDS = 120.0


@dataclass(frozen=True)
class Fetching:
    """How pictures are fetched: what the caller chose, and what a name resolves to.

    Attributes:
        timeout: Seconds for one picture; None for the default.
        max_bytes: Bytes of one picture; None for the default.
        allow_private: Whether it may come from private and loopback addresses too.
        resolve: What a host's name resolves to; None for what the operating system says.
    """

    timeout: float | None = None
    max_bytes: int | None = None
    allow_private: bool = False
    resolve: Resolve | None = None


_AS_USUAL = Fetching()


def require_writable(folder: Path) -> None:
    """Make the folder and see that files can be made in it: before money is spent, not after.

    Raises:
        OSError: They cannot.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def download_image(image: FluxImage, origin: Origin, how: Fetching) -> bytes:
    """The blocking twin of ``adownload_image``."""
    return run_in_loop_thread(lambda: adownload_image(image, origin, how))


async def adownload_image(image: FluxImage, origin: Origin, how: Fetching) -> bytes:
    """A picture's bytes; see ``FluxImage.download``."""
    content = bytearray()

    async def take(piece: bytes) -> None:
        content.extend(piece)

    problem: NotFetched
    try:
        async with _downloader(origin, how) as downloader:
            await downloader.bring(image, take)
        if await asyncio.to_thread(whole_image_ending, BytesIO(content)) is not None:
            return bytes(content)
        problem = _cut_off(image)
    except NotFetched as error:
        problem = error
    raise _failed(origin, [problem])


def save_job(
    job: FluxJob, folder: Path, *, prefix: str, keep_existing: bool, how: Fetching = _AS_USUAL
) -> list[Path]:
    """The blocking twin of ``asave_job``."""
    return run_in_loop_thread(
        lambda: asave_job(job, folder, prefix=prefix, keep_existing=keep_existing, how=how)
    )


async def asave_job(
    job: FluxJob,
    folder: Path,
    *,
    prefix: str,
    keep_existing: bool,
    how: Fetching = _AS_USUAL,
    wall: Callable[[], float] = time.time,
) -> list[Path]:
    """Bring every picture of a job into ``folder``; see ``FluxJob.save``.

    ``wall`` tells the time in Unix seconds.
    """
    origin = Origin.of(job)
    if not job.images:
        raise _failed(origin, [f"it has no pictures to save: it is {job.status}"])
    if not is_prefix(prefix):
        allowed = "a file name can begin neither with a path nor with what is no text"
        raise _failed(origin, [f"prefix={prefix[:40]!r}: {allowed}"])
    names = PictureNames(folder, prefix, job.job_id)
    if (reason := await asyncio.to_thread(_make_folder, folder)) is not None:
        raise _failed(origin, [f"the folder {folder} cannot be made: {reason}"])
    if not keep_existing and await asyncio.to_thread(os.path.lexists, names.sidecar):
        raise _failed(origin, [f"{names.sidecar} exists already and is not overwritten"])
    async with _downloader(origin, how) as downloader:
        results = await asyncio.gather(
            *(
                _save(image, index, names, downloader, keep_existing=keep_existing)
                for index, image in enumerate(job.images, 1)
            ),
            return_exceptions=True,
        )
    saved = [result for result in results if not isinstance(result, BaseException)]
    problems = [result for result in results if isinstance(result, BaseException)]
    for problem in problems:
        if not isinstance(problem, (NotFetched, NotWritten)):
            raise problem
    if not problems:  # written last, and only then: it says that all are there
        now = wall()
        problems += await asyncio.to_thread(_tell, job, names, saved, now, keep=keep_existing)
    if problems:
        raise _failed(origin, problems, saved)
    return saved


@asynccontextmanager
async def _downloader(origin: Origin, how: Fetching) -> AsyncIterator[Downloader]:
    from langchain_shortapi_flux.image_download import (  # noqa: PLC0415 - on first use
        Downloader,
        DownloadLimits,
    )
    from langchain_shortapi_flux.picture_address import (  # noqa: PLC0415 - on first use
        AddressRules,
        system_addresses,
    )

    timeout = DOWNLOAD_TIMEOUT_SECONDS if how.timeout is None else how.timeout
    max_bytes = IMAGE_LIMIT_BYTES if how.max_bytes is None else how.max_bytes
    if not timeout > 0:  # nor a NaN
        raise _failed(origin, [f"timeout={timeout!r}: allowed are seconds above 0"])
    if not max_bytes > 0:
        raise _failed(origin, [f"max_bytes={max_bytes!r}: allowed is a number above 0"])
    here = origin.base_url is not None and runs_here(origin.base_url)
    rules = AddressRules(loopback=here, allow_private=how.allow_private)
    limits = DownloadLimits(timeout, max_bytes)
    async with Downloader(rules, limits, how.resolve or system_addresses) as downloader:
        yield downloader


async def _save(
    image: FluxImage,
    index: int,
    names: PictureNames,
    downloader: Downloader,
    *,
    keep_existing: bool,
) -> Path:
    # Asked before fetching, to save the fetch; publishing makes sure of it once more.
    if (there := await asyncio.to_thread(names.there, index)) is not None:
        return await asyncio.to_thread(_kept, there, keep_existing=keep_existing)
    file = WholeFile(names.folder)
    path = names.picture(index, "part").with_suffix("")  # until its type is known

    async def take(piece: bytes) -> None:
        await asyncio.to_thread(file.write, piece)

    try:
        await downloader.bring(image, take)
        ending = await asyncio.to_thread(file.look, whole_image_ending)
        if ending is None:
            raise _cut_off(image)
        path = names.picture(index, ending)
        return await asyncio.to_thread(file.publish, path)
    except NotWritten as error:
        if isinstance(error, NameTaken) and keep_existing:  # somebody else saves the same job
            return await asyncio.to_thread(_kept, path, keep_existing=True)
        problem = f"{path} {error}"
    finally:
        await asyncio.shield(asyncio.to_thread(file.discard))
    raise NotWritten(problem)


def _kept(there: Path, *, keep_existing: bool) -> Path:
    if not keep_existing:
        raise NameTaken(f"{there} exists already and is not overwritten")
    with suppress(OSError):
        if there.is_file() and there.stat().st_size > 0:
            return there
    raise NotWritten(f"{there} exists already, but is no file with a picture in it")


def _tell(
    job: FluxJob, names: PictureNames, paths: Sequence[Path], now: float, *, keep: bool
) -> list[NotWritten]:
    """Write the sidecar, unless it is there and may be; gives why it could not be written."""
    if keep and os.path.lexists(names.sidecar):
        return []
    file = WholeFile(names.folder)
    try:
        file.write(sidecar_bytes(job, paths, now))
        file.publish(names.sidecar)
        return []
    except NotWritten as error:
        taken = isinstance(error, NameTaken) and keep
        return [] if taken else [NotWritten(f"{names.sidecar} {error}")]
    except OSError as error:
        return [NotWritten(f"{names.sidecar} cannot be written: {error.strerror}")]
    finally:
        file.discard()


def _make_folder(folder: Path) -> str | None:
    """Why it cannot be made, if it cannot."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return error.strerror
    except ValueError:  # a NUL or a lone surrogate
        return "it is no path"
    return None


def _cut_off(image: FluxImage) -> NotFetched:
    return NotFetched(f"{shown_url(image.url)} gave a picture that is cut off")


def _failed(
    origin: Origin, problems: Sequence[BaseException | str], saved: Sequence[Path] = ()
) -> DownloadFailed:
    said = [str(problem) for problem in problems]
    if any(isinstance(problem, NotFetched) and problem.gone for problem in problems):
        asks = "job_id" if origin.job_id is None else repr(origin.job_id)
        said.append(
            f"pictures' URLs are temporary: flux.query({asks}) asks about the job again, free, "
            "but nothing known says that the service renews them"
        )
    if saved:
        said.append(f"saved: {', '.join(str(path) for path in saved)}")
    statuses = [problem.status for problem in problems if isinstance(problem, NotFetched)]
    about = "a picture" if origin.job_id is None else f"job {origin.job_id}"
    return DownloadFailed(
        f"{about}: {'; '.join(said)}",
        job_id=origin.job_id,
        charge=origin.charge,
        status_code=next((status for status in statuses if status is not None), None),
    )
