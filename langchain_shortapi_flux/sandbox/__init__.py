"""Knows what the sandbox offers: a local ShortAPI for tests, notebooks and first steps.

It must not know the client: nothing here is shared with it, so that a misreading of the service
on one side shows as a difference. Pictures are drawn, not generated; nothing costs money.

Example:
    >>> with Sandbox() as sandbox:
    ...     print(sandbox.base_url.startswith("http://127.0.0.1:"))
    True
"""

from langchain_shortapi_flux.sandbox.call_log import Call
from langchain_shortapi_flux.sandbox.faults import Fault
from langchain_shortapi_flux.sandbox.job_book import Charge, SandboxJob
from langchain_shortapi_flux.sandbox.sandbox import Sandbox

__all__ = ["Call", "Charge", "Fault", "Sandbox", "SandboxJob"]
