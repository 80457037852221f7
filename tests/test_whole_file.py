"""Files that appear whole or not at all: also on a full disk, in a race, and when given up."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, BinaryIO

import pytest
from tiny_disk import printed_on_tiny_disk

from langchain_shortapi_flux.whole_file import NameTaken, NotWritten, WholeFile

if TYPE_CHECKING:
    from pathlib import Path


def _no_links(_here: Path, _there: Path) -> None:
    raise OSError(errno.EPERM, "no hard links here")


def _size(file: BinaryIO) -> int:
    return len(file.read()) if file.seek(0) == 0 else -1


def test_a_file_is_unseen_until_it_is_whole(tmp_path: Path) -> None:
    """Who watches the folder must not open half a picture."""
    file, path = WholeFile(tmp_path), tmp_path / "x.png"
    file.write(b"half, ")
    (unfinished,) = tmp_path.iterdir()
    assert unfinished.name.startswith(".")
    assert unfinished.suffix == ".part"
    file.write(b"whole")
    assert file.look(_size) == len(b"half, whole")
    assert file.publish(path) == path
    file.discard()
    assert path.read_bytes() == b"half, whole"
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_given_up_leaves_nothing_and_stays_so(tmp_path: Path) -> None:
    """A thread that comes late must not make the file again."""
    file = WholeFile(tmp_path)
    file.write(b"half")
    file.discard()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(NotWritten, match="given up"):
        file.write(b"late")
    with pytest.raises(NotWritten, match="given up"):
        file.publish(tmp_path / "x.png")
    WholeFile(tmp_path).discard()
    assert list(tmp_path.iterdir()) == []


def test_giving_up_waits_for_a_call_in_another_thread(tmp_path: Path) -> None:
    """Removing the file under a writer would leave a part of it behind on some systems."""
    file, writing, go_on = WholeFile(tmp_path), threading.Event(), threading.Event()

    def dawdle(_: BinaryIO) -> str:
        writing.set()
        go_on.wait(10)
        return "done"

    with ThreadPoolExecutor(2) as pool:
        looked = pool.submit(file.look, dawdle)
        writing.wait(10)
        discarded = pool.submit(file.discard)
        assert not discarded.done()
        assert len(list(tmp_path.iterdir())) == 1
        go_on.set()
        assert looked.result(10) == "done"
        discarded.result(10)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("link", [os.link, _no_links], ids=["links", "no links"])
@pytest.mark.parametrize("kind", ["file", "folder", "dangling link"])
def test_nothing_is_overwritten(kind: str, link: object, tmp_path: Path) -> None:
    """Whatever has the name keeps it, on file systems with and without hard links."""
    path = tmp_path / "x.png"
    if kind == "file":
        path.write_bytes(b"mine")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "nowhere")
    file = WholeFile(tmp_path, link=link)  # type: ignore[arg-type]
    file.write(b"another")
    with pytest.raises(NameTaken, match="exists already and is not overwritten"):
        file.publish(path)
    file.discard()
    assert list(tmp_path.iterdir()) == [path]
    assert kind != "file" or path.read_bytes() == b"mine"


def test_without_hard_links_the_file_comes_whole_as_well(tmp_path: Path) -> None:
    """Some memory cards and network drives have none."""
    file, path = WholeFile(tmp_path, link=_no_links), tmp_path / "x.png"
    file.write(b"whole")
    file.publish(path)
    file.discard()
    assert path.read_bytes() == b"whole"
    assert list(tmp_path.iterdir()) == [path]


def test_without_hard_links_a_failing_move_gives_the_name_back(tmp_path: Path) -> None:
    """An empty file under a picture's name would be taken for the picture."""

    def lose_the_file(here: Path, _there: Path) -> None:
        here.unlink()
        raise OSError(errno.EPERM, "no hard links here")

    file = WholeFile(tmp_path, link=lose_the_file)
    file.write(b"whole")
    with pytest.raises(NotWritten, match="cannot be written"):
        file.publish(tmp_path / "x.png")
    file.discard()
    assert list(tmp_path.iterdir()) == []


def test_of_many_that_want_one_name_one_gets_it(tmp_path: Path) -> None:
    """Two processes may save the same job at the same time."""
    path, start = tmp_path / "x.png", threading.Barrier(8)

    def save(number: int) -> bool:
        file = WholeFile(tmp_path)
        file.write(b"%d" % number)
        start.wait(10)
        try:
            return file.publish(path) == path
        except NameTaken:
            return False
        finally:
            file.discard()

    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(save, range(8)))
    assert got.count(True) == 1
    assert path.read_bytes() == b"%d" % got.index(True)
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """It may have been removed meanwhile."""
    file = WholeFile(tmp_path / "gone")
    with pytest.raises(NotWritten, match="cannot be written: No such file"):
        file.write(b"x")
    file.discard()


FULL = """
import sys
from pathlib import Path
from langchain_shortapi_flux.whole_file import NotWritten, WholeFile
folder, when = Path(sys.argv[1]), sys.argv[2]
file = WholeFile(folder)
try:
    for _ in range(16):
        file.write(bytes(4096))
    if when == "in the middle":
        file.write(bytes(64 * 2**10))
    file.write(b"the last bytes wait in memory until the file is closed")
    file.publish(folder / "x.png")
except NotWritten as error:
    print(error)
finally:
    file.discard()
print([path.name for path in folder.iterdir()])
again = WholeFile(folder)
again.write(bytes(32 * 2**10))
print(again.publish(folder / "x.png").stat().st_size)
"""


@pytest.mark.parametrize("when", ["in the middle", "at the very end"])
def test_a_full_disk_leaves_nothing_behind(when: str, tmp_path: Path) -> None:
    """And its room is free again."""
    told, left, size = printed_on_tiny_disk(tmp_path, FULL, str(tmp_path), when)
    assert told == "cannot be written: No space left on device"
    assert (left, size) == ("[]", str(32 * 2**10))


LIMITED = """
import os, resource, sys
from pathlib import Path
from langchain_shortapi_flux.whole_file import NotWritten, WholeFile
resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024,) * 2)
file = WholeFile(Path(sys.argv[1]))
try:
    for _ in range(100):
        file.write(bytes(4096))
except NotWritten as error:
    print(error)
finally:
    file.discard()
"""


def test_a_file_that_may_not_grow_leaves_nothing_behind(tmp_path: Path) -> None:
    """A quota, as a process without any rights can have it."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "cannot be written: File too large\n"
    assert list(tmp_path.iterdir()) == []
