# SPDX-License-Identifier: Apache-2.0
"""Wrong words on the command line: exit 2 and what would be right, before anything is built."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_world import SHIPPED, TOPOLOGY, call

from lab.cli import COMMANDS

X_TO_Y = ("explain", TOPOLOGY, "--from", "x/a", "--to", "y/b")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("frobnicate",), "No such command 'frobnicate'"),
        (("--frobnicate",), "No such option"),
        (("expect",), "Missing argument 'TOPOLOGY'"),
        (("expect", TOPOLOGY, "--output", "xml"), "'table', 'json'"),
        (("expect", "three-by-thre"), "did you mean 'three-by-three'?"),
        (("verify", TOPOLOGY), "Missing option '--dataplane'"),
        (("verify", TOPOLOGY, "--dataplane", "nope"), "no such dataplane; given: 'nope'; allowed: iptables"),
        (("verify", TOPOLOGY, "--dataplane", "iptables", "--report", SHIPPED / "README.md"), "is a file"),
        (("conformance", "--dataplane", "nope"), "no such dataplane"),
        (("conformance", "--only", "generated.changed"), "did you mean 'generated.changes'?"),
        (("conformance", "--only", "control and"), "--only: cannot be read, at its end"),
        (("conformance", "--profile", "slow"), "'dev', 'ci', 'nightly'"),
        (("conformance", "--topology", "nope.yaml"), "nope.yaml: no such file"),
        (("conformance", "--report", SHIPPED / "README.md"), "is a file"),
        (("conformance", "surplus"), "unexpected extra argument"),
        (("bench",), "{dos|lab|scale|sidecar|verdicts}"),
        (("bench", "dinner"), "'lab', 'scale', 'sidecar', 'verdicts'"),
        (("bench", "lab", "--rounds", "0"), "not in the range"),
        (("bench", "lab", "--full"), "bench lab measures all that it can; --full is for dos, sidecar"),
        (("bench", "lab", "--rounds", "many"), "not a valid integer"),
        (("doctor", "who"), "unexpected extra argument"),
        (("replay",), "Missing argument 'BUNDLE'"),
        (("replay", SHIPPED), "this is not a bundle"),
        (("replay", SHIPPED / "README.md"), "this is not a bundle"),
        (("replay", "nowhere"), "nowhere: this is not a bundle"),
        (("replay", "x" * 5000), "this is not a bundle"),
        (("replay", SHIPPED, "--times", "0"), "not in the range"),
        (("explain", TOPOLOGY), "Missing option '--from'"),
        ((*X_TO_Y,), "needs a port"),
        ((*X_TO_Y, "--port", "0"), "is not a port"),
        ((*X_TO_Y, "--port", "http"), "not a valid integer"),
        ((*X_TO_Y, "--protocol", "FOO"), "is not a protocol"),
        ((*X_TO_Y, "--protocol", "0"), "1 to 255"),
        ((*X_TO_Y, "--protocol", "icmp", "--icmp-type", "999"), "out of range"),
        ((*X_TO_Y, "--port", "80", "--icmp-type", "8"), "has no ICMP type"),
        ((*X_TO_Y[:-1], "y/q", "--port", "80"), "unknown end 'y/q'"),
    ],
)
def test_wrong_words_end_2_and_say_what_is_right(words: tuple[object, ...], told: str) -> None:
    ended = call(*words)
    assert (ended.code, ended.out) == (2, "")
    assert told in ended.err
    assert "Traceback" not in ended.err


def test_without_a_command_the_commands_are_told() -> None:
    ended = call()
    assert ended.code == 2
    assert all(f"  {name} " in ended.err for name in COMMANDS)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_help_is_told_and_ends_0(command: str) -> None:
    ended = call(command, "--help")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(f"Usage: policylab {command}")


def test_list_of_commands_fits_its_lines() -> None:
    assert "..." not in call("--help").out.partition("Commands:")[2]


def test_unreadable_report_directory_ends_3(tmp_path: Path) -> None:
    ended = call("verify", TOPOLOGY, "--dataplane", "iptables", "--report", tmp_path / ("x" * 300))
    assert (ended.code, ended.out) == (3, "")
    assert "the report cannot be written" in ended.err
