# SPDX-License-Identifier: Apache-2.0
"""Dataplane plugins, one package each, and the contract that they fulfil (``dataplanes.api``)."""
