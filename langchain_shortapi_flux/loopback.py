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
        address = ip_address(host)
    except ValueError:
        return False
    # Said outright, for Python 3.13 changed its mind on IPv4 addresses in IPv6's clothes.
    return address.is_loopback and getattr(address, "ipv4_mapped", None) is None
