# SPDX-License-Identifier: Apache-2.0
"""What pytest loads wherever policylab is installed: the kit, if the run is about it, and nothing otherwise."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

__all__: list[str] = []

_SUITE = "lab.conformance"


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config, args: Sequence[str]) -> None:
    """Bring in the options and fixtures of the kit for ``pytest --pyargs lab.conformance...``."""
    modules = (word.partition("::")[0] for word in args)
    if "--pyargs" in args and any(name == _SUITE or name.startswith(f"{_SUITE}.") for name in modules):
        early_config.pluginmanager.import_plugin("lab.conformance.plugin")
