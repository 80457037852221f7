"""What a run's trace says of money: who was paid, and the charged cost, as the service reports it.

It knows how LangSmith wants to be told, and estimates nothing. Where nobody traces, it is silent.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from decimal import Decimal
from typing import TYPE_CHECKING

from langchain_core.runnables.config import var_child_runnable_config

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from langchain_shortapi_flux.errors import Charge
    from langchain_shortapi_flux.job import FluxJob

PROVIDER = "shortapi"


def traced_config(config: RunnableConfig | None, model: str) -> RunnableConfig:
    """The config, with the provider's and the model's name as LangSmith reads them.

    They win over what a run around this one has handed down: that names another's model.
    """
    given: RunnableConfig = config if config is not None else {}
    metadata = given.get("metadata")
    if metadata is None:
        metadata = (var_child_runnable_config.get() or {}).get("metadata") or {}
    names = {"ls_provider": PROVIDER, "ls_model_name": model}
    return {**given, "metadata": {**metadata, **names}}


def net_cost(charge: Charge, cost: Decimal, refunded: Decimal | None) -> Decimal:
    """USD that a job has cost in the end, as far as the service reports it: refunds are taken off.

    A refund whose amount is not told is one of the whole.
    """
    back = (refunded or cost) if charge == "refunded" else Decimal(0)
    return max(cost - back, Decimal(0))


class TracedCost:
    """Writes what a call was charged onto its run, as the snapshots come."""

    def __init__(self) -> None:
        self._bought: bool | None = None
        self._written: Decimal | None = None

    def see(self, job: FluxJob) -> None:
        """Take note of a snapshot. A job that this call found in the ledger cost it nothing."""
        if self._bought is None:
            self._bought = job.status == "pending" and job.charge == "charged"
        if not self._bought or job.cost is None:
            return
        cost = net_cost(job.charge, job.cost, job.refunded)
        if cost != self._written:
            self._written = cost
            _write(cost)


def _write(cost: Decimal) -> None:
    helpers = sys.modules.get("langsmith.run_helpers")
    if helpers is None:
        return
    with suppress(Exception):  # a tracer's trouble must never become the job's
        run = helpers.get_current_run_tree()
        if run is not None:
            run.set(usage_metadata={"total_cost": float(cost)})
