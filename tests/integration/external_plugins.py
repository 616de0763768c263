# SPDX-License-Identifier: Apache-2.0
"""Plugins whose work is done by programs: the sample, and some that do not keep to the protocol."""

from __future__ import annotations

import sys
from pathlib import Path

import dataplanes.external
from dataplanes.api import Capability
from dataplanes.external import ExternalDataplane
from dataplanes.external.felix import FelixDataplane

SAMPLE = Path(dataplanes.external.__file__).parent / "sample" / "driver"


class SampleDataplane(ExternalDataplane):
    name = "sample"
    api_version = 1
    command = (str(SAMPLE),)
    capabilities = frozenset(
        {
            Capability.IPV4,
            Capability.IPV6,
            Capability.TCP,
            Capability.UDP,
            Capability.SCTP,
            Capability.ICMP,
            Capability.OTHER_PROTOCOLS,
            Capability.TIERS,
            Capability.PROFILES,
            Capability.NAMED_PORTS,
            Capability.NETWORK_SETS,
            Capability.LIVE_UPDATE,
        }
    )


def scripted(script: str) -> type[ExternalDataplane]:
    """A plugin whose program is a shell script; ``say TEXT`` sends a message, ``hear`` waits for one."""
    helpers = """
say() { printf '%s\\n%s' "${#1}" "$1" >&4; }
hear() { read -r length <&3 && head -c "$length" <&3; }
"""
    body = {
        "name": "scripted",
        "api_version": 1,
        "capabilities": frozenset({Capability.IPV4}),
        "command": ("/bin/sh", "-c", helpers + script),
    }
    return type("Scripted", (ExternalDataplane,), body)


class FelixNewDataplane(FelixDataplane):
    name = "felix-new"
    api_version = 1
    capabilities = SampleDataplane.capabilities
    command = (sys.executable, str(Path(__file__).with_name("felix_driver.py")), "3.32")


class FelixOldDataplane(FelixNewDataplane):
    name = "felix-old"
    form = "before 3.32"
    command = (*FelixNewDataplane.command[:-1], "before 3.32")
