"""Starts a program that cannot outlive its supervisor.

Run as ``python -I -S leash.py SUPERVISOR_PID SIGNAL NICE COMMAND…``. It asks the kernel for SIGNAL when the
supervisor dies, lowers its own priority by NICE, and becomes the command: no process stays in between.
A hook between fork and exec would do the same, but may deadlock in a supervisor that has threads.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Set the leash, then exec. Exits with 3 when the supervisor is gone already."""
    supervisor, number, nice = (int(value) for value in arguments[:3])
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)
        if os.getppid() != supervisor:
            sys.exit(3)
    if nice:
        os.nice(nice)
    os.execvp(arguments[3], arguments[3:])  # noqa: S606 - that is its purpose


if __name__ == "__main__":
    main(sys.argv[1:])
