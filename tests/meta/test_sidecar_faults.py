# SPDX-License-Identifier: Apache-2.0
"""Sidecars broken on purpose, over a sound dataplane: each fault is caught by the expectation that names it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from dataplanes.iptables import IptablesDataplane
from lab.conformance.case import load_cases
from lab.conformance.generated import REQUESTS, Generated
from lab.conformance.judge import Judge
from lab.conformance.patience import Patience
from lab.conformance.pool import Pool
from lab.policy.resources import Action
from lab.sidecar import authority, chains, mesh, patterns, rbac, redirect, rules

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

Patch = Callable[[pytest.MonkeyPatch], None]
CASES = {case.id: case for case in load_cases()}


@dataclass(frozen=True)
class SidecarFault:
    name: str
    caught_by: str
    patch: Patch


def _instead(module: Any, name: str, make: Callable[[Any], Any]) -> Patch:
    """Put what ``make`` makes of a function of the sidecar layer in its place."""
    return lambda patch: patch.setattr(module, name, make(getattr(module, name)))


def _always_open(_: Any) -> Any:
    return lambda gate, **_: rbac.open_file(gate)


def _paths_as_they_come(sound: Any) -> Any:
    return lambda *given, inbound: sound(*given, inbound=inbound) | {"normalize_path": False, "merge_slashes": False}


def _other_status(sound: Any) -> Any:
    """What forbids says that it is unavailable."""
    forbidden = {"op": "EQ", "value": {"default_value": 403, "runtime_key": "none"}}
    mapper = {"filter": {"status_code_filter": {"comparison": forbidden}}, "status_code": 503}
    return lambda *given, inbound: sound(*given, inbound=inbound) | {"local_reply_config": {"mappers": [mapper]}}


def _prefix_as_text(sound: Any) -> Any:
    return lambda path: f"{path.path}.*" if path.how == "prefix" else sound(path)


def _pass_is_allow(sound: Any) -> Any:
    return lambda group, *rest: sound([_allowing(rule) for rule in group], *rest)


def _allowing(rule: Any) -> Any:
    return replace(rule, action=Action.ALLOW) if rule.action is Action.PASS else rule


def _first_policy_stays(sound: Any) -> Any:
    done: set[int] = set()

    def enforce(self: Any, snapshots: Any) -> None:
        # The control without policy comes first, then the first step of a case.
        if len(done) < 2:
            done.add(len(done))
            sound(self, snapshots)

    return enforce


def _stranger(sound: Any) -> Any:
    """Certificates of x/front name somebody else."""
    return lambda self, identity: sound(self, identity.replace("/sa/front", "/sa/nobody"))


FAULTS = (
    SidecarFault("open", "http.method.one-of-them", _instead(mesh, "gate_file", _always_open)),
    SidecarFault("not-redirected", "http.path.exact", _instead(mesh, "redirect", lambda _: lambda _: None)),
    SidecarFault(
        "ipv4-alone",
        "http.path.exact",
        lambda patch: patch.setattr(redirect, "TOOLS", ("iptables-restore",)),
    ),
    SidecarFault("paths-as-they-come", "http.path.one-form", _instead(chains, "_http", _paths_as_they_come)),
    SidecarFault("prefix-as-text", "http.path.prefix-ends-at-segment", _instead(patterns, "_path", _prefix_as_text)),
    SidecarFault("every-path", "http.path.exact", _instead(rules, "paths_pattern", lambda _: lambda _: None)),
    SidecarFault(
        "every-method", "http.method.one-of-them", _instead(rules, "methods_pattern", lambda _: lambda _: None)
    ),
    SidecarFault("first-policy-stays", "http.update.next-request", _instead(mesh.Mesh, "enforce", _first_policy_stays)),
    SidecarFault("pass-is-allow", "http.tier.pass-goes-on", _instead(rbac, "_group", _pass_is_allow)),
    SidecarFault("says-503", "http.method.one-of-them", _instead(chains, "_http", _other_status)),
    SidecarFault(
        "shows-another-name", "http.account.name-is-proven", _instead(authority.Authority, "issue", _stranger)
    ),
)


@pytest.fixture
def pool() -> Iterator[Pool]:
    with Pool() as opened:
        yield opened


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_fault_of_sidecars_is_caught(
    fault: SidecarFault, pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[fault.caught_by].within(IptablesDataplane.capabilities)
    assert case is not None
    fault.patch(monkeypatch)
    failure = Judge(pool, tmp_path, patience=Patience(each=0)).hold_case(case, IptablesDataplane)
    assert failure is not None
    assert f"FAILED {fault.caught_by}" in failure
    rulesets = tmp_path / "bundles" / f"iptables-{fault.caught_by}" / "rulesets"
    counters = json.loads((rulesets / "x.web.sidecar.counters.json").read_text())
    assert any("rbac" in name for name in counters)
    assert (rulesets / "x.web.sidecar.txt").is_file()


def test_the_sound_sidecars_pass_what_catches_the_faults(pool: Pool, tmp_path: Path) -> None:
    for name in sorted({fault.caught_by for fault in FAULTS}):
        case = CASES[name].within(IptablesDataplane.capabilities)
        assert case is not None
        assert Judge(pool, tmp_path, patience=Patience(each=0)).hold_case(case, IptablesDataplane) is None, name


# Of these the first few drawn scenarios tell; derandomised, so that what was found once is found again.
FOUND = ("open", "every-path", "every-method")


@pytest.mark.parametrize("name", FOUND)
def test_fault_of_sidecars_is_found_without_a_case(
    name: str, pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    next(fault for fault in FAULTS if fault.name == name).patch(monkeypatch)
    generated = Generated(Judge(pool, tmp_path, patience=Patience(each=0, altogether=0)), IptablesDataplane, REQUESTS)
    failure = generated.hold("ci", None)
    assert failure is not None
    assert f"FAILED {REQUESTS.id}" in failure
