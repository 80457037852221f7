"""One purchase: its key, and what it has to say to a ledger.

Values only. It knows nothing of when to say them, which is the flow's business.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from langchain_shortapi_flux.ledger import Claim, Ended

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_shortapi_flux.job import Repeat
    from langchain_shortapi_flux.ledger import Entry


@dataclass(frozen=True, slots=True)
class Purchase:
    """Under which key a job is bought.

    Attributes:
        key: What the purchase is known by in the ledger.
        digest: A hash of what is asked for.
        holder: A token of this call alone.
        lease: Seconds that a claim without a job id is believed to be alive.
        on_unknown: What to do where an earlier create has no known outcome.
        on_failed: What to do where the earlier job failed and was refunded.
        wall: Unix seconds, for leases are compared among processes.
        prompt: Kept by keepers that were told to store prompts.
        in_doubt: Whether the claim took the place of a purchase whose outcome nobody knows.
    """

    key: str
    digest: str
    holder: str
    lease: float
    on_unknown: Repeat
    on_failed: Repeat
    wall: Callable[[], float]
    prompt: str
    in_doubt: bool = False

    @property
    def released(self) -> Ended:
        """What frees the key, for no job was made; what was in doubt before stays so."""
        return self.unclear if self.in_doubt else Ended(self.key, "released", holder=self.holder)

    @property
    def unclear(self) -> Ended:
        """What says that nobody can tell whether a job was made."""
        return Ended(self.key, "unknown", holder=self.holder)

    def claim(self, instead_of: str | None = None) -> Claim:
        """What takes the key, or the place of that holder's entry."""
        return Claim(
            key=self.key,
            digest=self.digest,
            holder=self.holder,
            now=self.wall(),
            lease=self.lease,
            instead_of=instead_of,
            prompt=self.prompt,
        )

    def may_replace(self, found: Entry) -> bool:
        """Whether the caller asked to buy again in just this case, and may."""
        if found.job_id is None:
            over = found.state == "unknown" or found.lease_ends <= self.wall()
            return over and self.on_unknown == "buy"
        outcome = found.outcome if isinstance(found.outcome, dict) else {}
        refunded = outcome.get("status") == "failed" and outcome.get("charge") == "refunded"
        return refunded and self.on_failed == "buy"
