# SPDX-License-Identifier: Apache-2.0
"""Messages to programs: how they are framed, what is no message, and how snapshots are spelled."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from snapshot_world import CLIENTS, HTTP, WEB, rule, side

from dataplanes.api import Action, DataplaneError, Direction, IpSet, MembersChange, RuleOrigin, SnapshotDelta
from dataplanes.external.messages import MAX_LENGTH, Reader, frame, plain

texts = st.dictionaries(st.text(), st.text() | st.integers() | st.lists(st.none()))


@settings(deadline=None)
@given(st.lists(texts, max_size=5), st.integers(1, 50))
def test_messages_come_out_as_they_went_in_however_they_are_cut(bodies, size):
    messages = [{**body, "type": "any"} for body in bodies]
    data = b"".join(map(frame, messages))
    reader = Reader()
    heard = [each for start in range(0, len(data), size) for each in reader.feed(data[start : start + size])]
    assert heard == messages


@pytest.mark.parametrize(
    "data",
    [
        b"hello\n{}",
        b"\n",
        b"-1\n",
        b"1" * 12,
        b"%d\n" % (MAX_LENGTH + 1),
        b"2\n[]",
        b"2\n{}",
        b"3\nabc",
        b'12\n{"type": 1}\n',
        b"1 \n1",
    ],
)
def test_what_is_no_message_is_refused(data):
    with pytest.raises(DataplaneError, match="this is no message"):
        list(Reader().feed(data))


def test_parts_of_a_snapshot_are_plain_json():
    origin = RuleOrigin("mine", Direction.INGRESS, 0, None)
    told = plain(rule(Action.DENY, ip_version=4, source=side(nets=(ip_network("198.18.0.0/24"),)), origin=origin))
    assert (told["action"], told["ip_version"], told["protocol"]) == ("Deny", 4, None)
    assert told["source"]["nets"] == ["198.18.0.0/24"]
    assert "origin" not in told
    assert json.loads(json.dumps(told)) == told


def test_sets_are_sorted_and_mappings_are_lists_of_what_is_in_them():
    assert plain({HTTP.set_id: HTTP})[0]["ports"][0] == {"address": "198.18.0.2", "protocol": 132, "port": 81}
    assert plain({"a": CLIENTS})[0]["nets"] == sorted(map(str, CLIENTS.nets))
    assert plain((WEB, ip_address("::1"), True, None)) == ["NetworkPolicy/x/web", "::1", True, None]


def test_changes_of_sets_say_of_which():
    delta = SnapshotDelta("n", members={"s:a": MembersChange(frozenset([ip_network("1.2.3.4/32")]), frozenset())})
    told = plain(delta)
    assert told["members"] == {"s:a": {"added": ["1.2.3.4/32"], "removed": []}}
    assert told["ip_sets"] == plain({}) == []
    assert plain(SnapshotDelta("n", ip_sets={"s": IpSet("s", "net")}))["ip_sets"][0]["set_id"] == "s"
