"""Bringing pictures here: what is saved, what is refused, and what is left on disk."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import pickle
import subprocess
import sys
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from blockbuster import blockbuster_ctx
from reply_server import Pieces, ReplyServer, as_bytes
from tiny_disk import TINY_DISK_BYTES, printed_on_tiny_disk
from whole_pictures import WHOLE, png

from langchain_shortapi_flux import DownloadFailed, FluxImage, FluxJob, ShortAPIFlux
from langchain_shortapi_flux.http_acts import HttpReply
from langchain_shortapi_flux.image_files import Fetching, asave_job, require_writable
from langchain_shortapi_flux.sandbox import Fault, Sandbox

if TYPE_CHECKING:
    from pathlib import Path

PNG = png(at_least=300_000)
INLINE = FluxImage.from_bytes(PNG, "image/jpeg")


def _job(*images: FluxImage | str, **known: Any) -> FluxJob:
    """A job of a service on this machine."""
    made = tuple(FluxImage(url=one) if isinstance(one, str) else one for one in images)
    facts = {"job_id": "65f0", "base_url": "http://127.0.0.1:8787", "charge": "charged", **known}
    return FluxJob(status="succeeded", images=made, **facts)


def _reply(body: bytes = PNG, status: int = 200, **headers: str) -> HttpReply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return HttpReply(status, named, body, 0.0)


def _bring(way: str, job: FluxJob, folder: Path, **limits: Any) -> object:
    return job.save(folder, **limits) if way == "save" else job.images[0].download(**limits)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- what is saved --------------------------------------------------------------------------------


def test_pictures_are_saved_whole_under_the_job_id(
    flux: ShortAPIFlux, sandbox: Sandbox, tmp_path: Path
) -> None:
    """Names come from job id and index, never from URL or prompt; the key stays at home."""
    job = flux.invoke("../../etc/passwd", num_images=2)
    folder = tmp_path / "new" / "folder"
    paths = job.save(folder)
    assert [path.name for path in paths] == [f"{job.job_id}-1.png", f"{job.job_id}-2.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n") for path in paths)
    assert _names(folder) == [*(path.name for path in paths), f"{job.job_id}.json"]
    fetched = [call for call in sandbox.calls if call.on == "image"]
    assert len(fetched) == 2
    assert not any("authorization" in map(str.lower, call.header_names) for call in fetched)


def test_a_json_file_beside_them_says_what_they_are(
    flux: ShortAPIFlux, sandbox: Sandbox, tmp_path: Path
) -> None:
    """A folder of pictures is worth little without their prompts."""
    job = flux.invoke("a red fox", num_images=2, performance="schnell")
    paths = job.save(tmp_path, prefix="fox-")
    text = (tmp_path / f"fox-{job.job_id}.json").read_text("utf-8")
    said = json.loads(text)
    assert said["prompt"] == "a red fox"
    assert said["arguments"] == {"aspect_ratio": "1:1", "num_images": 2, "performance": "schnell"}
    assert (said["job_id"], said["model"]) == (job.job_id, flux.model)
    assert (Decimal(said["cost_usd"]), said["charge"]) == (job.cost, "charged")
    assert [file["name"] for file in said["files"]] == [path.name for path in paths]
    assert [file["bytes"] for file in said["files"]] == [path.stat().st_size for path in paths]
    assert sandbox.api_key not in text
    assert job.images[0].url not in text


async def test_the_time_in_the_json_file_is_when_it_was_saved(tmp_path: Path) -> None:
    """In a form that every language reads."""
    await asave_job(_job(INLINE), tmp_path, prefix="", keep_existing=False, wall=lambda: 1e9)
    said = json.loads((tmp_path / "65f0.json").read_text("utf-8"))
    assert said["saved_at"] == "2001-09-09T01:46:40+00:00"


async def test_all_four_ways_work_inside_a_running_loop(flux: ShortAPIFlux, tmp_path: Path) -> None:
    """A notebook's loop runs all the time; blocking ways must work there too."""
    job = await flux.ainvoke("a fox")
    (one,) = await job.asave(tmp_path, prefix="a-")
    (two,) = job.save(tmp_path, prefix="b-")
    contents = {one.read_bytes(), two.read_bytes(), job.images[0].download()}
    assert contents == {await job.images[0].adownload()}


async def test_saving_does_not_block_the_event_loop(flux: ShortAPIFlux, tmp_path: Path) -> None:
    """A disk may be slow, and hundreds of jobs may share the loop."""
    job = await flux.ainvoke("a fox", num_images=2)
    with blockbuster_ctx():
        paths = await job.asave(tmp_path)
        assert await job.asave(tmp_path, keep_existing=True) == paths
        assert await job.images[0].adownload()


@pytest.mark.parametrize(("ending", "content"), WHOLE.values(), ids=WHOLE)
def test_the_type_is_read_from_the_bytes(ending: str, content: bytes, tmp_path: Path) -> None:
    """Neither name nor header is believed."""
    with ReplyServer(_reply(content, content_type="text/html")) as server:
        (path,) = _job(f"{server.base_url}/x.exe").save(tmp_path)
    assert path.name == f"65f0-1.{ending}"
    assert path.read_bytes() == content


def test_pictures_inside_the_reply_are_saved_too(tmp_path: Path) -> None:
    """A ``data:`` picture needs no fetch, and its type is read from its bytes all the same."""
    (path,) = _job(INLINE).save(tmp_path)
    assert path.name == "65f0-1.png"
    assert path.read_bytes() == PNG == INLINE.download()


@pytest.mark.parametrize("umask", [0o027, 0o002, 0o077])
def test_the_umask_says_who_may_read_a_picture(umask: int, tmp_path: Path) -> None:
    """As for every other file that this user makes."""
    before = os.umask(umask)
    try:
        _job(INLINE).save(tmp_path)
    finally:
        os.umask(before)
    modes = {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {0o666 & ~umask}


# --- what may come instead of a picture -----------------------------------------------------------


@pytest.mark.parametrize("way", ["save", "download"])
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
        (Fault("image", "slow", seconds=30.0), r"within 0\.4 s"),
        (Fault("image", "stall"), r"within 0\.4 s"),
        (Fault("image", "redirect", info="http://169.254.169.254/latest"), "not fetched"),
        (Fault("image", "redirect", info="https://192.168.0.1/x.png"), "not fetched"),
        (Fault("image", "redirect", info="https://2130706433/x.png"), "not fetched"),
        (Fault("image", "redirect", info="file:///etc/passwd"), "not fetched"),
    ],
    ids=lambda value: getattr(value, "kind", None),
)
def test_what_is_no_picture_leaves_no_file(
    fault: Fault, said: str, way: str, flux: ShortAPIFlux, sandbox: Sandbox, tmp_path: Path
) -> None:
    """Whatever the host sends instead: a clear error with the job id, and an empty folder."""
    job = flux.invoke("a fox")
    sandbox.inject(fault)
    patient = fault.kind not in ("slow", "stall")
    limits: dict[str, Any] = {"timeout": 30.0 if patient else 0.4, "max_bytes": 2**20}
    with pytest.raises(DownloadFailed, match=said) as failed:
        _bring(way, job, tmp_path, **limits)
    assert failed.value.job_id == job.job_id
    assert job.job_id in str(failed.value)
    assert failed.value.charge == "charged"
    assert _names(tmp_path) == []


@pytest.mark.parametrize("status", [403, 404, 410])
@pytest.mark.parametrize("way", ["save", "download"])
def test_a_dead_url_is_said_to_be_one_and_what_can_be_done(
    status: int, way: str, tmp_path: Path
) -> None:
    """Asking is free; that it helps is not known, and not promised."""
    with ReplyServer(_reply(b"gone", status)) as server:
        job = _job(f"{server.base_url}/x.png?Signature=s3cret")
        with pytest.raises(DownloadFailed) as failed:
            _bring(way, job, tmp_path)
    text = str(failed.value)
    assert f"/x.png answers HTTP {status}" in text
    assert "URLs are temporary: flux.query('65f0') asks about the job again, free" in text
    assert "nothing known says that the service renews them" in text
    assert "s3cret" not in text
    assert failed.value.status_code == status
    assert _names(tmp_path) == []


def test_only_a_dead_url_is_said_to_be_one(tmp_path: Path) -> None:
    """A server in trouble will be well again."""
    with ReplyServer(_reply(b"", 503)) as server, pytest.raises(DownloadFailed) as failed:
        _job(f"{server.base_url}/x").save(tmp_path)
    assert "temporary" not in str(failed.value)
    assert failed.value.status_code == 503


async def test_a_name_that_is_bound_anew_leads_nowhere(tmp_path: Path) -> None:
    """First it leads to the file host, then, for a redirect to itself, into the user's network."""
    asked: list[str] = []

    async def rebound(host: str, _port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["10.0.0.1"]

    back = Pieces((as_bytes(_reply(b"", 302, location="/there", connection="close")),))
    with ReplyServer(back, _reply()) as server:
        job = _job(f"http://localhost:{server.port}/x")
        how = Fetching(resolve=rebound)
        with pytest.raises(DownloadFailed, match=r"address 10\.0\.0\.1 is private"):
            await asave_job(job, tmp_path, prefix="", keep_existing=False, how=how)
    assert asked == ["localhost", "localhost"]
    assert len(server.asked) == 1
    assert _names(tmp_path) == []


def test_plain_http_to_elsewhere_is_never_fetched(tmp_path: Path) -> None:
    """Only a sandbox on this machine may serve over http; a job of the real service never."""
    with ReplyServer(_reply()) as server:
        job = _job(f"{server.base_url}/x", base_url="https://api.shortapi.ai")
        for allow_private in (False, True):
            with pytest.raises(DownloadFailed, match="only https"):
                job.save(tmp_path, allow_private=allow_private)
            with pytest.raises(DownloadFailed, match="only https"):
                job.images[0].download(allow_private=allow_private)
    assert server.connections == 0


@pytest.mark.parametrize("content", [content for _, content in WHOLE.values()], ids=WHOLE)
@pytest.mark.parametrize("framing", ["with a length", "without one", "inside the reply"])
def test_a_picture_that_is_cut_off_leaves_no_file(
    framing: str, content: bytes, tmp_path: Path
) -> None:
    """A file host may have lost the rest itself, and then all lengths agree."""
    cut = content[:-3]
    whole = _reply(cut) if framing == "with a length" else Pieces((b"HTTP/1.1 200 OK\r\n\r\n", cut))
    with ReplyServer(whole) as server:
        there = f"{server.base_url}/x"
        image = FluxImage.from_bytes(cut, "image/png") if framing == "inside the reply" else there
        job = _job(image)
        with pytest.raises(DownloadFailed, match="cut off"):
            job.save(tmp_path)
        with pytest.raises(DownloadFailed, match="cut off"):
            job.images[0].download()
    assert _names(tmp_path) == []


def test_a_bomb_leaves_no_file(tmp_path: Path) -> None:
    """Thirty kilobytes that unpack to thirty megabytes."""
    bomb = gzip.compress(png(at_least=30 * 2**20))
    with (
        ReplyServer(_reply(bomb, content_encoding="gzip")) as server,
        pytest.raises(DownloadFailed, match="larger than max_bytes=1,048,576"),
    ):
        _job(f"{server.base_url}/x").save(tmp_path, max_bytes=2**20)
    assert _names(tmp_path) == []


def test_the_limit_is_32_mib_unless_one_is_given(tmp_path: Path) -> None:
    """A megapixel has about one."""
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {32 * 2**20 + 1}\r\n\r\n".encode()
    with (
        ReplyServer(Pieces((head, PNG))) as server,
        pytest.raises(DownloadFailed, match="larger than max_bytes=33,554,432"),
    ):
        _job(f"{server.base_url}/x").save(tmp_path)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"timeout": 0}, "timeout=0"),
        ({"timeout": float("nan")}, "timeout=nan"),
        ({"max_bytes": 0}, "max_bytes=0"),
        ({"max_bytes": -1}, "max_bytes=-1"),
    ],
)
def test_limits_that_are_none_are_named(wrong: Any, said: str, tmp_path: Path) -> None:
    """Field, value, and what is allowed."""
    with pytest.raises(DownloadFailed, match=f"{said}: allowed"):
        _job(INLINE).save(tmp_path, **wrong)
    with pytest.raises(DownloadFailed, match=f"{said}: allowed"):
        INLINE.download(**wrong)
    assert _names(tmp_path) == []


# --- what is on disk already ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["65f0-1.png", "65f0-1.webp", "65f0.json"])
def test_nothing_is_overwritten(name: str, tmp_path: Path) -> None:
    """A file of that name is somebody's work; the pictures are not even fetched again."""
    (tmp_path / name).write_bytes(b"mine")
    with (
        ReplyServer(_reply()) as server,
        pytest.raises(DownloadFailed, match=f"{name} exists already") as refused,
    ):
        _job(f"{server.base_url}/x").save(tmp_path)
    assert refused.value.job_id == "65f0"
    assert server.asked == []
    assert _names(tmp_path) == [name]
    assert (tmp_path / name).read_bytes() == b"mine"


@pytest.mark.parametrize("keep_existing", [False, True])
@pytest.mark.parametrize("name", ["65f0-1.png", "65f0.json"])
async def test_a_name_that_is_taken_meanwhile_is_not_overwritten_either(
    name: str, keep_existing: bool, tmp_path: Path
) -> None:
    """Another process saves the same job; whose turn comes second leaves it at that."""

    async def take_it(_host: str, _port: int) -> list[str]:
        (tmp_path / name).write_bytes(b"mine")
        return ["127.0.0.1"]

    with ReplyServer(_reply()) as server:
        job = _job(f"http://localhost:{server.port}/x")
        how = Fetching(resolve=take_it)
        saving = asave_job(job, tmp_path, prefix="", keep_existing=keep_existing, how=how)
        if keep_existing:
            assert await saving == [tmp_path / "65f0-1.png"]
        else:
            with pytest.raises(DownloadFailed, match=f"{name} exists already"):
                await saving
    assert (tmp_path / name).read_bytes() == b"mine"
    both = {"65f0-1.png", "65f0.json"}
    assert set(_names(tmp_path)) == (both if keep_existing else {"65f0-1.png", name})


async def test_many_may_save_the_same_job_at_the_same_time(tmp_path: Path) -> None:
    """Whoever comes second finds it done; nobody fails, and nothing is there twice."""
    saves = (_job(INLINE).asave(tmp_path, keep_existing=True) for _ in range(12))
    assert await asyncio.gather(*saves) == [[tmp_path / "65f0-1.png"]] * 12
    assert _names(tmp_path) == ["65f0-1.png", "65f0.json"]


def test_what_is_there_is_kept_where_it_may_be(tmp_path: Path) -> None:
    """A chain that runs again finds its files, and a retouched picture stays retouched."""
    with ReplyServer(_reply()) as server:
        job = _job(f"{server.base_url}/x")
        (path,) = job.save(tmp_path, keep_existing=True)
        told = (tmp_path / "65f0.json").read_bytes()
        path.write_bytes(b"retouched by hand")
        assert job.save(tmp_path, keep_existing=True) == [path]
        assert len(server.asked) == 1
        (tmp_path / "65f0.json").unlink()
        assert job.save(tmp_path, keep_existing=True) == [path]
    assert path.read_bytes() == b"retouched by hand"
    assert json.loads(told)["files"][0]["bytes"] == len(PNG)
    said = json.loads((tmp_path / "65f0.json").read_bytes())
    assert said["files"][0]["bytes"] == len(b"retouched by hand")


@pytest.mark.parametrize("kind", ["an empty file", "a folder", "a link to nowhere"])
def test_what_holds_no_picture_is_not_kept_as_one(kind: str, tmp_path: Path) -> None:
    """A crash on a disk without hard links may leave an empty file, and nobody would notice."""
    path = tmp_path / "65f0-1.png"
    if kind == "an empty file":
        path.touch()
    elif kind == "a folder":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(DownloadFailed, match="is no file with a picture in it"):
        _job(INLINE).save(tmp_path, keep_existing=True)
    assert _names(tmp_path) == ["65f0-1.png"]


def test_what_could_be_saved_is_named_and_the_rest_can_follow(
    flux: ShortAPIFlux, sandbox: Sandbox, tmp_path: Path
) -> None:
    """One bad picture of two does not take the other along; the JSON file says all are there."""
    job = flux.invoke("a fox", num_images=2)
    sandbox.inject(Fault("image", "html"))
    with pytest.raises(DownloadFailed, match="saved: ") as failed:
        job.save(tmp_path)
    (saved,) = tmp_path.iterdir()
    assert str(saved) in str(failed.value)
    paths = job.save(tmp_path, keep_existing=True)
    assert saved in paths
    assert _names(tmp_path) == [f"{job.job_id}-1.png", f"{job.job_id}-2.png", f"{job.job_id}.json"]


# --- trouble with the disk ------------------------------------------------------------------------


FULL = """
import sys
from pathlib import Path
from langchain_shortapi_flux import DownloadFailed, FluxImage, FluxJob
folder, url, inline = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]).read_bytes()
images = [FluxImage.from_bytes(inline, "image/png")]
if url:
    images.append(FluxImage(url=url))
job = FluxJob(job_id="65f0", status="succeeded", images=images, base_url="http://127.0.0.1")
try:
    job.save(folder)
except DownloadFailed as error:
    print(error)
print([path.name for path in folder.iterdir()])
"""


@pytest.mark.thorough
def test_a_full_disk_leaves_no_file(tmp_path: Path) -> None:
    """Neither of what is fetched nor of what came inside the reply; the error names the job."""
    (tmp_path / "inline.png").write_bytes(PNG)
    disk = tmp_path / "disk"
    disk.mkdir()
    with ReplyServer(_reply()) as server:
        given = (str(disk), f"{server.base_url}/x", str(tmp_path / "inline.png"))
        told, left = printed_on_tiny_disk(disk, FULL, *given)
    for number in (1, 2):
        assert f"{disk}/65f0-{number} cannot be written: No space left on device" in told
    assert told.startswith("job 65f0: ")
    assert left == "[]"


@pytest.mark.thorough
def test_a_disk_that_is_full_before_the_json_file_is_told(tmp_path: Path) -> None:
    """The picture is there, and is said to be."""
    (tmp_path / "inline.png").write_bytes(png(at_least=TINY_DISK_BYTES - 1000))
    disk = tmp_path / "disk"
    disk.mkdir()
    given = (str(disk), "", str(tmp_path / "inline.png"))
    told, left = printed_on_tiny_disk(disk, FULL, *given)
    assert f"{disk}/65f0.json cannot be written: No space left on device" in told
    assert told.endswith(f"saved: {disk}/65f0-1.png")
    assert left == "['65f0-1.png']"


LIMITED = """
import resource, sys
from langchain_shortapi_flux import DownloadFailed, FluxImage, FluxJob
resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024,) * 2)
image = FluxImage(url=sys.argv[2])
try:
    job = FluxJob(job_id="65f0", status="succeeded", images=(image,), base_url=sys.argv[2])
    job.save(sys.argv[1])
except DownloadFailed as error:
    print(error)
"""


@pytest.mark.thorough
def test_a_quota_leaves_no_file(tmp_path: Path) -> None:
    """As a process without any rights may run into it, in the middle of a picture."""
    with ReplyServer(_reply()) as server:
        program = [sys.executable, "-c", LIMITED, str(tmp_path), f"{server.base_url}/x"]
        done = subprocess.run(program, capture_output=True, text=True, check=True)
    assert "cannot be written: File too large" in done.stdout
    assert "65f0" in done.stdout
    assert _names(tmp_path) == []


async def test_a_save_that_is_cancelled_leaves_no_file(
    flux: ShortAPIFlux, sandbox: Sandbox, tmp_path: Path
) -> None:
    """A request that nobody waits for any more, or Ctrl-C."""
    job = await flux.ainvoke("a fox")
    sandbox.inject(Fault("image", "slow", seconds=60.0))
    saving = asyncio.create_task(job.asave(tmp_path))
    while not _names(tmp_path):  # noqa: ASYNC110 - a folder sets no event
        await asyncio.sleep(0.01)
    assert _names(tmp_path)[0].endswith(".part")
    saving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await saving
    assert _names(tmp_path) == []


async def test_a_picture_that_vanishes_before_the_json_file_is_told(tmp_path: Path) -> None:
    """Somebody tidies up, or a disk is pulled out."""

    def pull_out() -> float:
        (tmp_path / "65f0-1.png").unlink()
        return 0.0

    saving = asave_job(_job(INLINE), tmp_path, prefix="", keep_existing=False, wall=pull_out)
    with pytest.raises(DownloadFailed, match=r"65f0\.json cannot be written: No such file"):
        await saving
    assert _names(tmp_path) == []


async def test_a_mistake_of_our_own_is_not_taken_for_the_hosts(tmp_path: Path) -> None:
    """It must be seen for what it is; the disk is tidy all the same."""

    async def mistaken(_host: str, _port: int) -> list[str]:
        raise ZeroDivisionError

    job = _job("http://localhost:9/x")
    with pytest.raises(ZeroDivisionError):
        await asave_job(
            job, tmp_path, prefix="", keep_existing=False, how=Fetching(resolve=mistaken)
        )
    assert _names(tmp_path) == []


def test_a_job_without_pictures_and_a_folder_that_cannot_be(tmp_path: Path) -> None:
    """Both are clear errors with the job id."""
    with pytest.raises(DownloadFailed, match="no pictures to save: it is pending"):
        FluxJob(job_id="65f0", status="pending").save(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(DownloadFailed, match="cannot be made: Not a directory"):
        _job(INLINE).save(tmp_path / "file" / "x")


@pytest.mark.parametrize("folder", ["a\0b", "a\ud800"])
def test_a_folder_that_is_no_path_is_a_clear_error(folder: str, tmp_path: Path) -> None:
    """The same for the folder."""
    with pytest.raises(DownloadFailed, match="cannot be made"):
        _job(INLINE).save(str(tmp_path / folder))


def test_a_folder_is_tried_before_money_is_spent(tmp_path: Path) -> None:
    """It is made, and nothing is left in it."""
    require_writable(tmp_path / "new" / "folder")
    assert _names(tmp_path / "new" / "folder") == []
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="Not a directory"):
        require_writable(tmp_path / "file" / "x")


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("job_id", ["../../x", "/etc/passwd", "..", "a/b", "CON", "\ud800"])
def test_an_odd_job_id_cannot_leave_the_folder(job_id: str, tmp_path: Path) -> None:
    """The id comes from outside; it is no path."""
    (path,) = _job(INLINE, job_id=job_id).save(tmp_path / "in")
    assert path.parent == tmp_path / "in"
    assert _names(tmp_path) == ["in"]
    assert len(_names(tmp_path / "in")) == 2


@pytest.mark.parametrize("path", ["/../../../x.png", "/%2e%2e%2fx.png", "/x.png%00.exe", "/"])
def test_a_url_and_a_header_name_no_file(path: str, tmp_path: Path) -> None:
    """They come from outside, too."""
    named = 'attachment; filename="../../evil.exe"'
    with ReplyServer(_reply(content_disposition=named)) as server:
        _job(f"{server.base_url}{path}").save(tmp_path / "in")
    assert _names(tmp_path) == ["in"]
    assert _names(tmp_path / "in") == ["65f0-1.png", "65f0.json"]


@pytest.mark.parametrize("prefix", ["a/b", "../", "a\\b", "a\0b", "\ud800"])
def test_a_prefix_is_part_of_a_name_and_no_path(prefix: str, tmp_path: Path) -> None:
    """It may come from a prompt or a user's name, and must not lead out of the folder."""
    with pytest.raises(DownloadFailed, match="prefix=") as caught:
        _job(INLINE).save(tmp_path / "in", prefix=prefix)
    assert caught.value.job_id == "65f0"
    assert _names(tmp_path) == []


def test_a_star_in_a_prefix_is_a_star(tmp_path: Path) -> None:
    """Otherwise the file of another would be taken for this job's picture."""
    (tmp_path / "mine-65f0-1.png").write_bytes(b"another")
    (path,) = _job(INLINE).save(tmp_path, prefix="*", keep_existing=True)
    assert path.read_bytes() == PNG


# --- a picture by itself --------------------------------------------------------------------------


def test_a_picture_knows_the_service_that_it_came_from(
    sandbox: Sandbox, flux: ShortAPIFlux
) -> None:
    """Only so may it be fetched from this machine; JSON, pickle and copies of its job keep it."""
    job = flux.invoke("a fox")
    kept = [
        FluxJob.model_validate_json(job.model_dump_json()),
        pickle.loads(pickle.dumps(job)),
        FluxJob(job_id="x", status="pending", base_url=job.base_url).model_copy(
            update={"images": (FluxImage(url=job.images[0].url),)}
        ),
    ]
    assert len({one.images[0].download() for one in (job, *kept)}) == 1
    (image,) = job.images
    assert image == FluxImage(url=image.url)
    assert hash(image) == hash(FluxImage(url=image.url))
    with pytest.raises(DownloadFailed, match="only https") as failed:
        FluxImage(url=image.url).download()
    assert (failed.value.job_id, failed.value.charge) == (None, "unknown")


def test_a_picture_without_a_job_speaks_of_none() -> None:
    """The id has to come from elsewhere then."""
    with pytest.raises(DownloadFailed) as failed:
        FluxImage(url="https://127.0.0.1/x").download()
    assert str(failed.value).startswith("a picture: https://127.0.0.1/x: 127.0.0.1 is not fetched")


def test_a_copied_picture_leaves_its_first_job_alone() -> None:
    """A picture may be put into another job's hands, and its own still stands by it."""
    mine = _job("http://127.0.0.1:9/x", job_id="mine")
    theirs = mine.model_copy(update={"job_id": "theirs", "base_url": "https://api.shortapi.ai"})
    with pytest.raises(DownloadFailed, match=r"job mine: .*refused the connection"):
        mine.images[0].download()
    with pytest.raises(DownloadFailed, match=r"job theirs: .*only https"):
        theirs.images[0].download()


def test_an_inline_picture_whose_bytes_are_gone_says_so(tmp_path: Path) -> None:
    """JSON does not keep them; nothing is wrong with the service then."""
    reloaded = FluxJob.model_validate_json(_job(INLINE).model_dump_json())
    with pytest.raises(DownloadFailed, match="bytes were not kept"):
        reloaded.save(tmp_path)
    with pytest.raises(DownloadFailed, match="bytes were not kept"):
        reloaded.images[0].download()
    assert _names(tmp_path) == []
