# SPDX-License-Identifier: Apache-2.0
"""The kernel's side on one node: the tables of each family, and the IP sets, through their commands."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence

from dataplanes.api import Completed, DataplaneError, HostError, LabError, Node
from dataplanes.iptables.ruleset import Ruleset
from dataplanes.iptables.sets import Family, KernelSet, restore_text
from dataplanes.iptables.text import NOTHING, Installed, adopted, installed
from dataplanes.iptables.transaction import change

__all__ = ["SetStore", "Tables"]

_TOOLS: Mapping[Family, str] = {4: "iptables", 6: "ip6tables"}
# Who else changes the legacy table of this namespace has to wait, and nobody else: the lock is the namespace itself.
_LEGACY_LOCK = ("env", "XTABLES_LOCKFILE=/proc/self/ns/net")
_LOCK_SECONDS = 10
_FAILED_LINE = re.compile(r"\bline:? (\d+)\b")
# What iptables says of a match, a target or a table that neither the kernel nor a module of it has.
_LACKING_MODULE = re.compile(
    r"Extension (\w+) revision \d+ not supported|Couldn't load (?:match|target) [`'](\w+)"
    r"|initialize (?:ip6?tables )?table [`'](\w+)"
)

# The kernel frees the rules of an nftables transaction a moment after the commit; only then are their sets free.
_SET_RELEASE_SECONDS = 5.0
_SET_RELEASE_POLL_SECONDS = 0.005


def _run(node: Node, argv: Sequence[str], package: str, stdin: str = "") -> Completed:
    """Run a command; a DataplaneError tells how it failed and at which line of its input.

    Raises HostError where the command or a kernel module that it needs is missing, or where something kills it.
    """
    try:
        done = node.run(argv, stdin=stdin)
    except HostError as error:
        if isinstance(error.__cause__, subprocess.TimeoutExpired):
            raise
        raise HostError(
            error.what, place=f"node {node.name}", value=argv[0], next_step=f"apt-get install {package}"
        ) from error
    if done.returncode < 0:  # nobody knows what it has done
        raise HostError(
            f"{' '.join(argv)} was killed by {signal.Signals(-done.returncode).name}",
            place=f"node {node.name}",
            next_step="see what killed it, for instance in dmesg",
        )
    if done.returncode != 0:
        message = done.stderr.strip() or f"exit status {done.returncode}"
        lacking = _LACKING_MODULE.search(message)
        if lacking is not None:
            raise HostError(
                f"{' '.join(argv)} asks for what this kernel lacks: {message}",
                place=f"node {node.name}",
                value=f"table {lacking[3]}" if lacking[3] else f"xt_{lacking[1] or lacking[2]}",
                next_step="load that module, or use a kernel that has it",
            )
        raise DataplaneError(
            f"{' '.join(argv)} failed: {message}", place=f"node {node.name}", value=_line(stdin, message)
        )
    return done


def _line(text: str, message: str) -> str | None:
    """The line of the input that the message points at."""
    found = _FAILED_LINE.search(message)
    lines = text.splitlines()
    return lines[int(found[1]) - 1] if found and 0 < int(found[1]) <= len(lines) else None


class Tables:
    """The tables of one family; ``ruleset`` is what of ours is in force in them, None for nothing."""

    def __init__(self, node: Node, family: Family, *, legacy: bool) -> None:
        tool = f"{_TOOLS[family]}-{'legacy' if legacy else 'nft'}"
        self._node = node
        self._save = f"{tool}-save"
        self._restore: tuple[str, ...] = (f"{tool}-restore", "--noflush")
        if legacy:
            self._restore = (*_LEGACY_LOCK, *self._restore, "--wait", str(_LOCK_SECONDS))
        self._installed: Installed | None = NOTHING
        self.ruleset: Ruleset | None = None

    def inspect(self) -> None:
        """Look what of ours is there, whoever left it; its rules are unknown."""
        self._installed = installed(self.save())

    def adopt(self) -> None:
        """Take for in force what a run left that was killed."""
        self._installed = adopted(self.save())

    def save(self, *options: str) -> str:
        """All tables that are in use as text, with ``-c`` with their counters."""
        return _run(self._node, (self._save, *options), "iptables").stdout

    def put(self, ruleset: Ruleset | None) -> None:
        """Put a ruleset in force instead of the one before; when that fails, ``roll_back`` has to follow."""
        if self._installed is None:
            self.inspect()
        before = self._installed or NOTHING
        if ruleset is None and not before.tables:
            self._installed, self.ruleset = NOTHING, None
            return
        wanted = change(ruleset, before)
        self._installed = None
        try:
            _run(self._node, self._restore, "iptables", wanted.text)
        except DataplaneError:
            # One commit is all or nothing; of several, some may have gone through.
            if wanted.commits == 1:
                self._installed = before
            raise
        self._installed = wanted.after
        self.ruleset = ruleset

    def roll_back(self, ruleset: Ruleset | None) -> None:
        """Put back what was in force before a change that went through, or of which nobody knows how far it came."""
        if self._installed is None or self.ruleset is not ruleset:
            self.put(ruleset)

    def clear(self) -> None:
        """Take all of ours away, also when somebody has changed it meanwhile."""
        try:
            self.put(None)
        except DataplaneError:
            self.inspect()
            self.put(None)


class SetStore:
    """The IP sets of one node that are ours; names say the content, so that no set is ever changed."""

    def __init__(self, node: Node, prefix: str) -> None:
        self._node = node
        self._own = re.compile(rf"^{prefix}[46]-.*$", re.MULTILINE)
        self._names: set[str] = set()
        self._left: set[str] = set()
        self._known = True

    def inspect(self) -> None:
        """Look which sets of ours are there, whoever left them, and be it half made."""
        listed = _run(self._node, ("ipset", "list", "-n"), "ipset").stdout
        self._names, self._known = set(self._own.findall(listed)), True
        self._left = set(self._names)

    def save(self) -> str:
        """All sets of the node as text."""
        return _run(self._node, ("ipset", "save"), "ipset").stdout

    def make(self, wanted: Mapping[str, KernelSet]) -> None:
        """Make the sets that are not there yet, and complete those that somebody left."""
        if not self._known:
            self.inspect()
        whole = self._names - self._left
        text = restore_text(kernel_set for name, kernel_set in wanted.items() if name not in whole)
        if text:
            _run(self._node, ("ipset", "restore", "-exist"), "ipset", text)
            self._names |= wanted.keys()
            self._left -= wanted.keys()

    def keep_only(self, wanted: Iterable[str]) -> None:
        """Destroy all others; those for which that fails, as when the kernel still holds them, go with a later call.

        Raises nothing: the rules that name no others are in force already.
        """
        unused = self._names - set(wanted)
        try:
            self._destroy(unused)
            self._names -= unused
            self._left -= unused
        except LabError:
            self._known = False

    def clear(self) -> None:
        """Destroy all of ours, those too that a failed command may have left; waits until the kernel lets go."""
        deadline = time.monotonic() + _SET_RELEASE_SECONDS
        if not self._known:
            self.inspect()
        while True:
            try:
                self._destroy(self._names)
            except DataplaneError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_SET_RELEASE_POLL_SECONDS)
                self.inspect()
            else:
                self._names = self._left = set()
                return

    def _destroy(self, names: Iterable[str]) -> None:
        text = "".join(f"destroy {name}\n" for name in sorted(names))
        if text:
            _run(self._node, ("ipset", "restore"), "ipset", text)
