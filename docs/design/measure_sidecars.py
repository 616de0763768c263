# SPDX-License-Identifier: Apache-2.0
"""Measures what sidecars cost: ``.venv/bin/python docs/design/measure_sidecars.py [ROUNDS]``, as root."""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from lab.fabric.lab import Lab
from lab.policy.compile import compile_snapshots
from lab.policy.load import load_resources
from lab.policy.resources import Resources
from lab.sidecar.mesh import Mesh
from lab.topology.load import load_topology

SIZES = (1, 6, 24)
POLICY = {
    "apiVersion": "projectcalico.org/v3",
    "kind": "GlobalNetworkPolicy",
    "metadata": {"name": "p"},
    "spec": {
        "selector": "all()",
        "types": ["Ingress"],
        "ingress": [{"action": "Allow", "protocol": "TCP", "http": {"paths": [{"prefix": "/a"}]}}],
    },
}


def measure(size: int, directory: Path) -> dict[str, float]:
    """One lab of so many sidecars: everything in ms and MB, a sidecar."""
    workloads = {f"x/w{number}": {"node": "n", "sidecar": "envoy"} for number in range(size)}
    (directory / "t.yaml").write_text(json.dumps({"nodes": {"n": {}}, "namespaces": {"x": {}}, "workloads": workloads}))
    (directory / "p.json").write_text(json.dumps(POLICY))
    topology = load_topology(directory / "t.yaml")
    resources = load_resources([directory / "p.json"], topology)
    with Lab(topology) as lab:
        began = time.perf_counter()
        with Mesh(lab) as mesh:
            ready = time.perf_counter() - began
            pids = [envoy.process.pid for envoy in mesh.envoys.values()]
            busy = sum(_busy_seconds(pid) for pid in pids)
            memory = sum(_proportional_kb(pid) for pid in pids)
            began = time.perf_counter()
            for wanted in (resources, Resources()) * 5:
                mesh.enforce(compile_snapshots(topology, wanted))
            reload = (time.perf_counter() - began) / 10
    return {
        "ready, ms": ready / size * 1000,
        "CPU until ready, ms": busy / size * 1000,
        "memory (PSS), MB": memory / size / 1000,
        "a change of policy, ms": reload / size * 1000,
    }


def _busy_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _proportional_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def main() -> None:
    """Interleave the sizes, print medians."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    found: dict[int, list[dict[str, float]]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as directory:
        for _ in range(rounds):
            for size in SIZES:
                found[size].append(measure(size, Path(directory)))
    for size, each in found.items():
        told = {what: round(statistics.median(one[what] for one in each), 1) for what in each[0]}
        sys.stdout.write(f"{size} sidecars, each: {told}\n")


if __name__ == "__main__":
    main()
