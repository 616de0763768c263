# SPDX-License-Identifier: Apache-2.0
"""Files and directories in, resources out: everything checked, and everything that is wrong told at once."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lab.document import Document, Step, read_documents
from lab.errors import LabError, LabErrors, Place, PolicyError
from lab.policy.resources import CalicoPolicy, KubernetesNetworkPolicy, NetworkSet, Profile, Resources, Tier
from lab.topology import Topology

if TYPE_CHECKING:
    from lab.policy.read.kinds import AnyResource, Identity

__all__ = ["load_resources", "resource_entries", "resources_of"]

_SUFFIXES = frozenset({".yaml", ".yml", ".json"})


def load_resources(paths: Sequence[Path | str], topology: Topology) -> Resources:
    """Read the resources of files and directories, in the order in which they are given.

    A directory stands for all files below it that end in .yaml, .yml or .json, sorted by their paths; what
    begins with a dot is passed over. A file may hold many documents, and lists (``kind: List``) as kubectl
    writes them. No paths mean no resources.

    Raises:
        PolicyError: something is wrong with a file or a resource.
        LabErrors: several things are; they come in the order of the files.
    """
    errors: list[LabError] = []
    return _resources((document for file in _files(paths) for document in _documents(file, errors)), topology, errors)


def resources_of(documents: Iterable[Document], topology: Topology) -> Resources:
    """Read the resources of documents; raises what ``load_resources`` raises."""
    return _resources(documents, topology, [])


def _resources(documents: Iterable[Document], topology: Topology, errors: list[LabError]) -> Resources:
    """Read all resources; ``errors`` takes what is wrong, also what is found while ``documents`` are read."""
    from lab.policy.read.kinds import read_resource
    from lab.schema import raise_all

    seen: dict[Identity, Place] = {}
    resources = [
        resource
        for document in documents
        for at in _resources_of(document)
        if (resource := read_resource(document, at, topology, seen, errors)) is not None
    ]
    raise_all(errors)
    return _sorted_out(resources)


def resource_entries(paths: Sequence[Path | str]) -> list[dict[str, object]]:
    """The resources of files and directories as plain data, each a document of its own, read but not checked."""
    return [
        document.at(at)
        for file in _files(paths)
        for document in read_documents(file, PolicyError)
        for at in _resources_of(document)
    ]


def _files(paths: Sequence[Path | str]) -> Iterator[Path]:
    """All files that the paths stand for; a path that does not exist is left to the reader to complain about."""
    for path in map(Path, paths):
        yield from sorted(_files_below(path)) if os.path.isdir(path) else [path]  # noqa: PTH112  (no error if too long)


def _files_below(directory: Path) -> Iterator[Path]:
    """All resource files of a directory; one that cannot be looked into is an error and not an empty one."""
    for folder, folders, names in os.walk(directory, onerror=_refuse_folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(folder, name) for name in names if _is_resource_file(name))


def _refuse_folder(problem: OSError) -> None:
    raise PolicyError(f"cannot be read: {problem.strerror}", place=str(problem.filename))


def _is_resource_file(name: str) -> bool:
    return Path(name).suffix in _SUFFIXES and not name.startswith(".")


def _documents(file: Path, errors: list[LabError]) -> list[Document]:
    try:
        return read_documents(file, PolicyError)
    except LabErrors as several:
        errors.extend(several.errors)
    except PolicyError as one:
        errors.append(one)
    return []


def _resources_of(document: Document) -> Iterator[tuple[Step, ...]]:
    """The paths of all resources in a document: of its one, or of the items of a list as kubectl writes it."""
    value = document.value
    if not isinstance(value, dict) or not str(value.get("kind")).endswith("List"):
        yield ()
    elif isinstance(value.get("items"), list):
        yield from (("items", index) for index in range(len(value["items"])))
    elif value.get("items") is not None or "items" not in value:
        yield ()


def _sorted_out(resources: Sequence[AnyResource]) -> Resources:
    return Resources(
        policies=tuple(each for each in resources if isinstance(each, CalicoPolicy | KubernetesNetworkPolicy)),
        tiers=tuple(each for each in resources if isinstance(each, Tier)),
        profiles=tuple(each for each in resources if isinstance(each, Profile)),
        network_sets=tuple(each for each in resources if isinstance(each, NetworkSet)),
    )
