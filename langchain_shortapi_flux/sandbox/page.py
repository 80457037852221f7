"""Knows what the sandbox's page shows of the jobs, as JSON for its script and as HTML.

It must not know HTTP. The markup stands once, in `page.html`: its templates are filled in here
for the first look, and by `page.js` for every later one.
"""

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from html import escape
from pathlib import Path
from typing import Final, TypedDict

from langchain_shortapi_flux.sandbox.hidden_key import without_key
from langchain_shortapi_flux.sandbox.job_book import Glance, JobStatus, SandboxJob
from langchain_shortapi_flux.sandbox.menu import SIZES, image_count_of, mode_of
from langchain_shortapi_flux.sandbox.record import image_paths

JOBS_SHOWN: Final = 100
PICTURE_QUERY: Final = "page"
"""The query that tells the page's look at a picture from a client's download."""

_PROMPT_LENGTH_MAX: Final = 4_000
_ALT_LENGTH_MAX: Final = 250
_NOTE_LENGTH_MAX: Final = 500
_OWN_PLACE: Final = frozenset({"prompt", "aspect_ratio", "num_images", "performance"})

_COUNTED: Final[tuple[tuple[JobStatus, str], ...]] = (
    ("pending", "running"),
    ("succeeded", "succeeded"),
    ("failed", "failed"),
)

# Read when imported, for nothing may be read where a loop runs.
_MARKUP: Final = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
_TEMPLATE: Final = {
    found[1]: found[2]
    for found in re.finditer(r'<template id="(\w+)">(.*?)</template>', _MARKUP, re.DOTALL)
}
_SLOT: Final = re.compile(r"\{(\w+)\}")


class PictureLook(TypedDict):
    """A picture, or the place where one will be: then `source` is empty."""

    source: str
    alt: str
    width: int
    height: int


class JobLook(TypedDict):
    """The words that are shown of a job."""

    id: str
    state: str
    title: str
    prompt: str
    error: str
    aspect_ratio: str
    num_images: str
    performance: str
    also_sent: str
    charge: str
    queries: str
    created: str
    callback: str
    callback_post: str
    pictures: list[PictureLook]


class PageLook(TypedDict):
    """The words of the page, and its jobs, newest first."""

    balance: str
    spent: str
    counts: str
    note: str
    jobs: list[JobLook]


def page_look(glance: Glance, key: str) -> PageLook:
    """What the page shows of the book, the key hidden wherever it was sent."""
    total = sum(glance.counts.values())
    counts = ", ".join(f"{glance.counts[status]:,} {word}" for status, word in _COUNTED)
    note = "" if total else "No jobs yet. They appear here when a client creates them."
    if total > len(glance.jobs):
        note = f"The newest {len(glance.jobs)} are shown."
    return {
        "balance": f"{_usd(glance.balance)} left",
        "spent": f"{_usd(glance.spent)} spent, {_usd(glance.refunded)} refunded",
        "counts": f"{total:,} {'job' if total == 1 else 'jobs'}: {counts}",
        "note": note,
        "jobs": [_job_look(job, glance.at, key) for job in glance.jobs],
    }


def page_json(look: PageLook) -> bytes:
    """The look for the page's script."""
    return json.dumps(look).encode()


def page_html(look: PageLook) -> bytes:
    """The whole page, for the first look and for browsers without scripts."""
    above, below = _MARKUP.split("<!--jobs-->")
    jobs = "".join(_job_html(job) for job in look["jobs"])
    # A prompt may hold half of a surrogate pair, which UTF-8 has no bytes for.
    return (_filled(above, look) + jobs + below).encode("utf-8", "xmlcharrefreplace")


def _job_look(job: SandboxJob, at: float, key: str) -> JobLook:
    def words(text: object, length_max: int = _NOTE_LENGTH_MAX) -> str:
        # Hidden before it is cut, or half of the key would stay.
        return _cut(without_key(str(text), key), length_max)

    also_sent = (f"{name}={_plain(job.args[name])}" for name in job.args if name not in _OWN_PLACE)
    return {
        "id": job.job_id,
        "state": job.status,
        "title": _title(job, at),
        "prompt": words(job.args["prompt"], _PROMPT_LENGTH_MAX),
        "error": words(job.ending.error) if job.status == "failed" else "",
        "aspect_ratio": str(job.args["aspect_ratio"]),
        "num_images": str(image_count_of(job.args)),
        "performance": mode_of(job.args),
        "also_sent": words(", ".join(also_sent)),
        "charge": f"{_usd(job.amount)}{', refunded' if job.refunded else ''}",
        "queries": f"{job.queries:,}",
        "created": f"{job.created_at:%Y-%m-%d %H:%M:%S} UTC",
        "callback": words(job.callback_url or ""),
        "callback_post": _callback_post(job),
        "pictures": _pictures(job, words(job.args["prompt"], _ALT_LENGTH_MAX)),
    }


def _title(job: SandboxJob, at: float) -> str:
    if job.finished_at is None:
        return f"running for {max(0.0, at - job.created_at.timestamp()):,.0f} s"
    seconds = (job.finished_at - job.created_at).total_seconds()
    return f"{job.status} {'after' if job.status == 'failed' else 'in'} {seconds:,.1f} s"


def _callback_post(job: SandboxJob) -> str:
    if job.callback_url is None:
        return ""
    return job.callback_outcome or ("when the job ends" if job.finished_at is None else "due")


def _pictures(job: SandboxJob, prompt: str) -> list[PictureLook]:
    width, height = SIZES[str(job.args["aspect_ratio"])]
    sources = [f"{path}?{PICTURE_QUERY}" for path in image_paths(job)]
    if job.status == "pending":
        sources = [""] * image_count_of(job.args)
    count = f" of {len(sources)})"
    return [
        {
            "source": source,
            "alt": prompt + (f" ({number}{count}" if len(sources) > 1 else ""),
            "width": width,
            "height": height,
        }
        for number, source in enumerate(sources, 1)
    ]


def _job_html(job: JobLook) -> str:
    above, below = _TEMPLATE["job"].split("<!--pictures-->")
    pictures = (
        _filled(_TEMPLATE["picture" if picture["source"] else "waiting"], picture)
        for picture in job["pictures"]
    )
    return _filled(above, job) + "".join(pictures) + below


def _filled(markup: str, words: Mapping[str, object]) -> str:
    return _SLOT.sub(lambda slot: escape(str(words[slot[1]])), markup)


def _usd(amount: Decimal) -> str:
    return f"{amount:f} USD"


def _plain(value: object) -> str:
    return str(value) if isinstance(value, (str, int, float)) else "\u2026"


def _cut(text: str, length_max: int) -> str:
    return text if len(text) <= length_max else f"{text[: length_max - 1]}\u2026"
