"""transforms.storage.public_addresses: every spelling of an inner address is refused, and no public one is."""

import socket

import pytest

from transforms.storage.public_addresses import is_public


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "2a00:1450:4001::1", "64:ff9b::808:808", "2002:808:808::1"]
)
def test_the_public_internet(address):
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.255.255.254", "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1"),  # noqa: S104 - an address to refuse
        *("169.254.169.254", "100.64.0.1", "100.100.100.200", "192.0.0.192", "168.63.129.16", "198.18.0.1"),
        *("192.0.2.1", "203.0.113.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255"),
        *("::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "fd20:ce::254", "fec0::1", "ff02::1"),
        *("100::1", "2001:db8::1", "3fff::1", "5f00::1"),
        # IPv6 forms of inner IPv4 addresses: mapped, translated, compatible, NAT64, 6to4, Teredo.
        *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:10.0.0.1", "::ffff:0:127.0.0.1", "::7f00:1"),
        *("::a9fe:a9fe", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b::a83f:8110", "64:ff9b:1::a9fe:a9fe"),
        *("2002:7f00:1::", "2002:a9fe:a9fe::1", "2002:a00:1::", "2001:0:7f00:1::", "2001:0:4136:e378::"),
    ],
)
def test_what_is_no_part_of_it(address):
    assert not is_public(address)


def test_every_address_of_this_machine_but_public_ones():
    names = {info[4][0] for info in socket.getaddrinfo("localhost", 80)}
    assert names and not any(map(is_public, names))


def test_what_is_no_address():
    with pytest.raises(ValueError, match="does not appear to be"):
        is_public("localhost")
