# SPDX-License-Identifier: Apache-2.0
"""Work in a process of its own: results come back, and whatever ends that process is told and leaves nothing."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import pytest

from lab.conformance.apart import KEPT_OUTPUT, Apart
from lab.conformance.ledger import noted
from lab.errors import DataplaneError, HostError, LabErrors, PolicyError
from lab.garbage import OBJECTS_BEFORE_COLLECTION

CALL = "acme: apply() on node node-1"


def doubled(subject: int, factor: int = 2) -> int:
    return subject * factor


def process(_subject: int) -> int:
    return os.getpid()


def objects_before_collection(_subject: int) -> int:
    return gc.get_threshold()[0]


def refuse(_subject: int) -> None:
    raise LabErrors([PolicyError("one", place="f.yaml:1:2", value=3), HostError("two", next_step="do it")])


def stumble(_subject: int) -> None:
    raise ZeroDivisionError


def unsendable(_subject: int) -> object:
    return lambda: None


def die(_subject: int, how: str) -> None:
    with noted(CALL):
        if how == "exit":
            os._exit(0)
        os.kill(os.getpid(), signal.SIGKILL)


def die_and_leave_a_child(_subject: int, note: str) -> None:
    with noted(CALL):
        child = os.fork()
        if child == 0:
            time.sleep(600)
        Path(note).write_text(str(child))
        os._exit(3)


def leave_a_daemon_behind(_subject: int, note: str) -> None:
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            Path(note).write_text(str(os.getpid()))
            time.sleep(600)
        os._exit(0)


def hang(_subject: int) -> None:
    with noted(CALL):
        time.sleep(600)


def chatter(subject: int, length: int) -> int:
    os.write(1, b"x" * length)
    sys.stderr.write("the end\n")
    return subject


def test_results_and_what_the_subject_keeps_come_from_one_other_process():
    with Apart(lambda: nullcontext(21)) as apart:
        assert apart.call(doubled) == 42
        assert apart.call(doubled, factor=3) == 63
        assert apart.call(process) == apart.call(process) != os.getpid()


def test_garbage_is_looked_for_rarely_there_and_as_ever_here():
    with Apart(lambda: nullcontext(0)) as apart:
        assert apart.call(objects_before_collection) == OBJECTS_BEFORE_COLLECTION > gc.get_threshold()[0]


def test_errors_for_users_come_back_as_they_were():
    with Apart(lambda: nullcontext(0)) as apart:
        with pytest.raises(LabErrors) as raised:
            apart.call(refuse)
        assert str(raised.value) == "f.yaml:1:2: one; given: 3\ntwo; next: do it"
        assert raised.value.exit_code == 3
        assert apart.alive


def test_fault_of_our_own_comes_back_with_its_way():
    with Apart(lambda: nullcontext(0)) as apart, pytest.raises(ZeroDivisionError) as raised:
        apart.call(stumble)
    assert "in stumble" in "".join(raised.value.__notes__)


@pytest.mark.parametrize(("how", "told"), [("exit", "with status 0"), ("kill", "by SIGKILL")])
def test_process_that_a_plugin_ends_is_told_with_the_call_it_was_in(how, told):
    with Apart(lambda: nullcontext(1)) as apart:
        first = apart.call(process)
        with pytest.raises(DataplaneError, match=f"was ended {told}, while it was in acme: apply.. on node node-1"):
            apart.call(die, how)
        assert not apart.alive
        assert apart.call(process) != first


def test_process_that_leaves_a_child_behind_is_told_and_so_ends_the_child(tmp_path: Path):
    with Apart(lambda: nullcontext(1)) as apart, pytest.raises(DataplaneError, match="with status 3"):
        apart.call(die_and_leave_a_child, str(tmp_path / "pid"))
    deadline = time.monotonic() + 20
    left = int((tmp_path / "pid").read_text())
    while running(left) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not running(left)


@pytest.mark.parametrize("end", ["well", "badly"])
def test_daemon_in_a_session_of_its_own_ends_with_the_process(end: str, tmp_path: Path):
    note = tmp_path / "pid"
    with suppress(DataplaneError), Apart(lambda: nullcontext(1)) as apart:
        apart.call(leave_a_daemon_behind, str(note))
        deadline = time.monotonic() + 20
        while not (note.exists() and note.read_text()) and time.monotonic() < deadline:
            time.sleep(0.05)
        if end == "badly":
            apart.call(die, "kill")
    assert not running(int(note.read_text()))


def test_call_that_does_not_return_is_ended_with_its_process():
    with Apart(lambda: nullcontext(1), call_seconds=0.5) as apart:
        hung = apart.call(process)
        with pytest.raises(DataplaneError, match=r"acme: apply\(\) on node node-1 did not return within 0.5 s"):
            apart.call(hang)
        assert not Path(f"/proc/{hung}").exists()


def test_what_is_printed_is_counted_and_only_its_end_is_kept(capfd):
    with Apart(lambda: nullcontext(7)) as apart:
        assert apart.call(doubled) == 14
        assert apart.printed == ""
        assert apart.call(chatter, 5_000_000) == 7
        told = apart.printed
        assert told.startswith("plugins printed 5000008 bytes, at last:\n")
        assert told.endswith("xxx" + "the end\n")
        assert len(told) < KEPT_OUTPUT + 100
    assert capfd.readouterr() == ("", "")


def test_result_that_cannot_be_sent_is_an_error_and_no_hang():
    with Apart(lambda: nullcontext(1)) as apart, pytest.raises((AttributeError, TypeError), match="pickle"):
        apart.call(unsendable)


@contextmanager
def broken(at: str) -> Iterator[int]:
    if at == "begin":
        raise HostError("no such tool")
    yield 1
    raise DataplaneError("acme clings")


def test_subject_that_cannot_be_made_is_the_answer_to_each_call():
    with Apart(lambda: broken("begin")) as apart:
        for _ in range(2):
            with pytest.raises(HostError, match="no such tool"):
                apart.call(doubled)


def test_subject_that_does_not_end_well_is_told_at_the_end():
    with pytest.raises(DataplaneError, match="acme clings"), Apart(lambda: broken("end")) as apart:
        assert apart.call(doubled) == 2


KILLED = """
import os, signal, sys, time
from contextlib import nullcontext
from lab.conformance.apart import Apart

def note(subject):
    print(os.getpid(), file=open(sys.argv[1], "w"), flush=True)
    if os.fork() == 0:
        os.setsid()
        print(os.getpid(), file=open(sys.argv[2], "w"), flush=True)
    time.sleep(600)

with Apart(lambda: nullcontext(1)) as apart:
    apart.call(note)
"""


def test_process_goes_with_the_one_that_began_it(tmp_path: Path):
    (tmp_path / "killed.py").write_text(KILLED)
    notes = [tmp_path / "pid", tmp_path / "daemon"]
    with subprocess.Popen([sys.executable, str(tmp_path / "killed.py"), *map(str, notes)]) as parent:
        deadline = time.monotonic() + 60
        while not all(note.exists() and note.read_text() for note in notes) and time.monotonic() < deadline:
            time.sleep(0.05)
        children = [int(note.read_text()) for note in notes]
        parent.kill()
    while time.monotonic() < deadline and any(map(running, children)):
        time.sleep(0.05)
    assert not any(map(running, children))


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
