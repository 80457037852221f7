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
from langchain_shortapi_flux.errors import BudgetExceeded, CreateOutcomeUnknown, JobFailed
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
        buy_unknown: Whether what may have been charged is bought again.

    Attributes:
        jobs: The job of each line that has come to an end, by its place; None where nobody can
            tell whether there is one.
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
        buy_unknown: bool,
    ) -> None:
        self._lines = lines
        self._folder = folder
        self._before = before
        self._terminal = terminal
        self._in_sandbox = in_sandbox
        self._as_json = as_json
        self._each = each
        self._buy_unknown = buy_unknown
        self._saved: set[int] = set()
        self._failed: dict[int, Exception] = {}
        self._bought: dict[int, Decimal | None] = {}
        self._fewer: dict[int, int] = {}
        self._unlisted: str | None = None
        self._unread: str | None = None
        self._lost: list[int] = []
        self._after: Known = before
        self.jobs: dict[int, str | None] = {}

    # --- as it goes -----------------------------------------------------------------------------

    def saved(self, place: int, job: FluxJob, paths: Sequence[Path]) -> None:
        """A line has its pictures on disk."""
        self._saved.add(place)
        self._note_money(place, job, None)
        line = self._lines[place]
        if len(job.images) < (line.request.num_images or 0):
            self._fewer[place] = len(job.images)
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
        if isinstance(error, CreateOutcomeUnknown):
            self.jobs[place] = None
        elif job_id is not None:
            self.jobs[place] = job_id
        known = self._before.entries.get(place)
        if job_id is None or (known is not None and known.job_id == job_id):
            return
        if isinstance(error, JobFailed) and error.charge == "refunded":
            self._bought[place] = Decimal(0)
        elif job is None or job.cost is None:
            self._bought[place] = None
        else:
            self._bought[place] = net_cost(job.charge, job.cost, job.refunded)

    # --- before, after, and broken off ----------------------------------------------------------

    def found(self, name: str, columns: Sequence[str]) -> None:
        """What there is to do, and what an earlier run has done of it."""
        self._terminal.say(f"{name}: {_lines_counted(len(self._lines))}")
        if columns:
            named = plain(", ".join(columns), _TEXT_LENGTH_MAX)
            self._terminal.say(f"its other columns are not used: {named}")
        before = self._before
        again = "" if self._buy_unknown else "not "
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

    def unkept(self, lost: Sequence[int], after: Known) -> None:
        """The ledger did not keep these lines, and knows that instead."""
        self._lost, self._after = sorted(lost), after

    def unreadable(self, reason: str) -> None:
        """What the ledger has kept cannot be seen."""
        self._unread = (
            f"the ledger cannot be read ({reason}): what it did not keep, the same command run "
            "again would buy again"
        )

    def end(self) -> int:
        """What came of all lines; gives the exit code."""
        count = len(self._lines)
        words = [f"{len(self._saved):,} of {_lines_counted(count)} saved in {self._folder}"]
        if self._bought and not self._in_sandbox:
            words.append(f"{len(self._bought):,} bought now, {self._spent()}")
        self._terminal.say("; ".join(words))
        self._list_failures()
        for place, came in sorted(self._fewer.items()):
            line = self._lines[place]
            self._terminal.say(
                f"line {line.number}: {came} of {line.request.num_images} pictures came"
            )
        if self._unlisted is not None:
            self._terminal.say(f"stdout could not be written to: {self._unlisted}")
        if self._unread is not None:
            self._terminal.say(self._unread)
        self._list_lost()
        troubles = (self._fewer, self._unlisted, self._unread, self._lost)
        all_well = len(self._saved) == count and not any(troubles)
        return EXIT_OK if all_well else EXIT_FAILED

    def interrupted(self, after: Known | None) -> str:
        """What became of the lines until then, by what the ledger knows of them after."""
        done = f"interrupted: {len(self._saved):,} of {_lines_counted(len(self._lines))} saved"
        unknown = set(self._failed_with(CreateOutcomeUnknown))
        failed = set(self._failed) - unknown
        if failed:
            done += f", {len(failed)} failed"
        if self._in_sandbox:
            return f"{done}; {SANDBOX_ENDED}"
        if after is not None:
            settled = {*self._saved, *failed}
            bought = {*after.ended, *after.running} - settled - unknown
            doubt = ({*after.in_doubt, *after.being_bought} - settled) | unknown
            rest = set(range(len(self._lines))) - settled - bought - doubt
            done += f", {len(bought)} bought and running or not saved yet"
            done += f", {len(doubt)} may have been charged" if doubt else ""
            done += f", {len(rest)} not bought"
            self.unkept(after.lost(self.jobs), after)
        elif unknown:
            done += f", {len(unknown)} may have been charged"
        if self._unread is not None:
            return f"{done}; {self._unread}"
        if self._lost:
            lost = ", ".join(map(self._named_lost, self._lost))
            return f"{done}; the ledger did not keep {lost}"
        if self._buy_unknown:
            return f"{done}; run it again without --buy-unknown: nothing is bought twice then"
        return f"{done}; run the same command again to go on: nothing is bought twice"

    # --------------------------------------------------------------------------------------------

    def _spent(self) -> str:
        costs = [cost for cost in self._bought.values() if cost is not None]
        silent = len(self._bought) - len(costs)
        money = f"{sum(costs, Decimal(0)):f} USD"
        return f"{money} and what {silent} cost, which is not reported" if silent else money

    def _failed_with(self, kind: type[Exception]) -> list[int]:
        return [place for place, error in self._failed.items() if isinstance(error, kind)]

    def _list_failures(self) -> None:
        unknown = self._failed_with(CreateOutcomeUnknown)
        refused = self._failed_with(BudgetExceeded)
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

    def _list_lost(self) -> None:
        if not self._lost:
            return
        self._terminal.say(f"the ledger did not keep {_lines_counted(len(self._lost))}:")
        for place in self._lost:
            self._terminal.say(f"  {self._named_lost(place)}")

    def _named_lost(self, place: int) -> str:
        does = "list it as unknown" if place in self._after.entries else "buy it again"
        job_id = self.jobs[place]
        named = "no job id is known" if job_id is None else f"job {job_id}"
        return f"line {self._lines[place].number} (run again would {does}; {named})"

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
