# SPDX-License-Identifier: Apache-2.0
"""Checks a document against a pydantic model, and says in plain words and at the right line what is wrong.

Readers derive their models from ``StrictModel``: unknown keys are refused (with "did you mean"), a key without
a value counts as absent (as the Kubernetes API server has it), values are not coerced (``"80"`` is no number),
and lists are declared as ``list[...]``. What pydantic cannot express goes into validators that raise
ValueError or ``refusal(...)``, or into the reader itself, which raises its own error at ``document.place(path)``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from lab.document import Document, Step
from lab.errors import LabError, LabErrors

__all__ = ["MAX_ERRORS", "StrictModel", "listing", "raise_all", "refusal", "suggestion", "validate"]

MAX_ERRORS = 20
"""How many errors of one file are told; a wrong indent would otherwise print thousands."""
_FAULTS_READ = 20 * MAX_ERRORS  # of one value there may be several, of a union; a million would take a minute
_LISTED_NAMES = 25
_SHOWN_TEXT = 80

Model = TypeVar("Model", bound=BaseModel)

_KINDS = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "list_type": "a list",
}
_BOUNDS = {
    "greater_than_equal": ("ge", "at least {}"),
    "greater_than": ("gt", "more than {}"),
    "less_than_equal": ("le", "at most {}"),
    "less_than": ("lt", "less than {}"),
}
_LENGTHS = {"too_short": ("min_length", "at least {}"), "too_long": ("max_length", "at most {}")}
_UNKNOWN_KEYS = "unknown_keys"
_REFUSAL = "refusal"


class StrictModel(BaseModel):
    """Base of every model that a user's file is checked against."""

    model_config = ConfigDict(strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _known_keys_with_values(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        known = _keys_of(cls)
        unknown = [key for key in data if key not in known]
        if unknown:
            raise PydanticCustomError(_UNKNOWN_KEYS, "unknown keys", {"keys": unknown, "known": list(known)})
        if None in data.values():
            return {key: value for key, value in data.items() if value is not None}
        return data


@cache
def _keys_of(model: type[BaseModel]) -> dict[str, None]:
    """Tell the keys of a model as its files write them, in the order of their declaration."""
    return {info.alias or name: None for name, info in model.model_fields.items()}


def refusal(what: str, *, allowed: str | None = None, next_step: str | None = None) -> PydanticCustomError:
    """Make the error that a validator raises when it has more to say than a ValueError's text.

    ``what`` follows the name of the field in the message: "is not a port".
    """
    return PydanticCustomError(_REFUSAL, "refused", {"what": what, "allowed": allowed, "next_step": next_step})


def suggestion(given: object, names: Iterable[str]) -> str | None:
    """Guess which of ``names`` was meant: "did you mean 'x/a'?", or None when nothing is near."""
    near = get_close_matches(str(given), list(names), n=1)
    return f"did you mean {near[0]!r}?" if near else None


def listing(names: Collection[str]) -> str:
    """List what is allowed, shortened where it is long."""
    shown = ", ".join(list(names)[:_LISTED_NAMES])
    more = len(names) - _LISTED_NAMES
    return (f"{shown}, and {more} more" if more > 0 else shown) or "none"


def raise_all(errors: Sequence[LabError]) -> None:
    """Raise the errors, if there are any: one as itself, several as LabErrors, at most MAX_ERRORS of them."""
    if not errors:
        return
    if len(errors) == 1:
        raise errors[0]
    told = list(errors[:MAX_ERRORS])
    if len(errors) > MAX_ERRORS:
        what = "there are more errors from here on"
        told.append(type(errors[0])(what, place=errors[MAX_ERRORS].place, next_step="mend those before first"))
    raise LabErrors(told)


def validate(model: type[Model], document: Document, error: type[LabError], at: Sequence[Step] = ()) -> Model:
    """Check what stands at the path ``at`` of a document, which must exist, against a model.

    Raises ``error`` for one fault and LabErrors of ``error`` for several, each at the place of its value or,
    where the key itself is at fault, of its key. What the alternatives of a union have to say is put together.
    """
    data = document.at(at)
    try:
        return model.model_validate(data)
    except ValidationError as problem:
        faults = problem.errors(include_url=False)[:_FAULTS_READ]
    teller = _Teller(document, error, tuple(at))
    raise_all([told for path, faults in _grouped(faults, data) for told in teller.tell(path, faults)])
    raise error("is not as it should be", place=document.place(at))  # pydantic never refuses without a fault


def _grouped(faults: Iterable[ErrorDetails], data: Any) -> list[tuple[tuple[Step, ...], list[ErrorDetails]]]:
    """Gather what was said of each path; a wrong type says nothing where another alternative came further."""
    groups: dict[tuple[Step, ...], list[ErrorDetails]] = {}
    for fault in faults:
        groups.setdefault(_locate(fault["loc"], data), []).append(fault)
    reached = {path[:depth] for path in groups for depth in range(len(path))}
    told = []
    for path, group in groups.items():
        specific = [fault for fault in group if fault["type"] not in _KINDS]
        if specific or path not in reached:
            told.append((path, specific or group))
    return told


def _locate(loc: Sequence[Step], data: Any) -> tuple[Step, ...]:
    """Follow pydantic's location through the data, passing over what only names alternatives of a union."""
    path: list[Step] = []
    for step in loc:
        if step in (data if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ()):
            data = data[step]
            path.append(step)
    return tuple(path)


@dataclass(frozen=True, slots=True)
class _Teller:
    """Puts pydantic's faults into our words and places; ``base`` is the path of what was checked."""

    document: Document
    error: type[LabError]
    base: tuple[Step, ...]

    def tell(self, path: tuple[Step, ...], faults: list[ErrorDetails]) -> Iterator[LabError]:
        if faults[0]["type"] in _KINDS:
            yield self._wrong_kind(path, faults)
            return
        for fault in {(fault["loc"][-1:], fault["msg"], str(fault.get("ctx"))): fault for fault in faults}.values():
            if fault["type"] == _UNKNOWN_KEYS:
                yield from self._unknown_keys(path, fault["ctx"]["keys"], fault["ctx"]["known"])
            elif fault["type"] == "missing":
                yield self._missing(path, str(fault["loc"][-1]))
            else:
                yield self._other(path, fault)

    def _wrong_kind(self, path: tuple[Step, ...], faults: list[ErrorDetails]) -> LabError:
        value = faults[0]["input"]
        wanted = " or ".join(dict.fromkeys(_KINDS[fault["type"]] for fault in faults))
        quote = wanted == "text" and isinstance(value, int | float)
        return self._error(
            path,
            f"must be {wanted}, not {_described(value)}",
            key=faults[0]["loc"][-1:] == ("[key]",),
            advice=(None, "put it in quotes" if quote else None),
        )

    def _missing(self, path: tuple[Step, ...], name: str) -> LabError:
        if path[-1:] == (name,):  # the key is there, with nothing under it
            return self._error(path, "has no value, and needs one", key=True)
        return self._error(path, f"has no {name!r}, which it needs", key=True)

    def _unknown_keys(self, path: tuple[Step, ...], keys: list[str], known: list[str]) -> Iterator[LabError]:
        for key in keys:
            yield self.error(
                f"unknown key {_cut(key)!r} in {self._name(path)}",
                place=self.document.place((*self.base, *path, key), key=True),
                allowed=listing(known),
                next_step=suggestion(key, known),
            )

    def _other(self, path: tuple[Step, ...], fault: ErrorDetails) -> LabError:
        context, kind, value = fault.get("ctx", {}), fault["type"], fault["input"]
        given = value if isinstance(value, int | float) else _cut(value) if isinstance(value, str) else None
        key = fault["loc"][-1:] == ("[key]",)
        what, allowed, next_step = "is not allowed", None, None
        if kind == _REFUSAL:
            what, allowed, next_step = context["what"], context["allowed"], context["next_step"]
        elif kind == "value_error":
            what = str(context["error"])
        elif kind in {"literal_error", "enum"}:
            allowed = context["expected"].replace("'", "").replace(" or ", ", ")
            next_step = suggestion(given, allowed.split(", "))
        elif kind in _BOUNDS:
            name, phrase = _BOUNDS[kind]
            what, allowed = "is out of range", phrase.format(context[name])
        elif kind in _LENGTHS:
            name, phrase = _LENGTHS[kind]
            what, allowed = f"has {context['actual_length']} entries", phrase.format(context[name])
        else:
            allowed = fault["msg"]
        return self._error(path, what, key=key, value=given, advice=(allowed, next_step))

    def _error(
        self,
        path: tuple[Step, ...],
        what: str,
        *,
        key: bool = False,
        value: object = None,
        advice: tuple[str | None, str | None] = (None, None),
    ) -> LabError:
        """Make an error at a path; ``advice`` is what is allowed and the next step."""
        allowed, next_step = advice
        place = self.document.place((*self.base, *path), key=key)
        return self.error(f"{self._name(path)} {what}", place=place, value=value, allowed=allowed, next_step=next_step)

    def _name(self, path: tuple[Step, ...]) -> str:
        steps = (*self.base, *path)
        text = "".join(f"[{step}]" if isinstance(step, int) else f".{_cut(step)}" for step in steps)
        return (f"entry {text}" if text.startswith("[") else text.removeprefix(".")) or "the document"


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_TEXT else text[:_SHOWN_TEXT] + "..."


def _described(value: object) -> str:
    """Say what stands there: "the number 80", "a list"."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f"the text {_cut(value)!r}"
    return "empty" if value is None else f"the number {value}"
