"""A file of prompts at the command line: bought side by side, each saved as soon as it has ended.

It joins the Runnable's batch, saving and telling. What is bought twice or not is the flow's
business, by the keys that the lines are given here.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import aclosing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from langchain_core.runnables import RunnableConfig

from langchain_shortapi_flux.command_line.batch_ledger import BatchLedger, line_keys
from langchain_shortapi_flux.command_line.batch_report import BatchReport
from langchain_shortapi_flux.command_line.command_options import AT_ONCE
from langchain_shortapi_flux.command_line.prompt_file import PromptLine
from langchain_shortapi_flux.command_line.terminal import EXIT_INTERRUPTED
from langchain_shortapi_flux.errors import ShortAPIError
from langchain_shortapi_flux.job import FluxJob
from langchain_shortapi_flux.progress import FluxProgress

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import AsyncGenerator, Iterator, Sequence

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
) -> int:
    """Buy what is missing of the file's lines, and save their pictures; gives the exit code.

    Args:
        service: What makes the pictures.
        prompts: What to make.
        ledger: What keeps what was bought; None where nothing outlives the command.
        options: The command's.
        terminal: Where to say how it goes.
    """
    lines = [PromptLine(one.number, one.request.filled_from(service.flux)) for one in prompts.lines]
    keys = line_keys([line.request for line in lines], service.flux.model)
    kept = BatchLedger(ledger, service.flux.base_url, keys)
    before = kept.look()
    progress = _bars(terminal)
    report = BatchReport(
        lines,
        Path(options.output),
        before,
        terminal,
        in_sandbox=service.in_sandbox,
        as_json=options.json,
        each=progress is None,
    )
    terminal.parting = lambda: report.interrupted(None)
    if ledger is not None:
        service = service.with_ledger(ledger)
    # What waits for another run's claim would hold up the lines behind it.
    last = set(before.being_bought)
    order = sorted(range(len(lines)), key=last.__contains__)
    inputs = [{**lines[place].request.model_dump(), "request_key": keys[place]} for place in order]
    config = RunnableConfig(
        max_concurrency=options.max_concurrency or AT_ONCE,
        callbacks=[] if progress is None else [progress],
    )

    async def work() -> None:
        report.found(options.batch, prompts.ignored, buy_unknown=options.buy_unknown)
        await _buy_and_save(service, inputs, order, config, options.output, report)

    working = work()
    try:
        asyncio.run(working)
        return report.end()
    except (KeyboardInterrupt, asyncio.CancelledError):  # Ctrl-C, SIGTERM
        if progress is not None:
            progress.close()
        after = None
        with suppress(Exception):  # whatever the ledger has: it is told without it then
            after = kept.look()
        with _uninterrupted():
            if ledger is not None:
                ledger.close()
            return terminal.give_up(report.interrupted(after), EXIT_INTERRUPTED)
    finally:
        working.close()  # interrupted before it began, it would complain that nobody awaited it


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """For the moment it takes to say the last line: a second Ctrl-C would only garble it."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


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

    _leave_on_signals()
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


def _leave_on_signals() -> None:
    """Leave alike on Ctrl-C and SIGTERM, so that what was bought is noted and told.

    A second Ctrl-C must not break into that wherever it happens to be, as Python's own would.
    """
    task = asyncio.current_task()
    # Not on Windows, and not in another thread than the main one: there Python's own does it.
    with suppress(NotImplementedError, RuntimeError, ValueError):
        for number in (signal.SIGINT, signal.SIGTERM):
            if task is not None:
                asyncio.get_running_loop().add_signal_handler(number, task.cancel)
