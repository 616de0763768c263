# SPDX-License-Identifier: Apache-2.0
"""Waits until a namespace carries packets: after the last request the kernel has some work left to do by itself.

It must notice that both ends of a wire are up, and put the routes to a host's own IPv6 addresses in place. Both are
asked for, never slept for.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from typing import Final

from lab.errors import HostError
from lab.fabric.messages import FIRST_INDEX, get_links, get_route, is_local, is_ready, link_index
from lab.fabric.netlink import Netlink
from lab.topology import Address

__all__ = ["READY_SECONDS", "wait_until_ready"]

READY_SECONDS: Final = 20.0
"""The kernel needs milliseconds; on a machine that is far too busy, or when it waits for a timer, a second or two."""

_PAUSE_SECONDS: Final = 0.0005


def wait_until_ready(
    netlink: Netlink, addresses: Iterable[Address], host: str, at_once: Collection[int] = frozenset()
) -> None:
    """Return when all interfaces that are ours carry packets and these addresses are the host's, or raise HostError.

    Interfaces with the indexes ``at_once`` carry packets as soon as they are up; the kernel does not tell it of them.
    """
    deadline = time.monotonic() + READY_SECONDS
    own = [address for address in addresses if address.version == 6]
    while missing := _missing_link(netlink, at_once) or _missing_address(netlink, own):
        if time.monotonic() > deadline:
            raise HostError(
                f"{missing} of {host} was not ready after {READY_SECONDS:g} s",
                next_step="run it again on a machine that is less busy",
            )
        time.sleep(_PAUSE_SECONDS)


def _missing_link(netlink: Netlink, at_once: Collection[int]) -> str:
    for link in netlink.ask(get_links(), dump=True):
        index = link_index(link)
        if index >= FIRST_INDEX and index not in at_once and not is_ready(link):
            return f"interface {index}"
    return ""


def _missing_address(netlink: Netlink, addresses: Iterable[Address]) -> str:
    for address in addresses:
        if not any(map(is_local, netlink.ask(get_route(address)))):
            return f"the address {address}"
    return ""
