# SPDX-License-Identifier: Apache-2.0
"""The suite as it ships: ``pytest --pyargs lab.conformance --dataplane NAME``."""

from __future__ import annotations

from lab.conformance.suites import Contract, Expectations, GeneratedChanges, GeneratedScenarios, GeneratedTalks


class TestContract(Contract):
    """What plugins promise and say of themselves."""


class TestExpectations(Expectations):
    """Every hand-written expectation."""


class TestGenerated(GeneratedScenarios):
    """What nobody wrote down."""


class TestTalks(GeneratedTalks):
    """What nobody wrote down, packet by packet."""


class TestChanges(GeneratedChanges):
    """What nobody wrote down, while policy changes."""
