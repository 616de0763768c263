# SPDX-License-Identifier: Apache-2.0
"""Commands of nft(8) without its program: libnftables, which that is made of, on a netlink socket that stays open.

To start ``nft`` takes some milliseconds, and at its end the kernel lets it wait until all that it removed is freed: 12
to 16 ms, and a tenth of a second on a busy machine. A socket that stays open waits for nothing.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable
from functools import cache, partial
from threading import Lock
from typing import Final, Protocol

from lab.errors import HostError
from lab.fabric.namespace import Result

__all__ = ["Nft"]

_LIBRARY: Final = "libnftables.so.1"
_JSON: Final = 1 << 4
"""NFT_CTX_OUTPUT_JSON of libnftables(3): commands are JSON, too."""
_ONE_AT_A_TIME: Final = Lock()
"""It is nowhere said that two threads may be in the library at a time."""


class _Inside(Protocol):
    def __call__(self, work: Callable[[], Result]) -> Result: ...


class Nft:
    """libnftables in the network of one host, which ``inside`` enters; ``close`` gives its socket back.

    Raises HostError where the library is missing.
    """

    def __init__(self, inside: _Inside) -> None:
        self._inside = inside
        self._context = inside(_new_context)
        self.close = weakref.finalize(self, _library().nft_ctx_free, self._context)

    def run(self, commands: str) -> str | None:
        """Put all commands (libnftables-json(5)) in force at once, or none; None, or what was wrong with them."""
        return self._inside(partial(_run, self._context, commands.encode()))


def _new_context() -> int:
    library = _library()
    with _ONE_AT_A_TIME:
        context: int | None = library.nft_ctx_new(0)
        if context is None:
            raise HostError("libnftables does not start", next_step="see whether there is memory left")
        library.nft_ctx_output_set_flags(context, _JSON)
        library.nft_ctx_buffer_output(context)
        library.nft_ctx_buffer_error(context)
    return context


def _run(context: int, commands: bytes) -> str | None:
    library = _library()
    with _ONE_AT_A_TIME:
        failed = library.nft_run_cmd_from_buffer(context, commands)
        # Both are asked for each time, because that is what empties them.
        _, said = library.nft_ctx_get_output_buffer(context), library.nft_ctx_get_error_buffer(context)
    if not failed:
        return None
    return (said or b"").decode(errors="replace").strip() or "it does not say why"


@cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        step = "apt-get install nftables"
        raise HostError(f"{_LIBRARY} cannot be loaded: {error}", next_step=step) from error
    context, text = ctypes.c_void_p, ctypes.c_char_p
    for name, arguments, result in (
        ("nft_ctx_new", (ctypes.c_uint32,), context),
        ("nft_ctx_free", (context,), None),
        ("nft_ctx_output_set_flags", (context, ctypes.c_uint), None),
        ("nft_ctx_buffer_output", (context,), ctypes.c_int),
        ("nft_ctx_buffer_error", (context,), ctypes.c_int),
        ("nft_ctx_get_output_buffer", (context,), text),
        ("nft_ctx_get_error_buffer", (context,), text),
        ("nft_run_cmd_from_buffer", (context, text), ctypes.c_int),
    ):
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, result
    return library
