"""Knows the command line of the sandbox: `python -m langchain_shortapi_flux.sandbox`.

It must not know what the sandbox does.
"""

import argparse
import shlex
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Final

from langchain_shortapi_flux.sandbox.menu import MODEL_ID
from langchain_shortapi_flux.sandbox.sandbox import DEFAULT_BALANCE_USD, SANDBOX_KEY, Sandbox

DEFAULT_PORT: Final = 8787

_EXIT_OK: Final = 0
_EXIT_CANNOT_START: Final = 2
# Bounded, because on Windows an endless wait cannot be interrupted by Ctrl-C.
_WAIT_SECONDS: Final = 0.5


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a sandbox until Ctrl-C or SIGTERM; gives the exit code."""
    options = _parser().parse_args(arguments)
    ended = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: ended.set())
    try:
        sandbox = Sandbox(
            host=options.host,
            port=options.port,
            api_key=options.api_key,
            balance=options.balance,
            job_seconds=options.job_seconds,
            allow_remote=options.allow_remote,
        )
        sandbox.start()
    except (ImportError, OSError, ValueError) as error:
        text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        print(f"sandbox: {text}", file=sys.stderr)
        return _EXIT_CANNOT_START
    try:
        print(_welcome(sandbox), flush=True)
        while not ended.wait(_WAIT_SECONDS):
            pass
    finally:
        sandbox.stop()
    print(f"Stopped after {len(sandbox.jobs)} jobs.", flush=True)
    return _EXIT_OK


def _welcome(sandbox: Sandbox) -> str:
    return f"""\
A sandbox for {MODEL_ID}: it speaks ShortAPI's job API,
draws its own pictures (nothing here is made by Flux) and costs nothing.

Listening on {sandbox.base_url}, with {sandbox.balance} pretend USD. To use it:

  export SHORTAPI_BASE_URL={sandbox.base_url}
  export SHORTAPI_KEY={shlex.quote(sandbox.api_key)}

To watch its jobs and see their pictures, open {sandbox.base_url}/ in a browser.

Ctrl-C ends it."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m langchain_shortapi_flux.sandbox",
        description="Run a local stand-in for ShortAPI: no account, no cost, no Flux.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address (default: %(default)s)")
    parser.add_argument(
        "--port",
        type=int,
        default=DEFAULT_PORT,
        help="port, 0 for a free one (default: %(default)s)",
    )
    parser.add_argument(
        "--api-key", default=SANDBOX_KEY, help="demanded key (default: %(default)s)"
    )
    parser.add_argument(
        "--balance", default=DEFAULT_BALANCE_USD, help="balance in USD (default: %(default)s)"
    )
    parser.add_argument(
        "--job-seconds",
        type=float,
        default=None,
        help="duration of a job (default: 1 in schnell mode, 3 in dev mode)",
    )
    parser.add_argument(
        "--allow-remote",
        action="store_true",
        help="allow a host, and callbacks, beyond this machine; whoever reaches it sees its jobs",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
