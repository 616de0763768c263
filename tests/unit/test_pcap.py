# SPDX-License-Identifier: Apache-2.0
"""Our captures as scapy reads them."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from scapy.utils import RawPcapNgReader

from lab.traffic.pcap import CapturedFrame, pcapng

FRAMES = st.builds(
    CapturedFrame,
    interface=st.sampled_from(["node-1:eth0", "x/a:eth0", "node-1:cali0123456789a"]),
    time=st.integers(0, 2**62),
    data=st.binary(min_size=14, max_size=200),
    inbound=st.booleans(),
    comment=st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=20),
)


def read_back(path: Path) -> list[CapturedFrame]:
    frames = []
    with RawPcapNgReader(str(path)) as reader:
        for data, meta in reader:
            frames.append(
                CapturedFrame(
                    interface=meta.ifname.decode(),
                    time=(meta.tshigh << 32) + meta.tslow,
                    data=data,
                    inbound=meta.direction == 1,
                    comment=(meta.comments or [b""])[0].decode(),
                )
            )
            assert meta.tsresol == 10**9
            assert meta.linktype == 1
            assert meta.wirelen == len(data)
    return frames


@given(frames=st.lists(FRAMES, min_size=1, max_size=8))
def test_frames_of_several_interfaces_are_read_back_oldest_first(
    frames: list[CapturedFrame], tmp_path_factory: object
) -> None:
    path = Path(tmp_path_factory.mktemp("pcap")) / "frames.pcapng"
    path.write_bytes(pcapng(frames))
    assert read_back(path) == sorted(frames, key=lambda frame: frame.time)


def test_no_frames_give_a_file_with_only_a_header() -> None:
    assert len(pcapng([])) == 28
