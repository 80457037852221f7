"""How a job is going, on every channel that LangChain and LangGraph have, told by its ids."""

from __future__ import annotations

import json
import subprocess
import sys
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, get_type_hints

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, ToolMessage
from langgraph.graph import END, START, StateGraph
from quick_flux import flux_on
from scripted_model import ScriptedModel
from typing_extensions import TypedDict, override

from langchain_shortapi_flux import FluxJob, ShortAPIFlux, ShortAPIFluxTool, ShortAPIFluxToolkit
from langchain_shortapi_flux.sandbox import Fault, Sandbox
from langchain_shortapi_flux.tool_progress import PROGRESS_EVENT, ProgressEvent, progress_event

if TYPE_CHECKING:
    from uuid import UUID

Way = Literal["sync", "async"]
BOTH_WAYS = pytest.mark.parametrize("way", ["sync", "async"])
NAME = "flux_text_to_image"
ASKED: Any = {"messages": [("user", "draw")]}
THREE_LOOKS = Fault("query", "status_word", times=2)
"""Two queries find the job running, the third its pictures: four snapshots with create's."""


def _call(call_id: str = "call-1", **arguments: Any) -> dict[str, Any]:
    args = arguments or {"prompt": "a secret fox"}
    return {"type": "tool_call", "id": call_id, "name": NAME, "args": args}


def _agent(flux: ShortAPIFlux, *calls: dict[str, Any]) -> Any:
    model = ScriptedModel(answers=[AIMessage("", tool_calls=list(calls)), "There."])
    return create_agent(model, tools=ShortAPIFluxToolkit(flux=flux).get_tools())


class _Heard(BaseCallbackHandler):
    """What a callback handler is told by custom events."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.runs: set[UUID] = set()

    @override
    def on_custom_event(self, name: str, data: Any, *, run_id: UUID, **kwargs: Any) -> None:
        assert name == PROGRESS_EVENT
        self.events.append(data)
        self.runs.add(run_id)


class _Channels(TypedDict):
    """What was heard, by channel."""

    custom: list[Any]
    tools: list[Any]
    handler: list[Any]


async def _listen(way: Way, agent: Any) -> tuple[_Channels, dict[str, Any]]:
    """Everything that one run tells, and the answers of its tools."""
    handler = _Heard()
    heard: _Channels = {"custom": [], "tools": [], "handler": handler.events}
    config = {"callbacks": [handler]}
    modes = ["custom", "tools", "values"]
    if way == "sync":
        chunks = list(agent.stream(ASKED, config, stream_mode=modes))
    else:
        chunks = [chunk async for chunk in agent.astream(ASKED, config, stream_mode=modes)]
    for mode, chunk in chunks:
        if mode == "custom":
            heard["custom"].append(chunk)
        elif mode == "tools" and chunk["event"] == "tool-output-delta":
            assert chunk["delta"]["tool_call_id"] == chunk["tool_call_id"]
            heard["tools"].append(chunk["delta"])
    messages = [chunk for mode, chunk in chunks if mode == "values"][-1]["messages"]
    answers = {one.tool_call_id: one for one in messages if isinstance(one, ToolMessage)}
    return heard, answers


def _check_payload(event: Any) -> None:
    """The documented keys, as plain JSON, without the prompt."""
    assert set(event) == set(get_type_hints(ProgressEvent))
    assert json.loads(json.dumps(event)) == event
    assert (event["type"], event["version"]) == ("flux_progress", 1)
    assert "secret" not in json.dumps(event)


@BOTH_WAYS
async def test_every_snapshot_is_told_on_every_channel(
    way: Way, sandbox: Sandbox, flux: ShortAPIFlux
) -> None:
    """Whichever channel a user interface listens to, it shows the whole story, with the ids."""
    sandbox.inject(THREE_LOOKS)
    heard, answers = await _listen(way, _agent(flux, _call()))
    (job,) = sandbox.jobs
    assert heard["custom"] == heard["tools"] == heard["handler"]
    events = heard["custom"]
    assert [event["status"] for event in events] == ["pending"] * 3 + ["succeeded"]
    assert [event["queries"] for event in events] == [0, 1, 2, 3]
    assert {event["tool_call_id"] for event in events} == {"call-1"}
    assert {event["job_id"] for event in events} == {job.job_id}
    assert {event["charge"] for event in events} == {"charged"}
    elapsed = [event["elapsed"] for event in events]
    assert elapsed == sorted(elapsed)
    artifact = answers["call-1"].artifact
    assert events[-1]["images"] == [image["url"] for image in artifact["images"]]
    assert events[-1]["cost"] == artifact["cost"] == "0.02"
    for event in events:
        _check_payload(event)


async def test_every_snapshot_is_a_custom_event_of_the_tools_run(
    sandbox: Sandbox, flux: ShortAPIFlux
) -> None:
    """``astream_events`` shows them with the run's id, by which a trace is found."""
    sandbox.inject(THREE_LOOKS)
    stream = _agent(flux, _call()).astream_events(ASKED, version="v2")
    events = [event async for event in stream]
    told = [event for event in events if event["event"] == "on_custom_event"]
    assert [event["data"]["status"] for event in told] == ["pending"] * 3 + ["succeeded"]
    assert {event["name"] for event in told} == {PROGRESS_EVENT}
    (started,) = (
        event for event in events if event["event"] == "on_tool_start" and event["name"] == NAME
    )
    assert {event["run_id"] for event in told} == {started["run_id"]}
    for event in told:
        _check_payload(event["data"])
        assert event["data"]["tool_call_id"] == "call-1"
        assert event["data"]["job_id"] == sandbox.jobs[0].job_id


@BOTH_WAYS
async def test_parallel_calls_are_told_apart(
    way: Way, sandbox: Sandbox, flux: ShortAPIFlux
) -> None:
    """Their snapshots come mixed; each belongs to one call and one job."""
    calls = [_call(f"call-{number}", prompt=f"fox {number}") for number in range(3)]
    heard, answers = await _listen(way, _agent(flux, *calls))
    made = {call_id: answer.artifact["job_id"] for call_id, answer in answers.items()}
    assert len(set(made.values())) == 3
    for events in (heard["custom"], heard["tools"], heard["handler"]):
        for call_id, job_id in made.items():
            own = [event for event in events if event["tool_call_id"] == call_id]
            assert [event["status"] for event in own] == ["pending", "succeeded"]
            assert {event["job_id"] for event in own} == {job_id}
        assert len(events) == 6


@BOTH_WAYS
async def test_the_failure_of_a_job_is_told_too(
    way: Way, sandbox: Sandbox, flux: ShortAPIFlux
) -> None:
    """Whoever watches must not wait for ever on a job that has ended."""
    sandbox.inject(Fault("create", "job_fails"))
    heard, answers = await _listen(way, _agent(flux, _call()))
    assert heard["custom"] == heard["tools"] == heard["handler"]
    assert [event["status"] for event in heard["custom"]] == ["pending", "failed"]
    assert heard["custom"][-1]["charge"] == answers["call-1"].artifact["charge"] == "refunded"
    for events in (heard["custom"], heard["tools"], heard["handler"]):
        told = [(event["cost"], event["refunded"]) for event in events]
        assert told == [("0.02", None), ("0.02", "0.02")]


@BOTH_WAYS
async def test_a_look_that_waits_tells_its_progress(
    way: Way, sandbox: Sandbox, flux: ShortAPIFlux
) -> None:
    """The second tool tells as the first does."""
    job_id = flux.create("a secret fox").job_id
    sandbox.inject(THREE_LOOKS)
    look = {**_call("look-1", job_id=job_id, wait=True), "name": "flux_get_job"}
    heard, _ = await _listen(way, _agent(flux, look))
    assert heard["custom"] == heard["tools"] == heard["handler"]
    events = heard["custom"]
    assert events[-1]["status"] == "succeeded"
    assert {(event["tool_call_id"], event["job_id"]) for event in events} == {("look-1", job_id)}
    for event in events:
        _check_payload(event)


@pytest.mark.parametrize(
    ("refunded", "told"), [(None, None), (Decimal(0), "0"), (Decimal("0.005"), "0.005")]
)
def test_what_was_given_back_is_told_as_the_service_reports_it(
    refunded: Decimal | None, told: str | None
) -> None:
    """It may be a part of the cost, and none is not the same as unreported."""
    known: Any = {"cost": Decimal("0.020"), "refunded": refunded}
    event = progress_event(FluxJob(job_id="6b03", status="failed", **known), None)
    assert (event["cost"], event["refunded"]) == ("0.020", told)
    _check_payload(event)


class _State(TypedDict, total=False):
    made: Any


@BOTH_WAYS
async def test_a_tool_called_by_a_users_own_node_tells_the_custom_stream(
    way: Way, sandbox: Sandbox, flux: ShortAPIFlux
) -> None:
    """No runtime is injected there, but the graph's stream is at hand."""
    tool = ShortAPIFluxTool(flux=flux)

    def node(_: _State) -> _State:
        return {"made": tool.invoke(_call())}

    async def anode(_: _State) -> _State:
        return {"made": await tool.ainvoke(_call())}

    graph: Any = StateGraph(_State)
    graph.add_node("draw", node if way == "sync" else anode)
    graph.add_edge(START, "draw")
    graph.add_edge("draw", END)
    app = graph.compile()
    if way == "sync":
        events = list(app.stream({}, stream_mode="custom"))
    else:
        events = [event async for event in app.astream({}, stream_mode="custom")]
    assert [event["status"] for event in events] == ["pending", "succeeded"]
    assert {event["tool_call_id"] for event in events} == {"call-1"}


@BOTH_WAYS
async def test_outside_of_a_graph_a_handler_is_told(
    way: Way, sandbox: Sandbox, flux: ShortAPIFlux
) -> None:
    """A bare call of the tool has a run of its own; plain arguments have no call's id."""
    tool = ShortAPIFluxTool(flux=flux)
    for asked, call_id in ((_call(), "call-1"), ({"prompt": "a secret fox"}, None)):
        handler = _Heard()
        config: Any = {"callbacks": [handler]}
        _ = tool.invoke(asked, config) if way == "sync" else await tool.ainvoke(asked, config)
        assert [event["status"] for event in handler.events] == ["pending", "succeeded"]
        assert {event["tool_call_id"] for event in handler.events} == {call_id}
        assert len(handler.runs) == 1
        for event in handler.events:
            _check_payload(event)


@BOTH_WAYS
async def test_where_nobody_listens_it_is_silent(
    way: Way,
    sandbox: Sandbox,
    flux: ShortAPIFlux,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Neither a warning nor a line of log, in a graph and outside of any."""
    tool = ShortAPIFluxTool(flux=flux)
    agent = _agent(flux, _call())
    if way == "sync":
        tool.invoke(_call())
        tool.invoke({"prompt": "a fox"})
        agent.invoke(ASKED)
    else:
        await tool.ainvoke(_call())
        await tool.ainvoke({"prompt": "a fox"})
        await agent.ainvoke(ASKED)
    assert len(sandbox.charges) == 3
    assert capsys.readouterr() == ("", "")
    assert caplog.records == []


_BARE_CALL = """
import asyncio, sys
from langchain_shortapi_flux import PollPolicy, ShortAPIFlux, ShortAPIFluxToolkit

flux = ShortAPIFlux(poll=PollPolicy.fixed(0.02))
tool, look = ShortAPIFluxToolkit(flux=flux).get_tools()
call = {"type": "tool_call", "id": "call-1", "name": "flux_text_to_image", "args": {"prompt": "a"}}
made = [tool.invoke(call), asyncio.run(tool.ainvoke(call))]
job_id = made[0].artifact["job_id"]
made.append(look.invoke({"job_id": job_id, "wait": True}))
assert [one if isinstance(one, str) else one.status for one in made[:2]] == ["success"] * 2, made
assert made[2].startswith("Made 1 image"), made
print(sorted(name for name in sys.modules if name.partition(".")[0] == "langgraph"))
"""


@pytest.mark.thorough
def test_a_bare_call_imports_no_langgraph(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package depends on langchain-core alone; a channel that is not there is left alone."""
    monkeypatch.setenv("SHORTAPI_BASE_URL", sandbox.base_url)
    monkeypatch.setenv("SHORTAPI_KEY", sandbox.api_key)
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", _BARE_CALL],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert (ended.stdout.strip(), ended.stderr) == ("[]", "")
    assert len(sandbox.charges) == 2


@BOTH_WAYS
async def test_a_replayed_call_tells_its_end_at_once(way: Way, sandbox: Sandbox) -> None:
    """What the ledger answers is told as well, so that a screen which waits is redrawn."""
    tool = ShortAPIFluxTool(flux=flux_on(sandbox))
    handler = _Heard()
    config: Any = {"configurable": {"thread_id": "thread-1"}, "callbacks": [handler]}
    for _ in range(2):
        _ = tool.invoke(_call(), config) if way == "sync" else await tool.ainvoke(_call(), config)
    assert [event["status"] for event in handler.events] == ["pending", "succeeded", "succeeded"]
    assert len({event["job_id"] for event in handler.events}) == 1
