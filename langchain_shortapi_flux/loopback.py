"""Which hosts mean this machine: only to them may anything go over plain http."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address


@lru_cache(maxsize=256)  # asked with each job, of the same few hosts
def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
