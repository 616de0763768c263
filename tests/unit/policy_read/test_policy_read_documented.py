# SPDX-License-Identifier: Apache-2.0
"""Resources of the shapes that the reference documentation of Calico and Kubernetes shows are read as they are.

They are of our own wording; what each exercises is a form that the documentation teaches.
"""

from __future__ import annotations

from collections.abc import Callable
from textwrap import dedent

import pytest

from lab.policy.resources import Resources

Load = Callable[[str], Resources]
Faults = Callable[[str], list[str]]


def calico(kind: str, metadata: str, spec: str) -> str:
    return f"apiVersion: projectcalico.org/v3\nkind: {kind}\nmetadata: {{{metadata}}}\nspec:\n{indented(spec)}"


def kubernetes(metadata: str, spec: str) -> str:
    head = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n"
    return f"{head}metadata: {{{metadata}}}\nspec:\n{indented(spec)}"


def admin(kind: str, version: str, name: str, spec: str) -> str:
    head = f"apiVersion: policy.networking.k8s.io/{version}\nkind: {kind}\n"
    return f"{head}metadata:\n  name: {name}\nspec:\n{indented(spec)}"


def indented(spec: str) -> str:
    return "".join(f"  {line}\n" for line in dedent(spec).strip().splitlines())


CACHE = """
    selector: role == 'cache'
    types: [Ingress, Egress]
    ingress:
    - action: Allow
      metadata: {annotations: {from: web, to: cache}}
      protocol: TCP
      source: {selector: role == 'web'}
      destination: {ports: [11211]}
    egress:
    - action: Allow
"""
DATABASE = """
    podSelector: {matchLabels: {role: store}}
    policyTypes: [Ingress, Egress]
    ingress:
    - from:
      - ipBlock: {cidr: 172.20.0.0/16, except: [172.20.9.0/24]}
      - namespaceSelector: {matchLabels: {team: shop}}
      - podSelector: {matchLabels: {role: web}}
      ports: [{protocol: TCP, port: 5432}]
    egress:
    - to: [{ipBlock: {cidr: 10.20.0.0/24}}]
      ports: [{protocol: TCP, port: 32000, endPort: 32768}]
"""
DOCUMENTED = {
    "calico-network-policy": calico(
        "NetworkPolicy", "name: ops.allow-cache, namespace: x", f"tier: ops\norder: 10\n{dedent(CACHE).strip()}"
    ),
    "calico-network-policy-pass": calico(
        "NetworkPolicy", "name: p, namespace: x", "egress: [{action: Pass}, {action: Log}]"
    ),
    "calico-network-policy-icmp": calico(
        "NetworkPolicy",
        "name: ping, namespace: x",
        """
        selector: all()
        ingress:
        - {action: Allow, protocol: ICMP, icmp: {type: 8}, source: {nets: [10.0.0.0/8]}}
        - {action: Deny, protocol: ICMPv6, notICMP: {type: 128, code: 0}}
        """,
    ),
    "calico-network-policy-services": calico(
        "NetworkPolicy",
        "name: api, namespace: x",
        "egress: [{action: Allow, destination: {services: {name: kubernetes, namespace: default}}}]",
    ),
    "calico-network-policy-service-accounts": calico(
        "NetworkPolicy",
        "name: accounts, namespace: x",
        """
        serviceAccountSelector: team == "shop"
        ingress:
        - action: Allow
          source: {serviceAccounts: {names: [web, worker], selector: 'tier in {"a", "b"}'}}
          http: {methods: [GET, HEAD], paths: [{exact: /health}, {prefix: /public}]}
        """,
    ),
    "calico-global-policy": calico("GlobalNetworkPolicy", "name: allow-cache", CACHE),
    "calico-global-policy-default-deny": calico(
        "GlobalNetworkPolicy",
        "name: deny-app",
        """
        namespaceSelector: has(projectcalico.org/name) && projectcalico.org/name not in {"kube-system", "calico-system"}
        types: [Ingress, Egress]
        egress:
        - {action: Allow, protocol: UDP, destination: {selector: 'k8s-app == "kube-dns"', ports: [53]}}
        """,
    ),
    "calico-global-policy-pre-dnat": calico(
        "GlobalNetworkPolicy",
        "name: cluster-only",
        """
        order: 20
        preDNAT: true
        applyOnForward: true
        ingress:
        - {action: Allow, source: {nets: [10.240.0.0/16, 192.168.0.0/16]}}
        - {action: Deny, protocol: TCP, destination: {ports: ["30000:32767"]}}
        selector: has(host-endpoint)
        """,
    ),
    "calico-global-policy-untracked": calico(
        "GlobalNetworkPolicy",
        "name: blocked",
        """
        selector: host-endpoint == "ingress"
        order: 0
        doNotTrack: true
        applyOnForward: true
        types: [Ingress]
        ingress: [{action: Deny, source: {selector: blocklist == "ddos"}}]
        """,
    ),
    "calico-global-policy-outbound-host": calico(
        "GlobalNetworkPolicy",
        "name: outbound-external",
        "order: 10\negress: [{action: Allow}]\nperformanceHints: [AssumeNeededOnEveryNode]",
    ),
    "calico-policy-of-a-name-alone": calico("GlobalNetworkPolicy", "name: nameless", "").replace("spec:\n", ""),
    "calico-policy-with-selectors-that-are-empty": calico(
        "StagedGlobalNetworkPolicy",
        "name: default.catch-all",
        """
        {tier: default, order: 3000, selector: '', namespaceSelector: '', serviceAccountSelector: '', types: [Egress],
         doNotTrack: false, applyOnForward: false, preDNAT: false, egress: [{action: Log, source: {}}]}
        """,
    ),
    "calico-ports-in-quotes": calico(
        "NetworkPolicy",
        "name: ports, namespace: x",
        "ingress: [{action: Allow, protocol: TCP, destination: {ports: ['2376', 8080, '1234:5678', named-port]}}]",
    ),
    "calico-staged-global-policy": calico("StagedGlobalNetworkPolicy", "name: allow-cache", CACHE),
    "calico-staged-policy": calico(
        "StagedNetworkPolicy", "name: allow-cache, namespace: x", f"stagedAction: Set\n{dedent(CACHE).strip()}"
    ),
    "calico-staged-kubernetes-policy": calico(
        "StagedKubernetesNetworkPolicy", "name: store, namespace: default", DATABASE
    ),
    "calico-tier": calico("Tier", "name: ops", "order: 100\ndefaultAction: Pass"),
    "calico-profile": calico(
        "Profile",
        "name: web",
        """
        ingress:
        - {action: Deny, source: {nets: [10.0.20.0/24]}}
        - {action: Allow, source: {selector: 'profile == "web"'}}
        egress: [{action: Allow}]
        labelsToApply: {profile: web}
        """,
    ),
    "calico-network-set": calico(
        "NetworkSet", "name: outside, namespace: x, labels: {role: outside}", "nets: [198.51.100.0/28, 203.0.113.7]"
    ),
    "calico-global-network-set": calico(
        "GlobalNetworkSet", "name: outside, labels: {role: outside}", 'nets: [198.51.100.0/28, "2001:db8::/32"]'
    ),
    "calico-host-endpoint": calico(
        "HostEndpoint",
        "name: some.name, labels: {type: production}",
        """
        interfaceName: eth0
        node: node-1
        expectedIPs: [192.168.0.1, 192.168.0.2]
        profiles: [profile1, profile2]
        ports:
        - {name: some-port, port: 1234, protocol: TCP}
        - {name: another-port, port: 5432, protocol: UDP}
        """,
    ),
    "calico-host-endpoint-all": calico("HostEndpoint", "name: node-1-all", 'interfaceName: "*"\nnode: node-1'),
    "calico-pool": calico(
        "IPPool",
        "name: my.pool-1",
        """
        cidr: 10.1.0.0/16
        ipipMode: CrossSubnet
        natOutgoing: true
        disabled: false
        nodeSelector: all()
        allowedUses: [Workload, Tunnel]
        """,
    ),
    "calico-pool-default": calico(
        "IPPool",
        "name: default-ipv4-ippool",
        "{blockSize: 26, cidr: 192.168.0.0/16, ipipMode: Always, natOutgoing: true, vxlanMode: Never}",
    ),
    "calico-felix": calico(
        "FelixConfiguration",
        "name: default",
        """
        bpfLogLevel: ""
        floatingIPs: Disabled
        logSeverityScreen: Info
        reportingInterval: 0s
        ipipMTU: 1400
        chainInsertMode: Append
        healthPort: 9099
        """,
    ),
    "calico-felix-of-a-node": calico("FelixConfiguration", "name: node.node-1", "defaultEndpointToHostAction: Return"),
    "kubernetes-policy": kubernetes("name: store, namespace: default", DATABASE),
    "kubernetes-default-deny-ingress": kubernetes("name: deny", "podSelector: {}\npolicyTypes: [Ingress]"),
    "kubernetes-allow-all-ingress": kubernetes("name: open", "podSelector: {}\ningress: [{}]\npolicyTypes: [Ingress]"),
    "kubernetes-default-deny-egress": kubernetes("name: deny-out", "podSelector: {}\npolicyTypes: [Egress]"),
    "kubernetes-allow-all-egress": kubernetes("name: open-out", "podSelector: {}\negress: [{}]\npolicyTypes: [Egress]"),
    "kubernetes-default-deny-all": kubernetes("name: shut", "podSelector: {}\npolicyTypes: [Ingress, Egress]"),
    "kubernetes-several-namespaces": kubernetes(
        "name: out",
        """
        podSelector: {matchLabels: {app: web}}
        policyTypes: [Egress]
        egress:
        - to:
          - namespaceSelector:
              matchExpressions: [{key: namespace, operator: In, values: [front, back]}]
        """,
    ),
    "kubernetes-namespace-by-its-name": kubernetes(
        "name: by-name",
        "podSelector: {}\ningress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: y}}}]}]",
    ),
    "kubernetes-selector-without-a-value": kubernetes(
        "name: all-pods, namespace: x", "podSelector:\npolicyTypes: [Ingress]"
    ),
    "kubernetes-policy-from-a-cluster": kubernetes(
        "name: exported, namespace: x, generation: 3, resourceVersion: '7', uid: u-1, selfLink: /apis/x, "
        "creationTimestamp: '2026-01-02T03:04:05Z', managedFields: [{manager: kubectl}]",
        "podSelector: {}\negress: [{ports: [{port: 53, protocol: UDP}, {port: 53}]}, {to: [{namespaceSelector: {}}]}]",
    )
    + "status: {conditions: []}\n",
    "admin-policy": admin(
        "AdminNetworkPolicy",
        "v1alpha1",
        "guard-rails",
        """
        priority: 10
        subject: {namespaces: {matchLabels: {kubernetes.io/metadata.name: secret}}}
        ingress:
        - {name: shut, action: Deny, from: [{namespaces: {matchLabels: {}}}]}
        egress:
        - action: Allow
          to: [{pods: {namespaceSelector: {matchLabels: {a: b}}, podSelector: {matchLabels: {app: dns}}}}]
          ports: [{portNumber: {protocol: UDP, port: 53}}, {portRange: {protocol: TCP, start: 8080, end: 9090}}]
        - action: Deny
          to: [{networks: [0.0.0.0/0, "::/0"]}, {nodes: {matchExpressions: [{key: control, operator: Exists}]}}]
        """,
    ),
    "baseline-admin-policy": admin(
        "BaselineAdminNetworkPolicy",
        "v1alpha1",
        "default",
        """
        subject: {namespaces: {}}
        ingress:
        - {action: Deny, name: all, from: [{namespaces: {matchExpressions: [{key: own, operator: DoesNotExist}]}}]}
        """,
    ),
    "cluster-policy": admin(
        "ClusterNetworkPolicy",
        "v1alpha2",
        "cluster-wide",
        """
        tier: Admin
        priority: 30
        subject: {namespaces: {}}
        ingress:
        - {action: Accept, name: watch, from: [{namespaces: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}]}
        egress:
        - action: Accept
          to: [{pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: dns}}}}]
          protocols: [{udp: {destinationPort: {number: 53}}}, {tcp: {destinationPort: {range: {start: 53, end: 54}}}}]
        - {action: Accept, to: [{domainNames: ["*.kubernetes.io", example.org]}]}
        - {action: Pass, to: [{networks: [10.0.0.0/8]}], protocols: [{sctp: {destinationPort: {number: 9}}}]}
        - {action: Deny, to: [{nodes: {}}]}
        """,
    ),
    "cluster-policy-baseline": admin(
        "ClusterNetworkPolicy",
        "v1alpha2",
        "by-default",
        """
        tier: Baseline
        priority: 0
        subject: {pods: {podSelector: {}}}
        ingress: [{action: Deny, from: [{namespaces: {matchLabels: {}}}, {pods: {podSelector: {}}}]}]
        """,
    ),
    "cluster-policy-beta": admin(
        "ClusterNetworkPolicy",
        "v1beta1",
        "hand-over",
        """
        tier: Admin
        priority: 10
        subject: {namespaces: {matchLabels: {house: a}}}
        ingress: [{name: to-the-owners, action: Pass, from: [{pods: {podSelector: {}}}]}]
        """,
    ),
    "service": """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: x}
spec:
  type: NodePort
  selector: {app.kubernetes.io/name: web}
  ports: [{name: http, protocol: TCP, port: 80, targetPort: http-web-svc, nodePort: 30007}]
""",
    "endpoint-slice": """
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: web-1
  namespace: x
  labels: {kubernetes.io/service-name: web, endpointslice.kubernetes.io/managed-by: cluster-admins}
addressType: IPv4
ports: [{name: http, appProtocol: http, protocol: TCP, port: 80}]
endpoints: [{addresses: [10.1.2.3], conditions: {ready: true}, hostname: pod-1, nodeName: node-1, zone: us-west2-a}]
""",
}


@pytest.mark.parametrize("name", DOCUMENTED)
def test_documented_form_is_read_without_complaint(load: Load, faults: Faults, name: str) -> None:
    assert faults(DOCUMENTED[name]) == []
    assert load(DOCUMENTED[name]) != Resources()


def test_documented_forms_are_read_together(load: Load) -> None:
    found = load("\n---\n".join(DOCUMENTED.values()))
    assert len(found.policies) == sum("kind: " in text and "Policy\n" in text for text in DOCUMENTED.values())


REFUSED = {
    "workload-endpoint": (
        calico("WorkloadEndpoint", "name: w, namespace: x", "node: node-1").replace("kind: ", "kind: §"),
        "kind is not policy | describe the cluster in the topology file",
    ),
    "felix-with-bpf": (
        calico("FelixConfiguration", "name: default", "bpfEnabled: §true"),
        "spec.bpfEnabled can change verdicts, and the lab does not model how | false, or no such key",
    ),
    "controllers-that-make-host-endpoints": (
        calico(
            "KubeControllersConfiguration",
            "name: default",
            "controllers: {node: {syncLabels: Enabled, hostEndpoint: {autoCreate: §Enabled}}}",
        ),
        "spec.controllers.node.hostEndpoint.autoCreate would have a host endpoint made for every node, which the lab",
    ),
    "enterprise-network-set": (
        calico("GlobalNetworkSet", "name: n", "nets: []\n§allowedEgressDomains: [example.org]"),
        "unknown key 'allowedEgressDomains' in spec | nets",
    ),
    "calico-keys-with-capitals": (
        calico("NetworkPolicy", "name: n, namespace: x", "selector: all()").replace("spec:", "§Spec:"),
        "unknown key 'Spec' in the document | apiVersion, kind, metadata, status, spec | did you mean 'spec'?",
    ),
    "calico-network-with-host-bits": (
        calico("GlobalNetworkPolicy", "name: n", "ingress: [{action: Allow, source: {nets: [§10.1.2.3/16]}}]"),
        "spec.ingress[0].source.nets[0] has bits set behind its prefix | a CIDR such as 10.0.0.0/8 or fd00::/64",
    ),
    "calico-placeholder": (
        calico("HostEndpoint", "name: n", "node: node-1\nexpectedIPs: [§YOUR_ADDRESS]"),
        "spec.expectedIPs[0] is not an address | an IPv4 or IPv6 address without a prefix length",
    ),
    "admin-policy-before-its-first-release": (
        admin(
            "AdminNetworkPolicy",
            "v1alpha1",
            "n",
            "priority: 5\nsubject: {namespaces: {}}\n"
            "ingress: [{action: Allow, from: [{namespaces: {§sameLabels: [tenant]}}]}]",
        ),
        "unknown key 'sameLabels' in spec.ingress[0].from[0].namespaces | matchLabels, matchExpressions",
    ),
    "cluster-policy-with-the-ports-of-an-admin-policy": (
        admin(
            "ClusterNetworkPolicy",
            "v1alpha2",
            "n",
            "tier: Admin\npriority: 5\nsubject: {namespaces: {}}\n"
            "egress: [{action: Accept, to: [{nodes: {}}], §ports: [{portNumber: {port: 80}}]}]",
        ),
        "unknown key 'ports' in spec.egress[0] | name, action, to, protocols",
    ),
    "kubernetes-old-version": (
        kubernetes("name: n", "podSelector: {}").replace("networking.k8s.io/v1", "§extensions/v1beta1"),
        "apiVersion is not one that has a NetworkPolicy | networking.k8s.io/v1 or projectcalico.org/v3",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_documented_form_that_no_lab_can_hold_is_refused_with_the_reason(faults: Faults, name: str) -> None:
    text, reason = REFUSED[name]
    (told,) = faults(text)
    assert told.startswith(reason)


@pytest.mark.parametrize(
    "spec",
    ["controllers: {node: {hostEndpoint: {autoCreate: Disabled}}}", "controllers: {node: }", "healthChecks: Enabled"],
)
def test_controllers_that_make_no_host_endpoint_are_passed_over(load: Load, spec: str) -> None:
    assert load(calico("KubeControllersConfiguration", "name: default", spec)) == Resources()
