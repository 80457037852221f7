"""Real prompts go through request, wire, sandbox and job unharmed.

They are Parti's 1,632 (Apache-2.0), not part of this repository; where they are not at hand, this
test is skipped.
"""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from quick_flux import flux_on

from langchain_shortapi_flux.sandbox import Sandbox

PROMPTS = Path(__file__).parents[2] / "shared" / "prompts" / "parti_prompts.tsv"
PROMPT_COUNT = 1_632
AT_ONCE = 64


# On a busy machine 1,632 jobs take their time, and no wait in them is without an end.
@pytest.mark.thorough
@pytest.mark.timeout(600)
@pytest.mark.skipif(not PROMPTS.exists(), reason="the prompts are not beside this repository")
async def test_every_real_prompt_arrives_unharmed() -> None:
    """Quotes, accents, odd spaces and very long lines reach the service as they were written."""
    with PROMPTS.open(encoding="utf-8", newline="") as file:
        table = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        prompts = [row[0] for row in table][1:]
    assert len(prompts) == PROMPT_COUNT

    with Sandbox(job_seconds=0.0, balance="100") as sandbox:
        flux = flux_on(sandbox, performance="schnell", timeout=500.0)
        jobs = await flux.abatch(prompts, {"max_concurrency": AT_ONCE})
        booked = {job.job_id: job.args["prompt"] for job in sandbox.jobs}
        assert len(sandbox.charges) == PROMPT_COUNT

    assert [job.request.prompt for job in jobs if job.request] == prompts
    assert [booked[job.job_id] for job in jobs] == prompts
    assert all(job.status == "succeeded" for job in jobs)
