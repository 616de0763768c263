# SPDX-License-Identifier: Apache-2.0
"""policylab: a test lab and conformance suite for network-policy dataplanes on Linux."""
