"""A safetensors file is read without torch, and nothing in it is believed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.plain_files import UnfitAdapter
from serve.tensor_file import Tensor, base_shapes, check_layout, check_values, layout_of


def written(file: Path, entries: dict[str, object], data: bytes) -> int:
    """A file of this header and data; where the data begins."""
    header = json.dumps(entries).encode()
    file.write_bytes(len(header).to_bytes(8, "little") + header + data)
    return 8 + len(header)


def test_a_header_is_read_as_places_in_the_file(tmp_path: Path) -> None:
    entries = {"x": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}, "__metadata__": {"by": "me"}}
    start = written(tmp_path / "x.safetensors", entries, bytes(12))
    layout = layout_of(tmp_path / "x.safetensors")
    assert layout.tensors == {"x": Tensor("BF16", (2, 3), start, start + 12)}
    assert (layout.start, layout.size) == (start, start + 12)
    check_layout(layout)
    assert base_shapes(tmp_path) == {"x": (2, 3)}


@pytest.mark.parametrize(
    ("dtype", "unit", "one", "bad"),
    [
        ("BF16", "<u2", 0x3F80, (0x7F80, 0xFF80, 0xFFC1)),
        ("F16", "<u2", 0x3C00, (0x7C00, 0xFC00, 0x7E00)),
        ("F32", "<u4", 0x3F800000, (0x7F800000, 0xFF800000, 0x7FC00000)),
        ("F64", "<u8", 0x3FF0000000000000, (0x7FF0000000000000, 0x7FF8000000000000)),
    ],
)
def test_infinity_and_not_a_number_are_found_in_every_dtype(
    tmp_path: Path, dtype: str, unit: str, one: int, bad: tuple[int, ...]
) -> None:
    file = tmp_path / "x.safetensors"
    for value, fit in ((one, True), *((value, False) for value in bad)):
        data = np.array([one] * 15 + [value], unit)
        entries = {"x": {"dtype": dtype, "shape": [4, 4], "data_offsets": [0, data.nbytes]}}
        written(file, entries, data.tobytes())
        if fit:
            check_values(file, layout_of(file).tensors)
        else:
            with pytest.raises(UnfitAdapter, match="x: has values that are not finite"):
                check_values(file, layout_of(file).tensors)


@given(st.binary(max_size=200))
def test_no_bytes_do_anything_but_parse_or_be_refused(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    file = tmp_path_factory.getbasetemp() / "junk.safetensors"
    file.write_bytes(data)
    try:
        layout = layout_of(file)
    except UnfitAdapter:
        return
    assert layout.start <= layout.size == len(data)
