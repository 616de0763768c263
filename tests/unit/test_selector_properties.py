# SPDX-License-Identifier: Apache-2.0
"""The selector language against an evaluator of its own: what each drawn text means is known while it is drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hypothesis import example, given, settings
from hypothesis import strategies as st

from lab.policy.selector import SelectorSyntaxError, parse_selector

Meaning = Callable[[Mapping[str, str]], bool]

KEYS = st.sampled_from(["a", "b", "in", "has", "not", "x.y/z-1"])
VALUES = st.sampled_from(["", "a", "b", "ab", "é", "all()", 'q"q'])
BLANKS = st.sampled_from(["", " ", "\t", "  "])
BETWEEN_WORDS = st.sampled_from([" ", "\t", "  "])
LABELS = st.dictionaries(KEYS, VALUES, max_size=4)


def quoted(value: str) -> str:
    return f"'{value}'" if '"' in value else f'"{value}"'


@st.composite
def comparisons(draw: st.DrawFn) -> tuple[str, Meaning]:
    key, value, blank, gap = draw(KEYS), draw(VALUES), draw(BLANKS), draw(BLANKS)
    operator = draw(st.sampled_from(["==", "!=", "contains", "starts with", "ends with"]))
    meanings: dict[str, Meaning] = {
        "==": lambda labels: key in labels and labels[key] == value,
        "!=": lambda labels: not (key in labels and labels[key] == value),
        "contains": lambda labels: key in labels and labels[key].find(value) >= 0,
        "starts with": lambda labels: key in labels and labels[key][: len(value)] == value,
        "ends with": lambda labels: (
            key in labels and labels[key][len(labels[key]) - len(value) :] == value
            if len(labels.get(key, "")) >= len(value)
            else False
        ),
    }
    words = operator.replace(" ", gap)
    before = blank if operator in ("==", "!=") else draw(BETWEEN_WORDS)
    return f"{key}{before}{words}{blank}{quoted(value)}", meanings[operator]


@st.composite
def memberships(draw: st.DrawFn) -> tuple[str, Meaning]:
    key, values, blank = draw(KEYS), draw(st.lists(VALUES, max_size=3)), draw(BLANKS)
    negated = draw(st.booleans())
    items = f"{blank},".join(map(quoted, values)) + ("," if values and draw(st.booleans()) else "")
    word = f"not{blank}in" if negated else "in"
    return (
        f"{key}{draw(BETWEEN_WORDS)}{word}{blank}{{{blank}{items}{blank}}}",
        lambda labels: (key in labels and any(labels[key] == value for value in values)) != negated,
    )


@st.composite
def presences(draw: st.DrawFn) -> tuple[str, Meaning]:
    key, blank = draw(KEYS), draw(BLANKS)
    return f"has({blank}{key}{blank})", lambda labels: key in labels


CONSTANTS = st.sampled_from(["all()", "global()", "all( )"]).map(lambda text: (text, lambda _: True))


def negations(operands: st.SearchStrategy[tuple[str, Meaning]]) -> st.SearchStrategy[tuple[str, Meaning]]:
    def negate(blank: str, operand: tuple[str, Meaning]) -> tuple[str, Meaning]:
        text, meaning = operand
        return f"!{blank}({text})", lambda labels: not meaning(labels)

    return st.builds(negate, BLANKS, operands)


def combinations(operands: st.SearchStrategy[tuple[str, Meaning]]) -> st.SearchStrategy[tuple[str, Meaning]]:
    def combine(blank: str, all_: bool, parts: list[tuple[str, Meaning]]) -> tuple[str, Meaning]:
        joined = f"{blank}{'&&' if all_ else '||'}{blank}".join(f"({text})" for text, _ in parts)
        meanings = [meaning for _, meaning in parts]
        return joined, lambda labels: (all if all_ else any)(meaning(labels) for meaning in meanings)

    return st.builds(combine, BLANKS, st.booleans(), st.lists(operands, min_size=2, max_size=3))


LEAVES = comparisons() | memberships() | presences() | CONSTANTS
SELECTORS = st.recursive(LEAVES, lambda inner: negations(inner) | combinations(inner), max_leaves=8)


@st.composite
def unparenthesised(draw: st.DrawFn) -> tuple[str, Meaning]:
    """Leaves with &&, || and ! between them and no parentheses: only precedence says what they mean."""
    disjuncts = draw(
        st.lists(st.lists(st.tuples(st.integers(0, 3), LEAVES), min_size=1, max_size=3), min_size=1, max_size=3)
    )
    text = "||".join("&&".join("!" * bangs + leaf[0] for bangs, leaf in conjuncts) for conjuncts in disjuncts)
    return text, lambda labels: any(
        all(leaf[1](labels) != (bangs % 2 == 1) for bangs, leaf in conjuncts) for conjuncts in disjuncts
    )


@given(SELECTORS | unparenthesised(), st.lists(LABELS, min_size=1, max_size=5))
def test_drawn_selector_means_what_was_drawn(selector: tuple[str, Meaning], labels: list[dict[str, str]]) -> None:
    text, meaning = selector
    parsed = parse_selector(text)
    assert [parsed.matches(each) for each in labels] == [meaning(each) for each in labels]


@given(SELECTORS | unparenthesised(), LABELS)
def test_canonical_text_parses_back_to_itself_with_the_same_meaning(
    selector: tuple[str, Meaning], labels: dict[str, str]
) -> None:
    first = parse_selector(selector[0])
    again = parse_selector(first.canonical)
    assert again.canonical == first.canonical
    assert again.uid == first.uid
    assert again.matches(labels) == first.matches(labels)


TOKENS = [
    "has(",
    "all(",
    "global(",
    ")",
    "(",
    "!",
    "a",
    "in",
    "not",
    "==",
    "!=",
    "&&",
    "||",
    '"',
    "'",
    "{",
    "}",
    ",",
    " ",
    "\n",
]


@settings(max_examples=300)
@given(st.text() | st.lists(st.sampled_from(TOKENS), max_size=30).map("".join))
@example("(" * 5_000)
@example("!(" * 5_000)
@example("has(a)&&(" * 2_000)
@example("\x00\ud800")
def test_any_text_is_a_selector_or_a_syntax_error_at_one_of_its_characters(text: str) -> None:
    try:
        parse_selector(text)
    except SelectorSyntaxError as error:
        offset = error.offset
    else:
        offset = 0
    assert 0 <= offset <= len(text)
