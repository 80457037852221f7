"""Each notebook as a page in a real browser: its pictures are there, and nothing from afar."""

from __future__ import annotations

import re
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

import pytest
from browser.chromium import opened
from notebooks.execute import executed, normalised, paths_of, read

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.browser, pytest.mark.notebooks, pytest.mark.timeout(300)]

THUMBNAIL = re.compile(r"thumbnail, (\d+) by (\d+) px of (\d+) by (\d+)")
MEGAPIXEL = range(800_000, 1_200_000)
ENOUGH_TO_SEE_PX = 60

# nbconvert's own page, without the two scripts that it would load from elsewhere.
_PAGE = """{% extends 'lab/index.html.j2' %}
{% block html_head_js_requirejs %}{% endblock %}
{% block html_head_js_mathjax %}{% endblock %}"""


def as_html(notebook: Any, theme: Literal["light", "dark"]) -> str:
    """What nbconvert makes of a notebook."""
    loader = import_module("jinja2").DictLoader({"page.html.j2": _PAGE})
    exporter = import_module("nbconvert").HTMLExporter(
        extra_loaders=[loader], template_file="page.html.j2", theme=theme
    )
    page, _ = exporter.from_notebook_node(notebook)
    return str(page)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("path", paths_of(), ids=lambda path: str(path.stem))
def test_a_committed_notebook_shows_its_pictures(
    path: Path, theme: Literal["light", "dark"], tmp_path: Path
) -> None:
    """As it lies in the repository, which is how most people see it first."""
    _check(read(path), theme, tmp_path / f"{path.stem}.html")


@pytest.mark.parametrize("path", paths_of(), ids=lambda path: str(path.stem))
def test_a_notebook_that_was_just_run_shows_its_pictures(path: Path, tmp_path: Path) -> None:
    """With what the pack and the sandbox draw today."""
    _check(normalised(executed(path)), "light", tmp_path / f"{path.stem}.html")


def _check(notebook: Any, theme: Literal["light", "dark"], page: Path) -> None:
    """Every picture is decoded, in the size that is stated, and nothing is loaded from outside."""
    page.write_text(as_html(notebook, theme), encoding="utf-8")
    with opened(page.as_uri(), color_scheme=theme) as shown:
        pictures = shown.pictures()
        galleries = shown.page.locator(".jp-OutputArea-output").all_inner_texts()
        shown.assert_nothing_left_loopback()
        shown.assert_no_errors()
    stated = [tuple(map(int, found)) for text in galleries for found in THUMBNAIL.findall(text)]
    sizes = {(across, down) for across, down, _, _ in stated}
    assert len(pictures) >= len(stated) > 0
    for picture in pictures:
        assert picture.complete, picture.alt
        assert picture.source.startswith("data:image/"), "one that is linked is gone tomorrow"
        assert min(picture.shown_width, picture.shown_height) >= ENOUGH_TO_SEE_PX, picture.alt
        if picture.source.startswith("data:image/jpeg"):
            assert (picture.width, picture.height) in sizes, picture.alt
    for across, down, full_across, full_down in stated:
        assert full_across * full_down in MEGAPIXEL
        assert abs(across / down - full_across / full_down) < 0.01
