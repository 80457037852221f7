"""``FluxProgress``: a bar for each running job and one for a batch, with the money spent so far.

It knows which of LangChain's callbacks are about a job. It knows nothing of how a job is run, and
none of its troubles becomes a job's.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from langchain_core.callbacks import BaseCallbackHandler
from typing_extensions import override

from langchain_shortapi_flux.job import FluxJob, FluxRequest
from langchain_shortapi_flux.job_words import plain
from langchain_shortapi_flux.progress_bars import Bars
from langchain_shortapi_flux.progress_count import WORD_LENGTH_MAX, Count, Run, Spent
from langchain_shortapi_flux.run_progress import current_batch
from langchain_shortapi_flux.tool_progress import PROGRESS_EVENT
from langchain_shortapi_flux.traced_cost import PROVIDER

if TYPE_CHECKING:
    from decimal import Decimal
    from typing import TextIO
    from uuid import UUID

__all__ = ["FluxProgress"]

JOB_BARS_MAX = 8
"""How many jobs have a bar of their own at a time, unless asked otherwise."""
REFRESH_SECONDS = 0.1
"""The least time between two drawings of one bar, unless asked otherwise."""


class FluxProgress(BaseCallbackHandler):
    """Bars for running jobs, and for a batch one that counts them, with the money spent so far.

    Needs tqdm: ``pip install 'langchain-shortapi-flux[notebook]'``. A widget in a notebook, text
    at a terminal::

        flux.batch(prompts, config={"callbacks": [FluxProgress()]})

    It serves every way of calling, sync and async, also inside chains and agents. How long a job
    takes is not known, so its bar shows the seconds gone by and no share of anything. A handler may
    be used again; ``spent`` counts on.

    Args:
        total: How many jobs to expect. A batch says so itself; give it for jobs that are started
            one by one.
        job_bars: How many jobs have a bar of their own at a time; the others are only counted.
        show_prompts: Whether a bar begins with the prompt's first words; if not, with the job's id.
        refresh_seconds: The least time between two drawings of one bar.
        file: Where text goes; stderr if left out.

    Raises:
        ImportError: tqdm is missing.
        ValueError: A number is out of range.
    """

    run_inline = True
    """On the event loop itself: a thread for every event would cost more than the event."""

    def __init__(
        self,
        *,
        total: int | None = None,
        job_bars: int = JOB_BARS_MAX,
        show_prompts: bool = True,
        refresh_seconds: float = REFRESH_SECONDS,
        file: TextIO | None = None,
    ) -> None:
        if total is not None and total < 1:
            raise ValueError(f"total={total!r}: allowed are 1 and more, and None")
        if job_bars < 0:
            raise ValueError(f"job_bars={job_bars!r}: allowed are 0 and more")
        if not refresh_seconds >= 0:
            raise ValueError(f"refresh_seconds={refresh_seconds!r}: allowed are 0 and more")
        self._total = total
        self._show_prompts = show_prompts
        self._bars = Bars(job_bars, refresh_seconds, file)
        self._spent = Spent()
        self._count = Count(total)
        # One that its holder may take again: a stream that is thrown away ends its run wherever
        # the garbage collector happens to work, also in here.
        self._lock = threading.RLock()

    @property
    def spent(self) -> Decimal:
        """USD that the jobs bought so far cost, as the service reports it, less refunds.

        Jobs of which it reports no cost are not in it.
        """
        with self._lock:
            return self._spent.usd

    @property
    def may_have_been_charged(self) -> int:
        """How many creates had an outcome that nobody knows; they are not in ``spent``."""
        with self._lock:
            return self._spent.unclear

    def close(self, *, for_good: bool = False) -> None:
        """Close all bars. Only needed where a run was left without telling of its end.

        Args:
            for_good: Whether none is opened any more, whatever is still told of a run.
        """
        with self._lock:
            self._bars.close(for_good=for_good)
            self._count = Count(self._total)

    # --- what LangChain calls -------------------------------------------------------------------

    @property
    @override
    def ignore_llm(self) -> bool:
        """Nothing of a model's run is about a job."""
        return True

    @property
    @override
    def ignore_chat_model(self) -> bool:
        """Likewise."""
        return True

    @property
    @override
    def ignore_retriever(self) -> bool:
        """Likewise."""
        return True

    @property
    @override
    def ignore_retry(self) -> bool:
        """Likewise: an attempt is a run of its own."""
        return True

    @override
    def on_chain_start(
        self,
        serialized: dict[str, Any],
        inputs: Any,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Open a bar for the run of a ``ShortAPIFlux``, and for no other."""
        if kwargs.get("run_type") != "tool" or (metadata or {}).get("ls_provider") != PROVIDER:
            return
        batch = current_batch.get()
        again = any(tag.startswith("retry:attempt:") for tag in tags or ())
        with self._lock:
            if run_id in self._count.runs:
                return
            run = Run(self._label(inputs), parent_run_id)
            if not self._count.goes_on_with(run, batch, again=again):
                self._count = Count(self._total)
            self._count.start(run_id, run, batch, again=again)
            self._bars.show(run, self._count, self._spent)

    @override
    def on_custom_event(self, name: str, data: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Show a snapshot on the bar of its run, and count what it says of money."""
        if name != PROGRESS_EVENT:
            return
        with self._lock, suppress(KeyError, TypeError, ValueError, ArithmeticError):
            known = self._count.run_of(run_id)
            run = known or Run("")
            run.tell(data)
            self._spent.see(data)
            if known is None:
                if data["status"] != "pending":
                    return
                # A tool that only follows a job: its run is known by its first snapshot.
                self._count.start(run_id, run, None, again=False)
            self._bars.show(run, self._count, self._spent)

    @override
    def on_chain_end(self, outputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Close the run's bar."""
        self._end(run_id, outputs=outputs)

    @override
    def on_chain_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Close the run's bar, and count what may have been charged."""
        self._end(run_id, error=error)

    @override
    def on_tool_end(self, output: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Close the bar of a tool that only followed a job."""
        self._end(run_id)

    @override
    def on_tool_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """As ``on_tool_end``."""
        self._end(run_id, error=error)

    # --------------------------------------------------------------------------------------------

    def _end(
        self, run_id: UUID, *, error: BaseException | None = None, outputs: object = None
    ) -> None:
        with self._lock:
            run = self._count.end(run_id, error)
            if run is None:
                return
            if isinstance(outputs, FluxJob):  # a stream's input is not known before
                run.label = run.label or self._label(outputs.request)
            unknown = getattr(error, "charge", "unknown") == "unknown"
            if error is not None and unknown and run.job_id is None:
                self._spent.unclear += 1
            self._bars.end(run, self._count, self._spent, failed=error is not None)

    def _label(self, asked: Any) -> str:
        if not self._show_prompts:
            return ""
        prompt = asked.get("prompt") if isinstance(asked, dict) else asked
        prompt = prompt.prompt if isinstance(prompt, FluxRequest) else prompt
        return plain(prompt, WORD_LENGTH_MAX) if isinstance(prompt, str) else ""
