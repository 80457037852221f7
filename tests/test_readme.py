"""Every block of code in the README runs, keyless, on the sandbox; its commands and facts hold.

What it says of names, defaults, limits, files and headings is compared with the code's and its own.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import re
import shlex
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from scripted_model import ScriptedModel, tool_call
from taught_delays import teach_that_jobs_end_at_once

import langchain_shortapi_flux
from langchain_shortapi_flux import (
    BatchFailed,
    Budget,
    CallbackReceiver,
    FluxImage,
    FluxJob,
    MemoryLedger,
    NotCreated,
    PollPolicy,
    RetryLimits,
    ShortAPIError,
    ShortAPIFlux,
    ShortAPIFluxTool,
    ShortAPIFluxToolkit,
    errors,
    sandbox,
)
from langchain_shortapi_flux.__main__ import main
from langchain_shortapi_flux.account import BASE_URL_VARIABLE, KEY_VARIABLES
from langchain_shortapi_flux.follow_flow import BACKSTOP_FACTOR
from langchain_shortapi_flux.image_files import DOWNLOAD_TIMEOUT_SECONDS, IMAGE_LIMIT_BYTES
from langchain_shortapi_flux.job import ASPECT_RATIOS, IMAGE_COUNTS, PERFORMANCES
from langchain_shortapi_flux.ledger import ENDED_ENTRIES_KEPT, OPEN_ENTRIES_KEPT
from langchain_shortapi_flux.sandbox import Sandbox
from langchain_shortapi_flux.sandbox.__main__ import main as sandbox_main
from langchain_shortapi_flux.spending import PAGE_PRICES
from langchain_shortapi_flux.sql_ledger import ACT_SECONDS_MAX
from langchain_shortapi_flux.tool_content import ARTIFACT_VERSION, FailureArtifact, JobArtifact

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
COMMANDS = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
SHOWN = re.findall(r"```text\n(.*?)```", README, re.DOTALL)
PROSE = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
FOR_USERS = README.partition("\n## Development\n")[0]
HEADINGS = re.findall(r"^#+ (.+)$", PROSE, re.MULTILINE)
CI = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


class KnownSandbox(Sandbox):
    """One that a block or a command starts by itself, known as one whose jobs end soon."""

    def start(self) -> None:
        super().start()
        teach_that_jobs_end_at_once(self)


def _run_block(code: str) -> dict[str, Any]:
    number = BLOCKS.index(code)
    prompt = f"a red fox in the snow, for block {number}"
    asks = [tool_call("flux_text_to_image", prompt=prompt) for _ in range(2)]
    if "ToolCallLimitMiddleware" not in code:
        del asks[1]  # only there does the model ask for more than it gets
    names: dict[str, Any] = {"model": ScriptedModel(answers=[*asks, "Here it is."])}
    exec(compile(code, "README.md", "exec"), names)
    return names | {"asked_for": prompt}


@pytest.mark.filterwarnings("ignore:The function `load` is in beta")
def test_every_python_block_runs_as_it_stands(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What the README shows works, all of it; side by side, for each waits for its first query."""
    teach_that_jobs_end_at_once(sandbox)
    monkeypatch.setattr("langchain_shortapi_flux.sandbox.Sandbox", KnownSandbox)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHORTAPI_KEY", sandbox.api_key)
    monkeypatch.setenv("SHORTAPI_BASE_URL", sandbox.base_url)
    with ThreadPoolExecutor(len(BLOCKS)) as pool:
        ran = list(pool.map(_run_block, BLOCKS))
    assert len(ran) == len(BLOCKS) >= 13
    plain, streaming, approved, limited = (names for names in ran if "agent" in names)
    for names in (plain, streaming, approved, limited):
        prompts = [job.args["prompt"] for job in sandbox.jobs]
        assert prompts.count(names["asked_for"]) == 1, "each agent buys one picture"
    drawn = plain["answer"]["messages"][2]
    assert drawn.status == "success"
    assert drawn.artifact["images"]
    assert streaming["event"]["status"] == "succeeded"
    assert approved["asked"]["messages"][-1].tool_calls, "it stops before the tool"
    assert approved["asked"]["__interrupt__"]
    assert approved["answer"]["messages"][2].artifact["images"]
    answers = [message for message in limited["answer"]["messages"] if message.type == "tool"]
    assert [message.status for message in answers] == ["success", "error"]
    (crashed,) = (names for names in ran if "SqlLedger" in names)
    assert crashed["job"].status == "succeeded"
    assert Path("flux-jobs.db").exists()


def test_the_artifacts_are_described_whole() -> None:
    """Who reads an artifact needs every field's name, and the version that they hold for."""
    for artifact in (JobArtifact, FailureArtifact):
        (row,) = [
            line for line in README.splitlines() if line.startswith(f"| `{artifact.__name__}`")
        ]
        for field in artifact.__annotations__:
            assert f"`{field}`" in row, field
    assert f"`version` is {ARTIFACT_VERSION}" in README


def test_the_first_command_is_what_the_command_line_tests_run() -> None:
    """The README's first command parses as the program's own; its end is tested elsewhere."""
    first = COMMANDS[0].strip().split(" && ")
    assert first[0] == "python3 -m venv .venv"
    assert first[1] == ".venv/bin/pip install -q '.[sandbox]'"
    program = shlex.split(first[2])
    assert program[:3] == [".venv/bin/python", "-m", "langchain_shortapi_flux"]
    with pytest.raises(SystemExit) as left:
        main([*program[3:], "--help"])
    assert left.value.code == 0


def _form(lines: Sequence[str]) -> list[str]:
    """Lines in any order, without what differs from run to run."""
    same = [("[0-9a-f]{24}", "ID"), (r":\d{2,5}\b", ":PORT"), (r"\d+\.\d s", "N s")]
    formed = []
    for line in lines:
        for pattern, word in [*same, (r"\d+ quer\w+", "N queries")]:
            line = re.sub(pattern, word, line)  # noqa: PLW2901 - one change after another
        formed.append(line)
    return sorted(formed)


def test_the_first_command_prints_what_is_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ids, ports and times aside, a newcomer sees what the README shows, line for line."""

    class QuickSandbox(KnownSandbox):
        def __init__(self, **how: Any) -> None:
            super().__init__(**{"job_seconds": 0.0, **how})

    monkeypatch.setattr("langchain_shortapi_flux.sandbox.Sandbox", QuickSandbox)
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(COMMANDS[0].strip().split(" && ")[2])[3:]) == 0
    printed = capsys.readouterr()
    assert _form(SHOWN[0].splitlines()) == _form((printed.out + printed.err).splitlines())


def test_the_table_of_figures_is_the_benchmarks() -> None:
    """Its rows are ways that the named script measures, and each named script is there."""
    folder = ROOT / "tests" / "benchmarks"
    script = (folder / "figures.py").read_text(encoding="utf-8")
    rows = re.findall(r"^\| 5(?:00|,000), (.*?) \|", README, re.MULTILINE)
    assert len(rows) >= 9
    for row in rows:
        way = row.replace("`", "").rpartition(", ")[2]
        assert way in script or way.startswith("max_connections"), row
    for name in ("figures.py", "called_back.py", "waiting_table.py", "hundred_jobs.py"):
        assert name in README
        assert (folder / name).exists()


# --- commands ---------------------------------------------------------------------------------

NOT_IN_CI = {
    ".venv/bin/pip install -q '.[sandbox]'": "CI installs the extra test, which has this one",
    ".venv/bin/pip install -q '.[lab]'": "CI installs it together with the extra test",
    ".venv/bin/jupyter lab notebooks/01_first_image.ipynb": "for people; CI executes the notebooks",
    "export SHORTAPI_KEY=...": "it stands for a key",
    ".venv/bin/python -m pytest -q -n 4": "the end of the command that CI runs",
    ".venv/bin/python -m pytest tests/test_recorded_jobs.py -k two_pictures "
    "--record-mode=rewrite": "it writes to cassettes/",
    ".venv/bin/python -m pytest tests/test_recorded_jobs.py": "a part of the tests",
    ".venv/bin/python -m pytest tests/test_recorded_jobs.py tests/test_standard_cassettes.py "
    "--record-mode=rewrite --record-from=live --spend-up-to=0.04 --timeout=600": "it costs money",
}
"""Commands that CI does not run as they stand, and why."""


def _commands() -> list[str]:
    """Each command of each block, on one line, without comments."""
    text = "\n".join(COMMANDS).replace("\\\n", " ")
    lines = [re.sub(r"\s# .*", "", line) for line in text.splitlines()]
    return [" ".join(part.split()) for line in lines for part in line.split(" && ") if part.strip()]


def _program(command: str) -> Callable[[list[str]], int] | None:
    """What runs the command, if it is one of this package's."""
    words = shlex.split(command)
    if "shortapi-flux" in words[0] or words[1:3] == ["-m", "langchain_shortapi_flux"]:
        return main
    return sandbox_main if words[1:3] == ["-m", "langchain_shortapi_flux.sandbox"] else None


def test_every_command_is_run_somewhere_or_says_why_not() -> None:
    """In CI as it stands, or, if it is one of this package's, with options that there are."""
    for command in _commands():
        program = _program(command)
        if program is not None:
            options = _options(program)
            assert set(re.findall(r"(?<= )--[a-z-]+", command)) <= options, command
        elif command not in NOT_IN_CI:
            assert command in CI, command
    assert set(NOT_IN_CI) <= set(_commands())


def test_the_test_command_is_what_ci_runs() -> None:
    """One command passes the tests, and it is the one that CI proves on every change."""
    (command,) = [text.strip() for text in COMMANDS if "pytest" in text and "venv .venv" in text]
    assert command in CI


def test_what_commands_name_is_there() -> None:
    """The files that they run, and the tests and options that they pick."""
    for path in re.findall(r"\b(?:tests|cassettes)/[\w/.]*\w", README):
        assert (ROOT / path).exists(), path
    recorded = (ROOT / "tests" / "test_recorded_jobs.py").read_text(encoding="utf-8")
    options = (ROOT / "tests" / "cassette_recording.py").read_text(encoding="utf-8")
    for command in NOT_IN_CI:
        for picked in re.findall(r"-k (\w+)", command):
            assert picked in recorded
        for option in set(re.findall(r"--[a-z-]+", command)) - {"--record-mode", "--timeout"}:
            assert f'"{option}"' in options, option


def _help(command: Callable[[list[str]], int]) -> str:
    """What ``--help`` says."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), pytest.raises(SystemExit) as left:
        command(["--help"])
    assert left.value.code == 0
    return printed.getvalue()


def _options(command: Callable[[list[str]], int]) -> set[str]:
    """The long options that ``--help`` lists, but for those that every command has."""
    listed = re.findall(r"^  (?:-\w[^,\n]*, )?(--[a-z-]+)", _help(command), re.MULTILINE)
    assert listed
    return set(listed) - {"--help", "--version"}


@pytest.mark.parametrize("command", [main, sandbox_main], ids=["program", "sandbox"])
def test_every_option_of_the_command_line_is_described(
    command: Callable[[list[str]], int],
) -> None:
    """An option that the README does not name is found by ``--help`` alone."""
    for option in _options(command):
        assert re.search(rf"(?<![\w-]){option}(?![\w-])", FOR_USERS), option


# --- names, defaults and limits ---------------------------------------------------------------


_A_TABLE = re.compile(r"^\|([^\n]+)\|\n\|[-|]+\|\n((?:\|[^\n]+\|\n)+)", re.MULTILINE)


def _table(head: str) -> list[list[str]]:
    """The rows of the one table whose first column is headed so."""
    (rows,) = (
        rows for heads, rows in _A_TABLE.findall(PROSE) if heads.split(" | ")[0].strip() == head
    )
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows.splitlines()]


@dataclass(frozen=True)
class Described:
    """A table of settings, and what it is about."""

    head: str
    of: type
    names: frozenset[str]

    def rows(self) -> dict[str, str]:
        """What the table says of the default of each."""
        return {
            name: row[-1] for row in _table(self.head) for name in re.findall(r"`(\w+)`", row[0])
        }


OPTIONS = frozenset({"aspect_ratio", "num_images", "performance"})
SETTINGS = [
    Described("option of a request", ShortAPIFlux, OPTIONS),
    Described(
        "field of `ShortAPIFlux`",
        ShortAPIFlux,
        frozenset(ShortAPIFlux.model_fields) - {"name"} - OPTIONS,
    ),
    Described(
        "setting of `ShortAPIFluxTool`",
        ShortAPIFluxTool,
        frozenset({"max_wait", "content", "save_to"})
        | {"handle_tool_error", "handle_validation_error"},
    ),
]
NONE_IS = {"unset", "waits to the end"}
IN_WORDS = {
    "api_key": [f"`{KEY_VARIABLES[0]}`, then `{KEY_VARIABLES[1]}`"],
    "base_url": [f"`{BASE_URL_VARIABLE}`, then the official host"],
    "poll": [f"first after {PollPolicy().first_delay:g} s"],
    "retry": [
        f"{RetryLimits().create_attempts} creates, {RetryLimits().backoff_first:g} s doubling",
        f"to {RetryLimits().backoff_max:g} s",
    ],
    "ledger": [f"a `{MemoryLedger.__name__}` of its own"],
}
"""Defaults that are no plain value, as the tables have to say them."""


@pytest.mark.parametrize("described", SETTINGS, ids=[one.head for one in SETTINGS])
def test_a_table_has_every_setting_and_none_that_is_gone(described: Described) -> None:
    """A setting that the README does not name is one that nobody finds."""
    assert set(described.rows()) == described.names


def test_the_tools_settings_are_those_of_their_classes() -> None:
    """The table of the tool has what its classes add to LangChain's, and its way with errors."""
    ours = [one for one in ShortAPIFluxTool.__mro__ if "langchain_shortapi_flux" in one.__module__]
    declared = {name for one in ours for name in inspect.get_annotations(one)}
    fixed = {"flux", "name", "description", "response_format"}
    assert {name for name in declared if name[0] != "_"} - fixed == SETTINGS[2].names
    assert set(ShortAPIFluxToolkit.model_fields) <= {"flux", *SETTINGS[2].names}


@pytest.mark.parametrize(
    ("described", "name"), [(one, name) for one in SETTINGS for name in sorted(one.names)]
)
def test_a_default_in_a_table_is_the_codes(described: Described, name: str) -> None:
    """Who relies on a default relies on what is documented."""
    said = described.rows()[name]
    default = getattr(described.of(), name)
    if name in IN_WORDS:
        assert all(words in said for words in IN_WORDS[name])
    elif default is None:
        assert said in NONE_IS
    elif isinstance(default, str):
        assert said == f"`{default}`"
    else:
        assert float(said.replace(",", "")) == default


def test_the_sandboxs_options_have_the_defaults_that_help_says() -> None:
    """What the command prints of them and what the README's table has are the same."""
    said = " ".join(_help(sandbox_main).split())
    rows = _table("option of the sandbox")
    assert {name for row in rows for name in re.findall(r"`(--[a-z-]+)`", row[0])} == _options(
        sandbox_main
    )
    for row in rows:
        for default in row[-1].replace("`", "").split(", "):
            assert default in {"off", *re.findall(re.escape(default), said)}, default


def test_the_options_values_are_listed_whole() -> None:
    """Each value that is taken stands in the table, and no other."""
    allowed = {row[0]: row[1] for row in _table("option of a request")}
    assert re.findall(r"`([\d:]+)`", allowed["`aspect_ratio`"]) == list(ASPECT_RATIOS)
    assert re.findall(r"\d+", allowed["`num_images`"]) == [str(count) for count in IMAGE_COUNTS]
    assert re.findall(r"`(\w+)`", allowed["`performance`"]) == list(PERFORMANCES)


def test_every_public_name_is_in_the_readme() -> None:
    """What can be imported can be found."""
    for name in set(langchain_shortapi_flux.__all__) - {"__version__"}:
        assert re.search(rf"\b{name}\b", README), name


def test_every_error_is_in_the_table_with_whether_it_was_charged() -> None:
    """Who catches an error knows from the table what it means for their money."""
    rows = {name: row for row in _table("error") for name in re.findall(r"`(\w+)`", row[0])}
    kinds = {name: getattr(errors, name) for name in errors.__all__ if name != "Charge"}
    for base in (ShortAPIError, NotCreated):
        assert f"`{kinds.pop(base.__name__).__name__}`" in PROSE or base is ShortAPIError
    assert set(rows) == {*kinds, BatchFailed.__name__}
    for name, kind in kinds.items():
        charged = rows[name][-1]
        assert (charged == "no") == issubclass(kind, NotCreated), name
        if kind.default_charge == "unknown":
            assert "perhaps" in charged or "`error.charge`" in charged, name


def test_the_numbers_in_the_text_are_the_codes() -> None:
    """Limits that the text names in passing, each where a reader looks for it."""
    for said in (
        *(f"{price} USD for `{mode}`" for mode, price in PAGE_PRICES.items()),
        f"{ENDED_ENTRIES_KEPT:,} ended entries",
        f"{OPEN_ENTRIES_KEPT:,} others",
        f"`timeout` ({ACT_SECONDS_MAX:g} s)",
        f"at most {IMAGE_LIMIT_BYTES // 2**20} MiB",
    ):
        assert " ".join(said.split()) in " ".join(PROSE.split()), said
    assert BACKSTOP_FACTOR == 4
    assert "four times slower" in " ".join(PROSE.split())
    assert DOWNLOAD_TIMEOUT_SECONDS == 120
    assert "at most two minutes" in " ".join(PROSE.split())


HELD = {
    "flux": ShortAPIFlux,
    "job": FluxJob,
    "image": FluxImage,
    "budget": Budget,
    "receiver": CallbackReceiver,
    "learned_delays": type(langchain_shortapi_flux.learned_delays),
}
"""What the text calls the things that it speaks of."""


def test_what_the_text_calls_by_name_is_there() -> None:
    """No ``job.something`` that is gone, in text or code; an error's are some error's."""
    named = set(re.findall(r"\b(\w+)\.([a-z]\w*)\b", "\n".join(re.findall(r"`[^`]+`", PROSE))))
    named |= {pair for code in BLOCKS for pair in re.findall(r"\b(\w+)\.([a-z]\w*)\b", code)}
    checked = 0
    for owner, name in named:
        if owner not in HELD:
            continue
        of = HELD[owner]
        checked += 1
        assert hasattr(of, name) or name in getattr(of, "model_fields", {}), f"{owner}.{name}"
    assert checked > len(HELD)
    failed = BatchFailed([ValueError()])
    for owner, name in named:
        assert owner != "error" or hasattr(failed, name), f"error.{name}"


NAMES_OF_OTHERS = {"ToolRetryMiddleware", "ToolMessage", "ToolNode"}


def test_no_class_is_named_that_is_not_there() -> None:
    """A class that was renamed is renamed here too."""
    ours = {*langchain_shortapi_flux.__all__, *sandbox.__all__, "JobArtifact", "FailureArtifact"}
    for name in re.findall(r"`([A-Z][a-z]+[A-Z]\w+)[(`.]", PROSE):
        assert name in ours | NAMES_OF_OTHERS, name


# --- where it leads ---------------------------------------------------------------------------


def test_links_and_references_lead_somewhere() -> None:
    """Files are there, and so are the headings that the text refers to."""
    links = re.findall(r"\]\(([^)]+)\)", PROSE)
    here = [link for link in links if not link.startswith("https://")]
    assert here
    for link in here:
        path, _, anchor = link.partition("#")
        assert not path or (ROOT / path).exists(), link
        anchors = {re.sub(r"[^\w -]", "", one).lower().replace(" ", "-") for one in HEADINGS}
        assert not anchor or anchor in anchors, link
    referred = re.findall(r'see "([^"]+)"', PROSE)
    assert referred
    for heading in referred:
        assert heading in HEADINGS, heading


def test_what_it_says_of_installing_holds() -> None:
    """The lowest Python, the extras and the command's name are the project's."""
    lowest = PROJECT["requires-python"].removeprefix(">=")
    assert f"Python {lowest} or newer" in README
    extras = re.findall(r"extras? `(\w+)`", PROSE) + re.findall(r"\.\[([\w,]+)\]'", README)
    assert extras
    for extra in (name for found in extras for name in found.split(",")):
        assert extra in PROJECT["optional-dependencies"], extra


def test_the_changelog_names_every_public_name() -> None:
    """What is new for users is told in their words; the errors stand there as a module."""
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert "langchain_shortapi_flux.errors" in changes
    for name in set(langchain_shortapi_flux.__all__) - set(errors.__all__) - {"__version__"}:
        assert re.search(rf"\b{name}\b", changes), name
