"""Which addresses of the internet protocol belong to everybody."""

from __future__ import annotations

import ipaddress

_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def is_public(text: str) -> bool:
    """Return whether an IP address is a host of the public internet.

    Private, loopback, link-local, multicast, reserved and unspecified addresses are not, and
    neither are IPv6 addresses that stand for an IPv4 address which is not.

    Args:
        text: An address as `socket.getaddrinfo` returns it.
    """
    address = ipaddress.ip_address(text.partition("%")[0])  # without the interface
    if isinstance(address, ipaddress.IPv6Address):
        inner = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
        if address in _NAT64:
            inner.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        found = [ip for ip in inner if ip is not None]
        if found:
            return all(is_public(str(ip)) for ip in found)
        if address.is_site_local:
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved
