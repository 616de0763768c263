# SPDX-License-Identifier: Apache-2.0
"""What a rule's ``http`` asks of a request, and what is not known of one beforehand: its source port."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from typing import Final
from urllib.parse import unquote

from lab.oracle.conditions import Condition, Mismatch
from lab.oracle.packet import Packet, Part
from lab.policy.resources import CalicoPolicy, HttpMatch, HttpPath, PortRange, Profile, Resources, Rule
from lab.topology import HttpRequest

__all__ = ["drawn_ports", "is_request", "path_as_judged"]

_DRAWN: Final = PortRange(32768, 60999)
"""From where Linux draws source ports (net.ipv4.ip_local_port_range)."""


def is_request(match: HttpMatch) -> Condition:
    """``http``: one of the methods and one of the paths. A packet that is no request passes: layer 4 ignores it."""

    def holds(packet: Packet) -> bool:
        request = packet.http
        return request is None or (_has_method(match, request) and _has_path(match, request))

    def mismatch(packet: Packet) -> Mismatch:
        assert packet.http is not None  # noqa: S101 - or it would hold
        if not _has_method(match, packet.http):
            return Mismatch("http.methods", f"one of {', '.join(match.methods)}", packet.http.method)
        wanted = ", ".join(f"{path.how} {path.path}" for path in match.paths)
        return Mismatch("http.paths", f"one of {wanted}", path_as_judged(packet.http.path))

    return Condition(Part.REQUEST, ("http", match), holds, mismatch)


def _has_method(match: HttpMatch, request: HttpRequest) -> bool:
    return not match.methods or "*" in match.methods or request.method in match.methods


def _has_path(match: HttpMatch, request: HttpRequest) -> bool:
    path = path_as_judged(request.path)
    return not match.paths or any(_covers(wanted, path) for wanted in match.paths)


def _covers(wanted: HttpPath, path: str) -> bool:
    """An exact path is that path; a prefix covers itself and what lies below it, never half a segment."""
    if wanted.how == "exact" or path == wanted.path:
        return path == wanted.path
    return path.startswith(wanted.path if wanted.path.endswith("/") else f"{wanted.path}/")


def path_as_judged(path: str) -> str:
    """A request's path as rules see it: without query, percent-decoded once, slashes squeezed, dots resolved.

    A backslash counts as a slash, as it does for the proxies and browsers that it would be hidden from.
    """
    # What is no UTF-8 is like no text that a rule could hold.
    decoded = unquote(re.split(r"[?#]", path, maxsplit=1)[0], errors="surrogateescape").replace("\\", "/")
    return _without_dots(re.sub("/+", "/", decoded))


def _without_dots(path: str) -> str:
    """RFC 3986, section 5.2.4, for a path without empty segments."""
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            kept[-1:] = []
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in {".", ".."} and kept:
        kept.append("")
    return "/" + "/".join(kept)


def drawn_ports(resources: Resources) -> tuple[int, ...]:
    """Source ports that stand for all that the kernel may draw: every rule holds for all of a stretch or for none."""
    starts = {_DRAWN.first, *chain.from_iterable((each.first, each.last + 1) for each in _source_ranges(resources))}
    return tuple(sorted(port for port in starts if _DRAWN.first <= port <= _DRAWN.last))


def _source_ranges(resources: Resources) -> Iterator[PortRange]:
    for rule in _rules(resources):
        for port in (*rule.source.ports, *rule.source.not_ports):
            if isinstance(port, PortRange):
                yield port


def _rules(resources: Resources) -> Iterator[Rule]:
    """All rules that can tell source ports apart: those of Calico's policies and of profiles."""
    for owner in (*resources.policies, *resources.profiles):
        if isinstance(owner, CalicoPolicy | Profile):
            yield from (*owner.ingress, *owner.egress)
