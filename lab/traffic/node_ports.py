# SPDX-License-Identifier: Apache-2.0
"""Node ports as a cluster has them beside its dataplane: destination NAT on every node.

A cluster's service proxy also masquerades what it sends to another node, so that replies come back the same
way; here only first packets go through, and what is behind the node sees the real source.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from lab.errors import HostError
from lab.fabric.node import Node
from lab.policy.node_ports import NodePort
from lab.protocols import PROTOCOL_NAMES

__all__ = ["forward_node_ports"]

CHAIN: Final = "lab-node-ports"
_HOOKS: Final = ("PREROUTING", "OUTPUT")
_RESTORE: Final = {4: "iptables-nft-restore", 6: "ip6tables-nft-restore"}


def forward_node_ports(nodes: Iterable[Node], before: Sequence[NodePort], now: Sequence[NodePort]) -> None:
    """Bring the nodes from the node ports of ``before`` to those of ``now``; nothing is run where nothing changes.

    Raises HostError when the host cannot do NAT.
    """
    if tuple(before) == tuple(now):
        return
    for node in nodes:
        for family, command in _RESTORE.items():
            was, will = (_of(ports, family) for ports in (before, now))
            if was != will:
                _restore(node, command, _text(was, will))


def _of(ports: Iterable[NodePort], family: int) -> list[NodePort]:
    return [port for port in ports if port.backend.version == family]


def _text(before: Sequence[NodePort], now: Sequence[NodePort]) -> str:
    """One transaction for the table nat."""
    lines = ["*nat", f":{CHAIN} - [0:0]"]
    lines += [f"-D {hook} -m addrtype --dst-type LOCAL -j {CHAIN}" for hook in _HOOKS if before]
    lines += [f"-A {CHAIN} {_rule(port)}" for port in now]
    lines += [f"-I {hook} -m addrtype --dst-type LOCAL -j {CHAIN}" for hook in _HOOKS if now]
    lines += [] if now else [f"-X {CHAIN}"]
    return "\n".join([*lines, "COMMIT", ""])


def _rule(port: NodePort) -> str:
    protocol = PROTOCOL_NAMES[port.protocol].lower()
    backend = f"[{port.backend}]" if port.backend.version == 6 else str(port.backend)
    return f"-p {protocol} -m {protocol} --dport {port.port} -j DNAT --to-destination {backend}:{port.backend_port}"


def _restore(node: Node, command: str, text: str) -> None:
    done = node.run([command, "--noflush"], stdin=text)
    if done.returncode != 0:
        raise HostError(
            "node ports cannot be had here",
            place=f"node {node.name}",
            value=done.stderr.strip(),
            next_step="see `policylab doctor`",
        )
