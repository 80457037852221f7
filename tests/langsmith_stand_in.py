"""LangSmith as far as a tracer sees it: the real client posts runs to a server that keeps them.

What a test reads here is what would have left the machine. It knows nothing of jobs.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from langchain_core.tracers import LangChainTracer
from langsmith import Client
from reply_server import ReplyServer
from transcripts import said

if TYPE_CHECKING:
    from collections.abc import Iterator


class LangSmithStandIn:
    """A tracer, and what its client sent so far."""

    def __init__(self, server: ReplyServer) -> None:
        self._server = server
        # Unbatched: a run has been sent by the time a call comes back.
        self._client = Client(
            api_url=server.base_url, api_key="not-a-secret", auto_batch_tracing=False, info={}
        )
        self.tracer = LangChainTracer(client=self._client, project_name="tests")

    @property
    def sent(self) -> bytes:
        """Every body as it arrived."""
        return b"\n".join(asked.body for asked in self._server.asked)

    @property
    def runs(self) -> list[dict[str, Any]]:
        """The runs, each as its last message has it, in the order of their starts."""
        last: dict[str, dict[str, Any]] = {}
        for asked in list(self._server.asked):
            run = json.loads(asked.body)
            last[run["id"]] = {**last.get(run["id"], {}), **run}
        return list(last.values())

    def named(self, name: str) -> list[dict[str, Any]]:
        """The runs of that name."""
        return [run for run in self.runs if run["name"] == name]


@contextmanager
def langsmith_stand_in(status: int = 202) -> Iterator[LangSmithStandIn]:
    """A stand-in that answers everything with that HTTP status."""
    with ReplyServer(said({}, status)) as server:
        yield LangSmithStandIn(server)


def metadata_of(run: dict[str, Any]) -> dict[str, Any]:
    """The metadata of a run that was sent."""
    return dict(run["extra"]["metadata"])


def cost_of(run: dict[str, Any]) -> float | None:
    """What a run says that it cost, if it says so."""
    usage = metadata_of(run).get("usage_metadata")
    return None if usage is None else usage["total_cost"]
