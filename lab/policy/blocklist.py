# SPDX-License-Identifier: Apache-2.0
"""Blocklists in their common form, a network a line, as a GlobalNetworkSet."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from lab.errors import LabErrors, Place, PolicyError

__all__ = ["network_set_lines", "read_blocklist", "set_name"]

# What lists put behind a network: comments of shells and of zone files.
_COMMENT = re.compile(r"[#;].*", re.DOTALL)
# So many complaints say what is wrong with a file.
_MOST_ERRORS = 20
_LONGEST_NAME = 253
_ALLOWED = "an address or ADDRESS/LENGTH"


def read_blocklist(lines: Iterable[str], file: str) -> tuple[str, ...]:
    """The networks of a list in their usual form, each once, in order.

    An address stands for itself alone, bits behind a prefix for none. A million lines take some seconds.
    Raises LabErrors with the places of lines that are no network, PolicyError where there is no network at all.
    """
    nets: dict[str, None] = {}
    errors: list[PolicyError] = []
    for number, line in enumerate(lines, 1):
        text = _COMMENT.sub("", line).strip()
        if not text:
            continue
        net = _network(text)
        if net is not None:
            nets[net] = None
            continue
        place = Place(file, number, line.index(text) + 1)
        errors.append(PolicyError("no network", place=place, value=text[:80], allowed=_ALLOWED))
        if len(errors) == _MOST_ERRORS:
            break
    if errors:
        raise LabErrors(errors)
    if not nets:
        raise PolicyError("a blocklist without a network", place=file, next_step="give a file with one network a line")
    return tuple(nets)


def _network(text: str) -> str | None:
    """The network in its usual form, or None. The C library reads it: ``ipaddress`` takes five times as long."""
    address, slash, length = text.partition("/")
    family = AF_INET6 if ":" in address else AF_INET
    try:
        packed = inet_pton(family, address)
    except (OSError, ValueError):
        return None
    bits = len(packed) * 8
    if not slash:
        return f"{inet_ntop(family, packed)}/{bits}"
    if not (length.isascii() and length.isdigit()) or int(length) > bits:
        return None
    open_bits = bits - int(length)
    first = int.from_bytes(packed) >> open_bits << open_bits
    return f"{inet_ntop(family, first.to_bytes(len(packed)))}/{int(length)}"


def set_name(text: str) -> str:
    """A name that the API takes, made of any text: lower case, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:_LONGEST_NAME].strip("-") or "blocklist"


def network_set_lines(nets: Iterable[str], name: str) -> Iterator[str]:
    """The resource as YAML, line by line; its label ``blocklist`` says its name."""
    yield "apiVersion: projectcalico.org/v3"
    yield "kind: GlobalNetworkSet"
    yield f"metadata: {{name: {name}, labels: {{blocklist: {name}}}}}"
    yield "spec:"
    yield "  nets:"
    for net in nets:
        # Quoted, because a list of IPv6 networks would else read as mappings here and there.
        yield f'    - "{net}"'
