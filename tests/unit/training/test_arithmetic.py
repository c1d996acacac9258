"""Which arithmetic a processor is fast in, from what Linux says of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from training import arithmetic
from training.arithmetic import names_bfloat16, native_bfloat16

EPYC_OF_ZEN_3 = "processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu sse2 avx avx2 fma\n"


@pytest.mark.parametrize(
    ("line", "fast"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16 amx_tile", True),
        ("flags\t\t: fpu avx512f amx_bf16", True),
        ("Features\t: fp asimd sve bf16 i8mm", True),
        ("flags\t\t: fpu avx2 avx512f avx512_vnni", False),  # wide, but bfloat16 is emulated
        ("model name\t: bf16", False),
        ("bugs\t\t: bf16", False),
    ],
)
def test_only_instructions_for_bfloat16_make_it_fast(line: str, fast: bool) -> None:
    assert names_bfloat16(EPYC_OF_ZEN_3 + "\n" + line + "\n") is fast


def test_where_nothing_is_known_it_is_not_fast(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arithmetic, "CPUINFO", tmp_path / "none")
    native_bfloat16.cache_clear()
    assert native_bfloat16() is False
    native_bfloat16.cache_clear()
