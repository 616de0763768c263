# SPDX-License-Identifier: Apache-2.0
"""The compiler: it is told of resources as they come, change and go, and tells each node what that means for it.

Work is in proportion to what a change touches: selectors that look at a label that changed, sets that a thing
enters or leaves, endpoints whose list of policies changes, and what the nodes hold of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lab.errors import PolicyError
from lab.policy.compile.admin import admin_form
from lab.policy.compile.attach import Attachments
from lab.policy.compile.calico import calico_form
from lab.policy.compile.forms import PolicyForm
from lab.policy.compile.hosts import covering_endpoints, interfaces_of, node_settings
from lab.policy.compile.kinds import Identity, Resource, Settings, identity_of, in_order
from lab.policy.compile.kubernetes import kubernetes_form
from lab.policy.compile.labels import Labelled, Source, ThingKey, default_profile, namespace_profiles, thing_key
from lab.policy.compile.members import SetTable
from lab.policy.compile.node import NodeState, Owner, Shared
from lab.policy.compile.rules import Rendered, rendered_policy, rendered_profile
from lab.policy.compile.things import Things
from lab.policy.resources import (
    AdminPolicy,
    CalicoPolicy,
    EndpointSlice,
    FelixConfiguration,
    HostEndpoint,
    IpPool,
    KubernetesNetworkPolicy,
    NetworkSet,
    Policy,
    Profile,
    Resources,
    Service,
    Tier,
)
from lab.policy.snapshot import PolicyId, Snapshot, SnapshotDelta
from lab.topology import Namespace, Topology, Workload

__all__ = ["Compiler", "compile_snapshots"]


def compile_snapshots(topology: Topology, resources: Resources) -> Mapping[str, Snapshot]:
    """What every node must enforce, by the node's name: only the policies and sets that its own endpoints need."""
    return Compiler(topology, resources).snapshots()


class Compiler:
    """Turns resources into each node's snapshot, and changes of them into deltas of it.

    Nodes and links are those of the topology for good; its namespaces and workloads, with their labels, can change
    like any other resource.
    """

    def __init__(self, topology: Topology, resources: Resources | None = None) -> None:
        self._topology = topology
        self._known: dict[Identity, Resource] = {}
        self._things = Things(self._moved)
        self._sets = SetTable(self._things.index, self._things.labelled)
        self._attached = Attachments(self._things.index)
        self._rendered: dict[Owner, Rendered] = {}
        self._changed: dict[Owner, None] = {}
        self._given_profiles: dict[str, Profile] = {}
        self._settings: dict[Identity, Settings] = {}
        self._settings_stale = True
        self._host_endpoints: dict[str, dict[str, HostEndpoint]] = {}
        self._hosts_stale: set[str] = set()
        self._nodes = {name: NodeState(name, interfaces_of(node, topology)) for name, node in topology.nodes.items()}
        given = default_profile(topology.file)
        self._given_profiles[given.name] = given
        self._put_profile(given.name)
        self.update(in_order(topology, resources or Resources()))

    def snapshots(self) -> dict[str, Snapshot]:
        """The whole snapshot of every node, by its name."""
        return {name: node.snapshot(self._sets) for name, node in self._nodes.items()}

    def update(self, put: Iterable[Resource] = (), remove: Iterable[Resource] = ()) -> dict[str, SnapshotDelta]:
        """Take in resources that are new or changed, and forget those that are gone; all at once for the nodes.

        Of what is removed only kind, namespace and name count.

        Returns:
            For each node whose snapshot that changes, by its name, what leads from the old one to the new.

        Raises:
            PolicyError: something to be removed is not there; nothing is changed then.
        """
        gone = [identity_of(resource) for resource in remove]
        for kind, namespace, name in (identity for identity in gone if identity not in self._known):
            raise PolicyError(
                f"there is no {kind} to be removed",
                value=f"{namespace}/{name}" if namespace else name,
                allowed="a resource that the compiler was told of",
            )
        for identity in gone:
            self._remove(self._known.pop(identity))
        for resource in put:
            old = self._known.get(identity_of(resource))
            if old != resource:
                self._known[identity_of(resource)] = resource
                self._put(resource, old)
        return self._settle()

    def _put(self, resource: Resource, old: Resource | None) -> None:
        match resource:
            case Workload() | HostEndpoint() | NetworkSet():
                self._put_thing(resource)
            case CalicoPolicy() | KubernetesNetworkPolicy() | AdminPolicy():
                self._put_policy(resource)
            case Tier():
                self._attached.put_tier(resource.name, resource)
            case Profile():
                self._put_profile(resource.name)
            case Namespace():
                self._put_namespace(resource.name, old)
            case EndpointSlice():
                self._sets.put_slice(resource)
            case IpPool() | FelixConfiguration():
                self._settings[identity_of(resource)] = resource
                self._settings_stale = True
            case Service():
                pass  # its node ports are the lab's; who is behind it tell its EndpointSlices

    def _remove(self, resource: Resource) -> None:
        match resource:
            case Workload() | HostEndpoint() | NetworkSet():
                self._remove_thing(thing_key(resource))
            case CalicoPolicy() | KubernetesNetworkPolicy() | AdminPolicy():
                if not _is_staged(resource):
                    policy_id = PolicyId(*identity_of(resource))
                    self._attached.remove(policy_id)
                    self._render(policy_id, None)
            case Tier():
                self._attached.put_tier(resource.name, None)
            case Profile():
                self._put_profile(resource.name)
            case Namespace():
                self._put_namespace(resource.name, resource)
            case EndpointSlice():
                self._sets.remove_slice(resource)
            case IpPool() | FelixConfiguration():
                del self._settings[identity_of(resource)]
                self._settings_stale = True
            case Service():
                pass  # as above

    def _moved(self, canonical: str, key: ThingKey, thing: Labelled, entered: bool) -> None:
        self._attached.moved(canonical, key)
        self._sets.moved(canonical, thing, entered=entered)

    def _put_thing(self, source: Source) -> None:
        key = thing_key(source)
        old = self._things.sources.get(key)
        has_addresses = not isinstance(source, Workload) or bool(source.addresses)
        if old is not None and (_home(old) != _home(source) or not has_addresses):
            self._remove_thing(key)
        if not has_addresses:
            return  # a pod without addresses is no endpoint
        self._things.put(source)
        self._attached.dirty[key] = None
        if isinstance(source, HostEndpoint):
            self._host_endpoints.setdefault(source.node, {})[source.name] = source

    def _remove_thing(self, key: ThingKey) -> None:
        source = self._things.sources.get(key)
        if source is None:
            return
        self._things.remove(key)
        self._attached.forget(key)
        if isinstance(source, Workload):
            self._nodes[source.node].wanted_endpoints[source.interface] = None
        elif isinstance(source, HostEndpoint):
            del self._host_endpoints[source.node][source.name]
            self._hosts_stale.add(source.node)

    def _put_policy(self, policy: Policy) -> None:
        if not _is_staged(policy):
            form = self._form(policy)
            self._attached.put(form)
            self._render(form.policy_id, rendered_policy(form))

    def _form(self, policy: Policy) -> PolicyForm:
        match policy:
            case CalicoPolicy():
                return calico_form(policy)
            case KubernetesNetworkPolicy():
                return kubernetes_form(policy)
            case AdminPolicy():
                return admin_form(policy, self._topology.nodes.values())

    def _put_namespace(self, name: str, old: Resource | None) -> None:
        """Bring the profiles of a namespace up to date, also those of service accounts that it had."""
        new = self._known.get(("Namespace", "", name))
        touched: dict[str, None] = {}
        if isinstance(old, Namespace):
            for profile in namespace_profiles(old, self._topology.file):
                touched[profile.name] = None
                del self._given_profiles[profile.name]
        if isinstance(new, Namespace):
            for profile in namespace_profiles(new, self._topology.file):
                touched[profile.name] = None
                self._given_profiles[profile.name] = profile
        for profile_name in touched:
            self._put_profile(profile_name)

    def _put_profile(self, name: str) -> None:
        """Bring a profile up to date: that of the resources, or else what is there without one."""
        found = self._known.get(("Profile", "", name))
        profile = found if isinstance(found, Profile) else self._given_profiles.get(name)
        self._things.put_profile(name, profile)
        self._render(name, None if profile is None else rendered_profile(profile))

    def _render(self, owner: Owner, rendered: Rendered | None) -> None:
        """Put rules in the place of those that a policy or profile had; None: it is gone."""
        self._changed[owner] = None
        if rendered is not None:
            self._sets.acquire(rendered.sets.values())
        old = self._rendered.pop(owner, None)
        if old is not None:
            self._sets.release(old.sets.values())
        if rendered is not None:
            self._rendered[owner] = rendered

    def _settle(self) -> dict[str, SnapshotDelta]:
        """Tell every node what it needs now."""
        self._want_workloads()
        self._want_host_endpoints()
        if self._settings_stale:
            self._want_settings()
        shared = Shared(self._rendered, tuple(self._changed), self._sets, self._sets.changes())
        deltas = {name: node.settle(shared) for name, node in self._nodes.items()}
        self._sets.settle()
        self._changed.clear()
        return {name: delta for name, delta in deltas.items() if not delta.is_empty}

    def _want_workloads(self) -> None:
        for key in self._attached.dirty:
            source = self._things.sources[key]
            if isinstance(source, Workload):
                wanted = self._nodes[source.node].wanted_endpoints
                wanted[source.interface] = self._attached.workload(key, source)
            elif isinstance(source, HostEndpoint):
                self._hosts_stale.add(source.node)
        self._attached.dirty.clear()

    def _want_host_endpoints(self) -> None:
        """Find anew which host endpoint covers what, on the nodes where any of them changed."""
        for name in sorted(self._hosts_stale & self._nodes.keys()):
            node = self._nodes[name]
            covering = covering_endpoints(node.interfaces, self._host_endpoints[name].values())
            node.wanted_hosts = dict.fromkeys(node.hosts)
            for interface, endpoint in covering.items():
                key = thing_key(endpoint)
                node.wanted_hosts[interface] = self._attached.host_endpoint(key, interface, endpoint)
        self._hosts_stale.clear()

    def _want_settings(self) -> None:
        pools = [found for found in self._settings.values() if isinstance(found, IpPool)]
        configurations = [found for found in self._settings.values() if isinstance(found, FelixConfiguration)]
        for name, node in self._nodes.items():
            node.wanted_settings = node_settings(name, configurations, pools, self._topology)
        self._settings_stale = False


def _home(source: Source) -> str | None:
    """The node on which a thing is an endpoint."""
    return None if isinstance(source, NetworkSet) else source.node


def _is_staged(policy: Policy) -> bool:
    """Whether a policy only tells what it would do."""
    return not isinstance(policy, AdminPolicy) and policy.staged is not None
