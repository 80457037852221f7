"""Names of files: after job id and index, and never a way out of the folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from langchain_shortapi_flux.picture_names import PictureNames, is_prefix

HERE = Path("images")


def test_files_are_named_by_prefix_job_id_and_index() -> None:
    """Nothing of a prompt or URL is in a name."""
    names = PictureNames(HERE, "fox-", "65f0c0ffee")
    assert names.picture(2, "png") == HERE / "fox-65f0c0ffee-2.png"
    assert names.sidecar == HERE / "fox-65f0c0ffee.json"


ODD_IDS = ["../../x", "/etc/passwd", "a/b", "a\\b", "..", ".", "", " ", "a\0b", "a\nb", "ü"]
ODD_IDS += ["a:b", "\ud800", "x" * 65, "CON", "nul", "Com1", "lpt9", "*", "-" * 300]


@pytest.mark.parametrize("job_id", ODD_IDS)
def test_an_odd_job_id_becomes_a_plain_name(job_id: str) -> None:
    """It comes from outside; each odd one gets a name of its own all the same."""
    path = PictureNames(HERE, "", job_id).sidecar
    assert path.parent == HERE
    assert len(path.stem) == 24
    assert path.stem.isalnum()
    others = {PictureNames(HERE, "", other).sidecar for other in ODD_IDS}
    assert len(others) == len(ODD_IDS)


def test_a_file_of_any_type_has_the_pictures_name(tmp_path: Path) -> None:
    """What it is becomes known only when it has been fetched, and its JSON file is no picture."""
    names = PictureNames(tmp_path, "", "65f0")
    for stranger in ("65f0-1.txt", "65f0-1.json", "65f0-11.png", "65f0.json", "a65f0-1.png"):
        (tmp_path / stranger).touch()
    assert names.there(1) is None
    (tmp_path / "65f0-1.webp").symlink_to(tmp_path / "nowhere")
    assert names.there(1) == tmp_path / "65f0-1.webp"
    assert names.there(2) is None


@pytest.mark.parametrize("prefix", ["", "fox-", "fox 7 ", "ünï", "*", "..", "a.b", "-"])
def test_a_prefix_may_be_any_beginning_of_a_name(prefix: str) -> None:
    """People use other languages, and blanks."""
    assert is_prefix(prefix)


@pytest.mark.parametrize("prefix", ["a/b", "../", "/", "a\\b", "a\0b", "\ud800"])
def test_a_prefix_that_leads_elsewhere_is_none(prefix: str) -> None:
    """It may come from a prompt, or a user's name."""
    assert not is_prefix(prefix)
