"""Blocking calls over a loop in a thread: what happens where no loop is to be had."""

from __future__ import annotations

import gc
import resource
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from langchain_shortapi_flux.loop_thread import run_in_loop_thread

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def _no_descriptor_left() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def _answer() -> int:
    return 42


# Python's own half-made loop complains when it is thrown away, which is done here.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_loop_that_cannot_be_made_is_an_error_and_no_endless_wait() -> None:
    """A server at its limit of open files must get an answer, not a thread that hangs."""
    assert run_in_loop_thread(_answer) == 42
    with _no_descriptor_left(), pytest.raises(OSError, match="Too many open files"):
        run_in_loop_thread(_answer)
    assert run_in_loop_thread(_answer) == 42
    gc.collect()
