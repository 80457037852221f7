"""A job as HTML: one job with its pictures, and many as a gallery.

It knows how they look, in light and dark themes alike. Words come from models and servers and are
escaped; nothing but pictures is ever loaded: no script, no style sheet, no font.
"""

from __future__ import annotations

from dataclasses import replace
from html import escape
from math import ceil, sqrt
from typing import TYPE_CHECKING

from langchain_shortapi_flux.errors import CreateOutcomeUnknown, JobTimeout, ShortAPIError
from langchain_shortapi_flux.job import FluxJob
from langchain_shortapi_flux.job_words import error_facts, job_facts, plain, summary

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from langchain_shortapi_flux.shown_picture import ShownPicture

_PROMPT_LENGTH_MAX = 2_000
_ALT_LENGTH_MAX = 250
_ERROR_LENGTH_MAX = 600
_NOTE_LENGTH_MAX = 200
_UNSTYLED_WIDTH_PX = 320
"""For viewers that strip styles; the shape they take from width and height."""
_ALONE_EM, _AMONG_OTHERS_EM = 26.0, 15.0
"""The side of a square of a picture's area, where it is alone and where it is one of many."""

# Styles stand in attributes, for many viewers strip style elements. Colours are mixed from the
# page's text colour, which suits light and dark themes; dots are middle tones, beside words.
_TINT = "color-mix(in srgb,currentColor {}%,transparent)"
_EDGE = _TINT.format(20)
_NBSP = "\u00a0"
_SMALL = "font-size:.85em;line-height:1.45;overflow-wrap:anywhere"
_TWO_LINES = "display:-webkit-box;-webkit-box-orient:vertical;-webkit-line-clamp:2;overflow:hidden"
_DOTS = {"succeeded": "#2da44e", "failed": "#e5534b", "pending": "#bf8700"}


def job_html(job: FluxJob, pictures: Sequence[ShownPicture]) -> str:
    """One job: its prompt, what is known of it, and its pictures."""
    ratio = _ratio(job)
    boxes = _boxes(job, pictures)
    if len(boxes) > 1:
        shown = _grid(boxes, _AMONG_OTHERS_EM * sqrt(ratio[0] / ratio[1]))
    else:
        side = _ALONE_EM if any(picture.source for picture in pictures) else _AMONG_OTHERS_EM
        width = side * sqrt(ratio[0] / ratio[1])
        shown = f'<div style="max-width:{width:.1f}em">{boxes[0]}</div>'
    words = _prompt(job, "max-width:60em;max-height:9em;overflow:auto")
    return _page(words + _facts_of_job(job, pictures), shown)


def gallery_html(
    jobs: Sequence[FluxJob | BaseException], pictures: Sequence[Sequence[ShownPicture]]
) -> str:
    """As many of the jobs as ``pictures`` are given for, below a line that counts them all."""
    shown = jobs[: len(pictures)]
    every = [picture for looks in pictures for picture in looks]
    common = _common_note(every) if len(every) > 1 else None
    if common is not None:
        pictures = [[replace(picture, note=None) for picture in looks] for looks in pictures]
    html = _grid(
        (_card(one, looks) for one, looks in zip(shown, pictures, strict=True)), _AMONG_OTHERS_EM
    )
    if left := len(jobs) - len(shown):
        html += _note(f"and {left:,} more")
    return _page(escape(summary(jobs)) + _note(common), html)


def _page(words: str, shown: str) -> str:
    above = f'<div style="{_SMALL};margin:0 0 .6em">{words}</div>'
    return f'<div style="margin:.5em 0">{above}{shown}</div>'


def _card(one: FluxJob | BaseException, pictures: Sequence[ShownPicture]) -> str:
    if isinstance(one, FluxJob):
        boxes = _boxes(one, pictures)
        shown = boxes[0]
        if len(boxes) > 1:
            columns = f"grid-template-columns:repeat({ceil(sqrt(len(boxes)))},minmax(0,1fr))"
            shown = f'<div style="display:grid;gap:.4em;{columns}">{"".join(boxes)}</div>'
        words = _prompt(one, _TWO_LINES) + _facts_of_job(one, pictures)
    else:
        shown = _said(str(one), (1, 1))
        unclear = isinstance(one, (JobTimeout, CreateOutcomeUnknown))
        job_id = one.job_id if isinstance(one, ShortAPIError) else None
        words = _facts("pending" if unclear else "failed", error_facts(one), job_id)
    below = f'<div style="{_SMALL};margin:.35em 0 0">{words}</div>'
    return f'<div style="min-width:0">{shown}{below}</div>'


def _grid(boxes: Iterable[str], width: float) -> str:
    columns = f"grid-template-columns:repeat(auto-fill,minmax(min(100%,{width:.1f}em),1fr))"
    return f'<div style="display:grid;gap:1em;align-items:start;{columns}">{"".join(boxes)}</div>'


def _boxes(job: FluxJob, pictures: Sequence[ShownPicture]) -> list[str]:
    """A box for each picture, or one that says why there is none."""
    if not pictures:
        nothing = "no picture yet" if job.status == "pending" else "no picture"
        return [_said(job.error or nothing, _ratio(job))]
    boxes, common = [], _common_note(pictures)
    for number, picture in enumerate(pictures, 1):
        alt = f"picture of job {job.job_id}" if job.request is None else job.request.prompt
        alt = plain(alt, _ALT_LENGTH_MAX)
        if len(pictures) > 1:
            alt += f" ({number} of {len(pictures)})"
        shown = _image(picture, alt, _ratio(job))
        note = "" if common else _note(picture.note)
        boxes.append(f'<div style="min-width:0">{shown}{note}</div>')
    return boxes


def _common_note(pictures: Sequence[ShownPicture]) -> str | None:
    """What is to be said of all of them, which is then said once."""
    notes = {picture.note for picture in pictures}
    return notes.pop() if len(notes) == 1 else None


def _image(picture: ShownPicture, alt: str, ratio: tuple[int, int]) -> str:
    if picture.source is None:
        return _said("not shown: its address is none that a page may load", ratio)
    across, down = picture.size or ratio
    unstyled = picture.size or (_UNSTYLED_WIDTH_PX, round(_UNSTYLED_WIDTH_PX * down / across))
    # What is in the page already has nothing to wait for.
    lazy = 'loading="lazy" ' if picture.link == picture.source else ""
    # A thumbnail is never blown up.
    widest = "" if picture.size is None else f"max-width:{across}px;"
    # The box has the picture's shape before it is there, so that the page does not jump.
    html = (
        f'<img src="{escape(picture.source)}" alt="{escape(alt)}" width="{unstyled[0]}" '
        f'height="{unstyled[1]}" {lazy}referrerpolicy="no-referrer" style="{_SMALL};display:block;'
        f"width:100%;{widest}height:auto;aspect-ratio:{across}/{down};object-fit:contain;margin:0;"
        f'border-radius:6px;box-shadow:0 0 0 1px {_EDGE};background:{_TINT.format(5)}">'
    )
    if picture.link is None:
        return html
    return (
        f'<a href="{escape(picture.link)}" target="_blank" rel="noopener noreferrer" '
        f'style="color:inherit;text-decoration:none">{html}</a>'
    )


def _said(words: str, ratio: tuple[int, int]) -> str:
    """A box of a picture's shape that says something; it grows where the words need more."""
    shown = escape(plain(words, _ERROR_LENGTH_MAX))
    return (
        f'<div dir="auto" style="{_SMALL};box-sizing:border-box;padding:1em;display:flex;'
        "align-items:center;justify-content:center;text-align:center;"
        f"border:1px dashed {_EDGE};border-radius:6px;"
        f'aspect-ratio:{ratio[0]}/{ratio[1]};background:{_TINT.format(5)}">{shown}</div>'
    )


def _facts_of_job(job: FluxJob, pictures: Sequence[ShownPicture]) -> str:
    notes = _note(_common_note(pictures)) + (_note(job.error) if pictures else "")
    return _facts(job.status, job_facts(job), job.job_id) + notes


def _facts(status: str, facts: str, job_id: str | None) -> str:
    dot = f'<span aria-hidden="true" style="color:{_DOTS[status]}">●</span>'
    # A line breaks between facts, not inside of one.
    facts = " · ".join(fact.replace(" ", _NBSP) for fact in facts.split(" · "))
    name = escape(plain(job_id or "", _NOTE_LENGTH_MAX))
    below = f'<div style="opacity:.75;font-family:monospace">{name}</div>' if name else ""
    return f"<div>{dot}{_NBSP}{escape(facts)}</div>{below}"


def _prompt(job: FluxJob, style: str) -> str:
    if job.request is None:
        return ""
    prompt = escape(plain(job.request.prompt, _PROMPT_LENGTH_MAX))
    return f'<div dir="auto" title="{prompt}" style="{style}">{prompt}</div>'


def _note(text: str | None) -> str:
    if text is None:
        return ""
    shown = escape(plain(text, _NOTE_LENGTH_MAX))
    return (
        f'<div dir="auto" style="overflow-wrap:anywhere;font-size:.95em;opacity:.75">{shown}</div>'
    )


def _ratio(job: FluxJob) -> tuple[int, int]:
    """Width to height as asked for; a square where nobody knows."""
    if job.request is None or job.request.aspect_ratio is None:
        return (1, 1)
    width, height = job.request.aspect_ratio.split(":")
    return int(width), int(height)
