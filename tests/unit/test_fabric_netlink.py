# SPDX-License-Identifier: Apache-2.0
"""Netlink needs no root to ask, nor to be refused."""

from ipaddress import ip_address

import pytest

from lab.errors import HostError
from lab.fabric.messages import LOOPBACK, OwnAddress, Route, get_links, get_route, is_local, link_index
from lab.fabric.netlink import Message, Netlink, attribute, attributes


def test_attributes_are_read_as_they_were_written():
    data = b"head" + attribute(3, b"eth0\0") + attribute(1, b"123456") + attribute(7, b"")
    assert list(attributes(data, 4)) == [(3, b"eth0\0"), (1, b"123456"), (7, b"")]


def test_attribute_of_an_impossible_length_ends_the_list():
    assert list(attributes(attribute(1, b"1234") + b"\0\0\0\0", 0)) == [(1, b"1234")]


def test_dump_lists_the_loopback_interface():
    with Netlink() as netlink:
        assert LOOPBACK in map(link_index, netlink.ask(get_links(), dump=True))


def test_route_to_the_own_host_is_local():
    with Netlink() as netlink:
        (route,) = netlink.ask(get_route(ip_address("127.0.0.1")))
    assert is_local(route)


def test_batch_without_messages_is_done_at_once():
    with Netlink() as netlink:
        netlink.send([])


def test_refused_question_names_its_object():
    # RTM_GETLINK (18) of an interface that is not there: no device has a negative index.
    nobody = Message(18, 0, b"\0\0\0\0" + (0x7FFFFFFF).to_bytes(4, "little") + bytes(8), "the interface", "of nobody")
    with (
        Netlink() as netlink,
        pytest.raises(HostError, match="the kernel refused the interface of nobody: No such dev"),
    ):
        netlink.ask(nobody)


@pytest.mark.parametrize("more", [0, 4000])
def test_first_refused_request_of_a_batch_is_the_error(more: int):
    """Whether or not the batch fits one send; it changes nothing: each request is refused, by any user's kernel."""
    nowhere = 0x7FFFFFF0
    requests = [OwnAddress(nowhere, ip_address("198.18.0.1")).message()]
    requests += [Route(nowhere, ip_address("198.18.0.2")).message()] * more
    with Netlink() as netlink, pytest.raises(HostError, match=r"the kernel refused the address 198\.18\.0\.1: "):
        netlink.send(requests)
