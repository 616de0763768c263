# SPDX-License-Identifier: Apache-2.0
"""What ``--only`` chooses: ids of every kind of expectation, and one error where there are none."""

from __future__ import annotations

import pytest

from lab.conformance.choice import OF_KNOWN_BROKEN, Choice, expectation_ids
from lab.errors import LabError

JUDGED = ("iptables", "iptables+xdp")


def chosen(text: str, judged: str = "iptables") -> set[str]:
    choice = Choice(text)
    choice.check(JUDGED)
    return {each for each in (*expectation_ids(), OF_KNOWN_BROKEN) if choice.holds(each, judged)}


@pytest.mark.parametrize("whole", [*expectation_ids(), OF_KNOWN_BROKEN])
def test_every_id_chooses_its_expectation(whole: str) -> None:
    assert whole in chosen(whole)


def test_part_of_an_id_chooses_all_that_hold_it() -> None:
    assert chosen("generated") == {each for each in expectation_ids() if "generated" in each}
    assert len(chosen("host.do-not-track")) > 2
    assert chosen("Update.Window") == chosen("update.window") < chosen("update")


def test_operators_bind_as_they_do_everywhere() -> None:
    assert chosen("control or update and window") == chosen("control") | chosen("update.window")
    assert chosen("(control or update) and window") == chosen("update.window")
    assert chosen("update and not window") == chosen("update") - chosen("window")
    assert chosen("not not control") == chosen("control")


def test_whole_name_of_what_is_judged_chooses_it_and_part_of_it_nothing() -> None:
    assert chosen("iptables+xdp and control", "iptables") == set()
    assert chosen("iptables+xdp and control", "iptables+xdp") == chosen("control")
    assert chosen("iptables and control", "iptables+xdp") == set()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("generated.changed", "no expectation has such an id; given: 'generated.changed'"),
        ("generated.changed", "did you mean 'generated.changes'"),
        ("control or hodl", "given: 'hodl'"),
        ("test_promise_is_kept", "no expectation has such an id"),
        ("nftables", "given: 'nftables'"),
        ("control and update", "nothing is chosen; given: 'control and update'"),
        ("", "a word behind"),
        ("control update", "cannot be read, at 'update'"),
        ("control and", "at its end"),
        ("or control", "at 'or'"),
        ("(control", "'\\)' for each '\\('"),
        ("control)", "at '\\)'"),
    ],
)
def test_what_chooses_nothing_is_one_error(text: str, told: str) -> None:
    with pytest.raises(LabError, match=told):
        chosen(text)
