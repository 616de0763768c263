# SPDX-License-Identifier: Apache-2.0
"""What every plugin promises by its contract, whatever policies say: expectations about the plugin itself."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from dataplanes.api import HostError, LabError, Node, SnapshotDelta
from lab.conformance.early import falls_back, follows_policy, survives_tampering
from lab.conformance.guard import guard
from lab.conformance.judged import Judged
from lab.conformance.large import SIZE, holds_large_sets
from lab.conformance.midway import fails_as_a_whole
from lab.conformance.not_held import NotHeldError
from lab.conformance.plugins import NodePlugins
from lab.conformance.restart import restarts_without_a_moment
from lab.conformance.rollout import Step
from lab.conformance.sockets import talks_by_sockets
from lab.fabric.lab import Lab
from lab.policy.compile import compile_snapshots
from lab.policy.resources import Resources
from lab.topology import Topology
from lab.topology.load import load_topology

__all__ = ["PROMISES", "Promise"]

Check = Callable[[Judged], Iterator[str]]

# What shows the state of a node; a tool that this host lacks can have left nothing.
_SHOWN: Final[Sequence[tuple[str, ...]]] = (
    ("iptables-nft-save",),
    ("ip6tables-nft-save",),
    ("iptables-legacy-save",),
    ("ip6tables-legacy-save",),
    ("nft", "list", "ruleset"),
    ("ipset", "save"),
    ("ip", "-oneline", "-details", "link", "show"),
    ("ip", "rule", "show"),
    ("ip", "route", "show", "table", "all"),
)
# Somebody else's: none of it is the plugin's to touch.
_FOREIGN: Final[Sequence[tuple[str, ...]]] = (
    ("iptables-nft", "-A", "FORWARD", "-d", "192.0.2.99", "-m", "comment", "--comment", "foreign", "-j", "ACCEPT"),
    ("ip6tables-nft", "-A", "FORWARD", "-d", "2001:db8::99", "-m", "comment", "--comment", "foreign", "-j", "ACCEPT"),
    ("iptables-legacy", "-A", "FORWARD", "-d", "192.0.2.99", "-m", "comment", "--comment", "foreign", "-j", "ACCEPT"),
    ("ipset", "create", "foreign", "hash:net"),
    ("ipset", "add", "foreign", "192.0.2.0/24"),
    ("nft", "add", "table", "inet", "foreign"),
    ("nft", "add", "set", "inet", "foreign", "own", "{ type ipv4_addr; elements = { 192.0.2.99 }; }"),
)
# What differs from one look to the next, and the tables and chains that any iptables command makes and leaves.
_NOISE: Final = re.compile(
    r"^\s*(#|:[A-Z]+ |\*|COMMIT|\}|type \w+ hook|table \w+ (filter|nat|mangle|raw|security) |chain [A-Z]+ |$)"
)
_COUNTERS: Final = re.compile(r"\[\d+:\d+\]|(packets|bytes) \d+")


@dataclass(frozen=True, slots=True)
class Promise:
    """An expectation about a plugin; ``check`` gives all that is not as it was promised, and may raise LabError."""

    id: str
    title: str
    check: Check
    slow: bool = False
    """It takes many seconds; comes last."""

    def broken(self, judged: Judged) -> str | None:
        """What is not as it should be, or None."""
        try:
            wrong = list(self.check(judged))
        except (HostError, NotHeldError):
            raise
        except LabError as error:
            wrong = [f"a plugin failed: {error}"]
        if not wrong:
            return None
        return "\n".join((f"FAILED {self.id}: {self.title}", f"dataplane {judged.name}", *wrong))


def _leaves_nothing(judged: Judged) -> Iterator[str]:
    topology = load_topology("one-node")
    with Lab(topology) as lab:
        (node,) = lab.nodes.values()
        before = _state(node)
        with _begun(judged, node) as plugins:
            for step in _steps(topology):
                plugins.apply(*step)
        yield from (f"left behind after stop(): {line}" for line in _more(_state(node), before))
        with _begun(judged, node) as plugins:
            pass
        yield from (f"left behind by one that was never applied: {line}" for line in _more(_state(node), before))


def _touches_nothing_foreign(judged: Judged) -> Iterator[str]:
    topology = load_topology("one-node")
    with Lab(topology) as lab:
        (node,) = lab.nodes.values()
        for words in _FOREIGN:
            _run(node, words)
        before = _state(node)
        with _begun(judged, node) as plugins:
            for step in _steps(topology):
                plugins.apply(*step)
            yield from (f"gone while the policy is in force: {line}" for line in _more(before, _state(node)))
        yield from (f"gone after stop(): {line}" for line in _more(before, _state(node)))


def _tells_evidence(judged: Judged) -> Iterator[str]:
    topology = load_topology("one-node")
    with Lab(topology) as lab:
        (node,) = lab.nodes.values()
        with _begun(judged, node) as plugins:
            for step in _steps(topology):
                plugins.apply(*step)
                plugins.evidence()
            for accelerator in judged.accelerators:
                plugins.acceleration(accelerator.name)
    yield from ()


def _takes_over(judged: Judged) -> Iterator[str]:
    topology = load_topology("one-node")
    nothing, policy, *_ = _steps(topology)
    with Lab(topology) as lab:
        (node,) = lab.nodes.values()
        before = _state(node)
        dead = NodePlugins(node, judged.dataplane).__enter__()
        dead.apply(*policy)
        del dead  # nobody stops it; accelerators hold what they have by descriptors, which go with a process
        gc.collect()
        with NodePlugins(node, judged.dataplane) as plugins:
            plugins.apply(*nothing)
            plugins.apply(*policy)
        yield from (f"left behind by one that was never stopped: {line}" for line in _more(_state(node), before))


PROMISES: Final = (
    Promise("plugin.stop.leaves-nothing", "After stop() nothing of a plugin is left on the node.", _leaves_nothing),
    Promise(
        "plugin.apply.touches-nothing-foreign",
        "Rules, sets and tables of others stay as they are, while a policy is in force and after stop().",
        _touches_nothing_foreign,
    ),
    Promise(
        "plugin.restart.no-window",
        "Killed and started again it goes on without a moment between: what is in force stays until its first apply.",
        restarts_without_a_moment,
    ),
    Promise(
        "plugin.sockets.both-ways",
        "Programs connect where policy lets them, many at once, and hear every byte both ways; no others do.",
        talks_by_sockets,
    ),
    Promise(
        "plugin.evidence.makes-sense",
        "evidence() tells numbers, facts and rules, as the contract says.",
        _tells_evidence,
    ),
    Promise(
        "plugin.start.takes-over",
        "What one left behind that was never stopped, the next one takes away, and nothing of it is in its way.",
        _takes_over,
    ),
    Promise(
        "plugin.acceleration.falls-back",
        "What is dropped early falls to the dataplane's own rules while accelerators are suspended, and only then.",
        falls_back,
    ),
    Promise(
        "plugin.acceleration.follows-policy",
        "An XDP program is there while a rule calls for it, even with an empty set, and only then.",
        follows_policy,
    ),
    Promise(
        "plugin.acceleration.survives-tampering",
        "XDP programs that somebody detached, and entries gone from their maps, are told of or put back.",
        survives_tampering,
    ),
    Promise(
        "plugin.apply.fails-as-a-whole",
        "An apply that fails midway leaves in force all that was, and the next one is as any.",
        fails_as_a_whole,
        slow=True,
    ),
    Promise(
        "plugin.sets.large",
        f"A set holds {SIZE:,} networks, more than ipset does where nobody says how many.",
        holds_large_sets,
        slow=True,
    ),
)


def _begun(judged: Judged, node: Node) -> NodePlugins:
    return NodePlugins(node, judged.dataplane, judged.accelerators)


def _steps(topology: Topology) -> Sequence[Step]:
    """Nothing, a policy, and the same again in the ways that the contract allows."""
    (policy,) = compile_snapshots(topology, guard(topology)).values()
    (nothing,) = compile_snapshots(topology, Resources()).values()
    return ((nothing, None), (policy, None), (policy, SnapshotDelta(policy.node)), (policy, None))


def _state(node: Node) -> Sequence[str]:
    """What stands on the node, a line each with the command that tells of it; what is noise is left out."""
    return [
        f"{' '.join(words)}: {_COUNTERS.sub('', line).strip()}"
        for words in _SHOWN
        for line in _run(node, words).splitlines()
        if not _NOISE.match(line)
    ]


def _more(these: Sequence[str], than_those: Sequence[str]) -> list[str]:
    """The lines that ``than_those`` lack."""
    known = set(than_those)
    return [line for line in these if line not in known]


def _run(node: Node, words: tuple[str, ...]) -> str:
    try:
        return node.run(words).stdout
    except HostError:
        return ""
