# SPDX-License-Identifier: Apache-2.0
"""The conformance tests: ``pytest --pyargs lab.conformance --dataplane NAME``."""
