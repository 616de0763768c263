# SPDX-License-Identifier: Apache-2.0
"""The kernel's side on one node: changed through libnftables, listed by the command ``nft``."""

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
# A table of 100,000 rules takes some seconds.
_SECONDS = 120.0


class Kernel:
    """nftables on a node; raises HostError where it is missing or was killed, DataplaneError where it says no."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def commit(self, transaction: Transaction) -> None:
        """Put all commands in force at once, or none; after a HostError nobody knows which."""
        self._checked(self._node.nft(json.dumps({"nftables": list(transaction)})))

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

    def _run(self, argv: Sequence[str]) -> Completed:
        try:
            done = self._node.run(argv, timeout=_SECONDS)
        except HostError as error:
            if isinstance(error.__cause__, subprocess.TimeoutExpired):
                raise
            raise HostError(
                error.what,
                place=f"node {self._node.name}",
                value=argv[0],
                next_step="apt-get install nftables",
            ) from error
        return self._checked(done)

    def _checked(self, done: Completed) -> Completed:
        command = " ".join(done.argv)
        if done.returncode < 0:
            raise HostError(
                f"{command} was killed by {signal.Signals(-done.returncode).name}",
                place=f"node {self._node.name}",
                next_step="see what killed it, for instance in dmesg",
            )
        if done.returncode != 0:
            message = done.stderr.strip() or f"exit status {done.returncode}"
            raise DataplaneError(f"{command} failed: {message}", place=f"node {self._node.name}")
        return done
