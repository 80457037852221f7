"""``AnsweringTool``: a tool whose failures are answers, and which tells how its job is going.

The ground that the tools of this package stand on. It knows LangChain's and LangGraph's ways with
tools, and nothing of what a tool does.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from contextlib import aclosing, closing, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from langchain_core.messages import ToolMessage
from langchain_core.runnables.config import ensure_config
from langchain_core.tools import BaseTool, InjectedToolArg
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, create_model
from typing_extensions import override

from langchain_shortapi_flux.errors import InvalidRequest, ShortAPIError
from langchain_shortapi_flux.run_progress import told_by_a_tool
from langchain_shortapi_flux.runnable import ShortAPIFlux
from langchain_shortapi_flux.tool_arguments import INJECTED, explain_invalid
from langchain_shortapi_flux.tool_content import failure_artifact, failure_text
from langchain_shortapi_flux.tool_progress import ProgressEvent, atell, progress_event, tell

if TYPE_CHECKING:
    from decimal import Decimal

    from langchain_core.callbacks import (
        AsyncCallbackManagerForToolRun,
        CallbackManagerForToolRun,
    )
    from langchain_core.messages import ToolCall
    from langchain_core.runnables import RunnableConfig

    from langchain_shortapi_flux.job import FluxJob

Injected = Annotated[Any, InjectedToolArg]
"""What LangGraph adds to a call beside the model's own arguments."""


@dataclass
class _Call:
    """The call that is being answered.

    Attributes:
        is_tool_call: Whether it is a ``ToolCall``, not plain arguments.
        id: The tool call's id: empty or None where the provider gave none.
        job: The last that is known of its job, once there is one.
    """

    is_tool_call: bool
    id: str | None
    job: FluxJob | None = None


_current_call: ContextVar[_Call | None] = ContextVar("flux_tool_call", default=None)


class AnsweringTool(BaseTool):
    """A tool that answers a failure with an error ``ToolMessage`` and an artifact.

    Failures are each ``ShortAPIError``, and arguments that are wrong. Traces show them all the
    same. ``handle_tool_error`` and ``handle_validation_error`` have LangChain's meaning where they
    are set; ``False`` raises.
    """

    _advice: str | None = PrivateAttr(default=None)
    """What to do after a failure, for a tool that does not buy; None takes the error's own."""

    # As in ShortAPIFlux, whose fields may be given here as a dict.
    model_config = ConfigDict(hide_input_in_errors=True, defer_build=True)

    flux: ShortAPIFlux = Field(default_factory=ShortAPIFlux)
    """Whose service, key, ledger and budget are used."""
    response_format: Literal["content", "content_and_artifact"] = "content_and_artifact"
    handle_tool_error: bool | str | Callable[[Any], Any] | None = None
    """None: answered as described above. Otherwise as in LangChain."""
    handle_validation_error: bool | str | Callable[[Any], str] | None = None
    """None: answered as described above. Otherwise as in LangChain."""

    @override
    def get_input_schema(self, config: RunnableConfig | None = None) -> type[BaseModel]:
        """The arguments, and the place for what LangGraph injects.

        ``args_schema`` stays clean of it, so that the tool also serves where nothing is injected.
        """
        schema = cast("type[BaseModel]", super().get_input_schema(config))
        place: dict[str, Any] = {INJECTED: (Injected, None)}
        return create_model(schema.__name__, __base__=schema, **place)

    @override
    def invoke(
        self,
        input: str | dict[str, Any] | ToolCall,
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Any:
        """As in LangChain; a failure becomes an answer (see the class).

        Raises:
            ShortAPIError: With ``handle_tool_error=False`` alone.
            pydantic.ValidationError: With ``handle_validation_error=False`` alone.
        """
        with _answering(input) as call:
            try:
                return super().invoke(_readable(input, call), config, **kwargs)
            except (ShortAPIError, ValidationError) as error:
                answer = self._answer(error, call)
                if answer is None:
                    raise
                return answer

    @override
    async def ainvoke(
        self,
        input: str | dict[str, Any] | ToolCall,
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Any:
        """The async twin of ``invoke``."""
        with _answering(input) as call:
            try:
                return await super().ainvoke(_readable(input, call), config, **kwargs)
            except (ShortAPIError, ValidationError) as error:
                answer = self._answer(error, call)
                if answer is None:
                    raise
                return answer

    def _answer(
        self, error: ShortAPIError | ValidationError, call: _Call
    ) -> ToolMessage | str | None:
        """The answer to a failed call; None where the failure is to be raised."""
        handling = self.handle_tool_error
        if isinstance(error, ValidationError):
            handling = self.handle_validation_error
            if _is_answer_to_an_interrupt(error):
                return None
        if handling is not None:
            return None
        failure = error
        if isinstance(failure, ValidationError):
            # Once there is a job, the trouble is not with the arguments, whatever its title.
            if call.job is None and failure.title == self._title_of_arguments():
                failure = InvalidRequest(explain_invalid(failure, list(self.args)))
            else:
                failure = _broken_off(failure, call.job)
        advice = None if isinstance(failure, InvalidRequest) else self._advice
        text = failure_text(failure, advice, self._budget_left())
        if call.id is None:
            return text
        return ToolMessage(
            text,
            artifact=failure_artifact(failure, advice),
            tool_call_id=call.id,
            name=self.name,
            status="error",
        )

    def _title_of_arguments(self) -> str | None:
        """What pydantic calls an error in this tool's arguments, which comes before any create."""
        schema = self.args_schema
        if not (isinstance(schema, type) and issubclass(schema, BaseModel)):
            return None
        return schema.model_config.get("title") or schema.__name__

    def _budget_left(self) -> Decimal | None:
        """USD that the Runnable may still spend, if it has a budget."""
        return None if self.flux.budget is None else self.flux.budget.left

    def _watch(
        self,
        jobs: Iterator[FluxJob],
        runtime: object,
        run_manager: CallbackManagerForToolRun | None,
    ) -> Iterator[FluxJob]:
        """Pass snapshots on, and tell each to whoever listens."""
        # Closed here: whoever holds the traceback of a listener's error would keep the flow open.
        with closing(cast("Generator[FluxJob]", jobs)):
            for job in jobs:
                tell(seen(job), runtime, run_manager)
                yield job

    async def _awatch(
        self,
        jobs: AsyncIterator[FluxJob],
        runtime: object,
        run_manager: AsyncCallbackManagerForToolRun | None,
    ) -> AsyncIterator[FluxJob]:
        """The async twin of ``_watch``."""
        async with aclosing(cast("AsyncGenerator[FluxJob]", jobs)):
            async for job in jobs:
                await atell(seen(job), runtime, run_manager)
                yield job


def seen(job: FluxJob) -> ProgressEvent:
    """Note what is known of the job of the call that is being answered; gives it as an event."""
    call = _current_call.get()
    if call is not None:
        call.job = job
    return progress_event(job, call.id if call is not None else None)


def agent_call(runtime: object) -> tuple[str, ...] | None:
    """What makes this call the same call when an agent is retried or resumed, if anything does.

    The thread's id (or, without a thread, LangGraph's id of the task) and the tool call's id: both
    stay the same over a retry and over a resume. None outside of an agent.

    Where a provider gives its tool calls no id, LangGraph's id of the task stands in for it, which
    also stays the same. ``create_agent`` runs each call as a task of its own; where one task runs
    several such calls (a ``ToolNode`` alone), those with equal arguments cannot be told apart, and
    count as one. Outside of a graph nothing repeats a call, and one without an id has no key.
    """
    call = _current_call.get()
    if call is None or not call.is_tool_call:
        return None
    configured = ensure_config().get("configurable") or {}
    task = getattr(getattr(runtime, "execution_info", None), "task_id", None)
    task = task or configured.get("__pregel_task_id")
    place = configured.get("thread_id") or task
    if call.id is not None and call.id.strip():
        return (str(place), call.id) if place else None
    return (str(place), "", str(task)) if task else None


@contextmanager
def _answering(input: Any) -> Iterator[_Call]:
    is_tool_call = isinstance(input, dict) and input.get("type") == "tool_call"
    call_id = input.get("id") if is_tool_call else None
    call = _Call(is_tool_call, call_id if isinstance(call_id, str) else None)
    token, told = _current_call.set(call), told_by_a_tool.set(True)
    try:
        yield call
    finally:
        told_by_a_tool.reset(told)
        _current_call.reset(token)


def _readable(input: Any, call: _Call) -> Any:
    """A call whose arguments are no dict, brought to a form that LangChain reads and refuses."""
    if not call.is_tool_call or isinstance(input.get("args"), dict):
        return input
    return {**input, "args": [input.get("args")]}


def _broken_off(error: ValidationError, job: FluxJob | None) -> ShortAPIError:
    """What a ``ValidationError`` of somebody else's means, a listener's say: the job goes on."""
    what = f"the call broke off ({error.title})"
    if job is None:
        return ShortAPIError(what)
    return ShortAPIError(what, job_id=job.job_id, charge=job.charge)


def _is_answer_to_an_interrupt(error: ValidationError) -> bool:
    """Whether a human's answer to LangGraph's ``interrupt`` was refused: it is asked for again."""
    known = getattr(sys.modules.get("langgraph.errors"), "is_invalid_resume", None)
    return callable(known) and bool(known(error))
