"""Lines on stdout and stderr, none of which can fail a job that is paid for.

It knows who reads which: scripts read stdout, a person reads stderr, perhaps with bars on it.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

from langchain_shortapi_flux.job_words import plain

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130
COMMAND = "shortapi-flux"
LINE_LENGTH_MAX = 4_000
_WHOLE_LINE = "\r\x1b[K"


class Terminal:
    """Where a command says things.

    Attributes:
        parting: What to say after Ctrl-C. Who spends money says so here before.
    """

    def __init__(self) -> None:
        self.parting: Callable[[], str] = lambda: "interrupted; nothing was charged"
        self._bars: Any = None
        self._shown = False

    @property
    def is_watched(self) -> bool:
        """Whether stderr is a terminal, on which a line can be drawn again."""
        return sys.stderr.isatty()

    def has_bars(self) -> None:
        """From now on tqdm's bars are on stderr, and lines go above them."""
        self._bars = import_module("tqdm.std").tqdm

    def say(self, text: str) -> None:
        """A line for a person."""
        with suppress(OSError):  # nobody reads it: no reason to leave a paid job
            self._write(sys.stderr, f"{text}\n")

    def show(self, text: str) -> None:
        """Draw a line for a person in place of the one before, until ``clear``."""
        self._shown = True
        with suppress(OSError):
            self._write(sys.stderr, f"{_WHOLE_LINE}{text}")

    def clear(self) -> None:
        """Take the shown line away."""
        if self._shown:
            self._shown = False
            with suppress(OSError):
                self._write(sys.stderr, _WHOLE_LINE)

    def give(self, text: str) -> None:
        """A line for a script.

        Raises:
            OSError: A full disk, or a pipe that nobody reads any more.
        """
        self._write(sys.stdout, f"{text}\n")

    def give_up(self, problem: str, code: int) -> int:
        """Say why the command ends with this exit code, which is given back."""
        self.clear()
        # A text may repeat what a service or a file says, which must not steer the terminal.
        lines = [plain(line, LINE_LENGTH_MAX) for line in problem.split("\n")]
        self.say("\n".join([f"{COMMAND}: {lines[0]}", *lines[1:]]))
        return code

    def _write(self, file: TextIO | None, text: str) -> None:
        if file is None:  # it was closed before the command began
            return
        if self._bars is None:
            file.write(text)
            file.flush()
            return
        with self._bars.external_write_mode(file=file):
            file.write(text)
            file.flush()
