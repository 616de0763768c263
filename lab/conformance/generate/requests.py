# SPDX-License-Identifier: Apache-2.0
"""What rules ask of HTTP requests, and requests at the borders of that: paths covered and next to it, and spellings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from hypothesis import strategies as st

from lab.conformance.generate.picks import pick

__all__ = ["Request", "http_match", "requests"]

Request = Mapping[str, str]
"""``method`` and ``path`` of a flow."""

_METHODS = ("GET", "POST", "DELETE", "HEAD")
_PATHS = ("/", "/shop", "/shop/cart", "/shop/", "/shopping", "/a~b", "/a%2Fb")
_FORMS = ("methods", "paths", "both", "star")
_ASK_EVERYONE: Request = {"method": "GET", "path": "/"}


def http_match(draw: st.DrawFn) -> dict[str, Any]:
    """The value of ``http``."""
    form = pick(draw, _FORMS)
    match: dict[str, Any] = {}
    if form == "star":
        match["methods"] = ["*"]
    elif form != "paths":
        match["methods"] = _different(pick(draw, _METHODS), pick(draw, _METHODS))
    if form != "methods":
        paths = _different(pick(draw, _PATHS), pick(draw, _PATHS))
        match["paths"] = [{pick(draw, ("prefix", "exact")): path} for path in paths]
    return match


def _different(*values: str) -> list[str]:
    return list(dict.fromkeys(values))


def requests(rules: Iterable[Mapping[str, Any]]) -> tuple[Request, ...]:
    """Requests worth making: each path that a rule names, its neighbours, and methods that the rule names or not."""
    found = {tuple(_ASK_EVERYONE.values()): _ASK_EVERYONE}
    for rule in rules:
        for request in _of_match(rule.get("http") or {}):
            found.setdefault(tuple(request.values()), request)
    return tuple(found.values())


def _of_match(match: Mapping[str, Any]) -> Iterator[Request]:
    methods = [method for method in match.get("methods") or () if method != "*"] or ["PUT"]
    named = [path for given in match.get("paths") or () for path in given.values()] or ["/"]
    other = next(method for method in _METHODS if method not in methods)
    for path in named:
        yield from ({"method": method, "path": path} for method in (*methods, other))
        yield from ({"method": methods[0], "path": neighbour} for neighbour in _neighbours(path))


def _neighbours(path: str) -> Iterator[str]:
    """Below it, beside it, above it, and itself spelled in other ways."""
    yield f"{path.rstrip('/')}/below"
    yield f"{path}x"
    yield path.rstrip("/").rpartition("/")[0] or "/"
    yield f"{path}?q=1"
    yield f"/else/..{path}"
    if path[1:2].isalpha():
        yield f"/%{ord(path[1]):02X}{path[2:]}"
