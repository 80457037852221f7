"""``ShortAPIFluxTool`` as models, agents and graphs call it, against the sandbox."""

from __future__ import annotations

import copy
import json
import pickle
from typing import TYPE_CHECKING, Any, Literal, get_type_hints

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.utils.function_calling import convert_to_openai_tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Command, interrupt
from leaping_time import leap_at_each_query
from pydantic import BaseModel, SecretStr, ValidationError
from quick_flux import flux_on
from scripted_model import ScriptedModel
from typing_extensions import override

from langchain_shortapi_flux import FluxRequest, JobFailed, ShortAPIFlux, ShortAPIFluxTool
from langchain_shortapi_flux.job import ASPECT_RATIOS, IMAGE_COUNTS, PERFORMANCES
from langchain_shortapi_flux.sandbox import Fault, Sandbox
from langchain_shortapi_flux.tool_content import FailureArtifact

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_core.tools import ToolException

Way = Literal["sync", "async"]
BOTH_WAYS = pytest.mark.parametrize("way", ["sync", "async"])
NAME = "flux_text_to_image"
THREAD: Any = {"configurable": {"thread_id": "thread-1"}}


@pytest.fixture
def tool(flux: ShortAPIFlux) -> ShortAPIFluxTool:
    """A tool on the sandbox."""
    return ShortAPIFluxTool(flux=flux)


def _call(call_id: str | None = "call-1", /, **arguments: Any) -> dict[str, Any]:
    return {"type": "tool_call", "id": call_id, "name": NAME, "args": arguments}


async def _invoke(way: Way, tool: Any, input: Any, config: Any = None) -> Any:
    return tool.invoke(input, config) if way == "sync" else await tool.ainvoke(input, config)


# --- answers ------------------------------------------------------------------------------------


@BOTH_WAYS
async def test_a_tool_call_is_answered_with_text_and_artifact(
    way: Way, sandbox: Sandbox, tool: ShortAPIFluxTool
) -> None:
    """The text is for the model, the artifact for the program."""
    asked = _call(prompt="a secret fox", aspect_ratio="16:9", num_images="2", performance="schnell")
    message = await _invoke(way, tool, asked)
    (job,) = sandbox.jobs
    assert isinstance(message, ToolMessage)
    assert (message.status, message.tool_call_id, message.name) == ("success", "call-1", NAME)
    for part in ("Made 2 images", "16:9", "schnell", job.job_id, "0.002 USD", "temporary"):
        assert part in str(message.content)
    artifact = message.artifact
    assert json.loads(json.dumps(artifact)) == artifact
    assert artifact["job_id"] == job.job_id
    assert all(image["url"] in str(message.content) for image in artifact["images"])
    assert len(artifact["images"]) == 2
    assert "secret" not in json.dumps(artifact) + str(message.content)


@BOTH_WAYS
async def test_plain_arguments_and_plain_text_are_answered_with_text(
    way: Way, sandbox: Sandbox, tool: ShortAPIFluxTool
) -> None:
    """LangChain gives an artifact to tool calls alone."""
    for asked in ({"prompt": "a fox"}, "a fox", _call(None, prompt="a fox")):
        text = await _invoke(way, tool, asked)
        assert isinstance(text, str)
        assert text.startswith("Made 1 image: aspect ratio 1:1, dev")
    assert [job.args["prompt"] for job in sandbox.jobs] == ["a fox"] * 3


FAULTS: dict[str, tuple[Fault, str, str, str, int]] = {
    # The fault, the error that it becomes, what the text says, its charge, how many creates.
    "wrong key": (
        Fault("create", "refuse", status=401, info="no such key"),
        "AuthenticationFailed",
        "Nothing was charged. Calling again will not help",
        "none",
        1,
    ),
    "no balance": (
        Fault("create", "refuse", info="insufficient balance"),
        "InsufficientBalance",
        "Nothing was charged. Calling again will not help",
        "none",
        1,
    ),
    "refused": (
        Fault("create", "refuse", info="prompt is not allowed"),
        "InvalidRequest",
        "Correct the arguments and call again",
        "none",
        1,
    ),
    "too many requests": (
        Fault("create", "rate_limited", times=4),
        "RateLimited",
        "It may be tried again in a minute",
        "none",
        4,
    ),
    "unstable": (
        Fault("create", "code_3000", times=4),
        "ServiceUnavailable",
        "It may be tried again in a minute",
        "none",
        4,
    ),
    "answer lost": (
        Fault("create", "drop_after"),
        "CreateOutcomeUnknown",
        "Whether it was charged is not known. Do not call again",
        "unknown",
        1,
    ),
    "failed": (
        Fault("create", "job_fails", info="too dark"),
        "JobFailed",
        "too dark",
        "refunded",
        1,
    ),
    "no pictures": (
        Fault("create", "no_images"),
        "UnexpectedReply",
        "It was charged. Do not call again",
        "charged",
        1,
    ),
    "never ends": (
        Fault("create", "job_never_ends"),
        "JobTimeout",
        "The job may still finish. Do not call again",
        "charged",
        1,
    ),
}


@pytest.mark.usefixtures("quick_turns")
@BOTH_WAYS
@pytest.mark.parametrize("case", FAULTS)
async def test_a_failure_is_answered(
    case: str, way: Way, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that reads what happened does not buy again; a program reads the artifact."""
    fault, error, says, charge, creates = FAULTS[case]
    tool = ShortAPIFluxTool(flux=flux_on(sandbox))
    sandbox.inject(fault)
    if case == "never ends":
        leap_at_each_query(monkeypatch, sandbox)
    message = await _invoke(way, tool, _call(prompt="a fox"))
    assert isinstance(message, ToolMessage)
    assert (message.status, message.tool_call_id, message.name) == ("error", "call-1", NAME)
    assert str(message.content).startswith("No image: ")
    assert says in str(message.content)
    artifact = message.artifact
    assert json.loads(json.dumps(artifact)) == artifact
    assert (artifact["error"], artifact["charge"]) == (error, charge)
    assert sum(call.on == "create" for call in sandbox.calls) == creates
    if charge in ("charged", "refunded"):
        assert artifact["job_id"] == sandbox.jobs[0].job_id
        assert artifact["job_id"] in str(message.content)


@BOTH_WAYS
async def test_a_failure_of_a_direct_call_is_answered_with_text(
    way: Way, sandbox: Sandbox, tool: ShortAPIFluxTool
) -> None:
    """As with what goes well, a call without an id gets content alone."""
    for asked in ({"prompt": "a fox"}, "a fox", _call(None, prompt="a fox")):
        sandbox.inject(Fault("create", "job_fails"))
        text = await _invoke(way, tool, asked)
        assert isinstance(text, str)
        assert text.startswith("No image: job ")


class _Notes(BaseCallbackHandler):
    """What a callback handler is told about tools, and about what runs inside them."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []
        self.errors: list[BaseException] = []

    @override
    def on_tool_start(self, serialized: Any, input_str: str, **kwargs: Any) -> None:
        self.told.append(("tool starts", serialized["name"]))

    @override
    def on_tool_end(self, output: Any, **kwargs: Any) -> None:
        self.told.append(("tool ends", output.status))

    @override
    def on_tool_error(self, error: BaseException, **kwargs: Any) -> None:
        self.told.append(("tool fails", type(error)))
        self.errors.append(error)

    @override
    def on_chain_start(self, serialized: Any, inputs: Any, **kwargs: Any) -> None:
        self.told.append(("inside", kwargs["name"]))


@BOTH_WAYS
async def test_traces_show_the_failure_though_it_is_answered(
    way: Way, sandbox: Sandbox, tool: ShortAPIFluxTool
) -> None:
    """A tool that answers errors as successes makes a dashboard lie."""
    notes = _Notes()
    sandbox.inject(Fault("create", "job_fails"), Fault("create", "none"))
    await _invoke(way, tool, _call(prompt="a fox"), {"callbacks": [notes]})
    await _invoke(way, tool, _call(prompt="a fox"), {"callbacks": [notes]})
    start = [("tool starts", NAME), ("inside", "ShortAPIFlux")]
    assert notes.told == [*start, ("tool fails", JobFailed), *start, ("tool ends", "success")]


async def test_progress_shows_in_the_tools_events(sandbox: Sandbox, tool: ShortAPIFluxTool) -> None:
    """The Runnable runs as the tool's child, so each snapshot is an event."""
    sandbox.inject(Fault("query", "status_word"))
    stream = tool.astream_events(_call(prompt="a fox"), version="v2")
    events = [(event["event"], event["name"]) async for event in stream]
    assert events.count(("on_tool_stream", "ShortAPIFlux")) == 3
    assert events[0] == ("on_tool_start", NAME)
    assert events[-1] == ("on_tool_end", NAME)


@BOTH_WAYS
async def test_handle_tool_error_has_langchains_meaning(way: Way, sandbox: Sandbox) -> None:
    """Who sets it wants LangChain's behaviour, not ours."""
    flux = flux_on(sandbox)

    async def answer(handling: Any) -> Any:
        sandbox.inject(Fault("create", "job_fails", info="too dark"))
        tool = ShortAPIFluxTool(flux=flux, handle_tool_error=handling)
        return await _invoke(way, tool, _call(prompt="a fox"))

    with pytest.raises(JobFailed, match="too dark"):
        await answer(False)
    said = await answer(True)
    assert said.status == "error"
    assert "too dark" in said.content
    assert said.artifact is None
    assert (await answer("no luck")).content == "no luck"

    def describe(error: ToolException) -> str:
        return f"{type(error).__name__}, {getattr(error, 'charge', None)}"

    assert (await answer(describe)).content == "JobFailed, refunded"


# --- arguments ----------------------------------------------------------------------------------


@BOTH_WAYS
@pytest.mark.parametrize(
    ("arguments", "field", "allowed"),
    [
        ({"prompt": "a fox", "num_images": 3}, "num_images=3", "1, 2, 4, 8"),
        ({"prompt": "a fox", "num_images": "3"}, "num_images='3'", "1, 2, 4, 8"),
        ({"prompt": "a fox", "aspect_ratio": "5:4"}, "aspect_ratio='5:4'", "'16:9'"),
        ({"prompt": "a fox", "performance": "fast"}, "performance='fast'", "'schnell' or 'dev'"),
        ({"prompt": " "}, "prompt", "blank"),
        ({"prompt": "a fox \ud83e"}, "prompt", "surrogate"),
        ({}, "prompt", "missing"),
        ({"prompt": "a fox", "seed": 7}, "'seed'", "prompt, aspect_ratio, num_images, performance"),
        ({"prompt": "a fox", "callback_url": "https://x"}, "'callback_url'", "the arguments are"),
    ],
)
async def test_wrong_arguments_are_explained_and_cost_nothing(
    arguments: dict[str, Any],
    field: str,
    allowed: str,
    way: Way,
    sandbox: Sandbox,
    tool: ShortAPIFluxTool,
) -> None:
    """LangChain's own words are "Tool input validation error", of no use to a model."""
    message = await _invoke(way, tool, _call(**arguments))
    assert (message.status, message.tool_call_id, message.name) == ("error", "call-1", NAME)
    for part in ("No image: ", field, allowed, "Nothing was charged", "Correct the arguments"):
        assert part in message.content
    artifact = message.artifact
    assert set(artifact) == set(get_type_hints(FailureArtifact))
    assert (artifact["error"], artifact["charge"]) == ("InvalidRequest", "none")
    assert (artifact["job_id"], artifact["is_retryable"]) == (None, False)
    assert field in artifact["message"]
    assert sandbox.calls == ()


A_KEY = "ak-" + "0123456789abcdef" * 2


@BOTH_WAYS
@pytest.mark.parametrize(
    "arguments",
    [
        {"prompt": "a fox", "performance": A_KEY},
        {"prompt": "a fox", "performance": f"Bearer {A_KEY}"},
        {"prompt": "a fox", "aspect_ratio": [A_KEY]},
        {"prompt": "a fox", "num_images": {"key": A_KEY}},
        {"prompt": f"{A_KEY} \ud83e"},
        {"prompt": "a fox", A_KEY: "1"},
        {"prompt": "a fox", "api_key": A_KEY},
    ],
)
async def test_a_key_among_wrong_arguments_is_not_said_again(
    arguments: dict[str, Any], way: Way, sandbox: Sandbox, tool: ShortAPIFluxTool
) -> None:
    """Models paste what they were shown anywhere; of their arguments LangChain keeps a record."""
    notes = _Notes()
    message = await _invoke(way, tool, _call(**arguments), {"callbacks": [notes]})
    assert message.status == "error"
    assert "(not shown)" in message.content or "'api_key' unknown" in message.content
    assert A_KEY not in repr(message)
    assert notes.told == [("tool starts", NAME), ("tool fails", ValidationError)]
    assert A_KEY not in repr(notes.errors)
    assert sandbox.calls == ()


@pytest.mark.parametrize("given", [None, "a fox", 7, ["a fox"]])
@BOTH_WAYS
async def test_arguments_that_are_no_dict_are_answered(
    given: Any, way: Way, tool: ShortAPIFluxTool, sandbox: Sandbox
) -> None:
    """LangChain itself would crash on them."""
    ask = {"type": "tool_call", "id": "call_1", "name": tool.name, "args": given}
    answer = tool.invoke(ask) if way == "sync" else await tool.ainvoke(ask)
    assert (answer.status, answer.tool_call_id) == ("error", "call_1")
    assert "invalid arguments: Input should be a valid dictionary" in answer.content
    assert sandbox.calls == ()


def test_arguments_that_do_not_exist_are_named_in_short(tool: ShortAPIFluxTool) -> None:
    """A model that makes up a hundred reads what there is, not what it wrote."""
    made_up = {f"option_{number:03}": 1 for number in range(100)}
    content = tool.invoke(_call(prompt="a fox", **made_up)).content
    assert "'option_000', 'option_001'" in content
    assert "the arguments are prompt, aspect_ratio, num_images, performance" in content
    assert len(content) < 400


@BOTH_WAYS
async def test_a_blank_string_input_is_explained_too(
    way: Way, sandbox: Sandbox, tool: ShortAPIFluxTool
) -> None:
    """LangChain hands a bare string on in a way of its own."""
    assert "blank" in await _invoke(way, tool, " ")
    assert sandbox.calls == ()


@BOTH_WAYS
async def test_handle_validation_error_has_langchains_meaning(way: Way, sandbox: Sandbox) -> None:
    """Who sets it wants LangChain's behaviour; to False, the exception."""

    async def answer(handling: Any) -> Any:
        tool = ShortAPIFluxTool(flux=flux_on(sandbox), handle_validation_error=handling)
        return await _invoke(way, tool, _call(prompt="a fox", num_images=3))

    with pytest.raises(ValidationError, match="num_images"):
        await answer(False)
    assert (await answer("no luck")).content == "no luck"
    said = await answer(lambda error: error.title)
    assert (said.content, said.status, said.artifact) == ("FluxTextToImage", "error", None)
    assert sandbox.calls == ()


@BOTH_WAYS
async def test_the_two_ways_of_handling_are_apart(way: Way, sandbox: Sandbox) -> None:
    """As in LangChain: who wants job errors raised still has a model told of its arguments."""
    tool = ShortAPIFluxTool(flux=flux_on(sandbox), handle_tool_error=False)
    message = await _invoke(way, tool, _call(prompt="a fox", num_images=3))
    assert message.artifact["error"] == "InvalidRequest"
    tool = ShortAPIFluxTool(flux=flux_on(sandbox), handle_validation_error=False)
    sandbox.inject(Fault("create", "job_fails"))
    message = await _invoke(way, tool, _call(prompt="a fox"))
    assert message.artifact["error"] == "JobFailed"


class _OwnArguments(BaseModel):
    """A user's own schema of the arguments."""

    prompt: str
    performance: Literal["schnell"] = "schnell"


def test_a_users_own_arguments_are_explained_too(sandbox: Sandbox) -> None:
    """Whatever its class is called, what it refuses was refused before create."""
    tool = ShortAPIFluxTool(flux=flux_on(sandbox), args_schema=_OwnArguments)
    message = tool.invoke(_call(prompt="a fox", performance="dev"))
    for part in ("performance='dev'", "'schnell'", "Nothing was charged"):
        assert part in message.content
    assert sandbox.calls == ()
    assert tool.invoke(_call(prompt="a fox")).status == "success"
    assert sandbox.jobs[0].args["performance"] == "schnell"


@BOTH_WAYS
async def test_arguments_that_langchain_does_not_check_are_explained_too(
    way: Way, sandbox: Sandbox
) -> None:
    """A schema that is a dict is only shown to the model."""
    properties = {"prompt": {"type": "string"}, "performance": {"type": "string"}}
    schema: Any = {"title": "Own", "type": "object", "properties": properties}
    tool = ShortAPIFluxTool(flux=flux_on(sandbox), args_schema=schema, description="Draws.")
    message = await _invoke(way, tool, _call(prompt="a fox", performance="fast"), THREAD)
    for part in ("performance='fast'", "'schnell'", "Nothing was charged"):
        assert part in message.content
    assert sandbox.calls == ()
    config = {**THREAD, "callbacks": [_StrictListener("after create")]}
    message = await _invoke(way, tool, _call(prompt="a fox", performance="dev"), config)
    assert message.artifact["job_id"] == sandbox.jobs[0].job_id


def _enums(schema: Any) -> Iterator[list[Any]]:
    """Each list of allowed values, at any depth."""
    if isinstance(schema, dict):
        if "enum" in schema:
            yield schema["enum"]
        for below in schema.values():
            yield from _enums(below)
    elif isinstance(schema, list):
        for below in schema:
            yield from _enums(below)


def test_the_schema_that_a_model_is_given(tool: ShortAPIFluxTool) -> None:
    """Four arguments, one of them required, with the official page's options."""
    given = convert_to_openai_tool(tool)["function"]
    assert json.loads(json.dumps(given)) == given
    assert given["name"] == NAME
    assert "costs money" in given["description"]
    parameters = given["parameters"]
    assert (parameters["type"], parameters["required"]) == ("object", ["prompt"])
    properties = parameters["properties"]
    assert list(properties) == ["prompt", "aspect_ratio", "num_images", "performance"]
    assert properties["prompt"]["type"] == "string"
    assert all(entry["description"] for entry in properties.values())
    assert list(_enums(properties["aspect_ratio"])) == [list(ASPECT_RATIOS)]
    # Text: an enum of integers breaks a converter.
    assert list(_enums(properties["num_images"])) == [[str(count) for count in IMAGE_COUNTS]]
    assert list(_enums(properties["performance"])) == [list(PERFORMANCES)]
    assert "$ref" not in json.dumps(given)


def test_the_descriptions_state_this_instances_defaults(sandbox: Sandbox) -> None:
    """A model that knows the default leaves the argument out; FluxRequest stays as it was."""
    flux = flux_on(sandbox, aspect_ratio="21:9", num_images=4, performance="schnell")
    args = ShortAPIFluxTool(flux=flux).args
    for name, default in (
        ("aspect_ratio", "21:9"),
        ("num_images", "4"),
        ("performance", "schnell"),
    ):
        assert args[name]["description"].endswith(f"Default: {default}.")
    assert ShortAPIFluxTool().args["performance"]["description"].endswith("Default: dev.")
    assert "Default:" not in json.dumps(FluxRequest.model_json_schema())


def test_the_prompt_alone_is_required_and_nothing_is_preset(tool: ShortAPIFluxTool) -> None:
    """A preset of a schema would override the Runnable's own fields."""
    schema: Any = tool.get_input_schema()
    given = schema.model_validate({"prompt": "a fox"}).model_dump()
    assert {name: value for name, value in given.items() if value is not None} == {
        "prompt": "a fox"
    }


def test_name_and_description_may_be_the_users_own(sandbox: Sandbox) -> None:
    """Two tools, a cheap and a fine one, need two names."""
    tool = ShortAPIFluxTool(flux=flux_on(sandbox), name="sketch", description="A quick sketch.")
    given = convert_to_openai_tool(tool)["function"]
    assert (given["name"], given["description"]) == ("sketch", "A quick sketch.")
    message = tool.invoke({**_call(prompt="a fox"), "name": "sketch"})
    assert message.name == "sketch"


def test_a_tool_without_arguments_reads_the_environment(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shortest form there is."""
    monkeypatch.setenv("SHORTAPI_BASE_URL", sandbox.base_url)
    monkeypatch.setenv("SHORTAPI_KEY", sandbox.api_key)
    tool = ShortAPIFluxTool()
    assert tool.flux == ShortAPIFlux(base_url=sandbox.base_url, api_key=SecretStr(sandbox.api_key))


def test_a_missing_key_is_answered(sandbox: Sandbox) -> None:
    """Even that: the run goes on, and the user reads what to mend."""
    message = ShortAPIFluxTool(flux=flux_on(sandbox, api_key=None)).invoke(_call(prompt="a fox"))
    assert message.status == "error"
    assert "SHORTAPI_KEY" in message.content
    assert sandbox.calls == ()


# --- agents and graphs --------------------------------------------------------------------------


def _asking(*calls: dict[str, Any]) -> AIMessage:
    return AIMessage("", tool_calls=list(calls))


async def _run_agent(way: Way, agent: Any, text: str = "draw", config: Any = None) -> list[Any]:
    state = {"messages": [HumanMessage(text)]}
    ended = agent.invoke(state, config) if way == "sync" else await agent.ainvoke(state, config)
    return list(ended["messages"])


@BOTH_WAYS
async def test_an_agent_gets_text_artifact_and_status(
    way: Way, sandbox: Sandbox, tool: ShortAPIFluxTool
) -> None:
    """The main use of the tool, whole."""
    model = ScriptedModel(
        answers=[
            _asking(_call(prompt="a fox", aspect_ratio="16:9", performance="schnell")),
            "Here it is.",
        ]
    )
    messages = await _run_agent(way, create_agent(model, tools=[tool]))
    answer = messages[2]
    assert isinstance(answer, ToolMessage)
    assert (answer.status, answer.tool_call_id) == ("success", "call-1")
    assert answer.artifact["job_id"] == sandbox.jobs[0].job_id
    assert answer.artifact["images"][0]["url"] in str(answer.content)
    assert sandbox.jobs[0].args == {
        "prompt": "a fox",
        "aspect_ratio": "16:9",
        "num_images": 1,
        "performance": "schnell",
    }
    assert messages[-1].content == "Here it is."
    assert model.asked[1][-1].content == answer.content
    assert {given.name for given in model.tools} == {NAME}


@BOTH_WAYS
async def test_an_agents_run_goes_on_after_a_failed_job(
    way: Way, sandbox: Sandbox, tool: ShortAPIFluxTool
) -> None:
    """A ToolException that escapes would end the run, and with it everything done so far."""
    model = ScriptedModel(
        answers=[
            _asking(_call("call-1", prompt="a dark fox")),
            _asking(_call("call-2", prompt="a fox", num_images=3)),
            _asking(_call("call-3", prompt="a light fox")),
            "Here it is.",
        ]
    )
    sandbox.inject(Fault("create", "job_fails", info="too dark"))
    messages = await _run_agent(way, create_agent(model, tools=[tool]))
    answers = [message for message in messages if isinstance(message, ToolMessage)]
    assert [answer.status for answer in answers] == ["error", "error", "success"]
    assert answers[0].artifact["error"] == "JobFailed"
    assert "num_images=3" in str(answers[1].content)
    assert messages[-1].content == "Here it is."
    assert len(sandbox.charges) == 1


@BOTH_WAYS
async def test_of_parallel_calls_one_fails_alone(
    way: Way, sandbox: Sandbox, tool: ShortAPIFluxTool
) -> None:
    """An error that escapes would cancel the siblings, whose jobs are bought already."""
    calls = [_call(f"call-{number}", prompt=f"fox {number}") for number in range(4)]
    model = ScriptedModel(answers=[_asking(*calls), "Here they are."])
    sandbox.inject(Fault("create", "job_fails"))
    messages = await _run_agent(way, create_agent(model, tools=[tool]))
    answers = [message for message in messages if isinstance(message, ToolMessage)]
    assert [answer.tool_call_id for answer in answers] == [call["id"] for call in calls]
    assert sorted(answer.status for answer in answers) == ["error"] + ["success"] * 3
    assert (len(sandbox.jobs), len(sandbox.charges)) == (4, 3)


@BOTH_WAYS
async def test_a_checkpoint_gives_the_artifact_back_as_it_was(
    way: Way, sandbox: Sandbox, tool: ShortAPIFluxTool
) -> None:
    """A pydantic artifact would come back as something else, with a warning."""
    graph = StateGraph(MessagesState)
    graph.add_node("tools", ToolNode([tool]))
    graph.set_entry_point("tools")
    graph.set_finish_point("tools")
    app: Any = graph.compile(checkpointer=InMemorySaver())
    thread = {"configurable": {"thread_id": "1"}}
    asked = {"messages": [_asking(_call("good", prompt="a"), _call("bad", prompt="b"))]}
    sandbox.inject(Fault("create", "none"), Fault("create", "job_fails"))
    ended = app.invoke(asked, thread) if way == "sync" else await app.ainvoke(asked, thread)
    kept = app.get_state(thread).values["messages"][1:]
    assert [message.artifact for message in kept] == [
        message.artifact for message in ended["messages"][1:]
    ]
    assert {type(message.artifact) for message in kept} == {dict}
    assert {message.artifact["type"] for message in kept} == {"flux_job", "flux_failure"}
    assert {message.status for message in kept} == {"success", "error"}


class _Strict(BaseModel):
    """What a listener insists on."""

    seconds: int


class _StrictListener(BaseCallbackHandler):
    """Fails at the event it is told to, with an error like those of wrong arguments."""

    raise_error = True

    def __init__(self, event: str) -> None:
        self._event = event

    def _hear(self, event: str) -> None:
        if event == self._event:
            _Strict.model_validate({"seconds": "soon"})

    @override
    def on_chain_start(self, serialized: Any, inputs: Any, **kwargs: Any) -> None:
        self._hear("before create")

    @override
    def on_custom_event(self, name: str, data: Any, **kwargs: Any) -> None:
        self._hear("after create")


@BOTH_WAYS
async def test_a_validation_error_after_create_is_not_called_free(
    way: Way, sandbox: Sandbox, tool: ShortAPIFluxTool
) -> None:
    """A listener's own may come once the money is spent; the model reads of which job it was."""
    config = {"callbacks": [_StrictListener("after create")]}
    answer = await _invoke(way, tool, _call(prompt="a fox"), config)
    (job,) = sandbox.jobs
    assert (answer.status, len(sandbox.charges)) == ("error", 1)
    for part in ("_Strict", "It was charged.", f"Use flux_get_job with job_id {job.job_id}"):
        assert part in answer.content
    assert "Nothing was charged" not in answer.content
    assert set(answer.artifact) == set(get_type_hints(FailureArtifact))
    assert (answer.artifact["job_id"], answer.artifact["charge"]) == (job.job_id, "charged")


@BOTH_WAYS
async def test_a_foreign_validation_error_without_a_job_is_not_called_free(
    way: Way, sandbox: Sandbox, tool: ShortAPIFluxTool
) -> None:
    """Nobody can tell where it came from, so nobody says that it may be tried again."""
    config = {"callbacks": [_StrictListener("before create")]}
    answer = await _invoke(way, tool, _call(prompt="a fox"), config)
    assert answer.status == "error"
    for part in ("Whether it was charged is not known.", "Do not call again"):
        assert part in answer.content
    assert (answer.artifact["job_id"], answer.artifact["charge"]) == (None, "unknown")


@BOTH_WAYS
async def test_an_error_that_looks_like_wrong_arguments_is_not_called_free_either(
    way: Way, sandbox: Sandbox, tool: ShortAPIFluxTool
) -> None:
    """A listener may check the same arguments again; the job is paid for by then."""
    schema: Any = tool.args_schema

    class Listener(BaseCallbackHandler):
        raise_error = True

        @override
        def on_custom_event(self, name: str, data: Any, **kwargs: Any) -> None:
            schema.model_validate({"prompt": " "})

    answer = await _invoke(way, tool, _call(prompt="a fox"), {"callbacks": [Listener()]})
    assert "It was charged." in answer.content
    assert answer.artifact["job_id"] == sandbox.jobs[0].job_id


class _Decision(BaseModel):
    """How a human must answer."""

    keep: bool


class _AskingTool(ShortAPIFluxTool):
    """The user's own subclass: it asks a human once the picture is there, and insists on a form."""

    @override
    def _run(self, *args: Any, **kwargs: Any) -> Any:
        made = super()._run(*args, **kwargs)
        interrupt("keep it?", response_schema=_Decision)
        return made

    @override
    async def _arun(self, *args: Any, **kwargs: Any) -> Any:
        made = await super()._arun(*args, **kwargs)
        interrupt("keep it?", response_schema=_Decision)
        return made


@BOTH_WAYS
async def test_a_human_who_answers_in_the_wrong_form_is_asked_again(
    way: Way, sandbox: Sandbox
) -> None:
    """LangGraph says so with a ``ValidationError``, which is none of the model's arguments'."""
    model = ScriptedModel(answers=[_asking(_call(prompt="a fox")), "There."])
    tool = _AskingTool(flux=flux_on(sandbox))
    agent: Any = create_agent(model, tools=[tool], checkpointer=InMemorySaver())
    asked = {"messages": [HumanMessage("draw")]}
    assert (await _invoke(way, agent, asked, THREAD))["__interrupt__"]
    with pytest.raises(ValidationError, match="_Decision"):
        await _invoke(way, agent, Command(resume="perhaps"), THREAD)
    ended = await _invoke(way, agent, Command(resume={"keep": True}), THREAD)
    assert ended["messages"][-1].content == "There."
    assert len(sandbox.charges) == 1


# --- calls without an id ------------------------------------------------------------------------


class _Stumbling(BaseCallbackHandler):
    """Fails once it has heard of so many jobs, and with it the step of the graph."""

    raise_error = True

    def __init__(self, jobs: int = 1) -> None:
        self._jobs = jobs
        self._heard: set[str] = set()

    @override
    def on_custom_event(self, name: str, data: Any, **kwargs: Any) -> None:
        self._heard.add(data["job_id"])
        if len(self._heard) == self._jobs:
            raise LookupError("no such listener")


def _tool_graph(tool: ShortAPIFluxTool) -> Any:
    graph = StateGraph(MessagesState)
    graph.add_node("tools", ToolNode([tool]))
    graph.set_entry_point("tools")
    graph.set_finish_point("tools")
    return graph.compile(checkpointer=InMemorySaver())


def _prompts(sandbox: Sandbox) -> list[str]:
    return sorted(str(job.args["prompt"]) for job in sandbox.jobs)


@BOTH_WAYS
@pytest.mark.parametrize("call_id", ["", " "])
async def test_a_resumed_agent_buys_once_though_its_calls_have_no_id(
    call_id: str, way: Way, sandbox: Sandbox, tool: ShortAPIFluxTool
) -> None:
    """Some providers send none; an agent runs each call as a task, and that has an id."""
    calls = [_call(call_id, prompt=text) for text in ("a fox", "an owl", "an owl")]
    model = ScriptedModel(answers=[_asking(*calls), "There."])
    agent: Any = create_agent(model, tools=[tool], checkpointer=InMemorySaver())
    with pytest.raises(LookupError):
        await _invoke(
            way,
            agent,
            {"messages": [HumanMessage("draw")]},
            {**THREAD, "callbacks": [_Stumbling(len(calls))]},
        )
    ended = await _invoke(way, agent, None, THREAD)
    made = [message for message in ended["messages"] if isinstance(message, ToolMessage)]
    assert {message.status for message in made} == {"success"}
    # Two owls were asked for, and are two jobs.
    assert len({message.artifact["job_id"] for message in made}) == 3
    assert _prompts(sandbox) == ["a fox", "an owl", "an owl"]


@BOTH_WAYS
async def test_in_one_task_calls_without_an_id_are_told_apart_by_their_arguments(
    way: Way, sandbox: Sandbox, tool: ShortAPIFluxTool
) -> None:
    """No call is answered with another's picture; two that are equal are bought once."""
    app = _tool_graph(tool)
    calls = [_call("", prompt=text) for text in ("a fox", "an owl", "an owl")]
    ended = await _invoke(way, app, {"messages": [_asking(*calls)]}, THREAD)
    bought = {job.job_id: job.args["prompt"] for job in sandbox.jobs}
    made = [message.artifact["job_id"] for message in ended["messages"][1:]]
    assert [bought[job_id] for job_id in made] == ["a fox", "an owl", "an owl"]
    assert _prompts(sandbox) == ["a fox", "an owl"]
    assert len(sandbox.charges) == 2
    # The next turn's wish is a new one, though it is for the same.
    await _invoke(way, app, {"messages": [_asking(_call("", prompt="an owl"))]}, THREAD)
    assert _prompts(sandbox) == ["a fox", "an owl", "an owl"]


@BOTH_WAYS
@pytest.mark.parametrize("call_id", ["", None])
async def test_a_task_that_is_run_again_buys_once_though_its_calls_have_no_id(
    call_id: str | None, way: Way, sandbox: Sandbox, tool: ShortAPIFluxTool
) -> None:
    """The task's id stays the same, whether the graph has a thread's id or not."""
    app = _tool_graph(tool)
    asked = {"messages": [_asking(_call(call_id, prompt="a fox"))]}
    config = {**THREAD, "callbacks": [_Stumbling()]}
    with pytest.raises(LookupError):
        await _invoke(way, app, asked, config)
    if call_id is None:  # LangChain's node can hand on no answer to such a call
        with pytest.raises(TypeError, match="unexpected type"):
            await _invoke(way, app, None, THREAD)
    else:
        ended = await _invoke(way, app, None, THREAD)
        assert ended["messages"][-1].artifact["job_id"] == sandbox.jobs[0].job_id
    assert len(sandbox.charges) == 1


@BOTH_WAYS
async def test_outside_of_a_graph_calls_without_an_id_are_two_purchases(
    way: Way, sandbox: Sandbox, tool: ShortAPIFluxTool
) -> None:
    """Nothing there repeats a call by itself, so two are two wishes."""
    for _ in range(2):
        message = await _invoke(way, tool, _call("", prompt="a fox"), THREAD)
        assert (message.status, message.tool_call_id) == ("success", "")
    assert len(sandbox.charges) == 2


@BOTH_WAYS
async def test_in_a_graph_plain_arguments_are_no_tool_call(
    way: Way, sandbox: Sandbox, tool: ShortAPIFluxTool
) -> None:
    """A node that asks twice for the same wants two; a key of its own would say otherwise."""

    def node(_: MessagesState) -> dict[str, Any]:
        return {"messages": [HumanMessage(tool.invoke({"prompt": "a fox"})) for _ in range(2)]}

    async def anode(_: MessagesState) -> dict[str, Any]:
        asked = {"prompt": "a fox"}
        return {"messages": [HumanMessage(await tool.ainvoke(asked)) for _ in range(2)]}

    graph = StateGraph(MessagesState)
    graph.add_node("draw", RunnableLambda(node, anode))
    graph.set_entry_point("draw")
    graph.set_finish_point("draw")
    await _invoke(way, graph.compile(checkpointer=InMemorySaver()), {"messages": []}, THREAD)
    assert len(sandbox.charges) == 2


@BOTH_WAYS
async def test_an_id_as_long_as_gateways_make_them_is_one_purchase(
    way: Way, sandbox: Sandbox, tool: ShortAPIFluxTool
) -> None:
    """Some put a model's whole signature into it."""
    long = "call_1__thought__" + "x" * 5000
    for _ in range(2):
        message = await _invoke(way, tool, _call(long, prompt="a fox"), THREAD)
        assert (message.status, message.tool_call_id) == ("success", long)
    await _invoke(way, tool, _call(f"{long}y", prompt="a fox"), THREAD)
    assert len(sandbox.charges) == 2


# --- copies -------------------------------------------------------------------------------------


def _pickled(tool: Any) -> Any:
    return pickle.loads(pickle.dumps(tool))


@pytest.mark.parametrize("again", [_pickled, copy.copy, copy.deepcopy])
def test_a_copy_of_a_tool_is_as_good(
    again: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tools travel to worker processes; what a model is given there must be the same."""
    monkeypatch.setenv("SHORTAPI_KEY", sandbox.api_key)
    flux = flux_on(sandbox, performance="schnell", num_images=2)
    tool = ShortAPIFluxTool(flux=flux, name="sketch", max_wait=30, content="image", save_to="x")
    before = convert_to_openai_tool(tool)  # LangChain keeps what it made of the schema
    other = again(tool)
    assert convert_to_openai_tool(other) == before
    assert other.get_input_jsonschema() == tool.get_input_jsonschema()
    assert (other.max_wait, other.content, other.save_to) == (30, "image", tool.save_to)
    assert other.flux == flux
    other.save_to = None
    message = other.invoke({**_call(prompt="a fox"), "name": "sketch"})
    assert (message.status, message.name) == ("success", "sketch")
    assert sandbox.jobs[0].args["num_images"] == 2


def test_a_pickle_holds_no_key(sandbox: Sandbox) -> None:
    """What is unpickled reads the environment of its own side."""
    tool = ShortAPIFluxTool(flux=flux_on(sandbox, api_key=A_KEY))
    assert A_KEY.encode() not in pickle.dumps(tool)
    assert _pickled(tool).flux.api_key is None
    assert tool.flux.api_key == SecretStr(A_KEY), "else there was none to find"
    assert A_KEY.encode() in pickle.dumps([tool, A_KEY]), "else it could not be found"


def test_a_users_own_arguments_are_pickled_as_they_are(sandbox: Sandbox) -> None:
    """Only what the tool makes for itself is made again."""
    tool = ShortAPIFluxTool(flux=flux_on(sandbox), args_schema=_OwnArguments)
    assert _pickled(tool).args_schema is _OwnArguments
