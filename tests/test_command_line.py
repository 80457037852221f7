"""The command line: what it prints, what it leaves on disk, how it exits."""

from __future__ import annotations

import ast
import errno
import io
import json
import os
import re
import signal
import struct
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest
from command_process import PROGRAM, started
from quick_flux import flux_on
from taught_delays import teach_that_jobs_end_at_once

import langchain_shortapi_flux.__main__ as command_line
from langchain_shortapi_flux.__main__ import main
from langchain_shortapi_flux.command_line.job_json import JSON_FIELDS
from langchain_shortapi_flux.sandbox import Fault, Sandbox

if TYPE_CHECKING:
    from collections.abc import Sequence

SCRIPT = (  # what installers write for the console script
    *(sys.executable, "-W", "error", "-c"),
    "import sys; from langchain_shortapi_flux.__main__ import main; sys.exit(main())",
)
# Stands for a user's finger: Ctrl-C at the moment when a certain module is looked for.
INTERRUPTER = """
import os, signal, sys

class Interrupter:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["INTERRUPTED_IMPORT"]:
            signal.raise_signal(signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Interrupter())
"""
SECONDS = 30
JOB_ID = re.compile(r"[0-9a-f]{24}")
SANDBOX_ENDED = "the sandbox ended with this command, and nothing was charged"


@pytest.fixture
def with_key(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """A sandbox that the environment names, as it would name the service; its jobs end at once."""
    teach_that_jobs_end_at_once(sandbox)
    monkeypatch.setenv("SHORTAPI_KEY", sandbox.api_key)
    monkeypatch.setenv("SHORTAPI_BASE_URL", sandbox.base_url)
    return sandbox


def _size(path: Path) -> tuple[int, int]:
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", content[16:24])
    return width, height


def test_without_a_key_the_sandbox_draws_and_says_so(tmp_path: Path) -> None:
    """The first command of the README: pictures of the right ratio, marked as not real."""
    arguments = ("a lighthouse in a storm", "--aspect-ratio", "16:9", "--num-images", "2")
    done = subprocess.run(
        [*PROGRAM, *arguments, "--performance", "schnell", "-o", "images/"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "NOT made by Flux" in done.stderr
    *paths, summary = done.stdout.splitlines()
    assert [_size(tmp_path / path) for path in paths] == [(1360, 768)] * 2
    assert all(path.startswith("images/sandbox-") for path in paths)
    assert JOB_ID.search(summary)
    assert "cost 0.002 USD" in summary


def test_follow_picks_up_a_job_without_buying(
    with_key: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A job bought earlier, by whatever program, ends in the same way and costs nothing more."""
    job = flux_on(with_key).create("a red fox")
    assert main(["--follow", job.job_id, "-o", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[0] == str(tmp_path / f"sandbox-{job.job_id}-1.png")
    assert len(with_key.charges) == 1


def test_following_again_fetches_only_what_is_not_there(
    with_key: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A picture that could not be had the first time, beside one that is on disk already."""
    with_key.inject(Fault("image", "error", status=404))
    assert main(["two owls", "--num-images", "2", "-o", str(tmp_path)]) == 1
    (job,) = with_key.jobs
    assert len(list(tmp_path.glob("*.png"))) == 1
    for _ in range(2):
        capsys.readouterr()
        assert main(["--follow", job.job_id, "-o", str(tmp_path), "--json"]) == 0
        images = json.loads(capsys.readouterr().out)["images"]
        assert [Path(image["path"]).exists() for image in images] == [True, True]
    assert len(with_key.charges) == 1


def test_fewer_pictures_than_asked_for_are_told(
    with_key: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 0 says that all are there."""
    with_key.inject(Fault("create", "fewer_images", count=1))
    assert main(["two owls", "--num-images", "2", "-o", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert "1 of 2 pictures came" in said.err
    assert said.out.startswith(str(tmp_path))


def test_what_the_service_says_does_not_steer_the_terminal(
    with_key: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor does it write a line that looks like the command's own; and 2 is for what is not sent."""
    evil = "\x1b[2J\x1b]0;owned\x07no\r\nshortapi-flux: all pictures are saved"
    with_key.inject(Fault("create", "refuse", info=evil))
    assert main(["a red fox", "-o", str(tmp_path)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.isprintable()


def test_follow_without_a_key_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A script must never succeed with pictures that are not real."""
    assert main(["--follow", "65f0c0ffee65f0c0ffee65f0", "-o", str(tmp_path)]) == 2
    assert "no key: set SHORTAPI_KEY" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give a prompt"),
        (["a fox", "--follow", "65f0"], "give a prompt, or --follow"),
        (["a fox", "--num-images", "3"], "3"),
        (["a fox", "--aspect-ratio", "5:4"], "5:4"),
        (["a fox", "--timeout", "soon"], "soon"),
        (["a fox", "--batch", "p.txt"], "give a prompt, or --follow JOB_ID, or --batch FILE"),
        (["a fox", "--buy-unknown"], "--buy-unknown goes with --batch"),
        (["a fox", "--ledger", "sqlite:///x.db"], "--ledger goes with --batch"),
        (["--follow", "65f0", "--max-concurrency", "2"], "--max-concurrency goes with --batch"),
        (["--follow", "65f0", "--budget", "1"], "--budget: following a job buys nothing"),
        (["--batch", "p.txt", "--sandbox", "--ledger", "sqlite:///x.db"], "--ledger: no job of"),
        (["--batch", "p.txt", "--max-concurrency", "0"], "'0': allowed are 1 to 10000"),
        (["--batch", "p.txt", "--max-concurrency", "1000000"], "allowed are 1 to 10000"),
        (["a fox", "--budget", "5,00"], "'5,00': allowed is USD from 0"),
        (["a fox", "--bud", "5"], "--bud"),
    ],
)
def test_bad_arguments_end_with_usage(
    arguments: list[str], said: str, with_key: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    """Argparse's own way: usage and exit 2, nothing sent."""
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err
    assert not with_key.calls


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([" "], "blank"),
        (["a fox", "--timeout", "-1"], "timeout"),
        (["a fox", "-o", "{file}/images"], "--output"),
    ],
)
def test_arguments_refused_before_money_is_spent(
    arguments: list[str],
    said: str,
    with_key: Sandbox,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What the parser cannot see is one clear line and exit 2, and nothing is bought."""
    (tmp_path / "file").touch()
    filled = [argument.format(file=tmp_path / "file") for argument in arguments]
    assert main(filled) == 2
    lines = capsys.readouterr().err.splitlines()
    assert said in lines[-1]
    assert not with_key.calls


def test_json_without_a_key_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A script takes what it reads there for Flux's work, unless it says that it knows better."""
    assert main(["a fox", "--json", "-o", str(tmp_path)]) == 2
    told = capsys.readouterr()
    assert "no key: set SHORTAPI_KEY for --json" in told.err
    assert "--sandbox says that you mean" in told.err
    assert (told.out, list(tmp_path.iterdir())) == ("", [])


def test_json_of_a_prompt_and_of_a_job_that_is_followed(
    with_key: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line on stdout, with the same fields; what goes to stderr stays."""
    assert main(["a fox", "--num-images", "2", "--json", "-o", str(tmp_path / "a")]) == 0
    told = capsys.readouterr()
    said = json.loads(told.out)
    assert list(said) == list(JSON_FIELDS)
    assert {image["path"] for image in said["images"]} == set(map(str, tmp_path.glob("a/*.png")))
    assert (said["prompt"], said["line"], said["cost"]) == ("a fox", None, "0.02")
    assert said["arguments"] == {"aspect_ratio": "1:1", "num_images": 2, "performance": "dev"}
    assert "succeeded" in told.err

    assert main(["--follow", said["job_id"], "--json", "-o", str(tmp_path / "b")]) == 0
    followed = json.loads(capsys.readouterr().out)
    assert (followed["job_id"], followed["prompt"]) == (said["job_id"], None)
    assert len(followed["images"]) == 2


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault("create", "refuse", info="insufficient balance"), ("not_created", "none", 0)),
        (Fault("create", "drop_after"), ("unknown", "unknown", 0)),
        (Fault("create", "job_fails"), ("failed", "refunded", 0)),
        (Fault("image", "html"), ("succeeded", "charged", 1)),
    ],
    ids=lambda value: value.kind if isinstance(value, Fault) else "",
)
def test_json_of_a_failure(
    fault: Fault,
    said: tuple[str, str, int],
    with_key: Sandbox,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A script learns from its line what happened, and a person from stderr, in the same words."""
    with_key.inject(fault)
    assert main(["a red fox", "--json", "-o", str(tmp_path)]) == 1
    told = capsys.readouterr()
    line = json.loads(told.out)
    assert (line["status"], line["charge"], len(line["images"])) == said
    assert told.err.splitlines()[-1] == f"shortapi-flux: {line['error']['message']}"
    assert line["prompt"] == "a red fox"


def test_a_budget_holds_for_one_prompt_too(
    with_key: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What may cost more is not sent."""
    assert main(["a red fox", "--budget", "0.01", "-o", str(tmp_path)]) == 1
    assert "the job may cost 0.02 USD, and 0.01 of the budget's" in capsys.readouterr().err
    assert not with_key.calls
    assert main(["a red fox", "--budget", "0.02", "-o", str(tmp_path)]) == 0


def _no_sandbox() -> NoReturn:
    raise AssertionError("the sandbox was started")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([" "], "blank"),
        (["a fox", "--timeout", "-1"], "timeout"),
        (["a fox", "--timeout", "nan"], "timeout"),
        (["a fox", "-o", "file/images"], "--output"),
        (["a fox", "-o", "\0"], "--output"),
        (["--sandbox", "--follow", "65f0", "-o", "file/images"], "--output"),
    ],
)
def test_arguments_are_refused_before_the_sandbox_starts(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A line on pictures that are not real, and then none at all, only confuses."""
    monkeypatch.setattr("langchain_shortapi_flux.sandbox.Sandbox", _no_sandbox)
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    assert main(arguments) == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert said in told
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("fault", "timeout", "said"),
    [
        (Fault("create", "job_never_ends"), "0.5", "has not ended in time"),
        (Fault("image", "html"), "60", "a web page"),
        (Fault("create", "job_fails", info="moderation"), "60", "gave no picture for job"),
        (Fault("create", "drop_after"), "60", "gave no picture"),
    ],
)
def test_no_failure_in_the_sandbox_speaks_of_money_or_of_following(
    fault: Fault,
    timeout: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nothing was paid, and the sandbox with its job is gone when one reads it."""
    faulty = partial(Sandbox, job_seconds=0.0, faults=[fault])
    monkeypatch.setattr("langchain_shortapi_flux.sandbox.Sandbox", faulty)
    assert main(["a red fox", "--timeout", timeout, "-o", str(tmp_path)]) == 1
    told = capsys.readouterr().err
    *_, last = told.splitlines()
    assert said in last
    assert last.endswith(SANDBOX_ENDED)
    rest = told.replace("nothing is charged", "").replace("nothing was charged", "")
    assert not re.search("charged|follow|refunded|finish", rest)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault("create", "refuse", info="insufficient balance"), "insufficient balance"),
        (Fault("create", "drop_after"), "may have been charged"),
        (Fault("create", "job_fails", info="moderation"), "moderation"),
    ],
)
def test_failures_are_one_clear_line(
    fault: Fault,
    said: str,
    with_key: Sandbox,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """No balance, a lost answer, a failed job: one line, the job id if there is one, exit 1."""
    with_key.inject(fault)
    assert main(["a red fox", "-o", str(tmp_path)]) == 1
    *_, last = capsys.readouterr().err.splitlines()
    assert said in last
    assert fault.kind != "job_fails" or with_key.jobs[0].job_id in last


def test_a_picture_that_cannot_be_saved_names_the_job(
    with_key: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The job is paid for: its id is there to fetch it again, and no part of a file is left."""
    job = flux_on(with_key).create("a red fox")
    with_key.inject(Fault("image", "html"))
    assert main(["--follow", job.job_id, "-o", str(tmp_path)]) == 1
    assert f"--follow {job.job_id}" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_timeout_names_the_job(
    with_key: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Giving up on waiting is not giving up on the job."""
    with_key.inject(Fault("create", "job_never_ends"))
    assert main(["a red fox", "--timeout", "0.3", "-o", str(tmp_path)]) == 1
    assert f"--follow {with_key.jobs[0].job_id}" in capsys.readouterr().err


def test_interrupt_ends_with_130_and_the_job_id(with_key: Sandbox, tmp_path: Path) -> None:
    """Ctrl-C while waiting: one line, no traceback, and the id of what was paid for."""
    with_key.inject(Fault("create", "job_never_ends"))
    with started(["a red fox", "-o", str(tmp_path)]) as running:
        assert running.stderr is not None
        first = running.stderr.readline()
        running.send_signal(signal.SIGINT)
        _out, rest = running.communicate(timeout=SECONDS)
    assert running.returncode == 130
    (told,) = rest.splitlines()
    (job,) = with_key.jobs
    assert job.job_id in first
    assert f"--follow {job.job_id}" in told


@pytest.mark.thorough
def test_interrupt_in_the_sandbox_says_that_the_job_is_gone(tmp_path: Path) -> None:
    """Neither the command nor the package's log may send anybody after a job that has ended."""
    with started(["a red fox", "-o", str(tmp_path)]) as running:
        assert running.stderr is not None
        assert "using the sandbox" in running.stderr.readline()
        assert running.stderr.readline().startswith("job ")
        running.send_signal(signal.SIGINT)
        _out, rest = running.communicate(timeout=SECONDS)
    assert running.returncode == 130
    assert rest == f"shortapi-flux: interrupted; {SANDBOX_ENDED}\n"


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("program", "module"),
    [
        (PROGRAM, "pydantic"),  # the first that main imports, and quickly reached
        (SCRIPT, "pydantic"),
        (SCRIPT, "langchain_shortapi_flux.image_files"),
        (PROGRAM, "langchain_shortapi_flux.sandbox"),  # the last, once the sandbox is spoken of
    ],
    ids=["module-first", "script-first", "script-halfway", "module-last"],
)
def test_interrupt_during_imports_is_one_line(
    program: Sequence[str], module: str, tmp_path: Path
) -> None:
    """The first second is when one sees the typing error and presses Ctrl-C."""
    (tmp_path / "sitecustomize.py").write_text(INTERRUPTER, encoding="utf-8")
    names = {"PYTHONPATH": str(tmp_path), "INTERRUPTED_IMPORT": module}
    done = subprocess.run(
        [*program, "a fox", "-o", str(tmp_path / "images")],
        capture_output=True,
        text=True,
        env=os.environ | names,
        timeout=SECONDS,
        check=False,
    )
    assert done.stderr == "shortapi-flux: interrupted; nothing was charged\n"
    assert (done.returncode, done.stdout) == (130, "")


def test_only_the_standard_library_is_imported_before_main() -> None:
    """Whatever is imported at the top is imported where no Ctrl-C can be caught."""
    tree = ast.parse(Path(command_line.__file__).read_text("utf-8"))
    named = {one.module or "" for one in tree.body if isinstance(one, ast.ImportFrom)}
    for one in tree.body:
        if isinstance(one, ast.Import):
            named |= {alias.name for alias in one.names}
    assert named
    assert {name.partition(".")[0] for name in named} <= sys.stdlib_module_names


def test_a_password_in_the_base_url_is_not_printed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is refused because of it, and a terminal is no place for it."""
    monkeypatch.setenv("SHORTAPI_KEY", "ak-1234567")
    monkeypatch.setenv("SHORTAPI_BASE_URL", "https://me:hunter2@api.shortapi.ai")
    assert main(["a fox", "-o", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert "base_url" in told
    assert "hunter2" not in told


class _FullDisk(io.StringIO):
    def write(self, _: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_list_that_cannot_be_printed_names_the_job(
    with_key: Sandbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The pictures are there by then, and the job is paid for."""
    monkeypatch.setattr("sys.stdout", _FullDisk())
    assert main(["a fox", "-o", str(tmp_path)]) == 1
    assert f"job {with_key.jobs[0].job_id}: its pictures are saved" in capfd.readouterr().err
    assert len(list(tmp_path.glob("*.png"))) == 1


def test_a_job_that_the_sandbox_does_not_know_is_named_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A fresh sandbox knows no job at all, and its own words say so best."""
    assert main(["--sandbox", "--follow", "65f0c0ffee65f0c0ffee65f0", "-o", str(tmp_path)]) == 1
    *_, last = capsys.readouterr().err.splitlines()
    assert "the service would not answer for job 65f0c0ffee65f0c0ffee65f0" in last
    assert last.endswith(SANDBOX_ENDED)


def _narrow_stream() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict")


def _written(stream: io.TextIOWrapper) -> bytes:
    stream.flush()
    assert isinstance(stream.buffer, io.BytesIO)
    return stream.buffer.getvalue()


def test_a_path_that_stdout_cannot_spell_is_escaped(
    with_key: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job is paid for and its picture saved: no moment for an encoding to fail."""
    stream = _narrow_stream()
    monkeypatch.setattr("sys.stdout", stream)
    assert main(["a fox", "-o", str(tmp_path / "höhle")]) == 0
    assert rb"h\xf6hle" in _written(stream)


def test_a_reason_that_stderr_cannot_spell_is_escaped(
    with_key: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service's words are in any language, and the job id stands beside them."""
    stream = _narrow_stream()
    monkeypatch.setattr("sys.stderr", stream)
    with_key.inject(Fault("create", "job_fails", info="不适当"))
    assert main(["a fox", "-o", str(tmp_path)]) == 1
    told = _written(stream)
    assert rb"\u4e0d\u9002\u5f53" in told
    assert with_key.jobs[0].job_id.encode() in told


@pytest.mark.thorough
def test_a_closed_stderr_breaks_nothing(with_key: Sandbox, tmp_path: Path) -> None:
    """Who closes it wants the list of files, and nothing else on stdout."""
    job = flux_on(with_key).create("a fox")  # followed, for a fresh process has learned no delay
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" 2>&-', "sh", *PROGRAM, "--follow", job.job_id, "-o", str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    (saved,) = tmp_path.glob("*.png")
    path, summary = done.stdout.splitlines()
    assert (done.returncode, path) == (0, str(saved))
    assert summary.startswith(f"job {job.job_id}: succeeded")


@pytest.mark.parametrize(
    ("arguments", "code", "lines"),
    [(["a fox"], 0, 2), (["a fox", "--json"], 0, 1), (["a fox", "--num-images", "3"], 2, 0)],
)
def test_without_a_stderr_nothing_else_is_on_stdout(
    arguments: list[str],
    code: int,
    lines: int,
    with_key: Sandbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What a closed one is to Python: None, for which ``print`` would take stdout."""
    monkeypatch.setattr("sys.stderr", None)
    try:
        ended = main([*arguments, "-o", str(tmp_path)])
    except SystemExit as stopped:
        ended = int(stopped.code or 0)
    sys.stderr.close()  # the null device, open until then
    assert (ended, len(capsys.readouterr().out.splitlines())) == (code, lines)


def test_a_stderr_that_nobody_reads_breaks_nothing(
    with_key: Sandbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A paid job is not left because its progress could not be told."""
    monkeypatch.setattr("sys.stderr", _FullDisk())
    assert main(["a fox", "-o", str(tmp_path)]) == 0
    (saved,) = tmp_path.glob("*.png")
    assert capsys.readouterr().out.splitlines()[0] == str(saved)


class _Screen(io.StringIO):
    """A terminal as stderr."""

    def isatty(self) -> bool:
        return True


def test_on_a_terminal_one_line_is_drawn_again_and_goes(
    with_key: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left on the screen is what it ended with."""
    screen = _Screen()
    monkeypatch.setattr("sys.stderr", screen)
    assert main(["a fox", "-o", str(tmp_path)]) == 0
    start, *drawn, end = screen.getvalue().split("\r\x1b[K")
    assert (start, end) == ("", "")
    assert [re.sub(r"job \w+: (\w+), .*", r"\1", line) for line in drawn] == [
        "pending",
        "succeeded",
    ]


def test_help_names_every_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    """Scripts rely on them, so they are documented where one looks first."""
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    _, _, text = capsys.readouterr().out.partition("exit codes:\n")
    codes, _, fields = text.partition("\n\n")
    assert re.findall(r"^  (\d+) ", codes, re.MULTILINE) == ["0", "1", "2", "130"]
    assert re.findall(r"^  (\w+) ", fields, re.MULTILINE) == list(JSON_FIELDS)
