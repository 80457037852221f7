"""The bars of a progress display: one for each running job, up to a number, and one that counts.

It knows tqdm, and nothing of LangChain. Who calls sees to it that only one thread does at a time.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

    from langchain_shortapi_flux.progress_count import Count, Run, Spent

logger = logging.getLogger(__name__)

# How long a job takes is not known: its bar has no fill, and only pads the line.
_JOB_FORMAT = "{desc}{bar}"
_COUNT_FORMAT = "{n_fmt} done, {desc} [{elapsed}]{bar}"
_BATCH_FORMAT = "{n_fmt}/{total_fmt} |{bar}| {desc} [{elapsed}]"
_NOT_YET_SECONDS = 1e-9
"""Keeps a new bar from being drawn before it is known here, and can be closed if that fails."""
_KEPT_COLUMNS = 72
"""How wide a bar is that a notebook keeps as text."""


class Bars:
    """Draws what is counted. After the first failure nothing is drawn any more.

    Args:
        job_bars: How many jobs have a bar of their own at a time.
        refresh_seconds: The least time between two drawings of one bar.
        file: Where text goes; None for stderr.

    Raises:
        ImportError: tqdm is missing.
    """

    def __init__(self, job_bars: int, refresh_seconds: float, file: TextIO | None) -> None:
        self._bar_class = _bar_class()
        self._options: dict[str, Any] = {
            "file": file,
            "mininterval": refresh_seconds,
            "miniters": 0,
            "dynamic_ncols": True,
            "delay": _NOT_YET_SECONDS,
        }
        self._job_bars = job_bars
        self._draws = True
        self._of_run: dict[Run, Any] = {}
        self._idle: list[Any] = []
        self._counting: Any = None
        self._since: tuple[Count, float] | None = None
        """When the first bar of a count was drawn: one that is drawn anew goes on from there."""

    def show(self, run: Run, count: Count, spent: Spent) -> None:
        """Draw a run that has begun or brought news."""
        self._harmless(lambda: self._show(run, count, spent))

    def end(self, run: Run, count: Count, spent: Spent, *, failed: bool) -> None:
        """Draw a run that has ended; with the last one, all bars are closed."""
        self._harmless(lambda: self._end(run, count, spent, failed=failed))

    def close(self, *, for_good: bool = False) -> None:
        """Close all bars; ``for_good``, nothing is drawn any more."""
        self._draws = self._draws and not for_good
        bars = [*self._of_run.values(), *self._idle, self._counting]
        self._of_run, self._idle, self._counting = {}, [], None
        for bar in bars:
            with suppress(Exception):
                if bar is not None:
                    bar.close()

    def _harmless(self, draw: Callable[[], None]) -> None:
        if not self._draws:
            return
        try:
            draw()
        except Exception:
            self._draws = False
            logger.warning("progress bars are off, for drawing them failed", exc_info=True)
            self.close()

    def _show(self, run: Run, count: Count, spent: Spent) -> None:
        self._show_count(count, spent)
        bar = self._of_run.get(run)
        if bar is not None:
            # What create answered stands there for a while, so it is not left out for being quick.
            bar.set_description_str(run.words, refresh=run.snapshots == 1)
            bar.update(0)
        elif self._idle:
            self._give(self._idle.pop(), run)
        elif len(self._of_run) < self._job_bars:
            bar = self._of_run[run] = self._bar_class(
                **self._options, bar_format=_JOB_FORMAT, leave=False, desc=run.words
            )
            bar.appear()

    def _give(self, bar: Any, run: Run) -> None:
        self._of_run[run] = bar
        bar.set_description_str(run.words)

    def _show_count(self, count: Count, spent: Spent) -> None:
        total, words, bar = count.expected, count.words(spent), self._counting
        if bar is not None and bar.total != total:
            # A widget cannot be given another total.
            bar.vanish()
            bar = self._counting = None
        if bar is None and max(total or 0, count.started) > 1:
            bar = self._counting = self._bar_class(
                **self._options,
                bar_format=_BATCH_FORMAT if total else _COUNT_FORMAT,
                total=total,
                initial=count.ended,
                desc=words,
                leave=True,
            )
            if self._since is None or self._since[0] is not count:
                self._since = (count, bar.start_t)
            bar.start_t = self._since[1]
            bar.appear()
        if bar is not None:
            bar.set_description_str(words, refresh=False)
            bar.update(count.ended - bar.n)

    def _end(self, run: Run, count: Count, spent: Spent, *, failed: bool) -> None:
        bar = self._of_run.pop(run, None)
        self._show_count(count, spent)
        if bar is not None:
            self._pass_on(bar, run, count)
        if not count.runs:
            if self._counting is not None and count.more_to_come and not failed:
                # Jobs come one by one, and the next draws it anew. After a failure none may come.
                self._counting.vanish()
                self._counting = None
            self.close()

    def _pass_on(self, bar: Any, run: Run, count: Count) -> None:
        """Hand a bar to a run that has none: a new widget for each job would be many."""
        waiting = next((other for other in count.runs.values() if other not in self._of_run), None)
        if self._counting is None:
            bar.leave = True
            bar.set_description_str(run.words, refresh=False)
            bar.close()
        elif waiting is not None:
            self._give(bar, waiting)
        elif count.runs and count.more_to_come:
            self._idle.append(bar)
            bar.set_description_str("")
        else:
            bar.close()


def _bar_class() -> Any:
    try:
        tqdm: Any = import_module("tqdm.auto").tqdm
    except ImportError:
        raise ImportError(
            "FluxProgress needs tqdm: pip install 'langchain-shortapi-flux[notebook]'"
        ) from None

    class Bar(tqdm):  # type: ignore[misc]
        """A bar of tqdm's that hurts nobody where it fails."""

        monitor_interval = 0  # no thread that outlives the bars
        _place: Any = None
        """Where a notebook shows it."""

        def refresh(self, *_: object, **__: object) -> object:
            """Draw it now."""
            # tqdm's own takes the lock of all bars and keeps it if drawing fails or is interrupted:
            # every other thread that draws would wait for ever, and its job with it.
            with self._lock:
                return super().refresh(nolock=True)

        def appear(self) -> None:
            """Draw it for the first time."""
            if (widget := getattr(self, "container", None)) is not None:
                if self.total is None:  # no share of anything, only words
                    widget.children[1].layout.display = "none"
                self._place = import_module("IPython.display").display(widget, display_id=True)
                self.displayed = True
            self.refresh()
            self.delay = 0

        def close(self) -> None:
            """Close it. What stays in a notebook is its last line: a kept widget shows nothing."""
            super().close()
            place, self._place = self._place, None
            if place is not None:
                place.update({"text/plain": self._last_line()} if self.leave else {}, raw=True)

        def _last_line(self) -> str:
            drawn = {**self.format_dict, "ncols": _KEPT_COLUMNS, "ascii": False}
            return str(self.format_meter(**drawn)).rstrip()

        def vanish(self) -> None:
            """Close it and leave nothing behind."""
            self.leave, self.total = False, None
            self.close()

    return Bar
