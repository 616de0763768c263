# SPDX-License-Identifier: Apache-2.0
"""The suite on other kernels than the host's: in machines, two at a time, each kernel a column of the matrix.

Each machine runs ``policylab conformance`` as a user would, and files of tests; outcomes and reports come over ssh.
What becomes of one kernel, a crash, a panic or a hang, is the failure of its columns, with the console's end, and not
that of the run.
"""

from __future__ import annotations

import io
import os
import selectors
import shlex
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from lab.conformance.kernel_jobs import Job
from lab.conformance.kernel_version import version_of
from lab.conformance.minimum import held_to_minimum
from lab.conformance.record import Record, Report
from lab.errors import LabError
from lab.fabric.finding import last_line
from lab.fabric.machine.acceleration import accelerator
from lab.fabric.machine.emulator import Hardware, Machine, start_machine
from lab.fabric.machine.kernels import Kernel, get_kernel
from lab.fabric.machine.ssh import make_keys
from lab.fabric.namespace import aside, new_namespace
from lab.fabric.namespace_node import NamespaceNode
from lab.fabric.programs import Programs

__all__ = ["run_on_kernels"]

AT_A_TIME: Final = 2
"""Machines."""
CPUS: Final = {"kvm": 2, "tcg": 1}
"""Of each. To emulated ones a second gives nothing where two cores have two of them to run; when they wait for each
other, each step takes twice the work."""
SILENCE_SECONDS: Final = 900.0
"""Without a word: the machine hangs. An expectation takes seconds there, a generated scenario a minute or two."""
CONNECT_SECONDS: Final = 300.0
"""For ssh to be let in; an emulated machine takes some seconds, on a busy host a minute or two."""
REHEARSAL_SECONDS: Final = 300.0
"""For one; some seconds are usual."""
_PAUSE_SECONDS: Final = 0.05
_MEMORY: Final = 2048
_THERE: Final = "/run/policylab-report"
_BOOT: Final = "kernel.runs-the-suite"

Tell = Callable[[str], None]


def run_on_kernels(names: Sequence[str], jobs: Sequence[Job], profile: str, directory: Path, tell: Tell) -> Report:
    """Run jobs on each of these kernels, one after another in one machine; ``tell`` gets the lines of progress.

    The report's columns are called ``WHAT on KERNEL``; ``profile`` says how much the jobs make up. What each job
    leaves is put into ``directory/kernel-NAME/JOB``. Raises HostError when no machine can be had at all.
    """
    kernels = [get_kernel(name) for name in names]
    namespace = aside(new_namespace)
    try:
        with closing(Programs()) as programs:
            make_keys(programs.directory)
            outside = NamespaceNode("the emulators", namespace)
            runs = _Runs(programs, outside, accelerator(programs, outside, kernels[0]), jobs, directory, tell)
            tell(f"machines run under {runs.accelerated}")
            _rehearse(jobs, programs.directory)
            with ThreadPoolExecutor(AT_A_TIME) as machines:
                records = list(machines.map(runs.of, kernels))
    finally:
        os.close(namespace)
    columns = tuple(
        replace(each, name=_called(each.name, kernel))
        for kernel in kernels
        for job in jobs
        if _is_new_enough(kernel, job)
        for each in job.columns()
    )
    return Report(columns, profile, tuple(record for of_kernel in records for record in of_kernel))


def _rehearse(jobs: Sequence[Job], directory: Path) -> None:
    """Have this host keep what each machine would have to work out anew; what else becomes of it does not matter."""
    for job in jobs:
        words = job.rehearsal(str(directory / "rehearsal"))
        if words is not None:
            with suppress(subprocess.TimeoutExpired):
                subprocess.run(
                    words, stdin=subprocess.DEVNULL, capture_output=True, timeout=REHEARSAL_SECONDS, check=False
                )


def _is_new_enough(kernel: Kernel, job: Job) -> bool:
    return version_of(kernel.release) >= version_of(job.min_kernel)


def _called(judged: str, kernel: Kernel) -> str:
    return f"{judged} on {kernel.name}"


@dataclass(frozen=True, slots=True)
class _Runs:
    """What the runs on all kernels have in common."""

    programs: Programs
    outside: NamespaceNode
    accelerated: str
    jobs: Sequence[Job]
    directory: Path
    tell: Tell

    def of(self, kernel: Kernel) -> list[Record]:
        """One kernel's columns; raises nothing for what the kernel does."""
        name = f"kernel-{kernel.name.replace('.', '-')}"
        hardware = Hardware(kernel, self.accelerated, cpus=CPUS[self.accelerated], memory=_MEMORY)
        machine = start_machine(self.programs, self.outside, name, hardware)
        waiting: list[Job] = []
        for job in self.jobs:
            if _is_new_enough(kernel, job):
                waiting.append(job)
            else:
                self.tell(f"kernel {kernel.name}: {job.name} is not asked for: it needs {job.min_kernel}")
        records: list[Record] = []
        try:
            machine.wait_until_ready()
            self.tell(f"kernel {kernel.name}: {kernel.release} is up")
            with _connected(machine):
                while waiting:
                    records += self._judge(machine, waiting[0])
                    del waiting[0]
        except LabError as error:
            self.tell(f"kernel {kernel.name}: {error}")
            records += [
                Record(_BOOT, "the kernel runs the suite to its end", "core", column.name, "failed", 0.0, str(error))
                for job in waiting
                for column in job.columns()
            ]
        finally:
            machine.process.kill()
            machine.process.wait()
        named = (replace(each, dataplane=_called(each.dataplane, kernel)) for each in records)
        return [held_to_minimum(each, kernel.release) for each in named]

    def _judge(self, machine: Machine, job: Job) -> list[Record]:
        there = f"{_THERE}/{job.name}"
        command = ["sh", "-c", 'mkdir -p "$0" && exec "$@"', there, *job.command(there)]
        with subprocess.Popen(
            _ssh(machine, command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as run:
            try:
                said = [self._told(machine, line) for line in _lines(run, machine)]
            finally:
                run.kill()
        place = self.directory / f"kernel-{machine.kernel.name}" / job.name
        try:
            _fetch(machine, there, place)
            return list(job.records(place))
        except (OSError, subprocess.SubprocessError, tarfile.TarError, SyntaxError, ValueError, KeyError) as error:
            last = "; ".join(said[-3:])
            raise machine.trouble(f"did not run {job.name} to its end (it said: {last or 'nothing'})") from error

    def _told(self, machine: Machine, line: str) -> str:
        self.tell(f"kernel {machine.kernel.name}: {line}")
        return line


@contextmanager
def _connected(machine: Machine) -> Iterator[None]:
    """Keep one connection for all commands: on a serial port the next would find what the last has left there."""
    shared = machine.ssh_config.with_name(f"{machine.name}.ssh")
    words = ["ssh", "-N", "-F", str(machine.ssh_config), machine.name]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as master:
        try:
            deadline = time.monotonic() + CONNECT_SECONDS
            while not shared.exists():
                if master.poll() is not None or time.monotonic() > deadline:
                    raise machine.trouble(f"cannot be reached by ssh ({_last_words(master)})")
                time.sleep(_PAUSE_SECONDS)
            yield
        finally:
            master.kill()


def _last_words(master: subprocess.Popen[bytes]) -> str:
    master.kill()
    return last_line(master.communicate()[1].decode(errors="replace")) or "it does not answer"


def _ssh(machine: Machine, command: list[str]) -> list[str]:
    return ["ssh", "-F", str(machine.ssh_config), machine.name, shlex.join(command)]


def _lines(run: subprocess.Popen[bytes], machine: Machine) -> Iterator[str]:
    """What a command says, line by line as it comes; raises HostError when it is silent for too long."""
    assert run.stdout is not None  # noqa: S101 - it is a pipe
    begun = b""
    with selectors.DefaultSelector() as ready:
        ready.register(run.stdout, selectors.EVENT_READ)
        while True:
            if not ready.select(SILENCE_SECONDS):
                raise machine.trouble(f"was silent for {SILENCE_SECONDS:g} s")
            data = os.read(run.stdout.fileno(), 1 << 16)
            if not data:
                return
            *whole, begun = (begun + data).split(b"\n")
            yield from (line.decode(errors="replace") for line in whole if line.strip())


def _fetch(machine: Machine, there: str, place: Path) -> None:
    """Copy a machine's directory here."""
    pack = _ssh(machine, ["tar", "-C", there, "-c", "."])
    packed = subprocess.run(pack, capture_output=True, timeout=SILENCE_SECONDS, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        for member in archive:
            content = archive.extractfile(member) if member.isfile() else None
            if content is not None and ".." not in Path(member.name).parts:
                (place / member.name).parent.mkdir(parents=True, exist_ok=True)
                (place / member.name).write_bytes(content.read())
