# SPDX-License-Identifier: Apache-2.0
"""The selector language: text in, a fast test of labels out, with the canonical form and id that Calico gives it.

The grammar is ``selector.lark``, beside this file; the nodes of the tree are in ``selector_ast``.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha224

from lab.policy.selector_ast import (
    All,
    And,
    Matcher,
    Node,
    SelectorSyntaxError,
    keys_of,
    negate,
    prefix_keys,
    rewrite,
)

__all__ = ["Selector", "SelectorSyntaxError", "all_of", "parse_selector"]

_CACHED_TEXTS = 512
"""Each takes 1.7 KB; generated policies have another text every time, for hours."""


@dataclass(frozen=True, slots=True)
class Selector:
    """A parsed selector; two are equal when their text is.

    Attributes:
        text: what the file says, or the canonical text of a selector that was made from others.
        node: the root of the parsed tree.
        canonical: the one text that all selectors of the same tree share.
        matches: a function from labels to whether the selector holds for them.
    """

    text: str
    node: Node = field(compare=False, repr=False)
    canonical: str = field(compare=False, repr=False)
    matches: Matcher = field(compare=False, repr=False)

    @classmethod
    def of(cls, node: Node, text: str | None = None) -> Selector:
        """The selector of a tree; ``text`` is its canonical text unless it was read from one."""
        canonical = str(node)
        return cls(canonical if text is None else text, node, canonical, node.matcher())

    @property
    def uid(self) -> str:
        """Calico's id of the canonical text."""
        digest = sha224(f"s:{self.canonical}".encode(errors="surrogatepass")).digest()
        return "s:" + urlsafe_b64encode(digest).decode().rstrip("=")

    def keys(self) -> frozenset[str]:
        """The keys of all labels that the selector looks at."""
        return frozenset(keys_of(self.node))

    def prefixed(self, prefix: str) -> Selector:
        """The same selector over labels whose keys all begin with ``prefix``."""
        return Selector.of(prefix_keys(self.node, prefix))

    def negated(self) -> Selector:
        """The selector that holds exactly where this one does not."""
        return Selector.of(negate(self.node))

    def rewrite(self, change: Callable[[Node], Node]) -> Selector:
        """The selector with every node replaced by what ``change`` makes of it, operands first."""
        return Selector.of(rewrite(self.node, change))

    def __reduce__(self) -> tuple[Callable[[Node, str], Selector], tuple[Node, str]]:
        """Selectors travel between processes without their compiled function."""
        return Selector.of, (self.node, self.text)


def all_of(*selectors: Selector) -> Selector:
    """The conjunction: of none ``all()``, of one that one, of more an And of their trees as they are."""
    if len(selectors) == 1:
        return selectors[0]
    return Selector.of(And(tuple(selector.node for selector in selectors)) if selectors else All())


@lru_cache(maxsize=_CACHED_TEXTS)
def parse_selector(text: str) -> Selector:
    """Read a selector; empty or blank text is ``all()``.

    Raises:
        SelectorSyntaxError: the text is not a selector, or nests too deep.
    """
    from lab.policy.selector_parser import parse_tree

    return Selector.of(parse_tree(text), text)
