"""Which service a command uses, and with which settings: key or sandbox, ledger, budget.

It sees to it that whatever can be refused is refused before anything is sent. It knows nothing of
what is asked for.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_shortapi_flux.account import KEY_VARIABLES, key_from_environment
from langchain_shortapi_flux.command_line.command_options import AT_ONCE, LEDGER_NAME
from langchain_shortapi_flux.errors import ConfigurationError, InvalidRequest
from langchain_shortapi_flux.image_files import require_writable
from langchain_shortapi_flux.runnable import ShortAPIFlux

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator

    from langchain_shortapi_flux.ledger import Ledger
    from langchain_shortapi_flux.sql_ledger import SqlLedger

SOCKETS: int = ShortAPIFlux.model_fields["max_connections"].default
"""How many sockets a Runnable has, unless asked otherwise."""


@dataclass(frozen=True)
class Service:
    """What makes the pictures.

    Attributes:
        flux: The Runnable, all set.
        prefix: Put before each file's name: pictures of a sandbox are no real ones.
        in_sandbox: Whether it is a sandbox that ends with the command.
    """

    flux: ShortAPIFlux
    prefix: str = ""
    in_sandbox: bool = False

    def with_ledger(self, ledger: Ledger) -> Service:
        """The same, keeping there what it buys."""
        return replace(self, flux=self.flux.model_copy(update={"ledger": ledger}))


def takes_sandbox(options: Namespace) -> bool:
    """Whether the command starts a sandbox of its own.

    Raises:
        ConfigurationError: There is no key, and what is asked for must not quietly do without.
    """
    if options.sandbox or key_from_environment() is not None:
        return bool(options.sandbox)
    needs = {
        "to follow a job (the sandbox knows no job of the service": options.follow is not None,
        "to buy a batch (the sandbox's pictures are not made by Flux": options.batch is not None,
        "for --json (a script must not take the sandbox's pictures for Flux's": options.json,
    }
    for why, needed in needs.items():
        if needed:
            raise ConfigurationError(
                f"no key: set {KEY_VARIABLES[0]} {why}; --sandbox says that you mean the sandbox)"
            )
    return True


def make_flux(options: Namespace, *, in_sandbox: bool) -> ShortAPIFlux:
    """The Runnable that the options describe, still without a ledger.

    Raises:
        ConfigurationError: Key, proxy or CA bundle cannot be used.
        pydantic.ValidationError: A value is out of range.
    """
    fields: dict[str, Any] = {"budget": options.budget}
    if options.timeout is not None:
        fields["timeout"] = options.timeout
    if options.batch is not None:
        # Each line has a socket: one that waited for it could not be held back on Ctrl-C.
        at_once = options.max_concurrency or AT_ONCE
        fields["max_connections"] = max(at_once, SOCKETS)
        fields["on_failed"] = "buy"
        fields["on_unknown"] = "buy" if options.buy_unknown else "raise"
    if in_sandbox:  # which has no address before it starts, and needs none from the environment
        return ShortAPIFlux(base_url="http://127.0.0.1", **fields)
    flux = ShortAPIFlux(**fields)
    flux.connection()  # so that a bad key is one line, and not one for each prompt
    return flux


def require_output(options: Namespace) -> Path:
    """The folder to save to, made if it is missing.

    Raises:
        InvalidRequest: No file can be made in it.
    """
    problem: str
    try:
        folder = Path(options.output)
        require_writable(folder)
        return folder
    except OSError as error:
        problem = str(error.strerror)
    except ValueError:  # a NUL or a lone surrogate
        problem = "it is no path"
    raise InvalidRequest(f"--output {options.output}: {problem}; nothing was sent")


def open_ledger(options: Namespace, folder: Path) -> SqlLedger:
    """Where a batch keeps what it bought; whether it is there is seen at the first look.

    Raises:
        ConfigurationError: SQLAlchemy is missing, or the URL names no database that can be used.
    """
    problem: str
    try:
        from langchain_shortapi_flux.sql_ledger import SqlLedger  # noqa: PLC0415 - on first use
    except ImportError as error:
        problem = str(error).replace("SqlLedger", "--batch")
    else:
        try:
            return SqlLedger(options.ledger or _sqlite_url(folder))
        except (ImportError, ValueError) as error:
            problem = f"--ledger: {error}"
    raise ConfigurationError(f"{problem}; nothing was sent")


@contextmanager
def at_first_look(options: Namespace) -> Iterator[None]:
    """Have what the ledger raises when it is first looked at told as the option's fault.

    Raises:
        ConfigurationError: The database or a row of it cannot be used.
    """
    problem: str
    # Its text may hold a password of the URL, so only the option's name is told.
    where = "--ledger" if options.ledger else str(Path(options.output) / LEDGER_NAME)
    try:
        yield
        return
    except ValueError:
        problem = f"{where}: a row of the ledger cannot be read"
    except ImportError as error:
        problem = f"--ledger: {error}"
    except Exception as error:  # noqa: BLE001 - a database's own errors, of whatever library
        problem = f"{where} cannot be used as a ledger ({type(error).__name__})"
    raise ConfigurationError(f"{problem}; nothing was sent")


def _sqlite_url(folder: Path) -> Any:
    from sqlalchemy import URL  # noqa: PLC0415 - it is there by now

    # Put together, for a folder's name may hold what a URL gives a meaning to.
    return URL.create("sqlite", database=str(folder / LEDGER_NAME))
