"""Teaches this process that a sandbox's jobs end at once, as buying a few there would.

So a ``ShortAPIFlux`` that is left as it is, its schedule too, queries its first job there after the
shortest gap and not after the first delay of one who knows nothing. It knows no test.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

from langchain_shortapi_flux import ShortAPIFlux, learned_delays
from langchain_shortapi_flux.job import IMAGE_COUNTS, PERFORMANCES
from langchain_shortapi_flux.learned_delay import JOBS_TO_LEARN, JobKind

if TYPE_CHECKING:
    from langchain_shortapi_flux.sandbox import Sandbox

DONE_AFTER_SECONDS = 0.01


def teach_that_jobs_end_at_once(sandbox: Sandbox) -> None:
    """Of each kind, let one job after another be found done at its first query."""
    model = str(ShortAPIFlux.model_fields["model"].default)
    for performance, num_images in product(PERFORMANCES, IMAGE_COUNTS):
        kind = JobKind(sandbox.base_url, model, performance, num_images)
        for second in range(JOBS_TO_LEARN):
            learned_delays.observe(
                kind, started=float(second), pending_at=0.0, done_at=DONE_AFTER_SECONDS
            )
