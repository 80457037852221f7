"""``FluxJobs``: what a batch gives, a list of jobs that a notebook shows as one gallery.

It knows how to be a list. How a gallery looks is imported when one is shown.
"""

from __future__ import annotations

from typing import Any, SupportsIndex, overload

from typing_extensions import override

from langchain_shortapi_flux.job import FluxJob

__all__ = ["FluxJobs"]


class FluxJobs(list[FluxJob]):
    """What ``batch`` gives: a list like any other, which a notebook shows as one gallery.

    A part of it (``jobs[:4]``) is a gallery as well. With ``return_exceptions=True`` it holds the
    errors in their places, as in LangChain.
    """

    @overload
    def __getitem__(self, index: SupportsIndex) -> FluxJob: ...

    @overload
    def __getitem__(self, index: slice) -> FluxJobs: ...

    @override
    def __getitem__(self, index: SupportsIndex | slice) -> FluxJob | FluxJobs:
        """One job, or a part of the gallery."""
        if isinstance(index, slice):
            return FluxJobs(super().__getitem__(index))
        return super().__getitem__(index)

    def display(self, *, embed: bool = False, max_width_px: int | None = 512) -> None:
        """Show the gallery in the notebook's cell. Where no notebook is, its text goes to stdout.

        Args:
            embed: Fetch the pictures now and put their bytes into the notebook, so that they
                outlive their URLs. A picture that cannot be had is shown by its URL, with the
                reason.
            max_width_px: With ``embed``: wider pictures become thumbnails of this width (16 to
                8192 px), which needs Pillow. None embeds pictures as they are.

        Raises:
            ImportError: Thumbnails are asked for, and Pillow is missing.
            ValueError: ``max_width_px`` is out of range.
        """
        from langchain_shortapi_flux.notebook_display import display_jobs  # noqa: PLC0415 - a door

        display_jobs(self, embed=embed, max_width_px=max_width_px)

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        """What a notebook shows of a batch that is the last line of a cell."""
        from langchain_shortapi_flux.notebook_display import gallery_mimebundle  # noqa: PLC0415

        return gallery_mimebundle(self)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # noqa: FBT001, ARG002 - IPython's
        # Without it IPython prints a list's items one after another instead of the bundle's text.
        printer.text(self._repr_mimebundle_()["text/plain"])
