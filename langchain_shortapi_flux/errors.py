"""The error tree: whose fault it was, which job, was it charged, may it be repeated.

It knows nothing of HTTP, of jobs as objects or of LangChain's runtime.

::

    ShortAPIError                    ToolException, ModelError, RuntimeError
    ├── NotCreated                   provably no job was made: nothing was charged
    │   ├── ConfigurationError       no key, a bad base URL, a bad proxy setting
    │   ├── BudgetExceeded           its price is more than what the budget has left
    │   ├── InvalidRequest           refused here, or by the service (also ValueError)
    │   ├── AuthenticationFailed     the service does not accept the key
    │   ├── InsufficientBalance      the service says that the balance is too low
    │   ├── RateLimited              the service said: too many requests (may be repeated)
    │   └── ServiceUnavailable       never reached, or code 3000 (may be repeated)
    ├── LedgerFailed                 the ledger could not say if the key was bought before
    ├── CreateOutcomeUnknown         create was sent, its answer lost: perhaps charged
    ├── JobFailed                    the job ended without pictures
    ├── JobTimeout                   the deadline is over, the job goes on (also TimeoutError)
    ├── UnexpectedReply              a reply about a job that cannot be used
    ├── DownloadFailed               a picture could not be fetched or saved
    └── BatchFailed                  some jobs of a batch failed (in batch.py, for it holds jobs)

The three bases say how each retry layer may treat an error: a tool framework answers a
``ToolException``; retry middleware reads ``ModelError.is_retryable``; a graph's default retry
policy leaves a ``RuntimeError`` alone. The classes of langchain-core that people list in
``retry_on`` (``ModelRateLimitError``, ``ModelConnectionError``, ...) are inherited only where
repeating is safe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from langchain_core.exceptions import (
    ModelAuthenticationError,
    ModelConnectionError,
    ModelError,
    ModelInvalidRequestError,
    ModelRateLimitError,
)
from langchain_core.tools import ToolException

if TYPE_CHECKING:
    from decimal import Decimal

__all__ = [
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
]

Charge = Literal["none", "charged", "refunded", "unknown"]
"""Whether money left the account: no, yes, yes and it came back, or nobody can tell."""


class ShortAPIError(ToolException, ModelError, RuntimeError):
    """Root of every error that this package raises about a request, a job or a picture.

    Args:
        message: What happened and what to do about it. Carries the job id where there is one.
        job_id: The service's id of the job, if one is known.
        charge: Whether the job was charged; the class's own default where not given.
        status_code: The HTTP status of the reply that led here, if there was one.

    Attributes:
        job_id: As above. With it ``ShortAPIFlux.follow(job_id)`` picks the job up again, free.
        charge: ``"none"``, ``"charged"``, ``"refunded"`` or ``"unknown"``.
        status_code: As above.
        is_retryable: True only where no job was made and another attempt may help.
    """

    is_retryable: bool = False
    default_charge: ClassVar[Charge] = "unknown"

    def __init__(
        self,
        message: str,
        *,
        job_id: str | None = None,
        charge: Charge | None = None,
        status_code: int | None = None,
    ) -> None:
        if job_id is not None and job_id not in message:
            message = f"{message} (job {job_id})"
        super().__init__(message)
        self.job_id = job_id
        self.charge: Charge = charge if charge is not None else self.default_charge
        self.status_code = status_code

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by message and attributes, so that a worker process can hand an error back."""
        return (_rebuild, (type(self), str(self), self.__dict__))


def _rebuild(cls: type[ShortAPIError], message: str, state: dict[str, Any]) -> ShortAPIError:
    error = cls(message)
    error.__dict__.update(state)
    return error


class NotCreated(ShortAPIError):
    """Base of the errors after which, provably, no job exists and nothing was charged."""

    default_charge = "none"


class ConfigurationError(NotCreated):
    """This side is not set up: no key, an unusable base URL or proxy. Nothing was sent."""


class BudgetExceeded(NotCreated):
    """The job's price is more than what the ``Budget`` has left. Nothing was sent.

    Not retryable: nothing says that there will be more. A fallback that costs less may step in.

    Attributes:
        price: USD that the job may cost at worst.
        left: USD that the budget had left.
        usd: USD that the budget began with.
    """

    price: Decimal | None = None
    left: Decimal | None = None
    usd: Decimal | None = None


class InvalidRequest(NotCreated, ModelInvalidRequestError, ValueError):
    """The request was refused, by this package before sending or by the service.

    The message names the field, the value and what is allowed, as far as it is known.
    """


class AuthenticationFailed(NotCreated, ModelAuthenticationError):
    """The service refused the key on create (HTTP 401 or 403, or words to that effect).

    By convention: no refusal of the service has been recorded.
    """


class InsufficientBalance(NotCreated):
    """The service refused create because the prepaid balance is too low (HTTP 402, or words).

    By convention: no refusal of the service has been recorded.
    """


class RateLimited(NotCreated, ModelRateLimitError):
    """The service answered create with HTTP 429 on every attempt. May be repeated later.

    Also where a ``rate_limiter`` of this side gave no turn in time. By convention: official pages
    name no limits, and no 429 of the service has been recorded.
    """

    is_retryable = True


class ServiceUnavailable(NotCreated, ModelConnectionError):
    """Create never reached the service, or the service said code 3000 (unstable).

    Raised after every attempt of ``RetryLimits``. No job was made: it may be repeated later. What
    code 3000 means is one public client's practice.
    """

    is_retryable = True


class LedgerFailed(ShortAPIError):
    """The ledger could not be asked, so this call bought nothing; an earlier one may have.

    Not a ``NotCreated``: a fallback that steps in could buy what the key stands for already. Once
    the ledger is mended, the same key is safe to use again.
    """


class CreateOutcomeUnknown(ShortAPIError):
    """Create was sent and no clear answer came back: a job may exist and may have been charged.

    Nothing in this package repeats create after this, because the service documents no
    idempotency key. Look at the account's job list before asking again.

    Attributes:
        key: What the purchase is known by in the ledger, if it has a key.
        claimed_at: When it was claimed there, in Unix seconds.
    """

    key: str | None = None
    claimed_at: float | None = None


class JobFailed(ShortAPIError):
    """The service reports that the job ended without pictures. ``charge`` says if it refunded."""


class JobTimeout(ShortAPIError, TimeoutError):
    """The deadline is over and the job has not ended. It may still finish, and be charged.

    ``ShortAPIFlux.follow(error.job_id)`` waits for it again without buying anything.
    """

    default_charge = "charged"


class UnexpectedReply(ShortAPIError):
    """The service answered about a job in a way that cannot be used, or refused to answer."""


class DownloadFailed(ShortAPIError):
    """A picture could not be fetched, checked or saved. The job itself was paid for."""

    default_charge = "charged"
