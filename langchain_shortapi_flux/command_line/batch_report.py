"""A batch in words while it goes on: what was found, and each line as it ends.

It knows what a person and a script are told of a line. It knows nothing of how jobs are bought and
saved, nor of what is said at the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_shortapi_flux.command_line.command_failure import failure_line
from langchain_shortapi_flux.command_line.job_json import json_line
from langchain_shortapi_flux.job_words import one_line, plain

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from langchain_shortapi_flux.command_line.batch_ledger import Known
    from langchain_shortapi_flux.command_line.line_outcomes import LineOutcomes
    from langchain_shortapi_flux.command_line.prompt_file import PromptLine
    from langchain_shortapi_flux.command_line.terminal import Terminal
    from langchain_shortapi_flux.job import FluxJob

_COLUMNS_LENGTH_MAX = 600


class BatchReport:
    """Tells how a batch goes, and has it counted.

    Args:
        lines: What is asked for, options filled in.
        outcomes: Who counts what each line comes to.
        terminal: Where to tell it.
        in_sandbox: Whether nothing outlives the command.
        as_json: Whether stdout gets JSON in place of paths.
        each: Whether stderr gets a line for each job that ends.

    Attributes:
        unlisted: Why stdout could not be written to, if so.
    """

    def __init__(
        self,
        lines: Sequence[PromptLine],
        outcomes: LineOutcomes,
        terminal: Terminal,
        *,
        in_sandbox: bool,
        as_json: bool,
        each: bool,
    ) -> None:
        self._lines = lines
        self._outcomes = outcomes
        self._terminal = terminal
        self._in_sandbox = in_sandbox
        self._as_json = as_json
        self._each = each
        self.unlisted: str | None = None

    def found(self, name: str, columns: Sequence[str], before: Known, *, buy_unknown: bool) -> None:
        """What there is to do, and what an earlier run has done of it.

        Args:
            name: The file's.
            columns: Which of its columns are not used.
            before: What the ledger knows of the lines.
            buy_unknown: Whether what may have been charged is bought again.
        """
        self._terminal.say(f"{name}: {lines_counted(len(self._lines))}")
        if columns:
            named = plain(", ".join(columns), _COLUMNS_LENGTH_MAX)
            self._terminal.say(f"its other columns are not used: {named}")
        again = "" if buy_unknown else "not "
        counts = {
            "have ended": len(before.ended),
            "bought, and followed now": len(before.running),
            f"may have been charged, and {again}bought again": len(before.in_doubt),
        }
        told = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
        if told:
            self._terminal.say(f"known from an earlier run: {told}")
        if before.being_bought:
            self._terminal.say(
                f"{len(before.being_bought)} were being bought when an earlier run was stopped, or "
                f"another run buys them now: waiting up to {before.wait:.0f} s to learn which; the "
                "other lines go first"
            )

    def saved(self, place: int, job: FluxJob, paths: Sequence[Path]) -> None:
        """A line has its pictures on disk."""
        line = self._lines[place]
        self._outcomes.save(place, job, line.request.num_images or 0)
        if self._as_json:
            self._give(json_line(line.request, job, paths=paths, line=line.number))
        for path in () if self._as_json else paths:
            self._give(str(path))
        self._tell(place, one_line(job))

    def failed(self, place: int, error: Exception, job: FluxJob | None = None) -> None:
        """A line has come to nothing, or the ``job`` that it has could not be saved."""
        self._outcomes.fail(place, error, job)
        line, text = self._lines[place], failure_line(error, in_sandbox=self._in_sandbox)
        if self._as_json:
            self._give(json_line(line.request, job, line=line.number, error=error, message=text))
        self._tell(place, f"{type(error).__name__}: {text}")

    def _tell(self, place: int, text: str) -> None:
        if self._each:
            number = self._lines[place].number
            done = f"{self._outcomes.ended}/{len(self._lines)}"
            self._terminal.say(f"[{done}] line {number}: {text}")

    def _give(self, text: str) -> None:
        try:
            self._terminal.give(text)
        except OSError as error:  # a full disk or a pipe that nobody reads: the jobs go on
            self.unlisted = str(error.strerror)


def lines_counted(count: int) -> str:
    """So many lines, in words."""
    return f"{count:,} line{'' if count == 1 else 's'}"
