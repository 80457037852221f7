"""The command line: one prompt becomes picture files. ``python -m langchain_shortapi_flux --help``.

It knows arguments, lines of text and exit codes, and nothing of how the service spells things.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from langchain_shortapi_flux.connection import KEY_VARIABLES, key_from_environment, runs_here
from langchain_shortapi_flux.errors import (
    ConfigurationError,
    DownloadFailed,
    InvalidRequest,
    JobTimeout,
    ShortAPIError,
)
from langchain_shortapi_flux.image_files import require_writable
from langchain_shortapi_flux.input_reading import read_input
from langchain_shortapi_flux.job import (
    ASPECT_RATIOS,
    IMAGE_COUNTS,
    PERFORMANCES,
    FluxJob,
    describe_invalid,
)
from langchain_shortapi_flux.runnable import ShortAPIFlux
from langchain_shortapi_flux.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130
DEFAULT_FOLDER = "images"
SANDBOX_PREFIX = "sandbox-"
_EPILOG = f"""\
Without a key, a prompt is drawn by the sandbox, a stand-in for the service on this machine: the
pictures are not made by Flux, and their names begin with "{SANDBOX_PREFIX}". With a key in
{KEY_VARIABLES[0]}, every prompt costs money (the official page names 0.002 USD for schnell and
0.02 USD for dev).

exit codes: {EXIT_OK} pictures saved; {EXIT_FAILED} the job, the service or saving failed;
{EXIT_USAGE} bad arguments, or no key; {EXIT_INTERRUPTED} interrupted with Ctrl-C. A job that
exists is named by its id, for --follow.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; give its exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if (options.prompt is None) == (options.follow is None):
        parser.error("give a prompt, or --follow JOB_ID")
    watch = _Watch()
    problem: str
    try:
        with _flux(options, watch) as (flux, prefix):
            return _run(flux, prefix, options, watch)
    except KeyboardInterrupt:
        problem, code = watch.interrupted(), EXIT_INTERRUPTED
    except (ConfigurationError, InvalidRequest) as error:
        problem, code = str(error), EXIT_USAGE
    except ValidationError as error:
        problem, code = (
            describe_invalid(error.errors(), list(ShortAPIFlux.model_fields)),
            EXIT_USAGE,
        )
    except (JobTimeout, DownloadFailed) as error:
        problem, code = f"{error}; --follow {error.job_id} picks it up, free", EXIT_FAILED
    except (ShortAPIError, ImportError, OSError) as error:
        problem, code = str(error), EXIT_FAILED
    watch.clear()
    print(f"shortapi-flux: {problem}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="shortapi-flux",
        description="Make pictures from a prompt with Flux on ShortAPI, and save them.",
        epilog=_EPILOG,
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


@contextmanager
def _flux(options: argparse.Namespace, watch: _Watch) -> Iterator[tuple[ShortAPIFlux, str]]:
    """What makes the pictures: the service, or a sandbox started for this command."""
    timeout = {} if options.timeout is None else {"timeout": options.timeout}
    if key_from_environment() is not None and not options.sandbox:
        flux = ShortAPIFlux(**timeout)
        yield flux, SANDBOX_PREFIX if runs_here(flux.base_url) else ""
        return
    if options.follow is not None and not options.sandbox:
        raise ConfigurationError(
            f"no key: set {KEY_VARIABLES[0]} to follow a job (the sandbox knows no job of the "
            "service; --sandbox says that you mean the sandbox)"
        )
    from langchain_shortapi_flux.sandbox import Sandbox  # noqa: PLC0415 - only without a key

    watch.in_sandbox = True
    with Sandbox() as sandbox:
        why = "--sandbox" if options.sandbox else f"No key in {KEY_VARIABLES[0]}"
        print(
            f"{why}: using the sandbox on {sandbox.base_url}. The pictures are NOT made by Flux, "
            "and nothing is charged.",
            file=sys.stderr,
        )
        flux = ShortAPIFlux(base_url=sandbox.base_url, api_key=sandbox.api_key, **timeout)
        yield flux, SANDBOX_PREFIX


def _run(flux: ShortAPIFlux, prefix: str, options: argparse.Namespace, watch: _Watch) -> int:
    if options.follow is not None:
        watch.following = options.follow
        watch.job = flux.query(options.follow)
        watch.show(watch.job)
        job = flux.follow(watch.job)
        watch.show(job)
    else:
        asked = {
            name: getattr(options, name)
            for name in ("aspect_ratio", "num_images", "performance")
            if getattr(options, name) is not None
        }
        request = read_input(options.prompt, asked).request
        _require_writable(options.output)
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


def _require_writable(folder: str) -> None:
    problem: str
    try:
        return require_writable(Path(folder))
    except OSError as error:
        problem = str(error.strerror)
    raise InvalidRequest(f"--output {folder}: {problem}; nothing was sent")


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
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()
        elif fresh:
            print(text, file=sys.stderr)

    def clear(self) -> None:
        if self._lines:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def interrupted(self) -> str:
        if self.in_sandbox:
            return "interrupted; the sandbox ended with this command, and nothing was charged"
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
