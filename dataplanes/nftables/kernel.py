# SPDX-License-Identifier: Apache-2.0
"""The kernel's side on one node, through the command ``nft``."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator, Sequence
from typing import Any

from dataplanes.api import Completed, DataplaneError, HostError, Node
from dataplanes.nftables.names import TABLE
from dataplanes.nftables.transaction import Transaction
from dataplanes.nftables.words import Json

__all__ = ["Kernel"]

_TABLE = ("table", "inet", TABLE)
# What "-" means to nft is /dev/stdin, which a machine without udev has not.
_STDIN = "/proc/self/fd/0"
# A table of 100,000 rules takes some seconds.
_SECONDS = 120.0


class Kernel:
    """Runs ``nft`` on a node; raises HostError where it is missing or killed, DataplaneError where it says no."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def commit(self, transaction: Transaction) -> None:
        """Put all commands in force at once, or none; after a HostError nobody knows which."""
        self._run(("nft", "-j", "-f", _STDIN), json.dumps({"nftables": list(transaction)}))

    def counted(self) -> Iterator[tuple[str, int]]:
        """For each rule of our table that counts, its chain and the packets that it has seen."""
        listed: dict[str, list[Json]] = json.loads(self._run(("nft", "-j", "list", *_TABLE)).stdout)
        for found in listed["nftables"]:
            for expression in found.get("rule", {}).get("expr", ()):
                counter: Any = expression.get("counter")
                if counter:
                    yield found["rule"]["chain"], counter["packets"]

    def ruleset(self) -> str:
        """All tables of the node as text."""
        return self._run(("nft", "list", "ruleset")).stdout

    def _run(self, argv: Sequence[str], stdin: str = "") -> Completed:
        try:
            done = self._node.run(argv, stdin=stdin, timeout=_SECONDS)
        except HostError as error:
            if isinstance(error.__cause__, subprocess.TimeoutExpired):
                raise
            raise HostError(
                error.what,
                place=f"node {self._node.name}",
                value=argv[0],
                next_step="apt-get install nftables",
            ) from error
        if done.returncode < 0:
            raise HostError(
                f"{' '.join(argv)} was killed by {signal.Signals(-done.returncode).name}",
                place=f"node {self._node.name}",
                next_step="see what killed it, for instance in dmesg",
            )
        if done.returncode != 0:
            message = done.stderr.strip() or f"exit status {done.returncode}"
            raise DataplaneError(f"{' '.join(argv)} failed: {message}", place=f"node {self._node.name}")
        return done
