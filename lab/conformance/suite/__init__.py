# SPDX-License-Identifier: Apache-2.0
"""The conformance tests: ``pytest --pyargs lab.conformance.suite -p lab.conformance.plugin --dataplane NAME``."""
