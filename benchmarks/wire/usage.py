"""What a process and all its children have used, from /proc."""

from __future__ import annotations

import psutil


def family(pid: int) -> list[psutil.Process]:
    """The process and its descendants."""
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def cpu_seconds(pid: int) -> float:
    """User and system time of the family so far; the kernel tells it in hundredths of a second."""
    times = [one.cpu_times() for one in family(pid)]
    return float(sum(one.user + one.system for one in times))


def memory_bytes(pid: int) -> int:
    """The family's proportional share of memory (PSS): pages that several map are counted once."""
    return sum(int(one.memory_full_info().pss) for one in family(pid))
