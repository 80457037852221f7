"""A job for the eye: what a notebook shows of one job, and of many as one gallery.

It knows how a notebook asks and is told. No I/O of its own: what fetches bytes is passed in.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from langchain_shortapi_flux.flux_jobs import FluxJobs
from langchain_shortapi_flux.job import FluxImage, FluxJob
from langchain_shortapi_flux.job_html import gallery_html, job_html
from langchain_shortapi_flux.job_words import job_text, jobs_text
from langchain_shortapi_flux.shown_picture import ShownPicture, embedder, linked

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from langchain_shortapi_flux.shown_picture import Fetch

__all__ = [
    "EMBED_WIDTH_PX",
    "GALLERY_JOBS_MAX",
    "display_job",
    "display_jobs",
    "gallery_mimebundle",
    "job_mimebundle",
    "load_ipython_extension",
    "unload_ipython_extension",
]

MimeBundle = dict[str, str]
Looks = list[list[ShownPicture]]
"""What is shown of each picture of each job."""

EMBED_WIDTH_PX = 512
"""How wide an embedded picture is at most, unless asked otherwise."""
EMBED_WIDTH_PX_MIN, EMBED_WIDTH_PX_MAX = 16, 8192
GALLERY_JOBS_MAX = 100
"""How many jobs a gallery shows; it counts the rest."""
FETCHES_AT_ONCE = 8


def job_mimebundle(job: FluxJob) -> MimeBundle:
    """A job as ``text/html`` and ``text/plain``, for ``_repr_mimebundle_``."""
    return _job_bundle(job, [_look(job, linked)])


def gallery_mimebundle(jobs: Sequence[FluxJob | BaseException]) -> MimeBundle:
    """Many jobs, and errors in their places, as one gallery: ``text/html`` and ``text/plain``.

    At most ``GALLERY_JOBS_MAX`` are shown; the line above them counts all.
    """
    return _gallery_bundle(jobs, [_look(one, linked) for one in jobs[:GALLERY_JOBS_MAX]])


def display_job(
    job: FluxJob,
    *,
    embed: bool = False,
    max_width_px: int | None = EMBED_WIDTH_PX,
    fetch: Fetch | None = None,
) -> None:
    """Show a job in the notebook's cell. Where no notebook is, its text goes to stdout.

    Args:
        job: The job.
        embed: Fetch the pictures now and put their bytes into the notebook, so that they outlive
            their URLs. A picture that cannot be had is shown by its URL, with the reason.
        max_width_px: With ``embed``: wider pictures become thumbnails of this width (16 to 8192
            px), which needs Pillow; their captions say so. None embeds pictures as they are, often
            above a megabyte each.
        fetch: With ``embed``: gives a picture's bytes. Default: ``image.download()``.

    Raises:
        ImportError: Thumbnails are asked for, and Pillow is missing.
        ValueError: ``max_width_px`` is out of range.
    """
    _display([job], lambda looks: _job_bundle(job, looks), embed, max_width_px, fetch)


def display_jobs(
    jobs: Sequence[FluxJob | BaseException],
    *,
    embed: bool = False,
    max_width_px: int | None = EMBED_WIDTH_PX,
    fetch: Fetch | None = None,
) -> None:
    """As ``display_job``, for many jobs as one gallery."""
    shown = jobs[:GALLERY_JOBS_MAX]
    _display(shown, lambda looks: _gallery_bundle(jobs, looks), embed, max_width_px, fetch)


def load_ipython_extension(shell: Any) -> None:
    """``%load_ext langchain_shortapi_flux``: the notebook keeps the pictures that it shows.

    From then on a job, or what a batch gave, that is the last line of a cell is shown as
    ``display(embed=True)`` shows it. Without it such a cell has URLs, which are temporary.
    """
    kept = shell.display_formatter.mimebundle_formatter
    kept.for_type(FluxJob, lambda job: _job_bundle(job, _kept([job], EMBED_WIDTH_PX)))
    kept.for_type(
        FluxJobs,
        lambda jobs: _gallery_bundle(jobs, _kept(jobs[:GALLERY_JOBS_MAX], EMBED_WIDTH_PX)),
    )


def unload_ipython_extension(shell: Any) -> None:
    """``%unload_ext langchain_shortapi_flux``: pictures are shown by their URLs again."""
    for shown in (FluxJob, FluxJobs):
        shell.display_formatter.mimebundle_formatter.pop(shown, None)


def _display(
    shown: Sequence[FluxJob | BaseException],
    bundle: Callable[[Looks], MimeBundle],
    embed: bool,  # noqa: FBT001 - handed on
    max_width_px: int | None,
    fetch: Fetch | None,
) -> None:
    if max_width_px is not None and not EMBED_WIDTH_PX_MIN <= max_width_px <= EMBED_WIDTH_PX_MAX:
        raise ValueError(
            f"max_width_px={max_width_px!r}: allowed are {EMBED_WIDTH_PX_MIN} to "
            f"{EMBED_WIDTH_PX_MAX}, and None for pictures as they are"
        )
    # Not imported: where a notebook runs, IPython is there.
    ipython: Any = sys.modules.get("IPython")
    if ipython is None or ipython.get_ipython() is None:
        sys.stdout.write(bundle([_look(one, linked) for one in shown])["text/plain"] + "\n")
        return
    looks = _kept(shown, max_width_px, fetch) if embed else [_look(one, linked) for one in shown]
    ipython.display.display(bundle(looks), raw=True)


def _kept(
    shown: Sequence[FluxJob | BaseException],
    max_width_px: int | None,
    fetch: Fetch | None = None,
) -> Looks:
    look = embedder(fetch or FluxImage.download, max_width_px)
    with ThreadPoolExecutor(FETCHES_AT_ONCE) as pool:
        asked = [[pool.submit(look, image) for image in _images(one)] for one in shown]
        return [[picture.result() for picture in pictures] for pictures in asked]


def _job_bundle(job: FluxJob, looks: Looks) -> MimeBundle:
    return {"text/html": job_html(job, looks[0]), "text/plain": job_text(job)}


def _gallery_bundle(jobs: Sequence[FluxJob | BaseException], looks: Looks) -> MimeBundle:
    return {"text/html": gallery_html(jobs, looks), "text/plain": jobs_text(jobs, len(looks))}


def _look(
    one: FluxJob | BaseException, look: Callable[[FluxImage], ShownPicture]
) -> list[ShownPicture]:
    return [look(image) for image in _images(one)]


def _images(one: FluxJob | BaseException) -> tuple[FluxImage, ...]:
    return one.images if isinstance(one, FluxJob) else ()
