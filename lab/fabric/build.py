# SPDX-License-Identifier: Apache-2.0
"""Makes a lab out of its plan, in the thread that calls it: one batch of netlink requests a namespace."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from lab.fabric import settings
from lab.fabric.barrier import Barrier
from lab.fabric.namespace import enter, new_namespace
from lab.fabric.netlink import NETLINK_NETFILTER, Netlink
from lab.fabric.plan import Plan, Step
from lab.fabric.ready import wait_until_ready
from lab.fabric.tap import open_tap

__all__ = ["Built", "RouterSockets", "build", "missing_settings"]


@dataclass(frozen=True, slots=True)
class RouterSockets:
    """What is kept open in a router to change it in a moment: its routes and neighbours, its conntrack."""

    route: Netlink
    netfilter: Netlink


@dataclass(frozen=True, slots=True)
class Built:
    """What holds a lab: a descriptor for each namespace and each tap, and sockets in some; keyed by host."""

    namespaces: Mapping[str, int]
    sockets: Mapping[str, RouterSockets]
    barrier: Barrier
    taps: Mapping[str, int]


def build(plan: Plan, stack: ExitStack, given: Mapping[str, int]) -> Built:
    """Make all that is planned; whatever is open, also after an error, is closed by ``stack``.

    The namespaces of some routers are ``given``: they are there already, and somebody else's to close.
    Leaves the calling thread in one of the namespaces. Raises HostError.
    """
    namespaces: dict[str, int] = {}
    of_routers, of_ends = missing_settings()
    for hosts, wanted in ((plan.routers, of_routers), (plan.ends, of_ends)):
        for host in hosts:
            if host in given:
                enter(given[host])
                # Whoever made it may have set anything.
                settings.write(settings.ROUTER)
                namespaces[host] = given[host]
                continue
            namespaces[host] = _namespace(stack)
            settings.write(wanted)
    taps = _taps(plan, namespaces, stack)
    for step in plan.steps:
        _take(step, namespaces)
    barrier = Barrier(stack, of_ends)
    for host, descriptor in namespaces.items():
        addresses = plan.ports[host].addresses if host in plan.ports else ()
        enter(descriptor)
        with Netlink() as netlink:
            at_once = {tap.ifindex for tap in plan.taps.values() if tap.host == host}
            wait_until_ready(netlink, addresses, host or "the underlay", at_once)
    return Built(namespaces, {host: _sockets(stack, namespaces[host]) for host in plan.routers}, barrier, taps)


def _taps(plan: Plan, namespaces: Mapping[str, int], stack: ExitStack) -> dict[str, int]:
    """Make the underlay's ends of wires to machines; leaves the calling thread there if there are some."""
    taps: dict[str, int] = {}
    for machine, interface in plan.taps.items():
        enter(namespaces[interface.host])
        taps[machine] = open_tap(interface)
        stack.callback(os.close, taps[machine])
    return taps


def _namespace(stack: ExitStack) -> int:
    descriptor = new_namespace()
    stack.callback(os.close, descriptor)
    return descriptor


def missing_settings() -> tuple[dict[str, str], dict[str, str]]:
    """What has to be set in new namespaces, of routers and of ends; found out in one that is thrown away.

    Leaves the calling thread in it.
    """
    with ExitStack() as trial:
        _namespace(trial)
        has = settings.read(settings.ROUTER)
    routers, ends = (
        {name: value for name, value in wanted.items() if has[name] != value}
        for wanted in (settings.ROUTER, settings.END)
    )
    return routers, ends


def _take(step: Step, namespaces: Mapping[str, int]) -> None:
    wires = [wire.message(namespaces[wire.far.host]) for wire in step.wires]
    enter(namespaces[step.host])
    with Netlink() as netlink:
        netlink.send([*wires, *(deed.message() for deed in step.deeds)])


def _sockets(stack: ExitStack, descriptor: int) -> RouterSockets:
    enter(descriptor)
    return RouterSockets(stack.enter_context(Netlink()), stack.enter_context(Netlink(NETLINK_NETFILTER)))
