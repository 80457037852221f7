"""What came of a batch, in words: at its end, or where it was broken off.

It knows which lines are listed and what the next run would do. It knows nothing of how jobs are
bought, and nothing of what is told while they run.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from langchain_shortapi_flux.command_line.batch_report import lines_counted
from langchain_shortapi_flux.command_line.command_failure import SANDBOX_ENDED, failure_line
from langchain_shortapi_flux.command_line.terminal import EXIT_FAILED, EXIT_OK
from langchain_shortapi_flux.errors import CreateOutcomeUnknown
from langchain_shortapi_flux.job_words import plain

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from langchain_shortapi_flux.command_line.batch_ledger import Known
    from langchain_shortapi_flux.command_line.line_outcomes import LineOutcomes
    from langchain_shortapi_flux.command_line.prompt_file import PromptLine
    from langchain_shortapi_flux.command_line.terminal import Terminal

FREE_FAILURES_LISTED = 10
"""How many lines are listed that cost nothing; those that may have cost something all are."""
_PROMPT_LENGTH_MAX = 60


class BatchEnding:
    """Tells what came of a batch.

    Args:
        lines: What was asked for.
        outcomes: What each line came to.
        folder: Where the pictures go.
        terminal: Where to tell it.
        in_sandbox: Whether nothing outlives the command.
        buy_unknown: Whether what may have been charged is bought again.
    """

    def __init__(
        self,
        lines: Sequence[PromptLine],
        outcomes: LineOutcomes,
        folder: Path,
        terminal: Terminal,
        *,
        in_sandbox: bool,
        buy_unknown: bool,
    ) -> None:
        self._lines = lines
        self._outcomes = outcomes
        self._folder = folder
        self._terminal = terminal
        self._in_sandbox = in_sandbox
        self._buy_unknown = buy_unknown
        self._unread: str | None = None
        self._lost: list[int] = []
        self._after: Known | None = None

    def unkept(self, lost: Sequence[int], after: Known) -> None:
        """The ledger did not keep these lines, and knows that instead."""
        self._lost, self._after = sorted(lost), after

    def unreadable(self, reason: str) -> None:
        """What the ledger has kept cannot be seen."""
        self._unread = (
            f"the ledger cannot be read ({reason}): what it did not keep, the same command run "
            "again would buy again"
        )

    def told(self, unlisted: str | None) -> int:
        """What came of all lines; gives the exit code.

        Args:
            unlisted: Why stdout could not be written to, if so.
        """
        count = len(self._lines)
        saved, fewer = self._outcomes.saved, self._outcomes.fewer
        words = [f"{len(saved):,} of {lines_counted(count)} saved in {self._folder}"]
        if self._outcomes.paid and not self._in_sandbox:
            words.append(f"{len(self._outcomes.paid):,} bought now, {self._spent()}")
        self._terminal.say("; ".join(words))
        self._list_failures()
        for place, came in sorted(fewer.items()):
            line = self._lines[place]
            self._terminal.say(
                f"line {line.number}: {came} of {line.request.num_images} pictures came"
            )
        if unlisted is not None:
            self._terminal.say(f"stdout could not be written to: {unlisted}")
        if self._unread is not None:
            self._terminal.say(self._unread)
        self._list_lost()
        troubles = (fewer, unlisted, self._unread, self._lost)
        all_well = len(saved) == count and not any(troubles)
        return EXIT_OK if all_well else EXIT_FAILED

    def interrupted(self) -> str:
        """What became of the lines until then."""
        saved, unsettled = self._outcomes.saved, self._outcomes.unsettled(self._after)
        done = f"interrupted: {len(saved):,} of {lines_counted(len(self._lines))} saved"
        failures = self._outcomes.failures
        failed = len(failures.free) + len(failures.others)
        done += f", {failed} failed" if failed else ""
        if self._in_sandbox:
            return f"{done}; {SANDBOX_ENDED}"
        bought, seen = len(unsettled.bought), self._after is not None
        done += f", {bought} bought and running or not saved yet" if bought or seen else ""
        doubt = len(unsettled.in_doubt)
        done += f", {doubt} may have been charged" if doubt else ""
        done += f", {len(unsettled.untouched)} not bought" if seen else ""
        if self._unread is not None:
            known = ", ".join(map(self._named, unsettled.bought))
            return f"{done}; {self._unread}" + (f" ({known})" if known else "")
        if self._lost:
            lost = ", ".join(map(self._named_lost, self._lost))
            return f"{done}; the ledger did not keep {lost}"
        if not seen:
            return f"{done}; run the same command again to go on"
        if self._buy_unknown:
            return f"{done}; run it again without --buy-unknown: nothing is bought twice then"
        return f"{done}; run the same command again to go on: nothing is bought twice"

    def _spent(self) -> str:
        usd, silent = self._outcomes.spent
        money = f"{usd:f} USD"
        return f"{money} and what {silent} cost, which is not reported" if silent else money

    def _list_failures(self) -> None:
        failures = self._outcomes.failures
        if failures.refused:
            numbers = [self._lines[place].number for place in failures.refused]
            self._terminal.say(
                f"{lines_counted(len(numbers))} not bought, for they do not fit into the budget: "
                f"{_numbered(numbers)}"
            )
        self._list("failed:", failures.others)
        self._list("failed, and nothing was charged:", failures.free, FREE_FAILURES_LISTED)
        unknown = (
            "without a known outcome:"
            if self._in_sandbox
            else "unknown: may have been charged, and not bought again without --buy-unknown (look "
            "at the account's jobs of that time first):"
        )
        self._list(unknown, failures.unknown)

    def _list(self, title: str, places: Sequence[int], limit: int | None = None) -> None:
        if not places:
            return
        self._terminal.say(f"{lines_counted(len(places))} {title}")
        for place in places[:limit]:
            line, error = self._lines[place], self._outcomes.failed[place]
            prompt = plain(line.request.prompt, _PROMPT_LENGTH_MAX)
            self._terminal.say(f"  line {line.number}, {prompt}: {self._ending(error)}")
        if limit is not None and len(places) > limit:
            self._terminal.say(f"  and {len(places) - limit} more")

    def _list_lost(self) -> None:
        if not self._lost:
            return
        self._terminal.say(f"the ledger did not keep {lines_counted(len(self._lost))}:")
        for place in self._lost:
            self._terminal.say(f"  {self._named_lost(place)}")

    def _named_lost(self, place: int) -> str:
        kept = self._after is not None and place in self._after.entries
        does = "list it as unknown" if kept else "buy it again"
        job_id = self._outcomes.jobs[place]
        named = "no job id is known" if job_id is None else f"job {job_id}"
        return f"line {self._lines[place].number} (run again would {does}; {named})"

    def _named(self, place: int) -> str:
        return f"line {self._lines[place].number}: job {self._outcomes.jobs[place]}"

    def _ending(self, error: Exception) -> str:
        if not isinstance(error, CreateOutcomeUnknown) or self._in_sandbox:
            return failure_line(error, in_sandbox=self._in_sandbox)
        when = "an unknown time"
        if error.claimed_at is not None:
            when = datetime.fromtimestamp(error.claimed_at, UTC).isoformat(timespec="seconds")
        return f"unknown: may have been charged; key {error.key}, claimed at {when}"


def _numbered(numbers: Sequence[int]) -> str:
    named = ", ".join(map(str, numbers[:FREE_FAILURES_LISTED]))
    more = len(numbers) - FREE_FAILURES_LISTED
    return f"line {named} and {more} more" if more > 0 else f"line {named}"
