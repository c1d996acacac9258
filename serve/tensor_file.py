"""A safetensors file read without torch: its header, where each tensor lies, whether all values are finite.

https://huggingface.co/docs/safetensors: eight bytes of length, a JSON header, then the tensors without a gap.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np

from serve.plain_files import WEIGHTS, UnfitAdapter, open_plain

MAX_HEADER = 64 * 1024 * 1024  # bytes
STEP = 16 * 1024 * 1024  # bytes of weights looked at at once
_BITS: dict[str, tuple[str, int]] = {  # dtype → unsigned view, mask of the exponent
    "BF16": ("<u2", 0x7F80),
    "F16": ("<u2", 0x7C00),
    "F32": ("<u4", 0x7F800000),
    "F64": ("<u8", 0x7FF0000000000000),
}

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Tensor:
    """One entry of the header. ``begin`` and ``end`` count bytes from the start of the file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Layout:
    """What the header says of a file."""

    tensors: Mapping[str, Tensor]
    start: int  # where the data begins
    size: int  # of the file


def layout_of(file: Path) -> Layout:
    """The header of an adapter's file. Raises UnfitAdapter when it does not parse."""
    with open_plain(file) as stream:
        return _layout(stream, file.name)


def _layout(stream: BinaryIO, name: str) -> Layout:
    size = stream.seek(0, 2)
    stream.seek(0)
    length = int.from_bytes(stream.read(8), "little")
    if size < 8 or length > min(MAX_HEADER, size - 8):
        raise UnfitAdapter(
            f"{name}: says its header has {length} bytes; the file has {size}, and {MAX_HEADER} is the most"
        )
    try:
        header = json.loads(stream.read(length).decode("utf-8"), object_pairs_hook=_without_doubles)
    except (ValueError, RecursionError) as error:
        raise UnfitAdapter(f"{name}: the header does not parse ({error})") from error
    if not isinstance(header, dict):
        raise UnfitAdapter(f"{name}: the header is no object")
    header.pop("__metadata__", None)
    start = 8 + length
    return Layout({key: _tensor(name, key, entry, start) for key, entry in header.items()}, start, size)


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key stands in it twice")
    return made


def _tensor(file: str, name: str, entry: Any, start: int) -> Tensor:
    """Of ``{"dtype": str, "shape": [int, …], "data_offsets": [int, int]}``."""
    if not isinstance(entry, dict) or not isinstance(entry.get("dtype"), str):
        raise UnfitAdapter(f"{file}: the entry of {name} does not parse")
    shape, offsets = entry.get("shape"), entry.get("data_offsets")
    if not isinstance(shape, list) or not isinstance(offsets, list) or len(offsets) != 2:
        raise UnfitAdapter(f"{file}: the entry of {name} does not parse")
    if not all(type(one) is int and one >= 0 for one in [*shape, *offsets]):
        raise UnfitAdapter(f"{file}: the entry of {name} has a size that is no whole number")
    return Tensor(entry["dtype"], tuple(shape), start + offsets[0], start + offsets[1])


def check_layout(layout: Layout) -> None:
    """Each tensor has its shape's bytes, and together they fill the file without overlap, gap or rest."""
    for name, tensor in layout.tensors.items():
        if tensor.dtype not in _BITS:
            raise UnfitAdapter(f"{name}: dtype {tensor.dtype} cannot be served, {', '.join(_BITS)} can")
        if tensor.end - tensor.begin != math.prod(tensor.shape) * np.dtype(_BITS[tensor.dtype][0]).itemsize:
            raise UnfitAdapter(f"{name}: its data does not have its shape's size")
        if tensor.end > layout.size:
            raise UnfitAdapter(f"{name}: the file is cut short, it has {layout.size} bytes of {tensor.end}")
    reached = layout.start
    for name, tensor in sorted(layout.tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if tensor.begin != reached:
            what = "overlaps another's" if tensor.begin < reached else "does not follow the one before"
            raise UnfitAdapter(f"{name}: its data {what}")
        reached = tensor.end
    if reached != layout.size:
        raise UnfitAdapter(f"{WEIGHTS}: {layout.size - reached} bytes at its end belong to no tensor")


def check_values(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """Finite: no exponent of all ones. Reads the bytes, so that no torch is needed for bfloat16."""
    with open_plain(file) as stream:
        for name, tensor in tensors.items():
            view, mask = _BITS[tensor.dtype]
            stream.seek(tensor.begin)
            left = tensor.end - tensor.begin
            while left:
                values = np.frombuffer(stream.read(min(STEP, left)), dtype=view)
                if not values.size:
                    raise UnfitAdapter(f"{name}: the file is cut short")
                if bool(((values & np.array(mask, dtype=view)) == mask).any()):
                    raise UnfitAdapter(f"{name}: has values that are not finite")
                left -= values.nbytes


def base_shapes(model: Path) -> Shapes:
    """Name → shape of every weight of the base, from its safetensors headers; links are followed, since a hub's
    cache is made of them. Raises UnfitAdapter for a file that does not parse.
    """
    shapes = {}
    for file in sorted(model.glob("*.safetensors")):
        with file.open("rb") as stream:
            layout = _layout(stream, file.name)
        shapes.update({name: tensor.shape for name, tensor in layout.tensors.items()})
    return shapes
