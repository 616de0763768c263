# SPDX-License-Identifier: Apache-2.0
"""BPF C to instructions: compiled with bcc once for each source, flags and headers, and kept on disk.

What was compiled once is loaded without bcc, clang or headers.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lab.errors import BpfError, HostError, Place
from lab.fabric.apt import apt_install
from lab.fabric.bpf.bcc_process import BCC_FOLDER
from lab.fabric.bpf.headers import Headers, cache_folder, find_headers
from lab.fabric.bpf.maps import MapDefinition
from lab.fabric.bpf.programs import ProgramKind

__all__ = ["BpfSource", "Code", "Compiled", "compiled", "shipped_bpf", "verifier_log"]

_PACKAGE: Final = Path(__file__).resolve().parents[2]
_SHIPPED: Final = (_PACKAGE / "_data" / "bpf", _PACKAGE.parent / "bpf")
# Raised when what is kept on disk means something else than before.
_FORMAT: Final = 2
# A compilation takes half a second here, half a minute in an emulated machine.
_SECONDS: Final = 300
_INCLUDE: Final = re.compile(r'#include "(?P<name>[^"/]+)"')
_COMPLAINT: Final = re.compile(
    r"^(?P<file>[^\s:]+):(?P<line>\d+):(?P<column>\d+): (fatal )?error: (?P<what>.*)$", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class BpfSource:
    """A C file with the macros it is compiled with; it may include headers that lie beside it."""

    path: Path
    macros: tuple[tuple[str, str], ...] = ()

    @property
    def flags(self) -> list[str]:
        """What the compiler is told."""
        return [f"-D{name}={value}" for name, value in self.macros]


def shipped_bpf(name: str) -> BpfSource:
    """A C file that comes with policylab: from the package when installed, beside it in a checkout."""
    return BpfSource(next((folder for folder in _SHIPPED if folder.is_dir()), _SHIPPED[0]) / name)


@dataclass(frozen=True, slots=True)
class Code:
    """Instructions of one program; at each of the offsets the descriptor of the map named there is missing.

    ``constants`` are the offsets at which the value of a constant is missing, with the constant's number.
    """

    instructions: bytes
    relocations: tuple[tuple[int, str], ...]
    constants: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Compiled:
    """What a C file became: programs by function, the maps they want, the licence they state."""

    licence: str
    maps: tuple[MapDefinition, ...]
    programs: Mapping[str, Code]


def compiled(source: BpfSource) -> Compiled:
    """The source's instructions, from disk where they are kept, else from bcc.

    Raises BpfError with the compiler's first complaint; HostError where bcc or headers are missing and nothing is kept.
    """
    folder = cache_folder() / "bpf" / _fingerprint(source)
    try:
        headers = _headers()
    except HostError:
        if kept := next((each for path in sorted(folder.glob("*.json")) if (each := _read(path))), None):
            return kept
        raise
    place = folder / f"{hashlib.sha256(headers.name.encode()).hexdigest()[:16]}.json"
    if kept := _read(place):
        return kept
    answer = _ask_bcc(source, headers)
    _keep(place, answer)
    return _parsed(answer)


def verifier_log(source: BpfSource, program: str, kind: ProgramKind) -> str:
    """What the verifier says of a program, lines of the source in between; raises as ``compiled``."""
    verify = {"program": program, "kind": kind.type, "attach_type": kind.attach_type}
    answer: str = _ask_bcc(source, _headers(), verify=verify)
    return answer


def _headers() -> Headers:
    if not Path(BCC_FOLDER, "bcc").is_dir():
        raise HostError("bcc is not installed, which compiles BPF programs", next_step=apt_install("python3-bpfcc"))
    return find_headers()


def _fingerprint(source: BpfSource) -> str:
    """Tells apart whatever compiles to something else; where the files lie does not matter."""
    lines = (line for line in _text(source.path, set()) if not line.startswith("#line "))
    whole = "\n".join((str(_FORMAT), *source.flags, *lines))
    return hashlib.sha256(whole.encode()).hexdigest()


def _read(place: Path) -> Compiled | None:
    """What is kept there; what cannot be read is as good as nothing."""
    try:
        return _parsed(json.loads(place.read_text(encoding="ascii")))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _keep(place: Path, answer: object) -> None:
    """Write it aside and move it to its place; a cache that cannot be written is no reason to fail."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=place.parent, prefix=".new-", delete=False, encoding="ascii") as file:
            json.dump(answer, file)
        Path(file.name).rename(place)
    except OSError:
        return


def _parsed(answer: Mapping[str, Any]) -> Compiled:
    return Compiled(
        answer["licence"],
        tuple(MapDefinition(**each) for each in answer["maps"]),
        {
            name: Code(
                base64.b64decode(each["code"]),
                tuple((offset, name) for offset, name in each["relocations"]),
                tuple((offset, number) for offset, number in each["constants"]),
            )
            for name, each in answer["programs"].items()
        },
    )


def _ask_bcc(source: BpfSource, headers: Headers, **more: object) -> Any:
    headers.prepare()
    text = "\n".join((*_text(source.path, set()), ""))
    request = {"text": text, "flags": source.flags, **more}
    command = [sys.executable, "-P", "-m", "lab.fabric.bpf.bcc_process"]
    try:
        ended = subprocess.run(
            command, input=json.dumps(request), capture_output=True, text=True, timeout=_SECONDS, check=False,
            env=_environment(headers),
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise BpfError(f"bcc did not compile it within {_SECONDS} s", place=str(source.path)) from error
    if ended.returncode:
        raise _not_compiled(source, ended.stderr)
    return json.loads(ended.stdout)


def _text(path: Path, seen: set[Path]) -> Iterator[str]:
    """A file's lines with the headers beside it in their places, once each, and with line numbers that say where.

    bcc rewrites what is done with maps in the one file that it is given, and in no header; it puts lines of its own at
    the top and at the start of functions.
    """
    seen.add(path)
    yield f'#line 1 "{path}"'
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        included = _INCLUDE.match(line)
        header = path.with_name(included["name"]) if included else None
        if header is None or not header.is_file():
            yield line
        elif header not in seen:
            yield from _text(header, seen)
        if included or (line.endswith("{") and not line.startswith((" ", "\t"))):
            yield f'#line {number + 1} "{path}"'


def _environment(headers: Headers) -> dict[str, str]:
    """This process's own, with the place of the headers and of this package."""
    package = str(Path(__file__).parents[3])
    kernel = {} if headers.folder is None else {"BCC_KERNEL_SOURCE": str(headers.folder)}
    return os.environ | {"PYTHONPATH": package} | kernel


def _not_compiled(source: BpfSource, said: str) -> BpfError:
    """The first complaint of the compiler, or the last line of whatever else went wrong."""
    if found := _COMPLAINT.search(said):
        return BpfError(found["what"], place=Place(found["file"], int(found["line"]), int(found["column"])))
    lines = [line for line in said.splitlines() if line.strip()]
    return BpfError(f"bcc did not compile it: {lines[-1] if lines else 'it gave no reason'}", place=str(source.path))
