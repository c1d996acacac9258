"""Which arithmetic this processor is fast in. Imports no torch: the launcher asks, too."""

from __future__ import annotations

import functools
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
INSTRUCTIONS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})  # x86's two, and Arm's


def names_bfloat16(cpuinfo: str) -> bool:
    """Whether Linux's description of the processors names instructions for bfloat16."""
    told = (line.partition(":") for line in cpuinfo.splitlines())
    return any(
        INSTRUCTIONS & set(value.split()) for name, _, value in told if name.strip() in ("flags", "Features")
    )


@functools.cache
def native_bfloat16() -> bool:
    """Whether products of bfloat16 matrices are computed by instructions made for them.

    Where they are, bfloat16 is two to three times as fast as float32; where they are emulated (AVX2), 75 times
    slower. Read from the processor and not timed: a run that is resumed must compute as it began. False where
    it cannot be known, for float32 is never slow.
    """
    try:
        return names_bfloat16(CPUINFO.read_text())
    except OSError:
        return False
