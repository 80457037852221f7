"""Fetching pictures and writing them to disk safely.

It goes to whatever host a picture's URL names, so it never sees the key. It knows nothing of the
job API.
"""

from __future__ import annotations

import asyncio
import glob
import hashlib
import os
import re
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from langchain_shortapi_flux.connection import (
    CONNECT_TIMEOUT_SECONDS,
    READ_TIMEOUT_SECONDS,
    USER_AGENT,
    ca_bundle_from_environment,
    proxy_for,
    runs_here,
    ssl_context,
)
from langchain_shortapi_flux.errors import ConfigurationError, DownloadFailed
from langchain_shortapi_flux.job_record import is_picture_url
from langchain_shortapi_flux.loop_thread import run_in_loop_thread

if TYPE_CHECKING:
    import aiohttp

    from langchain_shortapi_flux.job import FluxImage, FluxJob

IMAGE_LIMIT_BYTES = 32 * 2**20
DOWNLOAD_TIMEOUT_SECONDS = 120.0
REDIRECT_LIMIT = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_GONE = (403, 404, 410)


def require_writable(folder: Path) -> None:
    """Make the folder and see that files can be made in it: before money is spent, not after.

    Raises:
        OSError: They cannot.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def save_job(job: FluxJob, folder: Path, *, prefix: str, keep_existing: bool) -> list[Path]:
    """The blocking twin of ``asave_job``."""
    return run_in_loop_thread(
        lambda: asave_job(job, folder, prefix=prefix, keep_existing=keep_existing)
    )


async def asave_job(job: FluxJob, folder: Path, *, prefix: str, keep_existing: bool) -> list[Path]:
    """Fetch every picture of a job and write it to ``folder``; see ``FluxJob.save``."""
    if not job.images:
        raise DownloadFailed(
            f"job {job.job_id} has no pictures to save: it is {job.status}",
            job_id=job.job_id,
            charge=job.charge,
        )
    if not _is_prefix(prefix):
        raise DownloadFailed(
            f"prefix={prefix[:40]!r}: a file name can begin neither with a path nor with what is "
            "no text",
            job_id=job.job_id,
            charge=job.charge,
        )
    stems = [f"{prefix}{_safe_name(job.job_id)}-{i}" for i in range(1, len(job.images) + 1)]
    loopback = job.base_url is not None and runs_here(job.base_url)
    await asyncio.to_thread(_make_folder, folder, job)
    async with _open_session(job, loopback=loopback) as session:
        results = await asyncio.gather(
            *(
                _save(image, folder / stem, session, loopback, keep_existing)
                for image, stem in zip(job.images, stems, strict=True)
            ),
            return_exceptions=True,
        )
    saved = [result for result in results if isinstance(result, Path)]
    problems = [str(result) for result in results if isinstance(result, _Problem)]
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, _Problem):
            raise result
    if problems:
        kept = f"; saved: {', '.join(str(path) for path in saved)}" if saved else ""
        raise DownloadFailed(
            f"job {job.job_id}: {'; '.join(problems)}{kept}", job_id=job.job_id, charge=job.charge
        )
    return saved


class _Problem(Exception):
    """Why one picture could not be fetched, checked or written."""


async def _save(
    image: FluxImage,
    stem: Path,
    session: aiohttp.ClientSession,
    loopback: bool,  # noqa: FBT001
    keep_existing: bool,  # noqa: FBT001
) -> Path:
    # Asked before fetching, to save the fetch; writing makes sure of it once more.
    # The name is escaped: a prefix may hold a star.
    pattern = f"{glob.escape(stem.name)}.*"
    if there := await asyncio.to_thread(lambda: sorted(stem.parent.glob(pattern))):
        if keep_existing:
            return there[0]
        raise _Problem(f"{there[0]} exists already and is not overwritten")
    content = image.inline
    if content is None and image.url.startswith("data:"):
        raise _Problem(f"{image.url} came inside the reply, and its bytes were not kept")
    if content is None:
        content = await _fetch(image.url, session, loopback=loopback)
    ending = image_ending(content)
    if ending is None:
        raise _Problem(f"{image.url} gave no PNG, JPEG, WebP or GIF but {_describe(content)}")
    return await asyncio.to_thread(_write, stem.with_name(f"{stem.name}.{ending}"), content)


def image_ending(content: bytes) -> str | None:
    """The file ending for a picture, by its first bytes: png, jpg, webp, gif, or None."""
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if content.startswith(b"\xff\xd8\xff"):
        return "jpg"
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return "webp"
    if content.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    return None


def _describe(content: bytes) -> str:
    if not content:
        return "nothing"
    start = content[:200].lstrip().lower()
    if start.startswith(b"<"):
        return "a web page"
    return "JSON" if start.startswith((b"{", b"[")) else f"{len(content):,} unknown bytes"


def _open_session(job: FluxJob, *, loopback: bool) -> aiohttp.ClientSession:
    import aiohttp  # noqa: PLC0415 - on first use

    problem: str | None = None
    try:
        verify = True if loopback else ssl_context(ca_bundle_from_environment())
    except ConfigurationError as error:
        problem = str(error)
    if problem is not None:
        raise DownloadFailed(problem, job_id=job.job_id, charge=job.charge)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=verify),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": USER_AGENT, "Accept": "image/*"},
        timeout=aiohttp.ClientTimeout(
            total=DOWNLOAD_TIMEOUT_SECONDS,
            sock_connect=CONNECT_TIMEOUT_SECONDS,
            sock_read=READ_TIMEOUT_SECONDS,
        ),
    )


async def _fetch(url: str, session: aiohttp.ClientSession, *, loopback: bool) -> bytes:
    import aiohttp  # noqa: PLC0415 - on first use

    problem: str
    try:
        async with asyncio.timeout(DOWNLOAD_TIMEOUT_SECONDS):
            return await _follow_and_read(url, session, loopback=loopback)
    except TimeoutError:
        problem = f"no picture within {DOWNLOAD_TIMEOUT_SECONDS:g} s"
    except ConfigurationError as error:
        problem = str(error)
    except (aiohttp.ClientError, OSError, ValueError) as error:
        problem = f"the connection failed or broke off ({type(error).__name__})"
    raise _Problem(f"{url}: {problem}")


async def _follow_and_read(url: str, session: aiohttp.ClientSession, *, loopback: bool) -> bytes:
    for _ in range(REDIRECT_LIMIT + 1):
        # Checked at every hop: a redirect must not lead to where the first URL may not.
        if not is_picture_url(url, loopback=loopback):
            raise _Problem(f"{url} is not fetched: only https (or this machine's own sandbox)")
        proxy = proxy_for(url)
        async with session.get(
            url, allow_redirects=False, proxy=proxy.get_secret_value() if proxy else None
        ) as response:
            if response.status in _REDIRECTS:
                url = urljoin(url, response.headers.get("Location", ""))
                continue
            if response.status in _GONE:
                raise _Problem(
                    f"{url} answers HTTP {response.status}: pictures' URLs are temporary, and "
                    "nothing known says that the service renews them"
                )
            if response.status != 200:
                raise _Problem(f"{url} answers HTTP {response.status}")
            content = bytearray()
            async for chunk in response.content.iter_any():
                content += chunk
                if len(content) > IMAGE_LIMIT_BYTES:
                    raise _Problem(f"{url} is larger than {IMAGE_LIMIT_BYTES // 2**20} MiB")
            return bytes(content)
    raise _Problem(f"{urlsplit(url).netloc} redirects more than {REDIRECT_LIMIT} times")


def _safe_name(job_id: str) -> str:
    """The job id as part of a file name; ids of an unknown form become a hash."""
    if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", job_id):
        return job_id
    return hashlib.sha256(job_id.encode("utf-8", "replace")).hexdigest()[:24]


def _is_prefix(prefix: str) -> bool:
    try:
        os.fsencode(prefix).decode()
    except ValueError:  # a lone surrogate
        return False
    return not set(prefix) & {"/", "\\", "\0", os.sep}


def _make_folder(folder: Path, job: FluxJob) -> None:
    reason: str | None = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror
    except ValueError:  # a NUL or a lone surrogate
        reason = "it is no path"
    if reason is not None:
        raise DownloadFailed(
            f"the folder {folder} cannot be made: {reason}", job_id=job.job_id, charge=job.charge
        )


def _write(path: Path, content: bytes) -> Path:
    """Write to a temporary file beside it and give it its name, whole, if that name is free."""
    problem: str
    temporary: Path | None = None
    try:
        unguessable = path.with_name(f".{secrets.token_hex(16)}.part")
        # Not mkstemp, whose files are closed to others: the umask says who may read pictures.
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0)
        handle = os.open(unguessable, flags, 0o666)
        temporary = unguessable
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        _claim_name(temporary, path)
        return path
    except FileExistsError:
        problem = "exists already and is not overwritten"
    except OSError as error:
        problem = f"cannot be written: {error.strerror}"
    finally:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
    raise _Problem(f"{path} {problem}")


def _claim_name(temporary: Path, path: Path) -> None:
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: claim the name, then put the file there
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        temporary.replace(path)
