# SPDX-License-Identifier: Apache-2.0
"""Whom an admin policy is for, and the peers of its rules.

A peer of a kind that nobody knows is kept as an empty one, so that its rule can fail closed: the API would rather
have a newer policy enforced too strictly than not at all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from lab.policy.read.admin_models import NamespacedPodModel, PeerModel, SubjectModel
from lab.policy.read.labels import read_label_selector
from lab.policy.read.source import Path, Refusal, Source
from lab.policy.read.values import kubernetes_net
from lab.policy.resources import AdminPeer, Direction, LabelSelector
from lab.topology import Net

__all__ = ["PEERS", "read_peer", "read_subject"]

PEERS = frozenset({"namespaces", "pods", "networks", "nodes"})
"""The kinds of peer that every admin policy has."""

_SUBJECTS = "namespaces or pods"
_OF_INGRESS = frozenset({"namespaces", "pods"})
_MAX_ENTRIES = 25
_LABEL = r"[a-zA-Z0-9](?:[-a-zA-Z0-9_]*[a-zA-Z0-9])?"
_DOMAIN_NAME = re.compile(rf"(?:\*\.)?(?:{_LABEL}\.)+{_LABEL}\.?")


def read_subject(source: Source, path: Path, model: SubjectModel) -> AdminPeer:
    """Read whom a policy is for."""
    if (model.namespaces is None) == (model.pods is None):
        source.refuse(path, "must hold one of the two", key=True, allowed=f"either {_SUBJECTS}")
    return _selected(source, path, model)


def read_peer(
    source: Source, path: Path, given: Mapping[str, Any], direction: Direction, known: frozenset[str]
) -> AdminPeer:
    """Read one peer of a rule; ``known`` are the kinds of peer that the kind of policy has."""
    kinds = [key for key, value in given.items() if value is not None]
    if len(kinds) > 1:
        source.refuse(path, "holds several kinds of peer", allowed="one of them", next_step="write an entry for each")
        return AdminPeer()
    if not kinds or kinds[0] not in known:
        return AdminPeer()
    if direction is Direction.INGRESS and kinds[0] not in _OF_INGRESS:
        source.refuse((*path, kinds[0]), "can stand in egress rules only", key=True, allowed=_SUBJECTS)
    model = source.check(PeerModel, path)
    return AdminPeer() if model is None else _peer(source, path, model)


def _peer(source: Source, path: Path, model: PeerModel) -> AdminPeer:
    if model.networks is not None:
        return AdminPeer(networks=_networks(source, (*path, "networks"), model.networks))
    if model.domain_names is not None:
        return AdminPeer(domain_names=_domain_names(source, (*path, "domainNames"), model.domain_names))
    if model.nodes is not None:
        return AdminPeer(nodes=read_label_selector(source, (*path, "nodes"), model.nodes))
    return _selected(source, path, model)


def _selected(source: Source, path: Path, model: SubjectModel) -> AdminPeer:
    if model.namespaces is not None:
        return AdminPeer(namespaces=read_label_selector(source, (*path, "namespaces"), model.namespaces))
    if model.pods is not None:
        return AdminPeer(pods=_pods(source, (*path, "pods"), model.pods))
    return AdminPeer()


def _pods(source: Source, path: Path, model: NamespacedPodModel) -> tuple[LabelSelector, LabelSelector]:
    return (
        read_label_selector(source, (*path, "namespaceSelector"), model.namespace_selector),
        read_label_selector(source, (*path, "podSelector"), model.pod_selector),
    )


def _networks(source: Source, path: Path, texts: list[str]) -> tuple[Net, ...]:
    _check_length(source, path, texts)
    return source.read_all(path, kubernetes_net, texts)


def _domain_names(source: Source, path: Path, texts: list[str]) -> tuple[str, ...]:
    _check_length(source, path, texts)
    return source.read_all(path, _domain_name, texts)


def _check_length(source: Source, path: Path, values: list[str]) -> None:
    source.limit(path, values, _MAX_ENTRIES)
    if not values:
        source.refuse(path, "has no entry, and needs one", key=True)


def _domain_name(text: str) -> str:
    if not _DOMAIN_NAME.fullmatch(text):
        raise Refusal("is not a domain name", allowed="such as example.org or *.example.org")
    return text
