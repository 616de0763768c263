# SPDX-License-Identifier: Apache-2.0
"""The rival ``ip -batch``, as an expert writes it: one process makes all namespaces, one all wires, one fills each.

The files are written beforehand. It need not wait until the lab is ready, makes no barrier, and is spared the
settings of ends, which it could only write by one more process each: what is left away favours it.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from lab.bench.fabric_rival import NamedRival
from lab.errors import HostError
from lab.fabric.messages import LOOPBACK, Deed, Interface, Neighbour, OwnAddress, Route, Wire
from lab.topology import Topology

__all__ = ["IpBatch"]

_FORWARDING: Final = "echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding"


class IpBatch(NamedRival):
    """A shell script that runs ``ip`` once for each namespace."""

    def __init__(self, topology: Topology) -> None:
        super().__init__("ip -batch", topology)

    @contextmanager
    def prepared(self) -> Iterator[None]:
        """Write the scripts."""
        with tempfile.TemporaryDirectory(prefix="policylab-bench-") as directory:
            self._directory = Path(directory)
            for name, lines in self._files().items():
                Path(directory, name).write_text("".join(f"{line}\n" for line in lines), encoding="ascii")
            yield

    def up(self) -> None:
        """Run ip for each namespace."""
        self._run("up.sh")

    def down(self) -> None:
        """Have one ip remove all namespaces."""
        self._run("down.sh")

    def _run(self, script: str) -> None:
        try:
            subprocess.run(["sh", "-eu", script], cwd=self._directory, check=True, capture_output=True, text=True)
        except subprocess.CalledProcessError as failed:
            raise HostError(
                f"ip -batch does not bring the lab {script.removesuffix('.sh')}: {failed.stderr.strip()}",
                next_step="install iproute2 (apt-get install --no-install-recommends iproute2)",
            ) from failed

    def _files(self) -> dict[str, list[str]]:
        """Scripts and batches by file name; the batch of a namespace has its name."""
        names = self.names
        ends = {
            (end.host, end.ifindex): end.name for step in self.plan.steps for wire in step.wires for end in wire[:2]
        }
        batches: dict[str, list[str]] = {}
        for step in self.plan.steps:
            devices = {index: name for (host, index), name in ends.items() if host == step.host} | {LOOPBACK: "lo"}
            quiet = [f"link set dev {device} addrgenmode none" for device in devices.values() if device != "lo"]
            near = [f"link set dev {wire.near.name} up" for wire in step.wires]
            batches[names[step.host]] = [*quiet, *near, *(_line(deed, devices[deed.ifindex]) for deed in step.deeds)]
        return batches | {
            "names": [f"netns add {name}" for name in names.values()],
            "wires": [_wire(wire, names) for step in self.plan.steps for wire in step.wires],
            "gone": [f"netns del {name}" for name in names.values()],
            "up.sh": [
                "ip -batch names",
                *(f"ip netns exec {names[host]} sh -c '{_FORWARDING}'" for host in self.plan.routers),
                f"ip -n {names[self.plan.routers[0]]} -batch wires",
                *(f"ip -n {name} -batch {name}" for name in batches),
            ],
            "down.sh": ["ip -batch gone"],
        }


def _wire(wire: Wire, names: dict[str, str]) -> str:
    return f"link add name {_end(wire.near, wire, names)} type veth peer name {_end(wire.far, wire, names)}"


def _end(end: Interface, wire: Wire, names: dict[str, str]) -> str:
    return (
        f"{end.name} index {end.ifindex} address {end.mac.hex(':')} mtu {wire.mtu} numtxqueues 1 numrxqueues 1 "
        f"netns {names[end.host]}"
    )


def _line(deed: Deed, device: str) -> str:
    if isinstance(deed, OwnAddress):
        return f"address add {deed.address}/{deed.address.max_prefixlen} dev {device}" + (
            " nodad" if deed.address.version == 6 else ""
        )
    if isinstance(deed, Neighbour):
        return f"neigh replace {deed.address} lladdr {deed.mac.hex(':')} dev {device} nud permanent"
    if isinstance(deed, Route):
        way = f"via {deed.gateway} dev {device} onlink" if deed.gateway else f"dev {device}"
        return f"route add {deed.address or 'default'} {way} proto static"
    return f"link set dev {device} up"
