# SPDX-License-Identifier: Apache-2.0
"""Regular expressions (RE2, whole text) for what Envoy can compare only as text: ranges of ports, and paths."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from lab.policy.resources import HttpMatch, HttpPath, PortRange

__all__ = ["methods_pattern", "one_of", "paths_pattern", "ports_pattern"]

# What stands in a path as it is and never escaped once Envoy has brought it to one form: what RFC 3986 calls
# unreserved (section 2.3), and the slash.
_PLAIN: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/")
# Of a path of nothing but slashes Envoy leaves two (PathUtil::mergeSlashes), unless it was one.
_ROOT: Final = "//?"
_QUERY: Final = r"(\?.*)?"


def one_of(texts: Iterable[str]) -> str:
    """Any of some texts."""
    return "|".join(re.escape(text) for text in texts)


def ports_pattern(ranges: Iterable[PortRange]) -> str:
    """Any port of some ranges, in decimal digits without leading zeros."""
    return "|".join(part for each in ranges for part in _range(each.first, each.last))


def _range(first: int, last: int) -> Iterator[str]:
    """Patterns of one length each: a prefix, one digit that runs, and digits that are free."""
    while first <= last:
        step = 1
        # The longest run of free digits that begins at ``first``, is aligned there, and ends before ``last``.
        while first % (step * 10) == 0 and first and first + step * 10 - 1 <= last:
            step *= 10
        prefix, digit = divmod(first // step, 10)
        top = min(9, digit + (last - first + 1) // step - 1)
        free = "[0-9]" * (len(str(step)) - 1)
        yield f"{prefix or ''}{digit if top == digit else f'[{digit}-{top}]'}{free}"
        first += (top - digit + 1) * step


def methods_pattern(match: HttpMatch) -> str | None:
    """Any of a match's methods, None where every one will do."""
    return None if not match.methods or "*" in match.methods else one_of(match.methods)


def paths_pattern(match: HttpMatch) -> str | None:
    """Any of a match's paths with whatever query, None where every one will do."""
    return "|".join(_path(path) for path in match.paths) or None


def _path(path: HttpPath) -> str:
    """A path as Envoy leaves it, in which some characters may stand escaped; a prefix ends where a segment does."""
    text = _ROOT if path.path == "/" else "".join(_spelled(character) for character in path.path)
    if path.how == "exact":
        return f"{text}{_QUERY}"
    return f"{text}.*" if path.path.endswith("/") else f"{text}(/.*)?{_QUERY}"


def _spelled(character: str) -> str:
    if character in _PLAIN:
        return re.escape(character)
    escaped = "".join(f"%{byte:02X}" for byte in character.encode())
    # A percent sign that stands for itself is always escaped.
    return f"(?i:{escaped})" if character == "%" else f"({re.escape(character)}|(?i:{escaped}))"
