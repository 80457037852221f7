"""The command in a process of its own, that can be interrupted as at a terminal."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

PROGRAM = (sys.executable, "-W", "error", "-m", "langchain_shortapi_flux")
UNTIL_SECONDS_MAX = 30.0


def started(arguments: Sequence[str], folder: Path | None = None) -> subprocess.Popen[str]:
    """It runs, in that folder or in this one; what it says is to be read."""
    return subprocess.Popen(
        [*PROGRAM, *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Where the suite runs in the background, interrupts are ignored, and that is inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )


def until(there: Callable[[], object], running: subprocess.Popen[str]) -> None:
    """Wait until that is so, as long as the command runs."""
    ends = time.monotonic() + UNTIL_SECONDS_MAX
    while not there():
        assert running.poll() is None
        assert time.monotonic() < ends
        time.sleep(0.01)
