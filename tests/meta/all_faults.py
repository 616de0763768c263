# SPDX-License-Identifier: Apache-2.0
"""All faults that are laid over a dataplane, in groups as their page has them."""

from __future__ import annotations

from cluster_faults import CLUSTER_FAULTS
from flow_faults import FLOW_FAULTS
from packet_faults import PACKET_FAULTS
from path_faults import PATH_FAULTS, SWITCH_FAULTS
from snapshot_faults import SNAPSHOT_FAULTS
from step_faults import STEP_FAULTS
from window_faults import WINDOW_FAULTS

__all__ = ["FAULTS", "GROUPS"]

GROUPS = {
    "What it is told it misreads": SNAPSHOT_FAULTS,
    "Something changes": STEP_FAULTS,
    "The cluster changes": CLUSTER_FAULTS,
    "For a moment, while something changes": WINDOW_FAULTS,
    "Packets go another way": (*PATH_FAULTS, *SWITCH_FAULTS),
    "What comes after the first packet": FLOW_FAULTS,
    "Packets out of the ordinary": PACKET_FAULTS,
}
FAULTS = tuple(fault for faults in GROUPS.values() for fault in faults)
