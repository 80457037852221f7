"""``ShortAPIFluxToolkit``: buying with a patience, looking a job up for free, leaving early."""

from __future__ import annotations

import asyncio
import base64
import copy
import json
import logging
import pickle
import signal
from contextlib import aclosing
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_type_hints

import pytest
from blockbuster import blockbuster_ctx
from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.utils.function_calling import convert_to_openai_tool
from langgraph.checkpoint.memory import InMemorySaver
from leaping_time import leap_at_each_query
from pydantic import ValidationError
from quick_flux import QUICK_POLL, flux_on
from reply_server import ReplyServer
from scripted_model import ScriptedModel, tool_call
from transcripts import CREATED, JOB_ID, record, said
from typing_extensions import override

from langchain_shortapi_flux import (
    JobFailed,
    ShortAPIFlux,
    ShortAPIFluxTool,
    ShortAPIFluxToolkit,
)
from langchain_shortapi_flux.get_job_tool import JOB_ID_LENGTH_MAX, WAIT_SECONDS, FluxGetJobTool
from langchain_shortapi_flux.picture_tool import PictureTool
from langchain_shortapi_flux.sandbox import Fault, Sandbox
from langchain_shortapi_flux.spending import Budget
from langchain_shortapi_flux.tool_content import FailureArtifact, JobArtifact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from langchain_core.messages import BaseMessage
    from langchain_core.tools import BaseTool

Way = Literal["sync", "async"]
BOTH_WAYS = pytest.mark.parametrize("way", ["sync", "async"])
NAME = "flux_text_to_image"
THREAD: Any = {"configurable": {"thread_id": "thread-1"}}
LOGGER = "langchain_shortapi_flux"
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def _call(call_id: str = "call-1", **arguments: Any) -> dict[str, Any]:
    return {"type": "tool_call", "id": call_id, "name": NAME, "args": arguments}


def _look(job_id: str, call_id: str = "look-1", **arguments: Any) -> dict[str, Any]:
    args = {"job_id": job_id, **arguments}
    return {"type": "tool_call", "id": call_id, "name": "flux_get_job", "args": args}


def _asking(*calls: dict[str, Any]) -> AIMessage:
    return AIMessage("", tool_calls=list(calls))


async def _invoke(way: Way, tool: BaseTool, input: Any, config: Any = None) -> Any:
    return tool.invoke(input, config) if way == "sync" else await tool.ainvoke(input, config)


def _pickled(one: Any) -> Any:
    return pickle.loads(pickle.dumps(one))


def _creates(sandbox: Sandbox) -> int:
    return [call.on for call in sandbox.calls].count("create")


async def _until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 - the sandbox's books tell nobody of a change
        await asyncio.sleep(0)


def _check_job_artifact(artifact: Any) -> None:
    """Every documented key, plain JSON, and no picture's bytes."""
    assert set(artifact) == set(get_type_hints(JobArtifact))
    assert (artifact["type"], artifact["version"]) == ("flux_job", 1)
    assert json.loads(json.dumps(artifact)) == artifact
    assert all(set(image) == {"url", "path"} for image in artifact["images"])
    assert "base64" not in json.dumps(artifact)


# --- the two tools ------------------------------------------------------------------------------


def test_the_toolkit_gives_two_tools_over_one_runnable(flux: ShortAPIFlux) -> None:
    """They share the ledger and the key, so that one may ask for what the other bought."""
    kit = ShortAPIFluxToolkit(flux=flux, max_wait=2.5, content="image", save_to="images")
    buying, looking = kit.get_tools()
    assert isinstance(buying, ShortAPIFluxTool)
    assert isinstance(looking, FluxGetJobTool)
    assert (buying.content, looking.content) == ("image", "image")
    assert buying.save_to == looking.save_to == Path("images")
    assert (buying.name, looking.name) == (NAME, "flux_get_job")
    assert buying.flux is looking.flux is flux
    assert (buying.max_wait, looking.max_wait) == (2.5, WAIT_SECONDS)
    assert "never starts a new job" in looking.description
    assert list(looking.args) == ["job_id", "wait"]


def test_the_tools_show_pictures_alike_where_nothing_is_said(flux: ShortAPIFlux) -> None:
    """A picture looked up is a picture like one just made."""
    for tool in (FluxGetJobTool(flux=flux), *ShortAPIFluxToolkit(flux=flux).get_tools()):
        assert isinstance(tool, PictureTool)
        assert (tool.content, tool.save_to) == ("text", None)


@pytest.mark.parametrize("again", [_pickled, copy.copy, copy.deepcopy])
def test_a_copy_of_the_toolkit_is_as_good(
    again: Callable[[Any], Any], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole, or tool by tool; what is bought by one copy is found by the other's tool."""
    monkeypatch.setenv("SHORTAPI_KEY", sandbox.api_key)
    kit = ShortAPIFluxToolkit(flux=flux_on(sandbox), max_wait=20, content="image")
    other = again(kit)
    assert (other.flux, other.max_wait, other.content) == (kit.flux, 20, "image")
    looking = again(kit.get_tools()[1])
    assert convert_to_openai_tool(looking) == convert_to_openai_tool(kit.get_tools()[1])
    bought = other.get_tools()[0].invoke(_call(prompt="a fox")).artifact["job_id"]
    found = looking.invoke(_look(bought))
    assert (found.status, found.artifact["job_id"]) == ("success", bought)
    assert "buys" not in looking.invoke(_look("made-up-7")).content


def test_pickles_hold_no_key(sandbox: Sandbox) -> None:
    """What is unpickled reads the environment of its own side."""
    key = "ak-" + "0123456789abcdef" * 2
    kit = ShortAPIFluxToolkit(flux=flux_on(sandbox, api_key=key))
    for one in (kit, *kit.get_tools()):
        assert key.encode() not in pickle.dumps(one)
        assert _pickled(one).flux.api_key is None
    assert key.encode() in pickle.dumps([kit, key]), "else it could not be found"


@pytest.mark.parametrize("max_wait", [0, -1, float("inf"), float("nan")])
def test_a_patience_that_makes_no_sense_is_refused(max_wait: float, flux: ShortAPIFlux) -> None:
    """Zero seconds would make every job "still running"."""
    with pytest.raises(ValidationError, match="max_wait"):
        ShortAPIFluxToolkit(flux=flux, max_wait=max_wait)
    with pytest.raises(ValidationError, match="max_wait"):
        ShortAPIFluxTool(flux=flux, max_wait=max_wait)


# --- flux_get_job -------------------------------------------------------------------------------


@pytest.fixture
def looking(flux: ShortAPIFlux) -> FluxGetJobTool:
    """The tool that looks, on the sandbox."""
    return FluxGetJobTool(flux=flux)


@BOTH_WAYS
@pytest.mark.parametrize("wait", [False, True])
async def test_a_look_at_a_finished_job_gives_its_pictures(
    wait: bool, way: Way, sandbox: Sandbox, flux: ShortAPIFlux, looking: FluxGetJobTool
) -> None:
    """The pictures of a job that somebody else bought, or an earlier run."""
    job_id = flux.create("a fox", num_images=2).job_id
    message = await _invoke(way, looking, _look(job_id, wait=wait))
    assert (message.status, message.name, message.tool_call_id) == (
        "success",
        "flux_get_job",
        "look-1",
    )
    assert message.content.startswith("Made 2 images: ")
    _check_job_artifact(message.artifact)
    assert message.artifact["job_id"] == job_id
    assert all(image["url"] in message.content for image in message.artifact["images"])
    assert len(sandbox.jobs) == 1


@BOTH_WAYS
async def test_one_look_at_a_running_job_does_not_wait(
    way: Way, sandbox: Sandbox, flux: ShortAPIFlux, looking: FluxGetJobTool
) -> None:
    """An agent has other things to do meanwhile; who listens is told what was seen."""
    sandbox.inject(Fault("create", "job_never_ends"))
    job_id = flux.create("a fox").job_id
    heard = _Recorder()
    message = await _invoke(way, looking, _look(job_id), {"callbacks": [heard]})
    event, _ = heard.told
    assert (event["job_id"], event["tool_call_id"], event["queries"]) == (job_id, "look-1", 1)
    assert message.status == "success"
    assert "Still running" in message.content
    assert f"ask flux_get_job for job_id {job_id}" in message.content
    _check_job_artifact(message.artifact)
    assert message.artifact["status"] == "pending"
    assert (sandbox.jobs[0].queries, len(sandbox.jobs)) == (1, 1)


@BOTH_WAYS
async def test_a_look_that_waits_gives_up_in_time(
    way: Way, sandbox: Sandbox, flux: ShortAPIFlux
) -> None:
    """Waiting is not for ever, and its end is no failure of the job."""
    sandbox.inject(Fault("create", "job_never_ends"))
    job_id = flux.create("a fox").job_id
    looking = FluxGetJobTool(flux=flux, max_wait=0.1)
    message = await _invoke(way, looking, _look(job_id, wait=True))
    assert message.status == "success"
    assert "Still running" in message.content
    assert len(sandbox.jobs) == 1


@BOTH_WAYS
async def test_a_look_that_waits_asks_until_the_job_is_done(
    way: Way, sandbox: Sandbox, flux: ShortAPIFlux, looking: FluxGetJobTool
) -> None:
    """It comes back with the pictures, not with "still running"."""
    sandbox.inject(Fault("query", "status_word", word="processing", times=2))
    message = await _invoke(way, looking, _look(flux.create("a fox").job_id, wait=True))
    assert message.content.startswith("Made 1 image: ")
    assert (sandbox.jobs[0].queries, len(sandbox.jobs)) == (3, 1)


@BOTH_WAYS
@pytest.mark.parametrize("wait", [False, True])
@pytest.mark.parametrize(
    ("kind", "charge", "says"),
    [
        ("job_fails", "refunded", "It was charged and refunded."),
        ("job_fails_unrefunded", "charged", "It was charged."),
    ],
)
async def test_a_look_at_a_failed_job_is_answered_as_a_failure(
    kind: str, charge: str, says: str, wait: bool, way: Way, sandbox: Sandbox, flux: ShortAPIFlux
) -> None:
    """With the same words and the same artifact as the failure of a purchase."""
    sandbox.inject(Fault("create", kind, info="too dark"))
    job_id = flux.create("a fox").job_id
    message = await _invoke(way, FluxGetJobTool(flux=flux), _look(job_id, wait=wait))
    assert message.status == "error"
    assert "too dark" in message.content
    assert says in message.content
    artifact = message.artifact
    assert set(artifact) == set(get_type_hints(FailureArtifact))
    assert (artifact["error"], artifact["job_id"], artifact["charge"]) == (
        "JobFailed",
        job_id,
        charge,
    )
    assert len(sandbox.jobs) == 1


@BOTH_WAYS
@pytest.mark.parametrize("wait", [False, True])
async def test_a_look_at_an_unknown_job_is_answered(
    wait: bool, way: Way, sandbox: Sandbox, looking: FluxGetJobTool
) -> None:
    """Models make ids up."""
    message = await _invoke(way, looking, _look("made-up-7", wait=wait))
    assert message.status == "error"
    assert "made-up-7" in message.content
    assert message.artifact["job_id"] == "made-up-7"
    assert message.artifact["charge"] == "unknown"
    assert sandbox.jobs == ()


@BOTH_WAYS
@pytest.mark.parametrize(
    "arguments",
    [
        {"job_id": ""},
        {"job_id": " "},
        {"job_id": "x" * (JOB_ID_LENGTH_MAX + 1)},
        {},
        {"id": "x"},
    ],
)
async def test_wrong_arguments_of_a_look_are_explained(
    arguments: dict[str, Any], way: Way, sandbox: Sandbox, looking: FluxGetJobTool
) -> None:
    """Nothing is asked for a job without an id."""
    call = {**_look("x"), "args": arguments}
    message = await _invoke(way, looking, call)
    assert message.status == "error"
    for part in ("job_id", "Nothing was charged", "Correct the arguments and call again."):
        assert part in message.content
    assert len(message.content) < 300
    assert set(message.artifact) == set(get_type_hints(FailureArtifact))
    assert (message.artifact["error"], message.artifact["charge"]) == ("InvalidRequest", "none")
    assert sandbox.calls == ()


@BOTH_WAYS
async def test_a_look_that_heard_nothing_does_not_say_that_the_job_runs(
    way: Way, sandbox: Sandbox, flux: ShortAPIFlux
) -> None:
    """Nobody knows what became of it; a model told otherwise would wait for ever."""
    job_id = flux.create("a fox").job_id
    sandbox.inject(Fault("query", "drop_before", times=100))
    message = await _invoke(way, FluxGetJobTool(flux=flux, max_wait=0.1), _look(job_id, wait=True))
    assert message.status == "error"
    assert "running: job" not in message.content
    assert message.artifact["error"] == "JobTimeout"
    assert message.artifact["job_id"] == job_id


@BOTH_WAYS
async def test_the_tools_run_without_an_answer_around_them(
    way: Way, sandbox: Sandbox, flux: ShortAPIFlux
) -> None:
    """``run`` is what older agents call; it gives the text, and raises what went wrong."""
    buying, looking = ShortAPIFluxToolkit(flux=flux).get_tools()

    async def run(tool: BaseTool, arguments: dict[str, Any]) -> Any:
        return tool.run(arguments) if way == "sync" else await tool.arun(arguments)

    assert str(await run(buying, {"prompt": "a fox"})).startswith("Made 1 image")
    (job,) = sandbox.jobs
    assert str(await run(looking, {"job_id": job.job_id})).startswith("Made 1 image")
    sandbox.inject(Fault("create", "job_fails"))
    with pytest.raises(JobFailed):
        await run(buying, {"prompt": "a fox"})


@BOTH_WAYS
@pytest.mark.parametrize("wait", [False, True])
async def test_a_look_saves_and_shows_pictures_as_the_first_tool_does(
    wait: bool, way: Way, sandbox: Sandbox, flux: ShortAPIFlux, tmp_path: Path
) -> None:
    """An agent that was told "still running" gets the same in the end."""
    job_id = flux.create("a fox", num_images=2).job_id
    tool = FluxGetJobTool(flux=flux, content="image", save_to=tmp_path / "images")
    message = await _invoke(way, tool, _look(job_id, wait=wait))
    assert message.status == "success"
    _check_job_artifact(message.artifact)
    images = message.artifact["images"]
    files = sorted((tmp_path / "images").glob("*.png"))
    assert [image["path"] for image in images] == [str(path) for path in files]
    assert len(files) == 2
    text, *blocks = message.content
    assert all(str(path) in text["text"] for path in files)
    assert blocks == [{"type": "image", "url": image["url"]} for image in images]
    # Files of an earlier look, or of the first tool, are kept as they are.
    files[0].write_bytes(b"retouched by hand")
    again = await _invoke(way, tool, _look(job_id, wait=wait))
    assert [image["path"] for image in again.artifact["images"]] == [str(path) for path in files]
    assert files[0].read_bytes() == b"retouched by hand"
    assert len(sandbox.charges) == 1


@BOTH_WAYS
async def test_a_look_at_a_running_job_saves_nothing(
    way: Way, sandbox: Sandbox, flux: ShortAPIFlux, tmp_path: Path
) -> None:
    """There is nothing to save yet, and no folder to make for it."""
    sandbox.inject(Fault("create", "job_never_ends"))
    tool = FluxGetJobTool(flux=flux, content="image", save_to=tmp_path / "images")
    message = await _invoke(way, tool, _look(flux.create("a fox").job_id))
    assert "Still running" in message.content
    assert not (tmp_path / "images").exists()


@BOTH_WAYS
async def test_a_look_that_cannot_save_gives_the_urls(
    way: Way, sandbox: Sandbox, flux: ShortAPIFlux, tmp_path: Path
) -> None:
    """The job is paid for, and a look is free: there is nothing to save by refusing it."""
    job_id = flux.create("a fox").job_id
    (tmp_path / "file").write_text("in the way")
    tool = FluxGetJobTool(flux=flux, save_to=tmp_path / "file")
    message = await _invoke(way, tool, _look(job_id))
    assert message.status == "success"
    (image,) = message.artifact["images"]
    assert image["path"] is None
    assert image["url"] in message.content
    assert "could not be saved" in message.content
    assert str(tmp_path / "file") in message.content


# --- max_wait -----------------------------------------------------------------------------------


@BOTH_WAYS
async def test_past_its_patience_the_tool_says_so_and_a_look_gets_the_pictures(
    way: Way, sandbox: Sandbox, flux: ShortAPIFlux
) -> None:
    """The agent is not held, and nothing is bought twice: the whole of it, by one charge."""
    sandbox.inject(Fault("create", "job_never_ends"))

    class _Model(ScriptedModel):
        @override
        def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> Any:
            if len(self.asked) == 1:  # it has read "still running", and asks for the job it names
                artifact: Any = messages[-1].artifact  # type: ignore[attr-defined]
                self.answers[1] = tool_call("flux_get_job", job_id=artifact["job_id"], wait=True)
                sandbox.finish()
            return super()._generate(messages, *args, **kwargs)

    model = _Model(answers=[tool_call(NAME, prompt="a fox"), None, "There."])
    tools = ShortAPIFluxToolkit(flux=flux, max_wait=0.15).get_tools()
    agent: Any = create_agent(model, tools=tools)
    asked = {"messages": [("user", "draw")]}
    state = agent.invoke(asked) if way == "sync" else await agent.ainvoke(asked)
    waiting, made = (one for one in state["messages"] if isinstance(one, ToolMessage))
    (job,) = sandbox.jobs
    assert (waiting.status, made.status) == ("success", "success")
    for part in ("Still running", f"ask flux_get_job for job_id {job.job_id}", "second job"):
        assert part in waiting.content
    _check_job_artifact(waiting.artifact)
    assert (waiting.artifact["status"], waiting.artifact["charge"]) == ("pending", "charged")
    assert waiting.artifact["elapsed"] < 5.0  # the Runnable's own deadline comes after ten seconds
    assert made.artifact["images"][0]["url"] in made.content
    assert (_creates(sandbox), len(sandbox.charges)) == (1, 1)


@BOTH_WAYS
async def test_a_create_slower_than_the_patience_is_not_cut(way: Way, sandbox: Sandbox) -> None:
    """Cut, it would be paid for and lost; so the tool waits for its id and names it."""
    sandbox.inject(Fault("create", "hold", seconds=0.2))
    tool = ShortAPIFluxTool(flux=flux_on(sandbox), max_wait=0.05)
    message = await _invoke(way, tool, _call(prompt="a fox"), THREAD)
    (job,) = sandbox.jobs
    assert message.status == "success"
    assert "Still running" in message.content
    assert f"ask flux_get_job for job_id {job.job_id}" in message.content
    _check_job_artifact(message.artifact)
    assert (message.artifact["job_id"], message.artifact["status"]) == (job.job_id, "pending")
    assert message.artifact["charge"] == "charged"
    # Later the same call gives the pictures of that job.
    again = await _invoke(way, tool, _call(prompt="a fox"), THREAD)
    assert again.artifact["status"] == "succeeded"
    assert (_creates(sandbox), len(sandbox.charges)) == (1, 1)


@BOTH_WAYS
@pytest.mark.parametrize("max_wait", [None, 60.0])
async def test_the_runnables_own_deadline_is_a_failure(
    max_wait: float | None, way: Way, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job past its whole time is no "still running"; its id is said all the same."""
    sandbox.inject(Fault("create", "job_never_ends"))
    leap_at_each_query(monkeypatch, sandbox)
    tool = ShortAPIFluxTool(flux=flux_on(sandbox), max_wait=max_wait)
    message = await _invoke(way, tool, _call(prompt="a fox"))
    (job,) = sandbox.jobs
    assert message.status == "error"
    assert message.artifact["error"] == "JobTimeout"
    assert message.artifact["job_id"] == job.job_id
    assert message.artifact["charge"] == "charged"
    for part in ("It was charged.", f"flux_get_job with job_id {job.job_id}", "second job"):
        assert part in message.content


# --- budget -------------------------------------------------------------------------------------


@BOTH_WAYS
async def test_each_answer_says_what_is_left_of_the_budget(way: Way, sandbox: Sandbox) -> None:
    """A picture, a failure, a job that runs, a look at it, a request that would be too dear."""
    budget = Budget(usd="0.10")
    kit = ShortAPIFluxToolkit(flux=flux_on(sandbox, budget=budget), max_wait=0.15)
    buying, looking = kit.get_tools()

    async def left(tool: BaseTool, call: dict[str, Any]) -> tuple[str, str]:
        message = await _invoke(way, tool, call)
        *_, sentence = message.content.splitlines()
        return message.status, sentence.removesuffix(" USD of the budget are left.")

    assert await left(buying, _call(prompt="a fox")) == ("success", f"{budget.left:f}")
    assert Decimal("0.07") < budget.left < Decimal("0.09")
    sandbox.inject(Fault("create", "job_fails"), Fault("create", "job_never_ends"))
    assert await left(buying, _call(prompt="a dark fox")) == ("error", f"{budget.left:f}")
    assert await left(buying, _call(prompt="an owl")) == ("success", f"{budget.left:f}")
    assert await left(looking, _look(sandbox.jobs[-1].job_id)) == ("success", f"{budget.left:f}")
    dear = _call(prompt="a wolf", num_images=8)
    assert await left(buying, dear) == ("error", f"{budget.left:f}")
    assert await left(buying, _call(prompt=" ")) == ("error", f"{budget.left:f}")
    assert _creates(sandbox) == 3


# --- leaving early ------------------------------------------------------------------------------


def _assert_left(sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> str:
    """The log names the job; gives its id."""
    (job,) = sandbox.jobs
    told = [entry.getMessage() for entry in caplog.records if entry.name == LOGGER]
    (line,) = (text for text in told if text.startswith("stopped"))
    assert job.job_id in line
    return job.job_id


@pytest.fixture
def endless(sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> ShortAPIFluxTool:
    """A tool whose first job does not end by itself."""
    caplog.set_level(logging.WARNING, LOGGER)
    sandbox.inject(Fault("create", "job_never_ends"))
    return ShortAPIFluxTool(flux=flux_on(sandbox))


@BOTH_WAYS
async def test_leaving_a_stream_tells_the_jobs_id(
    way: Way, sandbox: Sandbox, endless: ShortAPIFluxTool, caplog: pytest.LogCaptureFixture
) -> None:
    """``break`` in a notebook: no poller stays behind, and the key brings the job back."""
    flux = endless.flux
    asked: dict[str, Any] = {"prompt": "a fox", "request_key": "order 7"}
    if way == "sync":
        for job in flux.stream(asked):
            if job.queries:
                break
    else:
        async with aclosing(flux.astream(asked)) as jobs:  # type: ignore[type-var]
            async for job in jobs:
                if job.queries:
                    break
    job_id = _assert_left(sandbox, caplog)
    calls = len(sandbox.calls)
    sandbox.finish()
    again = flux.invoke(asked) if way == "sync" else await flux.ainvoke(asked)
    assert (again.job_id, again.status) == (job_id, "succeeded")
    assert len(sandbox.calls) == calls + 1
    assert len(sandbox.charges) == 1


async def test_a_cancelled_tool_call_stops_at_once(
    sandbox: Sandbox, endless: ShortAPIFluxTool, caplog: pytest.LogCaptureFixture
) -> None:
    """A thread would go on polling; this one is gone when the cancellation is."""
    task = asyncio.create_task(endless.ainvoke(_call(prompt="a fox"), THREAD))
    await _until(lambda: [job for job in sandbox.jobs if job.queries])
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    job_id = _assert_left(sandbox, caplog)
    sandbox.finish()
    again = await endless.ainvoke(_call(prompt="a fox"), THREAD)
    assert again.artifact["job_id"] == job_id
    assert (_creates(sandbox), len(sandbox.charges)) == (1, 1)


async def test_leaving_an_agents_stream_stops_its_calls(
    sandbox: Sandbox, endless: ShortAPIFluxTool, caplog: pytest.LogCaptureFixture
) -> None:
    """``break`` out of the agent's own stream cancels what runs inside; a resume follows it."""
    model = ScriptedModel(answers=[_asking(_call(prompt="a fox")), "There."])
    agent: Any = create_agent(model, tools=[endless], checkpointer=InMemorySaver())
    stream = agent.astream({"messages": [("user", "draw")]}, THREAD, stream_mode="custom")
    async with aclosing(stream) as chunks:
        async for chunk in chunks:
            if chunk["queries"]:
                break
    job_id = _assert_left(sandbox, caplog)
    sandbox.finish()
    state = await agent.ainvoke(None, THREAD)
    (made,) = (one for one in state["messages"] if isinstance(one, ToolMessage))
    assert made.artifact["job_id"] == job_id
    assert (_creates(sandbox), len(sandbox.charges)) == (1, 1)


class _Listener(BaseCallbackHandler):
    """Does something as soon as a query of the job has been told of."""

    raise_error = True

    def __init__(self, act: Callable[[], object]) -> None:
        self._act = act

    @override
    def on_custom_event(self, name: str, data: Any, **kwargs: Any) -> None:
        if data["queries"]:
            self._act()


class _Recorder(BaseCallbackHandler):
    """Keeps what a trace would hold of a tool's run."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    @override
    def on_tool_end(self, output: Any, **kwargs: Any) -> None:
        self.told.append(output)

    @override
    def on_custom_event(self, name: str, data: Any, **kwargs: Any) -> None:
        self.told.append(data)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Where the suite runs in the background, interrupts are ignored from the start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_stops_a_blocking_call_at_once(
    sandbox: Sandbox, endless: ShortAPIFluxTool, caplog: pytest.LogCaptureFixture
) -> None:
    """The traceback is still held when the user reads the log, so nothing may wait for its end."""
    config: Any = {**THREAD, "callbacks": [_Listener(lambda: signal.raise_signal(signal.SIGINT))]}
    with pytest.raises(KeyboardInterrupt):
        endless.invoke(_call(prompt="a fox"), config)
    job_id = _assert_left(sandbox, caplog)
    sandbox.finish()
    again = endless.invoke(_call(prompt="a fox"), THREAD)
    assert again.artifact["job_id"] == job_id
    assert len(sandbox.charges) == 1


@BOTH_WAYS
async def test_a_listener_that_fails_leaves_the_jobs_id_behind(
    way: Way, sandbox: Sandbox, endless: ShortAPIFluxTool, caplog: pytest.LogCaptureFixture
) -> None:
    """A handler may insist on its error (``raise_error``); the job is paid for all the same."""

    def fail() -> None:
        raise LookupError("no such listener")

    with pytest.raises(LookupError):
        await _invoke(
            way, endless, _call(prompt="a fox"), {**THREAD, "callbacks": [_Listener(fail)]}
        )
    job_id = _assert_left(sandbox, caplog)
    sandbox.finish()
    again = await _invoke(way, endless, _call(prompt="a fox"), THREAD)
    assert again.artifact["job_id"] == job_id
    assert len(sandbox.charges) == 1


@BOTH_WAYS
async def test_leaving_a_look_that_waits_tells_the_jobs_id(
    way: Way, sandbox: Sandbox, endless: ShortAPIFluxTool, caplog: pytest.LogCaptureFixture
) -> None:
    """The same for the tool that only looks."""
    job_id = endless.flux.create("a fox").job_id

    def fail() -> None:
        raise LookupError("no such listener")

    looking = FluxGetJobTool(flux=endless.flux)
    with pytest.raises(LookupError):
        await _invoke(way, looking, _look(job_id, wait=True), {"callbacks": [_Listener(fail)]})
    assert _assert_left(sandbox, caplog) == job_id


# --- what the model reads -----------------------------------------------------------------------


@BOTH_WAYS
async def test_image_blocks_are_the_users_choice(
    way: Way, sandbox: Sandbox, flux: ShortAPIFlux
) -> None:
    """By default text alone, which every provider takes."""
    asked = _call(prompt="a fox", num_images=2)
    text = await _invoke(way, ShortAPIFluxTool(flux=flux), asked)
    assert isinstance(text.content, str)
    message = await _invoke(way, ShortAPIFluxTool(flux=flux, content="image"), asked)
    _check_job_artifact(message.artifact)
    urls = [image["url"] for image in message.artifact["images"]]
    assert message.content[0]["type"] == "text"
    assert message.content[1:] == [{"type": "image", "url": url} for url in urls]
    assert [block["type"] for block in message.content_blocks] == ["text", "image", "image"]


@BOTH_WAYS
async def test_saved_pictures_are_named_by_their_paths(
    way: Way, sandbox: Sandbox, tmp_path: Path
) -> None:
    """Paths are short and stay true; a replay finds the files and keeps them as they are."""
    folder = tmp_path / "images"
    tool = ShortAPIFluxTool(flux=flux_on(sandbox), save_to=folder)
    message = await _invoke(way, tool, _call(prompt="a fox", num_images=2), THREAD)
    paths = [image["path"] for image in message.artifact["images"]]
    assert paths == [str(path) for path in sorted(folder.glob("*.png"))]
    assert all(path in message.content for path in paths)
    assert "http" not in message.content
    _check_job_artifact(message.artifact)
    (folder / paths[0]).write_bytes(b"retouched by hand")
    calls = len(sandbox.calls)
    again = await _invoke(way, tool, _call(prompt="a fox", num_images=2), THREAD)
    assert again.content == message.content
    assert (folder / paths[0]).read_bytes() == b"retouched by hand"
    assert len(list(folder.glob("*.png"))) == 2
    assert len(sandbox.calls) == calls
    assert len(sandbox.charges) == 1


@BOTH_WAYS
async def test_a_failing_download_still_gives_the_urls(
    way: Way, sandbox: Sandbox, tmp_path: Path
) -> None:
    """The job is paid for: its pictures must not be lost with a disk or a line."""
    sandbox.inject(Fault("image", "error", times=20, status=404))
    tool = ShortAPIFluxTool(flux=flux_on(sandbox), save_to=tmp_path / "images")
    message = await _invoke(way, tool, _call(prompt="a fox"))
    assert message.status == "success"
    (image,) = message.artifact["images"]
    assert image["path"] is None
    assert image["url"] in message.content
    assert "could not be saved" in message.content


UNWRITABLE = {
    "a file": ("file", "File exists"),
    "below a file": ("file/images", "Not a directory"),
    "no path": ("a\0b", "it is no path"),
}


@BOTH_WAYS
@pytest.mark.parametrize("case", UNWRITABLE)
async def test_a_folder_that_cannot_be_written_to_is_told_before_anything_is_bought(
    case: str, way: Way, sandbox: Sandbox, tmp_path: Path
) -> None:
    """The user mends it, and no picture is paid for that nobody can keep."""
    name, reason = UNWRITABLE[case]
    (tmp_path / "file").write_text("in the way")
    tool = ShortAPIFluxTool(flux=flux_on(sandbox), save_to=tmp_path / name)
    message = await _invoke(way, tool, _call(prompt="a fox"), THREAD)
    assert message.status == "error"
    for part in ("save_to=", repr(str(tmp_path / name)), reason, "Nothing was charged."):
        assert part in message.content
    assert message.artifact["error"] == "ConfigurationError"
    assert sandbox.calls == ()
    # Once it is mended, the same call buys.
    tool.save_to = tmp_path / "images"
    assert (await _invoke(way, tool, _call(prompt="a fox"), THREAD)).status == "success"


async def test_looking_at_the_folder_does_not_hold_up_the_event_loop(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    """It may lie on a network's drive."""
    tool = ShortAPIFluxTool(flux=flux_on(sandbox), save_to=tmp_path / "images")
    await tool.ainvoke(_call(prompt="a wolf"))  # what is imported on first use is read from disk
    with blockbuster_ctx():
        message = await tool.ainvoke(_call(prompt="a fox"))
    assert message.status == "success"


@BOTH_WAYS
@pytest.mark.parametrize("content", ["text", "image"])
@pytest.mark.parametrize("saving", [False, True])
async def test_the_bytes_of_inline_pictures_reach_nobody(
    saving: bool, content: Literal["text", "image"], way: Way, tmp_path: Path
) -> None:
    """A picture of 120 KB is 80,000 tokens as text, and lies in every checkpoint and trace."""
    text = base64.b64encode(PNG).decode()
    images = [{"url": f"data:image/png;base64,{text}"}]
    ended = said(record(status=2, result={"images": images}))
    with ReplyServer(CREATED, ended) as server:
        flux = ShortAPIFlux(base_url=server.base_url, api_key="k", poll=QUICK_POLL)
        folder = tmp_path if saving else None
        tool = ShortAPIFluxTool(flux=flux, content=content, save_to=folder)
        message = await _invoke(way, tool, _call(prompt="a fox"), THREAD)
    assert message.status == "success"
    assert text not in json.dumps([message.content, message.artifact])
    assert JOB_ID in str(message.content)
    _check_job_artifact(message.artifact)
    if saving:
        (path,) = tmp_path.glob("*.png")  # noqa: ASYNC240 - nothing else runs on this loop
        assert path.read_bytes() == PNG
        assert str(path) in str(message.content)


@BOTH_WAYS
@pytest.mark.parametrize("wait", [False, True])
async def test_the_bytes_of_inline_pictures_that_are_looked_up_reach_nobody(
    wait: bool, way: Way, tmp_path: Path
) -> None:
    """The same for the tool that looks, on every way that it answers and is watched."""
    text = base64.b64encode(PNG).decode()
    images = [{"url": f"data:image/png;base64,{text}"}]
    heard = _Recorder()
    with ReplyServer(said(record(status=2, result={"images": images}))) as server:
        flux = ShortAPIFlux(base_url=server.base_url, api_key="k", poll=QUICK_POLL)
        tool = FluxGetJobTool(flux=flux, content="image", save_to=tmp_path)
        message = await _invoke(way, tool, _look(JOB_ID, wait=wait), {"callbacks": [heard]})
    assert message.status == "success"
    _check_job_artifact(message.artifact)
    assert heard.told, "else nothing was searched"
    assert text not in json.dumps([message.content, message.artifact]) + repr(heard.told)
    (path,) = tmp_path.glob("*.png")  # noqa: ASYNC240 - nothing else runs on this loop
    assert path.read_bytes() == PNG


@BOTH_WAYS
async def test_every_failure_says_what_happened_and_what_to_do(way: Way, sandbox: Sandbox) -> None:
    """The three things that a model needs: what, whether it was charged, what to do with the id."""
    tool = ShortAPIFluxTool(flux=flux_on(sandbox))
    said_of: dict[str, tuple[str, ...]] = {
        "job_fails": ("generation failed", "charged and refunded", "changed prompt"),
        "job_fails_unrefunded": ("generation failed", "It was charged.", "changed prompt"),
        "no_images": ("gave no picture", "It was charged.", "flux_get_job with job_id"),
        "drop_after": ("create was sent", "not known", "Do not call again"),
    }
    for number, (kind, parts) in enumerate(said_of.items()):
        sandbox.inject(Fault("create", kind))
        message = await _invoke(way, tool, _call(f"call-{number}", prompt="a fox"), THREAD)
        assert message.status == "error"
        for part in parts:
            assert part in message.content
        assert set(message.artifact) == set(get_type_hints(FailureArtifact))
        assert json.loads(json.dumps(message.artifact)) == message.artifact
        assert message.artifact["advice"] in message.content
        if kind != "drop_after":
            assert message.artifact["job_id"] == sandbox.jobs[-1].job_id
            assert sandbox.jobs[-1].job_id in message.content


@pytest.mark.parametrize("wait", [False, True])
def test_a_look_that_fails_does_not_speak_of_buying(wait: bool, sandbox: Sandbox) -> None:
    """It never buys, and a model told otherwise goes in circles."""
    sandbox.inject(Fault("create", "no_images"))
    flux = flux_on(sandbox)
    job = flux.create("a fox")
    _, look = ShortAPIFluxToolkit(flux=flux).get_tools()
    for job_id in (job.job_id, "65f0c0ffee65f0c0ffee65f0"):
        call = {"type": "tool_call", "id": "1", "name": look.name, "args": {"job_id": job_id}}
        call["args"] = {"job_id": job_id, "wait": wait}
        answer = look.invoke(call)
        assert answer.status == "error"
        assert "buys" not in answer.content
        assert "only looked" in answer.artifact["advice"]
