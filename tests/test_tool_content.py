"""What a model reads about a job or a failure, and what goes with it as artifact."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any, get_type_hints

import pytest

from langchain_shortapi_flux import FluxImage, FluxJob, FluxRequest, errors
from langchain_shortapi_flux.errors import (
    AuthenticationFailed,
    BudgetExceeded,
    Charge,
    ConfigurationError,
    CreateOutcomeUnknown,
    DownloadFailed,
    InsufficientBalance,
    InvalidRequest,
    JobFailed,
    JobTimeout,
    LedgerFailed,
    RateLimited,
    ServiceUnavailable,
    ShortAPIError,
    UnexpectedReply,
)
from langchain_shortapi_flux.tool_content import (
    TROUBLE_LENGTH_MAX,
    FailureArtifact,
    JobArtifact,
    Saved,
    failure_artifact,
    failure_text,
    job_artifact,
    job_content,
    job_text,
    waiting_text,
    with_budget,
)

PROMPT = "a fox that nobody else may know of"
REQUEST = FluxRequest(prompt=PROMPT, aspect_ratio="16:9", num_images=2, performance="schnell")
JOB = FluxJob(
    job_id="ab12",
    status="succeeded",
    request=REQUEST,
    images=(FluxImage(url="https://x.example/1.png"), FluxImage(url="https://x.example/2.png")),
    cost=Decimal("0.002"),
    charge="charged",
    queries=3,
    elapsed=2.34567,
    model="shortapi/flux-1.0/text-to-image",
    base_url="https://api.shortapi.ai",
)


def _changed(**fields: Any) -> FluxJob:
    return JOB.model_copy(update=fields)


def test_the_text_of_a_job() -> None:
    """Short, and each fact once: a model repeats what it reads."""
    assert job_text(JOB) == (
        "Made 2 images: aspect ratio 16:9, schnell, job ab12, cost 0.002 USD.\n"
        "1. https://x.example/1.png\n"
        "2. https://x.example/2.png\n"
        "The URLs are temporary: pass them on exactly as they are, and soon."
    )


@pytest.mark.parametrize(
    ("fields", "says", "says_not"),
    [
        ({"images": JOB.images[:1]}, "Made 1 image (of 2 asked for):", "images"),
        ({"cost": None}, "job ab12.\n", "cost"),
        ({"request": None}, "Made 2 images: job ab12, cost 0.002 USD.", "None"),
        ({"error": "note: refunded"}, "(note: refunded)", "None"),
        (
            {"images": (FluxImage.from_bytes(b"xxxxx", "image/png"),)},
            "1. data:image/png (5 bytes, inside the reply)",
            "xxxxx",
        ),
    ],
)
def test_the_text_says_what_is_different(fields: dict[str, Any], says: str, says_not: str) -> None:
    """Fewer pictures than asked, no cost reported, a job known by its id alone."""
    text = job_text(_changed(**fields))
    assert says in text
    assert says_not not in text


def test_saved_pictures_are_named_by_their_paths_alone() -> None:
    """They are short and stay true; a URL is neither."""
    saved = Saved(("images/ab12-1.png", "images/ab12-2.png"))
    text = job_content(JOB, saved=saved)
    assert str(text).endswith("\n1. images/ab12-1.png\n2. images/ab12-2.png")
    assert "http" not in text
    paths = [image["path"] for image in job_artifact(JOB, saved.paths)["images"]]
    assert paths == [*saved.paths]


@pytest.mark.parametrize("excess", [0, 1, 100_000])
def test_what_went_wrong_with_saving_is_told_in_short(excess: int) -> None:
    """It names every picture's URL once more, and those may be long."""
    why = "x" * (TROUBLE_LENGTH_MAX + excess)
    text = job_content(JOB, saved=Saved(trouble=why))
    end = "x" * TROUBLE_LENGTH_MAX + ("…" if excess else "")
    assert text == f"{job_text(JOB)}\nThey could not be saved: {end}"


def test_image_blocks_come_after_the_text() -> None:
    """The text is what every model reads, also one that takes images."""
    assert job_content(JOB, "image") == [
        {"type": "text", "text": job_text(JOB)},
        {"type": "image", "url": "https://x.example/1.png"},
        {"type": "image", "url": "https://x.example/2.png"},
    ]


@pytest.mark.parametrize(
    ("charge", "charged"),
    [("charged", "It was charged."), ("unknown", "Whether it was charged is not known.")],
)
def test_the_text_of_a_job_that_runs(charge: Charge, charged: str) -> None:
    """It holds for an agent that has the tool to look with, and for one that has not."""
    job = FluxJob(job_id="ab12", status="pending", charge=charge, elapsed=60.4)
    assert waiting_text(job) == (
        f"Still running after 60 s of waiting: job ab12. {charged} Do not ask for the same picture "
        "again: that buys a second job. If you have the tool flux_get_job, ask flux_get_job for "
        "job_id ab12; otherwise tell the user the job id."
    )


# --- budget -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "says"),
    [
        (Decimal("0.36"), "0.36"),
        (Decimal(5), "5"),
        (Decimal("0.00"), "0.00"),
        (Decimal("1E+1"), "10"),
        (Decimal("2E-7"), "0.0000002"),
        (Decimal("-0.02"), "0"),
    ],
)
def test_what_is_left_of_a_budget_is_one_sentence(left: Decimal, says: str) -> None:
    """In digits, for a model takes 1E+1 for anything; what is overspent is nothing left."""
    assert with_budget("Made.", left) == f"Made.\n{says} USD of the budget are left."


def test_without_a_budget_nothing_is_said_of_one() -> None:
    """A model that reads of a limit asks about it."""
    assert with_budget("Made.", None) == "Made."


def test_every_text_can_tell_what_is_left() -> None:
    """A model that knows it plans: fewer pictures, a cheaper mode, or none."""
    left = Decimal("0.36")
    sentence = "\n0.36 USD of the budget are left."
    error = JobFailed("it failed", job_id="ab12")
    running = FluxJob(job_id="ab12", status="pending")
    assert job_content(JOB, budget_left=left) == job_text(JOB) + sentence
    assert waiting_text(running, left) == waiting_text(running) + sentence
    assert failure_text(error, None, left) == failure_text(error) + sentence
    blocks: Any = job_content(JOB, "image", Saved(trouble="gone"), left)
    assert blocks[0]["text"] == f"{job_text(JOB)}\nThey could not be saved: gone{sentence}"


# --- artifacts ----------------------------------------------------------------------------------


def test_the_artifact_of_a_job() -> None:
    """Plain JSON types: a checkpoint gives it back as it was."""
    artifact = job_artifact(JOB)
    assert artifact == {
        "type": "flux_job",
        "version": 1,
        "job_id": "ab12",
        "status": "succeeded",
        "charge": "charged",
        "cost": "0.002",
        "images": [
            {"url": "https://x.example/1.png", "path": None},
            {"url": "https://x.example/2.png", "path": None},
        ],
        "aspect_ratio": "16:9",
        "num_images": 2,
        "performance": "schnell",
        "model": "shortapi/flux-1.0/text-to-image",
        "base_url": "https://api.shortapi.ai",
        "elapsed": 2.346,
    }
    assert json.loads(json.dumps(artifact)) == artifact
    assert set(artifact) == set(get_type_hints(JobArtifact))


def test_the_prompt_is_in_neither() -> None:
    """The artifact lies in every checkpoint, and the model knows its own prompt."""
    assert PROMPT not in job_text(JOB)
    assert PROMPT not in json.dumps(job_artifact(JOB))


def test_the_artifact_of_a_job_known_by_its_id() -> None:
    """What is not known is null; nothing is guessed."""
    artifact = job_artifact(FluxJob(job_id="ab12", status="succeeded"))
    known = {name: value for name, value in artifact.items() if value is not None}
    assert known == {
        "type": "flux_job",
        "version": 1,
        "job_id": "ab12",
        "status": "succeeded",
        "charge": "unknown",
        "images": [],
        "elapsed": 0.0,
    }


AGAIN = "Do not call again with the same arguments"

# What a model must read about each failure, and what it must not.
ADVICE: list[tuple[ShortAPIError, str, str, str]] = [
    (ConfigurationError("no key"), "Nothing was charged.", "Tell the user", "again in"),
    (
        InvalidRequest("num_images=3: allowed are 1, 2, 4, 8"),
        "Nothing was charged.",
        "Correct the arguments and call again.",
        "second job",
    ),
    (BudgetExceeded("0.02 USD are left"), "Nothing was charged.", "may cost less", "again in"),
    (AuthenticationFailed("bad key"), "Nothing was charged.", "will not help", "again in"),
    (InsufficientBalance("no money"), "Nothing was charged.", "will not help", "again in"),
    (RateLimited("429"), "Nothing was charged.", "tried again in a minute", "will not help"),
    (ServiceUnavailable("3000"), "Nothing was charged.", "tried again in a minute", AGAIN),
    (LedgerFailed("locked"), "Whether it was charged is not known.", "mended", "a minute"),
    (
        CreateOutcomeUnknown("no answer came"),
        "Whether it was charged is not known.",
        AGAIN,
        "a minute",
    ),
    (
        JobFailed("job ab12 failed", job_id="ab12", charge="refunded"),
        "It was charged and refunded.",
        "buys a new job",
        "a minute",
    ),
    (
        JobFailed("job ab12 failed", job_id="ab12", charge="charged"),
        "It was charged.",
        "buys a new job",
        "a minute",
    ),
    (JobTimeout("too slow", job_id="ab12"), "It was charged.", AGAIN, "a minute"),
    (
        UnexpectedReply("no pictures", job_id="ab12", charge="charged"),
        "It was charged.",
        AGAIN,
        "a minute",
    ),
    (
        UnexpectedReply("no id in it"),
        "Whether it was charged is not known.",
        "may be charged twice",
        "None",
    ),
    (ShortAPIError("it broke off"), "Whether it was charged is not known.", AGAIN, "None"),
    (
        ShortAPIError("it broke off", job_id="ab12", charge="charged"),
        "It was charged.",
        "Use flux_get_job with job_id ab12, if you have that tool",
        "a minute",
    ),
    (DownloadFailed("gone", job_id="ab12"), "It was charged.", "do not buy it again", "a minute"),
]


@pytest.mark.parametrize(
    ("error", "charged", "advice", "says_not"),
    ADVICE,
    ids=[f"{type(row[0]).__name__}-{row[0].charge}-{row[0].job_id}" for row in ADVICE],
)
def test_the_text_of_a_failure(
    error: ShortAPIError, charged: str, advice: str, says_not: str
) -> None:
    """What happened, whether it was charged, what to do: a model that does not know buys again."""
    text = failure_text(error)
    assert text.startswith(f"No image: {error}")
    assert charged in text
    assert advice in text
    assert says_not not in text
    if error.job_id is not None:
        assert error.job_id in text


def test_every_error_has_its_row() -> None:
    """A new error needs words of its own, or a decision that it needs none."""

    def leaves(kind: type[ShortAPIError]) -> set[type[ShortAPIError]]:
        below = [one for one in kind.__subclasses__() if one.__module__ == errors.__name__]
        return set().union(*map(leaves, below)) if below else {kind}

    assert {type(row[0]) for row in ADVICE} - {ShortAPIError} == leaves(ShortAPIError)


@pytest.mark.parametrize("charge", ["none", "charged", "refunded", "unknown"])
def test_the_artifact_of_a_failure(charge: Charge) -> None:
    """Programs read it: which error, which job, was it charged, may it be repeated."""
    error = JobFailed("it failed", job_id="ab12", charge=charge, status_code=200)
    artifact = failure_artifact(error)
    assert artifact == {
        "type": "flux_failure",
        "version": 1,
        "error": "JobFailed",
        "message": "it failed (job ab12)",
        "job_id": "ab12",
        "charge": charge,
        "status_code": 200,
        "is_retryable": False,
        "advice": "Calling again buys a new job; do so only with a changed prompt.",
    }
    assert json.loads(json.dumps(artifact)) == artifact
    assert set(artifact) == set(get_type_hints(FailureArtifact))
    assert failure_artifact(RateLimited("429"))["is_retryable"] is True
