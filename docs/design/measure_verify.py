# SPDX-License-Identifier: Apache-2.0
"""Where the time of ``policylab verify`` goes: three-by-three, 20 policies, 864 flows, one phase after another.

Run as root: ``python docs/design/measure_verify.py [RUNS]``. Each run is a process of its own, as the command is;
the table has the medians in milliseconds. The phases do what ``lab.cli.verify`` and its ``Harness`` do, in their order.
"""

from __future__ import annotations

import builtins
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

RUNS = 5
DATAPLANE = "iptables"
TOPOLOGY = "three-by-three"
START, IMPORTS, READING, EXIT = "start of Python", "imports", "reading the files", "end of the process"
WHOLE = "the whole command"


def policies() -> Iterator[str]:
    """Twenty policies as people write them: ten of Kubernetes, eight of Calico, two for all namespaces."""
    for number in range(10):
        namespace, pod = "xyz"[number % 3], "abc"[number // 3 % 3]
        yield f"""
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: k{number}, namespace: {namespace}}}
spec:
  podSelector: {{matchLabels: {{pod: {pod}}}}}
  policyTypes: [Ingress, Egress]
  ingress: [{{from: [{{namespaceSelector: {{matchLabels: {{ns: y}}}}}}], ports: [{{protocol: TCP, port: 80}}]}}]
  egress: [{{ports: [{{protocol: UDP, port: 80, endPort: 81}}]}}, {{to: [{{podSelector: {{}}}}]}}]
"""
    for number in range(10):
        home = f", namespace: {'xyz'[number % 3]}" if number < 8 else ""
        yield f"""
apiVersion: projectcalico.org/v3
kind: {"NetworkPolicy" if home else "GlobalNetworkPolicy"}
metadata: {{name: c{number}{home}}}
spec:
  order: {100 - number}
  selector: pod in {{'a', '{"bc"[number % 2]}'}}
  types: [Ingress]
  ingress:
    - {{action: Deny, protocol: SCTP, source: {{notNets: [198.18.0.0/30]}}}}
    - {{action: Allow, protocol: TCP, destination: {{ports: [serve-80-tcp, "{81 + number}:90"]}}}}
    - {{action: Allow, protocol: UDP, source: {{selector: pod != 'c'}}}}
"""


class Clock:
    """Sums up time by phase; what is imported on the way counts as imports, wherever it happens."""

    def __init__(self, started: float) -> None:
        self.spent = {START: time.monotonic() - started, IMPORTS: 0.0}
        self._importing = False
        self._import = builtins.__import__
        builtins.__import__ = self._timed_import  # type: ignore[assignment]  # it passes on what it is given

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time a block, less its imports."""
        start, imported = time.monotonic(), self.spent[IMPORTS]
        yield
        self.spent[name] = time.monotonic() - start - (self.spent[IMPORTS] - imported)

    def _timed_import(self, *words: object, **more: object) -> object:
        if self._importing:
            return self._import(*words, **more)  # type: ignore[arg-type]  # passed on as they came
        self._importing, start = True, time.monotonic()
        try:
            return self._import(*words, **more)  # type: ignore[arg-type]  # passed on as they came
        finally:
            self._importing = False
            self.spent[IMPORTS] += time.monotonic() - start


def once(started: float, policy_file: Path) -> None:
    """One run, in this process; tells the times on stderr, as results go to stdout."""
    clock = Clock(started)
    import dataplanes.iptables  # noqa: F401  (load_dataplane imports it, out of the clock's sight)
    from dataplanes.registry import load_dataplane
    from lab.cli.options import read_question
    from lab.conformance.results import Results
    from lab.fabric.lab import Lab
    from lab.oracle import Oracle
    from lab.policy.compile import compile_snapshots
    from lab.report.table import print_results
    from lab.traffic.prober import Prober

    with clock.phase(READING):
        question = read_question(Path(TOPOLOGY), (policy_file,), None)
        dataplane = load_dataplane(DATAPLANE)
    lab = Lab(question.topology)
    with clock.phase("building the lab"):
        lab.__enter__()
    with clock.phase("starting the dataplane"):
        planes = {name: dataplane(node) for name, node in lab.nodes.items()}
        for plane in planes.values():
            plane.start()
    prober = Prober(lab)
    with clock.phase("opening sockets at all ends"):
        prober.__enter__()
    with clock.phase("compiling the policy"):
        snapshots = compile_snapshots(question.topology, question.resources)
    with clock.phase("applying it (iptables-restore, ipset)"):
        for name, plane in planes.items():
            plane.apply(snapshots[name])
    with clock.phase("the oracle's verdicts"):
        verdicts = Oracle(question.topology, question.resources).verdicts(question.flows)
    with clock.phase("making and sending packets, seeing what arrives"):
        observed = prober.observe(question.flows)
    with clock.phase("printing"):
        results = Results.of(question.flows, verdicts, [seen.verdict for seen in observed])
        print_results(results, "json")
        sys.stdout.flush()
    with clock.phase("closing the sockets"):
        prober.__exit__(None, None, None)
    with clock.phase("stopping the dataplane"):
        for plane in planes.values():
            plane.stop()
    with clock.phase("closing the lab"):
        lab.__exit__(None, None, None)
    sys.stderr.write(json.dumps({"spent": clock.spent, "ended": time.monotonic(), "summary": results.summary()}))


def measured(policy_file: Path) -> dict[str, float]:
    """The phases of one child process, its end, and the real command beside it."""
    started = time.monotonic()
    argv = [sys.executable, __file__, "--once", str(started), str(policy_file)]
    child = subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    told = json.loads(child.stderr)
    spent = {**told["spent"], EXIT: time.monotonic() - told["ended"]}
    begun = time.monotonic()
    policylab = str(Path(sys.executable).with_name("policylab"))
    argv = [policylab, "verify", TOPOLOGY, str(policy_file), "--dataplane", DATAPLANE, "--output", "json"]
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    return {**spent, WHOLE: time.monotonic() - begun}


def main() -> None:
    """Measure and print the table."""
    if sys.argv[1:2] == ["--once"]:
        once(float(sys.argv[2]), Path(sys.argv[3]))
        return
    with tempfile.TemporaryDirectory() as folder:
        policy_file = Path(folder) / "policies.yaml"
        policy_file.write_text("---".join(policies()))
        runs = [measured(policy_file) for _ in range(int(sys.argv[1]) if sys.argv[1:] else RUNS)]
    sys.stdout.write(f"| phase | ms (median of {len(runs)}) |\n| --- | ---: |\n")
    for name in runs[0]:
        sys.stdout.write(f"| {name} | {median(run[name] for run in runs) * 1000:.0f} |\n")
    sys.stdout.write(f"\nload {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs\n")


if __name__ == "__main__":
    main()
