"""Freed memory goes back to the system."""

from __future__ import annotations

import subprocess
import sys

HOLD = """
import psutil, torch
from training.memory import give_back
rss = lambda: psutil.Process().memory_info().rss
small = [torch.ones(4096) for _ in range(20_000)]  # 16 KiB each, so from the heap; 320 MB together
pin = [torch.ones(16)]
full = rss()
del small
give_back()
print(full - rss())
"""


def test_what_is_freed_is_given_back() -> None:
    ran = subprocess.run([sys.executable, "-c", HOLD], capture_output=True, text=True, check=True)
    assert int(ran.stdout) > 250_000_000
