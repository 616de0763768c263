# SPDX-License-Identifier: Apache-2.0
"""Single values as Calico and Kubernetes write them: names, labels, protocols, ports and networks."""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import ip_address, ip_network

from lab.policy.read.source import Path, Refusal, Source
from lab.policy.resources import PortMatch, PortRange, ProtocolMatch
from lab.protocols import PROTOCOL_NAMES, protocol_number
from lab.schema import suggestion
from lab.topology import Address, Net

__all__ = [
    "calico_port_name",
    "check_labels",
    "dns_label",
    "dns_subdomain",
    "ip",
    "kubernetes_net",
    "label_key",
    "label_value",
    "port_match",
    "port_name",
    "port_number",
    "protocol_match",
    "rule_net",
    "set_net",
]

_CACHED_NETS = 4096
_MAX_PORT = 65535
_MAX_PROTOCOL = 255
_DIGITS = re.compile(r"[0-9]+")
_RANGE = re.compile(r"([0-9]+):([0-9]+)")
_PORT_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_IANA_SERVICE = re.compile(r"(?=.{1,15}\Z)(?=.*[a-z])[a-z0-9]+(?:-[a-z0-9]+)*")
_CIDR = re.compile(r"[0-9A-Fa-f.:]+/[0-9]{1,3}")
_LABEL = r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
_DNS_LABEL = re.compile(_LABEL)
_DNS_SUBDOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_QUALIFIED = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?")
_MAX_LABEL = 63
_MAX_SUBDOMAIN = 253
_PORTS = f'a number from 1 to {_MAX_PORT}, a range "first:last", or a name'
_CIDRS = "a CIDR such as 10.0.0.0/8 or fd00::/64"


def dns_subdomain(text: str) -> str:
    """The name of a resource (RFC 1123 subdomain)."""
    if len(text) > _MAX_SUBDOMAIN or not _DNS_SUBDOMAIN.fullmatch(text):
        raise Refusal(
            "is not a name",
            allowed=f"lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit, "
            f"at most {_MAX_SUBDOMAIN} characters",
        )
    return text


def dns_label(text: str) -> str:
    """The name of a tier or namespace (RFC 1123 label)."""
    if len(text) > _MAX_LABEL or not _DNS_LABEL.fullmatch(text):
        raise Refusal(
            "is not a name",
            allowed=f"lower-case letters, digits and '-', beginning and ending with a letter or digit, no dots, "
            f"at most {_MAX_LABEL} characters",
        )
    return text


def label_key(text: str) -> str:
    """The key of a Kubernetes label: a name of at most 63 characters, with or without a domain before a slash."""
    prefix, slash, name = text.rpartition("/")
    prefix_good = not slash or (len(prefix) <= _MAX_SUBDOMAIN and _DNS_SUBDOMAIN.fullmatch(prefix))
    if not prefix_good or len(name) > _MAX_LABEL or not _QUALIFIED.fullmatch(name):
        raise Refusal(
            "is not the key of a label",
            allowed=f"letters, digits, '-', '_' and '.', at most {_MAX_LABEL}, after an optional domain and a slash",
        )
    return text


def label_value(text: str) -> str:
    """The value of a Kubernetes label, which may be empty."""
    if len(text) > _MAX_LABEL or (text and not _QUALIFIED.fullmatch(text)):
        raise Refusal(
            "is not the value of a label",
            allowed=f"letters, digits, '-', '_' and '.', beginning and ending with a letter or digit, "
            f"at most {_MAX_LABEL} characters",
        )
    return text


def check_labels(source: Source, path: Path, labels: dict[str, str]) -> None:
    """Refuse the labels that Kubernetes would refuse."""
    for key, value in labels.items():
        try:
            label_key(key)
        except Refusal as refusal:
            source.refuse((*path, key), refusal.what, key=True, allowed=refusal.allowed)
        source.read((*path, key), label_value, value)


def protocol_match(value: object) -> ProtocolMatch:
    """A protocol as Calico takes it: one of six names in any case, or a number from 1 to 255, also as text."""
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        value = _number(value)
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MAX_PROTOCOL:
        return ProtocolMatch(value, by_name=False)
    number = protocol_number(value) if isinstance(value, str) else None
    if number is None:
        names = list(PROTOCOL_NAMES.values())
        raise Refusal(
            "is not a protocol",
            allowed=f"{', '.join(names)}, or a number from 1 to {_MAX_PROTOCOL}",
            next_step=suggestion(value.upper(), names) if isinstance(value, str) else None,
        )
    return ProtocolMatch(number, by_name=True)


def port_match(value: object) -> PortMatch:
    """A port of a Calico rule: a number, a range ``first:last``, or a name; text of digits alone is a number."""
    if isinstance(value, int) and not isinstance(value, bool):
        return _port_range(value, value)
    if not isinstance(value, str):
        raise Refusal("is not a port", allowed=_PORTS)
    if _DIGITS.fullmatch(value):
        return _port_range(_number(value), _number(value))
    if ends := _RANGE.fullmatch(value):
        return _port_range(_number(ends[1]), _number(ends[2]))
    if not _PORT_NAME.fullmatch(value):
        raise Refusal("is not a port", allowed=_PORTS)
    return value


def _number(digits: str) -> int:
    """The number that the digits write, or one that is out of range when there are absurdly many."""
    return int(digits) if len(digits) <= 9 else _MAX_PORT + 1


def _port_range(first: int, last: int) -> PortRange:
    if not (1 <= first <= _MAX_PORT and 1 <= last <= _MAX_PORT):
        raise Refusal("is not a port", allowed=_PORTS)
    if first > last:
        raise Refusal("is a range that ends before it begins", next_step=f'did you mean "{last}:{first}"?')
    return PortRange(first, last)


def port_number(value: object) -> int:
    """A port number of Kubernetes."""
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _MAX_PORT:
        raise Refusal("is not a port number", allowed=f"a number from 1 to {_MAX_PORT}")
    return value


def port_name(value: str) -> str:
    """A port name of Kubernetes (an IANA service name, RFC 6335)."""
    if not _IANA_SERVICE.fullmatch(value):
        raise Refusal(
            "is not the name of a port",
            allowed="at most 15 lower-case letters, digits and single '-', with a letter among them",
            next_step="write a number without quotes" if _DIGITS.fullmatch(value) else None,
        )
    return value


def calico_port_name(text: str) -> str:
    """A port name of Calico, which may be more than one of Kubernetes."""
    if not _PORT_NAME.fullmatch(text):
        raise Refusal("is not the name of a port", allowed="1 to 128 letters, digits, '_', '.' and '-'")
    return text


def ip(text: str) -> Address:
    """A bare address."""
    try:
        if "%" not in text:
            return ip_address(text)
    except ValueError:
        pass
    raise Refusal("is not an address", allowed="an IPv4 or IPv6 address without a prefix length")


def rule_net(text: str) -> Net:
    """A network of a Calico rule: a CIDR without host bits."""
    net = _cidr(text)
    address, _, _ = text.partition("/")
    if ip_address(address) != net.network_address:
        raise Refusal(
            "has bits set behind its prefix", allowed=_CIDRS, next_step=f"write {net} or {address}/{net.max_prefixlen}"
        )
    return net


def set_net(text: str) -> Net:
    """A member of a network set: a CIDR, whose host bits do not count, or a bare address."""
    if "/" in text:
        return _cidr(text)
    try:
        return ip_network(ip_address(text))
    except ValueError:
        raise Refusal("is not a network", allowed=f"{_CIDRS}, or an address") from None


def kubernetes_net(text: str) -> Net:
    """A CIDR of an ipBlock; as in Kubernetes, host bits do not count."""
    return _cidr(text)


@lru_cache(maxsize=_CACHED_NETS)  # one network stands in many rules, and each is asked for twice
def _cidr(text: str) -> Net:
    """A CIDR with its host bits cleared."""
    try:
        if _CIDR.fullmatch(text):
            return ip_network(text, strict=False)
    except ValueError:
        pass
    raise Refusal("is not a network", allowed=_CIDRS, next_step=_net_advice(text))


def _net_advice(text: str) -> str | None:
    """What to do about a network that could not be read, where that can be told."""
    address, slash, _ = text.partition("/")
    try:
        length = ip_address(address).max_prefixlen
    except ValueError:
        return None
    return f"the prefix length is from 0 to {length}" if slash else f"write {address}/{length}"
