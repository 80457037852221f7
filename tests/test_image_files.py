"""Saving pictures: what is fetched, what is refused, and what is left on disk."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from langchain_shortapi_flux import DownloadFailed, FluxImage, FluxJob, ShortAPIFlux, image_files
from langchain_shortapi_flux.sandbox import Fault, Sandbox

if TYPE_CHECKING:
    from pathlib import Path

PNG = b"\x89PNG\r\n\x1a\n" + b"0" * 100


def _inline_job(*images: FluxImage) -> FluxJob:
    return FluxJob(job_id="65f0", status="succeeded", images=images, charge="charged")


def test_pictures_are_saved_whole_under_the_job_id(
    flux: ShortAPIFlux, sandbox: Sandbox, tmp_path: Path
) -> None:
    """Names come from job id and index, never from URL or prompt; the key stays at home."""
    job = flux.invoke("../../etc/passwd", num_images=2)
    paths = job.save(tmp_path / "new" / "folder")
    assert [path.name for path in paths] == [f"{job.job_id}-1.png", f"{job.job_id}-2.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n") for path in paths)
    assert sorted((tmp_path / "new" / "folder").iterdir()) == paths
    fetched = [call for call in sandbox.calls if call.on == "image"]
    assert len(fetched) == 2
    assert not any("authorization" in map(str.lower, call.header_names) for call in fetched)


async def test_asave_and_save_work_inside_a_running_loop(
    flux: ShortAPIFlux, tmp_path: Path
) -> None:
    """A notebook's loop runs all the time; both ways must work there."""
    job = await flux.ainvoke("a fox")
    assert (await job.asave(tmp_path, prefix="a-"))[0].exists()
    assert job.save(tmp_path, prefix="b-")[0].exists()


def test_nothing_is_overwritten(flux: ShortAPIFlux, sandbox: Sandbox, tmp_path: Path) -> None:
    """A file of that name is somebody's work; it is not even fetched again."""
    job = flux.invoke("a fox")
    there = tmp_path / f"{job.job_id}-1.png"
    there.write_bytes(b"mine")
    with pytest.raises(DownloadFailed, match="exists already") as refused:
        job.save(tmp_path)
    assert refused.value.job_id == job.job_id
    assert there.read_bytes() == b"mine"
    assert not any(call.on == "image" for call in sandbox.calls)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault("image", "html"), "a web page"),
        (Fault("image", "wrong_type"), "JSON"),
        (Fault("image", "empty"), "nothing"),
        (Fault("image", "error", status=404), "temporary"),
        (Fault("image", "error", status=500), "HTTP 500"),
        (Fault("image", "truncated"), "broke off"),
        (Fault("image", "drop_before", times=9), "broke off"),
        (Fault("image", "endless"), "larger than"),
        (Fault("image", "redirect", info="http://169.254.169.254/latest"), "not fetched"),
        (Fault("image", "redirect", info="file:///etc/passwd"), "not fetched"),
    ],
    ids=lambda value: getattr(value, "kind", None),
)
def test_what_is_no_picture_leaves_no_file(
    fault: Fault,
    said: str,
    flux: ShortAPIFlux,
    sandbox: Sandbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever the host sends instead: a clear error with the job id, and an empty folder."""
    monkeypatch.setattr(image_files, "IMAGE_LIMIT_BYTES", 2**20)
    job = flux.invoke("a fox")
    sandbox.inject(fault)
    with pytest.raises(DownloadFailed, match=said) as failed:
        job.save(tmp_path)
    assert failed.value.job_id == job.job_id
    assert job.job_id in str(failed.value)
    assert failed.value.charge == "charged"
    assert not list(tmp_path.iterdir())


def test_slow_pictures_end_at_the_time_limit(
    flux: ShortAPIFlux, sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that drips must not hold the caller for ever."""
    monkeypatch.setattr(image_files, "DOWNLOAD_TIMEOUT_SECONDS", 0.2)
    job = flux.invoke("a fox")
    sandbox.inject(Fault("image", "slow", seconds=30.0))
    with pytest.raises(DownloadFailed, match=r"within 0\.2 s"):
        job.save(tmp_path)
    assert not list(tmp_path.iterdir())


def test_redirects_to_a_checked_address_are_followed(
    flux: ShortAPIFlux, sandbox: Sandbox, tmp_path: Path
) -> None:
    """File hosts redirect to their delivery networks; that is fine, within limits."""
    job = flux.invoke("a fox")
    sandbox.inject(Fault("image", "redirect", info=job.images[0].url))
    assert job.save(tmp_path)[0].exists()

    other = flux.invoke("a fox")
    sandbox.inject(Fault("image", "redirect", info=other.images[0].url, times=20))
    with pytest.raises(DownloadFailed, match="more than 5 times"):
        other.save(tmp_path)


def test_what_could_be_saved_is_named_beside_what_could_not(
    flux: ShortAPIFlux, sandbox: Sandbox, tmp_path: Path
) -> None:
    """One bad picture of two does not take the other along."""
    job = flux.invoke("a fox", num_images=2)
    sandbox.inject(Fault("image", "html"))
    with pytest.raises(DownloadFailed, match="saved: "):
        job.save(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


def test_plain_http_to_elsewhere_is_never_fetched(tmp_path: Path) -> None:
    """Only a sandbox on this machine may serve over http; a job of the real service never."""
    url = "http://127.0.0.1:9/x.png"
    job = FluxJob(
        job_id="65f0",
        status="succeeded",
        images=(FluxImage(url=url),),
        base_url="https://api.shortapi.ai",
    )
    with pytest.raises(DownloadFailed, match="only https"):
        job.save(tmp_path)


def test_pictures_inside_the_reply_are_saved_too(tmp_path: Path) -> None:
    """A ``data:`` picture needs no fetch, and its type is read from its bytes all the same."""
    job = _inline_job(FluxImage.from_bytes(PNG, "image/jpeg"))
    (path,) = job.save(tmp_path)
    assert path.name == "65f0-1.png"
    assert path.read_bytes() == PNG
    with pytest.raises(DownloadFailed, match="unknown bytes"):
        _inline_job(FluxImage.from_bytes(b"\x00\x01", "image/png")).save(tmp_path / "b")


def test_an_odd_job_id_cannot_leave_the_folder(tmp_path: Path) -> None:
    """The id comes from outside; it is no path."""
    job = _inline_job(FluxImage.from_bytes(PNG, "image/png"))
    odd = job.model_copy(update={"job_id": "../../x"})
    (path,) = odd.save(tmp_path / "in")
    assert path.parent == tmp_path / "in"


def test_a_job_without_pictures_and_a_folder_that_cannot_be(tmp_path: Path) -> None:
    """Both are clear errors with the job id."""
    with pytest.raises(DownloadFailed, match="no pictures to save: it is pending"):
        FluxJob(job_id="65f0", status="pending").save(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(DownloadFailed, match="cannot be made"):
        _inline_job(FluxImage.from_bytes(PNG, "image/png")).save(tmp_path / "file" / "x")


@pytest.mark.parametrize(
    ("content", "ending"),
    [
        (b"\x89PNG\r\n\x1a\nrest", "png"),
        (b"\xff\xd8\xff\xe0rest", "jpg"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "webp"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", None),
        (b"GIF89a", "gif"),
        (b"<html>", None),
        (b"", None),
    ],
)
def test_type_is_read_from_the_first_bytes(content: bytes, ending: str | None) -> None:
    """Neither name nor header is believed."""
    assert image_files.image_ending(content) == ending


@pytest.mark.parametrize("prefix", ["a/b", "../", "a\\b", "a\0b", "\ud800"])
def test_a_prefix_is_part_of_a_name_and_no_path(prefix: str, tmp_path: Path) -> None:
    """It may come from a prompt or a user's name, and must not lead out of the folder."""
    job = _inline_job(FluxImage.from_bytes(PNG, "image/png"))
    with pytest.raises(DownloadFailed, match="prefix=") as caught:
        job.save(tmp_path / "in", prefix=prefix)
    assert caught.value.job_id == "65f0"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("folder", ["a\0b", "a\ud800"])
def test_a_folder_that_is_no_path_is_a_clear_error(folder: str, tmp_path: Path) -> None:
    """The same for the folder."""
    job = _inline_job(FluxImage.from_bytes(PNG, "image/png"))
    with pytest.raises(DownloadFailed, match="cannot be made"):
        job.save(str(tmp_path / folder))


def test_a_star_in_a_prefix_is_a_star(tmp_path: Path) -> None:
    """Otherwise the file of another would be taken for this job's picture."""
    (tmp_path / "mine-65f0-1.png").write_bytes(b"another")
    job = _inline_job(FluxImage.from_bytes(PNG, "image/png"))
    (path,) = job.save(tmp_path, prefix="*", keep_existing=True)
    assert path.read_bytes() == PNG


@pytest.mark.parametrize("umask", [0o027, 0o002, 0o077])
def test_the_umask_says_who_may_read_a_picture(umask: int, tmp_path: Path) -> None:
    """As for every other file that this user makes."""
    before = os.umask(umask)
    try:
        (path,) = _inline_job(FluxImage.from_bytes(PNG, "image/png")).save(tmp_path)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask


def test_an_inline_picture_whose_bytes_are_gone_says_so(tmp_path: Path) -> None:
    """JSON does not keep them; nothing is wrong with the service then."""
    job = _inline_job(FluxImage.from_bytes(PNG, "image/png"))
    with pytest.raises(DownloadFailed, match="bytes were not kept"):
        FluxJob.model_validate_json(job.model_dump_json()).save(tmp_path)
