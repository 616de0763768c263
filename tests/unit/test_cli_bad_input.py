# SPDX-License-Identifier: Apache-2.0
"""Bad input from the shell: exit 2, nothing on stdout, one message that names the place, no traceback."""

from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path

import pytest
from cli_world import SHIPPED, TOPOLOGY, Ended, call, policy, rule

from lab import document

FLOW = "- {from: x/a, to: x/b, protocol: TCP, port: 80}\n"
POSITIONS = ("topology", "resources", "flows")
EXPLODING = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 10)
)


def asked(position: str, file: object) -> Ended:
    """``expect`` with the file as its topology, as a resource, or as its flows."""
    return {
        "topology": lambda: call("expect", file),
        "resources": lambda: call("expect", TOPOLOGY, file),
        "flows": lambda: call("expect", TOPOLOGY, "--flows", file),
    }[position]()


def refused(ended: Ended, place: object, *words: str) -> None:
    assert ended.code == 2
    assert ended.out == ""
    assert ended.err.startswith(f"policylab: {place}")
    assert "Traceback" not in ended.err
    for word in words:
        assert word in ended.err


@pytest.fixture
def resources(tmp_path: Path) -> Path:
    return tmp_path / "policy.yaml"


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize(
    ("text", "place", "word"),
    [
        pytest.param(b"a: [1, 2\nb: 3\n", "2:2", "broken YAML", id="broken"),
        pytest.param(b"a:\n\tb: c\n", "2:1", "tab", id="tab"),
        pytest.param(b"a: b\x00c\n", "1:5", "control character 0x00", id="nul"),
        pytest.param(b"a: \x1b[31m\n", "1:4", "control character 0x1b", id="escape"),
        pytest.param("a: b\n".encode("utf-16"), "1:1", "UTF-8", id="utf-16"),
        pytest.param(b"a: caf\xe9\n", "1:7", "0xe9", id="latin-1"),
        pytest.param(bytes(range(128, 256)), "1:1", "UTF-8", id="binary"),
        pytest.param(EXPLODING.encode(), "7:", "too many values", id="exploding anchors"),
        pytest.param(b"a: &a [*a]\n", "1:8", "cycle", id="alias cycle"),
        pytest.param(b"[" * 500, "1:101", "nested too deeply", id="deep list"),
        pytest.param(b"[" * 100_000, "1:", "nested too deeply", id="deeper list than the parser follows"),
        pytest.param(b"{a: " * 50_000, "1:401", "nested too deeply", id="deep mapping"),
        pytest.param(b"name: a\nname: b\n", "2:1", "given twice", id="duplicate key"),
        pytest.param(b"!!python/object/apply:os.getcwd []\n", "1:1", "unknown tag", id="python tag"),
        pytest.param(b"? [a]\n: b\n", "1:3", "key", id="key that is a list"),
        pytest.param(b"just words\n", "1:1", "", id="text"),
        pytest.param(b"42\n", "1:1", "", id="number"),
        pytest.param(b"a: b\r\nc: d\r\n", "1:1", "", id="mapping with CRLF of no kind"),
        pytest.param(b"\xef\xbb\xbfa: b\n", "1:1", "", id="mapping with BOM of no kind"),
    ],
)
def test_file_that_says_nothing_sensible_is_refused_at_its_place(
    tmp_path: Path, position: str, text: bytes, place: str, word: str
) -> None:
    file = tmp_path / "input.yaml"
    file.write_bytes(text)
    refused(asked(position, file), f"{file}:{place}", word)


@pytest.mark.parametrize("position", POSITIONS)
def test_missing_file_is_named(tmp_path: Path, position: str) -> None:
    refused(asked(position, tmp_path / "nowhere.yaml"), tmp_path / "nowhere.yaml", "no such file")


@pytest.mark.parametrize("position", POSITIONS)
def test_path_that_is_too_long_is_refused(position: str) -> None:
    refused(asked(position, "x" * 5000), "xxxxx")


@pytest.mark.parametrize("position", POSITIONS)
def test_empty_path_is_a_usage_error_and_not_this_directory(position: str) -> None:
    ended = asked(position, "")
    assert (ended.code, ended.out) == (2, "")
    assert "The path is empty" in ended.err


@pytest.mark.parametrize("position", ["topology", "flows"])
def test_directory_where_one_file_is_wanted_is_refused(tmp_path: Path, position: str) -> None:
    refused(asked(position, tmp_path), tmp_path, "is a directory")


@pytest.mark.parametrize("position", ["topology", "flows"])
def test_file_that_holds_nothing_is_refused(position: str) -> None:
    refused(asked(position, "/dev/null"), "/dev/null", "holds nothing")


@pytest.mark.parametrize("position", POSITIONS)
def test_endless_file_is_refused_in_time(position: str) -> None:
    refused(asked(position, "/dev/zero"), "/dev/zero", "too large", "64 MiB")


@pytest.mark.parametrize("position", POSITIONS)
def test_file_of_64_mib_is_refused_unread(tmp_path: Path, position: str) -> None:
    file = tmp_path / "large.yaml"
    with file.open("wb") as stream:
        stream.truncate(64 << 20)
    refused(asked(position, file), file, "too large", "64 MiB")


@pytest.mark.parametrize("position", POSITIONS)
def test_pipe_that_nobody_writes_to_is_given_up(tmp_path: Path, position: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "_NO_WRITER_SECONDS", 0.1)
    os.mkfifo(tmp_path / "pipe")
    refused(asked(position, tmp_path / "pipe"), tmp_path / "pipe", "nothing was written to it")


def test_pipe_that_is_written_to_late_is_read(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def write() -> None:
        time.sleep(0.1)  # the reader is to come first
        pipe.write_text(FLOW)

    writer = threading.Thread(target=write)
    writer.start()
    ended = asked("flows", pipe)
    writer.join()
    assert (ended.code, ended.err) == (0, "")
    assert "1 rows" in ended.out


@pytest.mark.parametrize(("written", "code"), [(FLOW, 0), ("", 2)])
def test_pipe_of_the_shell_is_read_to_its_end(written: str, code: int) -> None:
    reader, writer = os.pipe()
    os.write(writer, written.encode())
    os.close(writer)
    assert asked("flows", f"/proc/self/fd/{reader}").code == code
    os.close(reader)


@pytest.mark.parametrize("position", POSITIONS)
def test_socket_is_refused(tmp_path: Path, position: str) -> None:
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(str(tmp_path / "socket"))
        refused(asked(position, tmp_path / "socket"), tmp_path / "socket", "cannot be read")


@pytest.mark.parametrize(
    ("position", "file", "word"),
    [
        ("topology", SHIPPED / "policies" / "kubernetes-default-deny.yaml", "not a topology"),
        ("resources", SHIPPED / "three-by-three.yaml", "name the topology first"),
        ("flows", SHIPPED / "three-by-three.yaml", "a list of flows"),
        ("flows", SHIPPED / "policies" / "kubernetes-default-deny.yaml", "one list of flows"),
    ],
)
def test_file_of_another_kind_is_refused(position: str, file: Path, word: str) -> None:
    refused(asked(position, file), file, word)


@pytest.mark.parametrize(("position", "place"), [("topology", "1:1"), ("resources", "1:3")])
def test_flows_elsewhere_are_refused(tmp_path: Path, position: str, place: str) -> None:
    (tmp_path / "flows.yaml").write_text(FLOW)
    refused(asked(position, tmp_path / "flows.yaml"), f"{tmp_path / 'flows.yaml'}:{place}")


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        pytest.param(policy("  selector: pod == 'a' && && ns == 'x'\n"), "7:27", ("unexpected '&'",), id="selector"),
        pytest.param(policy(meta="  namespace: nowhere\n"), "5:14", ("nowhere", "x, y, z"), id="unknown namespace"),
        pytest.param(policy() + "---\n" + policy(), "12:9", ("there already", ":4:9"), id="twice"),
        pytest.param(rule("      source: {nets: [10.0.0.0/33]}\n"), "10:23", ("10.0.0.0/33", "0 to 32"), id="/33"),
        pytest.param(rule("      source: {nets: ['fd00::/129']}\n"), "10:23", ("0 to 128",), id="/129"),
        pytest.param(
            rule("      protocol: TCP\n      destination: {ports: [90:80]}\n"), "11:29", ('"80:90"',), id="90:80"
        ),
        pytest.param(
            rule("      protocol: TCP\n      destination: {ports: ['90:80']}\n"), "11:29", ('"80:90"',), id="'90:80'"
        ),
        pytest.param(rule("      protocol: TCP\n      destination: {ports: [0]}\n"), "11:29", ("1 to",), id="port 0"),
        pytest.param(rule("", "Alow"), "9:15", ("did you mean 'Allow'",), id="action"),
        pytest.param(policy(kind="NetworkPolcy"), "2:7", ("did you mean 'NetworkPolicy'",), id="kind"),
        pytest.param("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n", "2:7", ("'Pod'",), id="kind of a cluster"),
        pytest.param(policy("  sellector: all()\n"), "7:3", ("did you mean 'selector'",), id="key"),
        pytest.param(rule("      protocol: 0\n"), "10:17", ("given: 0", "1 to 255"), id="protocol 0"),
        pytest.param(rule("      protocol: 256\n"), "10:17", ("given: 256",), id="protocol 256"),
        pytest.param(rule("      protocol: -1\n"), "10:17", ("given: -1",), id="protocol -1"),
        pytest.param(rule("      protocol: FOO\n"), "10:17", ("'FOO'",), id="protocol FOO"),
        pytest.param(rule("      notProtocol: 256\n"), "10:20", ("given: 256",), id="notProtocol 256"),
        pytest.param(
            rule("      destination: {ports: [80]}\n"), "10:21", ("needs a protocol",), id="ports without protocol"
        ),
        pytest.param(
            rule("      protocol: ICMP\n      source: {notPorts: [80]}\n"), "11:16", ("needs a protocol",), id="ICMP"
        ),
        pytest.param(policy(kind="WorkloadEndpoint"), "2:7", ("topology",), id="kind of the topology's"),
        pytest.param(
            policy("  doNotTrack: true\n", kind="GlobalNetworkPolicy", meta=""), "6:3", ("spec.doNotTrack",), id="field"
        ),
        pytest.param("kind: List\napiVersion: v1\nitems: [1]\n", "3:9", ("items[0]",), id="list of nothing"),
        pytest.param(rule("      protocol: FOO\n").replace("\n", "\r\n"), "10:17", ("'FOO'",), id="CRLF"),
        pytest.param("\ufeff" + policy("  bad: 1\n"), "7:3", ("'bad'",), id="BOM"),
    ],
)
def test_resource_that_the_api_refuses_is_refused_at_its_place(
    resources: Path, text: str, place: str, words: tuple[str, ...]
) -> None:
    resources.write_text(text, newline="")
    ended = asked("resources", resources)
    refused(ended, f"{resources}:{place}:", *words)
    assert ended.err.count("\n") == 1


def test_same_file_given_twice_is_refused(resources: Path) -> None:
    resources.write_text(policy())
    refused(call("expect", TOPOLOGY, resources, resources.parent), f"{resources}:4:9", "there already")


def test_thousand_errors_are_cut_short_and_say_so_last(resources: Path) -> None:
    resources.write_text(rule("    - action: Nope\n" * 1000, "Nope"))
    ended = asked("resources", resources)
    refused(ended, f"{resources}:9:15")
    assert len(ended.err.splitlines()) == 21
    assert "there are more errors from here on" in ended.err.splitlines()[-1]


@pytest.mark.parametrize(
    ("entry", "word"),
    [
        ("from: x/a, to: x/q, protocol: TCP, port: 80", "unknown end 'x/q'"),
        ("from: x/a, to: x/b, protocol: TCP, port: 0", "is not a port"),
        ("from: x/a, to: x/b, protocol: TCP, port: 65536", "is not a port"),
        ("from: x/a, to: x/b, protocol: TCP, port: http", "is not a port"),
        ("from: x/a, to: x/b, protocol: TCP, port: 80, source_port: 0", "is not a port"),
        ("from: x/a, to: x/b, protocol: TCP", "needs a port"),
        ("from: x/a, to: x/b, protocol: ICMP, port: 8", "has no ports"),
        ("from: x/a, to: x/b, protocol: 256", "is not a protocol"),
        ("from: x/a, to: x/b, protocol: TPC, port: 80", "did you mean 'TCP'"),
        ("from: x/a, to: x/b, port: 80", "has no 'protocol'"),
        ("from: x/a, to: x/b, protocol: TCP, port: 80, family: ipv5", "ipv4, ipv6"),
        ("from: x/a, to: x/b, protocol: TCP, port: 80, icmp: {type: 8}", "has no ICMP type"),
        ("from: x/a, to: x/b, protocol: ICMP, icmp: {type: 300}", "out of range"),
        ("from: x/a, to: x/b, protocol: TCP, port: 80, http: {method: GET, path: /}", "needs a sidecar"),
    ],
)
def test_flow_that_cannot_be_is_refused_at_its_line(tmp_path: Path, entry: str, word: str) -> None:
    file = tmp_path / "flows.yaml"
    file.write_text(f"{FLOW}- {{{entry}}}\n")
    refused(asked("flows", file), f"{file}:2:", word)


def test_flow_between_families_is_refused(tmp_path: Path) -> None:
    topology, flows = tmp_path / "topology.yaml", tmp_path / "flows.yaml"
    topology.write_text(
        "nodes: {n: {}}\nnamespaces: {x: {}}\nworkloads:\n"
        "  x/a: {node: n, addresses: [198.18.0.5]}\n  x/b: {node: n, addresses: ['fd00:18::5']}\n"
    )
    flows.write_text(FLOW)
    refused(call("expect", topology, "--flows", flows), f"{flows}:1:", "no address family in common")
    refused(call("expect", topology), topology, "no flow to judge", "declare ports")
    refused(call("conformance", "--topology", topology), topology, "no two ends can talk")


def test_list_without_flows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "flows.yaml").write_text("[]\n")
    refused(asked("flows", tmp_path / "flows.yaml"), tmp_path / "flows.yaml", "no flow to judge")
