"""Jobs on cassettes, each through both drivers.

What is expected is the same value for both, so that two tests that pass have seen the same.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from both_drivers import DRIVERS, Caller
from cassette_file import OFFICIAL_API, shown
from pydantic import SecretStr

from langchain_shortapi_flux import (
    AuthenticationFailed,
    FluxImage,
    FluxJob,
    FluxRequest,
    InsufficientBalance,
    InvalidRequest,
    JobFailed,
    UnexpectedReply,
)
from langchain_shortapi_flux.sandbox import Fault

if TYPE_CHECKING:
    from langchain_shortapi_flux import ShortAPIFlux

FOX = "a red fox in fresh snow, morning light"
CHEAP = {"prompt": FOX, "performance": "schnell"}
WEREWOLF = (
    "A werewolf howling at a full moon in a forest 8k uhd, dslr, film grain, Fujifilm XT3, (best "
    "quality:1.3), (masterpiece:1.1), high resolution, cinematic light, intricate details, "
    "(photorealistic)"
)


@dataclass(frozen=True)
class Tape:
    """What the cassette holds: asked for after the calls, so that it holds while recording too."""

    cassette: Any

    @property
    def calls(self) -> list[str]:
        """The calls in order, by the last part of their path."""
        return [request.path.rsplit("/", 1)[1] for request in self.cassette.requests]

    @property
    def replies(self) -> list[dict[str, Any]]:
        """The JSON bodies of the replies, in order."""
        return [json.loads(reply["body"]["string"]) for reply in self.cassette.responses]

    @property
    def job_id(self) -> str:
        """The job that was made."""
        return next(
            str(reply["data"]["job_id"])
            for call, reply in zip(self.calls, self.replies, strict=True)
            if call == "create" and reply["code"] == 0
        )

    @property
    def images(self) -> tuple[FluxImage, ...]:
        """The pictures in the last reply."""
        listed = self.replies[-1]["data"]["result"]["images"]
        return tuple(FluxImage(url=entry["url"]) for entry in listed)

    def job(self, options: dict[str, Any] | None = None, **known: Any) -> FluxJob:
        """The job as it should be known: of this id, and charged. ``options`` as they were sent."""
        request = {
            "aspect_ratio": "1:1",
            "num_images": 1,
            "performance": "dev",
            **(options or {"prompt": FOX}),
        }
        return FluxJob.model_validate(
            {
                "job_id": self.job_id,
                "charge": "charged",
                "request": FluxRequest.model_validate(request),
                "model": "shortapi/flux-1.0/text-to-image",
                "base_url": OFFICIAL_API,
                # Each recorded record says so, also where nothing was refunded.
                "refunded": Decimal(0) if known.get("queries") else None,
                **known,
            }
        )


@pytest.fixture(params=DRIVERS)
def caller(request: pytest.FixtureRequest, recorded_flux: ShortAPIFlux) -> Caller:
    """Each driver in turn, on the same cassette."""
    return Caller(request.param, recorded_flux)


@pytest.fixture
def tape(vcr: Any) -> Tape:
    """The cassette."""
    return Tape(vcr)


def as_shown(job: FluxJob, caller: Caller) -> FluxJob:
    """A job without the time it took, and with the hosts that its cassette shows."""
    here = caller.flux.base_url
    origin = here if here != OFFICIAL_API else None
    images = tuple(FluxImage(url=shown(image.url, origin)) for image in job.images)
    return job.model_copy(update={"elapsed": 0.0, "base_url": OFFICIAL_API, "images": images})


# --- the official page's own samples --------------------------------------------------------------


def test_sample_of_the_official_page(caller: Caller, tape: Tape) -> None:
    """The request and both replies as the official page prints them are sent, and understood."""
    job = caller.with_fields(callback_url="https://example.com/shortapi").invoke(
        {"prompt": WEREWOLF, "aspect_ratio": "16:9"}
    )
    assert (job.job_id, job.status) == ("job-id-put-in-here", "succeeded")
    assert (FluxImage(url="https://file.shortapi.ai/put-in-here.png"),) == job.images
    assert (Decimal("0.02"), "charged") == (job.cost, job.charge)
    assert tape.calls == ["create", "query"]


# --- jobs that succeed ----------------------------------------------------------------------------


@pytest.mark.recording(sandbox={"job_seconds": 1.5}, live_usd="0.02")
def test_snapshots_of_a_job(caller: Caller, tape: Tape) -> None:
    """A dev job that is pending for two queries: a snapshot after create and after each query."""
    jobs = [as_shown(job, caller) for job in caller.stream(FOX)]
    *pending, last = range(len(tape.calls))
    assert [tape.job(status="pending", cost="0.02", queries=n) for n in pending] == jobs[:-1]
    assert tape.job(status="succeeded", images=tape.images, cost="0.02", queries=last) == jobs[-1]
    assert ["create"] + ["query"] * last == tape.calls


@pytest.mark.recording(live_usd="0.004")
def test_two_pictures_in_schnell_mode(caller: Caller, tape: Tape) -> None:
    """Options other than the defaults reach the service, and each picture comes back."""
    options = {**CHEAP, "aspect_ratio": "3:2", "num_images": 2}
    job = as_shown(caller.invoke(options), caller)
    assert len(tape.images) == 2
    assert (
        tape.job(
            options,
            status="succeeded",
            images=tape.images,
            cost=tape.replies[-1]["data"]["credit"],
            queries=len(tape.calls) - 1,
        )
        == job
    )


@pytest.mark.recording(live_usd="0.002")
def test_prompt_beyond_ascii(caller: Caller, tape: Tape) -> None:
    """A prompt of several lines, in several scripts, is sent as it is, and read back in UTF-8."""
    options = {"prompt": "Ein Füchslein: «狐» 🦊\nim Schnee", "performance": "schnell"}
    job = as_shown(caller.invoke(options), caller)
    assert tape.images == job.images
    assert (
        FluxRequest.model_validate(options).prompt
        == json.loads(tape.cassette.requests[0].body)["args"]["prompt"]
    )


@pytest.mark.recording(live_usd="0.002")
def test_job_followed_by_its_id(caller: Caller, tape: Tape) -> None:
    """A job bought before is waited for by its id alone, and not bought again."""
    bought = caller.create(CHEAP)
    job = as_shown(caller.follow(bought.job_id), caller)
    assert tape.job(CHEAP, status="pending", cost="0.002") == as_shown(bought, caller)
    assert job.status == "succeeded"
    assert tape.images == job.images
    assert tape.calls.count("create") == 1
    assert (None, tape.job_id) == (job.request, job.job_id)


@pytest.mark.recording(sandbox={"faults": [Fault("create", "job_never_ends")]}, live_usd="0.002")
def test_one_look_at_a_job(caller: Caller, tape: Tape) -> None:
    """A query looks once: a job that runs comes back as pending, not waited for."""
    bought = caller.create(CHEAP)
    job = as_shown(caller.query(bought.job_id), caller)
    assert tape.calls == ["create", "query"]
    assert (
        tape.job(status="pending", cost="0.002", queries=1).model_copy(
            update={"request": None, "model": None}
        )
        == job
    )


# --- jobs that fail, and trouble on the way -------------------------------------------------------


@pytest.mark.recording(
    sandbox={"faults": [Fault("create", "job_fails", info="content policy violation")]}
)
def test_failed_job_is_refunded(caller: Caller, tape: Tape) -> None:
    """A failed job raises, names the service's reason, and says that the money came back."""
    with pytest.raises(JobFailed, match=r"content policy violation .*refunded, 0\.02") as caught:
        caller.invoke(FOX)
    assert (tape.job_id, "refunded") == (caught.value.job_id, caught.value.charge)


@pytest.mark.recording(
    sandbox={"faults": [Fault("create", "rate_limited", times=2, retry_after="1")]}
)
@pytest.mark.usefixtures("quick_turns")
def test_rate_limited_create_is_repeated(caller: Caller, tape: Tape) -> None:
    """A create that got HTTP 429 made no job, so it is sent again: one job in the end."""
    job = as_shown(caller.invoke(FOX), caller)
    assert tape.calls == ["create", "create", "create", "query"]
    assert [reply["headers"].get("Retry-After") for reply in tape.cassette.responses] == [
        ["1"],
        ["1"],
        None,
        None,
    ]
    assert tape.job(status="succeeded", images=tape.images, cost="0.02", queries=1) == job


@pytest.mark.recording(sandbox={"faults": [Fault("create", "code_3000")]})
def test_unstable_create_is_repeated(caller: Caller, tape: Tape) -> None:
    """Code 3000 on create says that no job was made, so it is sent again."""
    job = as_shown(caller.invoke(FOX), caller)
    assert [reply["code"] for reply in tape.replies] == [3000, 0, 0]
    assert tape.job(status="succeeded", images=tape.images, cost="0.02", queries=1) == job


@pytest.mark.recording(sandbox={"faults": [Fault("query", "code_3000", times=2)]})
def test_unstable_query_is_repeated(caller: Caller, tape: Tape) -> None:
    """Code 3000 on a query says nothing of the job; it is asked again, and not bought again."""
    job = as_shown(caller.invoke(FOX), caller)
    assert tape.calls == ["create", "query", "query", "query"]
    assert [reply["code"] for reply in tape.replies] == [0, 3000, 3000, 0]
    assert tape.job(status="succeeded", images=tape.images, cost="0.02", queries=3) == job


@pytest.mark.recording(sandbox={"faults": [Fault("query", "html", status=502)]})
def test_page_of_a_gateway_is_passed_over(caller: Caller, tape: Tape) -> None:
    """A gateway's HTML in place of a query's answer is no end of the job."""
    job = as_shown(caller.invoke(FOX), caller)
    assert [reply["status"]["code"] for reply in tape.cassette.responses] == [200, 502, 200]
    assert (job.status, job.queries) == ("succeeded", 2)


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.recording(
    sandbox={"faults": [Fault("create", "refuse", info="aspect_ratio: 3:4 is not supported")]}
)
def test_refused_argument(caller: Caller, tape: Tape) -> None:
    """The service may refuse what its page lists; its own words come through, nothing was paid."""
    with pytest.raises(InvalidRequest, match="aspect_ratio: 3:4 is not supported") as caught:
        caller.invoke({"prompt": FOX, "aspect_ratio": "3:4"})
    assert (caught.value.charge, tape.calls) == ("none", ["create"])


@pytest.mark.recording(live_usd="0")
def test_refused_model(caller: Caller, tape: Tape) -> None:
    """A model that the service does not know is an invalid request, not a lost one."""
    with pytest.raises(InvalidRequest, match="invalid model") as caught:
        caller.with_fields(model="shortapi/flux-0.0/no-such-model").invoke(FOX)
    assert (caught.value.charge, tape.calls) == ("none", ["create"])


@pytest.mark.recording(sandbox={"balance": "0.01"})
def test_insufficient_balance(caller: Caller, tape: Tape) -> None:
    """Too low a balance is told apart from a bad request: paying in helps, rewording does not."""
    with pytest.raises(InsufficientBalance, match="insufficient balance") as caught:
        caller.invoke(FOX)
    assert (caught.value.charge, tape.calls) == ("none", ["create"])


@pytest.mark.recording(live_usd="0")
def test_wrong_key(caller: Caller, tape: Tape) -> None:
    """A key that the service refuses is not repeated, and the error does not show it."""
    key = "a-key-that-no-account-has"
    with pytest.raises(AuthenticationFailed) as caught:
        caller.with_fields(api_key=SecretStr(key)).invoke(FOX)
    assert (caught.value.charge, tape.calls) == ("none", ["create"])
    assert key not in str(caught.value)


@pytest.mark.recording(live_usd="0")
def test_unknown_job(caller: Caller, tape: Tape) -> None:
    """An id that the service does not know is not waited for."""
    with pytest.raises(UnexpectedReply, match="0123456789abcdef01234567") as caught:
        caller.follow("0123456789abcdef01234567")
    assert (caught.value.charge, tape.calls) == ("unknown", ["query"])
