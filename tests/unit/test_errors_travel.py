# SPDX-License-Identifier: Apache-2.0
"""Errors come out of another process as they went in, whatever their class."""

from __future__ import annotations

import pickle

import pytest

from lab.errors import DataplaneError, HostError, LabError, LabErrors, Place, TopologyError
from lab.fabric.bpf import VerifierError

ERRORS = [
    HostError("no tool", place="node n", value=3, allowed="a tool", next_step="get one"),
    TopologyError("no such node", place=Place("file.yaml", 3, 5)),
    LabErrors([DataplaneError("one"), HostError("two")]),
    VerifierError("program", "0: (b7) r0 = 0\ninvalid access"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_error_that_travels_says_the_same(error: LabError) -> None:
    arrived = pickle.loads(pickle.dumps(error))  # noqa: S301 - packed a moment ago
    assert type(arrived) is type(error)
    assert str(arrived) == str(error)
    assert arrived.exit_code == error.exit_code
