# SPDX-License-Identifier: Apache-2.0
"""Which fields Felix's messages have, as far as a dataplane needs them (felix/proto/felixbackend.proto).

There are two forms. Since 3.32 a policy is named by name, namespace and kind; before, by its tier and a name in which
the rest was hidden, and tiers listed their policies by those names alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal

from dataplanes.external.felix.wire import Field, Schema

__all__ = ["FROM_DATAPLANE", "SCHEMAS", "TO_DATAPLANE", "Form"]

Form = Literal["3.32", "before 3.32"]

TO_DATAPLANE, FROM_DATAPLANE = "ToDataplane", "FromDataplane"


def _fields(text: str) -> Sequence[Field]:
    """``1 name text, 2 parts* Part``: number, name, kind; a star for what is repeated."""
    entries = (entry.split() for entry in text.split(","))
    return [Field(int(number), name.rstrip("*"), kind, name.endswith("*")) for number, name, kind in entries]


_COMMON: Final[dict[str, Sequence[Field]]] = {
    TO_DATAPLANE: _fields(
        "15 sequence_number number, 1 in_sync InSync, 2 ipset_update IPSetUpdate, "
        "3 ipset_delta_update IPSetDeltaUpdate, 4 ipset_remove IPSetRemove, "
        "5 active_profile_update ActiveProfileUpdate, 6 active_profile_remove ActiveProfileRemove, "
        "7 active_policy_update ActivePolicyUpdate, 8 active_policy_remove ActivePolicyRemove, "
        "9 host_endpoint_update HostEndpointUpdate, 10 host_endpoint_remove HostEndpointRemove, "
        "11 workload_endpoint_update WorkloadEndpointUpdate, 12 workload_endpoint_remove WorkloadEndpointRemove, "
        "13 config_update ConfigUpdate, 16 ipam_pool_update IPAMPoolUpdate, 17 ipam_pool_remove IPAMPoolRemove"
    ),
    FROM_DATAPLANE: _fields(
        "8 sequence_number number, 3 process_status_update ProcessStatusUpdate, 10 dataplane_in_sync InSync"
    ),
    "InSync": [],
    "ProcessStatusUpdate": _fields("1 iso_timestamp text, 2 uptime number"),
    "ConfigUpdate": _fields("1 config map"),
    "IPSetUpdate": _fields("1 id text, 2 members* text, 3 type number"),
    "IPSetDeltaUpdate": _fields("1 id text, 2 added_members* text, 3 removed_members* text"),
    "IPSetRemove": _fields("1 id text"),
    "ProfileID": _fields("1 name text"),
    "Profile": _fields("1 inbound_rules* Rule, 2 outbound_rules* Rule"),
    "ActiveProfileUpdate": _fields("1 id ProfileID, 2 profile Profile"),
    "ActiveProfileRemove": _fields("1 id ProfileID"),
    "Policy": _fields(
        "1 inbound_rules* Rule, 2 outbound_rules* Rule, 3 untracked number, 4 pre_dnat number, 5 namespace text, "
        "8 tier text"
    ),
    "ActivePolicyUpdate": _fields("1 id PolicyID, 2 policy Policy"),
    "ActivePolicyRemove": _fields("1 id PolicyID"),
    "Protocol": _fields("1 number number, 2 name text"),
    "PortRange": _fields("1 first number, 2 last number"),
    "IcmpTypeAndCode": _fields("1 type number, 2 code number"),
    "WorkloadEndpointID": _fields("2 orchestrator_id text, 3 workload_id text, 4 endpoint_id text"),
    "WorkloadEndpoint": _fields(
        "1 state text, 2 name text, 4 profile_ids* text, 5 ipv4_nets* text, 6 ipv6_nets* text, 7 tiers* TierInfo"
    ),
    "WorkloadEndpointUpdate": _fields("1 id WorkloadEndpointID, 5 endpoint WorkloadEndpoint"),
    "WorkloadEndpointRemove": _fields("1 id WorkloadEndpointID"),
    "HostEndpointID": _fields("2 endpoint_id text"),
    "HostEndpoint": _fields(
        "1 name text, 2 profile_ids* text, 3 tiers* TierInfo, 4 expected_ipv4_addrs* text, "
        "5 expected_ipv6_addrs* text, 6 untracked_tiers* TierInfo, 7 pre_dnat_tiers* TierInfo, "
        "8 forward_tiers* TierInfo"
    ),
    "HostEndpointUpdate": _fields("1 id HostEndpointID, 3 endpoint HostEndpoint"),
    "HostEndpointRemove": _fields("1 id HostEndpointID"),
    "IPAMPool": _fields("1 cidr text, 2 masquerade number"),
    "IPAMPoolUpdate": _fields("1 id text, 2 pool IPAMPool"),
    "IPAMPoolRemove": _fields("1 id text"),
    "Rule": _fields(
        "1 action text, 2 ip_version number, 3 protocol Protocol, 102 not_protocol Protocol, "
        "8 icmp_type number, 9 icmp_type_code IcmpTypeAndCode, 107 not_icmp_type number, "
        "108 not_icmp_type_code IcmpTypeAndCode, 5 src_ports* PortRange, 7 dst_ports* PortRange, "
        "104 not_src_ports* PortRange, 106 not_dst_ports* PortRange, 4 src_net* text, 6 dst_net* text, "
        "103 not_src_net* text, 105 not_dst_net* text, 10 src_ip_set_ids* text, 11 dst_ip_set_ids* text, "
        "109 not_src_ip_set_ids* text, 110 not_dst_ip_set_ids* text, 12 src_named_port_ip_set_ids* text, "
        "13 dst_named_port_ip_set_ids* text, 15 dst_ip_port_set_ids* text, 112 not_src_named_port_ip_set_ids* text, "
        "113 not_dst_named_port_ip_set_ids* text"
    ),
}

SCHEMAS: Final[Mapping[Form, Schema]] = {
    "3.32": _COMMON
    | {
        "PolicyID": _fields("2 name text, 3 namespace text, 4 kind text"),
        "TierInfo": _fields(
            "1 name text, 2 ingress_policies* PolicyID, 3 egress_policies* PolicyID, 4 default_action text"
        ),
    },
    "before 3.32": _COMMON
    | {
        "PolicyID": _fields("1 tier text, 2 name text"),
        "TierInfo": _fields("1 name text, 2 ingress_policies* text, 3 egress_policies* text, 4 default_action text"),
    },
}
