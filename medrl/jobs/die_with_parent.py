"""``die_with_parent.py PARENT_PID COMMAND...`` becomes COMMAND, which the kernel kills when the process PARENT_PID ends.

It runs before the command and not in a ``preexec_fn``, which can deadlock where the parent has threads.
"""

from __future__ import annotations

import os
import signal
import sys

PR_SET_PDEATHSIG = 1
VARIABLE = "MEDRL_DIES_WITH_PARENT"
"""Set for every job, so that a medrl process that another program started below a job (``wandb agent``) does the same."""


def die_with_parent(parent: int) -> None:
    """Ask the kernel for SIGKILL when the parent ends; at once where it has ended already. Linux alone has this."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])
