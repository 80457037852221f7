"""Files that appear whole, under a name that was free, or not at all.

It knows nothing of pictures. Everything in it blocks; its methods may be called from any thread.
"""

from __future__ import annotations

import os
import secrets
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Seen = TypeVar("Seen")


class NotWritten(Exception):
    """Why a file is not there, as the end of a sentence that begins with its name."""


class NameTaken(NotWritten):
    """A file of that name is there already, and nothing is ever overwritten."""


class WholeFile:
    """A file on its way: written under a name that nobody guesses, then given its own.

    ``discard`` belongs into a ``finally``: it removes what was not published, and waits for a call
    that another thread is in the middle of.

    Args:
        folder: Where it will stand; what is unfinished stands there too, so that naming it is one
            step.
        link: Gives a file a second name, or raises ``FileExistsError``.
    """

    def __init__(self, folder: Path, *, link: Callable[[Path, Path], object] = os.link) -> None:
        self._unfinished = folder / f".{secrets.token_hex(16)}.part"
        self._link = link
        self._lock = threading.Lock()
        self._file: BinaryIO | None = None
        self._over = False

    def write(self, piece: bytes) -> None:
        """Append this.

        Raises:
            NotWritten: The disk is full, the folder is closed to us, and so on.
        """
        with self._lock, _said():
            self._opened().write(piece)

    def look(self, see: Callable[[BinaryIO], Seen]) -> Seen:
        """What ``see`` makes of the file as it stands; nothing is written after that."""
        with self._lock, _said():
            file = self._opened()
            file.flush()
            return see(file)

    def publish(self, path: Path) -> Path:
        """Give the file its name, for good.

        Raises:
            NameTaken: There is a file of that name.
            NotWritten: It could not be brought to disk.
        """
        with self._lock, _said():
            file = self._opened()
            file.flush()
            os.fsync(file.fileno())
            file.close()
            self._claim(path)
            _keep_name(path.parent)
        return path

    def discard(self) -> None:
        """Leave nothing behind but what was published."""
        with self._lock:
            self._over = True
            if self._file is not None:
                with suppress(OSError):  # what is unwritten still may not fit on the disk
                    self._file.close()
                with suppress(OSError):
                    self._unfinished.unlink(missing_ok=True)

    def _opened(self) -> BinaryIO:
        if self._over:
            raise NotWritten("was given up")
        if self._file is None:
            # Not mkstemp, whose files are closed to others: the umask says who may read this.
            flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_BINARY", 0)
            self._file = os.fdopen(os.open(self._unfinished, flags, 0o666), "w+b")
        return self._file

    def _claim(self, path: Path) -> None:
        try:  # a rename would overwrite
            self._link(self._unfinished, path)
        except OSError:  # a file system without hard links: claim the name, then put the file there
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            try:
                self._unfinished.replace(path)
            except BaseException:
                path.unlink()
                raise


def _keep_name(folder: Path) -> None:
    """Bring the folder to disk too: without that, a crash may forget the file's name."""
    with suppress(OSError):  # not every system opens folders
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def _said() -> Iterator[None]:
    try:
        yield
    except FileExistsError:
        raise NameTaken("exists already and is not overwritten") from None
    except OSError as error:
        raise NotWritten(f"cannot be written: {error.strerror}") from None
