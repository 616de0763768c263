# SPDX-License-Identifier: Apache-2.0
"""The verdict engine against a real kernel: what gets through, what does not, and what cannot be said."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from scapy.utils import RawPcapNgReader

from lab.errors import TopologyError
from lab.fabric.lab import Lab
from lab.topology import Family, Flow, IcmpHeader, Topology, address_of, default_flows
from lab.topology.load import load_topology
from lab.traffic import losses, ring
from lab.traffic.capture import Recorder
from lab.traffic.losses import ConntrackDrops
from lab.traffic.observation import Observation, Reason
from lab.traffic.prober import Prober, one_cpu

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="labs are built by root only")

PORTED = (6, 17, 132, 136)
SAME_NODE, OTHER_NODE = ("x/a", "x/b"), ("x/a", "x/c")


@pytest.fixture(scope="module")
def topology() -> Topology:
    return load_topology("three-by-three")


@pytest.fixture(scope="module")
def lab(topology: Topology) -> Iterator[Lab]:
    with Lab(topology) as made:
        yield made


@pytest.fixture(scope="module")
def prober(lab: Lab) -> Iterator[Prober]:
    with Prober(lab) as made:
        yield made


@contextmanager
def rules(lab: Lab, node: str, table: str, chain: str, *bodies: str) -> Iterator[None]:
    """Rules of both families at the end of a node's chain, for a while; a body may begin with "4 " or "6 "."""
    with ExitStack() as stack:
        for body in bodies:
            for family, tool in ((4, "iptables"), (6, "ip6tables")):
                if body[0] in "46" and body[0] != str(family):
                    continue
                rule = [chain, *body.removeprefix(f"{family} ").split()]
                done = lab.nodes[node].run([tool, "-t", table, "-A", *rule])
                assert done.returncode == 0, done.stderr
                stack.callback(lab.nodes[node].run, [tool, "-t", table, "-D", *rule])
        yield


@contextmanager
def forward(lab: Lab, node: str, *bodies: str) -> Iterator[None]:
    with rules(lab, node, "filter", "FORWARD", *bodies):
        yield


def flow(ends: tuple[str, str], protocol: int, family: Family = 4, port: int = 80, **more: object) -> Flow:
    return Flow(*ends, protocol, port if protocol in PORTED else None, family, **more)


def words(seen: list[Observation]) -> Counter[str]:
    return Counter(observation.verdict for observation in seen)


def reasons(seen: list[Observation]) -> set[Reason | None]:
    return {observation.reason for observation in seen}


def test_nothing_in_the_way_lets_every_default_flow_through(topology: Topology, prober: Prober) -> None:
    flows = default_flows(topology)
    seen = prober.observe(flows)
    assert words(seen) == {"allow": 864}
    assert [observation.arrived for observation in seen] == [flow.destination for flow in flows]


def test_a_drop_rule_denies_exactly_what_it_names(topology: Topology, lab: Lab, prober: Prober) -> None:
    flows = default_flows(topology)
    with forward(lab, "node-1", "-p udp --dport 81 -j DROP"), forward(lab, "node-2", "-p udp --dport 81 -j DROP"):
        seen = prober.observe(flows)
    expected = ["deny" if (flow.protocol, flow.port) == (17, 81) else "allow" for flow in flows]
    assert [observation.verdict for observation in seen] == expected


def test_everything_denied_on_one_node_stops_what_passes_it(lab: Lab, prober: Prober) -> None:
    with forward(lab, "node-2", "-j DROP"):
        seen = prober.observe([flow(OTHER_NODE, 17), flow(SAME_NODE, 17)])
    assert [observation.verdict for observation in seen] == ["deny", "allow"]


@pytest.mark.parametrize("ends", [SAME_NODE, OTHER_NODE])
@pytest.mark.parametrize("family", [4, 6])
def test_every_protocol_is_delivered(prober: Prober, ends: tuple[str, str], family: Family) -> None:
    """But IPv6 fragments, which conntrack puts together where it is in use: they come out without that header."""
    protocols = [protocol for protocol in range(1, 256) if (family, protocol) != (6, 44)]
    seen = prober.observe([flow(ends, protocol, family) for protocol in protocols])
    assert words(seen) == {"allow": len(protocols)}


@pytest.mark.parametrize("family", [4, 6])
def test_every_icmp_type_is_delivered(prober: Prober, family: Family) -> None:
    protocol = 1 if family == 4 else 58
    flows = [flow(OTHER_NODE, protocol, family, icmp=IcmpHeader(kind, 0)) for kind in range(256)]
    assert words(prober.observe(flows)) == {"allow": 256}


@pytest.mark.parametrize("family", [4, 6])
def test_packets_that_conntrack_can_track_are_valid_to_it(lab: Lab, prober: Prober, family: Family) -> None:
    """Not UDP-Lite: conntrack (Linux 6.18) calls every UDP-Lite packet invalid, those of its own sockets too."""
    protocols = (6, 17, 132, 1 if family == 4 else 58, 253, 43, 51, 60)
    flows = [flow(OTHER_NODE, protocol, family) for protocol in protocols for _ in range(3)]
    with forward(lab, "node-1", "-m conntrack --ctstate NEW -j ACCEPT", "-j DROP"):
        seen = prober.observe(flows)
    assert words(seen) == {"allow": len(flows)}


def test_an_icmp_error_is_never_related_to_another_flow(lab: Lab, prober: Prober) -> None:
    errors = [flow(OTHER_NODE, 1, icmp=IcmpHeader(kind, 0)) for kind in (3, 4, 5, 11, 12)]
    opposite = [flow(("x/c", "x/a"), protocol) for protocol in PORTED]
    with forward(lab, "node-1", "-m conntrack --ctstate RELATED,ESTABLISHED -j DROP"):
        seen = prober.observe([*opposite, *errors])
    assert words(seen) == {"allow": len(seen)}


@pytest.mark.parametrize(("protocol", "ports"), [(253, None), (17, (5000, 6000)), (6, (5000, 6000))])
def test_a_flow_is_not_taken_for_the_reply_of_its_opposite(
    topology: Topology, lab: Lab, prober: Prober, protocol: int, ports: tuple[int, int] | None
) -> None:
    there, back = ports or (None, None), (ports or (None, None))[::-1]
    first = Flow("x/a", "x/c", protocol, there[1], 4, source_port=there[0])
    second = Flow("x/c", "x/a", protocol, back[1], 4, source_port=back[0])
    source = address_of(topology.workloads["x/c"], 4)
    with forward(lab, "node-1", "-m conntrack --ctstate ESTABLISHED -j ACCEPT", f"4 -s {source} -j DROP"):
        seen = prober.observe([first, second, first, second])
    assert [observation.verdict for observation in seen] == ["allow", "deny", "allow", "deny"]


def test_echo_replies_are_not_taken_for_answers_to_other_requests(lab: Lab, prober: Prober) -> None:
    requests = [flow(OTHER_NODE, 1, icmp=IcmpHeader(8, 0)) for _ in range(20)]
    replies = [flow(("x/c", "x/a"), 1, icmp=IcmpHeader(0, 0)) for _ in range(20)]
    with forward(lab, "node-1", "-m conntrack --ctstate ESTABLISHED -j DROP"):
        assert words(prober.observe([*requests, *replies])) == {"allow": 40}


@pytest.mark.parametrize(
    ("rule", "answer"),
    [
        ("-p tcp -j REJECT --reject-with tcp-reset", "tcp-reset"),
        ("-p tcp -j REJECT", "icmp-error"),
        ("-p tcp -j DROP", None),
    ],
)
@pytest.mark.parametrize("family", [4, 6])
def test_a_refusal_is_told_from_silence(
    lab: Lab, prober: Prober, rule: str, answer: str | None, family: Family
) -> None:
    with forward(lab, "node-2", rule):
        (seen,) = prober.observe([flow(OTHER_NODE, 6, family)])
    assert (seen.verdict, seen.answer) == ("deny", answer)


def test_a_packet_seen_twice_is_inconclusive(lab: Lab, prober: Prober, monkeypatch: pytest.MonkeyPatch) -> None:
    volley = prober.prepare([flow(SAME_NODE, 17)])
    repeat_at_the_barrier(lab, volley.epochs[0][0].frames, "x/b", monkeypatch)
    (seen,) = prober.fire(volley)
    assert (seen.verdict, seen.reason) == ("inconclusive", Reason.TWICE)


def test_a_copy_at_a_third_end_is_inconclusive(lab: Lab, prober: Prober, monkeypatch: pytest.MonkeyPatch) -> None:
    volley = prober.prepare([flow(SAME_NODE, 17)])
    repeat_at_the_barrier(lab, volley.epochs[0][0].frames, "y/a", monkeypatch)
    (seen,) = prober.fire(volley)
    assert (seen.verdict, seen.reason) == ("inconclusive", Reason.TWICE)
    assert "y/a" in seen.detail


def repeat_at_the_barrier(lab: Lab, frame: bytes, end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bring a frame to an end a second time, between the batch and its end."""
    workload = lab.topology.workloads[end]
    sock = lab.nodes[workload.node].socket(socket.AF_PACKET, socket.SOCK_RAW)
    sock.bind((workload.interface, 0))
    wait = type(lab.barrier).wait

    def repeating(barrier: object, hops: int) -> bool:
        sock.send(frame)
        return bool(wait(barrier, hops))

    monkeypatch.setattr(type(lab.barrier), "wait", repeating)


def test_a_packet_at_a_wrong_end_is_inconclusive(topology: Topology, lab: Lab, prober: Prober) -> None:
    right, wrong = topology.workloads["x/b"], topology.workloads["y/a"]
    address = address_of(right, 4)
    run = lab.nodes["node-1"].run
    assert run(["ip", "route", "replace", f"{address}/32", "dev", wrong.interface]).returncode == 0
    mac = lab.ports["y/a"].mac.hex(":")
    run(["ip", "neigh", "replace", str(address), "lladdr", mac, "dev", wrong.interface, "nud", "permanent"])
    try:
        (seen,) = prober.observe([flow(SAME_NODE, 17)])
    finally:
        run(["ip", "route", "replace", f"{address}/32", "dev", right.interface])
        run(["ip", "neigh", "del", str(address), "dev", wrong.interface])
    assert (seen.verdict, seen.reason, seen.arrived) == ("inconclusive", Reason.WRONG_END, "y/a")
    assert prober.observe([flow(SAME_NODE, 17)])[0].verdict == "allow"


@pytest.mark.parametrize(
    ("chain", "body"),
    [("PREROUTING", "4 -p udp -j DNAT --to-destination :99"), ("POSTROUTING", "4 -p udp -j SNAT --to 198.18.9.9")],
)
def test_an_altered_packet_is_inconclusive(lab: Lab, prober: Prober, chain: str, body: str) -> None:
    with rules(lab, "node-1", "nat", chain, body):
        (seen,) = prober.observe([flow(SAME_NODE, 17)])
    assert (seen.verdict, seen.reason, seen.arrived) == ("inconclusive", Reason.ALTERED, "x/b")


def test_a_receiver_that_loses_packets_is_inconclusive(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ring, "SLOTS", 128)
    with Prober(lab) as prober:
        seen = prober.observe([flow(SAME_NODE, 17)] * 300)
    assert set(words(seen)) == {"allow", "inconclusive"}
    assert reasons(seen) == {None, Reason.RECEIVER_LOST}


def test_markers_that_do_not_come_back_make_silence_inconclusive(
    lab: Lab, prober: Prober, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(lab.barrier), "wait", lambda *_: False)
    with forward(lab, "node-1", "-p tcp --dport 80 -j DROP"):
        denied, passed = prober.observe([flow(SAME_NODE, 6), flow(SAME_NODE, 17)])
    assert (denied.verdict, denied.reason) == ("inconclusive", Reason.NOT_SETTLED)
    assert passed.verdict == "allow"


def test_an_interface_that_is_down_is_inconclusive_at_both_ends(topology: Topology) -> None:
    with Lab(topology) as lab, Prober(lab) as prober:
        lab.ports["x/b"].host.run(["ip", "link", "set", lab.ports["x/b"].interface, "down"])
        refused, unseen = prober.observe([flow(("x/b", "x/a"), 17), flow(SAME_NODE, 17)])
    assert (refused.verdict, refused.reason, refused.sent) == ("inconclusive", Reason.NOT_SENT, False)
    assert (unseen.verdict, unseen.reason) == ("inconclusive", Reason.RECEIVER_LOST)


def test_losses_in_conntrack_make_silence_inconclusive(
    lab: Lab, prober: Prober, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table's size is the whole host's: instead of filling it, another counter stands for its drops."""
    invalid = 4  # CTA_STATS_INVALID
    monkeypatch.setattr(losses, "_LOSSES", frozenset({invalid}))
    stray = flow(SAME_NODE, 1, icmp=IcmpHeader(0, 0))
    with forward(lab, "node-1", "-m conntrack --ctstate INVALID -j ACCEPT", "-p udp --dport 80 -j DROP"):
        alone, *_ = prober.observe([flow(SAME_NODE, 17, port=81)])
        passed, silent = prober.observe([stray, flow(SAME_NODE, 17)])
    assert (alone.verdict, passed.verdict) == ("allow", "allow")
    assert (silent.verdict, silent.reason, silent.detail) == ("inconclusive", Reason.CONNTRACK, "1 on node-1")


def test_conntrack_tells_its_drops(lab: Lab) -> None:
    drops = ConntrackDrops(lab.nodes["node-1"])
    assert drops.read() == 0
    drops.close()


def hog(cpu: int) -> None:
    os.sched_setaffinity(0, {cpu})
    while True:
        pass


def test_twenty_thousand_packets_beside_busy_processes_are_all_there(topology: Topology, prober: Prober) -> None:
    flows = (default_flows(topology) * 24)[:20_000]
    hogs = [multiprocessing.get_context("spawn").Process(target=hog, args=(cpu,)) for cpu in os.sched_getaffinity(0)]
    for process in hogs:
        process.start()
    try:
        seen = prober.observe(flows)
    finally:
        for process in hogs:
            process.kill()
            process.join()
    assert words(seen) == {"allow": 20_000}


def test_more_packets_to_one_end_than_its_socket_holds_are_all_there(prober: Prober) -> None:
    assert words(prober.observe([flow(SAME_NODE, 17)] * 20_000)) == {"allow": 20_000}


def test_a_volley_can_be_fired_again(topology: Topology, lab: Lab, prober: Prober) -> None:
    volley = prober.prepare(default_flows(topology))
    with forward(lab, "node-1", "-j DROP"):
        denied = words(prober.fire(volley))["deny"]
    assert denied > 0
    assert words(prober.fire(volley)) == {"allow": 864}


def test_no_flows_give_no_observations(prober: Prober) -> None:
    assert prober.observe([]) == []


def test_a_workload_reaches_itself_whatever_the_node_drops(lab: Lab, prober: Prober) -> None:
    with forward(lab, "node-1", "-j DROP"):
        seen = prober.observe([flow(("x/a", "x/a"), 17), flow(("x/a", "x/a"), 6, 6)])
    assert [(observation.verdict, observation.arrived) for observation in seen] == [("allow", "x/a")] * 2


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("protocol", [1, 6, 17, 58, 132, 253])
@pytest.mark.parametrize("ends", [("x/a", "node-1"), ("x/a", "node-2"), ("node-1", "x/a"), ("node-2", "x/a"),
                                  ("node-1", "node-2"), ("node-1", "node-1")])  # fmt: skip
def test_nodes_send_and_receive_as_their_programs_do(
    prober: Prober, ends: tuple[str, str], protocol: int, family: Family
) -> None:
    (seen,) = prober.observe([flow(ends, protocol, family)])
    assert (seen.verdict, seen.arrived) == ("allow", ends[1]), str(seen)


@pytest.mark.parametrize(("ends", "hook"), [(("x/a", "node-1"), "INPUT"), (("node-1", "x/a"), "OUTPUT")])
def test_a_nodes_own_chains_deny_what_it_receives_and_sends(
    lab: Lab, prober: Prober, ends: tuple[str, str], hook: str
) -> None:
    with rules(lab, "node-1", "filter", hook, "-p udp --dport 80 -j DROP"):
        denied, allowed = prober.observe([flow(ends, 17), flow(ends, 17, port=81)])
    assert allowed.verdict == "allow"
    assert (denied.verdict, denied.arrived) == ("deny", None)


def test_an_end_without_the_flows_family_is_an_error(prober: Prober) -> None:
    with pytest.raises(TopologyError, match="nowhere"):
        prober.prepare([Flow("x/a", "nowhere", 17, 80, 4)])


def test_a_recorder_keeps_the_frame_at_every_interface_on_its_way(
    topology: Topology, lab: Lab, prober: Prober, tmp_path: Path
) -> None:
    recorder = Recorder()
    with forward(lab, "node-2", "-p tcp --dport 80 -j DROP"):
        prober.observe([flow(OTHER_NODE, 6), flow(OTHER_NODE, 6, port=81)], recorder)
    recorder.write(tmp_path / "flow.pcapng")
    with RawPcapNgReader(str(tmp_path / "flow.pcapng")) as reader:
        seen = [(meta.ifname.decode(), data[36:38]) for data, meta in reader if meta.comments]
    port = lab.ports["x/a"].interface
    cali = [topology.workloads[name].interface for name in OTHER_NODE]
    way = [f"x/a:{port}", f"node-1:{cali[0]}", "node-1:eth0", "node-2:eth0", f"node-2:{cali[1]}", f"x/c:{port}"]
    assert [interface for interface, number in seen if number == bytes((0, 81))] == way
    assert [interface for interface, number in seen if number == bytes((0, 80))] == way[:4]
    assert recorder.trails() == [tuple(way[:4]), tuple(way)]


def test_the_threads_cpus_are_given_back_after_a_volley(prober: Prober) -> None:
    before = os.sched_getaffinity(0)
    with one_cpu() as cpu:
        assert os.sched_getaffinity(0) == {cpu}
    prober.observe([flow(SAME_NODE, 17)])
    assert os.sched_getaffinity(0) == before


def test_the_threads_cpus_are_given_back_after_an_error(
    lab: Lab, prober: Prober, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = os.sched_getaffinity(0)

    def fail(*_: object) -> bool:
        raise InterruptedError

    monkeypatch.setattr(type(lab.barrier), "wait", fail)
    with pytest.raises(InterruptedError):
        prober.observe([flow(SAME_NODE, 17)])
    assert os.sched_getaffinity(0) == before


def test_the_source_port_that_a_flow_names_is_sent(lab: Lab, prober: Prober) -> None:
    plain = flow(SAME_NODE, 17)
    with forward(lab, "node-1", "-p udp --sport 1234 -j DROP"):
        seen = prober.observe([plain, replace(plain, source_port=1234)])
    assert [observation.verdict for observation in seen] == ["allow", "deny"]


@pytest.mark.parametrize("name", ["external-client", "one-node", "many-nodes"])
def test_default_flows_of_other_topologies_are_all_delivered(name: str) -> None:
    other = load_topology(name)
    flows = default_flows(other)
    with Lab(other) as made, Prober(made) as prober:
        seen = prober.observe(flows)
    assert flows
    assert words(seen) == {"allow": len(flows)}
