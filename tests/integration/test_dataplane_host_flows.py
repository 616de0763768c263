# SPDX-License-Identifier: Apache-2.0
"""Real sockets through a node with host endpoints: answers, DNAT, masquerade, forged marks, rules that change."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_network

import pytest
from dataplane_lab import DENY, RETURN_TO_HOST, Rules, both, egress, ingress, rule, snapshot, topology

from dataplanes.api import Action, NodeSettings
from dataplanes.iptables import IptablesDataplane, IptablesLegacyDataplane, transaction
from dataplanes.nftables import NftablesDataplane
from lab.fabric.lab import Lab
from lab.topology import address_of

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="labs are built by root only")

UDP = 17
SO_MARK = 36
OPEN = {"profile": True}
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    with Lab(topology(tmp_path_factory.mktemp("lab"))) as made:
        yield made


@pytest.fixture(params=[IptablesDataplane, IptablesLegacyDataplane, NftablesDataplane], ids=lambda plugin: plugin.name)
def dataplane(request, lab):
    made = request.param(lab.nodes["node-1"])
    made.start()
    lab.flush_conntrack()
    yield made
    made.stop()


@pytest.fixture(params=[4, 6], ids=["ipv4", "ipv6"])
def family(request):
    return request.param


@pytest.fixture
def enforce(lab, dataplane):
    """Put a snapshot in force that is told by its host endpoints, workloads and settings."""
    return lambda hosts=None, **fields: dataplane.apply(snapshot(lab, hosts, **fields))


@pytest.fixture
def talk(lab, family):
    with Talk(lab, family) as made:
        yield made


class Talk:
    """UDP sockets at the ends of a lab, in one family; what is heard at once is all that is ever heard."""

    def __init__(self, lab, family):
        self._lab, self._family = lab, family
        self._sockets = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for sock in self._sockets:
            sock.close()

    def address(self, end):
        return str(address_of(self._lab.topology.end(end), self._family))

    def at(self, end, port=0):
        sock = self._lab.hosts[end].socket(FAMILIES[self._family], socket.SOCK_DGRAM)
        self._sockets.append(sock)
        sock.bind((self.address(end), port))
        sock.setblocking(False)
        return sock

    def says(self, sock, end, port):
        """Send from a socket; a node's own rules may refuse it at once."""
        try:
            sock.sendto(b"hello", (end if "." in end or ":" in end else self.address(end), port))
        except PermissionError:
            return

    def heard(self, sock):
        """Whether something has come in, and from where."""
        assert self._lab.barrier.wait(self._lab.longest_path + 1)
        try:
            return sock.recvfrom(100)[1][:2]
        except BlockingIOError:
            return None


@contextmanager
def dnat(lab, dataplane, family, chain, target, *match):
    """A rule of the node's own that sends what matches elsewhere."""
    backend = "legacy" if dataplane.name.endswith("legacy") else "nft"
    tool = f"{'iptables' if family == 4 else 'ip6tables'}-{backend}"
    rest = ["-p", "udp", *match, "-j", "DNAT", "--to-destination", target]
    node = lab.nodes["node-1"]
    assert node.run([tool, "-t", "nat", "-A", chain, *rest]).returncode == 0
    try:
        yield
    finally:
        node.run([tool, "-t", "nat", "-D", chain, *rest])


def target(talk, end, port):
    address = talk.address(end)
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


@pytest.fixture
def node_port(lab, dataplane, talk, family):
    """Port 32010 of node-1 is port 8055 of x/a; the socket there."""
    aim = (target(talk, "x/a", 8055), "-d", talk.address("node-1"), "--dport", "32010")
    with dnat(lab, dataplane, family, "PREROUTING", *aim):
        yield talk.at("x/a", 8055)


def reaches(talk, source, end, port, listener):
    """Whether a new flow from the source comes out at the listening socket."""
    talk.says(talk.at(source), end, port)
    return talk.heard(listener) is not None


def test_policy_ahead_of_dnat_sees_the_node_port_and_not_the_pods(enforce, talk, node_port):
    pinhole = {"pre_dnat_tiers": ingress(rule(protocol=UDP, port=32010), DENY)}
    enforce({"eth0": {**OPEN, **pinhole}})
    assert reaches(talk, "client", "node-1", 32010, node_port)
    enforce({"eth0": {**OPEN, "pre_dnat_tiers": ingress(rule(protocol=UDP, port=8055), DENY)}})
    assert not reaches(talk, "client", "node-1", 32010, node_port)


def test_policy_behind_dnat_sees_the_pods_port(enforce, talk, node_port):
    enforce({"eth0": {**OPEN, "forward_tiers": ingress(rule(protocol=UDP, port=8055))}})
    assert reaches(talk, "client", "node-1", 32010, node_port)
    enforce({"eth0": {**OPEN, "forward_tiers": ingress(rule(protocol=UDP, port=32010))}})
    assert not reaches(talk, "client", "node-1", 32010, node_port)


def test_named_host_endpoint_does_not_touch_a_pod_at_a_node_port_and_the_general_one_does(enforce, talk, node_port):
    enforce({"eth0": {**OPEN, "pre_dnat_tiers": ingress(DENY)}})
    assert reaches(talk, "x/b", "node-1", 32010, node_port)
    enforce({"*": {**OPEN, "pre_dnat_tiers": ingress(DENY)}})
    assert not reaches(talk, "x/b", "node-1", 32010, node_port)


def test_node_reaches_its_own_pod_through_a_service_whatever_the_host_endpoints_say(
    enforce, lab, dataplane, talk, family
):
    enforce({"*": {}}, workloads={"x/a": both(DENY)})
    listener = talk.at("x/a", 8055)
    service = "203.0.113.200" if family == 4 else "2001:db8::200"
    with dnat(lab, dataplane, family, "OUTPUT", target(talk, "x/a", 8055), "-d", service):
        assert reaches(talk, "node-1", service, 80, listener)


def test_node_to_a_remote_pod_through_a_service_is_judged_where_it_goes(enforce, lab, dataplane, talk, family):
    listener = talk.at("x/c", 8055)
    service = "203.0.113.200" if family == 4 else "2001:db8::200"
    with dnat(lab, dataplane, family, "OUTPUT", target(talk, "x/c", 8055), "-d", service):
        enforce({"eth0": {**OPEN, "tiers": egress(rule(protocol=UDP, port=8055))}})
        assert reaches(talk, "node-1", service, 80, listener)
        enforce({"eth0": {**OPEN, "tiers": egress(rule(protocol=UDP, port=80))}})
        assert not reaches(talk, "node-1", service, 80, listener)


def test_node_to_a_service_on_itself_is_judged_by_where_it_goes(enforce, lab, dataplane, talk, family):
    """The address is the node's own, so that its packets set out for the loopback; then they leave by eth0."""
    listener = talk.at("x/c", 8055)
    with dnat(lab, dataplane, family, "OUTPUT", target(talk, "x/c", 8055), "-d", talk.address("node-1")):
        enforce({"lo": OPEN, "eth0": {}})
        assert not reaches(talk, "node-1", "node-1", 80, listener)
        enforce({"lo": {}, "eth0": OPEN})
        assert reaches(talk, "node-1", "node-1", 80, listener)


def test_answers_to_what_the_node_asked_reach_it_whatever_the_action(enforce, talk):
    enforce(settings=NodeSettings(endpoint_to_host_action="drop"), workloads={"x/a": both(DENY)})
    node, pod = talk.at("node-1", 4000), talk.at("x/a", 5000)
    talk.says(pod, "node-1", 4000)
    assert talk.heard(node) is None
    talk.says(node, "x/a", 5000)
    assert talk.heard(pod)
    talk.says(pod, "node-1", 4000)
    assert talk.heard(node)


def converse(talk, port=80):
    client, node = talk.at("client"), talk.at("node-1", port)
    talk.says(client, "node-1", port)
    asked = talk.heard(node)
    assert asked
    node.sendto(b"answer", asked)
    assert talk.heard(client)
    return client, node


def test_established_flow_outlives_a_policy_that_denies_it(enforce, talk):
    enforce({"eth0": {"tiers": ingress(rule(protocol=UDP, port=80))}})
    client, node = converse(talk)
    enforce({"eth0": {"tiers": both(DENY), "pre_dnat_tiers": ingress(DENY)}})
    talk.says(client, "node-1", 80)
    assert talk.heard(node)
    assert not reaches(talk, "client", "node-1", 80, node)


def test_untracked_flow_ends_with_the_policy_that_allowed_it(enforce, talk):
    server = Rules((rule(protocol=UDP, port=80),), (rule(protocol=UDP, source_port=80),))
    enforce({"eth0": {"untracked_tiers": server}})
    client, node = converse(talk)
    enforce({"eth0": {"untracked_tiers": ingress(rule(protocol=UDP, port=81))}})
    talk.says(client, "node-1", 80)
    assert talk.heard(node) is None


def test_marks_that_a_program_sets_open_nothing(enforce, talk):
    """All bits of ours at once, from the node and from a pod, where bits are read that earlier tables set."""
    stages = {
        "untracked_tiers": both(rule(protocol=UDP, port=9)),
        "pre_dnat_tiers": ingress(rule(protocol=UDP, port=9)),
    }
    enforce({"eth0": stages, "*": stages}, settings=NodeSettings())
    for port, (source, end) in enumerate((("node-1", "client"), ("node-1", "node-1"), ("x/a", "node-1")), 80):
        listener = talk.at(end, port)
        forger = talk.at(source)
        forger.setsockopt(socket.SOL_SOCKET, SO_MARK, 0x1FF0000)
        talk.says(forger, end, port)
        assert talk.heard(listener) is None


def test_pool_traffic_leaves_with_the_nodes_address_but_not_to_a_pool(enforce, talk):
    pools = tuple(map(ip_network, ("198.18.0.0/16", "fd00:18::/32")))
    enforce(settings=replace(RETURN_TO_HOST, masquerade=pools, pools=pools))
    outside, inside = talk.at("client", 80), talk.at("x/c", 80)
    pod = talk.at("x/a", 4000)
    talk.says(pod, "client", 80)
    assert talk.heard(outside)[0] == talk.address("node-1")
    talk.says(pod, "x/c", 80)
    assert talk.heard(inside)[0] == talk.address("x/a")


def test_masquerade_of_one_family_leaves_the_other_alone(enforce, talk, family):
    pools = (ip_network("198.18.0.0/16"),)
    enforce(settings=replace(RETURN_TO_HOST, masquerade=pools, pools=pools))
    outside = talk.at("client", 80)
    talk.says(talk.at("x/a"), "client", 80)
    assert talk.heard(outside)[0] == talk.address("node-1" if family == 4 else "x/a")


# Ports that both snapshots accept and that both deny, each at another stage than the other.
ACCEPTED, DENIED = (1001, 1002, 1003), (2001, 2002, 2003)
EARLY = {
    "untracked_tiers": ingress(rule(protocol=UDP, port=1001), rule(Action.DENY, protocol=UDP, port=2001)),
    "pre_dnat_tiers": ingress(rule(protocol=UDP, port=1002), rule(Action.DENY, protocol=UDP, port=2002)),
    "tiers": ingress(*(rule(protocol=UDP, port=port) for port in (1003, 2001, 2002)), DENY),
}
"""Decides ahead of filter what LATE decides in it, and the other way round."""
LATE = {
    "untracked_tiers": ingress(rule(protocol=UDP, port=1003), rule(Action.DENY, protocol=UDP, port=2003)),
    "pre_dnat_tiers": ingress(rule(protocol=UDP, port=9)),
    "tiers": ingress(*(rule(protocol=UDP, port=port) for port in (1001, 1002, 2003)), DENY),
}


class Stream(threading.Thread):
    """New packets to all ports, from the client to the node, until it is told to stop."""

    def __init__(self, talk):
        super().__init__()
        self._client = talk.at("client")
        self._address = talk.address("node-1")
        self._listeners = {port: talk.at("node-1", port) for port in (*ACCEPTED, *DENIED)}
        self._done = threading.Event()
        self.sent = 0
        self.heard = dict.fromkeys(self._listeners, 0)

    def run(self):
        while not self._done.is_set():
            for port in self._listeners:
                self._client.sendto(b"hello", (self._address, port))
            self.sent += 1
            self._drain()

    def _drain(self):
        for port, listener in self._listeners.items():
            try:
                while listener.recv(100):
                    self.heard[port] += 1
            except BlockingIOError:
                continue

    def finish(self):
        self._done.set()
        self.join()
        self._drain()


def changes(enforce, talk, states, rounds=8):
    """What a stream heard while the states were put in force one after another, again and again."""
    enforce({"eth0": states[-1]})
    stream = Stream(talk)
    stream.start()
    try:
        for _ in range(rounds):
            for state in states:
                enforce({"eth0": state})
    finally:
        stream.finish()
    return stream


def test_no_packet_is_judged_half_by_the_old_rules_and_half_by_the_new(enforce, talk):
    stream = changes(enforce, talk, (LATE, EARLY))
    assert stream.sent > 100
    assert stream.heard == dict.fromkeys(ACCEPTED, stream.sent) | dict.fromkeys(DENIED, 0)


@pytest.mark.parametrize("order", [("raw", "mangle", "filter", "nat"), ("filter", "mangle", "raw", "nat")])
def test_tables_changed_one_by_one_in_any_order_would_be_caught(enforce, dataplane, talk, monkeypatch, order):
    """The stream sees windows where there are some."""
    if isinstance(dataplane, NftablesDataplane):
        pytest.skip("its hooks change in one transaction or in three, never one by one")
    monkeypatch.setattr(transaction, "_side_by_side", lambda tables, before, _: one_by_one(tables, before))
    monkeypatch.setattr(transaction, "_FIRST_TO_LAST", order)
    one_by_one = transaction._one_by_one
    monkeypatch.setattr(transaction, "after", lambda ruleset, _, real=transaction.after: real(ruleset, 0))
    streams = (changes(enforce, talk, (LATE, EARLY)) for _ in range(20))
    # How wide a window is depends on the machine's other load: one in so many tries is seen for certain.
    assert any(found.heard != dict.fromkeys(ACCEPTED, found.sent) | dict.fromkeys(DENIED, 0) for found in streams)


def test_host_endpoints_that_come_and_go_cut_nothing_that_both_accept(enforce, talk):
    stream = changes(enforce, talk, (EARLY | {"profile": True}, {"profile": True}), rounds=4)
    assert {port: stream.heard[port] for port in ACCEPTED} == dict.fromkeys(ACCEPTED, stream.sent)
