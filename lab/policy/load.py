# SPDX-License-Identifier: Apache-2.0
"""Files and directories in, resources out: everything checked, and everything that is wrong told at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from lab.document import Document, Step, read_documents
from lab.errors import LabError, LabErrors, Place, PolicyError
from lab.policy.resources import (
    EndpointSlice,
    FelixConfiguration,
    HostEndpoint,
    IpPool,
    NetworkSet,
    Policy,
    Profile,
    Resources,
    Service,
    Tier,
)
from lab.topology import Topology

if TYPE_CHECKING:
    from lab.policy.read.kinds import AnyResource, Identity
    from lab.policy.read.source import Source

__all__ = ["load_resources", "resource_entries", "resources_of"]

Kind = TypeVar("Kind")

_SUFFIXES = frozenset({".yaml", ".yml", ".json"})


def load_resources(
    paths: Sequence[Path | str], topology: Topology, *, left_out: Callable[[LabError], None] | None = None
) -> Resources:
    """Read the resources of files and directories, in the order in which they are given.

    A directory stands for all files below it that end in .yaml, .yml or .json, sorted by their paths; what
    begins with a dot is passed over. A file may hold many documents, and lists as kubectl writes them
    (``kind: List``) or calicoctl takes them (bare). No paths mean no resources.

    With ``left_out`` a resource that is wrong counts as absent, as it does for Calico (of a network set only the
    entries that are no networks), and each thing that is wrong is told to ``left_out``. A file that cannot be read
    at all is an error all the same.

    Raises:
        PolicyError: something is wrong with a file or a resource.
        LabErrors: several things are; they come in the order of the files.
    """
    errors: list[LabError] = []
    documents = (document for file in _files(paths) for document in _documents(file, errors))
    return _sorted_out([resource for resource, _ in _read_all(documents, topology, errors, left_out)])


def resources_of(documents: Iterable[Document], topology: Topology) -> Resources:
    """Read the resources of documents; raises what ``load_resources`` raises."""
    return _sorted_out([resource for resource, _ in _read_all(documents, topology, [], None)])


def resource_entries(paths: Sequence[Path | str], topology: Topology) -> list[dict[str, object]]:
    """The resources of files and directories as plain data, each a document of its own, without those that are wrong.

    Raises what ``load_resources`` raises for files that cannot be read.
    """
    errors: list[LabError] = []
    documents = (document for file in _files(paths) for document in _documents(file, errors))
    return [entry for _, entry in _read_all(documents, topology, errors, lambda _: None)]


def _read_all(
    documents: Iterable[Document],
    topology: Topology,
    errors: list[LabError],
    left_out: Callable[[LabError], None] | None,
) -> list[tuple[AnyResource, dict[str, object]]]:
    """Read all resources, each with its data; ``errors`` takes what is wrong, also while ``documents`` are read."""
    from lab.policy.read.kinds import read_resource
    from lab.policy.read.source import Source
    from lab.schema import raise_all

    seen: dict[Identity, Place] = {}
    read: list[tuple[AnyResource, dict[str, object]]] = []
    for document in documents:
        for at in _resources_of(document):
            source = Source(document, at, [], [], topology)
            resource = read_resource(source, seen)
            if resource is not None:
                read.append((resource, _entry(source, resource)))
            for error in (*source.errors, *source.passed_over):
                (left_out or errors.append)(error)
    raise_all(errors)
    return read


def _entry(source: Source, resource: AnyResource) -> dict[str, object]:
    """The data of a resource; a network set's without the entries that were passed over."""
    data: dict[str, object] = source.value()
    if not source.passed_over or not isinstance(resource, NetworkSet):
        return data
    return data | {"spec": {"nets": [str(net) for net in resource.nets]}}


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
    """The paths of all resources in a document: of its one, or of those in a list.

    kubectl writes lists with a kind of their own; calicoctl takes a bare list as well.
    """
    value = document.value
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        yield from ((index,) for index in range(len(value)))
    elif not isinstance(value, dict) or not str(value.get("kind")).endswith("List"):
        yield ()
    elif isinstance(value.get("items"), list):
        yield from (("items", index) for index in range(len(value["items"])))
    elif value.get("items") is not None or "items" not in value:
        yield ()


def _sorted_out(resources: Sequence[AnyResource]) -> Resources:
    def of(kind: type[Kind]) -> tuple[Kind, ...]:
        return tuple(each for each in resources if isinstance(each, kind))

    return Resources(
        policies=tuple(each for each in resources if isinstance(each, Policy)),
        tiers=of(Tier),
        profiles=of(Profile),
        network_sets=of(NetworkSet),
        host_endpoints=of(HostEndpoint),
        services=of(Service),
        endpoint_slices=of(EndpointSlice),
        ip_pools=of(IpPool),
        felix_configurations=of(FelixConfiguration),
    )
