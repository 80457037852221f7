"""Pictures from Flux on ShortAPI for LangChain: the Runnable ``ShortAPIFlux`` and a tool.

Each name is imported when it is first asked for, so that a program pays only for what it uses.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from langchain_shortapi_flux.version import __version__

if TYPE_CHECKING:
    from langchain_shortapi_flux.batch import BatchFailed
    from langchain_shortapi_flux.callback import CallbackReceiver
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
    from langchain_shortapi_flux.flux_input import FluxInput
    from langchain_shortapi_flux.flux_jobs import FluxJobs
    from langchain_shortapi_flux.get_job_tool import FluxGetJobTool
    from langchain_shortapi_flux.job import FluxImage, FluxJob, FluxRequest
    from langchain_shortapi_flux.learned_delay import learned_delays
    from langchain_shortapi_flux.ledger import Ledger, MemoryLedger
    from langchain_shortapi_flux.progress import FluxProgress
    from langchain_shortapi_flux.runnable import ShortAPIFlux
    from langchain_shortapi_flux.save_images import SaveImages
    from langchain_shortapi_flux.spending import Budget
    from langchain_shortapi_flux.sql_ledger import SqlLedger
    from langchain_shortapi_flux.tool import ShortAPIFluxTool
    from langchain_shortapi_flux.toolkit import ShortAPIFluxToolkit
    from langchain_shortapi_flux.waiting import PollPolicy, RetryLimits

__all__ = [
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
]

_MODULES = {
    "batch": ("BatchFailed",),
    "callback": ("CallbackReceiver",),
    "errors": (
        "AuthenticationFailed",
        "BudgetExceeded",
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
    ),
    "flux_input": ("FluxInput",),
    "flux_jobs": ("FluxJobs",),
    "get_job_tool": ("FluxGetJobTool",),
    "job": ("FluxImage", "FluxJob", "FluxRequest"),
    "learned_delay": ("learned_delays",),
    "ledger": ("Ledger", "MemoryLedger"),
    # What `%load_ext langchain_shortapi_flux` looks for.
    "notebook_display": ("load_ipython_extension", "unload_ipython_extension"),
    "progress": ("FluxProgress",),
    "runnable": ("ShortAPIFlux",),
    "save_images": ("SaveImages",),
    "spending": ("Budget",),
    "sql_ledger": ("SqlLedger",),
    "tool": ("ShortAPIFluxTool",),
    "toolkit": ("ShortAPIFluxToolkit",),
    "waiting": ("PollPolicy", "RetryLimits"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, *_MODULES]
