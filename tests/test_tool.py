"""``ShortAPIFluxTool`` as models, agents and graphs call it, against the sandbox."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.utils.function_calling import convert_to_openai_tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from pydantic import BaseModel, Field, SecretStr, ValidationError
from quick_flux import flux_on
from typing_extensions import override

from langchain_shortapi_flux import FluxRequest, JobFailed, ShortAPIFlux, ShortAPIFluxTool
from langchain_shortapi_flux.job import ASPECT_RATIOS, IMAGE_COUNTS, PERFORMANCES
from langchain_shortapi_flux.sandbox import Fault, Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from langchain_core.runnables import Runnable
    from langchain_core.tools import ToolException

Way = Literal["sync", "async"]
BOTH_WAYS = pytest.mark.parametrize("way", ["sync", "async"])
NAME = "flux_text_to_image"


@pytest.fixture
def tool(flux: ShortAPIFlux) -> ShortAPIFluxTool:
    """A tool on the sandbox."""
    return ShortAPIFluxTool(flux=flux)


def _call(call_id: str | None = "call-1", /, **arguments: Any) -> dict[str, Any]:
    return {"type": "tool_call", "id": call_id, "name": NAME, "args": arguments}


async def _invoke(way: Way, tool: ShortAPIFluxTool, input: Any, config: Any = None) -> Any:
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


@BOTH_WAYS
@pytest.mark.parametrize("case", FAULTS)
async def test_a_failure_is_answered(case: str, way: Way, sandbox: Sandbox) -> None:
    """A model that reads what happened does not buy again; a program reads the artifact."""
    fault, error, says, charge, creates = FAULTS[case]
    tool = ShortAPIFluxTool(flux=flux_on(sandbox, timeout=0.2 if case == "never ends" else 10))
    sandbox.inject(fault)
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

    @override
    def on_tool_start(self, serialized: Any, input_str: str, **kwargs: Any) -> None:
        self.told.append(("tool starts", serialized["name"]))

    @override
    def on_tool_end(self, output: Any, **kwargs: Any) -> None:
        self.told.append(("tool ends", output.status))

    @override
    def on_tool_error(self, error: BaseException, **kwargs: Any) -> None:
        self.told.append(("tool fails", type(error)))

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
    assert message.status == "error"
    for part in (field, allowed, "Nothing was charged"):
        assert part in message.content
    assert sandbox.calls == ()


@BOTH_WAYS
async def test_a_blank_string_input_is_explained_too(
    way: Way, sandbox: Sandbox, tool: ShortAPIFluxTool
) -> None:
    """LangChain hands a bare string on in a way of its own."""
    assert "blank" in await _invoke(way, tool, " ")
    assert sandbox.calls == ()


def test_handle_validation_error_has_langchains_meaning(sandbox: Sandbox) -> None:
    """Who sets it to False gets the exception."""
    tool = ShortAPIFluxTool(flux=flux_on(sandbox), handle_validation_error=False)
    with pytest.raises(ValidationError, match="num_images"):
        tool.invoke(_call(prompt="a fox", num_images=3))
    assert sandbox.calls == ()


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


class _ScriptedModel(BaseChatModel):
    """A chat model that says what it was told to, in order, and keeps what it was asked."""

    script: list[AIMessage]
    asked: list[list[BaseMessage]] = Field(default_factory=list)
    tools: list[Any] = Field(default_factory=list)

    @property
    @override
    def _llm_type(self) -> str:
        return "scripted"

    @override
    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[Any, AIMessage]:
        self.tools.extend(tools)
        return self

    @override
    def _generate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        message = self.script[len(self.asked)]
        self.asked.append(list(messages))
        return ChatResult(generations=[ChatGeneration(message=message)])


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
    model = _ScriptedModel(
        script=[
            _asking(_call(prompt="a fox", aspect_ratio="16:9", performance="schnell")),
            AIMessage("Here it is."),
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
    model = _ScriptedModel(
        script=[
            _asking(_call("call-1", prompt="a dark fox")),
            _asking(_call("call-2", prompt="a fox", num_images=3)),
            _asking(_call("call-3", prompt="a light fox")),
            AIMessage("Here it is."),
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
    model = _ScriptedModel(script=[_asking(*calls), AIMessage("Here they are.")])
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


def test_a_validation_error_after_create_is_not_called_free(sandbox: Sandbox) -> None:
    """LangChain hands over every one of a run; a listener's own comes after the money is spent."""

    class Strict(BaseModel):
        seconds: int

    class Listener(BaseCallbackHandler):
        raise_error = True

        def on_custom_event(self, name: str, data: Any, **_: Any) -> None:
            Strict.model_validate({"seconds": "soon"})

    tool = ShortAPIFluxTool(flux=flux_on(sandbox))
    call = {"type": "tool_call", "id": "1", "name": tool.name, "args": {"prompt": "a fox"}}
    answer = tool.invoke(call, {"callbacks": [Listener()]})
    assert answer.status == "error"
    assert len(sandbox.charges) == 1
    assert "Nothing was charged" not in answer.content
    assert "do not call again" in answer.content
