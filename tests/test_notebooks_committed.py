"""The notebooks as they lie in the repository: whole, small, and without a trace of a machine."""

from __future__ import annotations

import ast
import base64
import importlib
import json
import re
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))
NAMES = ["01_first_image", "02_agent_tool", "03_chains_and_batches", "04_money_and_recovery"]
EACH = pytest.mark.parametrize("path", PATHS, ids=lambda path: str(path.stem))

ONE_BYTES_MAX, ALL_BYTES_MAX = 700_000, 2_000_000
THE_LINE = "USE_SERVICE = False  # <-- THE LINE TO CHANGE: with True the cells below cost money"

_DATA_URL = re.compile(r"data:(image/\w+);base64,([A-Za-z0-9+/=]+)")
_OF_A_MACHINE = re.compile(r"(?<!\w)/(?:work|tmp|home|root|Users|usr|opt|var|private)/|[A-Z]:\\\\")
_LOOPBACK = re.compile(r"https?://(?!127\.0\.0\.1:\d+(?:/|\W|$))[^\s\"'<>]*")
_SECRETS = re.compile(r"sandbox-key-not-a-secret|\b(?:sk|lsv2)[-_]\w{8}|Bearer ")


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _joined(text: str | list[str]) -> str:
    """Multi-line text, which the format keeps as a list of lines."""
    return text if isinstance(text, str) else "".join(text)


def _code(notebook: Any) -> list[Any]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def _outputs(notebook: Any) -> list[Any]:
    return [output for cell in _code(notebook) for output in cell["outputs"]]


def _bundles(notebook: Any) -> list[dict[str, str]]:
    return [
        {kind: _joined(text) for kind, text in output["data"].items()}
        for output in _outputs(notebook)
        if "data" in output
    ]


def _shown_text(notebook: Any) -> str:
    """All that the outputs say, without the letters that are pictures."""
    texts = [_joined(output["text"]) for output in _outputs(notebook) if "text" in output]
    for bundle in _bundles(notebook):
        texts += [text for kind, text in bundle.items() if not kind.startswith("image/")]
    return _DATA_URL.sub("(a picture)", "\n".join(texts))


def pictures_of(notebook: Any) -> list[Image.Image]:
    """Every picture of a notebook, decoded: those inside HTML, and those by themselves."""
    found = []
    for bundle in _bundles(notebook):
        found += [coded for _, coded in _DATA_URL.findall(bundle.get("text/html", ""))]
        found += [coded for kind, coded in bundle.items() if kind.startswith("image/")]
    pictures: list[Image.Image] = [Image.open(BytesIO(base64.b64decode(one))) for one in found]
    for picture in pictures:
        picture.load()
    return pictures


def check_outputs(notebook: Any) -> None:
    """What holds for the outputs of each notebook, committed or just run."""
    counts = [cell["execution_count"] for cell in _code(notebook)]
    assert counts == list(range(1, len(counts) + 1)), "run from top to bottom"
    assert {output["output_type"] for output in _outputs(notebook)} <= {
        *("stream", "display_data", "execute_result"),
    }, "no error"
    assert {output.get("name", "stdout") for output in _outputs(notebook)} == {"stdout"}
    for bundle in _bundles(notebook):
        assert bundle["text/plain"].strip(), "each can be read as text"
        assert not re.search(r"widget|javascript", " ".join(bundle)), "a program is there no more"
        assert not re.search(r"<(?:script|style|link|iframe)\b", bundle.get("text/html", ""))
        sources = re.findall(r'<img src="(.{11})', bundle.get("text/html", ""))
        assert set(sources) <= {"data:image/"}, "one that is linked is gone tomorrow"
    assert pictures_of(notebook)
    text = _shown_text(notebook)
    for unwanted in (_OF_A_MACHINE, _LOOPBACK, _SECRETS):
        assert unwanted.findall(text) == []
    assert "Warning" not in text
    assert "Traceback" not in text


def test_all_four_are_there_and_nothing_else() -> None:
    """What they write when they run goes elsewhere."""
    left = {path.name for path in NOTEBOOKS.iterdir()} - {".ipynb_checkpoints"}
    assert sorted(left) == [f"{name}.ipynb" for name in NAMES]


@EACH
def test_it_was_run_and_can_be_read_on_the_web(path: Path) -> None:
    """With outputs, pictures and all, as ``tests/notebooks/execute.py`` writes them."""
    check_outputs(_read(path))


@EACH
def test_it_is_small(path: Path) -> None:
    """Everybody who clones the repository gets all of its history."""
    assert path.stat().st_size < ONE_BYTES_MAX
    assert sum(path.stat().st_size for path in PATHS) < ALL_BYTES_MAX


@EACH
def test_it_says_how_to_use_a_key_and_what_that_costs(path: Path) -> None:
    """Before the first cell that buys. One line decides, and it is off."""
    first = _read(path)["cells"][:2]
    words, code = (_joined(cell["source"]) for cell in first)
    assert [cell["cell_type"] for cell in first] == ["markdown", "code"]
    for said in ("sandbox", "**not** made by Flux", "`SHORTAPI_KEY`", " USD", "A key alone"):
        assert said in words
    assert code.splitlines().count(THE_LINE) == 1
    everything = "\n".join(_joined(cell["source"]) for cell in _code(_read(path)))
    assert everything.count("USE_SERVICE =") == 1
    assert "sleep(" not in everything


@EACH
def test_its_cells_compile(path: Path) -> None:
    """Also those that await, as a notebook's cell may; lines for IPython itself are left out."""
    for cell in _code(_read(path)):
        lines = _joined(cell["source"]).splitlines()
        magics = [line for line in lines if line.startswith("%")]
        assert set(magics) <= {"%load_ext langchain_shortapi_flux"}
        source = "\n".join(line for line in lines if line not in magics)
        compile(source, path.name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@EACH
def test_it_holds_nothing_that_changes_by_itself(path: Path) -> None:
    """A run on another machine, or at another time, changes what the cells show and no more."""
    notebook = _read(path)
    assert notebook["metadata"] == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in notebook["cells"]:
        assert cell["metadata"] == {}
        assert re.fullmatch(r"[a-z]+(?:-[a-z]+)*", cell["id"]), "a name, which stays"
    assert path.read_text(encoding="utf-8") == (
        json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    )


@pytest.mark.thorough
@EACH
def test_it_is_valid(path: Path) -> None:
    """By the format's own schema, where nbformat is there to check it."""
    notebook = _read(path)
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    try:
        nbformat: Any = importlib.import_module("nbformat")
    except ImportError:
        return
    nbformat.validate(notebook)


def _with(output: dict[str, Any]) -> Any:
    """A sound notebook with one more output."""
    notebook = _read(PATHS[0])
    _code(notebook)[2]["outputs"].append(output)
    return notebook


def _says(text: str) -> dict[str, Any]:
    return {"output_type": "stream", "name": "stdout", "text": [text]}


def _shows(**data: str) -> dict[str, Any]:
    bundle = {"text/plain": "a job", **{kind.replace("_", "/"): it for kind, it in data.items()}}
    return {"output_type": "display_data", "metadata": {}, "data": bundle}


@pytest.mark.parametrize(
    "output",
    [
        _says("saved to /tmp/flux-1/images"),
        _says("file:///home/somebody/fox.png"),
        _says("C:\\\\Users\\\\somebody"),
        _says("http://build-7.example.com:80/x"),
        _says("http://127.0.0.1.example.com/x"),
        _says("sandbox-key-not-a-secret"),
        _says("UserWarning: do not"),
        {**_says("anything"), "name": "stderr"},
        {"output_type": "error", "ename": "E", "evalue": "", "traceback": []},
        _shows(text_html='<img src="http://127.0.0.1:1/fox.png">'),
        _shows(text_html="<script>1</script>"),
        _shows(text_plain=" "),
        _shows(**{"application_vnd.jupyter.widget-view+json": "{}"}),
    ],
)
def test_what_may_not_be_committed_is_found(output: dict[str, Any]) -> None:
    """The check itself: each of these was once in somebody's notebook."""
    check_outputs(_with(_says("http://127.0.0.1:8787/tmp/20261123/fox.png")))
    with pytest.raises(AssertionError):
        check_outputs(_with(output))
