"""A file of prompts at the command line: bought side by side, each saved as soon as it has ended.

It joins the Runnable's batch, saving and telling. What is bought twice or not is the flow's
business, by the keys that the lines are given here.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from langchain_core.runnables import RunnableConfig

from langchain_shortapi_flux.command_line.batch_ending import BatchEnding
from langchain_shortapi_flux.command_line.batch_ledger import BatchLedger, line_keys
from langchain_shortapi_flux.command_line.batch_report import BatchReport
from langchain_shortapi_flux.command_line.batch_signals import Leaving, ignore_signals
from langchain_shortapi_flux.command_line.command_options import ANSWER_SECONDS_MAX, AT_ONCE
from langchain_shortapi_flux.command_line.command_service import at_first_look
from langchain_shortapi_flux.command_line.creates_under_way import CreatesUnderWay
from langchain_shortapi_flux.command_line.line_outcomes import LineOutcomes
from langchain_shortapi_flux.command_line.prompt_file import PromptLine
from langchain_shortapi_flux.command_line.terminal import EXIT_INTERRUPTED
from langchain_shortapi_flux.errors import ShortAPIError
from langchain_shortapi_flux.job import FluxJob
from langchain_shortapi_flux.ledger import request_digest
from langchain_shortapi_flux.pace import pace_of
from langchain_shortapi_flux.progress import FluxProgress

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import AsyncGenerator, Callable, Sequence

    from langchain_shortapi_flux.command_line.command_service import Service
    from langchain_shortapi_flux.command_line.prompt_file import PromptFile
    from langchain_shortapi_flux.command_line.terminal import Terminal
    from langchain_shortapi_flux.sql_ledger import SqlLedger

SAVED_AT_ONCE = 8
"""How many jobs' pictures are fetched at a time."""


def run_batch(
    service: Service,
    prompts: PromptFile,
    ledger: SqlLedger | None,
    options: Namespace,
    terminal: Terminal,
    answer_seconds: float = ANSWER_SECONDS_MAX,
) -> int:
    """Buy what is missing of the file's lines, and save their pictures; gives the exit code.

    Args:
        service: What makes the pictures.
        prompts: What to make.
        ledger: What keeps what was bought; None where nothing outlives the command.
        options: The command's.
        terminal: Where to say how it goes.
        answer_seconds: How long, once interrupted, to wait for the answers to creates under way.

    Raises:
        ConfigurationError: The ledger, or a row of it, cannot be read; nothing was sent.
    """
    lines = [PromptLine(one.number, one.request.filled_from(service.flux)) for one in prompts.lines]
    keys = line_keys([line.request for line in lines], service.flux.model)
    kept = BatchLedger(ledger, service.flux.base_url, keys)
    with at_first_look(options):
        before = kept.look()
    progress = _bars(terminal)
    outcomes = LineOutcomes(len(lines), before)
    report = BatchReport(
        lines,
        outcomes,
        terminal,
        in_sandbox=service.in_sandbox,
        as_json=options.json,
        each=progress is None,
    )
    ending = BatchEnding(
        lines,
        outcomes,
        Path(options.output),
        terminal,
        in_sandbox=service.in_sandbox,
        buy_unknown=options.buy_unknown,
    )
    terminal.parting = ending.interrupted

    def digest_of(place: int) -> str:
        return request_digest(service.flux.base_url, service.flux.model, lines[place].request)

    creates: CreatesUnderWay | None = None
    if ledger is not None:
        creates = CreatesUnderWay(ledger, pace_of(service.flux.base_url))
        service = service.with_ledger(creates)
    # What waits for another run's claim would hold up the lines behind it.
    last = set(before.being_bought)
    order = sorted(range(len(lines)), key=last.__contains__)
    inputs = [{**lines[place].request.model_dump(), "request_key": keys[place]} for place in order]
    config = RunnableConfig(
        max_concurrency=options.max_concurrency or AT_ONCE,
        callbacks=[] if progress is None else [progress],
    )

    def close_bars() -> None:
        if progress is not None:
            progress.close(for_good=True)  # what still ends would open them anew

    async def work() -> None:
        report.found(options.batch, prompts.ignored, before, buy_unknown=options.buy_unknown)
        # The bars go before: one would count a create that was never sent as perhaps charged.
        Leaving(creates, terminal, answer_seconds, close_bars).watch()
        await _buy_and_save(service, inputs, order, config, options.output, report)

    working = work()
    try:
        asyncio.run(working)
        if creates is not None and outcomes.jobs:
            _see_what_is_kept(kept, outcomes, creates, ending, digest_of)
        return ending.told(report.unlisted)
    except (KeyboardInterrupt, asyncio.CancelledError):  # Ctrl-C, SIGTERM, SIGHUP
        ignore_signals()  # before all else: what is told may need a look at a slow ledger
        close_bars()
        if creates is not None:
            outcomes.hear(kept.by_place(creates.jobs))
            _see_what_is_kept(kept, outcomes, creates, ending, digest_of)
        return terminal.give_up(ending.interrupted(), EXIT_INTERRUPTED)
    finally:
        working.close()  # interrupted before it began, it would complain that nobody awaited it


def _see_what_is_kept(
    kept: BatchLedger,
    outcomes: LineOutcomes,
    creates: CreatesUnderWay,
    ending: BatchEnding,
    digest_of: Callable[[int], str],
) -> None:
    """Have it told what the ledger did not keep: the next run would know nothing of it."""
    try:
        lost, known = kept.unkept(outcomes.jobs, kept.by_place(creates.holders), digest_of)
    except Exception as error:  # noqa: BLE001 - a database's own errors, of whatever library
        ending.unreadable(type(error).__name__)
    else:
        ending.unkept(lost, known)


def _bars(terminal: Terminal) -> FluxProgress | None:
    if not terminal.is_watched:
        return None
    try:
        progress = FluxProgress(file=sys.stderr)
    except ImportError:  # without tqdm it is a line for each job
        return None
    terminal.has_bars()
    return progress


async def _buy_and_save(
    service: Service,
    inputs: Sequence[dict[str, Any]],
    order: Sequence[int],
    config: RunnableConfig,
    folder: str,
    report: BatchReport,
) -> None:
    gate = asyncio.Semaphore(SAVED_AT_ONCE)

    async def save(place: int, job: FluxJob) -> None:
        try:
            async with gate:
                paths = await job.asave(folder, prefix=service.prefix, keep_existing=True)
        except (ShortAPIError, OSError) as error:
            report.failed(place, error, job)
        else:
            report.saved(place, job, paths)

    ends = service.flux.abatch_as_completed(list(inputs), config, return_exceptions=True)
    async with (
        asyncio.TaskGroup() as saving,
        aclosing(cast("AsyncGenerator[tuple[int, FluxJob | Exception]]", ends)) as ended,
    ):
        async for index, outcome in ended:
            place = order[index]
            if isinstance(outcome, FluxJob):
                saving.create_task(save(place, outcome))
            else:
                report.failed(place, outcome)
