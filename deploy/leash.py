"""Starts a program that cannot outlive its supervisor.

Run as ``python -I -S leash.py SUPERVISOR_PID SIGNAL NICE COMMAND…``. It asks the kernel for SIGNAL when the
supervisor dies, lowers its own priority by NICE, and becomes the command: no process stays in between.
A hook between fork and exec would do the same, but may deadlock in a supervisor that has threads.
"""

import contextlib
import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1
AUTOGROUP = "/proc/self/autogroup"


def main(arguments: list[str]) -> None:
    """Set the leash, then exec. Exits with 3 when the supervisor is gone already."""
    supervisor, number, nice = (int(value) for value in arguments[:3])
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)
        if os.getppid() != supervisor:
            sys.exit(3)
    if nice:
        step_back(nice)
    os.execvp(arguments[3], arguments[3:])  # noqa: S606 - that is its purpose


def step_back(nice: int) -> None:
    """Lower the priority of this process and of its session.

    Where the kernel groups tasks by session (``autogroup`` in sched(7)) a process's own nice value counts only
    within its session: against an engine in another one it is the group's that counts.
    """
    os.nice(nice)
    # a kernel without such groups needs nothing more; pathlib would cost every start its import
    with contextlib.suppress(OSError), open(AUTOGROUP, "w") as group:  # noqa: PTH123
        group.write(str(nice))


if __name__ == "__main__":
    main(sys.argv[1:])
