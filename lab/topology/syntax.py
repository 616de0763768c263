# SPDX-License-Identifier: Apache-2.0
"""What names, labels and addresses of a topology may look like, as types for pydantic models.

Names and labels follow the Kubernetes API (RFC 1123 labels; label keys and values), port names Calico's
WorkloadEndpoint, interface names the Linux kernel.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Annotated, Any

from pydantic import AfterValidator, PlainValidator

from lab.schema import refusal
from lab.topology.model import Address, Net

__all__ = [
    "AddressText",
    "InterfaceName",
    "Ipv4Pool",
    "Ipv6Pool",
    "LabelKey",
    "LabelValue",
    "Name",
    "PortName",
    "ProfileName",
    "WorkloadName",
    "useless",
]

_LABEL = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
_LABEL_WORDS = "at most 63 lower-case letters, digits and '-', first and last no '-'"
_QUALIFIED = r"[A-Za-z0-9](?:[-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?"
_QUALIFIED_WORDS = "at most 63 letters, digits, '-', '_' and '.', first and last a letter or digit"
_SUBDOMAIN = rf"(?=.{{1,253}}(?:/|$)){_LABEL}(?:\.{_LABEL})*"

_RESERVED = tuple(
    (ip_network(net), why)
    for net, why in (
        ("0.0.0.0/8", "means this host"),
        ("127.0.0.0/8", "is a loopback address"),
        ("169.254.0.0/16", "is link-local"),
        ("224.0.0.0/4", "is multicast"),
        ("240.0.0.0/4", "is reserved"),
        ("::/127", "is the unspecified or the loopback address"),
        ("::ffff:0:0/96", "is an IPv4 address in disguise"),
        ("fe80::/10", "is link-local"),
        ("ff00::/8", "is multicast"),
    )
)


def useless(net: Net) -> str | None:
    """Say why no end can have an address of this network, or None when it can."""
    return next(
        (why for reserved, why in _RESERVED if reserved.version == net.version and reserved.overlaps(net)), None
    )


def _pattern(pattern: str, what: str, allowed: str) -> Callable[[str], str]:
    compiled = re.compile(pattern)

    def check(text: str) -> str:
        if compiled.fullmatch(text) is None:
            raise refusal(what, allowed=allowed)
        return text

    return check


_INTERFACE_WORDS = "at most 15 bytes, no blank, '/' or ':'; not lo, eth0 (the underlay), all, default or cali..."
_TAKEN_INTERFACES = {".", "..", "lo", "eth0", "all", "default"}


def _interface(text: str) -> str:
    well_formed = 1 <= len(text.encode()) <= 15 and text.isascii() and re.search(r"[\s/:\x00-\x1f]", text) is None
    if not well_formed or text in _TAKEN_INTERFACES or text.startswith("cali"):
        raise refusal("is not an interface name that a link can have", allowed=_INTERFACE_WORDS)
    return text


def _address(value: Any) -> Address:
    allowed = "an IPv4 or IPv6 address without prefix length and zone"
    if not isinstance(value, str) or "%" in value:
        raise refusal("is not an address", allowed=allowed)
    try:
        address = ip_address(value)
    except ValueError:
        raise refusal("is not an address", allowed=allowed) from None
    if (why := useless(ip_network(address))) is not None:
        raise refusal(f"is no address for an end: it {why}", allowed="a unicast address")
    return address


def _pool(kind: type[IPv4Network | IPv6Network], example: str) -> Callable[[Any], Net]:
    def parse(value: Any) -> Net:
        allowed = f"a network such as {example}"
        if not isinstance(value, str) or "/" not in value:
            raise refusal("is not a network", allowed=allowed)
        try:
            net = kind(value, strict=False)
        except ValueError:
            raise refusal("is not a network", allowed=allowed) from None
        if ip_address(value.partition("/")[0]) != net.network_address:
            raise refusal("has bits beyond its prefix", next_step=f"write {net}")
        if (why := useless(net)) is not None:
            raise refusal(f"is no pool of addresses for ends: some of it {why}", allowed="unicast addresses")
        return net

    return parse


Name = Annotated[str, AfterValidator(_pattern(_LABEL, "is not a name", _LABEL_WORDS))]
"""The name of a topology, node, namespace, service account or external."""
WorkloadName = Annotated[
    str,
    AfterValidator(
        _pattern(f"{_LABEL}/{_LABEL}", "is not a workload's name", f"namespace/name, of each {_LABEL_WORDS}"),
    ),
]
LabelKey = Annotated[
    str,
    AfterValidator(
        _pattern(
            rf"(?:{_SUBDOMAIN}/)?{_QUALIFIED}",
            "is not a label's key",
            f"{_QUALIFIED_WORDS}; with or without a DNS name and '/' before it",
        )
    ),
]
LabelValue = Annotated[
    str, AfterValidator(_pattern(rf"(?:{_QUALIFIED})?", "is not a label's value", f"nothing, or {_QUALIFIED_WORDS}"))
]
PortName = Annotated[
    str,
    AfterValidator(
        _pattern(r"[A-Za-z0-9_.-]{1,128}", "is not a port's name", "1 to 128 letters, digits, '_', '.' and '-'")
    ),
]
ProfileName = Annotated[
    str,
    AfterValidator(_pattern(_SUBDOMAIN, "is not a profile's name", "a lower-case DNS name, at most 253 characters")),
]
InterfaceName = Annotated[str, AfterValidator(_interface)]
AddressText = Annotated[Address, PlainValidator(_address)]
Ipv4Pool = Annotated[IPv4Network, PlainValidator(_pool(IPv4Network, "198.18.0.0/16"))]
Ipv6Pool = Annotated[IPv6Network, PlainValidator(_pool(IPv6Network, "fd00:18::/32"))]
