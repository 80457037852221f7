"""``AnsweringTool``: a tool whose failures are answers, and which tells how its job is going.

The ground that the tools of this package stand on. It knows LangChain's and LangGraph's ways with
tools, and nothing of what a tool does.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from contextlib import aclosing, closing, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from langchain_core.messages import ToolMessage
from langchain_core.runnables.config import ensure_config
from langchain_core.tools import BaseTool, InjectedToolArg
from pydantic import (
    BaseModel,
    ConfigDict,
    PrivateAttr,
    ValidationError,
    create_model,
    model_validator,
)
from typing_extensions import override

from langchain_shortapi_flux.errors import ShortAPIError
from langchain_shortapi_flux.job import FluxJob, describe_invalid
from langchain_shortapi_flux.tool_content import failure_artifact, failure_text
from langchain_shortapi_flux.tool_progress import atell, progress_event, tell

if TYPE_CHECKING:
    from langchain_core.callbacks import (
        AsyncCallbackManagerForToolRun,
        CallbackManagerForToolRun,
    )
    from langchain_core.messages import ToolCall
    from langchain_core.runnables import RunnableConfig

Injected = Annotated[Any, InjectedToolArg]
"""What LangGraph adds to a call beside the model's own arguments."""
_INJECTED = "runtime"
ARGUMENTS_TITLES = {"FluxTextToImage", "GetJobArguments"}
"""The schemas of the tools' arguments: only an error of theirs is surely one before a create."""
_tool_call_id: ContextVar[str | None] = ContextVar("flux_tool_call_id", default=None)


class Arguments(BaseModel):
    """Arguments that a model fills in; unknown ones are refused by name."""

    # Not extra="forbid": that would also refuse what LangGraph injects.
    model_config = ConfigDict(extra="ignore")

    @model_validator(mode="before")
    @classmethod
    def _no_unknown_arguments(cls, values: Any) -> Any:
        known = {*cls.model_fields, _INJECTED}
        unknown = sorted(set(values) - known) if isinstance(values, dict) else []
        if unknown:
            names = ", ".join(cls.model_fields)
            raise ValueError(f"{', '.join(map(repr, unknown))} unknown; the arguments are {names}")
        return values


def explain_invalid_arguments(error: ValidationError | Any) -> str:
    """Tell a model which argument was wrong, and what is allowed.

    LangChain hands over every ``ValidationError`` of a run, also one that comes up after a create.
    """
    if error.title not in ARGUMENTS_TITLES:
        return (
            f"The call broke off ({error.title}). Whether it was charged is not known: do not call "
            "again with the same arguments. Tell the user."
        )
    problem = describe_invalid(error.errors(), ())
    return f"No image: invalid arguments: {problem}. Nothing was charged. Correct them, call again."


class AnsweringTool(BaseTool):
    """A tool that answers a ``ShortAPIError`` with an error ``ToolMessage`` and an artifact.

    Traces show the failure all the same. ``handle_tool_error`` has LangChain's meaning where it is
    set; ``False`` raises.
    """

    _advice: str | None = PrivateAttr(default=None)
    """What to do after a failure, for a tool that does not buy; None takes the error's own."""

    # As in ShortAPIFlux, whose fields may be given here as a dict.
    model_config = ConfigDict(hide_input_in_errors=True)

    response_format: Literal["content", "content_and_artifact"] = "content_and_artifact"
    handle_tool_error: bool | str | Callable[[Any], Any] | None = None
    """None: answered as described above. Otherwise as in LangChain."""
    handle_validation_error: bool | str | Callable[[Any], str] | None = explain_invalid_arguments

    @override
    def get_input_schema(self, config: RunnableConfig | None = None) -> type[BaseModel]:
        """The arguments, and the place for what LangGraph injects.

        ``args_schema`` stays clean of it, so that the tool also serves where nothing is injected.
        """
        schema = cast("type[BaseModel]", super().get_input_schema(config))
        return create_model(schema.__name__, __base__=schema, runtime=(Injected, None))

    @override
    def invoke(
        self,
        input: str | dict[str, Any] | ToolCall,
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Any:
        """As in LangChain; a ``ShortAPIError`` becomes an answer (see the class)."""
        try:
            with _called_as(input):
                return super().invoke(input, config, **kwargs)
        except ShortAPIError as error:
            if self.handle_tool_error is not None:
                raise
            return self._answer(error, input)

    @override
    async def ainvoke(
        self,
        input: str | dict[str, Any] | ToolCall,
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Any:
        """The async twin of ``invoke``."""
        try:
            with _called_as(input):
                return await super().ainvoke(input, config, **kwargs)
        except ShortAPIError as error:
            if self.handle_tool_error is not None:
                raise
            return self._answer(error, input)

    def _answer(self, error: ShortAPIError, input: Any) -> ToolMessage | str:
        text = failure_text(error, self._advice)
        call_id = _call_id(input)
        if call_id is None:
            return text
        return ToolMessage(
            text,
            artifact=failure_artifact(error, self._advice),
            tool_call_id=call_id,
            name=self.name,
            status="error",
        )

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
                tell(progress_event(job, _tool_call_id.get()), runtime, run_manager)
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
                await atell(progress_event(job, _tool_call_id.get()), runtime, run_manager)
                yield job


def tool_call_id() -> str | None:
    """The id of the tool call that is being answered, if it is one."""
    return _tool_call_id.get()


def agent_call(runtime: object) -> tuple[str, str] | None:
    """What makes this call the same call when an agent is retried or resumed, if anything does.

    The thread's id (or, without a thread, LangGraph's id of the task) and the tool call's id: both
    stay the same over a retry and over a resume. None outside of an agent.
    """
    call_id = _tool_call_id.get()
    configured = ensure_config().get("configurable") or {}
    task = getattr(getattr(runtime, "execution_info", None), "task_id", None)
    place = configured.get("thread_id") or task or configured.get("__pregel_task_id")
    return (str(place), call_id) if place and call_id else None


@contextmanager
def _called_as(input: Any) -> Iterator[None]:
    token = _tool_call_id.set(_call_id(input))
    try:
        yield
    finally:
        _tool_call_id.reset(token)


def _call_id(input: Any) -> str | None:
    if not (isinstance(input, dict) and input.get("type") == "tool_call"):
        return None
    call_id = input.get("id")
    return call_id if isinstance(call_id, str) else None
