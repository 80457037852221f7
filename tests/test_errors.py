"""The error tree: whose fault, may it be repeated, which job, was it charged."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from langchain_core.exceptions import (
    LangChainException,
    ModelAPIError,
    ModelAuthenticationError,
    ModelConnectionError,
    ModelError,
    ModelInvalidRequestError,
    ModelRateLimitError,
    ModelTimeoutError,
)
from langchain_core.tools import ToolException

from langchain_shortapi_flux import errors
from langchain_shortapi_flux.errors import (
    AuthenticationFailed,
    BudgetExceeded,
    ConfigurationError,
    CreateOutcomeUnknown,
    DownloadFailed,
    InsufficientBalance,
    InvalidRequest,
    JobFailed,
    JobTimeout,
    LedgerFailed,
    NotCreated,
    RateLimited,
    ServiceUnavailable,
    ShortAPIError,
    UnexpectedReply,
)

NO_JOB_MADE = (
    ConfigurationError,
    BudgetExceeded,
    InvalidRequest,
    AuthenticationFailed,
    InsufficientBalance,
    RateLimited,
    ServiceUnavailable,
)
JOB_PERHAPS_MADE = (
    LedgerFailed,
    CreateOutcomeUnknown,
    JobFailed,
    JobTimeout,
    UnexpectedReply,
    DownloadFailed,
)
LEAVES = (*NO_JOB_MADE, *JOB_PERHAPS_MADE)
ALL = (ShortAPIError, NotCreated, *LEAVES)

TREE: list[tuple[type[BaseException], type[BaseException]]] = [
    (ShortAPIError, ToolException),
    (ShortAPIError, ModelError),
    (ShortAPIError, RuntimeError),
    (ShortAPIError, LangChainException),
    (NotCreated, ShortAPIError),
    *((leaf, NotCreated) for leaf in NO_JOB_MADE),
    *((leaf, ShortAPIError) for leaf in JOB_PERHAPS_MADE),
    (InvalidRequest, ValueError),
    (InvalidRequest, ModelInvalidRequestError),
    (AuthenticationFailed, ModelAuthenticationError),
    (RateLimited, ModelRateLimitError),
    (ServiceUnavailable, ModelConnectionError),
    (JobTimeout, TimeoutError),
]


@pytest.mark.parametrize(
    ("kind", "base"), TREE, ids=lambda kind: kind.__name__ if isinstance(kind, type) else ""
)
def test_the_tree(kind: type[BaseException], base: type[BaseException]) -> None:
    """Users write ``except`` and ``retry_on`` by these bases."""
    assert issubclass(kind, base)


def test_the_tree_is_whole() -> None:
    """Each error of the module stands in the lists above, and has a docstring that says when."""
    there = {
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, ShortAPIError)
    }
    assert there == set(ALL)
    assert all(kind.__doc__ for kind in there)


@pytest.mark.parametrize("kind", JOB_PERHAPS_MADE)
def test_what_may_have_been_charged_is_no_error_that_people_retry(
    kind: type[ShortAPIError],
) -> None:
    """Users list langchain-core's classes in ``retry_on``: again would be a second purchase."""
    retried = (ModelTimeoutError, ModelConnectionError, ModelAPIError, ModelRateLimitError)
    assert not issubclass(kind, (NotCreated, *retried))
    assert not issubclass(kind, ConnectionError)
    assert kind.is_retryable is False


def test_is_retryable_only_where_no_job_was_made_and_it_may_help() -> None:
    """Retry middleware reads it."""
    assert {kind for kind in ALL if kind.is_retryable} == {RateLimited, ServiceUnavailable}
    for kind in ALL:
        assert kind("x").is_retryable is kind.is_retryable


@pytest.mark.parametrize("kind", ALL)
def test_the_text_carries_the_job_id(kind: type[ShortAPIError]) -> None:
    """Logs often keep the text alone; with the id the job is picked up again, free."""
    assert str(kind("went wrong", job_id="ab12")) == "went wrong (job ab12)"
    assert str(kind("job ab12 went wrong", job_id="ab12")) == "job ab12 went wrong"
    assert str(kind("went wrong")) == "went wrong"


def test_charge_defaults() -> None:
    """Where it is not given, each class says what is surely known, and no more."""
    charges = {kind: kind("x").charge for kind in ALL}
    assert all(charges[kind] == "none" for kind in (NotCreated, *NO_JOB_MADE))
    assert charges[JobTimeout] == charges[DownloadFailed] == "charged"
    for kind in (ShortAPIError, CreateOutcomeUnknown, JobFailed, UnexpectedReply):
        assert charges[kind] == "unknown"
    assert JobFailed("x", charge="refunded").charge == "refunded"


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("remake", [copy.copy, copy.deepcopy, "pickle"])
def test_errors_pickle_with_their_attributes(remake: Any, kind: type[ShortAPIError]) -> None:
    """Worker processes hand errors back by pickle; one that cannot be hides what happened."""
    error = kind("went wrong", job_id="ab12", charge="refunded", status_code=418)
    error.add_note("while painting")
    again = pickle.loads(pickle.dumps(error)) if remake == "pickle" else remake(error)
    assert type(again) is kind
    assert str(again) == str(error) == "went wrong (job ab12)"
    assert again.args == error.args
    assert (again.job_id, again.charge, again.status_code) == ("ab12", "refunded", 418)
    assert again.__notes__ == ["while painting"]
