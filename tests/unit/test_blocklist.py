# SPDX-License-Identifier: Apache-2.0
"""``policylab blocklist``: what common lists look like, and what becomes of them."""

from __future__ import annotations

import time
from ipaddress import ip_network
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.cli.blocklist import blocklist
from lab.errors import LabErrors, PolicyError
from lab.policy.blocklist import network_set_lines, read_blocklist, set_name
from lab.policy.load import load_resources
from lab.topology.load import load_topology

LIST = """\
; a list as they come
192.0.2.0/24 ; SBL1
198.51.100.7  # one address
2001:db8::/32

192.0.2.9/24
"""
NETS = st.ip_addresses().flatmap(
    lambda address: st.integers(1, address.max_prefixlen).map(
        lambda length: ip_network((address, length), strict=False)
    )
)


def test_comments_and_repetitions_are_left_out_and_addresses_are_networks() -> None:
    nets = read_blocklist(LIST.splitlines(), "list.txt")
    assert nets == ("192.0.2.0/24", "198.51.100.7/32", "2001:db8::/32")


def test_lines_that_are_no_network_are_told_each_with_its_place() -> None:
    with pytest.raises(LabErrors) as caught:
        read_blocklist(["192.0.2.0/24", "nonsense", "\t 10.0.0.0/33 # a comment\r"], "list.txt")
    assert str(caught.value).splitlines() == [
        "list.txt:2:1: no network; given: 'nonsense'; allowed: an address or ADDRESS/LENGTH",
        "list.txt:3:3: no network; given: '10.0.0.0/33'; allowed: an address or ADDRESS/LENGTH",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "192.0.2.1/", "/24", "192.0.2", "192.0.2.1/-1", "192.0.2.1/+8", "192.0.2.01", "192.0.2.1 192.0.2.2",
        "192.0.2.1-192.0.2.9", "10.0.0.0/255.0.0.0", "fe80::1%eth0", "2001:db8::/129", "192.0.2.1\0", "192.0.2.1/٣",
    ],
)  # fmt: skip
def test_what_is_nearly_a_network_is_none(text: str) -> None:
    with pytest.raises(LabErrors, match="no network"):
        read_blocklist([text], "list.txt")


@given(texts=st.lists(NETS.map(str) | st.text("0123456789abcdef.:/ ", max_size=20), min_size=1, max_size=20))
def test_lines_are_read_as_pythons_own_reader_does(texts: list[str]) -> None:
    def known(text: str) -> str | None:
        try:
            return str(ip_network(text.strip(), strict=False))
        except ValueError:
            return None

    for text in filter(str.strip, texts):
        if "." in text.partition("/")[2]:
            continue  # Python also takes a mask for a length
        try:
            (read,) = read_blocklist([text], "list.txt")
        except LabErrors:
            read = None
        assert known(text) == (None if read is None else str(ip_network(read)))


def test_list_of_comments_alone_is_refused() -> None:
    with pytest.raises(PolicyError, match="without a network"):
        read_blocklist(["# nothing"], "list.txt")


def test_long_list_is_read_faster_than_by_pythons_own_reader() -> None:
    lines = [f"{1 + (n >> 16)}.{n >> 8 & 255}.{n & 255}.9/28" for n in range(30_000)]
    start = time.process_time()
    ours = read_blocklist(lines, "list.txt")
    between = time.process_time()
    theirs = tuple(dict.fromkeys(str(ip_network(line, strict=False)) for line in lines))
    assert ours == theirs
    assert 2 * (between - start) < time.process_time() - between


@pytest.mark.parametrize(
    ("text", "name"), [("Drop List_v4", "drop-list-v4"), ("...", "blocklist"), ("-a-", "a"), ("x" * 300, "x" * 253)]
)
def test_name_is_one_that_the_api_takes(text: str, name: str) -> None:
    assert set_name(text) == name


@settings(deadline=None)
@given(nets=st.lists(NETS, min_size=1, max_size=20, unique=True))
def test_printed_set_reads_as_the_same_networks(nets: list[object], tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("set") / "set.yaml"
    file.write_text("\n".join(network_set_lines(nets, "drop")))
    (found,) = load_resources([file], load_topology("one-node")).network_sets
    assert sorted(map(str, found.nets)) == sorted(map(str, nets))


def test_command_prints_a_set_that_is_called_like_the_file(tmp_path: Path) -> None:
    file = tmp_path / "Drop.v4.txt"
    file.write_text(LIST)
    ended = CliRunner().invoke(blocklist, [str(file)])
    assert ended.stdout.splitlines()[2] == "metadata: {name: drop-v4, labels: {blocklist: drop-v4}}"
    file.write_bytes(b"\xef\xbb\xbf" + LIST.replace("\n", "\r\n").encode())
    assert CliRunner().invoke(blocklist, [str(file)]).stdout == ended.stdout
    piped = CliRunner().invoke(blocklist, ["-", "--name", "drop-v4"], input=LIST)
    assert piped.stdout == ended.stdout
