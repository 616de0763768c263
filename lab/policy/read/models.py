# SPDX-License-Identifier: Apache-2.0
"""What the models of all kinds of resource are made from."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from lab.schema import StrictModel

__all__ = ["CamelModel", "Metadata", "Resource", "StagedActionName"]

StagedActionName = Literal["Set", "Delete", "Learn", "Ignore"]


class CamelModel(StrictModel):
    """A model whose keys are written in camelCase."""

    model_config = ConfigDict(alias_generator=to_camel)


class Metadata(CamelModel):
    """The metadata of any resource; only these first three say something, the rest comes from API servers."""

    name: str
    namespace: str = ""
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: Any = None
    cluster_name: Any = None
    creation_timestamp: Any = None
    deletion_grace_period_seconds: Any = None
    deletion_timestamp: Any = None
    finalizers: Any = None
    generate_name: Any = None
    generation: Any = None
    managed_fields: Any = None
    owner_references: Any = None
    resource_version: Any = None
    self_link: Any = None
    uid: Any = None


class Resource(CamelModel):
    """What all resources have in common."""

    api_version: str
    kind: str
    metadata: Metadata
    status: Any = None
