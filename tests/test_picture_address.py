"""Which addresses a picture may come from, in every spelling, and what names resolve to."""

from __future__ import annotations

import random
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from langchain_shortapi_flux.picture_address import (
    AddressRefused,
    AddressRules,
    CheckedResolver,
    address_kind,
    system_addresses,
)

PUBLIC = AddressRules(loopback=False)
PRIVATE_TOO = AddressRules(loopback=False, allow_private=True)
ON_THIS_MACHINE = AddressRules(loopback=True)

KINDS = {
    "public": ["93.184.216.34", "1.1.1.1", "2606:4700::1111", "64:ff9b::1.1.1.1", "2002:101:101::"],
    "private": ["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1"],
    "private too": ["fc00::1", "fdff::1", "198.18.0.1", "64:ff9b::10.0.0.1", "2002:a00:1::"],
    "loopback": ["127.0.0.1", "127.255.255.254", "::1", "::ffff:127.0.0.1", "::127.0.0.1"],
    "link-local": ["169.254.0.1", "169.254.169.254", "fe80::1", "fe80::1%eth0"],
    "link-local too": ["::ffff:169.254.169.254", "2002:a9fe:a9fe::1", "64:ff9b::a9fe:a9fe"],
    "metadata": ["168.63.129.16", "100.100.100.200", "192.0.0.192", "fd00:ec2::254"],
    "metadata too": ["fd20:ce::254", "::ffff:168.63.129.16"],
    "unspecified": ["0.0.0.0", "0.1.2.3", "::", "::ffff:0.0.0.0"],
    "multicast": ["224.0.0.1", "239.255.255.250", "ff02::1"],
    "reserved": ["240.0.0.1", "255.255.255.255", "192.0.0.8", "192.0.2.1", "198.51.100.1"],
    "reserved too": ["203.0.113.1", "192.88.99.1", "2001::1", "2001:db8::1", "3fff::1"],
    "reserved as well": ["64:ff9b:1::1", "::ffff:0:127.0.0.1", "100::1", "fec0::1", "4000::1"],
}
ADDRESSES = [(kind.split()[0], one) for kind, several in KINDS.items() for one in several]


@pytest.mark.parametrize(("kind", "address"), ADDRESSES)
def test_every_address_is_of_a_kind(kind: str, address: str) -> None:
    """An address of IPv4 inside one of IPv6 reaches the same machine as by itself."""
    assert address_kind(address) == kind


def test_nothing_is_public_that_python_knows_not_to_be() -> None:
    """The table here is our own; the standard library's is read against it, at random."""
    dice = random.Random(5)
    narrow = [str(IPv4Address(dice.getrandbits(32))) for _ in range(5_000)]
    wide = [str(IPv6Address(dice.getrandbits(128))) for _ in range(1_000)]
    public = [ip_address(one) for one in narrow + wide if address_kind(one) == "public"]
    assert len(public) > 3_500
    assert [one for one in public if not one.is_global or one.is_multicast] == []


@pytest.mark.parametrize(("kind", "address"), ADDRESSES)
def test_only_public_addresses_are_let_through(kind: str, address: str) -> None:
    """A host's name may lead anywhere, so what it leads to is what is judged."""
    if kind == "public":
        PUBLIC.check_address("file.example", address)
        return
    with pytest.raises(AddressRefused, match=f"its address .* is {kind}"):
        PUBLIC.check_address("file.example", address)


@pytest.mark.parametrize(("kind", "address"), ADDRESSES)
def test_private_addresses_are_let_through_by_choice(kind: str, address: str) -> None:
    """A file host of one's own; but nobody keeps pictures where clouds keep credentials."""
    if kind in ("public", "private", "loopback"):
        PRIVATE_TOO.check_address("file.example", address)
        return
    with pytest.raises(AddressRefused) as refused:
        PRIVATE_TOO.check_address("file.example", address)
    assert "allow_private" not in str(refused.value)


def test_a_refusal_names_the_choice_where_there_is_one() -> None:
    """Who runs a file host at home must learn how."""
    with pytest.raises(AddressRefused, match="allow_private=True"):
        PUBLIC.check_address("file.example", "10.0.0.1")


def test_a_service_on_this_machine_has_its_pictures_here_and_nowhere_else() -> None:
    """A sandbox is no reason to let other names lead to this machine's other servers."""
    ON_THIS_MACHINE.check_address("localhost", "127.0.0.1")
    ON_THIS_MACHINE.check_address("127.0.0.1", "127.0.0.1")
    ON_THIS_MACHINE.check_address("file.example", "93.184.216.34")
    for host, address in [
        ("file.example", "127.0.0.1"),
        ("localhost", "10.0.0.1"),
        ("localhost", "93.184.216.34"),
    ]:
        with pytest.raises(AddressRefused):
            ON_THIS_MACHINE.check_address(host, address)


@pytest.mark.parametrize(
    "host",
    [
        *("2130706433", "0x7f000001", "0x7F.1", "017700000001", "127.1", "127.0.1", "0177.0.0.1"),
        *("127.0.0.01", "127.0.0.0x1", "127.0.0.1.", "1.2.3.4.5", "256.1.1.1", "0", "0x", "."),
        *("fe80::1%25eth0", "127%2e0.0.1", "file.example.1", "127.0.0.1", "::1", "::ffff:7f00:1"),
    ],
)
def test_an_address_in_an_odd_spelling_is_refused(host: str) -> None:
    """The libraries and systems on the way each read them in their own way."""
    with pytest.raises(AddressRefused, match="not fetched"):
        PUBLIC.check_host(host)


@pytest.mark.parametrize(
    "host", ["file.example", "xn--bcher-kva.example", "a_b.example", "1.1.1.1"]
)
def test_names_and_public_addresses_are_let_through(host: str) -> None:
    """Names are judged by what they resolve to, later."""
    PUBLIC.check_host(host)


async def _resolved(*addresses: str, rules: AddressRules = PUBLIC) -> list[str]:
    async def answers(_host: str, _port: int) -> list[str]:
        return list(addresses)

    resolver = CheckedResolver(answers, rules)
    found = await resolver.resolve("file.example", 443)
    await resolver.close()
    assert all(one["hostname"] == "file.example" and one["port"] == 443 for one in found)
    assert all(one["flags"] & socket.AI_NUMERICHOST for one in found)
    return [one["host"] for one in found]


async def test_a_name_is_refused_for_one_bad_address_among_good_ones() -> None:
    """Which of them the connection goes to is decided later, and not by us."""
    both = ("93.184.216.34", "2606:4700::1111")
    assert await _resolved(*both) == list(both)
    with pytest.raises(AddressRefused, match=r"file\.example .* 10\.0\.0\.1 is private"):
        await _resolved(*both, "10.0.0.1")


async def test_a_name_without_an_address_cannot_be_resolved() -> None:
    """As when the system says so."""
    with pytest.raises(socket.gaierror):
        await _resolved()


async def test_the_system_resolves_this_machine() -> None:
    """The resolver that is used unless a test brings its own."""
    found = await system_addresses("localhost", 80)
    assert found
    assert {address_kind(address) for address in found} == {"loopback"}
    # It reads the odd spellings that ``check_host`` refuses; were one let through, this is where
    # it would be seen for what it is.
    assert await system_addresses("127.1", 80) == ["127.0.0.1"]
