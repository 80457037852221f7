"""Telling whoever listens how a tool's job is going, on every channel that LangChain has.

It knows the channels, and nothing of what to do about a job. No channel is imported that is not
there already, and where nobody listens nothing happens.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from langchain_core.callbacks.manager import adispatch_custom_event, dispatch_custom_event

from langchain_shortapi_flux.errors import Charge  # noqa: TC001 - for readers of ProgressEvent

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.callbacks import (
        AsyncCallbackManagerForToolRun,
        CallbackManagerForToolRun,
    )

    from langchain_shortapi_flux.job import FluxJob

PROGRESS_EVENT = "flux_progress"
"""The name of the custom event, and the ``type`` of every payload."""
PROGRESS_VERSION = 1


class ProgressEvent(TypedDict):
    """What is known of a job, as plain JSON types. Without the prompt."""

    type: Literal["flux_progress"]
    version: int
    tool_call_id: str | None
    job_id: str
    status: str
    charge: Charge
    cost: str | None
    """USD as a decimal string, as the service reports it."""
    refunded: str | None
    """USD given back, as a decimal string, as the service reports it."""
    queries: int
    elapsed: float
    """Seconds."""
    images: list[str]


def progress_event(job: FluxJob, tool_call_id: str | None) -> ProgressEvent:
    """One snapshot as an event. The bytes of pictures inside the reply stay out of it."""
    return {
        "type": "flux_progress",
        "version": PROGRESS_VERSION,
        "tool_call_id": tool_call_id,
        "job_id": job.job_id,
        "status": job.status,
        "charge": job.charge,
        "cost": None if job.cost is None else str(job.cost),
        "refunded": None if job.refunded is None else str(job.refunded),
        "queries": job.queries,
        "elapsed": round(job.elapsed, 3),
        "images": [image.url for image in job.images],
    }


def tell(
    event: ProgressEvent, runtime: object, run_manager: CallbackManagerForToolRun | None
) -> None:
    """Send an event to LangGraph's streams and as a custom event."""
    for send in _graph_channels(runtime):
        send(event)
    if run_manager is not None:
        config = {"callbacks": run_manager.get_child()}
        dispatch_custom_event(PROGRESS_EVENT, event, config=config)  # type: ignore[arg-type]


async def atell(
    event: ProgressEvent, runtime: object, run_manager: AsyncCallbackManagerForToolRun | None
) -> None:
    """The async twin of ``tell``."""
    for send in _graph_channels(runtime):
        send(event)
    if run_manager is not None:
        config = {"callbacks": run_manager.get_child()}
        await adispatch_custom_event(PROGRESS_EVENT, event, config=config)  # type: ignore[arg-type]


def _graph_channels(runtime: object) -> list[Callable[[Any], object]]:
    """The streams ``custom`` and ``tools``, where this runs in a graph that has them."""
    channels = [getattr(runtime, "emit_output_delta", None), _custom_stream(runtime)]
    return [channel for channel in channels if callable(channel)]


def _custom_stream(runtime: object) -> object:
    writer = getattr(runtime, "stream_writer", None)
    if writer is not None or "langgraph.config" not in sys.modules:
        return writer
    try:
        return sys.modules["langgraph.config"].get_stream_writer()
    except (KeyError, RuntimeError):  # a bare tool run, or no run at all
        return None
