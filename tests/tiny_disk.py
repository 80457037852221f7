"""A disk that is soon full, for one process alone: it is gone when that process ends.

Needs Linux and leave to mount; a quota, in the same tests, needs neither.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

TINY_DISK_BYTES = 64 * 2**10
_NO_MOUNT = 77
_MOUNT = (
    f'mount -t tmpfs -o size={TINY_DISK_BYTES} tmpfs "$1" || exit {_NO_MOUNT}; shift; exec "$@"'
)


def printed_on_tiny_disk(place: Path, program: str, *arguments: str) -> list[str]:
    """The lines that a Python program prints; to it, the folder ``place`` is such a disk."""
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("unshare gives this test a disk of its own, and is not installed")
    command = [sys.executable, "-W", "error", "-c", program, *arguments]
    done = subprocess.run(
        [unshare, "-Urm", "sh", "-c", _MOUNT, "sh", str(place), *command],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == _NO_MOUNT or "unshare" in done.stderr:
        pytest.skip(f"this user may not mount a disk of its own: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
