# SPDX-License-Identifier: Apache-2.0
"""The iptables dataplanes in a real kernel: what is applied, what is left alone, what a failure leaves behind."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from bare_node import BareNode
from snapshot_world import host_stages

from dataplanes.api import (
    Action,
    Completed,
    DataplaneError,
    EndpointPolicy,
    HostError,
    IcmpMatch,
    IpSet,
    PolicyId,
    PortMember,
    PortRange,
    Snapshot,
    SnapshotPolicy,
    SnapshotProfile,
    SnapshotRule,
    SnapshotSide,
    TierPolicies,
)
from dataplanes.iptables import IptablesDataplane, IptablesLegacyDataplane

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

EMPTY = re.compile(r"\*\w+\n(:[A-Z]+ ACCEPT\n)*COMMIT\n")
WEB = PolicyId("NetworkPolicy", "x", "web")


class Namespace(BareNode):
    """A node on which commands can be made to fail."""

    def __init__(self):
        super().__init__()
        self.broken = None
        self.spoil = None

    def run(self, argv, *, stdin="", timeout=30.0):
        if self.broken is not None and self.broken(argv, stdin):
            self.calls.append(tuple(argv))
            return Completed(tuple(argv), 2, "", "line 3 failed")
        if self.spoil is not None and f"{self.spoil[0]}-" in " ".join(argv) and stdin:
            stdin, self.spoil = self._spoiled(stdin, self.spoil[1]), None
        return super().run(argv, stdin=stdin, timeout=timeout)

    @staticmethod
    def _spoiled(text, commit):
        """The text of a transaction with a line that no kernel takes in one of its commits."""
        tables = text.split("COMMIT\n")
        tables[commit] += "-A plab-nowhere -j DROP\n"
        return "COMMIT\n".join(tables)


@pytest.fixture
def node():
    with Namespace() as made:
        yield made


@pytest.fixture(params=[IptablesDataplane, IptablesLegacyDataplane], ids=lambda plugin: plugin.name)
def plugin(request):
    return request.param


@pytest.fixture
def dataplane(plugin, node):
    made = plugin(node)
    made.start()
    node.calls.clear()
    yield made
    node.broken = None
    made.stop()


def side(nets=(), not_nets=(), **fields):
    return SnapshotSide(nets=tuple(map(ip_network, nets)), not_nets=tuple(map(ip_network, not_nets)), **fields)


def rule(action=Action.ALLOW, **fields):
    return SnapshotRule(action, **fields)


def snapshot(*rules, clients=("198.18.0.1/32", "fd00:18::1/128")):
    """Endpoints x/1, without policy, and x/2, whose only ingress policy has these rules."""
    everything = (rule(),)
    tier = TierPolicies("default", (WEB,), (), pass_by_default=False)
    first = EndpointPolicy("cali01", "x/1", (ip_address("198.18.0.1"),), (), ("kns.x",))
    second = EndpointPolicy("cali02", "x/2", (ip_address("198.18.0.2"),), (tier,), ("kns.x",))
    served = [("198.18.0.2", 6, 8080), ("198.18.0.2", 132, 81), ("fd00:18::2", 6, 8080), ("fd00:18::2", 132, 81)]
    members = frozenset(PortMember(ip_address(address), protocol, port) for address, protocol, port in served)
    return Snapshot(
        "node-1",
        {"cali01": first, "cali02": second},
        {WEB: SnapshotPolicy(WEB, "default", rules, ())},
        {"kns.x": SnapshotProfile("kns.x", everything, everything)},
        {
            "clients": IpSet("clients", "net", nets=frozenset(map(ip_network, clients))),
            "http": IpSet("http", "port", ports=members),
        },
    )


FROM_CLIENTS = rule(source=side(sets=("clients",)))
EVERY_FIELD = (
    FROM_CLIENTS,
    rule(
        protocol=6,
        source=side(ports=(PortRange(1, 2),), port_sets=("http",)),
        destination=side(ports=tuple(PortRange(n, n) for n in range(100, 116)), port_sets=("http",)),
    ),
    rule(Action.DENY, protocol=17, destination=side(not_ports=(PortRange(1, 9),), not_port_sets=("http",))),
    rule(Action.DENY, protocol=132, source=side(not_ports=tuple(PortRange(n, n + 1) for n in range(1, 60, 3)))),
    rule(Action.PASS, not_protocol=253, source=side(["10.0.0.0/8", "fd01::/16"], ["10.1.0.0/16", "fd01::/32"])),
    rule(Action.LOG, not_icmp=IcmpMatch(8, 0), source=side(not_sets=("clients",))),
    rule(protocol=1, icmp=IcmpMatch(8, None), not_icmp=IcmpMatch(8, 1)),
    rule(protocol=58, icmp=IcmpMatch(128, 0), not_icmp=IcmpMatch(128, 1)),
    rule(protocol=136),
    rule(ip_version=6, protocol=253),
)


def tools(dataplane):
    backend = "legacy" if dataplane.name.endswith("legacy") else "nft"
    return [f"iptables-{backend}", f"ip6tables-{backend}"]


def everything(node, dataplane):
    """All that the kernel holds of tables and sets, without what changes from one look to the next.

    A table without rules, as any iptables command of the nft backend leaves behind, counts as nothing.
    """
    saved = "".join(node.must(f"{tool}-save") for tool in tools(dataplane)) + node.must("ipset", "save")
    bare = re.sub(r"^#.*\n| \[\d+:\d+\]$| initval \w+$", "", saved, flags=re.MULTILINE)
    return "".join(
        table for table in re.split(r"(?<=^COMMIT\n)", bare, flags=re.MULTILINE) if not EMPTY.fullmatch(table)
    )


def spawned(node):
    return [argv[2] if argv[0] == "env" else argv[0] for argv in node.calls]


def test_every_field_is_accepted_by_the_kernel(dataplane, node):
    dataplane.apply(snapshot(*EVERY_FIELD))
    assert everything(node, dataplane).count("NetworkPolicy/x/web ingress rule 9") == 1


def test_same_snapshot_again_changes_nothing(dataplane, node):
    dataplane.apply(snapshot(*EVERY_FIELD))
    before = everything(node, dataplane)
    dataplane.apply(snapshot(*EVERY_FIELD))
    assert everything(node, dataplane) == before


def test_apply_spawns_one_command_a_family_and_one_for_new_sets(dataplane, node):
    dataplane.apply(snapshot(FROM_CLIENTS))
    assert len(node.calls) == 3
    node.calls.clear()
    dataplane.apply(snapshot(FROM_CLIENTS, rule(Action.DENY)))
    assert spawned(node) == [f"{tool}-restore" for tool in tools(dataplane)]


def test_changed_set_is_another_set_and_the_old_one_goes(dataplane, node):
    dataplane.apply(snapshot(FROM_CLIENTS))
    before = set(node.must("ipset", "list", "-n").split())
    dataplane.apply(snapshot(FROM_CLIENTS, clients=("198.18.0.7/32", "fd00:18::7/128")))
    dataplane.apply(snapshot(FROM_CLIENTS, clients=("198.18.0.7/32", "fd00:18::7/128")))
    after = set(node.must("ipset", "list", "-n").split())
    assert len(after) == 2
    assert not before & after
    assert "198.18.0.7" in node.must("ipset", "save")


def test_stop_leaves_the_node_as_it_was(dataplane, node):
    before = everything(node, dataplane)
    dataplane.apply(snapshot(*EVERY_FIELD))
    dataplane.stop()
    assert everything(node, dataplane) == before
    dataplane.stop()
    assert everything(node, dataplane) == before


def test_foreign_rules_and_sets_survive(dataplane, node):
    for tool in tools(dataplane):
        node.must(tool, "-N", "theirs")
        node.must(tool, "-A", "FORWARD", "-j", "theirs")
        node.must(tool, "-A", "theirs", "-p", "tcp", "-j", "DROP")
        node.must(tool, "-P", "FORWARD", "DROP")
    node.must("ipset", "create", "theirs", "hash:net")
    before = everything(node, dataplane)
    dataplane.apply(snapshot(*EVERY_FIELD))
    dataplane.apply(snapshot(FROM_CLIENTS))
    assert "-A FORWARD -m comment --comment policylab -j plab-forward\n-A FORWARD -j theirs" in everything(
        node, dataplane
    )
    dataplane.stop()
    assert everything(node, dataplane) == before


@pytest.mark.parametrize("step", ["ipset", "iptables", "ip6tables"])
def test_failing_step_leaves_the_previous_snapshot_in_force(dataplane, node, step):
    dataplane.apply(snapshot(FROM_CLIENTS))
    before = everything(node, dataplane)
    node.broken = lambda argv, stdin: any(a.startswith(step) for a in argv) and "198.18.0.9" in stdin + step_mark(step)
    with pytest.raises(DataplaneError, match="line 3 failed"):
        dataplane.apply(snapshot(*EVERY_FIELD, clients=("198.18.0.9/32",)))
    node.broken = None
    assert everything(node, dataplane) == before
    dataplane.apply(snapshot(*EVERY_FIELD))


def step_mark(step):
    """The text of an iptables transaction does not name the address; every one of them is to fail."""
    return "" if step == "ipset" else "198.18.0.9"


@pytest.mark.parametrize("step", ["ipset", "iptables", "ip6tables"])
def test_failing_first_apply_leaves_nothing(dataplane, node, step):
    before = everything(node, dataplane)
    node.broken = lambda argv, stdin: any(a.startswith(step) for a in argv) and "plab" in stdin and "-X" not in stdin
    with pytest.raises(DataplaneError):
        dataplane.apply(snapshot(*EVERY_FIELD))
    node.broken = None
    dataplane.stop()
    assert everything(node, dataplane) == before


def test_half_made_sets_are_taken_away_again(dataplane, node):
    dataplane.apply(snapshot(FROM_CLIENTS))
    before = everything(node, dataplane)
    too_long = IpSet("bad", "net", nets=frozenset({ip_network("0.0.0.0/0")}))
    good = snapshot(*EVERY_FIELD, rule(source=side(sets=("bad",))))
    bad = Snapshot(good.node, good.endpoints, good.policies, good.profiles, {**good.ip_sets, "bad": too_long})
    with pytest.raises(DataplaneError, match="ipset restore"):
        dataplane.apply(bad)
    assert everything(node, dataplane) == before


def test_rule_that_iptables_cannot_express_is_refused_before_anything_is_applied(dataplane, node):
    with pytest.raises(DataplaneError, match="port numbers"):
        dataplane.apply(snapshot(rule(destination=side(ports=(PortRange(80, 80),)))))
    assert node.calls == []


def lines(text):
    """What stands there, in whatever order sets list it."""
    return sorted(text.splitlines())


def test_what_a_killed_run_left_stays_until_the_first_apply_of_the_next(plugin, node):
    killed = plugin(node)
    killed.start()
    before = everything(node, killed)
    killed.apply(snapshot(*EVERY_FIELD))
    left = lines(everything(node, killed))
    heir = plugin(node)
    heir.start()
    assert lines(everything(node, heir)) == left
    heir.apply(snapshot(*EVERY_FIELD[:1]))
    assert lines(everything(node, heir)) != left
    heir.apply(snapshot(*EVERY_FIELD))
    assert lines(everything(node, heir)) == left
    heir.stop()
    assert everything(node, heir) == before


def test_set_that_a_killed_run_left_half_made_is_completed(plugin, node):
    killed = plugin(node)
    killed.start()
    killed.apply(snapshot(*EVERY_FIELD))
    whole = lines(everything(node, killed))
    added = [line for line in node.must("ipset", "save").splitlines() if line.startswith("add ")]
    node.must("ipset", "restore", stdin="".join(f"{line.replace('add', 'del', 1)}\n" for line in added[:1]))
    heir = plugin(node)
    heir.start()
    heir.apply(snapshot(*EVERY_FIELD))
    assert lines(everything(node, heir)) == whole
    heir.stop()


def test_stop_after_somebody_removed_the_jump_still_clears(dataplane, node):
    dataplane.apply(snapshot(*EVERY_FIELD))
    for tool in tools(dataplane):
        node.must(tool, "-F", "FORWARD")
    dataplane.stop()
    assert "plab" not in everything(node, dataplane)


def test_missing_tool_names_the_package(plugin, node, monkeypatch):
    def run(argv, **_):
        raise HostError("no such command", value=argv[0])

    monkeypatch.setattr(node, "run", run)
    with pytest.raises(HostError, match="apt-get install iptables"):
        plugin(node).start()


def test_evidence_holds_both_families_and_the_sets(dataplane):
    dataplane.apply(snapshot(*EVERY_FIELD))
    evidence = dataplane.evidence()
    assert evidence.counters["ipv4 policy NetworkPolicy/x/web ingress"] == 0
    assert evidence.counters["ipv6 tier default ingress"] == 0
    assert evidence.ruleset.count("*filter") == 2
    assert re.search(r"^create plabl?4-clients-", evidence.ruleset, re.MULTILINE)


def with_hosts():
    """Host endpoints at every stage: rules in all four tables."""
    return host_stages()


def with_other_hosts():
    found = with_hosts()
    return replace(found, host_endpoints={"eth1": found.host_endpoints["eth0"]})


def without_hosts():
    return snapshot(FROM_CLIENTS)


def test_host_endpoints_leave_the_node_as_it_was(dataplane, node):
    before = everything(node, dataplane)
    for each in (with_hosts(), with_other_hosts(), with_hosts()):
        dataplane.apply(each)
        assert len(re.findall(r"^\*", everything(node, dataplane), re.MULTILINE)) == 8
    dataplane.stop()
    assert everything(node, dataplane) == before


def test_tables_that_nothing_needs_are_not_touched(dataplane, node):
    dataplane.apply(without_hosts())
    saved = "".join(node.must(f"{tool}-save") for tool in tools(dataplane))
    assert sorted(re.findall(r"^\*(\w+)", saved, re.MULTILINE)) == ["filter", "filter", "raw", "raw"]


def test_host_endpoints_that_go_take_their_tables_with_them(dataplane, node):
    dataplane.apply(without_hosts())
    before = everything(node, dataplane)
    dataplane.apply(with_hosts())
    dataplane.apply(with_other_hosts())
    dataplane.apply(without_hosts())
    assert everything(node, dataplane) == before


def test_foreign_rules_of_every_table_survive(dataplane, node):
    for tool in tools(dataplane):
        for table, chain in (("raw", "PREROUTING"), ("mangle", "POSTROUTING"), ("nat", "POSTROUTING")):
            node.must(tool, "-t", table, "-A", chain, "-p", "tcp", "-j", "ACCEPT")
    before = everything(node, dataplane)
    dataplane.apply(with_hosts())
    dataplane.apply(with_other_hosts())
    dataplane.stop()
    assert everything(node, dataplane) == before


CHANGES = {
    "change": (with_hosts, with_other_hosts, 7),
    "come": (without_hosts, with_hosts, 4),
    "go": (with_hosts, without_hosts, 4),
}


@pytest.mark.parametrize(
    ("old", "new", "commit"),
    [
        pytest.param(old, new, commit, id=f"{name}-{commit}")
        for name, (old, new, commits) in CHANGES.items()
        for commit in range(commits)
    ],
)
@pytest.mark.parametrize("tool", ["iptables", "ip6tables"])
def test_failure_in_any_commit_leaves_the_previous_snapshot_in_force(dataplane, node, tool, old, new, commit):
    dataplane.apply(old())
    before = everything(node, dataplane)
    node.spoil = (tool, commit)
    with pytest.raises(DataplaneError):
        dataplane.apply(new())
    assert node.spoil is None
    assert everything(node, dataplane) == before
    dataplane.apply(new())
    dataplane.stop()
    assert "plab" not in everything(node, dataplane)


@pytest.mark.parametrize(
    ("message", "named"),
    [
        ("Warning: Extension CT revision 0 not supported, missing kernel module?\niptables: line 5 failed", "xt_CT"),
        ("iptables-restore v1.8.9 (legacy): Couldn't load match `u32':No such file or directory", "xt_u32"),
        ("ip6tables v1.8.9 (legacy): can't initialize ip6tables table `raw': Table does not exist", "table raw"),
    ],
)
def test_missing_kernel_module_is_named(plugin, node, monkeypatch, message, named):
    dataplane = plugin(node)
    dataplane.start()
    real = node.run

    def run(argv, *, stdin="", timeout=30.0):
        if "plab-input" in stdin:
            return Completed(tuple(argv), 2, "", message)
        return real(argv, stdin=stdin, timeout=timeout)

    monkeypatch.setattr(node, "run", run)
    with pytest.raises(HostError, match="this kernel lacks") as raised:
        dataplane.apply(with_hosts())
    assert raised.value.value == named
    monkeypatch.undo()
    assert "plab" not in everything(node, dataplane)
