"""Pictures from Flux on ShortAPI for LangChain: the Runnable ``ShortAPIFlux`` and a tool."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from langchain_shortapi_flux.errors import (
    AuthenticationFailed,
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
from langchain_shortapi_flux.flux_input import FluxInput
from langchain_shortapi_flux.job import FluxImage, FluxJob, FluxRequest
from langchain_shortapi_flux.runnable import ShortAPIFlux
from langchain_shortapi_flux.tool import ShortAPIFluxTool
from langchain_shortapi_flux.version import __version__
from langchain_shortapi_flux.waiting import PollPolicy, RetryLimits

if TYPE_CHECKING:
    from langchain_shortapi_flux.get_job_tool import FluxGetJobTool
    from langchain_shortapi_flux.ledger import Ledger, MemoryLedger
    from langchain_shortapi_flux.sql_ledger import SqlLedger
    from langchain_shortapi_flux.toolkit import ShortAPIFluxToolkit

__all__ = [
    "AuthenticationFailed",
    "ConfigurationError",
    "CreateOutcomeUnknown",
    "DownloadFailed",
    "FluxGetJobTool",
    "FluxImage",
    "FluxInput",
    "FluxJob",
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
    "ServiceUnavailable",
    "ShortAPIError",
    "ShortAPIFlux",
    "ShortAPIFluxTool",
    "ShortAPIFluxToolkit",
    "SqlLedger",
    "UnexpectedReply",
    "__version__",
]

# Imported when first asked for: not everyone needs them, and SQLAlchemy is an extra.
_ON_DEMAND = {
    "FluxGetJobTool": "get_job_tool",
    "Ledger": "ledger",
    "MemoryLedger": "ledger",
    "ShortAPIFluxToolkit": "toolkit",
    "SqlLedger": "sql_ledger",
}


def __getattr__(name: str) -> Any:
    if name not in _ON_DEMAND:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ON_DEMAND[name]}"), name)
