# SPDX-License-Identifier: Apache-2.0
"""Nodes that stop forwarding and begin again, as an administrator would have it; no dataplane has a say in that."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from lab.fabric.node import Node

__all__ = ["set_forwarding"]

_SYSCTLS = ("ipv4.ip_forward", "ipv6.conf.all.forwarding")


def set_forwarding(nodes: Iterable[Node], before: Collection[str], now: Collection[str]) -> None:
    """Have those nodes forward that should ``now``, and no other; those that stay as ``before`` are left alone."""
    for node in nodes:
        if (node.name in before) is not (node.name in now):
            for sysctl in _SYSCTLS:
                node.write_sysctl(sysctl, str(int(node.name in now)))
