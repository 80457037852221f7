"""What a trace says of money: provider, model and the charged cost, of each run its own.

The runs are read where LangSmith would read them: at its own client's socket.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any, Literal

import pytest
from langchain.agents import create_agent
from langchain_core.runnables import RunnableLambda
from langchain_core.tracers import LangChainTracer
from langsmith.run_trees import RunTree
from langsmith_stand_in import cost_of, langsmith_stand_in, metadata_of
from leaping_time import leap_at_each_query
from quick_flux import QUICK_POLL, flux_on
from reply_server import KEY, ReplyServer
from scripted_model import ScriptedModel, tool_call
from transcripts import JOB_ID, pictures, record, said

from langchain_shortapi_flux import (
    FluxJob,
    ShortAPIError,
    ShortAPIFlux,
    ShortAPIFluxTool,
    ShortAPIFluxToolkit,
)
from langchain_shortapi_flux.sandbox import Fault, Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langsmith_stand_in import LangSmithStandIn

    from langchain_shortapi_flux import FluxInput

Call = Literal["invoke", "ainvoke", "stream", "astream"]
CALLS = pytest.mark.parametrize("call", ["invoke", "ainvoke", "stream", "astream"])
BOTH_WAYS = pytest.mark.parametrize("way", ["sync", "async"])
SCHNELL, DEV = 0.002, 0.02
FLUX_MODEL = "shortapi/flux-1.0/text-to-image"
PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8


@pytest.fixture
def traces() -> Iterator[LangSmithStandIn]:
    """Where the runs of a test go."""
    with langsmith_stand_in() as running:
        yield running


def _flux_of(server: ReplyServer) -> ShortAPIFlux:
    """A Runnable on a server that plays a script."""
    return ShortAPIFlux(base_url=server.base_url, api_key=KEY, poll=QUICK_POLL)


async def _called(call: Call, flux: Any, input: FluxInput, config: Any, **options: Any) -> FluxJob:
    """The last snapshot of a call."""
    match call:
        case "invoke":
            last = flux.invoke(input, config, **options)
        case "ainvoke":
            last = await flux.ainvoke(input, config, **options)
        case "stream":
            *_, last = flux.stream(input, config, **options)
        case "astream":
            *_, last = [job async for job in flux.astream(input, config, **options)]
    assert isinstance(last, FluxJob)
    return last


@CALLS
async def test_a_run_names_provider_model_and_the_charged_cost(
    call: Call, sandbox: Sandbox, traces: LangSmithStandIn
) -> None:
    """LangSmith sums what stands under these names, and the user's own stay beside them."""
    flux = flux_on(sandbox, performance="schnell")
    config = {"callbacks": [traces.tracer], "metadata": {"team": "posters"}}
    await _called(call, flux, "a fox", config)
    (run,) = traces.runs
    assert metadata_of(run).items() >= {
        ("ls_provider", "shortapi"),
        ("ls_model_name", FLUX_MODEL),
        ("team", "posters"),
    }
    assert run["run_type"] == "tool"
    assert metadata_of(run)["usage_metadata"] == {"total_cost": SCHNELL}
    assert [float(charge.usd) for charge in sandbox.charges] == [SCHNELL]


@CALLS
async def test_the_querys_credit_wins_over_creates_amount(
    call: Call, traces: LangSmithStandIn
) -> None:
    """Create quotes, the record says what was taken."""
    created = said({"code": 0, "data": {"amount": "0.02", "job_id": JOB_ID}})
    ended = said(record(id=JOB_ID, status=2, credit="0.0017", result=pictures(1)))
    with ReplyServer(created, ended) as server:
        flux = _flux_of(server)
        await _called(call, flux, "a fox", {"callbacks": [traces.tracer]})
    assert [cost_of(run) for run in traces.runs] == [0.0017]


@CALLS
async def test_nothing_is_estimated(call: Call, traces: LangSmithStandIn) -> None:
    """A service that reports no amount leaves the run without one: a price list is no bill."""
    created = said({"code": 0, "data": {"job_id": JOB_ID}})
    ended = said(record(id=JOB_ID, status=2, result=pictures(1)))
    with ReplyServer(created, ended) as server:
        flux = _flux_of(server)
        await _called(call, flux, "a fox", {"callbacks": [traces.tracer]})
    assert [cost_of(run) for run in traces.runs] == [None]


ENDINGS: dict[str, tuple[list[Fault], float | None]] = {
    "refunded": ([Fault("create", "job_fails")], 0.0),
    "not refunded": ([Fault("create", "job_fails_unrefunded")], SCHNELL),
    "no pictures": ([Fault("create", "no_images")], SCHNELL),
    "timed out": ([Fault("create", "job_never_ends")], SCHNELL),
    "queries refused": ([Fault("query", "refuse", status=403)], SCHNELL),
    "refused": ([Fault("create", "refuse")], None),
    "key refused": ([Fault("create", "refuse", status=401)], None),
    "outcome unknown": ([Fault("create", "drop_after")], None),
    "never reached": ([Fault("create", "code_3000", times=9)], None),
}


@CALLS
@pytest.mark.parametrize("ending", ENDINGS)
async def test_a_failure_shows_what_it_cost(
    ending: str,
    call: Call,
    sandbox: Sandbox,
    traces: LangSmithStandIn,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Money that came back is none, money that did not is some, and unknown money is not told."""
    faults, cost = ENDINGS[ending]
    sandbox.inject(*faults)
    if ending == "timed out":
        leap_at_each_query(monkeypatch, sandbox)
    flux = flux_on(sandbox, performance="schnell")
    with pytest.raises(ShortAPIError):
        await _called(call, flux, "a fox", {"callbacks": [traces.tracer]})
    (run,) = traces.runs
    assert run["error"]
    assert cost_of(run) == cost
    assert metadata_of(run)["ls_model_name"] == FLUX_MODEL


def test_a_stream_that_is_left_shows_what_was_paid(
    sandbox: Sandbox, traces: LangSmithStandIn
) -> None:
    """Whoever leaves at the first snapshot has paid all the same."""
    jobs = flux_on(sandbox, performance="schnell").stream("fox", {"callbacks": [traces.tracer]})
    next(jobs)
    jobs.close()  # type: ignore[attr-defined]
    assert [cost_of(run) for run in traces.runs] == [SCHNELL]


@CALLS
async def test_what_was_bought_before_costs_nothing_again(
    call: Call, sandbox: Sandbox, traces: LangSmithStandIn
) -> None:
    """Answered or followed from the ledger: a second cost would be summed with the first."""
    flux = flux_on(sandbox, performance="schnell")
    config = {"callbacks": [traces.tracer]}
    for _ in range(2):
        await _called(call, flux, "a fox", config, request_key="k")
    running = flux.create("a heron", request_key="l")
    followed = await _called(call, flux, "a heron", config, request_key="l")
    assert followed.job_id == running.job_id
    assert [cost_of(run) for run in traces.runs] == [SCHNELL, None, None]
    assert len(sandbox.charges) == 2


@BOTH_WAYS
async def test_looking_a_job_up_costs_nothing(
    way: str, sandbox: Sandbox, flux: ShortAPIFlux, traces: LangSmithStandIn
) -> None:
    """Queries are free, and the run around them is somebody else's."""
    job_id = flux.create("a fox").job_id

    def look(_: object) -> str:
        return flux.follow(flux.query(job_id).job_id).status

    async def alook(_: object) -> str:
        return (await flux.afollow((await flux.aquery(job_id)).job_id)).status

    looking = RunnableLambda(look, alook, name="looking")
    config: Any = {"callbacks": [traces.tracer]}
    status = looking.invoke(1, config) if way == "sync" else await looking.ainvoke(1, config)
    assert status == "succeeded"
    assert [(run["name"], cost_of(run)) for run in traces.runs] == [("looking", None)]


@BOTH_WAYS
async def test_a_batch_keeps_its_costs_apart(
    way: str, sandbox: Sandbox, traces: LangSmithStandIn
) -> None:
    """Threads and tasks run side by side; each writes onto the run that is its own."""
    modes = ["schnell", "dev"] * 3
    inputs: Any = [{"prompt": f"fox {i}", "performance": mode} for i, mode in enumerate(modes)]
    config: Any = {"callbacks": [traces.tracer]}
    flux = flux_on(sandbox)
    _ = flux.batch(inputs, config) if way == "sync" else await flux.abatch(inputs, config)
    said_of = {run["inputs"]["performance"]: set[float | None]() for run in traces.runs}
    for run in traces.runs:
        said_of[run["inputs"]["performance"]].add(cost_of(run))
    assert said_of == {"schnell": {SCHNELL}, "dev": {DEV}}


@BOTH_WAYS
async def test_inside_another_providers_run_the_names_are_its_own(
    way: str, sandbox: Sandbox, flux: ShortAPIFlux, traces: LangSmithStandIn
) -> None:
    """Metadata is inherited: a chain's ``ls_provider`` would book the picture with another."""
    config: Any = {
        "callbacks": [traces.tracer],
        "metadata": {"ls_provider": "openai", "ls_model_name": "gpt", "team": "posters"},
    }
    chain = RunnableLambda(str) | flux
    _ = chain.invoke("a fox", config) if way == "sync" else await chain.ainvoke("a fox", config)
    (run,) = traces.named("ShortAPIFlux")
    assert metadata_of(run).items() >= {
        ("ls_provider", "shortapi"),
        ("ls_model_name", FLUX_MODEL),
        ("team", "posters"),
    }
    (outer,) = traces.named("RunnableSequence")
    assert metadata_of(outer)["ls_provider"] == "openai"
    assert cost_of(outer) is None


def test_another_model_is_named(sandbox: Sandbox, traces: LangSmithStandIn) -> None:
    """The name is the field's, not a constant."""
    flux = flux_on(sandbox, model="shortapi/flux-2.0/text-to-image")
    with pytest.raises(ShortAPIError, match="invalid model"):
        flux.invoke("a fox", {"callbacks": [traces.tracer]})
    assert metadata_of(traces.runs[0])["ls_model_name"] == "shortapi/flux-2.0/text-to-image"


# --- in an agent --------------------------------------------------------------------------------


async def _agent_run(way: str, flux: ShortAPIFlux, answers: list[Any], config: Any) -> Any:
    tools = ShortAPIFluxToolkit(flux=flux).get_tools()
    agent = create_agent(ScriptedModel(answers=answers), tools=tools)
    asked: Any = {"messages": [("user", "Draw me a fox.")]}
    return agent.invoke(asked, config) if way == "sync" else await agent.ainvoke(asked, config)


@BOTH_WAYS
async def test_in_an_agent_the_cost_stands_once_in_the_whole_trace(
    way: str, sandbox: Sandbox, traces: LangSmithStandIn
) -> None:
    """LangSmith sums a trace from its runs: twice told would be twice paid."""
    asks = [tool_call("flux_text_to_image", prompt=f"a {beast}") for beast in ("fox", "heron")]
    config = {"callbacks": [traces.tracer]}
    flux = flux_on(sandbox, performance="schnell")
    await _agent_run(way, flux, [*asks, "Here they are."], config)
    tools = traces.named("flux_text_to_image")
    assert len(tools) == 2
    for tool, run in zip(tools, traces.named("ShortAPIFlux"), strict=True):
        assert run["parent_run_id"] == tool["id"]
        assert metadata_of(run)["ls_provider"] == "shortapi"
        assert metadata_of(run)["ls_model_name"] == FLUX_MODEL
        assert cost_of(run) == SCHNELL
    told = [cost for run in traces.runs if (cost := cost_of(run)) is not None]
    assert sum(told) == pytest.approx(float(sum(charge.usd for charge in sandbox.charges)))
    assert len(told) == 2


@BOTH_WAYS
@pytest.mark.parametrize("ending", ["refunded", "not refunded", "refused"])
async def test_in_an_agent_a_failure_shows_what_it_cost(
    ending: str, way: str, sandbox: Sandbox, traces: LangSmithStandIn
) -> None:
    """The answered failure is a failed run all the same, with its cost."""
    faults, cost = ENDINGS[ending]
    sandbox.inject(*faults)
    asks = tool_call("flux_text_to_image", prompt="a fox")
    flux = flux_on(sandbox, performance="schnell")
    answer = await _agent_run(way, flux, [asks, "Sorry."], {"callbacks": [traces.tracer]})
    assert answer["messages"][2].status == "error"
    (tool,) = traces.named("flux_text_to_image")
    (run,) = traces.named("ShortAPIFlux")
    assert tool["error"]
    assert run["error"]
    assert (cost_of(run), cost_of(tool)) == (cost, None)


# --- what is not in a trace ---------------------------------------------------------------------


@BOTH_WAYS
@pytest.mark.parametrize("content", ["text", "image"])
async def test_a_trace_holds_no_bytes_of_pictures(
    content: Any, way: str, traces: LangSmithStandIn
) -> None:
    """A picture that came inside the reply would fill a trace, as text that nobody can read."""
    inline = base64.b64encode(PICTURE).decode()
    created = said({"code": 0, "data": {"amount": "0.02", "job_id": JOB_ID}})
    images = {"images": [{"url": f"data:image/png;base64,{inline}"}]}
    ended = said(record(id=JOB_ID, status=2, credit="0.02", result=images))
    config: Any = {"callbacks": [traces.tracer]}
    call: Any = tool_call("flux_text_to_image", prompt="a fox").tool_calls[0]
    for _ in range(2):  # the Runnable, then the tool
        with ReplyServer(created, ended) as server:
            flux = _flux_of(server)
            tool = ShortAPIFluxTool(flux=flux, content=content)
            runnable, asked = (tool, call) if traces.runs else (flux, "a fox")
            if way == "sync":
                got: Any = runnable.invoke(asked, config)
            else:
                got = await runnable.ainvoke(asked, config)
    assert "inside the reply" in str(got.content)
    assert len(traces.named("ShortAPIFlux")) == 2, "else nothing was searched"
    assert b"inside the reply" in traces.sent
    pieces = [inline[start : start + 40] for start in range(0, len(inline) - 40, 40)]
    assert not [piece for piece in pieces if piece.encode() in traces.sent]
    assert json.dumps(PICTURE.decode("latin-1"))[1:40].encode() not in traces.sent


# --- a tracer in trouble ------------------------------------------------------------------------


class _BrokenClient:
    """A LangSmith client that can do nothing."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"no {name}")


@CALLS
async def test_a_broken_client_breaks_no_job(call: Call, sandbox: Sandbox) -> None:
    """A picture that was paid for is worth more than its trace."""
    client: Any = _BrokenClient()
    flux = flux_on(sandbox)
    config = {"callbacks": [LangChainTracer(client=client, project_name="tests")]}
    job = await _called(call, flux, "a fox", config)
    assert job.status == "succeeded"
    assert len(sandbox.charges) == 1


@CALLS
async def test_a_service_that_refuses_traces_breaks_no_job(call: Call, sandbox: Sandbox) -> None:
    """Likewise, where the client is well and the service behind it is not."""
    with langsmith_stand_in(status=403) as refusing:
        job = await _called(call, flux_on(sandbox), "fox", {"callbacks": [refusing.tracer]})
        assert refusing.sent
    assert job.status == "succeeded"
    assert len(sandbox.charges) == 1


@CALLS
async def test_a_run_that_takes_no_cost_breaks_no_job(
    call: Call, sandbox: Sandbox, traces: LangSmithStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Likewise, where LangSmith's run tree has changed its ways."""
    monkeypatch.delattr(RunTree, "set")
    job = await _called(call, flux_on(sandbox), "fox", {"callbacks": [traces.tracer]})
    assert job.status == "succeeded"
    assert [cost_of(run) for run in traces.runs] == [None]


@BOTH_WAYS
async def test_an_agent_with_a_broken_client_buys_once(way: str, sandbox: Sandbox) -> None:
    """Nor does a tracer's trouble make an agent call again."""
    client: Any = _BrokenClient()
    config = {"callbacks": [LangChainTracer(client=client, project_name="tests")]}
    asks = tool_call("flux_text_to_image", prompt="a fox")
    answer = await _agent_run(way, flux_on(sandbox), [asks, "Here it is."], config)
    assert answer["messages"][2].status == "success"
    assert len(sandbox.charges) == 1
