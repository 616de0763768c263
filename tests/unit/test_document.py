# SPDX-License-Identifier: Apache-2.0
"""YAML in, plain data and places out; a hostile file gives one clear error."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from lab.document import MAX_BYTES, MAX_DEPTH, MAX_VALUES, Document, document_of, parse_documents, read_documents
from lab.errors import LabError, Place, PolicyError

SCALARS = st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cn", "Cs", "Zl", "Zp"]), max_size=12)
VALUES = st.recursive(
    SCALARS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


def parse(text: str | bytes) -> list[Document]:
    return parse_documents(text, "f.yaml", PolicyError)


def value_of(text: str) -> Any:
    (document,) = parse(text)
    return document.value


def error_of(text: str | bytes) -> LabError:
    with pytest.raises(PolicyError) as caught:
        parse(text)
    return caught.value


@pytest.mark.parametrize("text", ["", "# nothing", "---", "---\n...\n", "---\n---\n# x\n", "~", "null\n---\n"])
def test_file_without_documents_gives_none(text: str) -> None:
    assert parse(text) == []


def test_several_documents_are_all_given_with_their_own_lines() -> None:
    documents = parse("a: 1\n---\n# only a comment\n---\nb: 2\n")
    assert [document.value for document in documents] == [{"a": 1}, {"b": 2}]
    assert documents[1].place(("b",)) == Place("f.yaml", 5, 4)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("False", False),
        ("-17", -17),
        ("0", 0),
        ("1.5", 1.5),
        ("-.5e3", -500.0),
        ("1e3", 1000.0),
        ("!!str 1", "1"),
        ("!!int 1", 1),
        ("'1'", "1"),
        ("| \n 1\n", "1\n"),
        ("{a: , b: ~}", {"a": None, "b": None}),
    ],
)
def test_plain_scalars_are_resolved_as_yaml_1_2_does(text: str, value: Any) -> None:
    assert value_of(text) == value
    assert type(value_of(text)) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        "22:23",
        "on",
        "yes",
        "y",
        "012",
        "0x10",
        "0o7",
        "1_000",
        "2020-01-01",
        ".inf",
        ".nan",
        "1e999",
        "+",
        ".",
        "=",
        "9" * 5000,
    ],
)
def test_what_yaml_1_1_would_turn_around_stays_text(text: str) -> None:
    assert value_of(f"k: {text}") == {"k": text}


def test_keys_of_any_kind_become_their_text() -> None:
    assert value_of("{1: a, null: b, on: c, 1.0: d}") == {"1": "a", "null": "b", "on": "c", "1.0": "d"}


def test_aliases_give_the_same_value_at_their_own_place() -> None:
    (document,) = parse("a: &x\n  k: [1]\nb: *x\n")
    assert document.value == {"a": {"k": [1]}, "b": {"k": [1]}}
    assert document.place(("b",)) == Place("f.yaml", 3, 4)
    assert document.place(("b", "k", 0)) == Place("f.yaml", 2, 7)


def test_place_of_a_key_and_of_what_is_not_there() -> None:
    (document,) = parse("spec:\n  é: [1, {port: 2}]\n")
    assert document.place() == Place("f.yaml", 1, 1)
    assert document.place(("spec", "é", 1, "port")) == Place("f.yaml", 2, 17)
    assert document.place(("spec", "é", 1, "port"), key=True) == Place("f.yaml", 2, 11)
    assert document.place(("spec", "é", 1, "prot", 7), key=True) == Place("f.yaml", 2, 10)
    assert document.place(("spec", "é", 9)) == Place("f.yaml", 2, 6)


@pytest.mark.parametrize(
    ("text", "column"),
    [("k: a == b", 8), ("k: 'a == b'", 9), ('"k": "a == b"', 11), ("k: a\n  == b", None), ('k: "a \\u003d= b"', None)],
)
def test_place_inside_a_text_is_told_where_it_stands_as_it_is(text: str, column: int | None) -> None:
    (document,) = parse(text)
    place = document.text_place(("k",), "a == b".index("b") - 1)
    assert place == (None if column is None else Place("f.yaml", 1, column))


def test_data_of_no_file_has_only_its_source_as_place() -> None:
    document = document_of({"a": [1]}, "command line")
    assert document.place(("a", 0), key=True) == Place("command line")
    assert document.text_place((), 0) is None


def paths(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    yield path, value
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, inner in pairs:
        yield from paths(inner, (*path, step))


@given(VALUES.filter(lambda value: value is not None))
def test_json_reads_back_equal_with_a_place_for_every_path(value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False, indent=1)
    (document,) = parse(text)
    assert document.value == value
    lines = text.split("\n")
    for path, inner in paths(value):
        place = document.place(path)
        assert place.line is not None
        assert place.column is not None
        here = lines[place.line - 1][place.column - 1 :]
        start = json.dumps(inner, ensure_ascii=False)
        assert here.startswith(start[0] if isinstance(inner, dict | list) else start)
        if path and isinstance(path[-1], str):
            key = document.place(path, key=True)
            written = json.dumps(path[-1], ensure_ascii=False)
            assert lines[(key.line or 0) - 1][(key.column or 0) - 1 :].startswith(written)


@given(VALUES.filter(lambda value: value is not None))
def test_own_resolver_agrees_with_what_a_yaml_writer_wrote(value: Any) -> None:
    text = yaml.dump(value, Dumper=yaml.CSafeDumper, allow_unicode=True)
    (document,) = parse(text)
    assert document.value == value


@given(st.binary(max_size=60) | st.text("[]{}:-?*&!|>'\"%@` \n\t#,ab1~\\\ufeff\x85é", max_size=40))
@example(b"\xff\xfe\x00")
@example("\ud800")
@example("? [a]\n: b")
@example("\x01")
@example("&a " * 9)
@example("%YAML 3.0\n---\na")
@example("*a : 1")
def test_random_input_gives_documents_or_a_lab_error(data: bytes | str) -> None:
    try:
        places: list[object] = [document.place() for document in parse(data)]
    except PolicyError as error:
        places = [error.place]
    assert all(isinstance(place, Place) and place.file == "f.yaml" and place.line for place in places)


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("a: 1\nb: 2\na: 3\n", "f.yaml:3:1", "'a' is given twice"),
        ("a:\n\t- b\n", "f.yaml:2:1", "a tab"),
        ("\ta: 1", "f.yaml:1:1", "a tab"),
        ("a: [1\nb: 2", "f.yaml:2:2", "broken YAML"),
        ("a: b: c", "f.yaml:1:5", "broken YAML"),
        ("é: *x", "f.yaml:1:4", "no anchor &x"),
        ("a: &x [1, *x]", "f.yaml:1:11", "cycle"),
        ("a: !!python/object/apply:os.system [ls]", "f.yaml:1:4", "unknown tag !!python/object/apply:os.system"),
        ("a: !mine 1", "f.yaml:1:4", "unknown tag !mine"),
        ("a: !!int b", "f.yaml:1:4", "not what its tag says"),
        ("? [a]\n: b", "f.yaml:1:3", "key that is not plain text"),
        ("<<: {a: 1}", "f.yaml:1:1", "merge key"),
        ("a: \x00", "f.yaml:1:4", "control character 0x00"),
        (b"a: b\nc: \xff", "f.yaml:2:4", "0xff is not UTF-8"),
    ],
)
def test_what_is_wrong_is_told_at_its_place(text: str | bytes, where: str, what: str) -> None:
    error = error_of(text)
    assert str(error.place) == where
    assert what in str(error)
    assert error.exit_code == 2


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "- " * 100_000])
def test_deep_nesting_is_refused_without_recursion(text: str) -> None:
    assert f"at most {MAX_DEPTH} levels" in str(error_of(text))


def test_deepest_allowed_nesting_is_read() -> None:
    assert value_of("[" * MAX_DEPTH + "]" * MAX_DEPTH) != []
    assert "nested too deeply" in str(error_of("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1)))


def test_depth_through_aliases_is_counted() -> None:
    half = "[" * (MAX_DEPTH - 10)
    text = f"a: &x {half}{half.replace('[', ']')}\nb: {half}*x{half.replace('[', ']')}"
    assert "nested too deeply" in str(error_of(text))


def test_anchors_that_explode_are_refused() -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    assert f"at most {MAX_VALUES}" in str(error_of("\n".join(lines)))


@pytest.fixture
def as_nobody(tmp_path: Path) -> Iterator[None]:
    """A locked directory, and no root's right to look into it all the same."""
    folder = tmp_path / "locked"
    folder.mkdir()
    write(folder, b"a: 1")
    folder.chmod(0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)
        folder.chmod(0o700)


def write(folder: Path, data: bytes) -> Path:
    path = folder / "f.yaml"
    path.write_bytes(data)
    return path


def test_file_is_read_under_its_own_name(tmp_path: Path) -> None:
    path = write(tmp_path, b"\xef\xbb\xbfa: 1\n")
    (document,) = read_documents(path, PolicyError)
    assert document.value == {"a": 1}
    assert document.place(("a",), key=True) == Place(str(path), 1, 1)


def test_too_large_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "big.yaml"
    with path.open("wb") as stream:
        stream.truncate(MAX_BYTES * 4)
    with pytest.raises(PolicyError, match=f"too large; allowed: less than {MAX_BYTES} bytes"):
        read_documents(path, PolicyError)


def test_name_as_long_as_a_file_is_cut_in_the_message(tmp_path: Path) -> None:
    for text in ("a: *{0}", "a: !{0} 1", "? {0}\n: 1\n? {0}\n: 2"):
        with pytest.raises(PolicyError, match=r"xxx\.\.\.") as refused:
            read_documents(write(tmp_path, text.format("x" * 100_000).encode()), PolicyError)
        assert len(str(refused.value)) < 1000


def test_endless_stream_is_refused() -> None:
    with pytest.raises(PolicyError, match="too large"):
        read_documents(Path("/dev/zero"), PolicyError)


def test_missing_file_and_directory_are_named(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="nothing-here: no such file"):
        read_documents(tmp_path / "nothing-here", PolicyError)
    with pytest.raises(PolicyError, match="is a directory"):
        read_documents(tmp_path, PolicyError)


@pytest.mark.usefixtures("as_nobody")
def test_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="cannot be read: Permission denied"):
        read_documents(tmp_path / "locked" / "f.yaml", PolicyError)


def test_path_through_a_file_is_an_error_of_ours(tmp_path: Path) -> None:
    path = write(tmp_path, b"a: 1")
    with pytest.raises(PolicyError, match="cannot be read: Not a directory"):
        read_documents(path / "below", PolicyError)
