"""A batch in words: what was found, each line as it ends, what came of all, what Ctrl-C left.

It counts and tells. It knows nothing of how jobs are bought and saved.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from langchain_shortapi_flux.command_line.command_failure import SANDBOX_ENDED, failure_text
from langchain_shortapi_flux.command_line.job_json import json_line
from langchain_shortapi_flux.command_line.terminal import EXIT_FAILED, EXIT_OK
from langchain_shortapi_flux.errors import BudgetExceeded, CreateOutcomeUnknown
from langchain_shortapi_flux.job_words import one_line, plain
from langchain_shortapi_flux.traced_cost import net_cost

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from langchain_shortapi_flux.command_line.batch_ledger import Known
    from langchain_shortapi_flux.command_line.prompt_file import PromptLine
    from langchain_shortapi_flux.command_line.terminal import Terminal
    from langchain_shortapi_flux.job import FluxJob

FREE_FAILURES_LISTED = 10
"""How many lines are listed that cost nothing; those that may have cost something all are."""
_TEXT_LENGTH_MAX = 600
_PROMPT_LENGTH_MAX = 60


class BatchReport:
    """Tells how a batch goes, and keeps count.

    Args:
        lines: What is asked for, options filled in.
        folder: Where the pictures go.
        before: What the ledger knew at the start.
        terminal: Where to tell it.
        in_sandbox: Whether nothing outlives the command.
        as_json: Whether stdout gets JSON in place of paths.
        each: Whether stderr gets a line for each job that ends.
    """

    def __init__(
        self,
        lines: Sequence[PromptLine],
        folder: Path,
        before: Known,
        terminal: Terminal,
        *,
        in_sandbox: bool,
        as_json: bool,
        each: bool,
    ) -> None:
        self._lines = lines
        self._folder = folder
        self._before = before
        self._terminal = terminal
        self._in_sandbox = in_sandbox
        self._as_json = as_json
        self._each = each
        self._saved: set[int] = set()
        self._failed: dict[int, Exception] = {}
        self._bought: dict[int, Decimal | None] = {}
        self._unlisted: str | None = None

    # --- as it goes -----------------------------------------------------------------------------

    def saved(self, place: int, job: FluxJob, paths: Sequence[Path]) -> None:
        """A line has its pictures on disk."""
        self._saved.add(place)
        self._note_money(place, job, None)
        line = self._lines[place]
        if self._as_json:
            self._give(json_line(line.request, job, paths=paths, line=line.number))
        for path in () if self._as_json else paths:
            self._give(str(path))
        self._tell(place, one_line(job))

    def failed(self, place: int, error: Exception, job: FluxJob | None = None) -> None:
        """A line has come to nothing, or the ``job`` that it has could not be saved."""
        self._failed[place] = error
        self._note_money(place, job, error)
        line, text = self._lines[place], self._text(error)
        if self._as_json:
            self._give(json_line(line.request, job, line=line.number, error=error, message=text))
        self._tell(place, f"{type(error).__name__}: {text}")

    def _tell(self, place: int, text: str) -> None:
        if self._each:
            done = len(self._saved) + len(self._failed)
            number = self._lines[place].number
            self._terminal.say(f"[{done}/{len(self._lines)}] line {number}: {text}")

    def _give(self, text: str) -> None:
        try:
            self._terminal.give(text)
        except OSError as error:  # a full disk or a pipe that nobody reads: the jobs go on
            self._unlisted = str(error.strerror)

    def _note_money(self, place: int, job: FluxJob | None, error: Exception | None) -> None:
        job_id = job.job_id if job is not None else getattr(error, "job_id", None)
        known = self._before.entries.get(place)
        if job_id is None or (known is not None and known.job_id == job_id):
            return
        if job is None or job.cost is None:
            self._bought[place] = None
        else:
            self._bought[place] = net_cost(job.charge, job.cost, job.refunded)

    # --- before, after, and broken off ----------------------------------------------------------

    def found(self, name: str, columns: Sequence[str], *, buy_unknown: bool) -> None:
        """What there is to do, and what an earlier run has done of it."""
        self._terminal.say(f"{name}: {_lines_counted(len(self._lines))}")
        if columns:
            named = plain(", ".join(columns), _TEXT_LENGTH_MAX)
            self._terminal.say(f"its other columns are not used: {named}")
        before = self._before
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

    def end(self) -> int:
        """What came of all lines; gives the exit code."""
        count = len(self._lines)
        words = [f"{len(self._saved):,} of {_lines_counted(count)} saved in {self._folder}"]
        if self._bought:
            words.append(f"{len(self._bought):,} bought now, {self._spent()}")
        self._terminal.say("; ".join(words))
        self._list_failures()
        if self._unlisted is not None:
            self._terminal.say(f"stdout could not be written to: {self._unlisted}")
        all_well = len(self._saved) == count and self._unlisted is None
        return EXIT_OK if all_well else EXIT_FAILED

    def interrupted(self, after: Known | None) -> str:
        """What became of the lines until then, by what the ledger knows of them after."""
        done = f"interrupted: {len(self._saved):,} of {_lines_counted(len(self._lines))} saved"
        if self._failed:
            done += f", {len(self._failed)} failed"
        if self._in_sandbox:
            return f"{done}; {SANDBOX_ENDED}"
        if after is not None:
            settled = {*self._saved, *self._failed}
            bought = {*after.ended, *after.running} - settled
            doubt = {*after.in_doubt, *after.being_bought} - settled
            rest = set(range(len(self._lines))) - settled - bought - doubt
            done += f", {len(bought)} bought and running or not saved yet"
            done += f", {len(doubt)} may have been charged" if doubt else ""
            done += f", {len(rest)} not bought"
        return f"{done}; run the same command again to go on: nothing is bought twice"

    # --------------------------------------------------------------------------------------------

    def _spent(self) -> str:
        costs = [cost for cost in self._bought.values() if cost is not None]
        silent = len(self._bought) - len(costs)
        money = f"{sum(costs, Decimal(0)):f} USD"
        return f"{money} and what {silent} cost, which is not reported" if silent else money

    def _list_failures(self) -> None:
        unknown = [p for p, one in self._failed.items() if isinstance(one, CreateOutcomeUnknown)]
        refused = [p for p, one in self._failed.items() if isinstance(one, BudgetExceeded)]
        others = [p for p in self._failed if p not in {*unknown, *refused}]
        free = [p for p in others if getattr(self._failed[p], "charge", "unknown") == "none"]
        if refused:
            numbers = [self._lines[place].number for place in sorted(refused)]
            self._terminal.say(
                f"{_lines_counted(len(refused))} not bought, for they do not fit into the budget: "
                f"{_numbered(numbers)}"
            )
        self._list("failed:", [place for place in others if place not in set(free)])
        self._list("failed, and nothing was charged:", free, FREE_FAILURES_LISTED)
        if unknown and self._in_sandbox:
            self._list("without a known outcome:", unknown)
        elif unknown:
            self._list(
                "unknown: may have been charged, and not bought again without --buy-unknown (look "
                "at the account's jobs of that time first):",
                unknown,
            )

    def _list(self, title: str, places: Sequence[int], limit: int | None = None) -> None:
        if not places:
            return
        self._terminal.say(f"{_lines_counted(len(places))} {title}")
        for place in sorted(places)[:limit]:
            line, error = self._lines[place], self._failed[place]
            prompt = plain(line.request.prompt, _PROMPT_LENGTH_MAX)
            self._terminal.say(f"  line {line.number}, {prompt}: {self._ending(error)}")
        if limit is not None and len(places) > limit:
            self._terminal.say(f"  and {len(places) - limit} more")

    def _ending(self, error: Exception) -> str:
        if not isinstance(error, CreateOutcomeUnknown) or self._in_sandbox:
            return self._text(error)
        when = "an unknown time"
        if error.claimed_at is not None:
            when = datetime.fromtimestamp(error.claimed_at, UTC).isoformat(timespec="seconds")
        return f"unknown: may have been charged; key {error.key}, claimed at {when}"

    def _text(self, error: Exception) -> str:
        return plain(failure_text(error, in_sandbox=self._in_sandbox), _TEXT_LENGTH_MAX)


def _lines_counted(count: int) -> str:
    return f"{count:,} line{'' if count == 1 else 's'}"


def _numbered(numbers: Sequence[int]) -> str:
    named = ", ".join(map(str, numbers[:FREE_FAILURES_LISTED]))
    more = len(numbers) - FREE_FAILURES_LISTED
    return f"line {named} and {more} more" if more > 0 else f"line {named}"
