"""Each notebook runs, keyless, on the sandbox, from top to bottom; a key changes nothing."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest
from notebooks.execute import AT_ONCE, NOTEBOOKS, executed, main, normalised, paths_of, read
from test_notebooks_committed import check_outputs, pictures_of

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.notebooks, pytest.mark.timeout(300)]

FAKE_KEY = "sk-planted-5c1d7f0b9e3a4826-not-a-key"
PLANTED = {"SHORTAPI_KEY": FAKE_KEY, "SHORTAPI_BASE_URL": "http://127.0.0.1:9"}
"""A key, and a service that nobody can reach: whoever used them would fail."""
PATHS = paths_of()
BY_NAME = pytest.mark.parametrize("name", [path.name for path in PATHS])


@pytest.fixture(scope="module")
def ran() -> dict[str, Any]:
    """All of them, run with a key in the environment, as a reader may have one."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        notebooks = pool.map(lambda path: executed(path, **PLANTED), PATHS)
        return {path.name: normalised(one) for path, one in zip(PATHS, notebooks, strict=True)}


@BY_NAME
def test_every_cell_runs_and_leaves_what_may_be_committed(ran: dict[str, Any], name: str) -> None:
    """No error, no warning, no path of a machine, and all pictures inside."""
    check_outputs(ran[name])


@BY_NAME
def test_a_key_alone_buys_nothing_and_is_never_shown(ran: dict[str, Any], name: str) -> None:
    """Only the marked line sends a notebook to the service: all jobs are the sandbox's."""
    text = json.dumps(ran[name])
    assert FAKE_KEY not in text
    assert "The sandbox listens on http://127.0.0.1:" in text
    assert re.search(r"\d+ jobs paid from play money", text)


@BY_NAME
def test_it_shows_as_many_pictures_as_are_committed(ran: dict[str, Any], name: str) -> None:
    """What is read on the web is what a run gives, cell by cell."""
    committed = read(NOTEBOOKS / name)
    for now, before in zip(ran[name].cells, committed.cells, strict=True):
        assert (now.id, now.source) == (before.id, before.source)
        kinds = [
            [(output.output_type, sorted(output.get("data", ()))) for output in cell.outputs]
            for cell in (now, before)
            if cell.cell_type == "code"
        ]
        assert kinds[:1] == kinds[1:], now.id
    assert len(pictures_of(ran[name])) == len(pictures_of(committed)) > 0


def test_nothing_is_left_beside_the_notebooks(ran: dict[str, Any]) -> None:
    """What they write goes to a temporary folder."""
    assert sorted(NOTEBOOKS.iterdir()) == PATHS


def test_the_outputs_are_written_in_place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The documented command, on a copy; settings of whoever runs it reach no notebook."""
    asks = "import os\n[name for name in os.environ if 'SHORTAPI' in name]"
    nbformat: Any = import_module("nbformat")
    cell = nbformat.v4.new_code_cell(asks, id="asks")
    path = tmp_path / "01_asks.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    monkeypatch.setattr("notebooks.execute.NOTEBOOKS", tmp_path)
    monkeypatch.setenv("SHORTAPI_KEY", FAKE_KEY)
    main(["01"])
    assert capsys.readouterr().out.startswith("01_asks.ipynb: ")
    written = json.loads(path.read_text(encoding="utf-8"))
    assert written["cells"][0]["outputs"][0]["data"]["text/plain"] == ["[]"]
    assert written["cells"][0]["metadata"] == {}
    assert written["metadata"]["language_info"] == {"name": "python"}
    with pytest.raises(SystemExit):
        main(["99"])
