# SPDX-License-Identifier: Apache-2.0
"""Labs in the real kernel: what comes up is what was planned, and carries packets."""

import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import ip_interface
from pathlib import Path

import pytest

from lab.errors import HostError
from lab.fabric.lab import Lab
from lab.fabric.namespace_node import NamespaceNode
from lab.topology.load import load_topology

TOPOLOGY = """
name: fabric
nodes: {n1: {}, n2: {}}
namespaces: {x: {}}
workloads:
  x/a: {node: n1}
  x/b: {node: n1}
  x/c: {node: n2}
externals:
  client: {addresses: [203.0.113.9, "2001:db8::9"]}
links:
  - {between: [n1, client], interface: wire0, mtu: 1400}
"""

FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
ETH_P_ALL = 0x0003
MAIN_TABLE = 254
PERMANENT = 0x80
UP = 1


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    file = tmp_path_factory.mktemp("fabric") / "topology.yaml"
    file.write_text(TOPOLOGY)
    with Lab(load_topology(file)) as up:
        yield up


def address(lab: Lab, name: str, version: int) -> str:
    return next(str(each) for each in lab.topology.end(name).addresses if each.version == version)


def main_routes(node: NamespaceNode) -> set[tuple[str | None, str | None]]:
    names = {link["index"]: link.get("ifname") for link in node.interfaces()}
    return {(route.get("dst"), names[route.get("oif")]) for route in node.routes() if route.get("table") == MAIN_TABLE}


def exchange(lab: Lab, source: str, destination: str, version: int) -> bytes:
    """Send a few bytes over a TCP connection of real sockets."""
    to = (address(lab, destination, version), 8080)
    with (
        lab.hosts[destination].socket(FAMILY[version], socket.SOCK_STREAM) as listener,
        lab.hosts[source].socket(FAMILY[version], socket.SOCK_STREAM) as client,
    ):
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.settimeout(5)
        client.settimeout(5)
        listener.bind(to)
        listener.listen()
        client.connect(to)
        client.sendall(b"hello")
        with listener.accept()[0] as served:
            return served.recv(16)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(
    ("source", "destination"),
    [("x/a", "x/c"), ("x/a", "x/b"), ("client", "x/c"), ("x/c", "client"), ("n1", "x/c"), ("x/a", "n2"), ("n1", "n2")],
)
def test_any_end_reaches_any_other_over_tcp(lab: Lab, source: str, destination: str, version: int):
    assert exchange(lab, source, destination, version) == b"hello"


def test_workload_has_host_addresses_and_a_link_local_gateway(lab: Lab):
    host = lab.hosts["x/a"]
    given = {f"{each.get('address')}/{each['prefixlen']}" for each in host.addresses()}
    expected = {str(ip_interface(each)) for each in lab.ports["x/a"].addresses}
    assert given == expected | {"127.0.0.1/8", "::1/128"}
    gateways = {route.get("gateway") for route in host.routes() if route["dst_len"] == 0 and route.get("gateway")}
    assert gateways == {"169.254.1.1", "fe80::1"}


def test_node_routes_to_its_workloads_by_their_interfaces_and_to_all_else_by_eth0(lab: Lab):
    expected = {(None, "eth0")}
    expected |= {
        (address(lab, name, version), lab.topology.workloads[name].interface)
        for name in ("x/a", "x/b")
        for version in (4, 6)
    }
    assert main_routes(lab.nodes["n1"]) - {(address(lab, "n1", 6), "eth0")} == expected


def test_underlay_routes_to_every_end_and_nowhere_else(lab: Lab):
    destinations = {destination for destination, _ in main_routes(lab.underlay)}
    assert destinations == {str(each) for name in lab.hosts for each in lab.topology.end(name).addresses}


def test_port_describes_the_interface_that_is_there(lab: Lab):
    for name, port in lab.ports.items():
        link = next(link for link in port.host.interfaces() if link.get("ifname") == port.interface)
        assert (link["index"], link.get("address")) == (port.ifindex, port.mac.hex(":")), name
        assert link.get("mtu") == 1500
        gateways = {each.get("lladdr") for each in port.host.neighbours() if each["state"] == PERMANENT}
        assert gateways == {port.gateway_mac.hex(":")}


def test_ports_are_of_workloads_and_externals_only(lab: Lab):
    assert set(lab.ports) == {"x/a", "x/b", "x/c", "client"}
    assert set(lab.hosts) == {*lab.ports, *lab.nodes}


def test_extra_link_is_up_at_both_ends_without_addresses(lab: Lab):
    for name in ("n1", "client"):
        link = next(link for link in lab.hosts[name].interfaces() if link.get("ifname") == "wire0")
        assert (link["flags"] & UP, link.get("mtu"), link.get("operstate")) == (UP, 1400, "UP")
        assert not [each for each in lab.hosts[name].addresses() if each["index"] == link["index"]]


def test_only_routers_forward_and_none_filters_by_reverse_path(lab: Lab):
    read = (
        "cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding /proc/sys/net/ipv4/conf/*/rp_filter"
    )
    for host in (lab.underlay, *lab.hosts.values()):
        ipv4, ipv6, *filters = host.run(["sh", "-c", read]).stdout.split()
        forwards = "1" if host is lab.underlay or host.name in lab.nodes else "0"
        assert (ipv4, ipv6, set(filters)) == (forwards, forwards, {"0"}), host


def test_all_neighbours_are_permanent_after_traffic(lab: Lab):
    """No timer of a pending neighbour may run when its namespace goes."""
    for version in (4, 6):
        exchange(lab, "x/a", "x/c", version)
        exchange(lab, "client", "n1", version)
    for host in (lab.underlay, *lab.hosts.values()):
        unicast = [each for each in host.neighbours() if not str(each.get("dst")).startswith(("ff0", "224."))]
        assert [each for each in unicast if each["state"] not in (PERMANENT, 0x40)] == []


def test_fresh_lab_is_silent(tmp_path: Path):
    """No router solicitations, multicast reports, probes: what is seen later was sent by somebody on purpose."""
    file = tmp_path / "topology.yaml"
    file.write_text(TOPOLOGY)
    heard = []
    with Lab(load_topology(file)) as lab, ExitStack() as stack:
        taps = [
            stack.enter_context(host.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)))
            for host in (lab.underlay, *lab.hosts.values())
        ]
        # The kernel's own delays before it speaks unasked are some ten milliseconds to a second.
        ready, _, _ = select.select(taps, [], [], 1.2)
        heard = [tap.recvfrom(2048) for tap in ready]
    assert heard == []


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("end", ["x/c", "client"])
def test_muted_end_is_seen_to_receive_but_does_not_answer(lab: Lab, end: str, version: int):
    port = lab.ports[end]
    to = (address(lab, end, version), 8080)
    with (
        lab.hosts["x/a"].socket(FAMILY[version], socket.SOCK_STREAM) as client,
        port.host.socket(socket.AF_PACKET, socket.SOCK_RAW) as tap,
    ):
        tap.bind((port.interface, ETH_P_ALL))
        tap.settimeout(5)
        client.settimeout(0.2)
        with lab.mute():
            # Neither refused (nobody listens there) nor connected.
            with pytest.raises(TimeoutError):
                client.connect(to)
            frame = tap.recv(2048)
    assert frame[0:6] != port.mac
    assert frame[12:14] == {4: b"\x08\x00", 6: b"\x86\xdd"}[version]
    assert exchange(lab, "x/a", end, version) == b"hello"


def test_muting_takes_less_than_a_millisecond_for_three_by_three():
    with Lab(load_topology("three-by-three")) as lab:
        times = []
        for _ in range(9):
            started = time.perf_counter()
            with lab.mute():
                times.append(time.perf_counter() - started)
        assert min(times) < 1e-3


def test_flush_empties_conntrack(lab: Lab):
    node = lab.nodes["n1"]
    rule = ["-A", "FORWARD", "-m", "conntrack", "--ctstate", "ESTABLISHED", "-j", "ACCEPT"]
    assert node.run(["iptables", "-w", *rule]).returncode == 0
    count = ["cat", "/proc/sys/net/netfilter/nf_conntrack_count"]
    exchange(lab, "x/a", "x/c", 4)
    assert int(node.run(count).stdout) > 0
    lab.flush_conntrack()
    assert int(node.run(count).stdout) == 0
    assert node.run(["iptables", "-w", "-F", "FORWARD"]).returncode == 0


def test_barrier_comes_through_and_says_when_it_cannot(lab: Lab, monkeypatch: pytest.MonkeyPatch):
    assert lab.barrier.wait(lab.longest_path + 1)
    assert lab.barrier.wait(0)
    monkeypatch.setattr("lab.fabric.barrier.TIMEOUT_SECONDS", 0.05)
    marker = lab.barrier._socket
    # Nobody listens to this protocol, so no marker is seen.
    marker.bind(("in", 0x88B6))
    assert not lab.barrier.wait(1)
    marker.bind(("in", 0x88B5))
    assert lab.barrier.wait(3)


def test_command_runs_in_the_host_with_its_input_and_status(lab: Lab):
    ended = lab.hosts["x/a"].run(["sh", "-c", "cat; ls /sys/class/net >/dev/null; ip -o link >&2; exit 7"], stdin="in")
    assert (ended.returncode, ended.stdout) == (7, "in")
    assert [line.split(":")[1].split("@")[0].strip() for line in ended.stderr.splitlines()] == ["lo", "eth0"]


def test_missing_command_is_named(lab: Lab):
    with pytest.raises(HostError, match="the command no-such-tool is not installed"):
        lab.nodes["n1"].run(["no-such-tool", "--help"])


def test_command_that_does_not_end_is_stopped(lab: Lab):
    started = time.monotonic()
    with pytest.raises(HostError, match=r"the command sleep in n1 was stopped after 0\.2 s"):
        lab.nodes["n1"].run(["sleep", "60"], timeout=0.2)
    assert time.monotonic() - started < 10


def test_sysctl_is_of_the_host_alone(lab: Lab):
    read = ["cat", "/proc/sys/net/ipv4/ip_default_ttl"]
    lab.hosts["x/a"].write_sysctl("ipv4.ip_default_ttl", "33")
    assert lab.hosts["x/a"].run(read).stdout.strip() == "33"
    assert lab.hosts["x/b"].run(read).stdout == Path(read[1]).read_text()


def test_unknown_sysctl_is_named(lab: Lab):
    with pytest.raises(HostError, match=r"net\.ipv4\.no_such"):
        lab.nodes["n1"].write_sysctl("ipv4.no_such", "1")
