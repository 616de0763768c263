# SPDX-License-Identifier: Apache-2.0
"""Files, directories and documents: what is read from where, which kinds there are, and errors over all of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lab.errors import LabError, LabErrors, PolicyError
from lab.policy.load import load_resources
from lab.policy.resources import Resources
from lab.topology import Topology

Load = Callable[[str], Resources]
Faults = Callable[[str], list[str]]

KUBECTL = """\
apiVersion: v1
items:
- apiVersion: networking.k8s.io/v1
  kind: NetworkPolicy
  metadata:
    annotations:
      kubectl.kubernetes.io/last-applied-configuration: |
        {"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy"}
    creationTimestamp: "2024-05-01T10:00:00Z"
    generation: 3
    labels:
      app: web
    managedFields:
    - apiVersion: networking.k8s.io/v1
      fieldsType: FieldsV1
      fieldsV1: {"f:spec": {"f:podSelector": {}}}
      manager: kubectl
      operation: Update
    name: web
    namespace: x
    ownerReferences: []
    finalizers: [example.org/keep]
    resourceVersion: "12345"
    uid: 5f2c7a52-1f0f-4d0b-8d68-0a1f8f9e4c11
  spec:
    ingress:
    - from:
      - namespaceSelector: {}
      ports:
      - port: 80
        protocol: TCP
    podSelector:
      matchLabels:
        app: web
    policyTypes:
    - Ingress
  status: {}
- apiVersion: projectcalico.org/v3
  kind: GlobalNetworkPolicy
  metadata:
    creationTimestamp: null
    name: default.deny
  spec:
    order: 1000
    tier: default
    types: [Ingress, Egress]
kind: List
metadata:
  resourceVersion: ""
"""


def text(name: str, kind: str = "GlobalNetworkPolicy", rest: str = "") -> str:
    return f"apiVersion: projectcalico.org/v3\nkind: {kind}\nmetadata: {{name: {name}}}\n{rest}"


def names(resources: Resources) -> list[str]:
    return [policy.name for policy in resources.policies]


def test_list_as_kubectl_writes_it_is_read(load: Load) -> None:
    assert names(load(KUBECTL)) == ["web", "default.deny"]


@pytest.mark.parametrize("kind", ["List", "GlobalNetworkPolicyList"])
def test_items_of_a_list_are_read_and_their_faults_told_in_place(load: Load, faults: Faults, kind: str) -> None:
    item = "  - {apiVersion: projectcalico.org/v3, kind: Global§NetworkPolicy, metadata: {name: a}}"
    whole = f"kind: {kind}\napiVersion: v1\nitems:\n{item}\n"
    assert names(load(whole.replace("§", ""))) == ["a"]
    (told,) = faults(whole.replace("kind: Global§Net", "kind: §GlobelNet"))
    assert told.startswith("items[0].kind is unknown | ")
    assert told.endswith("did you mean 'GlobalNetworkPolicy'?")


def test_items_of_a_bare_list_are_read_and_their_faults_told_in_place(load: Load, faults: Faults) -> None:
    items = "- {apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: NAME}}\n"
    assert [tier.name for tier in load(items.replace("NAME", "a") + items.replace("NAME", "b")).tiers] == ["a", "b"]
    (told,) = faults(items.replace("NAME", "a") + items.replace("NAME", "§A"))
    assert told.startswith("[1].metadata.name is not a name")


@pytest.mark.parametrize("items", ["[]", ""])
def test_empty_list_holds_no_resources(load: Load, items: str) -> None:
    assert load(f"kind: List\napiVersion: v1\nitems: {items}\n") == Resources()


def test_json_is_read(load: Load) -> None:
    data = {"apiVersion": "projectcalico.org/v3", "kind": "Tier", "metadata": {"name": "t"}, "spec": {"order": 1}}
    assert [tier.order for tier in load(json.dumps(data)).tiers] == [1]


@pytest.mark.parametrize("content", ["", "---\n---\n", "# nothing\n", "null\n"])
def test_file_without_documents_holds_no_resources(load: Load, content: str) -> None:
    assert load(content) == Resources()


def test_no_paths_mean_no_resources(topology: Topology) -> None:
    assert load_resources([], topology) == Resources()


def test_directory_is_read_in_the_order_of_its_paths_without_what_is_hidden(tmp_path: Path, topology: Topology) -> None:
    (tmp_path / "sub.yaml").mkdir()
    (tmp_path / ".git").mkdir()
    files = ["b.yml", "a.json", "sub.yaml/c.yaml", ".git/d.yaml", ".e.yaml", "f.txt", "0.yaml"]
    for index, file in enumerate(files):
        (tmp_path / file).write_text(text(f"n{index}"), encoding="utf-8")
    assert names(load_resources([tmp_path], topology)) == ["n6", "n1", "n0", "n2"]


def test_files_are_read_in_the_order_in_which_they_are_given(tmp_path: Path, topology: Topology) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text(text(name), encoding="utf-8")
    assert names(load_resources([str(tmp_path / "b.txt"), tmp_path / "a.txt"], topology)) == ["b", "a"]


def test_missing_file_is_told_with_the_faults_of_the_others(tmp_path: Path, topology: Topology) -> None:
    (tmp_path / "wrong.yaml").write_text(text("n", "Tire"), encoding="utf-8")
    (tmp_path / "broken.yaml").write_text("a: [", encoding="utf-8")
    with pytest.raises(LabErrors) as caught:
        load_resources([tmp_path / "none.yaml", tmp_path / "wrong.yaml", tmp_path / "broken.yaml"], topology)
    assert [str(error).split(": ")[0].removeprefix(f"{tmp_path}/") for error in caught.value.errors] == [
        "none.yaml",
        "wrong.yaml:2:7",
        "broken.yaml:2:1",
    ]
    assert all(isinstance(error, PolicyError) for error in caught.value.errors)
    assert caught.value.exit_code == 2


def test_faults_of_all_documents_are_told_in_their_order(faults: Faults) -> None:
    told = faults(
        f"""{text("a", "§Tire")}
---
{text("b", rest="spec: {order: §x, types: [§in]}")}
---
{text("c", rest="spec: {selector: has(§, ingress: [{action: Allow, protocol: §7777}], tier: §A}")}
"""
    )
    assert len(told) == 6


KINDS = [
    ("kind: §Pod\napiVersion: v1", "kind is not policy | describe the cluster in the topology file"),
    ("kind: §ServiceAccount\napiVersion: v1", "kind is not policy"),
    ("kind: §NetworkPolice\napiVersion: projectcalico.org/v3", "kind is unknown"),
    ("kind: §networkpolicy\napiVersion: projectcalico.org/v3", "kind is unknown"),
    ("kind: Tier\napiVersion: §networking.k8s.io/v1", "apiVersion is not one that has a Tier | projectcalico.org/v3"),
    (
        "kind: NetworkPolicy\napiVersion: §crd.projectcalico.org/v1",
        "apiVersion is not one that has a NetworkPolicy | networking.k8s.io/v1 or projectcalico.org/v3",
    ),
    ("§kind: NetworkPolicy", "apiVersion is not given"),
    ("§apiVersion: v1", "kind is not given"),
    ("kind: §[a]\napiVersion: v1", "kind must be text"),
    ("§- a\n- b", "the document is not a resource"),
    ("§just text", "the document is not a resource"),
    ("- §a\n- {kind: Tier, apiVersion: projectcalico.org/v3, metadata: {name: t}}", "[0] is not a resource"),
    ("{kind: §Secrets, apiVersion: v1, items: [{kind: Tier}]}", "kind is unknown"),
    ("kind: §FooList\napiVersion: v1", "kind is unknown"),
    ("§kind: Tier\napiVersion: projectcalico.org/v3", "the document has no 'metadata', which it needs"),
    ("kind: Tier\napiVersion: projectcalico.org/v3\nmetadata: {§name: }", "metadata.name "),
    (
        "kind: Tier\napiVersion: projectcalico.org/v3\nmetadata: {name: t, §lables: {}}",
        "unknown key 'lables' in metadata",
    ),
    ("kind: Tier\napiVersion: projectcalico.org/v3\nmetadata: {name: t}\n§sepc: {}", "unknown key 'sepc' in the docum"),
    ("kind: NetworkPolicy\napiVersion: networking.k8s.io/v1\nmetadata: {name: §A_b}", "metadata.name is not a name"),
]


@pytest.mark.parametrize(("content", "fault"), KINDS)
def test_what_is_no_resource_of_ours_is_refused_at_its_place(faults: Faults, content: str, fault: str) -> None:
    (told,) = faults(content + "\n")
    assert told.startswith(fault)


@pytest.mark.parametrize(
    ("kind", "version"),
    [
        ("ConfigMap", "v1"),
        ("Secret", "v1"),
        ("ClusterInformation", "projectcalico.org/v3"),
        ("BGPConfiguration", "projectcalico.org/v3"),
        ("Ingress", "networking.k8s.io/v1"),
    ],
)
def test_kind_that_no_verdict_depends_on_is_passed_over(load: Load, kind: str, version: str) -> None:
    other = f"apiVersion: {version}\nkind: {kind}\nmetadata: {{name: Any_Name}}\nwhatever: 1\n"
    assert names(load(f"{other}---\n{text('n')}---\n{other}")) == ["n"]


@pytest.mark.parametrize("kind", ["Namespace", "Pod", "ServiceAccount", "Deployment", "Node", "WorkloadEndpoint"])
def test_kind_that_the_topology_describes_is_refused(faults: Faults, kind: str) -> None:
    (told,) = faults(f"kind: §{kind}\napiVersion: v1\nmetadata: {{name: n}}\n")
    assert told == "kind is not policy | describe the cluster in the topology file, and leave it out here"


@pytest.mark.parametrize(
    ("kind", "version"),
    [
        ("NetworkPolicy", "projectcalico.org/v3"),
        ("StagedNetworkPolicy", "projectcalico.org/v3"),
        ("StagedKubernetesNetworkPolicy", "projectcalico.org/v3"),
        ("NetworkSet", "projectcalico.org/v3"),
        ("NetworkPolicy", "networking.k8s.io/v1"),
        ("Service", "v1"),
        ("EndpointSlice", "discovery.k8s.io/v1"),
    ],
)
def test_namespaced_kind_in_a_namespace_that_no_topology_has_is_refused(
    faults: Faults, kind: str, version: str
) -> None:
    rest = (
        "addressType: IPv4\n"
        if kind == "EndpointSlice"
        else "spec: {ports: [{port: 1}]}\n"
        if kind == "Service"
        else ""
    )
    (told,) = faults(f"apiVersion: {version}\nkind: {kind}\nmetadata: {{name: n, namespace: §z}}\n{rest}")
    assert told.startswith("metadata.namespace is not a namespace of the topology | x, y, default")


@pytest.mark.parametrize("api", ["projectcalico.org/v3", "networking.k8s.io/v1"])
def test_policy_in_a_namespace_that_no_topology_has_is_refused(faults: Faults, api: str) -> None:
    (told,) = faults(f"apiVersion: {api}\nkind: NetworkPolicy\nmetadata: {{name: n, namespace: §defualt}}\n")
    assert told == "metadata.namespace is not a namespace of the topology | x, y, default | did you mean 'default'?"


@pytest.mark.parametrize(
    "kind", ["GlobalNetworkPolicy", "StagedGlobalNetworkPolicy", "GlobalNetworkSet", "Tier", "Profile"]
)
def test_cluster_wide_resource_with_a_namespace_is_refused(faults: Faults, kind: str) -> None:
    (told,) = faults(text("n, §namespace: x", kind))
    assert told == "metadata.namespace cannot stand in a cluster-wide resource"


def test_same_resource_twice_names_both_places(tmp_path: Path, topology: Topology) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text("\n" + text("n"), encoding="utf-8")
    with pytest.raises(PolicyError) as caught:
        load_resources([tmp_path], topology)
    assert str(caught.value.place) == f"{tmp_path}/b.yaml:4:18"
    assert f"the first one is at {tmp_path}/a.yaml:4:18" in str(caught.value)


def test_same_name_under_another_kind_namespace_or_api_is_another_resource(load: Load) -> None:
    texts = [
        text("n"),
        text("n, namespace: x", "NetworkPolicy"),
        text("n, namespace: y", "NetworkPolicy"),
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: n, namespace: x}\n",
        text("n", "Tier"),
    ]
    assert names(load("---\n".join(texts))) == ["n"] * 4


def test_policy_of_a_missing_tier_is_read(load: Load) -> None:
    (policy,) = load(text("n", rest="spec: {tier: nowhere}")).policies
    assert policy.name == "n"


def test_error_is_one_of_the_lab_and_shows_no_megabytes(tmp_path: Path, topology: Topology) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(text("n", rest=f"spec: {{selector: 'has(a) {'b' * 900}'}}"), encoding="utf-8")
    with pytest.raises(LabError) as caught:
        load_resources([file], topology)
    assert len(str(caught.value)) < 400


KINDS = [
    *(
        ("projectcalico.org/v3", kind)
        for kind in (
            "NetworkPolicy",
            "GlobalNetworkPolicy",
            "StagedNetworkPolicy",
            "StagedGlobalNetworkPolicy",
            "StagedKubernetesNetworkPolicy",
            "NetworkSet",
            "GlobalNetworkSet",
            "Tier",
            "Profile",
            "HostEndpoint",
            "IPPool",
            "FelixConfiguration",
        )
    ),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("policy.networking.k8s.io/v1alpha1", "AdminNetworkPolicy"),
    ("policy.networking.k8s.io/v1alpha1", "BaselineAdminNetworkPolicy"),
    ("policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy"),
    ("v1", "Service"),
    ("discovery.k8s.io/v1", "EndpointSlice"),
]


@pytest.mark.parametrize(("version", "kind"), KINDS, ids=[f"{kind}-{version}" for version, kind in KINDS])
def test_kind_whose_spec_is_no_mapping_is_refused(load: Load, version: str, kind: str) -> None:
    with pytest.raises((LabError, LabErrors), match=r"spec must be a mapping|unknown key 'spec'"):
        load(f"{{apiVersion: {version}, kind: {kind}, metadata: {{name: default}}, spec: text}}")
