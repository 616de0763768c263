# SPDX-License-Identifier: Apache-2.0
"""Blocklists in their common form, a network a line, as a GlobalNetworkSet."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from ipaddress import ip_network

from lab.errors import LabErrors, Place, PolicyError
from lab.topology import Net

__all__ = ["network_set_lines", "read_blocklist", "set_name"]

# What lists put behind a network: comments of shells and of zone files.
_COMMENT = re.compile(r"[#;].*")
# So many complaints say what is wrong with a file.
_MOST_ERRORS = 20
_LONGEST_NAME = 253


def read_blocklist(lines: Iterable[str], file: str) -> tuple[Net, ...]:
    """The networks of a list, each once, in order; an address stands for itself alone, bits behind a prefix for none.

    Raises LabErrors with the places of lines that are no network, PolicyError where there is no network at all.
    """
    nets: dict[Net, None] = {}
    errors: list[PolicyError] = []
    for number, line in enumerate(lines, 1):
        text = _COMMENT.sub("", line).strip()
        if not text:
            continue
        try:
            nets[ip_network(text, strict=False)] = None
        except ValueError:
            place = Place(file, number)
            errors.append(
                PolicyError("no network", place=place, value=text[:80], allowed="an address or ADDRESS/LENGTH")
            )
        if len(errors) == _MOST_ERRORS:
            break
    if errors:
        raise LabErrors(errors)
    if not nets:
        raise PolicyError("a blocklist without a network", place=file, next_step="give a file with one network a line")
    return tuple(nets)


def set_name(text: str) -> str:
    """A name that the API takes, made of any text: lower case, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:_LONGEST_NAME].strip("-") or "blocklist"


def network_set_lines(nets: Iterable[Net], name: str) -> Iterator[str]:
    """The resource as YAML, line by line; its label ``blocklist`` says its name."""
    yield "apiVersion: projectcalico.org/v3"
    yield "kind: GlobalNetworkSet"
    yield f"metadata: {{name: {name}, labels: {{blocklist: {name}}}}}"
    yield "spec:"
    yield "  nets:"
    for net in nets:
        # Quoted, because a list of IPv6 networks would else read as mappings here and there.
        yield f'    - "{net}"'
