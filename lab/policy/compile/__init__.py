# SPDX-License-Identifier: Apache-2.0
"""Resources to snapshots, as Calico's control plane resolves them: what each node's dataplane must enforce.

Never imported by ``lab.oracle``, and never importing it: who is judged and who judges share no mistake.
"""

from lab.policy.compile.compiler import Compiler, compile_snapshots
from lab.policy.compile.kinds import Resource

__all__ = ["Compiler", "Resource", "compile_snapshots"]
