"""Pictures from Flux on ShortAPI for LangChain: the Runnable ``ShortAPIFlux`` and a tool."""

from langchain_shortapi_flux.errors import (
    AuthenticationFailed,
    ConfigurationError,
    CreateOutcomeUnknown,
    DownloadFailed,
    InsufficientBalance,
    InvalidRequest,
    JobFailed,
    JobTimeout,
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

__all__ = [
    "AuthenticationFailed",
    "ConfigurationError",
    "CreateOutcomeUnknown",
    "DownloadFailed",
    "FluxImage",
    "FluxInput",
    "FluxJob",
    "FluxRequest",
    "InsufficientBalance",
    "InvalidRequest",
    "JobFailed",
    "JobTimeout",
    "NotCreated",
    "PollPolicy",
    "RateLimited",
    "RetryLimits",
    "ServiceUnavailable",
    "ShortAPIError",
    "ShortAPIFlux",
    "ShortAPIFluxTool",
    "UnexpectedReply",
    "__version__",
]
