"""The cassettes themselves: readable, clean, of known origin, in use; and no way to the network."""

from __future__ import annotations

import argparse
import importlib
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from cassette_file import (
    KEPT_HEADERS,
    CassetteText,
    cleaned_reply,
    cleaned_request,
    read_origin,
    same_body,
)
from cassette_recording import (
    NO_KEY,
    amount_in_usd,
    pytest_configure,
    pytest_itemcollected,
    why_not_live,
)

from langchain_shortapi_flux.sandbox.sandbox import SANDBOX_KEY

ROOT = Path(__file__).parents[1]
CASSETTES = sorted((ROOT / "cassettes").rglob("*.*"))
HOSTS = {"api.shortapi.ai", "file.shortapi.ai", "example.com"}


def complaints(text: str) -> list[str]:
    """What must not stand in a cassette's text, or is missing from it."""
    tape = yaml.safe_load(text)
    found = []
    source, note = read_origin(tape)
    if CassetteText(source, note).serialize(CassetteText(source, note).deserialize(text)) != text:
        found.append("not written as a recording writes it")
    parts = [part for exchange in tape["interactions"] for part in exchange.values()]
    found += [f"header {name}" for part in parts for name in set(part["headers"]) - KEPT_HEADERS]
    found += [f"host {host}" for host in set(re.findall(r"https?://([^/\s:]+)", text)) - HOSTS]
    for what in (r"(?i)ak-[0-9a-f]{32}", r"(?i)bearer", SANDBOX_KEY, NO_KEY, r"127\.0\.0\.1", "!!"):
        found += [f"text {hit}" for hit in re.findall(what, text)]
    found += [f"label {name}" for name in re.findall(r"key_name: *(.*)", text) if name[:2] != "(s"]
    return found


@pytest.mark.parametrize("path", CASSETTES, ids=lambda path: path.stem)
def test_is_clean(path: Path) -> None:
    """Whoever reads a cassette learns where it comes from, and nothing of an account."""
    assert complaints(path.read_text("utf-8")) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("headers: {}", "headers:\n        Authorization:\n          - x"),
        ("headers: {}", "headers:\n        Cookie:\n          - a=b"),
        ("Content-Type:", "Set-Cookie:"),
        ("Content-Type:", "X-Api-Key:"),
        ("a red fox", "ak-" + "0123456789abcdef" * 2),
        ("a red fox", f"a {SANDBOX_KEY}"),
        ("https://api.shortapi.ai", "http://127.0.0.1:8787"),
        ("key_name: (scrubbed)", "key_name: my laptop"),
        ("    response:", "\n    response:"),
    ],
)
def test_planted_fault_is_noticed(old: str, new: str) -> None:
    """Each rule of the test above can fail."""
    text = (ROOT / "cassettes/recorded_jobs/unstable_query_is_repeated.yaml").read_text("utf-8")
    assert old in text
    assert complaints(text) == []
    assert complaints(text.replace(old, new, 1)) != []


@pytest.mark.parametrize("path", CASSETTES, ids=lambda path: path.stem)
def test_belongs_to_a_test(path: Path) -> None:
    """A cassette that no test plays proves nothing, and is not noticed when it goes stale."""
    assert path.suffix == ".yaml"
    module = importlib.import_module(f"test_{path.parent.name}")
    named = [getattr(found, "pytestmark", []) for found in vars(module).values()]
    shared = {m.args[0] for marks in named if isinstance(marks, list) for m in marks if m.args}
    assert hasattr(module, f"test_{path.stem}") or path.stem in shared


@pytest.mark.parametrize(
    ("text", "text_of"),
    [("source: guessed\nnote: x", "source"), ("source: live\nnote: ''", "note"), ("{}", "source")],
)
def test_origin_is_demanded(text: str, text_of: str) -> None:
    """A cassette of unknown origin is not played at all."""
    with pytest.raises(ValueError, match=text_of):
        CassetteText("live", "x").deserialize(text)


# --- what is written ------------------------------------------------------------------------------


def test_recording_is_cleaned() -> None:
    """Key, cookies, account and loopback go before anything is kept, in headers, URL and body."""
    origin = "http://127.0.0.1:8787"
    headers = {"Authorization": "Bearer k", "Cookie": "a=b", "User-Agent": "x", "content-type": "y"}
    request = SimpleNamespace(uri=f"{origin}/api/v1/job/query?id=1", headers=headers)
    cleaned_request(request, origin)
    assert request.uri == "https://api.shortapi.ai/api/v1/job/query?id=1"
    assert request.headers == {"Content-Type": "y"}
    body = f'{{"data": {{"key_name": "laptop", "email": null, "url": "{origin}/tmp/a.png"}}}}'
    reply = cleaned_reply(
        {
            "status": {"code": 200, "message": "OK"},
            "headers": {"Set-Cookie": ["a=b"], "Retry-After": ["1"], "Date": ["now"]},
            "body": {"string": body.encode()},
        },
        origin,
    )
    assert reply["headers"] == {"Retry-After": ["1"]}
    assert reply["body"]["string"] == (
        b'{"data": {"key_name": "(scrubbed)", "email": null, '
        b'"url": "https://file.shortapi.ai/tmp/a.png"}}'
    )


@pytest.mark.parametrize(("body", "error"), [(b"\xff\xd8", TypeError), ("a key", ValueError)])
def test_unfit_recording_is_refused(body: Any, error: type[Exception]) -> None:
    """A body that nobody can review, or that holds the key, is not written at all."""
    exchange = {
        "request": {"method": "GET", "uri": "https://x.y", "headers": {}, "body": None},
        "response": {"status": {}, "headers": {}, "body": {"string": body}},
    }
    with pytest.raises(error, match="not written"):
        CassetteText("live", "x", secret="a key").serialize({"interactions": [exchange]})


@pytest.mark.parametrize("other", [b'{"n":1.0}', b'{"n":true}', b'{"n":"1"}', b"{}", b"", None])
def test_bodies_are_compared_by_type(other: bytes | None) -> None:
    """1, 1.0, true and "1" are four things on the wire, though Python calls three of them equal."""
    same_body(SimpleNamespace(body=b'{"n":1,"m":2}'), SimpleNamespace(body=b'{"m": 2, "n": 1}'))
    with pytest.raises(AssertionError):
        same_body(SimpleNamespace(body=b'{"n":1}'), SimpleNamespace(body=other))


@pytest.mark.parametrize(
    ("key", "limit", "problem"),
    [
        ("", Decimal(9), "SHORTAPI_KEY is not set"),
        ("a-key", None, "--spend-up-to=0.02"),
        ("a-key", Decimal("0.01"), "--spend-up-to=0.02"),
        ("a-key", Decimal("0.02"), None),
    ],
)
def test_live_recording_needs_key_and_consent(
    key: str, limit: Decimal | None, problem: str | None
) -> None:
    """Nobody spends money by mistyping an option."""
    said = why_not_live(key, Decimal("0.02"), limit)
    assert said is None if problem is None else problem in (said or "")


# --- whole runs of pytest -------------------------------------------------------------------------


PLUGINS = (
    *("pytest_asyncio.plugin", "pytest_benchmark.plugin", "pytest_recording.plugin"),
    *("pytest_timeout", "xdist.plugin", "no:cacheprovider"),
)
"""What the configuration and LangChain's standard tests speak of. Left to find plugins by itself,
pytest rewrites all modules of every package that brings one, LangSmith's among them, and that takes
longer than the tests."""


def options(*arguments: str | Path) -> list[str]:
    """Pytest's, for this project's configuration and these plugins."""
    plugins = [option for name in PLUGINS for option in ("-p", name)]
    fixed = ("--disable-plugin-autoload", *plugins, "-c", ROOT / "pyproject.toml")
    return [str(one) for one in (*fixed, *arguments)]


def run_pytest(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run pytest in a process of its own."""
    # A run of its own, also where this one is a worker of a larger run.
    outer = {name: value for name, value in os.environ.items() if "XDIST" not in name}
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options(*arguments)],
        env={**outer, "PYTHONPATH": str(ROOT / "tests")},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


INNER_TESTS = """
import asyncio
import pytest
from both_drivers import DRIVERS, Caller
from langchain_shortapi_flux import ShortAPIFlux

FOX = "a red fox in fresh snow, morning light"

@pytest.fixture(params=DRIVERS)
def call(request):
    def call(flux, what="invoke", prompt=FOX):
        getattr(Caller(request.param, flux), what)(prompt)
    return call

@pytest.mark.default_cassette("job")
class TestJob:
    def test_as_recorded(self, call, recorded_flux):
        call(recorded_flux)
    def test_other_prompt(self, call, recorded_flux):
        call(recorded_flux, prompt="a blue fox")
    def test_half_played(self, call, recorded_flux):
        call(recorded_flux, "create")
    def test_played_twice(self, call, recorded_flux):
        call(recorded_flux), call(recorded_flux)
    def test_other_service(self, call, recorded_flux):
        call(recorded_flux.model_copy(update={"base_url": "http://127.0.0.1:9"}))

def test_cassette_is_missing(call, recorded_flux):
    call(recorded_flux)

def test_nothing_is_called(recorded_flux):
    pass

def test_network_without_cassette(call):
    call(ShortAPIFlux(base_url="https://192.0.2.1", api_key="some-key"))
"""


@pytest.mark.thorough
def test_what_is_not_recorded_fails(tmp_path: Path) -> None:
    """Another request, a rest, a surplus or no cassette fail loudly, and nothing goes out."""
    recorded = ROOT / "cassettes/recorded_jobs/unstable_query_is_repeated.yaml"
    (tmp_path / "cassettes/inner").mkdir(parents=True)
    (tmp_path / "cassettes/inner/job.yaml").write_bytes(recorded.read_bytes())
    (tmp_path / "test_inner.py").write_text(INNER_TESTS)
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["cassette_recording"]')
    report = tmp_path / "report.xml"
    run_pytest(
        tmp_path / "test_inner.py",
        f"--cassettes-in={tmp_path}/cassettes",
        f"--junitxml={report}",
        "--tb=native",  # pytest's own ways parse the source of every module on the path
    )
    said: dict[str, list[str]] = {}
    for case in ET.parse(report).iter("testcase"):
        name = case.attrib["name"].partition("[")[0]
        # Both, for a long message is cut, and the text does not start with it.
        said.setdefault(name, []).extend(f.attrib["message"] + (f.text or "") for f in case)
    not_in = "Can't overwrite existing cassette"
    assert said.pop("test_as_recorded") == []
    for name, text, times in [
        ("test_other_prompt", not_in, 2),
        ("test_other_prompt", "Matchers succeeded : ['method', 'uri']", 2),
        ("test_half_played", "1 of the cassette's 4 replies were played", 2),
        ("test_played_twice", not_in, 2),
        ("test_other_service", "Matchers succeeded : ['method', 'same_body']", 2),
        ("test_cassette_is_missing", not_in, 2),
        ("test_nothing_is_called", "0 of the cassette's 0 replies were played", 1),
        ("test_network_without_cassette", "Network is disabled for host '192.0.2.1'", 2),
    ]:
        assert (name, sum(text in failure for failure in said[name])) == (name, times)


@pytest.mark.parametrize(
    ("fixtures", "marked", "reason"),
    [
        (["recorded_flux", "sandbox"], False, "a cassette or the sandbox, never both"),
        ([], True, "takes recorded_flux"),
        (["recorded_flux"], False, None),
        (["sandbox"], False, None),
    ],
)
def test_cassette_and_sandbox_are_not_mixed(
    fixtures: list[str], marked: bool, reason: str | None
) -> None:
    """A test that mixes them would pass or fail for reasons of either."""
    marks = ["vcr"] if marked else []
    item: Any = SimpleNamespace(
        nodeid="x", fixturenames=fixtures, add_marker=marks.append, get_closest_marker=marks.count
    )
    if reason is None:
        pytest_itemcollected(item)
        assert ("vcr" in marks) == ("recorded_flux" in fixtures)
    else:
        with pytest.raises(pytest.UsageError, match=reason):
            pytest_itemcollected(item)


@pytest.mark.parametrize(("mode", "source"), [("once", "sandbox"), ("none", "live")])
def test_unsafe_recording_is_refused(mode: str, source: str) -> None:
    """What would mix old replies with new ones, or only seem to record, ends before it begins."""
    options = {"record_mode": mode, "record_from": source}
    config: Any = SimpleNamespace(addinivalue_line=lambda *_: None, getoption=options.get)
    with pytest.raises(pytest.UsageError, match="--record-mode=rewrite"):
        pytest_configure(config)


@pytest.mark.parametrize("text", ["much", "-1", "nan", "inf", ""])
def test_limit_is_an_amount(text: str) -> None:
    """A limit that compares as true to anything would be no limit."""
    with pytest.raises(argparse.ArgumentTypeError):
        amount_in_usd(text)


def test_live_recording_says_what_it_may_spend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The sum is named before anything is sent, over the selected tests alone."""
    monkeypatch.setenv("SHORTAPI_KEY", "not-a-key")
    for name in [name for name in os.environ if "XDIST" in name]:
        monkeypatch.delenv(name)
    tests = (ROOT / "tests/test_recorded_jobs.py", f"--cassettes-in={tmp_path}", "-k", "snapshots")
    # In this process: it ends while it collects, and runs nothing.
    code = pytest.main(options(*tests, "--record-mode=rewrite", "--record-from=live"))
    assert code == pytest.ExitCode.USAGE_ERROR
    said = capsys.readouterr().err
    assert "Recording 1 cassettes live may spend up to 0.02 USD; nothing was sent" in said


@pytest.mark.thorough
def test_recorded_anew_they_are_the_same(tmp_path: Path) -> None:
    """The cassettes of the sandbox are what it says today, but for ids, times and pictures."""
    modules = (ROOT / "tests/test_recorded_jobs.py", ROOT / "tests/test_standard_cassettes.py")
    by_hand = ROOT / "cassettes/recorded_jobs/sample_of_the_official_page.yaml"
    (tmp_path / "recorded_jobs").mkdir()
    (tmp_path / "recorded_jobs" / by_hand.name).write_bytes(by_hand.read_bytes())
    run = run_pytest(*modules, "--record-mode=rewrite", f"--cassettes-in={tmp_path}")
    assert run.returncode == 0, run.stdout
    varies = re.compile(r"[0-9a-f]{24}|[0-9a-v]{20}(?=\.png)|/\d{8}/|\d{4}-\d\d-\d\dT[\d:.]+Z")
    kept = {path: path.read_text("utf-8") for path in CASSETTES}
    for path, text in kept.items():
        if not text.startswith("source: live"):
            anew = (tmp_path / path.relative_to(ROOT / "cassettes")).read_text("utf-8")
            assert (path.stem, varies.sub("*", anew)) == (path.stem, varies.sub("*", text))
    assert len(kept) == len(list(tmp_path.rglob("*.yaml")))
