"""Two processes that buy under the same keys at the same moment: each key is paid once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import sqlalchemy
from buyer_process import (
    PROCESSES,
    Errand,
    Report,
    answer_of,
    claim_together,
    forks,
    run_errand,
    started,
)

from langchain_shortapi_flux.sandbox import Fault

if TYPE_CHECKING:
    from pathlib import Path

    from langchain_shortapi_flux.sandbox import Sandbox

pytestmark = [forks, pytest.mark.thorough]

KEYS = tuple(f"key {number}" for number in range(50))
HOLD_SECONDS = 0.3
ROUNDS = 3
OPENERS = 4


def schema_of_its_own(url: str, name: str) -> str:
    """The URL of an empty schema on that server."""
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text(f"drop schema if exists {name} cascade"))
        connection.execute(sqlalchemy.text(f"create schema {name}"))
    engine.dispose()
    return f"{url}&options=-csearch_path%3D{name}"


@pytest.fixture(params=["sqlite", "postgres"])
def urls(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    """Databases in which there is no table yet."""
    if request.param == "sqlite":
        return [f"sqlite:///{tmp_path}/{number}.db" for number in range(ROUNDS)]
    server: str = request.getfixturevalue("postgres_url")
    return [schema_of_its_own(server, f"round_{number}") for number in range(ROUNDS)]


@pytest.mark.parametrize(
    ("urls", "drivers"),
    [
        ("sqlite", ("aiohttp", "aiohttp")),
        ("sqlite", ("aiohttp", "requests")),
        ("postgres", ("aiohttp", "aiohttp")),
    ],
    ids=["sqlite", "sqlite, one blocking", "postgres"],
    indirect=["urls"],
)
def test_fifty_keys_in_two_processes_are_fifty_charges_and_a_hundred_answers(
    urls: list[str], drivers: tuple[str, str], sandbox: Sandbox
) -> None:
    """Whoever comes second waits for the first one's job id and follows that job."""
    sandbox.inject(Fault("create", "hold", times=10 * len(KEYS), seconds=HOLD_SECONDS))
    errands = [
        Errand(sandbox.base_url, sandbox.api_key, urls[0], driver, KEYS) for driver in drivers
    ]
    start = PROCESSES.Barrier(2)
    with (
        started(run_errand, errands[0], start) as (_, one),
        started(run_errand, errands[1], start) as (_, other),
    ):
        reports: list[list[Report]] = [answer_of(one), answer_of(other)]
    assert [report.error for both in reports for report in both if report.error] == []
    ids = [[report.job.job_id for report in both if report.job] for both in reports]
    assert [len(of_one) for of_one in ids] == [50, 50]
    assert ids[0] == ids[1]
    assert sorted(ids[0]) == sorted(charge.job_id for charge in sandbox.charges)
    assert len(sandbox.jobs) == len(sandbox.charges) == 50


def test_the_table_is_made_by_several_processes_at_once(urls: list[str]) -> None:
    """Workers of one service start together; none may fail because another made the table."""
    start = PROCESSES.Barrier(OPENERS)
    with (
        started(claim_together, urls, start) as (_, a),
        started(claim_together, urls, start) as (_, b),
        started(claim_together, urls, start) as (_, c),
        started(claim_together, urls, start) as (_, d),
    ):
        held: list[list[str]] = [answer_of(answers) for answers in (a, b, c, d)]
    assert all(len(set(of_one_database)) == 1 for of_one_database in zip(*held, strict=True))
