"""The arguments of the command line, and what ``--help`` says of them.

It knows which go together. What they bring about is others' business.
"""

from __future__ import annotations

import argparse
from textwrap import fill
from typing import TYPE_CHECKING

from langchain_shortapi_flux.account import KEY_VARIABLES
from langchain_shortapi_flux.command_line.job_json import JSON_FIELDS
from langchain_shortapi_flux.command_line.terminal import (
    COMMAND,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_USAGE,
)
from langchain_shortapi_flux.job import ASPECT_RATIOS, IMAGE_COUNTS, PERFORMANCES
from langchain_shortapi_flux.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_shortapi_flux.spending import Budget

DEFAULT_FOLDER = "images"
LEDGER_NAME = "flux-jobs.db"
SANDBOX_PREFIX = "sandbox-"
AT_ONCE = 32
"""How many jobs of a batch are in flight: so many, at most, can a killed run leave in doubt."""
AT_ONCE_MAX = 10_000
ANSWER_SECONDS_MAX = 8.0
"""How long an interrupted batch waits for the answers to creates under way: what stops containers
kills, unless told otherwise, ten seconds after SIGTERM, and the rest takes a moment as well."""
WIDTH = 88

_USAGE = """%(prog)s PROMPT [options]
       %(prog)s --batch FILE [options]
       %(prog)s --follow JOB_ID [options]"""

_EPILOG = f"""\
examples:
  {COMMAND} "a lighthouse in a storm" --aspect-ratio 16:9
  {COMMAND} --batch prompts.txt --performance schnell --budget 5.00
  {COMMAND} --batch prompts.csv --sandbox --json | jq -r .images[].path

without a key:
  A prompt is drawn by the sandbox, a stand-in for the service on this machine. Its pictures
  are not made by Flux, their names begin with "{SANDBOX_PREFIX}", nothing is charged, and no job
  outlives the command. With a key in {KEY_VARIABLES[0]}, every prompt costs money (the official
  page names 0.002 USD for schnell and 0.02 USD for dev).

files of prompts (UTF-8; all of a file is checked before anything is sent):
  .csv, .tsv  the first line names the columns: prompt, and if wanted aspect_ratio,
              num_images, performance; others are ignored. In TSV a quote is a letter.
  .jsonl      on each line an object with these keys and no others
  other       a prompt on each line
  What a line does not say, the options below say for it. Blank lines are skipped.

Ctrl-C, SIGTERM or SIGHUP in a batch:
  Nothing more is bought. Creates under way are waited for, up to {ANSWER_SECONDS_MAX:g} s, so that
  their jobs are kept; jobs that only run are not. A second signal leaves at once, and
  what was under way then may have been charged.

run again after Ctrl-C or a crash:
  What was bought is kept in FOLDER/{LEDGER_NAME}. The same command on the same folder follows
  it, fetches what is not on disk, and buys only what is missing: a line that was never bought,
  or whose job failed and was refunded. Lines may be moved, added and taken out; a line that
  stands there twice is two jobs. A line whose create got no clear answer may have been
  charged: it is listed with its key and time, and bought again only with --buy-unknown.

exit codes:
  {EXIT_OK}    all pictures are saved
  {EXIT_FAILED}    a job, the service or saving failed; a price did not fit into the budget;
       something may have been charged without a known outcome; or of a batch, fewer
       pictures came than asked for, or the ledger did not keep what was bought
  {EXIT_USAGE}    bad arguments, a bad line in a file, or no key; nothing was sent
  {EXIT_INTERRUPTED}  interrupted with Ctrl-C (a batch: also by SIGTERM or SIGHUP)
"""


def read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The arguments, checked as far as they say themselves what is wrong.

    Raises:
        SystemExit: They cannot be used (2), or only ask for help or the version (0).
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    works = [options.prompt, options.follow, options.batch]
    if sum(work is not None for work in works) != 1:
        parser.error("give a prompt, or --follow JOB_ID, or --batch FILE")
    if options.batch is None:
        for name in ("ledger", "max_concurrency", "buy_unknown"):
            if getattr(options, name):
                parser.error(f"--{name.replace('_', '-')} goes with --batch FILE")
    if options.follow is not None and options.budget is not None:
        parser.error("--budget: following a job buys nothing")
    if options.sandbox and options.ledger is not None:
        parser.error("--ledger: no job of --sandbox outlives the command, so none is kept")
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=COMMAND,
        usage=_USAGE,
        description="Make pictures from prompts with Flux on ShortAPI, and save them.",
        epilog=f"{_EPILOG}\nthe fields of a line of --json:\n{_json_fields()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    what = parser.add_argument_group("what to do")
    what.add_argument("prompt", nargs="?", metavar="PROMPT", help="what the picture should show")
    what.add_argument("--batch", metavar="FILE", help="a file of prompts; - reads stdin")
    what.add_argument("--follow", metavar="JOB_ID", help="wait for a job bought earlier; free")
    picture = parser.add_argument_group("pictures")
    picture.add_argument(
        "--aspect-ratio",
        choices=ASPECT_RATIOS,
        metavar="RATIO",
        help=f"{', '.join(ASPECT_RATIOS)} (default: 1:1)",
    )
    picture.add_argument(
        "--num-images",
        type=int,
        choices=IMAGE_COUNTS,
        metavar="N",
        help=f"pictures of a prompt: {', '.join(map(str, IMAGE_COUNTS))} (default: 1)",
    )
    picture.add_argument(
        "--performance",
        choices=PERFORMANCES,
        help="fast and cheap, or better (default: dev)",
    )
    picture.add_argument(
        "-o",
        "--output",
        default=DEFAULT_FOLDER,
        metavar="FOLDER",
        help=f"where to save (default: {DEFAULT_FOLDER})",
    )
    money = parser.add_argument_group("money")
    money.add_argument(
        "--budget",
        type=_budget,
        metavar="USD",
        help="what this run may buy, by the official page's prices; what does not fit is told",
    )
    money.add_argument(
        "--sandbox",
        action="store_true",
        help="use the sandbox even if there is a key; nothing is kept of its jobs",
    )
    batch = parser.add_argument_group("with --batch")
    batch.add_argument(
        "--max-concurrency",
        type=_at_once,
        metavar="N",
        help=f"jobs in flight at a time (default: {AT_ONCE})",
    )
    batch.add_argument(
        "--ledger",
        metavar="URL",
        help=f"where to keep what was bought (default: sqlite, FOLDER/{LEDGER_NAME})",
    )
    batch.add_argument(
        "--buy-unknown",
        action="store_true",
        help="buy again what may have been charged by an earlier run",
    )
    other = parser.add_argument_group("other")
    other.add_argument(
        "--timeout", type=float, metavar="SECONDS", help="how long to wait for a job (default: 300)"
    )
    other.add_argument(
        "--json",
        action="store_true",
        help="one line of JSON for each job on stdout, as it ends, and nothing else there",
    )
    other.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    return parser


def _json_fields() -> str:
    indent = " " * 13
    return "\n".join(
        fill(f"  {name:<9}  {text}", WIDTH, subsequent_indent=indent)
        for name, text in JSON_FIELDS.items()
    )


def _budget(text: str) -> Budget:
    from langchain_shortapi_flux.spending import Budget  # noqa: PLC0415 - rarely needed

    problem: str
    try:
        return Budget(text)
    except ValueError as error:
        problem = str(error).partition(": ")[2]
    raise argparse.ArgumentTypeError(f"{text!r}: {problem}")


def _at_once(text: str) -> int:
    if text.isascii() and text.isdigit() and 1 <= int(text[:6]) <= AT_ONCE_MAX:
        return int(text[:6])
    raise argparse.ArgumentTypeError(f"{text!r}: allowed are 1 to {AT_ONCE_MAX}")
