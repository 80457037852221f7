"""Money under every layer that calls again: LangChain's, LangGraph's, middleware's, a resume's.

The sandbox counts jobs and what was charged and not refunded. Whatever goes wrong with create or
with a query, and whichever layer calls again: one call of a tool, or one ``request_key``, is paid
at most once; and what made no job is repeated until it goes well.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import (
    HumanInTheLoopMiddleware,
    ModelRetryMiddleware,
    ToolRetryMiddleware,
)
from langchain.tools import ToolRuntime, tool
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.runnables import RunnableLambda
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, RetryPolicy, TimeoutPolicy, interrupt
from leaping_time import leap_at_each_query
from pydantic import PrivateAttr
from quick_flux import flux_on
from scripted_model import ScriptedModel
from typing_extensions import TypedDict, override

from langchain_shortapi_flux import (
    CreateOutcomeUnknown,
    FluxJob,
    RetryLimits,
    ShortAPIError,
    ShortAPIFlux,
    ShortAPIFluxTool,
)
from langchain_shortapi_flux.sandbox import Fault, Sandbox

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from langchain_core.callbacks import CallbackManagerForLLMRun
    from langchain_core.messages import BaseMessage
    from langchain_core.outputs import ChatResult
    from langchain_core.runnables import Runnable

Way = Literal["sync", "async"]
BOTH_WAYS = pytest.mark.parametrize("way", ["sync", "async"])
NAME = "flux_text_to_image"
THREAD = {"configurable": {"thread_id": "thread-1"}}
CREATE_ATTEMPTS = 2
"""How often one call sends create where it may."""
HASTY_RETRY = RetryLimits(
    create_attempts=CREATE_ATTEMPTS, backoff_first=0.001, backoff_max=0.002, jitter=0.0
)
AT_ONCE = RetryPolicy(initial_interval=0.001, jitter=False)
"""LangGraph's default policy, but for its waits."""


def _call(call_id: str = "call-1", name: str = NAME, prompt: str = "a fox") -> dict[str, Any]:
    return {"type": "tool_call", "id": call_id, "name": name, "args": {"prompt": prompt}}


def _asking(*calls: dict[str, Any]) -> AIMessage:
    return AIMessage("", tool_calls=list(calls))


async def _invoke(
    way: Way, runnable: Runnable[Any, Any], input: Any, config: Any = None, **options: Any
) -> Any:
    if way == "sync":
        return runnable.invoke(input, config, **options)
    return await runnable.ainvoke(input, config, **options)


def _creates(sandbox: Sandbox) -> int:
    return [call.on for call in sandbox.calls].count("create")


def _answers(state: Any) -> list[ToolMessage]:
    return [message for message in state["messages"] if isinstance(message, ToolMessage)]


class _Hiccup(Exception):
    """Something else in the user's own code goes wrong, in a way that every layer retries."""


# --- what can go wrong --------------------------------------------------------------------------


@dataclass(frozen=True)
class Trouble:
    """What goes wrong once, and what the books must say in the end, whoever calls again.

    ``heals`` says who buys after all where no job was made: the call itself, or the layer's next.
    With ``outlasts`` each query takes so long that its call's deadline is over.
    """

    faults: tuple[Fault, ...]
    jobs: int = 1
    charges: int = 1
    creates: int = 1
    heals: Literal["in the call", "by the layer"] | None = None
    outlasts: bool = False


_QUERY_KINDS = ("drop_before", "drop_after", "error", "html", "truncated", "empty", "rate_limited")
TROUBLES = {
    "create lost before": Trouble((Fault("create", "drop_before"),), jobs=0, charges=0),
    "create lost after": Trouble((Fault("create", "drop_after"),)),
    "create 503, accepted": Trouble((Fault("create", "error"),)),
    "create html": Trouble((Fault("create", "html"),)),
    "create truncated": Trouble((Fault("create", "truncated"),)),
    "create without an id": Trouble((Fault("create", "no_id"),)),
    "429": Trouble((Fault("create", "rate_limited"),), creates=2, heals="in the call"),
    "429 for long": Trouble(
        (Fault("create", "rate_limited", times=3),), creates=4, heals="by the layer"
    ),
    "code 3000 for long": Trouble(
        (Fault("create", "code_3000", times=3),), creates=4, heals="by the layer"
    ),
    "job fails": Trouble((Fault("create", "job_fails"),), charges=0),
    "job fails unrefunded": Trouble((Fault("create", "job_fails_unrefunded"),)),
    "job never ends": Trouble((Fault("create", "job_never_ends"),), outlasts=True),
    "job without pictures": Trouble((Fault("create", "no_images"),)),
    "queries go wrong": Trouble(
        tuple(Fault("query", kind) for kind in (*_QUERY_KINDS, "code_3000", "status_word")),
        heals="in the call",
    ),
    "query refused": Trouble((Fault("query", "refuse", status=403, info="not yours"),)),
}
LIKE_A_LOSS = {
    *("create 503, accepted", "create html", "create truncated", "create without an id"),
}
"""To a layer these are "create lost after" again: the same error, of which there is one job."""


# --- who calls again ----------------------------------------------------------------------------


class _StumblingModel(ScriptedModel):
    """A scripted model each of whose calls fails once before it goes well."""

    _stumbled: int = PrivateAttr(default=-1)

    @override
    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        if self._stumbled < len(self._asked):
            self._stumbled = len(self._asked)
            raise _Hiccup
        return super()._generate(messages, stop, run_manager, **kwargs)


async def _flux_with_retry(way: Way, flux: ShortAPIFlux) -> Any:
    return await _invoke(way, flux.with_retry(wait_exponential_jitter=False), "a fox")


async def _flux_with_fallbacks(way: Way, flux: ShortAPIFlux) -> Any:
    return await _invoke(way, flux.with_fallbacks([flux]), "a fox")


def _pass_on(value: Any) -> Any:
    return value


async def _chain_with_retry(way: Way, flux: ShortAPIFlux) -> Any:
    chain = (RunnableLambda(_pass_on) | flux).with_retry(wait_exponential_jitter=False)
    return await _invoke(way, chain, {"prompt": "a fox", "request_key": "order 7"})


async def _chain_with_fallbacks(way: Way, flux: ShortAPIFlux) -> Any:
    chain = RunnableLambda(_pass_on) | flux
    config = {"configurable": {"request_key": "order 7"}}
    return await _invoke(way, chain.with_fallbacks([chain]), "a fox", config)


async def _agent(way: Way, model: ScriptedModel, flux_tool: Any, middleware: Any) -> Any:
    agent: Any = create_agent(model, tools=[flux_tool], middleware=[middleware])
    return await _invoke(way, agent, {"messages": [("user", "draw")]})


async def _tool_retry(way: Way, flux: ShortAPIFlux) -> Any:
    model = ScriptedModel(answers=[_asking(_call()), "There."])
    return await _agent(way, model, ShortAPIFluxTool(flux=flux), ToolRetryMiddleware())


async def _tool_retry_of_a_raising_tool(way: Way, flux: ShortAPIFlux) -> Any:
    model = ScriptedModel(answers=[_asking(_call()), "There."])
    raising = ShortAPIFluxTool(flux=flux, handle_tool_error=False)
    return await _agent(way, model, raising, ToolRetryMiddleware(initial_delay=0.0))


async def _model_retry(way: Way, flux: ShortAPIFlux) -> Any:
    model = _StumblingModel(answers=[_asking(_call()), "There."])
    middleware = ModelRetryMiddleware(initial_delay=0.0)
    return await _agent(way, model, ShortAPIFluxTool(flux=flux), middleware)


class _State(TypedDict, total=False):
    made: Any


async def _node(way: Way, call: Callable[[], Any], acall: Callable[[], Awaitable[Any]]) -> Any:
    """A graph of one node under LangGraph's default retry policy."""

    def node(_: _State) -> _State:
        return {"made": call()}

    async def anode(_: _State) -> _State:
        return {"made": await acall()}

    graph = StateGraph(_State)
    graph.add_node("draw", RunnableLambda(node, anode), retry_policy=AT_ONCE)
    graph.add_edge(START, "draw")
    graph.add_edge("draw", END)
    app: Any = graph.compile()
    return (await _invoke(way, app, {}))["made"]


async def _node_with_flux(way: Way, flux: ShortAPIFlux) -> Any:
    return await _node(way, lambda: flux.invoke("a fox"), lambda: flux.ainvoke("a fox"))


async def _faltering_node(way: Way, runnable: Runnable[Any, Any], input: Any) -> Any:
    """The node's own work fails once after the picture was made, so the node runs again."""
    runs: list[object] = []

    def falter(made: Any) -> Any:
        runs.append(made)
        if len(runs) == 1:
            raise _Hiccup
        return made

    async def acall() -> Any:
        return falter(await runnable.ainvoke(input))

    return await _node(way, lambda: falter(runnable.invoke(input)), acall)


async def _faltering_node_with_key(way: Way, flux: ShortAPIFlux) -> Any:
    return await _faltering_node(way, flux, {"prompt": "a fox", "request_key": "order 7"})


async def _faltering_node_with_tool(way: Way, flux: ShortAPIFlux) -> Any:
    return await _faltering_node(way, ShortAPIFluxTool(flux=flux), _call())


@dataclass(frozen=True)
class Layer:
    """Who calls again, and whether it does so after an error that says that it may."""

    run: Callable[[Way, ShortAPIFlux], Coroutine[Any, Any, Any]]
    repeats: bool


LAYERS = {
    "flux.with_retry": Layer(_flux_with_retry, repeats=True),
    "flux.with_fallbacks": Layer(_flux_with_fallbacks, repeats=True),
    "chain.with_retry": Layer(_chain_with_retry, repeats=True),
    "chain.with_fallbacks": Layer(_chain_with_fallbacks, repeats=True),
    # The tool answers its errors, so this one sees none.
    "ToolRetryMiddleware": Layer(_tool_retry, repeats=False),
    "ToolRetryMiddleware, raising tool": Layer(_tool_retry_of_a_raising_tool, repeats=True),
    "ModelRetryMiddleware": Layer(_model_retry, repeats=False),
    # LangGraph's default leaves every RuntimeError alone.
    "RetryPolicy, flux in a node": Layer(_node_with_flux, repeats=False),
    "RetryPolicy, key in a faltering node": Layer(_faltering_node_with_key, repeats=False),
    "RetryPolicy, tool in a faltering node": Layer(_faltering_node_with_tool, repeats=True),
}


def _succeeded(end: Any) -> bool:
    if isinstance(end, dict):
        (end,) = _answers(end)
    if isinstance(end, ToolMessage):
        return end.status == "success" and end.artifact["status"] == "succeeded"
    return isinstance(end, FluxJob) and end.status == "succeeded"


@pytest.mark.usefixtures("quick_turns")
@pytest.mark.parametrize("way", [pytest.param("sync", marks=pytest.mark.thorough), "async"])
@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param(trouble, id=name, marks=[pytest.mark.thorough] if name in LIKE_A_LOSS else [])
        for name, trouble in TROUBLES.items()
    ],
)
@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
async def test_no_layer_pays_twice(
    layer: Layer, trouble: Trouble, way: Way, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each layer's defaults call again after anything; only some of it may be bought again."""
    sandbox.inject(*trouble.faults)
    if trouble.outlasts:
        leap_at_each_query(monkeypatch, sandbox)
    end: Any
    try:
        end = await layer.run(way, flux_on(sandbox, retry=HASTY_RETRY))
    except ShortAPIError as error:
        end = error
    heals = trouble.heals == "in the call" or (trouble.heals is not None and layer.repeats)
    given_up = trouble.heals is not None and not heals
    assert _succeeded(end) or not heals
    assert len(sandbox.jobs) == (0 if given_up else trouble.jobs)
    assert len(sandbox.charges) == (0 if given_up else trouble.charges)
    assert _creates(sandbox) == (CREATE_ATTEMPTS if given_up else trouble.creates)


# --- more ways to have a key --------------------------------------------------------------------


@BOTH_WAYS
async def test_a_bound_key_holds_under_a_chains_retry(
    way: Way, sandbox: Sandbox, flux: ShortAPIFlux
) -> None:
    """The key may be bound where the chain's input is plain text."""
    sandbox.inject(Fault("create", "drop_after"))
    chain = RunnableLambda(_pass_on) | flux.bind(request_key="order 7")
    with pytest.raises(CreateOutcomeUnknown, match="order 7"):
        await _invoke(way, chain.with_retry(wait_exponential_jitter=False), "a fox")
    assert (_creates(sandbox), len(sandbox.charges)) == (1, 1)


@BOTH_WAYS
async def test_without_a_key_a_chains_retry_may_buy_again(
    way: Way, sandbox: Sandbox, flux: ShortAPIFlux
) -> None:
    """What the README warns of: the chain's own retry asks nobody, and there is nothing to know."""
    sandbox.inject(Fault("create", "drop_after"))
    chain = (RunnableLambda(_pass_on) | flux).with_retry(wait_exponential_jitter=False)
    assert (await _invoke(way, chain, "a fox")).status == "succeeded"
    assert len(sandbox.charges) == 2


@BOTH_WAYS
@pytest.mark.parametrize("layer", ["flux", "chain"])
async def test_what_was_never_sent_is_repeated(
    layer: str, way: Way, sandbox: Sandbox, flux: ShortAPIFlux
) -> None:
    """A service that was away for the first attempt has made no job, so the second may buy."""
    sandbox.stop()
    attempts: list[object] = []

    def come_back(value: Any) -> Any:
        attempts.append(value)
        if len(attempts) == 2:
            sandbox.start()
        return value

    hasty = flux.model_copy(update={"retry": HASTY_RETRY})
    if layer == "chain":
        chain = (RunnableLambda(come_back) | hasty).with_retry(wait_exponential_jitter=False)
    else:
        chain = hasty.with_fallbacks(
            [RunnableLambda(come_back) | RunnableLambda(come_back) | hasty]
        )
    job = await _invoke(way, chain, {"prompt": "a fox", "request_key": "order 7"})
    assert job.status == "succeeded"
    assert (_creates(sandbox), len(sandbox.charges)) == (1, 1)


# --- graphs that go on after a failure, a question, a crash -------------------------------------


@tool
async def other_work(runtime: ToolRuntime) -> str:
    """Do something else."""
    return await runtime.config["configurable"]["other_work"]()  # type: ignore[no-any-return]


async def _until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 - the sandbox's books tell nobody of a change
        await asyncio.sleep(0)


async def test_a_graph_resumed_after_a_parallel_call_raised(sandbox: Sandbox) -> None:
    """LangGraph cancels the siblings of a call that raises, and runs all of them again."""
    sandbox.inject(Fault("create", "job_never_ends", times=2))
    runs: list[int] = []

    async def falter() -> str:
        runs.append(1)
        if len(runs) == 1:
            await _until(lambda: len([job for job in sandbox.jobs if job.queries]) == 2)
            raise _Hiccup
        sandbox.finish()
        return "done"

    calls = [_call("call-1"), _call("call-2"), _call("call-3", "other_work")]
    calls[2]["args"] = {}
    model = ScriptedModel(answers=[_asking(*calls), "There."])
    tools = [ShortAPIFluxTool(flux=flux_on(sandbox)), other_work]
    agent: Any = create_agent(model, tools=tools, checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "thread-1", "other_work": falter}}
    with pytest.raises(_Hiccup):
        await agent.ainvoke({"messages": [("user", "draw")]}, config)
    state = await agent.ainvoke(None, config)
    assert [answer.status for answer in _answers(state)] == ["success"] * 3
    made = [answer.artifact["job_id"] for answer in _answers(state)[:2]]
    assert sorted(made) == sorted(job.job_id for job in sandbox.jobs)
    assert (_creates(sandbox), len(sandbox.charges)) == (2, 2)


def test_a_blocking_graph_resumed_after_a_parallel_call_raised(sandbox: Sandbox) -> None:
    """Threads cannot be cancelled: the siblings end by themselves, and are asked for again."""
    runs: list[int] = []

    @tool
    def falter() -> str:
        """Do something else."""
        runs.append(1)
        if len(runs) == 1:
            raise _Hiccup
        return "done"

    calls = [_call("call-1"), {**_call("call-3", "falter"), "args": {}}, _call("call-2")]
    model = ScriptedModel(answers=[_asking(*calls), "There."])
    tools = [ShortAPIFluxTool(flux=flux_on(sandbox)), falter]
    agent: Any = create_agent(model, tools=tools, checkpointer=InMemorySaver())
    with pytest.raises(_Hiccup):
        agent.invoke({"messages": [("user", "draw")]}, THREAD)
    state = agent.invoke(None, THREAD)
    assert [answer.status for answer in _answers(state)] == ["success"] * 3
    assert (_creates(sandbox), len(sandbox.charges)) == (2, 2)


@BOTH_WAYS
async def test_an_approved_call_is_bought_once(way: Way, sandbox: Sandbox) -> None:
    """Before a human's word nothing is sent; the resume that brings it buys one job."""
    model = ScriptedModel(answers=[_asking(_call()), "There."])
    agent: Any = create_agent(
        model,
        tools=[ShortAPIFluxTool(flux=flux_on(sandbox))],
        middleware=[HumanInTheLoopMiddleware(interrupt_on={NAME: True})],
        checkpointer=InMemorySaver(),
    )
    asked = await _invoke(way, agent, {"messages": [("user", "draw")]}, THREAD)
    assert asked["__interrupt__"]
    assert sandbox.calls == ()
    approved: Any = Command(resume={"decisions": [{"type": "approve"}]})
    state = await _invoke(way, agent, approved, THREAD)
    assert _succeeded(state)
    assert len(sandbox.charges) == 1


class _AskingTool(ShortAPIFluxTool):
    """The user's own subclass: it asks a human once the picture is there."""

    @override
    def _run(self, *args: Any, **kwargs: Any) -> Any:
        made = super()._run(*args, **kwargs)
        interrupt("keep it?")
        return made

    @override
    async def _arun(self, *args: Any, **kwargs: Any) -> Any:
        made = await super()._arun(*args, **kwargs)
        interrupt("keep it?")
        return made


@BOTH_WAYS
@pytest.mark.parametrize("handling", [None, False], ids=["answering", "raising"])
async def test_an_interrupt_inside_the_tool_passes_through(
    handling: bool | None, way: Way, sandbox: Sandbox
) -> None:
    """LangGraph's interrupt is an exception; a tool that answers it with text never pauses."""
    asking = _AskingTool(flux=flux_on(sandbox), handle_tool_error=handling)
    model = ScriptedModel(answers=[_asking(_call()), "There."])
    agent: Any = create_agent(model, tools=[asking], checkpointer=InMemorySaver())
    asked = await _invoke(way, agent, {"messages": [("user", "draw")]}, THREAD)
    assert [pause.value for pause in asked["__interrupt__"]] == ["keep it?"]
    state = await _invoke(way, agent, Command(resume="yes"), THREAD)
    assert _succeeded(state)
    assert (_creates(sandbox), len(sandbox.charges)) == (1, 1)


@BOTH_WAYS
@pytest.mark.parametrize("fault", ["none", "job_fails_unrefunded", "drop_after"])
async def test_a_node_that_asks_after_buying_is_run_again_for_free(
    fault: str, way: Way, sandbox: Sandbox
) -> None:
    """A resumed node starts from its top, where the call of the tool stands."""
    sandbox.inject(Fault("create", fault))
    flux_tool = ShortAPIFluxTool(flux=flux_on(sandbox))

    def node(_: _State) -> _State:
        made = flux_tool.invoke(_call())
        interrupt("keep it?")
        return {"made": made}

    async def anode(_: _State) -> _State:
        made = await flux_tool.ainvoke(_call())
        interrupt("keep it?")
        return {"made": made}

    graph = StateGraph(_State)
    graph.add_node("draw", RunnableLambda(node, anode))
    graph.add_edge(START, "draw")
    app: Any = graph.compile(checkpointer=InMemorySaver())
    assert (await _invoke(way, app, {}, THREAD))["__interrupt__"]
    state = await _invoke(way, app, Command(resume="yes"), THREAD)
    assert _succeeded(state["made"]) is (fault == "none")
    assert (_creates(sandbox), len(sandbox.charges)) == (1, 1)


# --- calls that are cancelled and made again ----------------------------------------------------


async def _cut_off(work: Coroutine[Any, Any, Any], when: Callable[[], object]) -> None:
    """A timeout that strikes at just that moment."""
    with pytest.raises(TimeoutError):  # noqa: PT012 - the limit is what raises
        async with asyncio.timeout(None) as limit, asyncio.TaskGroup() as tasks:
            task = tasks.create_task(work)
            await _until(lambda: when() or task.done())
            limit.reschedule(0)
            await task


@pytest.mark.parametrize("middleware", [[], [ToolRetryMiddleware()]], ids=["bare", "with retry"])
async def test_a_timed_out_agent_that_is_resumed_follows_its_job(
    middleware: list[Any], sandbox: Sandbox
) -> None:
    """The job is paid for; whoever comes back with the same ids waits for that one."""
    sandbox.inject(Fault("create", "job_never_ends"))
    model = ScriptedModel(answers=[_asking(_call()), "There."])
    flux_tool = ShortAPIFluxTool(flux=flux_on(sandbox))
    agent: Any = create_agent(
        model, tools=[flux_tool], middleware=middleware, checkpointer=InMemorySaver()
    )
    run = agent.ainvoke({"messages": [("user", "draw")]}, THREAD)
    await _cut_off(run, lambda: [job for job in sandbox.jobs if job.queries > 1])
    sandbox.finish()
    state = await agent.ainvoke(None, THREAD)
    assert _succeeded(state)
    assert (_creates(sandbox), len(sandbox.charges)) == (1, 1)


async def test_a_create_cut_off_in_an_agent_is_reported_and_not_bought_again(
    sandbox: Sandbox,
) -> None:
    """Its answer was under way: a job exists, and nobody on this side has seen its id."""
    sandbox.inject(Fault("create", "hold", seconds=30.0))
    model = ScriptedModel(answers=[_asking(_call()), "There."])
    flux_tool = ShortAPIFluxTool(flux=flux_on(sandbox))
    agent: Any = create_agent(model, tools=[flux_tool], checkpointer=InMemorySaver())
    run = agent.ainvoke({"messages": [("user", "draw")]}, THREAD)
    await _cut_off(run, lambda: sandbox.jobs)
    (answer,) = _answers(await agent.ainvoke(None, THREAD))
    assert answer.status == "error"
    assert answer.artifact["error"] == "CreateOutcomeUnknown"
    assert answer.artifact["charge"] == "unknown"
    assert '"thread-1", "call-1"' in answer.content
    assert (_creates(sandbox), len(sandbox.charges)) == (1, 1)


async def test_a_create_cut_off_with_a_request_key_is_not_bought_again(sandbox: Sandbox) -> None:
    """The same on the Runnable: the key is what the second call is known by."""
    sandbox.inject(Fault("create", "hold", seconds=30.0))
    flux = flux_on(sandbox)
    asked: dict[str, Any] = {"prompt": "a fox", "request_key": "order 7"}
    await _cut_off(flux.ainvoke(asked), lambda: sandbox.jobs)
    with pytest.raises(CreateOutcomeUnknown, match="order 7"):
        await flux.with_retry().ainvoke(asked)
    assert (_creates(sandbox), len(sandbox.charges)) == (1, 1)


async def test_a_nodes_timeout_policy_and_retry_follow_the_same_job(sandbox: Sandbox) -> None:
    """LangGraph's timeout cancels the node, and its retry policy runs it again as the same task."""
    sandbox.inject(Fault("create", "job_never_ends"))
    flux_tool = ShortAPIFluxTool(flux=flux_on(sandbox))
    runs: list[int] = []

    async def node(_: _State) -> _State:
        runs.append(1)
        if len(runs) == 2:
            sandbox.finish()
        return {"made": await flux_tool.ainvoke(_call())}

    graph: Any = StateGraph(_State)
    limit = TimeoutPolicy(run_timeout=1.0)
    graph.add_node("draw", node, retry_policy=AT_ONCE, timeout=limit)
    graph.add_edge(START, "draw")
    app: Any = graph.compile()
    state = await app.ainvoke({})
    assert len(runs) == 2
    assert _succeeded(state["made"])
    assert (_creates(sandbox), len(sandbox.charges)) == (1, 1)


# --- which calls are the same call --------------------------------------------------------------


@BOTH_WAYS
async def test_the_same_call_of_a_thread_is_answered_without_asking_anyone(
    way: Way, sandbox: Sandbox
) -> None:
    """A replay from a checkpoint: the job has ended, and the ledger knows how."""
    flux_tool = ShortAPIFluxTool(flux=flux_on(sandbox))
    first = await _invoke(way, flux_tool, _call(), THREAD)
    asked = len(sandbox.calls)
    second = await _invoke(way, flux_tool, _call(), THREAD)
    assert second.content == first.content
    assert {**second.artifact, "elapsed": 0} == {**first.artifact, "elapsed": 0}
    assert len(sandbox.calls) == asked


@BOTH_WAYS
@pytest.mark.parametrize(
    ("call", "config"),
    [
        (_call("call-2"), THREAD),
        (_call(prompt="a hare"), THREAD),
        (_call(), {"configurable": {"thread_id": "thread-2"}}),
    ],
    ids=["other call", "other arguments", "other thread"],
)
async def test_another_call_is_another_job(
    call: dict[str, Any], config: Any, way: Way, sandbox: Sandbox
) -> None:
    """Two users who want the same picture are two purchases."""
    flux_tool = ShortAPIFluxTool(flux=flux_on(sandbox))
    await _invoke(way, flux_tool, _call(), THREAD)
    await _invoke(way, flux_tool, call, config)
    assert len(sandbox.charges) == 2


@BOTH_WAYS
async def test_arguments_that_mean_the_same_are_the_same_call(way: Way, sandbox: Sandbox) -> None:
    """Options spelt out or left to their defaults are one request."""
    flux_tool = ShortAPIFluxTool(flux=flux_on(sandbox))
    await _invoke(way, flux_tool, _call(), THREAD)
    spelt_out = {**_call(), "args": {"prompt": "a fox", "num_images": "1", "performance": "dev"}}
    await _invoke(way, flux_tool, spelt_out, THREAD)
    assert len(sandbox.charges) == 1


@BOTH_WAYS
async def test_without_a_thread_the_graphs_task_is_the_place(way: Way, sandbox: Sandbox) -> None:
    """No checkpointer, no thread: one task's repeats are one purchase, two runs are two."""
    flux_tool = ShortAPIFluxTool(flux=flux_on(sandbox))
    for _ in range(2):
        await _faltering_node(way, flux_tool, _call())
    assert (_creates(sandbox), len(sandbox.charges)) == (2, 2)


@BOTH_WAYS
async def test_outside_of_an_agent_equal_calls_are_two_jobs(way: Way, sandbox: Sandbox) -> None:
    """Who asks twice for the same picture in a notebook wants two."""
    flux_tool = ShortAPIFluxTool(flux=flux_on(sandbox))
    for asked in ({"prompt": "a fox"}, {"prompt": "a fox"}, _call(), _call()):
        await _invoke(way, flux_tool, asked)
    assert len(sandbox.charges) == 4
    # A thread alone makes no call the same: plain arguments name none.
    for _ in range(2):
        await _invoke(way, flux_tool, {"prompt": "a fox"}, THREAD)
    assert len(sandbox.charges) == 6


_FORGED: list[Any] = [
    "task-1",
    {"tool_call_id": "call-1", "execution_info": {"task_id": "task-1"}},
    ["emit_output_delta"],
]


@BOTH_WAYS
@pytest.mark.parametrize("forged", _FORGED, ids=["text", "dict", "list"])
async def test_a_forged_runtime_chooses_no_key(forged: Any, way: Way, sandbox: Sandbox) -> None:
    """A model may write ``runtime`` into its arguments; outside a graph nothing strips it."""
    flux_tool = ShortAPIFluxTool(flux=flux_on(sandbox))
    call = {**_call(), "args": {"prompt": "a fox", "runtime": forged}}
    for _ in range(2):
        assert _succeeded(await _invoke(way, flux_tool, call))
    assert len(sandbox.charges) == 2
    assert len(flux_tool.flux.ledger) == 0  # type: ignore[arg-type]


@BOTH_WAYS
async def test_a_forged_runtime_in_an_agent_is_replaced(way: Way, sandbox: Sandbox) -> None:
    """LangGraph puts its own in the place, so the key is the agent's."""
    call = {**_call(), "args": {"prompt": "a fox", "runtime": _FORGED[1]}}
    model = ScriptedModel(answers=[_asking(call), _asking(call), "There."])
    flux_tool = ShortAPIFluxTool(flux=flux_on(sandbox))
    agent: Any = create_agent(model, tools=[flux_tool])
    state = await _invoke(way, agent, {"messages": [("user", "draw")]}, THREAD)
    assert [answer.status for answer in _answers(state)] == ["success", "success"]
    assert len(sandbox.charges) == 1
