# SPDX-License-Identifier: Apache-2.0
"""The selector language, case by case."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest

from lab.policy.selector import Selector, SelectorSyntaxError, all_of, parse_selector
from lab.policy.selector_ast import All, Global, Has
from lab.policy.selector_parser import MAX_DEPTH

LABELS = {"a": "b", "empty": "", "app.io/role-x": "Web", "in": "in", "has": "x", "all": "y", "contains": "b"}

TRUTH = [
    ("", True),
    (" \t ", True),
    ("all()", True),
    ("all( \t)", True),
    ("global()", True),
    ('a == "b"', True),
    ("a=='b'", True),
    ('a == "B"', False),
    ('x == "b"', False),
    ('a != "a"', True),
    ('a != "b"', False),
    ('x != "a"', True),
    ('! x == "a"', True),
    ('!a == "b"', False),
    ('!!a == "b"', True),
    ('! !\t! a == "b"', False),
    ('x == ""', False),
    ('empty == ""', True),
    ('x != ""', True),
    ('x contains ""', False),
    ('empty contains ""', True),
    ('a contains "b"', True),
    ('x starts with ""', False),
    ('app.io/role-x starts with "We"', True),
    ('app.io/role-x starts with "eb"', False),
    ('app.io/role-x ends with "eb"', True),
    ('app.io/role-x ends with "We"', False),
    ('app.io/role-x startswith"We"', True),
    ('app.io/role-x ends \t with "b"', True),
    ("a in {}", False),
    ("x in {}", False),
    ("a not in {}", True),
    ("x not in {}", True),
    ('a in {"c", "b"}', True),
    ("a in{'b',}", True),
    ('x in {""}', False),
    ('x not in {"a"}', True),
    ('a notin {"b"}', False),
    ('a not   in {"c"}', True),
    ("has(a)", True),
    ("has( a )", True),
    ("has(x)", False),
    ("!has(x)", True),
    ("has(empty)", True),
    ('has == "x"', True),
    ('all == "y"', True),
    ('in == "in"', True),
    ('in in {"in"}', True),
    ('contains contains "b"', True),
    ('contains in {"b"}', True),
    ('a == "b" || x == "1" && x == "2"', True),
    ('(a == "b" || x == "1") && x == "2"', False),
    ('!a == "b" || has(a)', True),
    ('!(a == "b" || has(x)) || has(y)', False),
    ('a == "b"&&has(in)||x=="y"', True),
    ('((a == "b"))', True),
    ("a == 'say \"b\"'", False),
    ('a == "é\n"', False),
    ("-./_ != ''", True),
]


@pytest.mark.parametrize(("text", "truth"), TRUTH)
def test_selector_over_labels_has_its_truth(text: str, truth: bool) -> None:
    assert parse_selector(text).matches(LABELS) is truth


ERRORS = [
    ("a", 1, "an operator"),
    ("a = 'b'", 2, "an operator"),
    ("a == 'b' & has(c)", 9, "&& or the end or ||"),
    ("a == 'b' | has(c)", 9, "&& or the end or ||"),
    ("a == 'b' has(c)", 9, "&& or the end or ||"),
    ("(a == 'b' c", 10, "&& or ) or ||"),
    ("((a == 'b') c", 12, "&& or ) or ||"),
    ("(a == 'b') c", 11, "&& or the end or ||"),
    ("a inx {'b'}", 2, "an operator"),
    ("a containsx 'b'", 2, "an operator"),
    ("a == b", 5, "a value in quotes"),
    ("'a' == 'b'", 0, "a test"),
    ("()", 1, "a test"),
    ("(a == 'b'", 9, ")"),
    ("a == 'b')", 8, "&& or the end or ||"),
    ("has (a)", 4, "an operator"),
    ("all ()", 4, "an operator"),
    ("has()", 4, "a label"),
    ("has(a", 5, ")"),
    ("all(a)", 4, ")"),
    ("a == 'b'\n", 8, "&& or the end or ||"),
    ("a ==\n'b'", 4, "a value in quotes"),
    ("a == 'b", 5, "a value in quotes"),
    ("a in {,}", 6, "a value in quotes or }"),
    ("a in {'b' 'c'}", 10, ", or }"),
    ("a in {'b',,}", 10, "a value in quotes or }"),
    ("a in 'b'", 5, "{"),
    ("a && ", 2, "an operator"),
    ("has(a) && ", 10, "a test"),
    ("|| has(a)", 0, "a test"),
    ("!", 1, "a test"),
    ("é == 'b'", 0, "a test"),
    ("a" * 513 + " == 'b'", 0, "a test"),
    ("a" * 512 + "in {'b'}", 0, "a test"),
]


@pytest.mark.parametrize(("text", "offset", "expected"), ERRORS)
def test_wrong_selector_is_refused_at_its_character(text: str, offset: int, expected: str) -> None:
    with pytest.raises(SelectorSyntaxError) as caught:
        parse_selector(text)
    assert caught.value.offset == offset
    assert caught.value.allowed is not None
    assert caught.value.allowed.startswith(expected)


def test_label_of_512_characters_is_legal() -> None:
    assert parse_selector("a" * 512 + ' == "b"').matches({"a" * 512: "b"})


CANONICAL = [
    ("", "all()"),
    ("global( )", "global()"),
    ("has( a )", "has(a)"),
    ("a=='b'", 'a == "b"'),
    ("a == 'say \"b\"'", "a == 'say \"b\"'"),
    ("!!!has(a)", "!has(a)"),
    ("! a == 'b'", '!a == "b"'),
    ("a notin {'z','b',\"b\",}", 'a not in {"b", "z"}'),
    ("a in {}", "a in {}"),
    ("a startswith 'b'", 'a starts with "b"'),
    ("has(a) || has(b) && has(c)", "(has(a) || (has(b) && has(c)))"),
    ("!(has(a) && has(b))", "!(has(a) && has(b))"),
    ("has(a) && (has(b) && has(c))", "(has(a) && (has(b) && has(c)))"),
]


@pytest.mark.parametrize(("text", "canonical"), CANONICAL)
def test_selector_has_one_canonical_form(text: str, canonical: str) -> None:
    assert parse_selector(text).canonical == canonical
    assert parse_selector(canonical).canonical == canonical


def test_uid_of_all_is_that_of_calico() -> None:
    assert parse_selector("").uid == parse_selector("all()").uid == "s:5y5I3VdRZfDU01O--xXAPx2yxCQQqMf0M6IWug"


def nested(depth: int) -> str:
    """A selector with a tree of that depth: nots, ands and ors in turn."""
    text, parts = "has(e)", ["!({})", 'a != "b" || ({})', 'c == "d" && ({})']
    for level in range(depth):
        text = parts[level % 3].format(text)
    return text


def test_deepest_selector_can_be_walked_by_every_function() -> None:
    selector = parse_selector(nested(MAX_DEPTH))
    again = parse_selector(selector.canonical)
    assert again.canonical == selector.canonical
    assert again.matches({"a": "b"}) == selector.matches({"a": "b"})
    assert selector.prefixed("p/").keys() == {"p/a", "p/c", "p/e"}
    assert selector.negated().negated().canonical == selector.canonical
    assert pickle.loads(pickle.dumps(selector)) == selector  # noqa: S301 - our own bytes


def test_selector_one_level_deeper_is_refused_at_its_deepest_parenthesis() -> None:
    text = nested(MAX_DEPTH + 1)
    with pytest.raises(SelectorSyntaxError, match="nested too deep") as caught:
        parse_selector(text)
    assert caught.value.offset == text.index("has(e)") + 3


def test_thousands_of_parentheses_round_one_test_are_that_test() -> None:
    assert parse_selector("(" * 5_000 + "has(a)" + ")" * 5_000).canonical == "has(a)"


def test_thousands_of_negations_fold_to_their_parity() -> None:
    assert parse_selector("!" * 10_001 + "has(a)").canonical == "!has(a)"


def test_same_text_is_parsed_once() -> None:
    assert parse_selector('once == "1"') is parse_selector('once == "1"')


def test_selectors_are_equal_and_hashed_by_their_text() -> None:
    assert parse_selector("has(a)") == Selector.of(Has("a"))
    assert len({parse_selector("has(a)"), Selector.of(Has("a")), parse_selector("has( a)")}) == 2


def test_prefix_goes_before_every_key_and_no_value() -> None:
    prefixed = parse_selector("a == 'a' && b in {'b'} || !has(c) && all()").prefixed("pcns.")
    assert prefixed.canonical == '((pcns.a == "a" && pcns.b in {"b"}) || (!has(pcns.c) && all()))'


def test_conjunction_keeps_its_parts_as_they_are() -> None:
    parts = [parse_selector(text) for text in ("has(a)", "has(b) && has(c)", "has(d) || has(e)")]
    assert all_of(*parts).canonical == "(has(a) && (has(b) && has(c)) && (has(d) || has(e)))"
    assert all_of(parts[0]) is parts[0]
    assert all_of().canonical == "all()"


def test_negated_selector_holds_where_the_other_does_not() -> None:
    selector = parse_selector('a == "b"')
    assert selector.negated().canonical == '!a == "b"'
    assert not selector.negated().matches({"a": "b"})
    assert selector.negated().negated().canonical == 'a == "b"'


def test_rewrite_tells_all_from_global_and_from_a_value() -> None:
    selector = parse_selector("!all() && (global() || a == 'all()')")
    assert selector.rewrite(lambda node: Has("ns") if isinstance(node, All) else node).canonical == (
        '(!has(ns) && (global() || a == "all()"))'
    )
    assert isinstance(parse_selector("(global())").node, Global)


def test_lark_is_loaded_only_by_the_first_parse() -> None:
    code = "import sys, lab.policy.selector, lab.policy.resources; sys.exit('lark' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_selectors_of_one_text_are_equal_and_show_that_text_alone() -> None:
    one, other = parse_selector("app == 'web'"), parse_selector("app == 'web'")
    assert one == other != parse_selector("app == 'db'")
    assert repr(one) == """Selector(text="app == 'web'")"""
