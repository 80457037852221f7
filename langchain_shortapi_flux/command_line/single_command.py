"""One job at the command line: bought or followed, shown while it runs, saved.

It knows lines of text and exit codes, and nothing of how the service spells things.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_shortapi_flux.command_line.command_failure import (
    SANDBOX_ENDED,
    exit_code,
    failure_text,
)
from langchain_shortapi_flux.command_line.job_json import json_line
from langchain_shortapi_flux.command_line.terminal import EXIT_FAILED, EXIT_OK
from langchain_shortapi_flux.errors import CreateOutcomeUnknown, DownloadFailed, ShortAPIError
from langchain_shortapi_flux.job_words import plain

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence
    from pathlib import Path

    from langchain_shortapi_flux.command_line.command_service import Service
    from langchain_shortapi_flux.command_line.terminal import Terminal
    from langchain_shortapi_flux.job import FluxJob, FluxRequest


MESSAGE_LENGTH_MAX = 2_000
"""Letters of a failure's text, which may be the service's own."""


def run_single(
    service: Service, request: FluxRequest | None, options: Namespace, terminal: Terminal
) -> int:
    """Buy the request, or without one follow the job that the options name; gives the exit code."""
    flux = service.flux
    watch = _Watch(terminal, options.follow, in_sandbox=service.in_sandbox)
    terminal.parting = watch.interrupted
    try:
        if request is None:
            watch.show(flux.query(options.follow))
            watch.show(flux.follow(options.follow if watch.job is None else watch.job))
        else:
            watch.creating = True
            request = request.filled_from(flux)
            for job in flux.stream(request):
                watch.show(job)
        terminal.clear()
        if watch.job is None:
            raise RuntimeError("a stream ended without a job")
        paths = watch.job.save(options.output, prefix=service.prefix, keep_existing=True)
        _list(watch.job, paths, options, terminal)
        asked = watch.job.request.num_images if watch.job.request else None
        if len(paths) < (asked or 1):
            came = f"{len(paths)} of {asked} pictures came"
            return terminal.give_up(f"job {watch.job.job_id}: {came}", EXIT_FAILED)
        return EXIT_OK
    except KeyboardInterrupt:
        if options.json and (watch.creating or watch.job is not None):
            left = None if watch.job is not None else CreateOutcomeUnknown(watch.interrupted())
            _give_anyway(json_line(request, watch.job, error=left), terminal)
        raise
    except ShortAPIError as error:
        text = failure_text(error, in_sandbox=service.in_sandbox)
        if options.json:
            _give_anyway(json_line(request, watch.job, error=error, message=text), terminal)
        return terminal.give_up(plain(text, MESSAGE_LENGTH_MAX), exit_code(error))


def _list(job: FluxJob, paths: Sequence[Path], options: Namespace, terminal: Terminal) -> None:
    cost = "not reported" if job.cost is None else f"{job.cost} USD"
    lines = [str(path) for path in paths]
    lines.append(f"job {job.job_id}: {job.status} in {job.elapsed:.1f} s, cost {cost}")
    if options.json:
        lines = [json_line(None, job, paths=paths)]
    problem: str
    try:
        for line in lines:
            terminal.give(line)
        return
    except OSError as error:  # a full disk or a pipe that nobody reads any more
        problem = str(error.strerror)
    raise DownloadFailed(
        f"job {job.job_id}: its pictures are saved in {options.output}, but could not be listed: "
        f"{problem}",
        job_id=job.job_id,
    )


def _give_anyway(line: str, terminal: Terminal) -> None:
    try:
        terminal.give(line)
    except OSError:
        return  # what went wrong is said on stderr


class _Watch:
    """What is known while waiting: shown on one line, and told after Ctrl-C."""

    def __init__(self, terminal: Terminal, following: str | None, *, in_sandbox: bool) -> None:
        self.job: FluxJob | None = None
        self.creating = False
        self._following = following
        self._in_sandbox = in_sandbox
        self._terminal = terminal

    def show(self, job: FluxJob) -> None:
        fresh = self.job is None or self.job.status != job.status
        self.job = job
        text = f"job {job.job_id}: {job.status}, {job.elapsed:.1f} s, {job.queries} queries"
        if self._terminal.is_watched:
            self._terminal.show(text)
        elif fresh:
            self._terminal.say(text)

    def interrupted(self) -> str:
        if self._in_sandbox:
            return f"interrupted; {SANDBOX_ENDED}"
        if self._following is not None and self.job is None:
            return f"interrupted; --follow {self._following} looks again, free"
        if self.job is not None:
            return (
                f"interrupted; job {self.job.job_id} was charged and goes on: "
                f"--follow {self.job.job_id} waits for it"
            )
        if self.creating:
            return "interrupted while the job was being created: it may have been charged"
        return "interrupted; nothing was charged"
