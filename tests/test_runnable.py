"""``ShortAPIFlux`` as LangChain calls it, blocking and async: our own contract suite.

LangChain ships standard tests for tools and models but none for Runnables, so this is written out.
"""

from __future__ import annotations

import asyncio
import copy
import os
import pickle
import warnings
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

import pytest
from blockbuster import blockbuster_ctx
from langchain_core._api import LangChainBetaWarning
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.load import dumpd, dumps, load
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.prompt_values import ChatPromptValue, StringPromptValue
from langchain_core.prompts import ChatPromptTemplate, PromptTemplate
from langchain_core.runnables import ConfigurableField, Runnable, RunnableLambda
from pydantic import SecretStr, ValidationError
from quick_flux import QUICK_POLL, QUICK_RETRY, flux_on
from scripted_model import ScriptedModel, tool_call
from typing_extensions import override

from langchain_shortapi_flux import (
    AuthenticationFailed,
    ConfigurationError,
    CreateOutcomeUnknown,
    FluxJob,
    FluxRequest,
    InvalidRequest,
    JobFailed,
    PollPolicy,
    RateLimited,
    RetryLimits,
    ServiceUnavailable,
    ShortAPIError,
    ShortAPIFlux,
    ShortAPIFluxTool,
)
from langchain_shortapi_flux.sandbox import Fault, Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable

Way = Literal["sync", "async"]
BOTH_WAYS = pytest.mark.parametrize("way", ["sync", "async"])
CHEAP, DEAR = Decimal("0.002"), Decimal("0.02")


async def _invoke(
    way: Way, runnable: Runnable[Any, Any], input: Any, config: Any = None, **kwargs: Any
) -> Any:
    if way == "sync":
        return runnable.invoke(input, config, **kwargs)
    return await runnable.ainvoke(input, config, **kwargs)


async def _stream(
    way: Way, runnable: Runnable[Any, Any], input: Any, config: Any = None, **kwargs: Any
) -> list[Any]:
    if way == "sync":
        return list(runnable.stream(input, config, **kwargs))
    return [chunk async for chunk in runnable.astream(input, config, **kwargs)]


def _creates(sandbox: Sandbox) -> int:
    return sum(call.on == "create" for call in sandbox.calls)


# --- calling ------------------------------------------------------------------------------------


@BOTH_WAYS
async def test_invoke_gives_the_finished_job(way: Way, flux: ShortAPIFlux) -> None:
    """The whole point, and what was sent is on the job with its options filled in."""
    job = await _invoke(way, flux, "a red fox in the snow")
    assert isinstance(job, FluxJob)
    assert (job.status, job.charge, job.cost, job.error) == ("succeeded", "charged", DEAR, None)
    assert len(job.images) == 1
    assert job.request == FluxRequest(
        prompt="a red fox in the snow", aspect_ratio="1:1", num_images=1, performance="dev"
    )
    assert (job.model, job.base_url) == (flux.model, flux.base_url)


@BOTH_WAYS
async def test_stream_gives_cumulative_snapshots(
    way: Way, sandbox: Sandbox, flux: ShortAPIFlux
) -> None:
    """Whoever watches may forget the earlier snapshots; the first says that the money is spent."""
    sandbox.inject(Fault("query", "status_word", times=2))
    jobs = await _stream(way, flux, "a fox")
    assert [job.status for job in jobs] == ["pending", "pending", "pending", "succeeded"]
    assert [job.queries for job in jobs] == [0, 1, 2, 3]
    assert {(job.job_id, job.charge) for job in jobs} == {(sandbox.jobs[0].job_id, "charged")}
    assert all(job.request.prompt == "a fox" for job in jobs)
    assert [job.elapsed for job in jobs] == sorted(job.elapsed for job in jobs)


@BOTH_WAYS
async def test_stream_of_a_failing_job_shows_the_failure_and_raises(
    way: Way, sandbox: Sandbox, flux: ShortAPIFlux
) -> None:
    """The watcher sees the end, the caller cannot miss it."""
    sandbox.inject(Fault("create", "job_fails", info="too dark"))
    seen: list[FluxJob] = []

    async def watch() -> None:
        if way == "sync":
            for job in flux.stream("a fox"):
                seen.append(job)  # noqa: PERF402 - what came before the error counts
        else:
            async for job in flux.astream("a fox"):
                seen.append(job)  # noqa: PERF401 - likewise

    with pytest.raises(JobFailed, match="too dark"):
        await watch()
    assert [(job.status, job.charge) for job in seen] == [
        ("pending", "charged"),
        ("failed", "refunded"),
    ]


def test_two_jobs_do_not_add(flux: ShortAPIFlux) -> None:
    """LangChain merges streamed chunks with + where it can; merged jobs would be nonsense."""
    job = flux.invoke("a fox")
    with pytest.raises(TypeError):
        job + job  # type: ignore[operator]


@BOTH_WAYS
async def test_a_later_step_gets_the_last_snapshot(
    way: Way, sandbox: Sandbox, flux: ShortAPIFlux
) -> None:
    """A step that cannot stream gathers chunks; the last must win, once."""
    sandbox.inject(Fault("query", "status_word", times=2))
    said = flux | RunnableLambda(lambda job: f"{job.status} after {job.queries}")
    assert await _stream(way, said, "a fox") == ["succeeded after 3"]


@BOTH_WAYS
@pytest.mark.parametrize("middle", ["function", "model"])
async def test_a_chain_streams_several_snapshots(
    middle: str, way: Way, sandbox: Sandbox, flux: ShortAPIFlux
) -> None:
    """Progress must come through a chain, also behind a model that streams its words."""
    sandbox.inject(Fault("query", "status_word", times=2))
    steps: dict[str, Runnable[Any, Any]] = {
        "function": RunnableLambda(lambda value: value.to_string().removeprefix("Human: ")),
        "model": GenericFakeChatModel(messages=iter([AIMessage("a fox in deep snow")])),
    }
    prompt = ChatPromptTemplate.from_template("a {animal} in deep snow")
    jobs = await _stream(way, prompt | steps[middle] | flux, {"animal": "fox"})
    assert [job.status for job in jobs] == ["pending"] * 3 + ["succeeded"]
    assert sandbox.jobs[0].args["prompt"] == "a fox in deep snow"
    assert len(sandbox.jobs) == 1


@BOTH_WAYS
async def test_leaving_a_stream_early_stops_querying(way: Way, sandbox: Sandbox) -> None:
    """A notebook cell that breaks out of the loop must not leave a poller behind."""
    sandbox.inject(Fault("create", "job_never_ends"))
    flux = flux_on(sandbox)
    if way == "sync":
        with_progress = flux.stream("a fox")
        assert next(with_progress).status == "pending"
        with_progress.close()  # type: ignore[attr-defined]
    else:
        async_progress = flux.astream("a fox")
        assert (await anext(async_progress)).status == "pending"
        await async_progress.aclose()  # type: ignore[attr-defined]
    assert [call.on for call in sandbox.calls] == ["create"]


@BOTH_WAYS
async def test_batch_keeps_the_order(way: Way, sandbox: Sandbox, flux: ShortAPIFlux) -> None:
    """A batch is answered input by input, whichever job ends first."""
    prompts: list[Any] = ["one", {"prompt": "two"}, FluxRequest(prompt="three")]
    if way == "sync":
        jobs = flux.batch(prompts, {"max_concurrency": 2}, performance="schnell")
    else:
        jobs = await flux.abatch(prompts, {"max_concurrency": 2}, performance="schnell")
    assert [job.request and job.request.prompt for job in jobs] == ["one", "two", "three"]
    assert [charge.usd for charge in sandbox.charges] == [CHEAP] * 3


@BOTH_WAYS
async def test_batch_returns_errors_when_asked(
    way: Way, sandbox: Sandbox, flux: ShortAPIFlux
) -> None:
    """One bad prompt must not cost the others' results."""
    prompts: list[Any] = ["one", "  ", "three"]
    if way == "sync":
        jobs: list[Any] = flux.batch(prompts, return_exceptions=True)
    else:
        jobs = await flux.abatch(prompts, return_exceptions=True)
    assert [type(job) for job in jobs] == [FluxJob, InvalidRequest, FluxJob]
    assert len(sandbox.jobs) == 2


@BOTH_WAYS
async def test_batch_as_completed_names_the_inputs(
    way: Way, sandbox: Sandbox, flux: ShortAPIFlux
) -> None:
    """Results come as they are ready, each with the index of its input."""
    prompts: list[Any] = ["one", "", "three"]
    found: dict[int, Any]
    if way == "sync":
        found = dict(flux.batch_as_completed(prompts, return_exceptions=True))
    else:
        ready = flux.abatch_as_completed(prompts, return_exceptions=True)
        found = {index: job async for index, job in ready}
    assert sorted(found) == [0, 1, 2]
    assert found[0].request.prompt == "one"
    assert isinstance(found[1], InvalidRequest)
    assert found[2].request.prompt == "three"


@BOTH_WAYS
async def test_create_buys_and_does_not_wait(way: Way, sandbox: Sandbox) -> None:
    """A web handler may buy now and let another process wait."""
    sandbox.inject(Fault("create", "job_never_ends"))
    flux = flux_on(sandbox)
    made = {"prompt": "a fox", "num_images": 2}
    job = (
        flux.create(made, aspect_ratio="16:9")
        if way == "sync"
        else await flux.acreate(made, aspect_ratio="16:9")
    )
    assert (job.status, job.charge, job.queries) == ("pending", "charged", 0)
    assert sandbox.jobs[0].args["aspect_ratio"] == "16:9"
    assert [call.on for call in sandbox.calls] == ["create"]


@BOTH_WAYS
async def test_query_is_one_free_look(way: Way, sandbox: Sandbox, flux: ShortAPIFlux) -> None:
    """It reports whatever state the job is in, a failed one too, and buys nothing."""
    sandbox.inject(Fault("create", "job_never_ends"), Fault("create", "job_fails"))
    running, failed = flux.create("one"), flux.create("two")
    looks = (
        [flux.query(running), flux.query(failed.job_id)]
        if way == "sync"
        else [await flux.aquery(running), await flux.aquery(failed.job_id)]
    )
    assert [look.status for look in looks] == ["pending", "failed"]
    assert [look.queries for look in looks] == [1, 1]
    assert looks[0].request == running.request
    assert looks[1].request is None
    assert looks[1].charge == "refunded"
    assert _creates(sandbox) == 2


@BOTH_WAYS
async def test_follow_waits_and_never_buys(way: Way, sandbox: Sandbox, flux: ShortAPIFlux) -> None:
    """What was bought earlier is picked up by its id, by another process if need be."""
    bought = flux.create("a fox")
    job = flux.follow(bought.job_id) if way == "sync" else await flux.afollow(bought.job_id)
    assert (job.status, job.request, job.job_id) == ("succeeded", None, bought.job_id)
    assert _creates(sandbox) == 1


@pytest.mark.parametrize("call", ["query", "follow"])
def test_a_job_of_another_service_is_not_asked_for_here(
    call: str, sandbox: Sandbox, flux: ShortAPIFlux
) -> None:
    """A sandbox's job followed on the paid service would only confuse."""
    job = FluxJob(job_id="ab12", status="pending", base_url="https://api.shortapi.ai")
    with pytest.raises(InvalidRequest, match=r"ab12 lives on https://api\.shortapi\.ai"):
        getattr(flux, call)(job)
    with pytest.raises(InvalidRequest, match="blank"):
        getattr(flux, call)(" ")
    assert sandbox.calls == ()


@pytest.mark.parametrize("wait", [0, -1, float("nan"), float("inf"), True, "5"])
def test_a_wait_that_is_none_is_told_before_anything_is_sent(
    wait: Any, sandbox: Sandbox, flux: ShortAPIFlux
) -> None:
    """As for the same option of a purchase."""
    with pytest.raises(InvalidRequest, match=r"max_wait=.*: allowed are seconds above 0"):
        flux.follow("ab12", max_wait=wait)
    assert sandbox.calls == ()


# --- input --------------------------------------------------------------------------------------

INPUTS: dict[str, Any] = {
    "str": "a fox",
    "dict": {"prompt": "a fox"},
    "dict with nothing chosen": {"prompt": "a fox", "aspect_ratio": None, "num_images": None},
    "FluxRequest": FluxRequest(prompt="a fox"),
    "ChatPromptValue": ChatPromptValue(messages=[SystemMessage("draw"), HumanMessage("a fox")]),
    "StringPromptValue": StringPromptValue(text="a fox"),
    "HumanMessage": HumanMessage("a fox"),
    "AIMessage": AIMessage("a fox"),
    "AIMessage of blocks": AIMessage(
        [
            {"type": "reasoning", "reasoning": "something with fur"},
            {"type": "text", "text": "a "},
            {"type": "text", "text": "fox"},
        ]
    ),
    "AIMessage of content_blocks": AIMessage(content_blocks=[{"type": "text", "text": "a fox"}]),
    "messages": [HumanMessage("draw something"), AIMessage("a fox")],
    "tuple of messages": (HumanMessage("draw something"), AIMessage("a fox")),
    "pairs": [("system", "draw"), ("human", "a fox")],
    "dict messages": [{"role": "user", "content": "a fox"}],
}


@BOTH_WAYS
@pytest.mark.parametrize("form", INPUTS)
async def test_every_form_of_input_is_read(
    form: str, way: Way, sandbox: Sandbox, flux: ShortAPIFlux
) -> None:
    """Each is what some step of LangChain hands on; the text of the last message is the prompt."""
    await _invoke(way, flux, INPUTS[form])
    assert sandbox.jobs[0].args == {
        "prompt": "a fox",
        "aspect_ratio": "1:1",
        "num_images": 1,
        "performance": "dev",
    }


@BOTH_WAYS
@pytest.mark.parametrize(
    "template",
    [PromptTemplate.from_template("{it}"), ChatPromptTemplate.from_template("{it}")],
    ids=["text", "chat"],
)
async def test_a_prompt_template_feeds_it(
    template: Runnable[Any, Any], way: Way, sandbox: Sandbox, flux: ShortAPIFlux
) -> None:
    """The shortest chain there is."""
    job = await _invoke(way, template | flux, {"it": "a fox"})
    assert job.status == "succeeded"
    assert sandbox.jobs[0].args["prompt"] == "a fox"


# Input, the field that the message must name, what it must say is allowed.
REFUSED: dict[str, tuple[Any, str, str]] = {
    "unknown key": (
        {"prompt": "a fox", "seed": 7},
        "'seed'",
        "prompt, aspect_ratio, num_images, performance",
    ),
    "no prompt": ({"num_images": 2}, "prompt", "is missing"),
    "prompt not text": ({"prompt": 5}, "prompt=5", "valid string"),
    "blank": ("  \n", "prompt", "blank"),
    "blank in dict": ({"prompt": ""}, "prompt", "blank"),
    "lone surrogate": ("a fox \ud83e", "prompt", "lone surrogate"),
    "aspect ratio": (
        {"prompt": "a fox", "aspect_ratio": "5:4"},
        "aspect_ratio='5:4'",
        "'1:1', '9:16', '16:9', '4:3', '3:4', '3:2', '2:3' or '21:9'",
    ),
    "three": ({"prompt": "a fox", "num_images": 3}, "num_images=3", "1, 2, 4, 8"),
    "True is not 1": ({"prompt": "a fox", "num_images": True}, "num_images=True", "1, 2, 4, 8"),
    "three as text": ({"prompt": "a fox", "num_images": "3"}, "num_images='3'", "1, 2, 4, 8"),
    "a list": ({"prompt": "a fox", "num_images": [2]}, "num_images=[2]", "1, 2, 4, 8"),
    "mode": (
        {"prompt": "a fox", "performance": "fast"},
        "performance='fast'",
        "'schnell' or 'dev'",
    ),
    "None": (None, "NoneType", "str, dict, FluxRequest"),
    "number": (5, "int", "str, dict, FluxRequest"),
    "bytes": (b"a fox", "bytes", "str, dict, FluxRequest"),
    "no messages": ([], "messages", "empty"),
    "no message at the end": ([HumanMessage("a fox"), 5], "int", "not a message"),
    "picture only": (
        HumanMessage([{"type": "image", "url": "https://example.com/fox.png"}]),
        "last message (human)",
        "no text",
    ),
    "model said nothing": (AIMessage(""), "last message (ai)", "no text"),
}


@BOTH_WAYS
@pytest.mark.parametrize("case", REFUSED)
async def test_a_bad_request_is_refused_before_anything_is_sent(
    case: str, way: Way, sandbox: Sandbox, flux: ShortAPIFlux
) -> None:
    """Money is spent by create alone, so what is wrong must be found before it."""
    wrong, field, allowed = REFUSED[case]
    with pytest.raises(InvalidRequest) as caught:
        await _invoke(way, flux, wrong)
    assert field in str(caught.value)
    assert allowed in str(caught.value)
    assert "nothing was sent" in str(caught.value)
    assert (caught.value.charge, caught.value.is_retryable) == ("none", False)
    with pytest.raises(InvalidRequest):
        await _stream(way, flux, wrong)
    assert sandbox.calls == ()


@BOTH_WAYS
async def test_an_unknown_option_by_keyword_is_refused(
    way: Way, sandbox: Sandbox, flux: ShortAPIFlux
) -> None:
    """A misspelt option that is dropped silently costs ten times as much."""
    with pytest.raises(InvalidRequest, match=r"'perfomance'.*aspect_ratio, num_images"):
        await _invoke(way, flux, "a fox", perfomance="schnell")
    with pytest.raises(InvalidRequest, match=r"num_images=3: allowed are 1, 2, 4, 8"):
        await _invoke(way, flux.bind(num_images=3), "a fox")
    assert sandbox.calls == ()


@pytest.mark.parametrize("given", [2, "2", " 2 ", 2.0])
def test_the_forms_in_which_models_send_a_number_are_read(
    given: Any, sandbox: Sandbox, flux: ShortAPIFlux
) -> None:
    """The schema says text, protobuf says float; the service wants a JSON integer."""
    job = flux.invoke({"prompt": "a fox", "num_images": given})
    assert len(job.images) == 2
    assert type(sandbox.jobs[0].args["num_images"]) is int


# --- unset is not a value -----------------------------------------------------------------------


def _as_text(flux: ShortAPIFlux) -> Runnable[Any, Any]:
    return flux


def _as_dict(flux: ShortAPIFlux) -> Runnable[Any, Any]:
    return RunnableLambda(lambda text: {"prompt": text}) | flux


def _as_dict_of_none(flux: ShortAPIFlux) -> Runnable[Any, Any]:
    return RunnableLambda(lambda text: {"prompt": text, "performance": None}) | flux


def _as_request(flux: ShortAPIFlux) -> Runnable[Any, Any]:
    return RunnableLambda(lambda text: FluxRequest(prompt=text)) | flux


def _as_request_with_none(flux: ShortAPIFlux) -> Runnable[Any, Any]:
    return RunnableLambda(lambda text: FluxRequest(prompt=text, performance=None)) | flux


def _as_message(flux: ShortAPIFlux) -> Runnable[Any, Any]:
    return ChatPromptTemplate.from_template("{it}") | flux


def _as_structured_output(flux: ShortAPIFlux) -> Runnable[Any, Any]:
    model = ScriptedModel(answers=[tool_call("FluxRequest", prompt="a fox")])
    ask: Runnable[Any, Any] = model.with_structured_output(FluxRequest)
    return ask | flux


def _as_structured_dict(flux: ShortAPIFlux) -> Runnable[Any, Any]:
    model = ScriptedModel(answers=[tool_call("FluxRequest", prompt="a fox", performance=None)])
    ask: Runnable[Any, Any] = model.with_structured_output(FluxRequest.model_json_schema())
    return ask | flux


def _as_keyword_none(flux: ShortAPIFlux) -> Runnable[Any, Any]:
    return flux.bind(performance=None)


def _as_tool_call(flux: ShortAPIFlux) -> Runnable[Any, Any]:
    call = {"name": "it", "id": "1", "type": "tool_call", "args": {"prompt": "a fox"}}
    return RunnableLambda(lambda _text: call) | ShortAPIFluxTool(flux=flux)


def _as_tool_call_of_none(flux: ShortAPIFlux) -> Runnable[Any, Any]:
    arguments = {"prompt": "a fox", "performance": None, "num_images": None, "aspect_ratio": None}
    call = {"name": "it", "id": "1", "type": "tool_call", "args": arguments}
    return RunnableLambda(lambda _text: call) | ShortAPIFluxTool(flux=flux)


def _as_tool_arguments(flux: ShortAPIFlux) -> Runnable[Any, Any]:
    return RunnableLambda(lambda text: {"prompt": text}) | ShortAPIFluxTool(flux=flux)


def _as_tool_text(flux: ShortAPIFlux) -> Runnable[Any, Any]:
    return ShortAPIFluxTool(flux=flux)


@BOTH_WAYS
@pytest.mark.parametrize(
    "door",
    [
        _as_text,
        _as_dict,
        _as_dict_of_none,
        _as_request,
        _as_request_with_none,
        _as_message,
        _as_structured_output,
        _as_structured_dict,
        _as_keyword_none,
        _as_tool_call,
        _as_tool_call_of_none,
        _as_tool_arguments,
        _as_tool_text,
    ],
)
async def test_what_is_left_unset_is_taken_from_the_instance(
    door: Callable[[ShortAPIFlux], Runnable[Any, Any]], way: Way, sandbox: Sandbox
) -> None:
    """A default of a schema that overrode a cheap instance would cost ten times as much."""
    flux = flux_on(sandbox, performance="schnell", aspect_ratio="21:9", num_images=4)
    await _invoke(way, door(flux), "a fox")
    assert sandbox.jobs[0].args == {
        "prompt": "a fox",
        "aspect_ratio": "21:9",
        "num_images": 4,
        "performance": "schnell",
    }
    assert [charge.usd for charge in sandbox.charges] == [CHEAP]


@BOTH_WAYS
async def test_bound_and_passed_options_win_over_the_input(
    way: Way, sandbox: Sandbox, flux: ShortAPIFlux
) -> None:
    """Code that binds an option means it, whatever a model wrote into the request."""
    wide = flux.bind(aspect_ratio="16:9")
    await _invoke(way, wide, {"prompt": "a fox", "aspect_ratio": "1:1", "num_images": 2})
    await _invoke(way, flux, FluxRequest(prompt="b", performance="dev"), performance="schnell")
    await _stream(way, wide, "c", aspect_ratio="3:2")
    assert [job.args["aspect_ratio"] for job in sandbox.jobs] == ["16:9", "1:1", "3:2"]
    assert [job.args["num_images"] for job in sandbox.jobs] == [2, 1, 1]
    assert [job.args["performance"] for job in sandbox.jobs] == ["dev", "schnell", "dev"]


@BOTH_WAYS
async def test_an_option_of_none_wins_over_nothing(
    way: Way, sandbox: Sandbox, flux: ShortAPIFlux
) -> None:
    """A wrapper that passes ``performance=None`` through must not undo the input's schnell."""
    await _invoke(way, flux, {"prompt": "a fox", "performance": "schnell"}, performance=None)
    assert [charge.usd for charge in sandbox.charges] == [CHEAP]


# --- LangChain's ways of wrapping ---------------------------------------------------------------


@BOTH_WAYS
async def test_configurable_fields_reach_the_service(
    way: Way, sandbox: Sandbox, flux: ShortAPIFlux
) -> None:
    """A new instance is made for each call: its key and policies must come along."""
    field = ConfigurableField(id="mode", name="Mode", description="How fine.")
    chosen = flux.configurable_fields(performance=field)
    cheap = {"configurable": {"mode": "schnell"}}
    await _invoke(way, chosen, "one")
    await _invoke(way, chosen, "two", cheap)
    await _invoke(way, chosen.with_config(configurable={"mode": "schnell"}), "three")
    await _stream(way, chosen, "four", cheap)
    modes = [job.args["performance"] for job in sandbox.jobs]
    assert modes == ["dev", "schnell", "schnell", "schnell"]
    with pytest.raises(ValidationError, match="schnell"):
        await _invoke(way, chosen, "five", {"configurable": {"mode": "fast"}})
    assert len(sandbox.jobs) == 4


def test_the_key_cannot_be_a_configurable_field(flux: ShortAPIFlux) -> None:
    """LangChain copies configurable values into the metadata of traces."""
    with pytest.raises(ConfigurationError, match="api_key"):
        flux.configurable_fields(api_key=ConfigurableField(id="key"))


@BOTH_WAYS
async def test_configurable_alternatives(way: Way, sandbox: Sandbox, flux: ShortAPIFlux) -> None:
    """A whole other instance may be chosen at call time."""
    cheap = flux_on(sandbox, performance="schnell")
    either = flux.configurable_alternatives(
        ConfigurableField(id="which"), default_key="fine", cheap=cheap
    )
    await _invoke(way, either, "one")
    await _invoke(way, either, "two", {"configurable": {"which": "cheap"}})
    assert [charge.usd for charge in sandbox.charges] == [DEAR, CHEAP]


@BOTH_WAYS
async def test_with_retry_does_not_repeat_a_create_of_unknown_outcome(
    way: Way, sandbox: Sandbox, flux: ShortAPIFlux
) -> None:
    """The connection dropped after the job was made and charged: again would be twice."""
    sandbox.inject(Fault("create", "drop_after"))
    with pytest.raises(CreateOutcomeUnknown):
        await _invoke(way, flux.with_retry(wait_exponential_jitter=False), "a fox")
    assert _creates(sandbox) == 1


@BOTH_WAYS
@pytest.mark.parametrize("kind", ["job_fails", "refuse"])
async def test_with_retry_does_not_repeat_what_would_fail_again(
    kind: str, way: Way, sandbox: Sandbox, flux: ShortAPIFlux
) -> None:
    """A failed job is a new purchase, a refused request is refused again."""
    sandbox.inject(Fault("create", kind, times=3))
    with pytest.raises((JobFailed, InvalidRequest)):
        await _invoke(way, flux.with_retry(wait_exponential_jitter=False), "a fox")
    assert _creates(sandbox) == 1


@pytest.mark.usefixtures("quick_turns")
@BOTH_WAYS
@pytest.mark.parametrize("kind", ["rate_limited", "code_3000"])
async def test_with_retry_repeats_where_no_job_was_made(
    kind: str, way: Way, sandbox: Sandbox
) -> None:
    """Beyond our own attempts, and only here, more attempts may help and cost nothing."""
    flux = flux_on(sandbox, retry=QUICK_RETRY.model_copy(update={"create_attempts": 1}))
    sandbox.inject(Fault("create", kind, times=2))
    job = await _invoke(way, flux.with_retry(wait_exponential_jitter=False), "a fox")
    assert job.status == "succeeded"
    assert (_creates(sandbox), len(sandbox.charges)) == (3, 1)


@pytest.mark.usefixtures("quick_turns")
@BOTH_WAYS
async def test_with_retry_gives_up(way: Way, sandbox: Sandbox) -> None:
    """What is raised in the end is our error, and its text is the last refusal's."""
    flux = flux_on(sandbox, retry=QUICK_RETRY.model_copy(update={"create_attempts": 1}))
    sandbox.inject(Fault("create", "rate_limited", times=9))
    twice = flux.with_retry(wait_exponential_jitter=False, stop_after_attempt=2)
    with pytest.raises(RateLimited, match="429"):
        await _invoke(way, twice, "a fox")
    assert (_creates(sandbox), sandbox.charges) == (2, ())


@BOTH_WAYS
async def test_with_retry_takes_the_users_own_classes(
    way: Way, sandbox: Sandbox, flux: ShortAPIFlux
) -> None:
    """The default is a default: who names classes gets them repeated."""
    sandbox.inject(Fault("create", "job_fails"))
    again = flux.with_retry(retry_if_exception_type=(JobFailed,), wait_exponential_jitter=False)
    assert (await _invoke(way, again, "a fox")).status == "succeeded"
    assert _creates(sandbox) == 2


@pytest.mark.usefixtures("quick_turns")
@BOTH_WAYS
@pytest.mark.parametrize(
    ("fault", "steps_in"),
    [
        (Fault("create", "refuse", status=401, info="bad key"), True),
        (Fault("create", "refuse", info="insufficient balance"), True),
        (Fault("create", "rate_limited", times=4), True),
        (Fault("create", "job_fails"), False),
        (Fault("create", "drop_after"), False),
        (Fault("create", "no_images"), False),
    ],
    ids=lambda value: value.info or value.kind if isinstance(value, Fault) else "",
)
async def test_with_fallbacks_steps_in_only_where_no_job_was_made(
    fault: Fault, way: Way, *, steps_in: bool, sandbox: Sandbox, flux: ShortAPIFlux
) -> None:
    """A fallback after a charged job would pay for the same picture twice."""
    other: RunnableLambda[Any, Any] = RunnableLambda(lambda _input: "from the other")
    sandbox.inject(fault)
    safe = flux.with_fallbacks([other])
    if steps_in:
        assert await _invoke(way, safe, "a fox") == "from the other"
        return
    with pytest.raises(ShortAPIError) as caught:
        await _invoke(way, safe, "a fox")
    assert caught.value.charge != "none"
    assert _creates(sandbox) == 1


@BOTH_WAYS
async def test_with_fallbacks_takes_the_users_own_classes(
    way: Way, sandbox: Sandbox, flux: ShortAPIFlux
) -> None:
    """The default is a default, and ``exception_key`` works for inputs that are dicts."""
    sandbox.inject(Fault("create", "job_fails"))
    other: RunnableLambda[Any, Any] = RunnableLambda(lambda failed: type(failed["why"]).__name__)
    safe = flux.with_fallbacks([other], exceptions_to_handle=(JobFailed,), exception_key="why")
    assert await _invoke(way, safe, {"prompt": "a fox"}) == "JobFailed"


@BOTH_WAYS
async def test_a_wrong_key_is_told_apart(way: Way, sandbox: Sandbox) -> None:
    """Nothing was charged and repeating cannot help."""
    flux = flux_on(sandbox, api_key="not-the-sandbox-key")
    with pytest.raises(AuthenticationFailed) as caught:
        await _invoke(way, flux, "a fox")
    assert (caught.value.status_code, caught.value.charge) == (401, "none")
    assert not caught.value.is_retryable


# --- schemas, names, drawings -------------------------------------------------------------------


def test_schemas(flux: ShortAPIFlux) -> None:
    """LangServe, LangGraph Studio and drawings read them."""
    assert flux.get_input_schema().__name__ == "ShortAPIFluxInput"
    assert flux.get_output_schema() is FluxJob
    types = {entry.get("type", entry.get("$ref")) for entry in flux.get_input_jsonschema()["anyOf"]}
    assert {"string", "object", "array", "#/$defs/FluxRequest"} <= types
    properties = flux.get_output_jsonschema()["properties"]
    assert {"job_id", "status", "images", "cost", "charge"} <= set(properties)
    assert flux.InputType is not None
    assert flux.OutputType is FluxJob


def test_get_name(flux: ShortAPIFlux, sandbox: Sandbox) -> None:
    """The name in traces and drawings: the class's, or the user's own."""
    assert flux.get_name() == "ShortAPIFlux"
    assert flux_on(sandbox, name="poster painter").get_name() == "poster painter"


def test_drawing_a_chain(flux: ShortAPIFlux) -> None:
    """The drawing shows the Runnable and what comes out of it."""
    chain = ChatPromptTemplate.from_template("{it}") | flux | RunnableLambda(lambda job: job.job_id)
    drawn = chain.get_graph().draw_mermaid()
    assert "ChatPromptTemplate --> ShortAPIFlux" in drawn
    assert "ShortAPIFlux --> FluxJob" in flux.get_graph().draw_mermaid()


def test_drawing_in_ascii(flux: ShortAPIFlux) -> None:
    """The drawing that notebooks print, where its library is there."""
    pytest.importorskip("grandalf")
    assert "ShortAPIFlux" in flux.get_graph().draw_ascii()


# --- saving and loading -------------------------------------------------------------------------


def _load(dumped: Any, **more: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LangChainBetaWarning)
        return load(
            dumped,
            allowed_objects=[ShortAPIFlux],
            valid_namespaces=["langchain_shortapi_flux"],
            **more,
        )


def test_dump_and_load_with_the_documented_arguments(sandbox: Sandbox) -> None:
    """A chain kept in a file comes back whole, its key from the secrets map."""
    flux = flux_on(
        sandbox, performance="schnell", timeout=7.5, callback_url="https://example.com/done"
    )
    dumped = dumpd(flux)
    assert dumped["id"] == ["langchain_shortapi_flux", "runnable", "ShortAPIFlux"]
    assert dumped["kwargs"]["api_key"] == {"lc": 1, "type": "secret", "id": ["SHORTAPI_KEY"]}
    loaded = _load(dumped, secrets_map={"SHORTAPI_KEY": sandbox.api_key})
    assert loaded == flux
    assert (loaded.poll, loaded.retry) == (QUICK_POLL, QUICK_RETRY)
    assert loaded.invoke("a fox").status == "succeeded"
    assert dumps(loaded) == dumps(flux)


def test_a_missing_secret_falls_back_to_the_environment(
    sandbox: Sandbox, flux: ShortAPIFlux, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LangChain hands a missing secret over as None."""
    assert _load(dumpd(flux)).api_key is None
    monkeypatch.setenv("SHORTAPI_API_KEY", sandbox.api_key)
    assert _load(dumpd(flux)).invoke("a fox").status == "succeeded"


def test_a_chain_is_dumped_and_loaded(sandbox: Sandbox, flux: ShortAPIFlux) -> None:
    """What users keep is a chain, not a bare Runnable."""
    chain = ChatPromptTemplate.from_template("{it}") | flux
    dumped = dumpd(chain)
    assert dumped["kwargs"]["last"]["type"] == "constructor"
    assert sandbox.api_key not in dumps(chain)


@pytest.mark.parametrize(
    "base_url", ["http://example.com", "file:///etc/passwd", "https://key@example.com"]
)
def test_a_hostile_base_url_is_refused_on_load(base_url: str, flux: ShortAPIFlux) -> None:
    """A tampered file must not send the key elsewhere in clear."""
    dumped = dumpd(flux)
    dumped["kwargs"]["base_url"] = base_url
    with pytest.raises(ValidationError, match="base_url"):
        _load(dumped, secrets_map={"SHORTAPI_KEY": "a-key-of-mine"})


def test_a_pickle_holds_no_key(
    sandbox: Sandbox, flux: ShortAPIFlux, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pickles lie about on disk; the process that unpickles brings its own key."""
    pickled = pickle.dumps(flux)
    assert sandbox.api_key.encode() not in pickled
    assert pickle.loads(pickled).api_key is None
    monkeypatch.setenv("SHORTAPI_KEY", sandbox.api_key)
    unpickled = pickle.loads(pickled)
    assert unpickled == flux
    assert unpickled.invoke("a fox").status == "succeeded"
    assert flux.api_key is not None, "pickling must not change what was pickled"


def test_copies_work(sandbox: Sandbox, flux: ShortAPIFlux) -> None:
    """A copy stays in this process and keeps its key."""
    for same in (copy.copy(flux), copy.deepcopy(flux), flux.model_copy()):
        assert same == flux
        assert same.invoke("a fox").status == "succeeded"
    cheap = flux.model_copy(update={"performance": "schnell"})
    assert cheap != flux
    assert cheap.invoke("a fox").cost == CHEAP


def test_equality(sandbox: Sandbox, flux: ShortAPIFlux) -> None:
    """Two instances that would do the same are equal."""
    assert flux == flux_on(sandbox)
    assert flux != flux_on(sandbox, performance="schnell")
    assert flux != flux_on(sandbox, api_key="another-key")


# --- events and callbacks -----------------------------------------------------------------------


async def test_events(sandbox: Sandbox, flux: ShortAPIFlux) -> None:
    """Snapshots arrive as stream events, under the run type that cost reports know: tool."""
    sandbox.inject(Fault("query", "status_word"))
    events = [event async for event in flux.astream_events("a fox", version="v2")]
    assert [event["event"] for event in events] == [
        "on_tool_start",
        "on_tool_stream",
        "on_tool_stream",
        "on_tool_stream",
        "on_tool_end",
    ]
    assert {event["name"] for event in events} == {"ShortAPIFlux"}
    chunks = [event["data"]["chunk"] for event in events[1:-1]]
    assert [job.status for job in chunks] == ["pending", "pending", "succeeded"]
    assert events[-1]["data"]["output"] == chunks[-1]


async def test_events_of_a_chain_name_the_step(sandbox: Sandbox, flux: ShortAPIFlux) -> None:
    """A front end picks the painter's progress out of a longer chain, by name or tag."""
    chain = ChatPromptTemplate.from_template("{it}") | flux.with_config(tags=["painter"])
    stream = chain.astream_events({"it": "a fox"}, version="v2", include_tags=["painter"])
    events = [event async for event in stream]
    assert [event["event"] for event in events if event["event"] == "on_tool_end"]
    assert {event["name"] for event in events} == {"ShortAPIFlux"}


class _Notes(BaseCallbackHandler):
    """What a callback handler is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []

    @override
    def on_chain_start(self, serialized: Any, inputs: Any, **kwargs: Any) -> None:
        self.told.append(("start", kwargs["run_type"]))

    @override
    def on_chain_end(self, outputs: Any, **kwargs: Any) -> None:
        self.told.append(("end", outputs.status))

    @override
    def on_chain_error(self, error: BaseException, **kwargs: Any) -> None:
        self.told.append(("error", type(error)))


@BOTH_WAYS
@pytest.mark.parametrize("call", [_invoke, _stream])
async def test_callbacks_are_told(
    call: Callable[..., Any], way: Way, sandbox: Sandbox, flux: ShortAPIFlux
) -> None:
    """Tracers and cost reports live on these; a failure must arrive as one."""
    notes = _Notes()
    await call(way, flux, "a fox", {"callbacks": [notes]})
    assert notes.told == [("start", "tool"), ("end", "succeeded")]
    notes = _Notes()
    sandbox.inject(Fault("create", "job_fails"))
    with pytest.raises(JobFailed):
        await call(way, flux, "a fox", {"callbacks": [notes]})
    assert notes.told == [("start", "tool"), ("error", JobFailed)]


# --- key and base URL ---------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["{}", "  {}\n", "Bearer {}", "bearer  {} ", '\t"{}"'])
def test_the_key_is_taken_as_pasted(form: str, sandbox: Sandbox) -> None:
    """People paste the whole header, or a line end with it; quotes are no part of that habit."""
    flux = flux_on(sandbox, api_key=form.format(sandbox.api_key))
    if '"' in form:
        with pytest.raises(AuthenticationFailed):
            flux.invoke("a fox")
    else:
        assert flux.invoke("a fox").status == "succeeded"


@pytest.mark.parametrize("key", [123456789, ["a-key"], b"a-key"])
def test_a_key_of_another_type_is_refused(key: Any) -> None:
    """At construction, with words, not with an AttributeError from within."""
    with pytest.raises(ValidationError, match=r"api_key is .*; allowed are str and SecretStr"):
        ShortAPIFlux(api_key=key)


def test_the_environments_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The official page's variable first, then the one that many applications use."""
    monkeypatch.setenv("SHORTAPI_API_KEY", "second")
    assert ShortAPIFlux().api_key == SecretStr("second")
    monkeypatch.setenv("SHORTAPI_KEY", "  ")
    assert ShortAPIFlux().api_key == SecretStr("second")
    monkeypatch.setenv("SHORTAPI_KEY", "first")
    assert ShortAPIFlux().api_key == SecretStr("first")
    assert ShortAPIFlux(api_key=None).api_key == SecretStr("first")
    assert ShortAPIFlux(api_key=SecretStr(" ")).api_key == SecretStr("first")
    assert ShortAPIFlux(api_key=SecretStr("third")).api_key == SecretStr("third")


@BOTH_WAYS
async def test_without_a_key_the_first_call_says_how_to_get_one(
    way: Way, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Constructing must work anywhere: on import, in CI, when drawing a graph."""
    monkeypatch.setenv("SHORTAPI_API_KEY", " ")
    flux = flux_on(sandbox, api_key=None)
    with pytest.raises(ConfigurationError) as caught:
        await _invoke(way, flux, "a fox")
    for part in ("https://shortapi.ai/console/keys", "SHORTAPI_KEY", "api_key=", "sandbox"):
        assert part in str(caught.value)
    with pytest.raises(ConfigurationError):
        flux.query("ab12")
    assert sandbox.calls == ()


@pytest.mark.parametrize("tail", ["", "/", "/v1", "/v1/", "/api/v1", "/api/v1/"])
def test_every_form_of_base_url_works(tail: str, sandbox: Sandbox) -> None:
    """Three spellings are found in the wild, each with and without a slash."""
    flux = flux_on(sandbox, base_url=sandbox.base_url + tail)
    assert flux.base_url == sandbox.base_url
    assert flux.invoke("a fox").status == "succeeded"


def test_the_environments_base_url(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a program is pointed at the sandbox without a change to it."""
    assert ShortAPIFlux().base_url == "https://api.shortapi.ai"
    monkeypatch.setenv("SHORTAPI_BASE_URL", f"{sandbox.base_url}/api/v1")
    assert ShortAPIFlux().base_url == sandbox.base_url
    assert ShortAPIFlux(base_url="https://proxy.example/x/").base_url == "https://proxy.example/x"
    monkeypatch.setenv("SHORTAPI_BASE_URL", "http://example.com")
    with pytest.raises(ValidationError, match="must be https"):
        ShortAPIFlux()


@pytest.mark.parametrize(
    "base_url",
    [
        "http://api.shortapi.ai",
        "http://127.0.0.1.example.com",
        "http://192.168.0.7:8787",
        "ftp://api.shortapi.ai",
        "api.shortapi.ai",
        "https://",
        "https://user:word@api.shortapi.ai",
        "https://api.shortapi.ai?key=1",
        "https://api.shortapi.ai/#here",
        "https://api.shortapi.ai\\@example.com",
        "https://[::1",
    ],
)
def test_an_unusable_base_url_is_refused(base_url: str) -> None:
    """The key would travel in clear, or somewhere else than it seems."""
    with pytest.raises(ValidationError, match="base_url"):
        ShortAPIFlux(base_url=base_url)


@pytest.mark.parametrize(
    "base_url", ["http://localhost:8787", "http://127.0.0.2:1", "http://[::1]:8787"]
)
def test_plain_http_to_this_machine_is_fine(base_url: str) -> None:
    """The sandbox lives there."""
    assert ShortAPIFlux(base_url=base_url).base_url == base_url


def test_fields_are_checked_at_construction_and_later() -> None:
    """A typo in a setting that costs money must not pass silently."""
    wrong: list[dict[str, Any]] = [
        {"performance": "fast"},
        {"num_images": 3},
        {"aspect_ratio": "5:4"},
        {"timeout": 0},
        {"timeout": float("inf")},
        {"max_connections": 0},
        {"model": ""},
        {"callback_url": "ftp://example.com"},
        {"perfomance": "schnell"},
    ]
    for fields in wrong:
        with pytest.raises(ValidationError, match=next(iter(fields))):
            ShortAPIFlux(**fields)
    flux = ShortAPIFlux()
    with pytest.raises(ValidationError):
        flux.performance = "fast"  # type: ignore[assignment]
    with pytest.raises(ValidationError):
        flux.poll.first_delay = 9.0  # type: ignore[misc]


def test_policies_may_be_given_as_plain_values() -> None:
    """They come from YAML files too."""
    flux = ShortAPIFlux.model_validate({"poll": {"gap_max": 3}, "retry": {"create_attempts": 1}})
    assert flux.poll == PollPolicy(gap_max=3)
    assert flux.retry == RetryLimits(create_attempts=1)


def test_the_callback_url_is_sent_only_if_set(sandbox: Sandbox, flux: ShortAPIFlux) -> None:
    """It is configuration: neither a request nor a model may name where records are posted."""
    flux.invoke("one")
    flux_on(sandbox, callback_url="http://127.0.0.1:9/done").invoke("two")
    assert [job.callback_url for job in sandbox.jobs] == [None, "http://127.0.0.1:9/done"]
    with pytest.raises(InvalidRequest, match="callback_url"):
        flux.invoke("three", callback_url="http://127.0.0.1:9/mine")


# --- the event loop -----------------------------------------------------------------------------


@pytest.mark.parametrize("streaming", [False, True])
async def test_nothing_blocks_the_event_loop(
    streaming: bool, sandbox: Sandbox, flux: ShortAPIFlux
) -> None:
    """A server that runs hundreds of jobs on one loop stands still at every blocking call."""
    sandbox.inject(Fault("query", "status_word"), Fault("query", "error"))
    with blockbuster_ctx():
        with pytest.raises(Exception, match="Blocking call"):
            os.stat(".")  # noqa: PTH116 - proves that the guard is on
        jobs = (
            [job async for job in flux.astream("a fox")]
            if streaming
            else [await flux.ainvoke("a fox")]
        )
    assert jobs[-1].status == "succeeded"


async def test_many_jobs_share_one_loop_and_leave_nothing_behind(
    sandbox: Sandbox, flux: ShortAPIFlux
) -> None:
    """Each of them ends, and none of them starts a thread or leaves a task."""
    before = asyncio.all_tasks()
    jobs = await asyncio.gather(*(flux.ainvoke(f"fox {number}") for number in range(20)))
    assert len({job.job_id for job in jobs}) == len(sandbox.jobs) == 20
    assert asyncio.all_tasks() == before


def test_an_unreachable_service_is_said_to_be_one(sandbox: Sandbox, flux: ShortAPIFlux) -> None:
    """Nothing was charged, and trying later may help."""
    sandbox.stop()
    with pytest.raises(ServiceUnavailable) as caught:
        flux.invoke("a fox")
    assert (caught.value.charge, caught.value.is_retryable) == ("none", True)
    assert flux.base_url in str(caught.value)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("https://api.shortapi.ai:443/", "https://api.shortapi.ai"),
        ("https://API.shortapi.ai./v1", "https://api.shortapi.ai"),
        ("https://api.shortapi.ai.:443", "https://api.shortapi.ai"),
        ("https://api.shortapi.ai:8443", "https://api.shortapi.ai:8443"),
        ("https://api.shortapi.ai:", "https://api.shortapi.ai"),
        ("http://127.0.0.1:80", "http://127.0.0.1"),
        ("http://[::1]:8787/api/v1", "http://[::1]:8787"),
    ],
)
def test_one_service_has_one_spelling(written: str, read: str) -> None:
    """The ledger's keys begin with it: two spellings would be two purchases."""
    assert ShortAPIFlux(base_url=written).base_url == read


def test_a_request_key_holds_no_nul() -> None:
    """PostgreSQL cannot store it, so it is refused before anything is asked."""
    with pytest.raises(InvalidRequest, match="request_key"):
        ShortAPIFlux(api_key="some-key").invoke("a fox", request_key="a\x00b")
