"""The names that users may rely on. A change here is a change for them."""

from __future__ import annotations

import importlib

import pytest

PUBLIC: dict[str, list[str]] = {
    "langchain_shortapi_flux": [
        "AuthenticationFailed",
        "BatchFailed",
        "Budget",
        "BudgetExceeded",
        "CallbackReceiver",
        "ConfigurationError",
        "CreateOutcomeUnknown",
        "DownloadFailed",
        "FluxGetJobTool",
        "FluxImage",
        "FluxInput",
        "FluxJob",
        "FluxJobs",
        "FluxProgress",
        "FluxRequest",
        "InsufficientBalance",
        "InvalidRequest",
        "JobFailed",
        "JobTimeout",
        "Ledger",
        "LedgerFailed",
        "MemoryLedger",
        "NotCreated",
        "PollPolicy",
        "RateLimited",
        "RetryLimits",
        "SaveImages",
        "ServiceUnavailable",
        "ShortAPIError",
        "ShortAPIFlux",
        "ShortAPIFluxTool",
        "ShortAPIFluxToolkit",
        "SqlLedger",
        "UnexpectedReply",
        "__version__",
        "learned_delays",
    ],
    "langchain_shortapi_flux.errors": [
        "AuthenticationFailed",
        "BudgetExceeded",
        "Charge",
        "ConfigurationError",
        "CreateOutcomeUnknown",
        "DownloadFailed",
        "InsufficientBalance",
        "InvalidRequest",
        "JobFailed",
        "JobTimeout",
        "LedgerFailed",
        "NotCreated",
        "RateLimited",
        "ServiceUnavailable",
        "ShortAPIError",
        "UnexpectedReply",
    ],
    "langchain_shortapi_flux.sandbox": ["Call", "Charge", "Fault", "Sandbox", "SandboxJob"],
}


@pytest.mark.parametrize("module", PUBLIC)
def test_the_public_names(module: str) -> None:
    """Neither lost nor let out by accident, and each is there."""
    found = importlib.import_module(module)
    assert sorted(found.__all__) == PUBLIC[module]
    assert all(hasattr(found, name) for name in PUBLIC[module])


def test_errors_are_the_same_classes_in_both_places() -> None:
    """``except`` works whichever place they were imported from."""
    package = importlib.import_module("langchain_shortapi_flux")
    errors = importlib.import_module("langchain_shortapi_flux.errors")
    for name in set(PUBLIC["langchain_shortapi_flux.errors"]) - {"Charge"}:
        assert getattr(package, name) is getattr(errors, name)


def test_the_fields_of_the_runnable_and_the_arguments_of_the_tool() -> None:
    """Names of fields and arguments are as public as names of classes."""
    package = importlib.import_module("langchain_shortapi_flux")
    assert set(package.ShortAPIFlux.model_fields) == {
        *("name", "api_key", "base_url", "model", "aspect_ratio", "num_images", "performance"),
        *("timeout", "poll", "retry", "max_connections", "callback_url"),
        *("max_queries_per_second", "rate_limiter", "budget", "callback_receiver"),
        *("ledger", "claim_lease", "on_unknown", "on_failed"),
    }
    assert list(package.ShortAPIFluxTool().args) == [
        *("prompt", "aspect_ratio", "num_images", "performance"),
    ]
    assert set(package.FluxJob.model_fields) == {
        *("job_id", "status", "request", "images", "cost", "refunded", "charge"),
        *("queries", "elapsed", "error", "model", "base_url"),
    }
