# SPDX-License-Identifier: Apache-2.0
"""Topology files: what is read, what is filled in, and one clear error for each thing that cannot be."""

from __future__ import annotations

import time
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from lab.errors import LabError, LabErrors, TopologyError
from lab.topology import External, Link, Port, Topology, Workload
from lab.topology.load import load_topology
from lab.topology.shipped import shipped_names, shipped_topology

BASE = "nodes: {node-1: , node-2: }\nnamespaces: {x: {serviceAccounts: {web: }}, y: }\n"


def load(folder: Path, text: str) -> Topology:
    path = folder / "lab.yaml"
    path.write_text(text)
    return load_topology(path)


def complaints(folder: Path, text: str) -> list[str]:
    with pytest.raises(LabError) as caught:
        load(folder, text)
    errors = caught.value.errors if isinstance(caught.value, LabErrors) else (caught.value,)
    assert all(isinstance(error, TopologyError) and error.exit_code == 2 for error in errors)
    return [str(error).replace(f"{folder}/", "") for error in errors]


def addresses(*texts: str) -> tuple[object, ...]:
    return tuple(ip_address(text) for text in texts)


def test_full_file_is_read_as_written(tmp_path: Path) -> None:
    topology = load(
        tmp_path,
        """
name: full
encapsulation: vxlan
pods: {ipv4: 10.1.0.0/16, ipv6: "fd01::/64"}
underlay: {ipv4: 10.2.0.0/24}
nodes:
  node-1: {kind: container, labels: {zone: a}, addresses: [10.2.0.9]}
  node-2:
namespaces:
  x: {labels: {ns: x}, serviceAccounts: {web: {labels: {role: web}}, idle: }}
workloads:
  x/a:
    node: node-1
    labels: {pod: a, example.com/tier: ""}
    serviceAccount: web
    addresses: [10.1.0.7, "fd01::7"]
    ports: [{name: http, protocol: tcp, port: 80}, {port: 53, protocol: UDP}]
    profiles: [open]
    sidecar: envoy
externals:
  client: {addresses: [203.0.113.9], ports: [{name: s, protocol: SCTP, port: 5}]}
links: [{between: [node-1, client], interface: eth1, mtu: 1400}]
""",
    )
    assert topology.name == "full"
    assert topology.is_encapsulated
    assert topology.pods.ipv4 == ip_network("10.1.0.0/16")
    assert topology.underlay.ipv6 == ip_network("fd00:19::/64")
    assert topology.nodes["node-1"].kind == "container"
    assert topology.nodes["node-1"].addresses == addresses("10.2.0.9")
    assert topology.namespaces["x"].labels == {"ns": "x", "kubernetes.io/metadata.name": "x"}
    assert topology.namespaces["x"].service_accounts == {"web": {"role": "web"}, "idle": {}}
    assert topology.workloads["x/a"] == Workload(
        namespace="x",
        short_name="a",
        node="node-1",
        labels={"pod": "a", "example.com/tier": ""},
        service_account="web",
        addresses=addresses("10.1.0.7", "fd01::7"),  # type: ignore[arg-type]  # a tuple of what ip_address gives
        ports=(Port("http", 6, 80), Port("", 17, 53)),
        profiles=("open",),
        sidecar="envoy",
    )
    assert str(topology.workloads["x/a"].place).endswith("lab.yaml:12:3")
    client = topology.externals["client"]
    assert isinstance(client, External)
    assert client.ports == (Port("s", 132, 5),)
    assert topology.links == (Link(("node-1", "client"), "eth1", 1400),)


def test_addresses_are_drawn_in_order_around_those_given(tmp_path: Path) -> None:
    topology = load(
        tmp_path,
        BASE
        + "externals: {far: {addresses: [198.19.0.3]}, near: }\n"
        + "workloads: {x/a: {node: node-1}, x/b: {node: node-1, addresses: [198.18.0.2]}, y/a: {node: node-2}}",
    )
    assert topology.nodes["node-1"].addresses == addresses("198.19.0.1", "fd00:19::1")
    assert topology.nodes["node-2"].addresses == addresses("198.19.0.2", "fd00:19::2")
    assert topology.externals["near"].addresses == addresses("198.19.0.4", "fd00:19::3")
    assert topology.workloads["x/a"].addresses == addresses("198.18.0.1", "fd00:18::1")
    assert topology.workloads["x/b"].addresses == addresses("198.18.0.2")
    assert topology.workloads["y/a"].addresses == addresses("198.18.0.3", "fd00:18::2")


def test_file_without_workloads_is_named_after_itself(tmp_path: Path) -> None:
    topology = load(tmp_path, "nodes: {1: }")
    assert (topology.name, list(topology.nodes), topology.endpoints()) == ("lab", ["1"], ())


def test_default_service_account_needs_no_declaration(tmp_path: Path) -> None:
    topology = load(tmp_path, BASE + "workloads: {y/a: {node: node-1, serviceAccount: default}}")
    assert topology.namespaces["y"].service_accounts == {"default": {}}
    assert topology.namespaces["x"].service_accounts == {"web": {}}


def test_pool_is_used_to_its_last_host(tmp_path: Path) -> None:
    text = "nodes: {n: }\npods: {ipv4: 10.0.0.0/30}\nnamespaces: {x: }\nworkloads: {x/a: {node: n}, x/b: {node: n}"
    assert load(tmp_path, text + "}").workloads["x/b"].addresses[0] == ip_address("10.0.0.2")
    (told,) = complaints(tmp_path, text + ", x/c: {node: n}}")
    assert told.startswith("lab.yaml:4:45: the pool 10.0.0.0/30 is too small: no address is left for x/c")


WORKLOAD = BASE + "workloads: {x/a: {node: node-1, %s}}"
LINK = BASE + "links: [{between: [node-1, node-2], interface: %s}]"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "lab.yaml: the file holds nothing"),
        (BASE + "---\n" + BASE, "lab.yaml: the file holds 2 documents"),
        ("[]", "lab.yaml:1:1: the document must be a mapping, not a list"),
        ("apiVersion: v1\nkind: Pod", "lab.yaml:2:7: is a resource of kind Pod, not a topology"),
        ("name: a", "lab.yaml:1:1: the document has no 'nodes'"),
        ("nodes: {}", "lab.yaml:1:8: nodes has 0 entries; allowed: at least 1"),
        ("nodes: [a]", "lab.yaml:1:8: nodes must be a mapping, not a list"),
        ("name: A b\nnodes: {a: }", "lab.yaml:1:7: name is not a name; given: 'A b'"),
        ("nodes: {Node_1: }", "lab.yaml:1:9: nodes.Node_1 is not a name"),
        ("nodes: {" + "n" * 64 + ": }", "lab.yaml:1:9: nodes.nnn"),
        ("nodes: {a: {kind: vm}}", "lab.yaml:1:19: nodes.a.kind is not allowed; given: 'vm'; allowed: namespace, con"),
        ("nodes: {a: {labls: {}}}", "lab.yaml:1:13: unknown key 'labls' in nodes.a; allowed: kind, labels, addresses"),
        (BASE + "workload: {}", "lab.yaml:3:1: unknown key 'workload' in the document"),
        (BASE + "workloads: {a: {node: node-1}}", "lab.yaml:3:13: workloads.a is not a workload's name"),
        (BASE + "workloads: {x/A: {node: node-1}}", "lab.yaml:3:13: workloads.x/A is not a workload's name"),
        (BASE + "workloads: {x/a: {}}", "lab.yaml:3:13: workloads.x/a has no 'node', which it needs"),
        (
            BASE + "workloads: {x/a: {node: node-3}}",
            "lab.yaml:3:25: unknown node 'node-3'; allowed: node-1, node-2; next",
        ),
        (
            BASE + "workloads: {xx/a: {node: node-1}}",
            "lab.yaml:3:13: unknown namespace 'xx'; allowed: x, y; next: did y",
        ),
        (BASE + "workloads: {x/a: {node: node-1}, x/a: }", "lab.yaml:3:34: the key 'x/a' is given twice"),
        (BASE + "externals: {node-2: }", "lab.yaml:3:13: the name 'node-2' is given twice: a node has it too"),
        ("nodes: {underlay: }", "lab.yaml:1:9: the name 'underlay' is the lab's own"),
        (BASE + "externals: {underlay: }", "lab.yaml:3:13: the name 'underlay' is the lab's own"),
        (BASE + "externals: {c: {addresses: [198.18.9.9]}}", "lab.yaml:3:29: the address 198.18.9.9 is inside the w"),
        (BASE + "externals: {c: {addresses: [198.19.0.255]}}", "lab.yaml:3:29: 198.19.0.255 is the network or broad"),
        (
            "nodes: {a: {addresses: [10.0.0.1]}}",
            "lab.yaml:1:25: the address 10.0.0.1 is outside its pool; allowed: an ",
        ),
        ("nodes: {a: }\nnamespaces: {x: {labels: {kubernetes.io/metadata.name: y}}}", "lab.yaml:2:56: the label kube"),
        (WORKLOAD % "serviceAccount: wep", "lab.yaml:3:49: unknown service account of namespace x 'wep'; allowed: web"),
        (WORKLOAD % "addresses: [10.0.0.1]", "lab.yaml:3:45: the address 10.0.0.1 is outside its pool"),
        (WORKLOAD % "addresses: [198.18.0.0]", "lab.yaml:3:45: 198.18.0.0 is the network or broadcast address"),
        (WORKLOAD % "addresses: ['fd00:18::']", "lab.yaml:3:45: fd00:18:: is the network or broadcast address"),
        (WORKLOAD % "addresses: []", "lab.yaml:3:44: workloads.x/a.addresses has 0 entries"),
        (WORKLOAD % "addresses: [198.18.0.1/32]", "lab.yaml:3:45: workloads.x/a.addresses[0] is not an address; given"),
        (WORKLOAD % "addresses: [198.18.0.300]", "lab.yaml:3:45: workloads.x/a.addresses[0] is not an address"),
        (WORKLOAD % "addresses: ['fd00:18::1%eth0']", "lab.yaml:3:45: workloads.x/a.addresses[0] is not an address"),
        (WORKLOAD % "addresses: [7]", "lab.yaml:3:45: workloads.x/a.addresses[0] is not an address; given: 7"),
        (WORKLOAD % "addresses: [198.18.0.5, 198.18.0.5]", "lab.yaml:3:57: the address 198.18.0.5 is given twice: x/a"),
        (WORKLOAD % "ports: [{port: 0}]", "lab.yaml:3:48: workloads.x/a.ports[0].port is out of range; given: 0"),
        (WORKLOAD % "ports: [{port: 65536}]", "lab.yaml:3:48: workloads.x/a.ports[0].port is out of range; given: 6"),
        (WORKLOAD % "ports: [{port: '80'}]", "lab.yaml:3:48: workloads.x/a.ports[0].port must be a whole number, not"),
        (
            WORKLOAD % "ports: [{port: 1, protocol: ICMP}]",
            "lab.yaml:3:61: workloads.x/a.ports[0].protocol is not a pro",
        ),
        (WORKLOAD % "ports: [{port: 1, name: a b}]", "lab.yaml:3:57: workloads.x/a.ports[0].name is not a port's name"),
        (WORKLOAD % "ports: [{port: 1}, {port: 1}]", "lab.yaml:3:52: port 1/TCP is given twice"),
        (WORKLOAD % "labels: {a/b/c: d}", "lab.yaml:3:42: workloads.x/a.labels.a/b/c is not a label's key"),
        (WORKLOAD % "labels: {a: b c}", "lab.yaml:3:45: workloads.x/a.labels.a is not a label's value; given: 'b c'"),
        (
            WORKLOAD % "labels: {a: 1}",
            "lab.yaml:3:45: workloads.x/a.labels.a must be text, not the number 1; next: put",
        ),
        (WORKLOAD % "profiles: [a, a]", "lab.yaml:3:47: the profile 'a' is given twice"),
        (WORKLOAD % "profiles: [A]", "lab.yaml:3:44: workloads.x/a.profiles[0] is not a profile's name"),
        (
            WORKLOAD % "sidecar: nginx",
            "lab.yaml:3:42: workloads.x/a.sidecar is not allowed; given: 'nginx'; allowed: env",
        ),
        (BASE + "pods: {ipv4: 10.0.0.1/8}", "lab.yaml:3:14: pods.ipv4 has bits beyond its prefix; given: '10.0.0.1/8'"),
        (BASE + "pods: {ipv4: 10.0.0.0/33}", "lab.yaml:3:14: pods.ipv4 is not a network"),
        (BASE + "pods: {ipv4: 10.0.0.0}", "lab.yaml:3:14: pods.ipv4 is not a network"),
        (BASE + "pods: {ipv6: 10.0.0.0/8}", "lab.yaml:3:14: pods.ipv6 is not a network"),
        (BASE + "pods: {ipv4: 224.0.0.0/8}", "lab.yaml:3:14: pods.ipv4 is no pool of addresses for ends"),
        (BASE + "pods: {ipv4: 198.19.0.0/16}", "lab.yaml:3:14: the ipv4 pools overlap: pods 198.19.0.0/16, underlay"),
        (BASE + "underlay: {ipv6: 'fd00:18::/48'}", "lab.yaml:3:18: the ipv6 pools overlap"),
        (LINK % "eth1, rate: 1mbit", "lab.yaml:3:54: 'rate' of a link is not supported yet"),
        (LINK % "eth1, loss: 1", "lab.yaml:3:54: 'loss' of a link is not supported yet"),
        (LINK % "eth1, mtu: 1279", "lab.yaml:3:59: links[0].mtu is out of range; given: 1279; allowed: at least 1280"),
        (LINK % "a23456789012345", None),
        (LINK % "a234567890123456", "lab.yaml:3:48: links[0].interface is not an interface name"),
        (LINK % "a/b", "lab.yaml:3:48: links[0].interface is not an interface name"),
        (LINK % "a b", "lab.yaml:3:48: links[0].interface is not an interface name"),
        (LINK % "eth0", "lab.yaml:3:48: links[0].interface is not an interface name"),
        (BASE + "links: [{between: [node-1], interface: e}]", "lab.yaml:3:19: links[0].between has 1 entries"),
        (
            BASE + "links: [{between: [node-1, node-1], interface: e}]",
            "lab.yaml:3:19: a link between node-1 and itself",
        ),
        (BASE + "links: [{between: [node-1, nod-2], interface: e}]", "lab.yaml:3:28: unknown end of a link 'nod-2'"),
        (LINK[:-1] % "e" + ", {between: [node-2, node-1], interface: e}]", "lab.yaml:3:91: node-2 has two links"),
    ],
)
def test_what_cannot_be_is_told_at_its_place(tmp_path: Path, text: str, told: str | None) -> None:
    if told is None:
        load(tmp_path, text)
    else:
        assert complaints(tmp_path, text)[0].startswith(told)


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("0.0.0.7", "this host"),
        ("127.0.0.1", "loopback"),
        ("169.254.1.1", "link-local"),
        ("224.0.0.1", "multicast"),
        ("255.255.255.255", "reserved"),
        ("::1", "loopback"),
        ("::", "unspecified"),
        ("fe80::1", "link-local"),
        ("ff02::1", "multicast"),
        ("::ffff:192.0.2.1", "IPv4 address in disguise"),
    ],
)
def test_address_that_no_host_can_have_is_refused(tmp_path: Path, address: str, why: str) -> None:
    (told,) = complaints(tmp_path, BASE + f"externals: {{c: {{addresses: ['{address}']}}}}")
    assert "is no address for an end" in told
    assert why in told


def test_address_given_to_two_ends_names_both(tmp_path: Path) -> None:
    text = (
        BASE
        + "workloads:\n  x/a: {node: node-1, addresses: [198.18.0.5]}\n  x/b: {node: node-2, addresses: [198.18.0.5]}"
    )
    assert complaints(tmp_path, text) == [
        "lab.yaml:5:35: the address 198.18.0.5 is given twice: x/a has it too; allowed: one end an address"
    ]


def test_several_wrong_names_are_told_together(tmp_path: Path) -> None:
    text = BASE + "workloads: {x/a: {node: a}, z/a: {node: b}}"
    assert [told.split(";")[0] for told in complaints(tmp_path, text)] == [
        "lab.yaml:3:25: unknown node 'a'",
        "lab.yaml:3:41: unknown node 'b'",
        "lab.yaml:3:29: unknown namespace 'z'",
    ]


def test_interfaces_of_one_node_that_collide_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Workload, "interface", property(lambda _: "cali0"))
    text = BASE + "workloads: {x/a: {node: node-1}, x/b: {node: node-2}, y/b: {node: node-1}}"
    (told,) = complaints(tmp_path, text)
    assert told.startswith("lab.yaml:3:55: y/b and x/a both get the interface cali0")


def test_thousand_workloads_load_in_about_a_second(tmp_path: Path) -> None:
    workload = "  x/w{0}: {{node: node-1, labels: {{pod: w{0}, app: web}}, ports: [{{name: http, port: 80}}]}}\n"
    text = BASE + "workloads:\n" + "".join(workload.format(number) for number in range(1000))
    start = time.process_time()
    topology = load(tmp_path, text)
    assert time.process_time() - start < 2
    assert len({workload.addresses for workload in topology.workloads.values()}) == 1000


def test_missing_file_suggests_a_shipped_topology(tmp_path: Path) -> None:
    with pytest.raises(TopologyError, match=r"three-by-tree: no such file.*did you mean 'three-by-three'"):
        load_topology("three-by-tree")
    with pytest.raises(TopologyError, match="no such file"):
        load_topology(tmp_path / "none.yaml")


def test_shipped_topologies_are_found_by_name_and_load() -> None:
    assert {"three-by-three", "one-node", "many-nodes", "external-client"} <= set(shipped_names())
    for name in shipped_names():
        assert load_topology(name).name == name
    assert shipped_topology("policies/../three-by-three") is None


def test_installed_package_brings_its_own_topologies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.yaml").write_text("nodes: {a: }")
    monkeypatch.setattr("lab.topology.shipped._FOLDERS", (tmp_path / "none", tmp_path))
    assert shipped_names() == ["mine"]
    assert list(load_topology("mine").nodes) == ["a"]


def test_file_in_the_working_directory_comes_before_a_shipped_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one-node").write_text("nodes: {own: }")
    monkeypatch.chdir(tmp_path)
    assert list(load_topology("one-node").nodes) == ["own"]


def test_three_by_three_has_pairs_on_one_node_and_across() -> None:
    topology = load_topology("three-by-three")
    assert list(topology.namespaces) == ["x", "y", "z"]
    assert [workload.name for workload in topology.workloads.values()] == [f"{n}/{p}" for n in "xyz" for p in "abc"]
    for namespace in "xyz":
        nodes = {topology.workloads[f"{namespace}/{pod}"].node for pod in "abc"}
        assert nodes == {"node-1", "node-2"}
    for workload in topology.workloads.values():
        assert {(port.name, port.protocol, port.port) for port in workload.ports} == {
            (f"serve-{port}-{label}", protocol, port)
            for port in (80, 81)
            for label, protocol in (("tcp", 6), ("udp", 17), ("sctp", 132))
        }
        assert [address.version for address in workload.addresses] == [4, 6]
