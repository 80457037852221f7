"""What a failure means to one who runs the command: what was charged, and what to do next.

It knows that nothing outlives a sandbox of the command's own.
"""

from __future__ import annotations

from langchain_shortapi_flux.command_line.terminal import EXIT_FAILED, EXIT_USAGE
from langchain_shortapi_flux.errors import (
    ConfigurationError,
    DownloadFailed,
    InvalidRequest,
    JobTimeout,
    NotCreated,
    ShortAPIError,
    UnexpectedReply,
)
from langchain_shortapi_flux.job_words import plain

LINE_LENGTH_MAX = 600
"""Letters of a failure's text where it is one of many; it may be the service's own."""
SANDBOX_ENDED = "the sandbox ended with this command, and nothing was charged"


def exit_code(error: Exception) -> int:
    """The exit code of a command that ends with this error."""
    refused_here = (
        isinstance(error, (ConfigurationError, InvalidRequest))
        and error.status_code is None  # with a status it is the service that refused
    )
    return EXIT_USAGE if refused_here else EXIT_FAILED


def failure_text(error: Exception, *, in_sandbox: bool) -> str:
    """What went wrong, and what to do."""
    if not isinstance(error, ShortAPIError):
        return f"{type(error).__name__}: {error}"
    if not in_sandbox or isinstance(error, NotCreated):
        waits = isinstance(error, (JobTimeout, DownloadFailed))
        return f"{error}; --follow {error.job_id} picks it up, free" if waits else str(error)
    # The errors speak of money and of jobs that go on, and in the command's own sandbox neither is.
    if isinstance(error, JobTimeout):
        return f"job {error.job_id} has not ended in time; {SANDBOX_ENDED}"
    if isinstance(error, (DownloadFailed, UnexpectedReply)):
        return f"{error}; {SANDBOX_ENDED}"
    named = "" if error.job_id is None else f" for job {error.job_id}"
    return f"the sandbox gave no picture{named} ({type(error).__name__}); {SANDBOX_ENDED}"


def failure_line(error: Exception, *, in_sandbox: bool) -> str:
    """As ``failure_text``, short enough for one of many lines."""
    return plain(failure_text(error, in_sandbox=in_sandbox), LINE_LENGTH_MAX)
