# SPDX-License-Identifier: Apache-2.0
"""A node that is one unnamed network namespace and nothing else."""

from __future__ import annotations

import ctypes
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor

from dataplanes.api import Completed
from lab.fabric.nft import Nft

CLONE_NEWNET = 0x40000000


class BareNode:
    """Held by a descriptor; ``calls`` are the commands that were run, less those of ``must``."""

    name = "node-1"

    def __init__(self):
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.descriptor = self._in_thread(self._unshare)
        self.calls = []
        self._nft = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._nft is not None:
            self._nft.close()
        os.close(self.descriptor)

    @staticmethod
    def _in_thread(task):
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(task).result()

    def _unshare(self):
        if self._libc.unshare(CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY)

    def inside(self, task):
        """Do something in the namespace, and give what it gives."""

        def entered():
            if self._libc.setns(self.descriptor, CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")
            return task()

        return self._in_thread(entered)

    def run(self, argv, *, stdin="", timeout=30.0):
        self.calls.append(tuple(argv))
        return self._run(argv, stdin, timeout)

    def nft(self, commands):
        self.calls.append(("nft", "-j", "-f"))
        self._nft = self._nft or Nft(self.inside)
        wrong = self._nft.run(commands)
        return Completed(("nft", "-j", "-f", "-"), int(wrong is not None), "", wrong or "")

    def must(self, *argv, stdin=""):
        done = self._run(argv, stdin, 30.0)
        assert done.returncode == 0, done
        return done.stdout

    def _run(self, argv, stdin, timeout):
        entered = ["nsenter", f"--net=/proc/{os.getpid()}/fd/{self.descriptor}", *argv]
        done = subprocess.run(entered, input=stdin, capture_output=True, text=True, timeout=timeout, check=False)
        return Completed(tuple(argv), done.returncode, done.stdout, done.stderr)
