"""What the browser checks stand on: that a page which misbehaves is caught."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from browser.chromium import is_local, opened
from PIL import Image

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.browser


def _page(folder: Path, html: str) -> str:
    file = folder / "page.html"
    file.write_text(html)
    return file.as_uri()


def test_a_page_that_asks_another_machine_is_caught(tmp_path: Path) -> None:
    """By picture, script, frame or socket; and nothing gets there."""
    html = (
        '<img src="https://one.test/a.png"><iframe src="https://two.test/"></iframe>'
        '<script>fetch("http://192.0.2.1/").catch(() => {});new WebSocket("wss://three.test")'
        "</script>"
    )
    with opened(_page(tmp_path, html)) as shown:
        assert [picture.width for picture in shown.pictures()] == [0]
        with pytest.raises(AssertionError, match="from outside this machine") as caught:
            shown.assert_nothing_left_loopback()
    asked = ("https://one.test/", "https://two.test/", "http://192.0.2.1/", "wss://three.test")
    assert [url for url in asked if url not in str(caught.value)] == []


@pytest.mark.parametrize(
    ("html", "told"),
    [
        ("<script>console.error('boo')</script>", "boo"),
        ("<script>throw Error('uncaught')</script>", "uncaught"),
        ('<img src="missing.png">', "missing.png: net::ERR_FILE_NOT_FOUND"),
    ],
)
def test_a_page_with_errors_is_caught(tmp_path: Path, html: str, told: str) -> None:
    """In its console, in its scripts, in what it loads."""
    with (
        opened(_page(tmp_path, html)) as shown,
        pytest.raises(AssertionError, match=told),
    ):
        shown.assert_no_errors()


def test_pictures_out_of_sight_are_decoded_too(tmp_path: Path) -> None:
    """A lazy picture far below would else be counted as missing, or not at all."""
    Image.new("RGB", (640, 360)).save(tmp_path / "far.png")
    html = '<p style="height:9000px">far below</p><img loading="lazy" alt="far" src="far.png">'
    with opened(_page(tmp_path, html), color_scheme="dark", width=400) as shown:
        (picture,) = shown.pictures()
        assert (picture.alt, picture.complete) == ("far", True)
        assert (picture.width, picture.height) == (640, 360)
        assert shown.page.evaluate(
            "[innerWidth, matchMedia('(prefers-color-scheme: dark)').matches]"
        ) == [
            400,
            True,
        ]
        shown.assert_nothing_left_loopback()
        shown.assert_no_errors()


def test_without_chromium_the_test_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """And says so plainly."""
    monkeypatch.setenv("PATH", "")
    with (
        pytest.raises(pytest.skip.Exception, match="chromium is not installed"),
        opened("about:blank"),
    ):
        pass


def test_what_is_local() -> None:
    """A file of another machine is not."""
    local = ("data:image/png,x", "blob:null/1", "file:///a", "http://[::1]:1/", "http://localhost/")
    assert [url for url in local if not is_local(url)] == []
    far = ("file://192.0.2.1/a", "https://127.0.0.1.test/", "wss://a.test/", "//a.test/")
    assert [url for url in far if is_local(url)] == []
