# SPDX-License-Identifier: Apache-2.0
"""BPF programs: compiled with bcc once and kept, loaded and attached by system calls, held by descriptors alone."""

from lab.fabric.bpf.btf import member_offsets
from lab.fabric.bpf.compiler import BpfSource, shipped_bpf
from lab.fabric.bpf.links import (
    BpfLink,
    XdpLink,
    XdpMode,
    attach_cgroup,
    attach_sockets,
    attach_tc,
    attach_xdp,
    resident_xdp,
)
from lab.fabric.bpf.load import BpfObject, Constants, load
from lab.fabric.bpf.maps import BpfMap, MapDefinition, MapKind
from lab.fabric.bpf.programs import BpfProgram, ProgramKind, Ran, run_live
from lab.fabric.bpf.tampering import detach_xdp, empty_maps
from lab.fabric.bpf.verifier import VerifierError

__all__ = [
    "BpfLink",
    "BpfMap",
    "BpfObject",
    "BpfProgram",
    "BpfSource",
    "Constants",
    "MapDefinition",
    "MapKind",
    "ProgramKind",
    "Ran",
    "VerifierError",
    "XdpLink",
    "XdpMode",
    "attach_cgroup",
    "attach_sockets",
    "attach_tc",
    "attach_xdp",
    "detach_xdp",
    "empty_maps",
    "load",
    "member_offsets",
    "resident_xdp",
    "run_live",
    "shipped_bpf",
]
