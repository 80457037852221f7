"""How a batch is left on Ctrl-C, SIGTERM and SIGHUP: not before creates under way are answered.

It knows signals and the event loop, and nothing of lines and ledgers.
"""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from langchain_shortapi_flux.command_line.creates_under_way import CreatesUnderWay
    from langchain_shortapi_flux.command_line.terminal import Terminal


class Leaving:
    """Leaves the task that makes it: at the first signal in a moment, at the second at once.

    Args:
        creates: What may be under way; None where nothing outlives the command.
        terminal: Where to say what is waited for.
        seconds: How long to wait for it, at most.
        before: What to do right before the task is cancelled.
    """

    def __init__(
        self,
        creates: CreatesUnderWay | None,
        terminal: Terminal,
        seconds: float,
        before: Callable[[], None],
    ) -> None:
        self._creates = creates
        self._terminal = terminal
        self._seconds = seconds
        self._before = before
        self._task = asyncio.current_task()
        self._waiting: asyncio.Task[None] | None = None
        self._left = False

    def watch(self) -> None:
        """Have every signal leave alike, so that what was bought is noted and told.

        None may break into that wherever it happens to be, as Python's own would.
        """
        # Not on Windows, and not in another thread than the main one: there Python's own does it.
        with suppress(NotImplementedError, RuntimeError, ValueError):
            for number in _leaving_signals():
                asyncio.get_running_loop().add_signal_handler(number, self.signalled)

    def signalled(self) -> None:
        """A signal has come."""
        if self._creates is None or self._waiting is not None or self._left:
            self._leave()
            return
        under_way = self._creates.hold_others()
        if not under_way:
            self._leave()
            return
        named = "1 create" if under_way == 1 else f"{under_way:,} creates"
        self._terminal.say(
            f"stopping: nothing more is bought; waiting up to {self._seconds:g} s for the answers "
            f"to {named} under way (Ctrl-C again leaves at once)"
        )
        self._waiting = asyncio.create_task(self._leave_when_answered(self._creates))

    async def _leave_when_answered(self, creates: CreatesUnderWay) -> None:
        await creates.answered(self._seconds)
        self._leave()

    def _leave(self) -> None:
        self._left = True
        self._before()
        if self._task is not None:
            self._task.cancel()


def ignore_signals() -> None:
    """From the last line on: a second Ctrl-C would only garble it, or the exit code after it."""
    for number in _leaving_signals():
        with suppress(ValueError):  # in another thread than the main one
            signal.signal(number, signal.SIG_IGN)


def _leaving_signals() -> Iterator[signal.Signals]:
    yield signal.SIGINT
    yield signal.SIGTERM
    # Not on Windows; and who started it with nohup wants it to go on.
    hang_up: signal.Signals | None = getattr(signal, "SIGHUP", None)
    if hang_up is not None and signal.getsignal(hang_up) is not signal.SIG_IGN:
        yield hang_up
