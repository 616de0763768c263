# SPDX-License-Identifier: Apache-2.0
"""Envoy sidecars: configuration, processes, traffic interception, and the policy that they enforce."""
