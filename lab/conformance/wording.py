# SPDX-License-Identifier: Apache-2.0
"""How flows and decisions are put into words, wherever they are shown."""

from __future__ import annotations

from lab.conformance.results import Row, decision_to_dict
from lab.protocols import protocol_label
from lab.topology import Flow

__all__ = ["decision_text", "flow_text"]


def flow_text(flow: Flow) -> str:
    """Protocol and ports of a flow: ``80/TCP``, ``ICMP 8/0``."""
    name = str(protocol_label(flow.protocol))
    if flow.icmp is not None:
        return f"{name} {flow.icmp.type}/{flow.icmp.code}"
    ports = name if flow.port is None else f"{flow.port}/{name}"
    if flow.http is not None:
        return f"{ports} {flow.http.method} {flow.http.path}"
    return ports if flow.source_port is None else f"{ports} from {flow.source_port}"


def decision_text(row: Row) -> str:
    """What decided, in one phrase with its place."""
    told = decision_to_dict(row.verdict.decided_by)
    place = f" ({told['file']}:{told['line']})" if "file" in told else ""
    direction = told["direction"] or "path"
    if "default" in told:
        owner = f" {told['owner']}" if "owner" in told else ""
        return f"{direction}: {told['default']}{owner}{place}"
    home = f"{told['namespace']}/" if told["namespace"] else ""
    return f"{direction}: {told['tier']}/{told['kind']} {home}{told['name']} rule {told['rule']}{place}"
