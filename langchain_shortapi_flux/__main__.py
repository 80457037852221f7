"""The command line: prompts become picture files. ``python -m langchain_shortapi_flux --help``.

It knows in which order things are checked, started and told. It knows nothing of how the service
spells things.
"""

# ruff: noqa: PLC0415 - the package is imported inside functions, so that main sees a Ctrl-C then.

from __future__ import annotations

import io
import logging
import os
import sys
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator, Sequence

    from langchain_shortapi_flux.command_line.command_service import Service
    from langchain_shortapi_flux.command_line.terminal import Terminal

EXIT_INTERRUPTED = 130
# The package's log says what becomes of a job that is left. This command says it itself, on one
# line, and knows what the log does not: that a job of its own sandbox does not go on.
_UNHEARD = logging.NullHandler()
SANDBOX_BALANCE_USD = "1000000.00"
"""More than any batch costs: a sandbox of the command's own is no test of a balance."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; give its exit code."""
    _ready_streams()
    logging.getLogger("langchain_shortapi_flux").addHandler(_UNHEARD)
    terminal: Terminal | None = None
    try:
        from langchain_shortapi_flux.command_line.terminal import Terminal

        terminal = Terminal()
        return _command(arguments, terminal)
    except KeyboardInterrupt:
        if terminal is not None:
            return terminal.give_up(terminal.parting(), EXIT_INTERRUPTED)
    with suppress(OSError):
        print("shortapi-flux: interrupted; nothing was charged", file=sys.stderr)
    return EXIT_INTERRUPTED


def _ready_streams() -> None:
    """See that saying something cannot fail: by then a job may be paid for."""
    # ``2>&-`` leaves None, and print would take that for stdout, whose lines scripts read.
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - until the end
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _command(arguments: Sequence[str] | None, terminal: Terminal) -> int:
    from pydantic import ValidationError

    from langchain_shortapi_flux.command_line.command_failure import exit_code
    from langchain_shortapi_flux.command_line.command_options import read_options
    from langchain_shortapi_flux.command_line.terminal import EXIT_FAILED, EXIT_USAGE
    from langchain_shortapi_flux.errors import ShortAPIError
    from langchain_shortapi_flux.invalid_values import describe_invalid
    from langchain_shortapi_flux.runnable import ShortAPIFlux

    options = read_options(arguments)
    problem: str
    try:
        return _run(options, terminal)
    except ShortAPIError as error:
        problem, code = str(error), exit_code(error)
    except ValidationError as error:
        fields = list(ShortAPIFlux.model_fields)
        problem, code = describe_invalid(error.errors(), fields), EXIT_USAGE
    except (ImportError, OSError) as error:
        problem, code = str(error), EXIT_FAILED
    return terminal.give_up(problem, code)


def _run(options: Namespace, terminal: Terminal) -> int:
    from langchain_shortapi_flux.account import runs_here
    from langchain_shortapi_flux.command_line.command_options import SANDBOX_PREFIX
    from langchain_shortapi_flux.command_line.command_service import (
        Service,
        make_flux,
        require_output,
        takes_sandbox,
    )
    from langchain_shortapi_flux.command_line.single_command import run_single
    from langchain_shortapi_flux.input_reading import read_input

    # All that can be refused is refused before a sandbox starts or is spoken of.
    in_sandbox = takes_sandbox(options)
    flux = make_flux(options, in_sandbox=in_sandbox)
    prefix = SANDBOX_PREFIX if in_sandbox or runs_here(flux.base_url) else ""
    service = Service(flux, prefix, in_sandbox)
    chosen = {
        name: getattr(options, name) for name in ("aspect_ratio", "num_images", "performance")
    }
    if options.batch is not None:
        return _run_batch(service, chosen, options, terminal)
    request = None if options.prompt is None else read_input(options.prompt, chosen).request
    require_output(options)
    with _started(service, options, terminal) as started:
        return run_single(started, request, options, terminal)


def _run_batch(
    service: Service, chosen: dict[str, object], options: Namespace, terminal: Terminal
) -> int:
    from langchain_shortapi_flux.command_line.batch_command import run_batch
    from langchain_shortapi_flux.command_line.command_service import open_ledger, require_output
    from langchain_shortapi_flux.command_line.prompt_file import read_prompt_file

    prompts = read_prompt_file(options.batch, chosen)
    folder = require_output(options)
    if service.in_sandbox:
        with _started(service, options, terminal) as started:
            return run_batch(started, prompts, None, options, terminal)
    with closing(open_ledger(options, folder)) as ledger:
        return run_batch(service, prompts, ledger, options, terminal)


@contextmanager
def _started(service: Service, options: Namespace, terminal: Terminal) -> Iterator[Service]:
    """The service, or where it is a sandbox of the command's own, that one once it runs."""
    if not service.in_sandbox:
        yield service
        return
    from pydantic import SecretStr

    from langchain_shortapi_flux.account import KEY_VARIABLES
    from langchain_shortapi_flux.command_line.command_failure import SANDBOX_ENDED
    from langchain_shortapi_flux.sandbox import Sandbox

    terminal.parting = lambda: f"interrupted; {SANDBOX_ENDED}"
    with Sandbox(balance=SANDBOX_BALANCE_USD) as sandbox:
        why = "--sandbox" if options.sandbox else f"No key in {KEY_VARIABLES[0]}"
        terminal.say(
            f"{why}: using the sandbox on {sandbox.base_url}. The pictures are NOT made by Flux, "
            "and nothing is charged."
        )
        there = {"base_url": sandbox.base_url, "api_key": SecretStr(sandbox.api_key)}
        yield replace(service, flux=service.flux.model_copy(update=there))


if __name__ == "__main__":
    sys.exit(main())
