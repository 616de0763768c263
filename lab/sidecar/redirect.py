# SPDX-License-Identifier: Apache-2.0
"""Traffic of a workload redirected to its sidecar, as Istio does it: in the workload's own namespace, by NAT.

What the sidecar itself sends is told by its user and left alone, and so is what stays on the loopback address.
"""

from __future__ import annotations

from typing import Final

from lab.errors import HostError
from lab.fabric.namespace_node import NamespaceNode
from lab.sidecar.bootstrap import INBOUND_PORT, OUTBOUND_PORT

__all__ = ["SIDECAR_USER", "TOOLS", "redirect"]

SIDECAR_USER: Final = 1337
"""Istio's; nothing else in a workload runs as this user."""

TOOLS: Final = ("iptables-restore", "ip6tables-restore")
"""One a family."""
_RULES: Final = f"""\
*nat
-A PREROUTING -p tcp -j REDIRECT --to-ports {INBOUND_PORT}
-A OUTPUT -p tcp -m owner --uid-owner {SIDECAR_USER} -j RETURN
-A OUTPUT -p tcp -o lo -j RETURN
-A OUTPUT -p tcp -j REDIRECT --to-ports {OUTBOUND_PORT}
COMMIT
"""


def redirect(host: NamespaceNode) -> None:
    """Put the rules in a workload's namespace, with which they go; raises HostError where they cannot be had."""
    for tool in TOOLS:
        ended = host.run([tool, "--noflush"], stdin=_RULES)
        if ended.returncode:
            raise HostError(
                f"{tool} refuses to redirect the traffic of {host.name} to its sidecar",
                value=ended.stderr.strip(),
                next_step="run 'policylab doctor' to see what this host lacks",
            )
