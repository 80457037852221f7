"""Every block of code in the README runs, keyless, on the sandbox; its commands too."""

from __future__ import annotations

import re
import shlex
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from scripted_model import ScriptedModel, tool_call
from taught_delays import teach_that_jobs_end_at_once

from langchain_shortapi_flux import ShortAPIFlux
from langchain_shortapi_flux.__main__ import main
from langchain_shortapi_flux.job import ASPECT_RATIOS, IMAGE_COUNTS, PERFORMANCES
from langchain_shortapi_flux.sandbox import Sandbox
from langchain_shortapi_flux.tool_content import ARTIFACT_VERSION, FailureArtifact, JobArtifact

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
COMMANDS = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)


class KnownSandbox(Sandbox):
    """One that a block starts by itself, known from the start as one whose jobs end soon."""

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
    with pytest.raises(SystemExit):
        main([*program[3:], "--help"])


def test_the_test_command_is_what_ci_runs() -> None:
    """One command passes the tests, and it is the one that CI proves on every change."""
    (command,) = [text.strip() for text in COMMANDS if "pytest" in text and "venv .venv" in text]
    assert command in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_every_field_and_option_is_described() -> None:
    """A setting that the README does not name is one that nobody finds."""
    for field in set(ShortAPIFlux.model_fields) - {"name"}:
        assert f"`{field}`" in README, field
    for value in (*ASPECT_RATIOS, *PERFORMANCES, *IMAGE_COUNTS):
        assert str(value) in README
