# SPDX-License-Identifier: Apache-2.0
"""Reads the configuration of an RBAC filter the way Envoy does: the first test that holds decides."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True)
class Connection:
    """What a filter can know of a connection, and of a request on it."""

    source: str
    source_port: int
    destination: str
    port: int
    peer: str | None = None
    method: str | None = None
    path: str | None = None

    def value(self, given: Json) -> str | None:
        known = {
            "source_ip": self.source,
            "source_port": str(self.source_port),
            "destination_ip": self.destination,
            "destination_port": str(self.port),
            "uri_san": self.peer,
        }
        if given["name"] != "header":
            return known[given["name"]]
        return {":method": self.method, ":path": self.path}[given["typed_config"]["header_name"]]


def allows(file: str, connection: Connection) -> bool:
    """What the filter with this file says."""
    (extension,) = json.loads(file)["resources"]
    matcher = extension["typed_config"]["matcher"]
    for each in matcher.get("matcher_list", {}).get("matchers", ()):
        if _holds(each["predicate"], connection):
            return _allowed(each["on_match"])
    return _allowed(matcher["on_no_match"])


def _allowed(outcome: Json) -> bool:
    return outcome["action"]["typed_config"]["action"] == "ALLOW"


def _holds(predicate: Json, connection: Connection) -> bool:
    ((kind, inner),) = predicate.items()
    if kind == "not_matcher":
        return not _holds(inner, connection)
    if kind != "single_predicate":
        assert len(inner["predicate"]) >= 2  # Envoy refuses fewer
        return {"and_matcher": all, "or_matcher": any}[kind](_holds(each, connection) for each in inner["predicate"])
    value = connection.value(inner["input"])
    assert value is not None, "Envoy finds neither a test nor its opposite true of what is not there"
    if "custom_match" in inner:
        ranges = inner["custom_match"]["typed_config"]["cidr_ranges"]
        return any(ip_address(value) in ip_network(f"{each['address_prefix']}/{each['prefix_len']}") for each in ranges)
    return re.fullmatch(inner["value_match"]["safe_regex"]["regex"], value) is not None
