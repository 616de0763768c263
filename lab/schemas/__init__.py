# SPDX-License-Identifier: Apache-2.0
"""JSON Schemas (draft 2020-12) of every file that policylab reads or writes, one ``NAME.json`` each in this package.

They say what a document looks like. What spans several keys, such as an address given twice, only the readers tell.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

__all__ = ["load_schema", "schema_names"]

_SUFFIX = ".json"


@cache
def schema_names() -> tuple[str, ...]:
    """The names of all formats, sorted: ``bundle``, ``flows``, ``topology``, ..."""
    names = (entry.name for entry in files(__package__).iterdir())
    return tuple(sorted(name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX)))


def load_schema(name: str) -> dict[str, Any]:
    """The schema of a format, one of ``schema_names``; a relative ``$ref`` in it names another of these files.

    Raises KeyError for any other name.
    """
    if name not in schema_names():
        raise KeyError(name)
    schema: dict[str, Any] = json.loads((files(__package__) / f"{name}{_SUFFIX}").read_text())
    return schema
