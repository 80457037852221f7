"""The command line: one prompt becomes picture files. ``python -m langchain_shortapi_flux --help``.

It knows arguments, lines of text and exit codes, and nothing of how the service spells things.
"""

# ruff: noqa: PLC0415 - the package is imported inside functions, so that main sees a Ctrl-C then.

from __future__ import annotations

import argparse
import io
import logging
import os
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from langchain_shortapi_flux.errors import ShortAPIError
    from langchain_shortapi_flux.job import FluxJob, FluxRequest
    from langchain_shortapi_flux.runnable import ShortAPIFlux

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130
DEFAULT_FOLDER = "images"
SANDBOX_PREFIX = "sandbox-"
_SANDBOX_ENDED = "the sandbox ended with this command, and nothing was charged"
# The package's log says what becomes of a job that is left. This command says it itself, on one
# line, and knows what the log does not: that a job of its own sandbox does not go on.
_UNHEARD = logging.NullHandler()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; give its exit code."""
    _ready_streams()
    logging.getLogger("langchain_shortapi_flux").addHandler(_UNHEARD)
    watch = _Watch()
    try:
        return _command(arguments, watch)
    except KeyboardInterrupt:
        return watch.give_up(watch.interrupted(), EXIT_INTERRUPTED)


def _ready_streams() -> None:
    """See that saying something cannot fail: by then a job may be paid for."""
    # ``2>&-`` leaves None, and print would take that for stdout, whose lines scripts read.
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - until the end
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _say(text: str, end: str = "\n") -> None:
    with suppress(OSError):  # nobody reads it: no reason to leave a paid job
        print(text, end=end, file=sys.stderr, flush=True)


def _command(arguments: Sequence[str] | None, watch: _Watch) -> int:
    from pydantic import ValidationError

    from langchain_shortapi_flux.errors import ConfigurationError, InvalidRequest, ShortAPIError
    from langchain_shortapi_flux.job import describe_invalid
    from langchain_shortapi_flux.runnable import ShortAPIFlux

    parser = _parser()
    options = parser.parse_args(arguments)
    if (options.prompt is None) == (options.follow is None):
        parser.error("give a prompt, or --follow JOB_ID")
    problem: str
    try:
        # All that can be refused is refused before a sandbox starts or is spoken of.
        in_sandbox = _takes_sandbox(options)
        flux = _flux(options, in_sandbox=in_sandbox)
        request = None if options.prompt is None else _request(options)
        _require_writable(options.output)
        with _service(flux, options, watch, in_sandbox=in_sandbox) as (flux, prefix):
            return _run(flux, prefix, request, options, watch)
    except (ConfigurationError, InvalidRequest) as error:
        problem, code = str(error), EXIT_USAGE
    except ValidationError as error:
        problem, code = (
            describe_invalid(error.errors(), list(ShortAPIFlux.model_fields)),
            EXIT_USAGE,
        )
    except ShortAPIError as error:
        problem, code = _failure(error, in_sandbox=watch.in_sandbox), EXIT_FAILED
    except (ImportError, OSError) as error:
        problem, code = str(error), EXIT_FAILED
    return watch.give_up(problem, code)


def _failure(error: ShortAPIError, *, in_sandbox: bool) -> str:
    from langchain_shortapi_flux.errors import (
        DownloadFailed,
        JobTimeout,
        NotCreated,
        UnexpectedReply,
    )

    if not in_sandbox or isinstance(error, NotCreated):
        waits = isinstance(error, (JobTimeout, DownloadFailed))
        return f"{error}; --follow {error.job_id} picks it up, free" if waits else str(error)
    # The errors speak of money and of jobs that go on, and in the command's own sandbox neither is.
    if isinstance(error, JobTimeout):
        return f"job {error.job_id} has not ended in time; {_SANDBOX_ENDED}"
    if isinstance(error, (DownloadFailed, UnexpectedReply)):
        return f"{error}; {_SANDBOX_ENDED}"
    named = "" if error.job_id is None else f" for job {error.job_id}"
    return f"the sandbox gave no picture{named} ({type(error).__name__}); {_SANDBOX_ENDED}"


def _parser() -> argparse.ArgumentParser:
    from langchain_shortapi_flux.connection import KEY_VARIABLES
    from langchain_shortapi_flux.job import ASPECT_RATIOS, IMAGE_COUNTS, PERFORMANCES
    from langchain_shortapi_flux.version import __version__

    epilog = f"""\
Without a key, a prompt is drawn by the sandbox, a stand-in for the service on this machine: the
pictures are not made by Flux, and their names begin with "{SANDBOX_PREFIX}". With a key in
{KEY_VARIABLES[0]}, every prompt costs money (the official page names 0.002 USD for schnell and
0.02 USD for dev).

exit codes: {EXIT_OK} pictures saved; {EXIT_FAILED} the job, the service or saving failed;
{EXIT_USAGE} bad arguments, or no key; {EXIT_INTERRUPTED} interrupted with Ctrl-C. A job that
exists is named by its id, for --follow.
"""
    parser = argparse.ArgumentParser(
        prog="shortapi-flux",
        description="Make pictures from a prompt with Flux on ShortAPI, and save them.",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("prompt", nargs="?", help="what the picture should show")
    parser.add_argument("--aspect-ratio", choices=ASPECT_RATIOS, help="default: 1:1")
    parser.add_argument(
        "--num-images", type=int, choices=IMAGE_COUNTS, help="how many pictures (default: 1)"
    )
    parser.add_argument(
        "--performance", choices=PERFORMANCES, help="fast and cheap, or better (default: dev)"
    )
    parser.add_argument(
        "-o",
        "--output",
        default=DEFAULT_FOLDER,
        metavar="FOLDER",
        help=f"where to save (default: {DEFAULT_FOLDER})",
    )
    parser.add_argument(
        "--timeout", type=float, metavar="SECONDS", help="how long to wait (default: 300)"
    )
    parser.add_argument("--follow", metavar="JOB_ID", help="wait for a job bought earlier; free")
    parser.add_argument(
        "--sandbox", action="store_true", help="use the sandbox even if there is a key"
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    return parser


def _takes_sandbox(options: argparse.Namespace) -> bool:
    from langchain_shortapi_flux.connection import KEY_VARIABLES, key_from_environment
    from langchain_shortapi_flux.errors import ConfigurationError

    if options.sandbox or key_from_environment() is not None:
        return bool(options.sandbox)
    if options.follow is not None:
        raise ConfigurationError(
            f"no key: set {KEY_VARIABLES[0]} to follow a job (the sandbox knows no job of the "
            "service; --sandbox says that you mean the sandbox)"
        )
    return True


def _flux(options: argparse.Namespace, *, in_sandbox: bool) -> ShortAPIFlux:
    from langchain_shortapi_flux.runnable import ShortAPIFlux

    timeout = {} if options.timeout is None else {"timeout": options.timeout}
    if in_sandbox:  # which has no address before it starts, and needs none from the environment
        return ShortAPIFlux(base_url="http://127.0.0.1", **timeout)
    return ShortAPIFlux(**timeout)


def _request(options: argparse.Namespace) -> FluxRequest:
    from langchain_shortapi_flux.input_reading import read_input

    names = ("aspect_ratio", "num_images", "performance")
    return read_input(options.prompt, {name: getattr(options, name) for name in names}).request


def _require_writable(folder: str) -> None:
    from langchain_shortapi_flux.errors import InvalidRequest
    from langchain_shortapi_flux.image_files import require_writable

    problem: str
    try:
        return require_writable(Path(folder))
    except OSError as error:
        problem = str(error.strerror)
    except ValueError:  # a NUL or a lone surrogate
        problem = "it is no path"
    raise InvalidRequest(f"--output {folder}: {problem}; nothing was sent")


@contextmanager
def _service(
    flux: ShortAPIFlux, options: argparse.Namespace, watch: _Watch, *, in_sandbox: bool
) -> Iterator[tuple[ShortAPIFlux, str]]:
    """What makes the pictures: the service, or a sandbox started for this command."""
    from pydantic import SecretStr

    from langchain_shortapi_flux.connection import KEY_VARIABLES, runs_here

    if not in_sandbox:
        yield flux, SANDBOX_PREFIX if runs_here(flux.base_url) else ""
        return
    from langchain_shortapi_flux.sandbox import Sandbox

    watch.in_sandbox = True
    with Sandbox() as sandbox:
        why = "--sandbox" if options.sandbox else f"No key in {KEY_VARIABLES[0]}"
        _say(
            f"{why}: using the sandbox on {sandbox.base_url}. The pictures are NOT made by Flux, "
            "and nothing is charged."
        )
        there = {"base_url": sandbox.base_url, "api_key": SecretStr(sandbox.api_key)}
        yield flux.model_copy(update=there), SANDBOX_PREFIX


def _run(
    flux: ShortAPIFlux,
    prefix: str,
    request: FluxRequest | None,
    options: argparse.Namespace,
    watch: _Watch,
) -> int:
    from langchain_shortapi_flux.errors import DownloadFailed

    if request is None:
        watch.following = options.follow
        watch.job = flux.query(options.follow)
        watch.show(watch.job)
        job = flux.follow(watch.job)
        watch.show(job)
    else:
        watch.creating = True
        for job in flux.stream(request):
            watch.show(job)
    watch.clear()
    paths = job.save(options.output, prefix=prefix)
    cost = "not reported" if job.cost is None else f"{job.cost} USD"
    problem: str
    try:
        for path in paths:
            print(path)
        print(f"job {job.job_id}: {job.status} in {job.elapsed:.1f} s, cost {cost}", flush=True)
        return EXIT_OK
    except OSError as error:  # a full disk or a pipe that nobody reads any more
        problem = str(error.strerror)
    raise DownloadFailed(
        f"job {job.job_id}: its pictures are saved in {options.output}, but could not be listed: "
        f"{problem}",
        job_id=job.job_id,
    )


class _Watch:
    """What is known while waiting: shown on one line, and told after Ctrl-C."""

    def __init__(self) -> None:
        self.job: FluxJob | None = None
        self.creating = False
        self.following: str | None = None
        self.in_sandbox = False
        self._lines = sys.stderr.isatty()

    def show(self, job: FluxJob) -> None:
        fresh = self.job is None or self.job.status != job.status
        self.job = job
        text = f"job {job.job_id}: {job.status}, {job.elapsed:.1f} s, {job.queries} queries"
        if self._lines:
            _say(f"\r\x1b[K{text}", end="")
        elif fresh:
            _say(text)

    def clear(self) -> None:
        if self._lines:
            _say("\r\x1b[K", end="")

    def give_up(self, problem: str, code: int) -> int:
        self.clear()
        _say(f"shortapi-flux: {problem}")
        return code

    def interrupted(self) -> str:
        if self.in_sandbox:
            return f"interrupted; {_SANDBOX_ENDED}"
        if self.following is not None and self.job is None:
            return f"interrupted; --follow {self.following} looks again, free"
        if self.job is not None:
            return (
                f"interrupted; job {self.job.job_id} was charged and goes on: "
                f"--follow {self.job.job_id} waits for it"
            )
        if self.creating:
            return "interrupted while the job was being created: it may have been charged"
        return "interrupted; nothing was charged"


if __name__ == "__main__":
    sys.exit(main())
