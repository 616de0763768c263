# SPDX-License-Identifier: Apache-2.0
"""The sysctls of a lab's namespaces: quiet links, no filtering by reverse path, forwarding in routers only.

IPv4 settings of a new namespace come from the host's (``net.core.devconf_inherit_init_net``), so what a lab depends
on is said, not hoped for. But new namespaces are all alike: what they have is read once, and only what differs is
written, because a write costs about as much as a veth's route.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from lab.fabric.namespace import refused, sysctl_path

__all__ = ["END", "ROUTER", "read", "write"]

# Milliseconds, the largest that the kernel takes: the second report of a multicast membership waits for a random
# part of it. In version 1 of the protocol the first is sent while the lab is made; in version 2 a moment later.
_NEVER: Final = str(2**31 - 1)

_COMMON: Final = {
    "ipv6.conf.all.disable_ipv6": "0",
    "ipv6.conf.default.disable_ipv6": "0",
    "ipv6.conf.default.accept_dad": "0",
    # No link-local addresses: all neighbours are known, and there is nothing to solicit routers with.
    "ipv6.conf.default.addr_gen_mode": "1",
    "ipv6.conf.default.force_mld_version": "1",
    "ipv6.conf.default.mldv1_unsolicited_report_interval": _NEVER,
    "ipv4.conf.all.rp_filter": "0",
    "ipv4.conf.default.rp_filter": "0",
}

END: Final = _COMMON | {"ipv4.ip_forward": "0", "ipv6.conf.all.forwarding": "0"}
"""Of workloads and externals."""

ROUTER: Final = _COMMON | {"ipv4.ip_forward": "1", "ipv6.conf.all.forwarding": "1"}
"""Of nodes and the underlay."""


def read(names: Iterable[str]) -> dict[str, str]:
    """The sysctls of this thread's namespace; raises HostError naming the one that cannot be read."""
    return {name: _read(name) for name in names}


def write(settings: Mapping[str, str]) -> None:
    """Set sysctls of this thread's namespace; raises HostError naming the one that the kernel refuses."""
    for name, value in settings.items():
        try:
            _write(name, value)
        except OSError as error:
            raise refused(f"to set the sysctl net.{name} to {value!r}", error.errno or 0) from error


def _write(name: str, value: str) -> None:
    """Write without a text file's buffers, which would take longer than the kernel does."""
    descriptor = os.open(sysctl_path(name), os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, value.encode())
    finally:
        os.close(descriptor)


def _read(name: str) -> str:
    try:
        return Path(sysctl_path(name)).read_text(encoding="ascii").strip()
    except OSError as error:
        raise refused(f"to read the sysctl net.{name}", error.errno or 0) from error
