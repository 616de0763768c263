# SPDX-License-Identifier: Apache-2.0
"""What is left of a verifier's log: cause, line of the source, the last lines."""

from __future__ import annotations

from pathlib import Path

from lab.errors import Place
from lab.fabric.bpf import VerifierError

SOURCE = Path("/bpf/filter.c")

LOG = """\
0: R1=ctx() R10=fp0
; void *data = (void *)(long)ctx->data; @ filter.c:7
0: (61) r6 = *(u32 *)(r1 +0)          ; R1=ctx() R6=pkt(r=0)
; return *(int *)place; @ parse.h:2
1: (71) r2 = *(u8 *)(r6 +13)
invalid access to packet, off=13 size=1, R6(id=0,off=13,r=0)
R6 offset is outside of the packet
processed 2 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0

"""


def test_cause_is_what_follows_the_last_instruction() -> None:
    error = VerifierError("filter", LOG, SOURCE)
    assert "R6(id=0,off=13,r=0); R6 offset is outside of the packet, in 'return *(int *)place;'" in str(error)


def test_place_is_the_line_of_the_header_that_went_wrong() -> None:
    assert VerifierError("filter", LOG, SOURCE).place == Place("/bpf/parse.h", 2)


def test_last_lines_are_shown_and_the_whole_log_is_kept() -> None:
    error = VerifierError("filter", LOG, SOURCE)
    assert "\n    1: (71) r2" in str(error)
    assert "R10=fp0" not in str(error)
    assert "processed" not in str(error)
    assert error.log == LOG


def test_register_in_a_complaint_is_not_taken_for_a_state() -> None:
    log = "0: (79) r1 = *(u64 *)(r2 +0)\nR2 !read_ok\nprocessed 1 insns\n"
    error = VerifierError("filter", log)
    assert "filter: R2 !read_ok\n" in str(error)
    assert error.place is None


def test_source_line_without_a_place_names_the_file_alone() -> None:
    log = "; return *p;\n0: (61) r0 = *(u32 *)(r1 +0)\ninvalid access\n"
    error = VerifierError("filter", log, SOURCE)
    assert error.place == Place("/bpf/filter.c")
    assert "in 'return *p;'" in str(error)
