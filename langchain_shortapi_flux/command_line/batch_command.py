"""A file of prompts at the command line: bought side by side, each saved as soon as it has ended.

It joins the Runnable's batch, saving and telling. What is bought twice or not is the flow's
business, by the keys that the lines are given here.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import aclosing, suppress
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
from langchain_shortapi_flux.ledger import request_digest
from langchain_shortapi_flux.progress import FluxProgress

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import AsyncGenerator, Callable, Iterator, Sequence

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
        buy_unknown=options.buy_unknown,
    )
    terminal.parting = lambda: report.interrupted(None)

    def digest_of(place: int) -> str:
        return request_digest(service.flux.base_url, service.flux.model, lines[place].request)

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
        report.found(options.batch, prompts.ignored)
        await _buy_and_save(service, inputs, order, config, options.output, report)

    working = work()
    try:
        asyncio.run(working)
        if ledger is not None and report.jobs:
            _see_what_is_kept(kept, report, digest_of)
        return report.end()
    except (KeyboardInterrupt, asyncio.CancelledError):  # Ctrl-C, SIGTERM, SIGHUP
        if progress is not None:
            progress.close()
        after = None
        try:
            after = kept.look_afresh()
        except Exception as error:  # noqa: BLE001 - a database's own errors, of whatever library
            report.unreadable(type(error).__name__)
        _ignore_signals()
        return terminal.give_up(report.interrupted(after), EXIT_INTERRUPTED)
    finally:
        working.close()  # interrupted before it began, it would complain that nobody awaited it


def _see_what_is_kept(
    kept: BatchLedger, report: BatchReport, digest_of: Callable[[int], str]
) -> None:
    """Have it told what the ledger did not keep: the next run would know nothing of it."""
    try:
        lost, known = kept.unkept(report.jobs, digest_of)
    except Exception as error:  # noqa: BLE001 - a database's own errors, of whatever library
        report.unreadable(type(error).__name__)
    else:
        report.unkept(lost, known)


def _ignore_signals() -> None:
    """From the last line on: a second Ctrl-C would only garble it, or the exit code after it."""
    for number in _leaving_signals():
        with suppress(ValueError):  # in another thread than the main one
            signal.signal(number, signal.SIG_IGN)


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
    """Leave alike on Ctrl-C, SIGTERM and SIGHUP, so that what was bought is noted and told.

    A second Ctrl-C must not break into that wherever it happens to be, as Python's own would.
    """
    task = asyncio.current_task()
    # Not on Windows, and not in another thread than the main one: there Python's own does it.
    with suppress(NotImplementedError, RuntimeError, ValueError):
        for number in _leaving_signals():
            if task is not None:
                asyncio.get_running_loop().add_signal_handler(number, task.cancel)


def _leaving_signals() -> Iterator[signal.Signals]:
    yield signal.SIGINT
    yield signal.SIGTERM
    # Not on Windows; and who started it with nohup wants it to go on.
    hang_up: signal.Signals | None = getattr(signal, "SIGHUP", None)
    if hang_up is not None and signal.getsignal(hang_up) is not signal.SIG_IGN:
        yield hang_up
