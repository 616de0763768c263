# SPDX-License-Identifier: Apache-2.0
"""libnftables in a host's network: all commands or none, in that host alone, and nothing of it stays open."""

from __future__ import annotations

import json
import os

import pytest
from bare_node import BareNode

from lab.errors import HostError
from lab.fabric import nft as nft_module
from lab.fabric.nft import Nft

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")


def _commands(*tables: str) -> str:
    return json.dumps({"nftables": [{"add": {"table": {"family": "inet", "name": name}}} for name in tables]})


def _broken(*tables: str) -> str:
    flaw = {"add": {"chain": {"family": "inet", "table": "nowhere", "name": "c"}}}
    return json.dumps({"nftables": [*json.loads(_commands(*tables))["nftables"], flaw]})


def test_commands_are_in_force_in_the_host_that_they_were_meant_for_and_in_no_other() -> None:
    with BareNode() as one, BareNode() as other:
        assert Nft(one.inside).run(_commands("a")) is None
        assert Nft(other.inside).run(_commands("b")) is None
        assert one.must("nft", "list", "tables") == "table inet a\n"
        assert other.must("nft", "list", "tables") == "table inet b\n"


def test_all_commands_are_carried_out_or_none_and_each_error_is_its_own() -> None:
    with BareNode() as node:
        nft = Nft(node.inside)
        assert "No such file or directory" in (nft.run(_broken("a")) or "")
        assert node.must("nft", "list", "tables") == ""
        assert nft.run(_commands("a")) is None
        told = nft.run("no command") or ""
        assert "syntax error" in told
        assert "No such file or directory" not in told


def test_closing_gives_the_socket_back() -> None:
    with BareNode() as node:
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - only counted
        nft = Nft(node.inside)
        assert len(os.listdir("/proc/self/fd")) > before  # noqa: PTH208
        nft.close()
        nft.close()
        assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_missing_library_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nft_module, "_LIBRARY", "libnowhere.so.1")
    nft_module._library.cache_clear()
    try:
        with BareNode() as node, pytest.raises(HostError, match="apt-get install nftables"):
            Nft(node.inside)
    finally:
        nft_module._library.cache_clear()
