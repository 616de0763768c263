# SPDX-License-Identifier: Apache-2.0
"""``policylab new-dataplane``: a package to start from."""

from __future__ import annotations

import re
import shutil
from importlib.resources import files
from pathlib import Path
from string import Template

import click

from dataplanes.registry import dataplane_names
from lab.errors import LabError
from lab.report.terminal import say

__all__ = ["new_dataplane"]

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_LONGEST = 24
"""Kernel objects are named after it, and some have little room."""
_FILES = {
    "pyproject.toml": "pyproject.toml.txt",
    "tox.ini": "tox.ini.txt",
    "README.md": "README.md.txt",
    ".github/workflows/conformance.yaml": "ci.yaml.txt",
}


@click.command("new-dataplane", short_help="Write a plugin package to start from.")
@click.argument("name")
def new_dataplane(name: str) -> None:
    """Write a package with a dataplane NAME that denies everything, in ./policylab-NAME."""
    _check(name)
    directory = Path(f"policylab-{name}")
    words = {"name": name, "module": f"policylab_{name.replace('-', '_')}", "class": _class(name)}
    try:
        directory.mkdir()
    except FileExistsError:
        raise LabError(
            "it is there already", place=str(directory), next_step="choose another name, or remove it"
        ) from None
    try:
        for file, template in (_FILES | {f"{words['module']}.py": "module.py.txt"}).items():
            _write(directory / file, template, words)
    except OSError:
        shutil.rmtree(directory, ignore_errors=True)  # half a package is none
        raise
    say(f"{directory}: install it with `pip install ./{directory}`, then `policylab conformance --dataplane {name}`")


def _check(name: str) -> None:
    if len(name) > _LONGEST or not _NAME.fullmatch(name):
        raise LabError(
            "that is no name for a dataplane",
            value=name,
            allowed=f"words of lower-case letters and digits with dashes between them, at most {_LONGEST} characters",
        )
    if name in dataplane_names():
        raise LabError("a dataplane of that name is installed already", value=name, next_step="choose another name")


def _class(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("-")) + "Dataplane"


def _write(file: Path, template: str, words: dict[str, str]) -> None:
    text = (files(__package__) / "templates" / "dataplane" / template).read_text()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(Template(text).substitute(words))
