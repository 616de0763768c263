# SPDX-License-Identifier: Apache-2.0
"""Node ports as a cluster has them beside its dataplane: destination NAT on every node.

What comes to a node port behind which nobody is does not arrive at the node either, nor does what is not tracked and
therefore not translated. A cluster's service proxy also masquerades what it sends to another node, so that replies come
back the same way; here only first packets go through, and what is behind the node sees the real source.
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
_HOOKS: Final = {"nat": ("PREROUTING", "OUTPUT"), "mangle": ("INPUT",)}
"""By table. Tables for NAT may not drop, and the one for filtering belongs to dataplanes, which may accept first."""
_UNTRACKED: Final = " -m conntrack --ctstate UNTRACKED"
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
    return [port for port in ports if port.family == family]


def _text(before: Sequence[NodePort], now: Sequence[NodePort]) -> str:
    """A transaction for each of the two tables."""
    lines: list[str] = []
    for table, hooks in _HOOKS.items():
        was, will = (_rules(ports, table) for ports in (before, now))
        if was == will:
            continue
        lines += [f"*{table}", f":{CHAIN} - [0:0]"]
        lines += [f"-D {hook} -m addrtype --dst-type LOCAL -j {CHAIN}" for hook in hooks if was]
        lines += [f"-A {CHAIN} {rule}" for rule in will]
        lines += [f"-I {hook} -m addrtype --dst-type LOCAL -j {CHAIN}" for hook in hooks if will]
        lines += ["COMMIT"] if will else [f"-X {CHAIN}", "COMMIT"]
    return "\n".join([*lines, ""])


def _rules(ports: Iterable[NodePort], table: str) -> list[str]:
    """A table's rules: nat sends on what has somebody behind it, mangle drops what is left."""
    if table == "nat":
        return [f"{_match(port)} -j DNAT --to-destination {_backend(port)}" for port in ports if port.backend]
    return [f"{_match(port)}{_UNTRACKED if port.backend else ''} -j DROP" for port in ports]


def _match(port: NodePort) -> str:
    protocol = PROTOCOL_NAMES[port.protocol].lower()
    return f"-p {protocol} -m {protocol} --dport {port.port}"


def _backend(port: NodePort) -> str:
    backend = f"[{port.backend}]" if port.family == 6 else str(port.backend)
    return f"{backend}:{port.backend_port}"


def _restore(node: Node, command: str, text: str) -> None:
    done = node.run([command, "--noflush"], stdin=text)
    if done.returncode != 0:
        raise HostError(
            "node ports cannot be had here",
            place=f"node {node.name}",
            value=done.stderr.strip(),
            next_step="see `policylab doctor`",
        )
