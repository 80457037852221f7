"""Who takes his leave on a busy thread goes right after: never in between, and never not at all."""

from __future__ import annotations

import threading
from functools import partial

import pytest

from langchain_shortapi_flux.leave_taking import take_leave, undisturbed


def test_on_a_thread_that_is_not_busy_one_leaves_at_once() -> None:
    """Before and after as well."""
    done: list[str] = []
    take_leave(partial(done.append, "before"))
    undisturbed(partial(done.append, "act"))
    take_leave(partial(done.append, "after"))
    assert done == ["before", "act", "after"]


def test_on_a_busy_thread_all_leave_when_the_outermost_act_has_ended() -> None:
    """In the order in which they came. What the act gives is given."""
    done: list[object] = []

    def act() -> str:
        take_leave(partial(done.append, 1))
        undisturbed(partial(take_leave, partial(done.append, 2)))
        take_leave(partial(done.append, 3))
        done.append("act")
        return "given"

    assert undisturbed(act) == "given"
    assert done == ["act", 1, 2, 3]


def test_one_who_leaves_is_not_disturbed_by_the_next() -> None:
    """Closing one generator may make the collector close another."""
    done: list[str] = []

    def leave() -> None:
        take_leave(partial(done.append, "the next"))
        done.append("the first")

    undisturbed(partial(take_leave, leave))
    assert done == ["the first", "the next"]


def test_an_act_that_fails_is_left_all_the_same() -> None:
    """Its error goes on its way."""
    done: list[str] = []

    def act() -> None:
        take_leave(partial(done.append, "left"))
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        undisturbed(act)
    assert done == ["left"]


def test_an_interrupt_of_one_who_leaves_holds_nobody_for_ever() -> None:
    """Ctrl-C comes whenever it comes; the others go all the same, and in their order."""
    done: list[str] = []

    def interrupted() -> None:
        raise KeyboardInterrupt

    def act() -> None:
        take_leave(interrupted)
        take_leave(partial(done.append, "the other"))

    with pytest.raises(KeyboardInterrupt):
        undisturbed(act)
    take_leave(partial(done.append, "at once"))
    undisturbed(partial(done.append, "act"))
    assert done == ["the other", "at once", "act"]


def test_a_busy_thread_keeps_no_other_thread_from_leaving() -> None:
    """Threads do not wait for each other here."""
    done: list[str] = []

    def act() -> None:
        other = threading.Thread(target=take_leave, args=(partial(done.append, "other"),))
        other.start()
        other.join()
        done.append("act")

    undisturbed(act)
    assert done == ["other", "act"]
