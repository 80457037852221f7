"""Telling the callback handlers of a Runnable's own run how its job is going.

It knows whether anybody listens; where nobody does, nothing is done. Within a tool call the tool
tells, on its run and on its graph's streams, and this stays silent. It knows nothing of jobs.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler, BaseCallbackManager
from langchain_core.runnables.config import (
    ensure_config,
    get_async_callback_manager_for_config,
    var_child_runnable_config,
)

from langchain_shortapi_flux.tool_progress import PROGRESS_EVENT, progress_event

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from langchain_shortapi_flux.job import FluxJob


@dataclass(frozen=True, eq=False)
class BatchSize:
    """One call of ``batch``, told from every other by being itself.

    Attributes:
        jobs: How many inputs it was given.
    """

    jobs: int


current_batch: ContextVar[BatchSize | None] = ContextVar("flux_current_batch", default=None)
"""The batch that a run belongs to, for handlers that count."""
told_by_a_tool: ContextVar[bool] = ContextVar("flux_told_by_a_tool", default=False)
"""Whether a tool tells of the job already."""

_SILENT = (BaseCallbackHandler.on_custom_event, AsyncCallbackHandler.on_custom_event)


def is_heard(config: RunnableConfig | None) -> bool:
    """Whether any handler or tracer would hear of a run with this config, here and now."""
    return bool(get_async_callback_manager_for_config(ensure_config(config)).handlers)


class RunProgress:
    """Sends each snapshot as a custom event of the run that is going on when this is made."""

    def __init__(self) -> None:
        self._manager: Any = None
        if told_by_a_tool.get():
            return
        manager = (var_child_runnable_config.get() or {}).get("callbacks")
        if (
            isinstance(manager, BaseCallbackManager)
            and manager.parent_run_id is not None
            and any(_listens(handler) for handler in manager.handlers)
        ):
            self._manager = manager

    def tell(self, job: FluxJob) -> None:
        """Send one snapshot to whoever listens."""
        if self._manager is not None:
            self._send(job)

    async def atell(self, job: FluxJob) -> None:
        """The async twin of ``tell``."""
        if self._manager is not None:
            await self._send(job)

    def _send(self, job: FluxJob) -> Any:
        # The run's own manager decides whether there is something to await.
        event, run_id = progress_event(job, None), self._manager.parent_run_id
        return self._manager.on_custom_event(PROGRESS_EVENT, event, run_id=run_id)


def _listens(handler: BaseCallbackHandler) -> bool:
    """Whether an event would tell it anything: tracers, for example, do nothing with one.

    What taps the stream itself, as ``astream_events`` does, sees every snapshot already.
    """
    heard = cast("Any", type(handler)).on_custom_event
    taps = hasattr(handler, "tap_output_iter")
    return heard not in _SILENT and not handler.ignore_custom_event and not taps
