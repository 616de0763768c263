# SPDX-License-Identifier: Apache-2.0
"""Do the unit tests notice small mistakes in a room of the house? ``python tests/mutation oracle --sample 100``.

Each mistake is made in a process of its own, by an import hook: no file is ever changed. Tests stop at the first one
that fails; a mistake that none notices is printed. docs/design/model.md says what came of it.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType

from mutators import Mutant, mutants, mutated

ROOT = Path(__file__).resolve().parents[2]
_COMPILER = (
    "tests/unit/test_compile_[!cr]*.py",
    "tests/unit/test_compile_r[!e]*.py",
    "tests/unit/test_compile_reader.py",
    "tests/unit/test_compile_changes.py",
)
# By room: the tests that are about each part of it. Tables first: most mistakes are found by them, and properties take
# longer.
TESTS: dict[str, dict[str, tuple[str, ...]]] = {
    "oracle": {
        "lab/oracle": (
            "tests/unit/test_oracle_[!p]*.py",
            "tests/unit/test_cli_explain.py",
            "tests/unit/test_sidecar_policy.py",
            "tests/unit/test_oracle_properties.py",
        )
    },
    "policy": {
        "lab/policy/compile": _COMPILER,
        "lab/policy/read": ("tests/unit/policy_read/test_*.py", "tests/unit/test_topology_policies.py"),
        "lab/policy": (
            "tests/unit/test_selector*.py",
            "tests/unit/test_blocklist.py",
            "tests/unit/policy_read/test_*.py",
            "tests/unit/test_topology_policies.py",
            *_COMPILER,
        ),
    },
}
_PATIENCE = 4.0
"""A mistake that makes the tests take that many times as long as they do without it has been noticed."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """A mutant of a module."""

    module: str
    path: Path
    mutant: Mutant

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.mutant.line}: {self.mutant.what}"


class _Loader(importlib.machinery.SourceFileLoader):
    """Loads a module with a mistake in it."""

    def __init__(self, mistake: Mistake) -> None:
        super().__init__(mistake.module, str(mistake.path))
        self._mistake = mistake

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002 - there is but one module
        tree = mutated(ast.parse(self._mistake.path.read_text()), self._mistake.mutant.index)
        return compile(tree, str(self._mistake.path), "exec", dont_inherit=True)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds one module of all before anybody else does."""

    def __init__(self, mistake: Mistake) -> None:
        self._mistake = mistake

    def find_spec(
        self, fullname: str, _path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._mistake.module:
            return None
        loader = _Loader(self._mistake)
        return importlib.util.spec_from_file_location(fullname, self._mistake.path, loader=loader)


def mistakes(room: str) -> list[Mistake]:
    """All mistakes in a room; a module of mere definitions has none."""
    found: list[Mistake] = []
    for path in sorted((ROOT / "lab" / room).rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        if path.name != "__init__.py":
            found += [Mistake(module, path, mutant) for mutant in mutants(ast.parse(path.read_text()))]
    return found


def survives(mistake: Mistake | None, tests: Sequence[str], limit: float | None, output: str = os.devnull) -> bool:
    """Whether all tests pass, in a process of its own that ends when its time is up; what they print goes to a file."""
    child = os.fork()
    if child == 0:
        os.setsid()
        try:
            status = _run(mistake, tests, output)
        except BaseException:  # noqa: BLE001 - a mistake may raise anything; this process ends with it
            status = 1
        os._exit(status)
    deadline = None if limit is None else time.monotonic() + limit
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status == 0
        if deadline is not None and time.monotonic() > deadline:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return False
        time.sleep(0.05)


def _run(mistake: Mistake | None, tests: Sequence[str], output: str) -> int:
    import hypothesis
    import pytest

    printed = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(printed, 1)
    os.dup2(printed, 2)
    if mistake is not None:
        sys.meta_path.insert(0, _Finder(mistake))
        # Before pytest comes with an import hook of its own, which would read the file as it is.
        importlib.import_module(mistake.module)
    # That a property fails is enough to know; the smallest example is not wanted.
    phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
    hypothesis.settings.register_profile(
        "mutation",
        database=None,
        deadline=None,
        phases=phases,
        report_multiple_bugs=False,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    hypothesis.settings.load_profile("mutation")
    return int(pytest.main(["-x", "-q", "--timeout=0", "-p", "no:cacheprovider", *tests]))


@dataclass(slots=True)
class Suite:
    """The tests that are about all modules below a path, and how long a mistake may take them."""

    prefix: str
    tests: list[str]
    limit: float | None = None

    def measure(self, scratch: Path) -> str | None:
        """Find the limit; what the tests print when they fail as things are."""
        output = scratch / "unchanged.txt"
        begun = time.monotonic()
        passed = survives(None, self.tests, None, str(output))
        self.limit = (time.monotonic() - begun) * _PATIENCE + 30
        return None if passed else output.read_text()


def main() -> int:
    """Take a sample, and print what survives; the exit code is 1 if the tests fail without any mistake."""
    parser = argparse.ArgumentParser(prog="python tests/mutation", description=__doc__)
    parser.add_argument("room", choices=TESTS)
    parser.add_argument("--sample", type=int, help="how many mistakes to make, drawn at random; all without it")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="draws the same sample again")
    parser.add_argument("--only", default="", help="only modules whose path holds this")
    parser.add_argument("--without", help="no modules whose path holds this")
    arguments = parser.parse_args()
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    found = [mistake for mistake in mistakes(arguments.room) if arguments.only in str(mistake.path)]
    if arguments.without:
        found = [mistake for mistake in found if arguments.without not in str(mistake.path)]
    chosen = found
    if arguments.sample is not None:
        draw = random.Random(arguments.seed)  # noqa: S311 - a sample, not a secret
        chosen = draw.sample(found, min(arguments.sample, len(found)))
    suites = [Suite(prefix, _files(patterns)) for prefix, patterns in TESTS[arguments.room].items()]
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = scratch
        return _judge(chosen, len(found), suites, f"--seed {arguments.seed}", Path(scratch))


def _files(patterns: Sequence[str]) -> list[str]:
    return [str(path) for pattern in patterns for path in sorted(ROOT.glob(pattern))]


def _judge(chosen: Sequence[Mistake], total: int, suites: Sequence[Suite], how: str, scratch: Path) -> int:
    survivors = 0
    for number, mistake in enumerate(chosen, 1):
        suite = next(suite for suite in suites if mistake.path.is_relative_to(ROOT / suite.prefix))
        if suite.limit is None and (printed := suite.measure(scratch)) is not None:
            _say(f"{printed}\nthe tests of {suite.prefix} fail without any mistake")
            return 1
        if survives(mistake, suite.tests, suite.limit):
            survivors += 1
            _say(f"SURVIVED {mistake}")
        if number % 20 == 0 or number == len(chosen):
            noticed = number - survivors
            _say(f"{noticed} of {number} noticed ({noticed / number:.1%}), drawn from {total} with {how}")
    return 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
