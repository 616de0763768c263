# SPDX-License-Identifier: Apache-2.0
"""Whatever is said arrives, whole and in order: by TCP, on sockets in the map, through the map, and through Envoys."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sockmap_world import ENVOY_LEGS, LEGS, PATHS, SHAPES, World, world, wrong

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

# On each path between two sockets, and on each through two Envoys: so many at night, a tenth otherwise.
NIGHTLY = os.environ.get("POLICYLAB_NIGHTLY") == "1"
LEAST_CONNECTIONS = 10_000 if NIGHTLY else 1000
LEAST_BYTES = 10_000_000_000 if NIGHTLY else 1_000_000_000
SHAPES_A_ROUND, AT_ONCE = 4, 8
LONG = 1 << 30 if NIGHTLY else 1 << 26

PATIENCE = 60  # seconds without progress, on a machine that may be very busy

Shape = dict[str, Any]

AT_EDGE = ("edge", 65536, 4096, 0)
# A queue that overruns while its reader rests: down to TCP, and up again when all is read.
OVERRUN: Shape = {
    "turns": [[0, 12_000_000, 200_000, 0, False], [1, 1, 1, 0, True], [0, 1000, 10, 0, True]],
    "readers": [AT_EDGE, ("poll", 65536, 2_000_000, 0.2)],
    "early": [True, True],
}
# A reader that sleeps inside recv() until it has all.
WAITING: Shape = {
    "turns": [[0, 300_000, 3000, 0, False], [1, 1, 1, 0, True]] * 20,
    "readers": [AT_EDGE, ("waitall", 262_144, 1, 0)],
    "early": [True, True],
}
# A reader that rests now and then, long enough for its writer to meet a bound, if there is one.
RESTING: Shape = {
    "turns": [[0, 100_000_000, 1 << 18, 0, False], [1, 1, 1, 0, True]],
    "readers": [AT_EDGE, ("poll", 65536, 20_000_000, 0.3)],
    "early": [True, True],
}
# Envoy itself, by TCP alone, now and then loses an end, or what is under way, when one side ends before the other has
# said all (about one time in a thousand on a busy machine). So there nobody ends before both have heard everything.
FAREWELL = [[0, 1, 1, 0, True], [1, 1, 1, 0, True], [0, 1, 1, 0, True]]


@pytest.fixture(scope="module")
def sockmap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("sockmap")) as made:
        yield made


def talk(sockmap: World, name: str, path: str, shapes: list[Shape], patience: int = PATIENCE) -> Any:
    """Have conversations on a path: what came of them, and by how much counters grew."""
    before = sockmap.counters()
    leg = sockmap.leg(name, plain=path == "plain" and not sockmap.meshed)
    with sockmap.path(path), sockmap.talkers(leg, patience) as talkers:
        outcomes = talkers.play(shapes)
    after = sockmap.counters()
    return outcomes, {name: after[name] - before[name] for name in after}


def converse(sockmap: World, leg: str, patience: int = PATIENCE) -> None:
    """Have as many conversations as are asked for of a leg, the same on each path."""
    total: Counter[str] = Counter()
    legs = ENVOY_LEGS if sockmap.meshed else LEGS
    paths = [path for path in PATHS if path != "joined" or not sockmap.meshed]
    connections, size = LEAST_CONNECTIONS // len(legs), LEAST_BYTES // len(legs)

    def check(shapes: list[Shape]) -> None:
        """The same on each path; what was sent is added up."""
        if sockmap.meshed:
            shapes = [{**shape, "turns": [*shape["turns"], *FAREWELL], "early": [True, False]} for shape in shapes]
        for path in paths:
            outcomes, counted = talk(sockmap, leg, path, shapes, patience)
            assert wrong(outcomes) == [], path
            assert counted["order.violated"] == 0
            assert (counted["sockets.joined"] > 0) == (path != "plain")
            assert (counted["redirected.bytes"] > 0) == (path == "redirected")
            # A blocking read that says EAGAIN is known of sockets in the map, and of no other.
            assert path != "plain" or not any(near["spurious"] + far["spurious"] for near, far in outcomes)
            total[path] += len(outcomes)
            total[f"{path} bytes"] += sum(near["sent"][0] + far["sent"][0] for near, far in outcomes)

    rounds = -(-connections // (SHAPES_A_ROUND * AT_ONCE))

    @settings(max_examples=rounds, deadline=None, suppress_health_check=list(HealthCheck), report_multiple_bugs=False)
    @given(shapes=st.lists(SHAPES, min_size=SHAPES_A_ROUND, max_size=SHAPES_A_ROUND))
    def hold(shapes: list[Shape]) -> None:
        check(shapes * AT_ONCE)

    hold()
    check([OVERRUN] * 2)
    assert sockmap.counters()["downgrades"] > 0
    missing = max(0, size - total["plain bytes"])
    check([{"turns": [[0, missing + 1, 1 << 17, 0, False]], "readers": [AT_EDGE, AT_EDGE], "early": [True, True]}])
    for path in paths:
        assert total[path] >= connections
        assert total[f"{path} bytes"] >= size
    deadline = time.monotonic() + patience
    while sockmap.accelerator.known() and time.monotonic() < deadline:
        time.sleep(0.01)  # an Envoy closes in its own time
    assert sockmap.accelerator.known() == 0


def rest(sockmap: World, path: str, patience: int = PATIENCE) -> None:
    """Have a conversation whose reader rests: its writer has to be stopped meanwhile."""
    outcomes, counted = talk(sockmap, "veth-ipv4", path, [RESTING], patience)
    assert wrong(outcomes) == []
    assert counted["order.violated"] == 0
    assert outcomes[0][0]["stopped"] > 0


@pytest.mark.timeout(3600 if NIGHTLY else 300)
@pytest.mark.parametrize("leg", LEGS)
def test_conversations_on_each_path_give_the_same_bytes_in_the_same_order(sockmap: World, leg: str) -> None:
    converse(sockmap, leg)


@pytest.mark.timeout(3600 if NIGHTLY else 900)
@pytest.mark.parametrize("leg", ENVOY_LEGS)
def test_conversations_through_two_envoys_give_the_same_bytes_in_the_same_order(tmp_path: Path, leg: str) -> None:
    with world(tmp_path, meshed=True) as sockmap:
        converse(sockmap, leg)


@pytest.mark.parametrize("path", PATHS)
def test_a_writer_is_stopped_while_its_reader_rests(sockmap: World, path: str) -> None:
    rest(sockmap, path)


@contextmanager
def flickering(sockmap: World) -> Iterator[None]:
    """With a switch that goes off and on all the time."""
    over = threading.Event()

    def switch() -> None:
        while not over.wait(0.002):
            sockmap.accelerator.join_only()
            over.wait(0.002)
            sockmap.accelerator.resume()

    switching = threading.Thread(target=switch)
    switching.start()
    try:
        yield
    finally:
        over.set()
        switching.join()


def flicker(sockmap: World, shape: Shape, patience: int = PATIENCE) -> None:
    """Have conversations while the accelerator is switched off and on."""
    with flickering(sockmap):
        shapes = [shape] * (800 if NIGHTLY else 40)
        outcomes, counted = talk(sockmap, "veth-ipv4", "redirected", shapes, patience)
    assert wrong(outcomes) == []
    assert counted["order.violated"] == 0
    assert counted["upgrades"] > 20


@pytest.mark.parametrize("shape", [pytest.param(WAITING, id="waiting"), pytest.param(OVERRUN, id="overrun")])
def test_conversations_survive_a_switch_that_goes_off_and_on(sockmap: World, shape: Shape) -> None:
    flicker(sockmap, shape)


def integrity_run(sockmap: World, patience: int) -> None:
    """All of this at once, as broken accelerators are held to it: what they lose never comes."""
    for shape in (WAITING, OVERRUN):
        flicker(sockmap, shape, patience)
    rest(sockmap, "redirected", patience)
    for leg in LEGS:
        converse(sockmap, leg, patience)


@pytest.mark.timeout(3600 if NIGHTLY else 300)
@pytest.mark.parametrize("path", PATHS)
def test_a_long_conversation_arrives_whole(sockmap: World, path: str) -> None:
    turns = [[0, LONG, 1 << 20, 0, False], [1, LONG, 1 << 14, 0, False]]
    shape = {"turns": turns, "readers": [AT_EDGE, AT_EDGE], "early": [True, True]}
    outcomes, counted = talk(sockmap, "veth-ipv4", path, [shape])
    assert wrong(outcomes) == []
    assert counted["order.violated"] == 0
    assert (counted["redirected.bytes"] > 0) == (path == "redirected")
