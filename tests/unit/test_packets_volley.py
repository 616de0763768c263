# SPDX-License-Identifier: Apache-2.0
"""Which flows may be in the air together, before conntrack is flushed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lab.topology import DEFAULT_SOURCE_PORT, Flow, IcmpHeader
from lab.traffic.volley import EPOCH, epochs_of

ENDS = st.sampled_from(["a", "b", "c"])
PORTS = st.sampled_from([80, 81, DEFAULT_SOURCE_PORT])


@st.composite
def flows(draw: st.DrawFn) -> Flow:
    protocol = draw(st.sampled_from([6, 17, 253]))
    port, source_port = (None, None) if protocol == 253 else (draw(PORTS), draw(st.none() | PORTS))
    return Flow(draw(ENDS), draw(ENDS), protocol, port, draw(st.sampled_from([4, 6])), source_port)


def sent(flow: Flow) -> tuple[object, ...]:
    source_port = None if flow.port is None else flow.source_port or DEFAULT_SOURCE_PORT
    return (flow.protocol, flow.family, flow.source, source_port, flow.destination, flow.port)


def answered(flow: Flow) -> tuple[object, ...]:
    protocol, family, source, source_port, destination, port = sent(flow)
    return (protocol, family, destination, port, source, source_port)


@given(chosen=st.lists(flows(), max_size=30))
def test_no_epoch_holds_a_flow_and_its_reply(chosen: list[Flow]) -> None:
    for epoch in epochs_of(chosen):
        tuples = {sent(chosen[place]) for place in epoch}
        assert not [place for place in epoch if answered(chosen[place]) in tuples - {sent(chosen[place])}]


@given(chosen=st.lists(flows(), max_size=30))
def test_no_epoch_holds_two_flows_that_masquerading_makes_one_of(chosen: list[Flow]) -> None:
    for epoch in epochs_of(chosen):
        senders: dict[tuple[object, ...], set[str]] = {}
        for flow in (chosen[place] for place in epoch if chosen[place].port is None):
            senders.setdefault((flow.protocol, flow.family, flow.destination), set()).add(flow.source)
        assert all(len(each) == 1 for each in senders.values())


@given(chosen=st.lists(flows(), max_size=30))
def test_no_epoch_holds_two_flows_that_translation_makes_one_of_or_an_answer(chosen: list[Flow]) -> None:
    """Once sources are masqueraded, ports alone cannot tell flows to one end apart; ``b`` is behind a port of ``a``."""

    def arrive_at(flow: Flow) -> tuple[str, int]:
        return ("b", 80) if (flow.destination, flow.port) == ("a", 81) else (flow.destination, flow.port or 0)

    epochs = epochs_of(chosen, arrive_at)
    assert sorted(place for epoch in epochs for place in epoch) == list(range(len(chosen)))
    for epoch in epochs:
        there: dict[tuple[object, ...], set[tuple[object, ...]]] = {}
        back: dict[tuple[object, ...], set[tuple[object, ...]]] = {}
        for flow in (chosen[place] for place in epoch):
            protocol, family, source, source_port, _, _ = sent(flow)
            end, port = arrive_at(flow)
            there.setdefault((protocol, family, source_port, end, port), set()).add(sent(flow))
            back.setdefault((protocol, family, port, source, source_port), set()).add(sent(flow))
        assert all(len(each) == 1 for each in there.values())
        assert all(back.get(known, each) == each for known, each in there.items())


@given(chosen=st.lists(flows(), max_size=30))
def test_every_flow_is_in_exactly_one_epoch_and_few_suffice(chosen: list[Flow]) -> None:
    epochs = epochs_of(chosen)
    assert sorted(place for epoch in epochs for place in epoch) == list(range(len(chosen)))
    # Without ports a flow stands apart from its reply and from those of two others to the same end.
    assert len(epochs) <= (2 if all(flow.port is not None for flow in chosen) else 4)


def test_echo_requests_of_both_ways_share_an_epoch() -> None:
    there, back = (Flow(*ends, 1, None, 4, icmp=IcmpHeader(8, 0)) for ends in (("a", "b"), ("b", "a")))
    assert epochs_of([there, back]) == [[0, 1]]


def test_icmp_of_the_other_family_is_but_a_number() -> None:
    one, other = (Flow(source, "c", 58, None, 4, icmp=IcmpHeader(128, 0)) for source in ("a", "b"))
    assert epochs_of([one, other]) == [[0], [1]]


def test_no_epoch_holds_more_entries_than_conntrack_is_trusted_with() -> None:
    epochs = epochs_of([Flow("a", "b", 17, 80, 4)] * (2 * EPOCH + 1))
    assert sorted(map(len, epochs)) == [1, EPOCH, EPOCH]
