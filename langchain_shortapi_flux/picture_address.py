"""Which addresses a picture may be fetched from, and a resolver that hands out no others.

A URL comes from outside, and so does what a name resolves to: it could lead into the network that
this machine stands in. It knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from aiohttp.abc import AbstractResolver, ResolveResult
from typing_extensions import override

from langchain_shortapi_flux.loopback import is_loopback

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Gives the addresses of a host name and port, as text."""

# IANA's registries of special addresses, by what they mean here. Python's own `is_private` and
# `is_global` changed between patch releases, and know neither clouds nor embedded addresses.
_KINDS = {
    # Where clouds keep a machine's credentials. Link-local for most; these are those that are not:
    # Azure, Alibaba, Oracle, Amazon over IPv6, Google over IPv6.
    "metadata": "168.63.129.16 100.100.100.200 192.0.0.192 fd00:ec2::254 fd20:ce::254",
    "unspecified": "0.0.0.0/8 ::/128",
    "loopback": "127.0.0.0/8 ::1/128",
    "link-local": "169.254.0.0/16 fe80::/10",
    "multicast": "224.0.0.0/4 ff00::/8",
    # 198.18.0.0/15 is for benchmarks, but local proxies answer every name with addresses of it.
    "private": "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 100.64.0.0/10 198.18.0.0/15 fc00::/7",
    "reserved": "192.0.0.0/24 192.0.2.0/24 192.88.99.0/24 198.51.100.0/24 203.0.113.0/24 "
    "240.0.0.0/4 2001::/23 2001:db8::/32 3fff::/20",
}
_NETWORKS = [(kind, ip_network(one)) for kind, text in _KINDS.items() for one in text.split()]
_PUBLIC_IPV6 = ip_network("2000::/3")
_NAT64 = ip_network("64:ff9b::/96")
_PRIVATE_KINDS = ("private", "loopback")


class AddressRefused(Exception):
    """A picture is not fetched from there."""


@dataclass(frozen=True)
class AddressRules:
    """Where pictures may come from.

    Attributes:
        loopback: Whether the service itself runs on this machine, so that its pictures may too.
        allow_private: Whether private and loopback addresses are allowed as well. Metadata,
            link-local, multicast, reserved and unspecified addresses never are.
    """

    loopback: bool
    allow_private: bool = False

    def check_host(self, host: str) -> None:
        """Let names through, whose addresses are checked later, and addresses that are allowed.

        Raises:
            AddressRefused: It is an address that is not, or one in an odd spelling, of which HTTP
                libraries and operating systems make different things (2130706433, 0x7f.1, 127.1).
        """
        try:
            ip_address(host)
        except ValueError:
            last = host.rstrip(".").rpartition(".")[2]
            if re.fullmatch(r"[0-9]*|0[xX][0-9a-fA-F]*", last):
                problem = f"{host} is not fetched from: it is no host name, and no address in its "
                raise AddressRefused(problem + "usual spelling") from None
        else:
            self.check_address(host, host)

    def check_address(self, host: str, address: str) -> None:
        """Let an address of a host through if it is public, or allowed by choice.

        Raises:
            AddressRefused: It is not.
        """
        kind = address_kind(address)
        if self.loopback and is_loopback(host):
            allowed = kind == "loopback"
        else:
            allowed = kind == "public" or (self.allow_private and kind in _PRIVATE_KINDS)
        if not allowed:
            which = "this address" if host == address else f"its address {address}"
            choice = " (allow_private=True allows it)" if kind in _PRIVATE_KINDS else ""
            raise AddressRefused(f"{host} is not fetched from: {which} is {kind}{choice}")


def address_kind(address: str) -> str:
    """What an address is: public, private, loopback, link-local, metadata and so on.

    An IPv6 address that embeds one of IPv4 (mapped, compatible, 6to4, NAT64) is what that one is.
    """
    ip = ip_address(address.partition("%")[0])
    ip = _embedded(ip) or ip
    for kind, network in _NETWORKS:
        if ip in network:
            return kind
    return "public" if ip.version == 4 or ip in _PUBLIC_IPV6 else "reserved"


def _embedded(ip: IPv4Address | IPv6Address) -> IPv4Address | None:
    if isinstance(ip, IPv4Address):
        return None
    if ip in _NAT64 or 1 < int(ip) < 2**32:  # NAT64, and "compatible", which ended in 2006
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour


async def system_addresses(host: str, port: int) -> Sequence[str]:
    """What the operating system resolves a name to. How long that may take is its own setting."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class CheckedResolver(AbstractResolver):
    """Resolves each name once for each connection, and gives its addresses if all are allowed.

    The connection is made to just these, so that a name whose answers change gains nothing.
    """

    def __init__(self, resolve: Resolve, rules: AddressRules) -> None:
        self._resolve = resolve
        self._rules = rules

    @override
    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The checked addresses of a name.

        Raises:
            AddressRefused: One of them is not allowed.
            OSError: There are none.
        """
        addresses = await self._resolve(host, port)
        for address in addresses:
            self._rules.check_address(host, address)
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "no address")
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address in addresses
        ]

    @override
    async def close(self) -> None:
        """Nothing is held open."""
