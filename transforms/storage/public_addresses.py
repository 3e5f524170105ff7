"""Which addresses belong to the public internet, and not to this machine, its network or its cloud. No Beam."""

import ipaddress
from collections.abc import Iterator

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Unicast IPv6 that is assigned to the internet: RFC 4291, section 2.4.
_UNICAST = ipaddress.IPv6Network("2000::/3")
# Its last 32 bits are an IPv4 address, to which a NAT64 gateway connects: RFC 6052, section 2.1.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# What some versions of Python call global: protocol assignments (RFC 6890), where Oracle's cloud has metadata, and
# documentation (RFC 9637). And the agent of Azure's virtual machines, at an address that is public elsewhere:
# https://learn.microsoft.com/en-us/azure/virtual-network/what-is-ip-address-168-63-129-16
_NOT_PUBLIC = tuple(map(ipaddress.ip_network, ("192.0.0.0/24", "3fff::/20", "168.63.129.16/32")))


def is_public(address: str) -> bool:
    """Returns whether an IPv4 or IPv6 address, as in a socket's name, is one of the public internet.

    IPv6 addresses that stand for an IPv4 address are as public as that one.

    >>> is_public("8.8.8.8"), is_public("169.254.169.254"), is_public("64:ff9b::a9fe:a9fe")
    (True, False, False)
    """
    return all(map(_is_public, _reached(ipaddress.ip_address(address.partition("%")[0]))))


def _reached(address: _Address) -> Iterator[_Address]:
    """Yields an address, or the one to which a gateway connects in its place."""
    if isinstance(address, ipaddress.IPv6Address) and address in _NAT64:
        address = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    yield address
    if isinstance(address, ipaddress.IPv6Address) and address.sixtofour:
        yield address.sixtofour


def _is_public(address: _Address) -> bool:
    if any(address in network for network in _NOT_PUBLIC):
        return False
    # Teredo, mapped and compatible addresses are none of _UNICAST, or not global. The address of a multicast group is.
    if isinstance(address, ipaddress.IPv6Address):
        return address in _UNICAST and (address.is_global or address.sixtofour is not None)
    return address.is_global and not address.is_multicast
