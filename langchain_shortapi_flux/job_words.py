"""A job in words, for a person: a line on a job, on an error and on many jobs.

It knows which letters are safe to show. No I/O, and nothing of HTML.
"""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING

from langchain_shortapi_flux.errors import ShortAPIError
from langchain_shortapi_flux.job import FluxJob
from langchain_shortapi_flux.traced_cost import net_cost

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_shortapi_flux.errors import Charge

CHARGE_WORDS: dict[Charge, str] = {
    "none": "not charged",
    "charged": "charged",
    "refunded": "refunded",
    "unknown": "may have been charged",
}
_PROMPT_LENGTH_MAX = 250
_ERROR_LENGTH_MAX = 600
_NAME_LENGTH_MAX = 200
_JOINERS = "\u200c\u200d"
"""No letters of their own, but emoji and some scripts fall apart without them."""


def plain(text: str, length: int) -> str:
    """At most ``length`` letters of the text on one line.

    Without what steers a terminal or turns the direction of writing: prompts, errors and URLs come
    from models and servers.
    """
    kept = (letter if letter.isprintable() or letter in _JOINERS else " " for letter in text)
    line = " ".join("".join(kept).split())
    return line if len(line) <= length else line[: length - 1] + "…"


def job_facts(job: FluxJob) -> str:
    """Status, money and seconds: ``succeeded · 0.02 USD · 4.2 s``."""
    return f"{job.status} · {_money(job)} · {job.elapsed:.1f} s"


def error_facts(error: BaseException) -> str:
    """What kind of error it is, and whether it was charged."""
    name = type(error).__name__
    return f"{name} · {CHARGE_WORDS[error.charge]}" if isinstance(error, ShortAPIError) else name


def job_text(job: FluxJob) -> str:
    """All that is known of a job, its pictures' URLs below."""
    lines = [one_line(job), *(plain(image.url, _NAME_LENGTH_MAX) for image in job.images)]
    if job.images and job.error is not None:
        lines.append(plain(job.error, _ERROR_LENGTH_MAX))
    return "\n  ".join(lines)


def jobs_text(jobs: Sequence[FluxJob | BaseException], shown: int) -> str:
    """A line that counts all jobs, and one for each of those shown."""
    lines = [f"{number}. {one_line(one)}" for number, one in enumerate(jobs[:shown], 1)]
    rest = [f"and {len(jobs) - shown:,} more"] if len(jobs) > shown else []
    return "\n".join([summary(jobs), *lines, *rest])


def one_line(one: FluxJob | BaseException) -> str:
    """A job, or an error in its place, on one line."""
    if not isinstance(one, FluxJob):
        return f"{error_facts(one)} · {plain(str(one), _ERROR_LENGTH_MAX)}"
    words = [f"job {plain(one.job_id, _NAME_LENGTH_MAX)}", job_facts(one)]
    if one.request is not None:
        words.append(plain(one.request.prompt, _PROMPT_LENGTH_MAX))
    if not one.images and one.error is not None:
        words.append(plain(one.error, _ERROR_LENGTH_MAX))
    return " · ".join(words)


def summary(jobs: Sequence[FluxJob | BaseException]) -> str:
    """How many of what, and what the service reports to have kept for them."""
    counts = Counter(one.status if isinstance(one, FluxJob) else type(one).__name__ for one in jobs)
    named = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    costs = [
        net_cost(one.charge, one.cost, one.refunded)
        for one in jobs
        if isinstance(one, FluxJob) and one.cost is not None
    ]
    money = f" · {sum(costs, Decimal(0)):f} USD" if costs else ""
    return f"{len(jobs):,} job{'' if len(jobs) == 1 else 's'}: {named or 'none'}{money}"


def _money(job: FluxJob) -> str:
    words = CHARGE_WORDS[job.charge]
    if job.cost is None:
        return f"{words}, cost not reported" if job.charge == "charged" else words
    if job.charge == "refunded":
        return f"{job.cost:f} USD, {job.refunded or job.cost:f} given back"
    return f"{job.cost:f} USD" if job.charge == "charged" else f"{job.cost:f} USD, {words}"
