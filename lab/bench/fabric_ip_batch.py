# SPDX-License-Identifier: Apache-2.0
"""The rival ``ip -batch``, as an expert writes it: one process makes all namespaces, then one fills each.

The files are written beforehand. It need not wait until the lab is ready and makes no barrier, which favours it.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from typing import Final

from lab.bench.fabric_rival import NAMES, RUN, NamedRival
from lab.errors import HostError
from lab.fabric.messages import LOOPBACK, Deed, Interface, Neighbour, OwnAddress, Route, Wire
from lab.fabric.namespace import sysctl_path
from lab.topology import Topology

__all__ = ["IpBatch"]

_SCRIPTS: Final = RUN / "scripts"


class IpBatch(NamedRival):
    """A shell script that runs ``ip`` once for each namespace."""

    def __init__(self, topology: Topology) -> None:
        super().__init__("ip -batch", topology)

    def prepare(self) -> None:
        """Write the scripts."""
        _SCRIPTS.mkdir()
        for name, lines in self._files().items():
            (_SCRIPTS / name).write_text("".join(f"{line}\n" for line in lines), encoding="ascii")

    def up(self) -> None:
        """Run ip for each namespace."""
        self._run("up.sh")

    def down(self) -> None:
        """Have one ip remove all namespaces."""
        self._run("down.sh")

    def _run(self, script: str) -> None:
        try:
            subprocess.run(["sh", "-eu", script], cwd=_SCRIPTS, check=True, capture_output=True, text=True)
        except subprocess.CalledProcessError as failed:
            raise HostError(
                f"ip -batch does not bring the lab {script.removesuffix('.sh')}: {failed.stderr.strip()}",
                next_step="install iproute2 (apt-get install --no-install-recommends iproute2)",
            ) from failed

    def _files(self) -> dict[str, list[str]]:
        """Scripts and batches by file name; what fills a namespace has its name."""
        names, routers = self.names, self.plan.routers
        ends = [end for step in self.plan.steps for wire in step.wires for end in (wire.near, wire.far)]
        files = {
            "all": [f"netns add {name}" for name in names.values()],
            "gone": [f"netns del {name}" for name in names.values()],
            "down.sh": ["ip -batch gone"],
            "routers.sh": _settings(self.of_routers),
            "ends.sh": _settings(self.of_ends),
            # A router's settings come before its wires, which others make.
            "up.sh": ["ip -batch all", *(f"nsenter --net={NAMES / names[host]} sh -eu routers.sh" for host in routers)],
        }
        for step in self.plan.steps:
            name = names[step.host]
            devices = {LOOPBACK: "lo"} | {end.ifindex: end.name for end in ends if end.host == step.host}
            deeds = [_line(deed, devices[deed.ifindex]) for deed in step.deeds]
            files[name] = [*(_wire(wire, names) for wire in step.wires), *deeds]
            fill = f"nsenter --net={NAMES / name} sh -euc '. ./ends.sh; exec ip -batch {name}'"
            files["up.sh"].append(f"ip -n {name} -batch {name}" if step.host in routers else fill)
        return files


def _settings(wanted: Mapping[str, str]) -> list[str]:
    return [f"echo {value} > {sysctl_path(name)}" for name, value in wanted.items()]


def _wire(wire: Wire, names: Mapping[str, str]) -> str:
    far = f"{_end(wire.far, wire.mtu)} netns {names[wire.far.host]}"
    return f"link add name {_end(wire.near, wire.mtu)} up type veth peer name {far}"


def _end(end: Interface, mtu: int) -> str:
    return f"{end.name} index {end.ifindex} address {end.mac.hex(':')} mtu {mtu} numtxqueues 1 numrxqueues 1"


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
