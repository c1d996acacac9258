"""Proves an adapter's files before any engine sees them.

Checked: the manifest and each file's hash; that there is nothing but safetensors to load; the rank; that the
base is ours; that each tensor fits the base's own weight; that every value is finite. An engine checks
little of this itself: it accepts a wrong base and copies small tensors into a slice.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from feedback.errors import HeedError, InvalidRecord
from feedback.manifest import Manifest, read_manifest, verify_files

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
MAX_HEADER = 64 * 1024 * 1024
STEP = 16 * 1024 * 1024  # bytes of weights looked at at once
_BITS: dict[str, tuple[str, int]] = {  # dtype → unsigned view, mask of the exponent
    "BF16": ("<u2", 0x7F80),
    "F16": ("<u2", 0x7C00),
    "F32": ("<u4", 0x7F800000),
    "F64": ("<u8", 0x7FF0000000000000),
}

Shapes = dict[str, tuple[int, ...]]


class UnfitAdapter(HeedError):
    """The adapter must not be served; the message says why."""


@dataclass(frozen=True, slots=True)
class Base:
    """What an adapter must fit: the base's fingerprint and the shape of each of its weights. Both are
    empty where the gateway's machine does not hold the base; then the probe alone proves the fit.
    """

    fingerprint: str = ""
    shapes: Mapping[str, tuple[int, ...]] | None = None


def base_shapes(model: Path) -> Shapes:
    """Name → shape of every weight of the base, from its safetensors headers."""
    shapes: Shapes = {}
    for file in sorted(model.glob("*.safetensors")):
        shapes.update({name: tuple(entry["shape"]) for name, entry in header_of(file)[0].items()})
    return shapes


def header_of(file: Path) -> tuple[dict[str, dict[str, Any]], int]:
    """Tensor name → dtype, shape, offsets; and where the data begins. Raises UnfitAdapter."""
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if length > MAX_HEADER:
                raise UnfitAdapter(f"{file.name}: the header is over {MAX_HEADER} bytes")
            header = json.loads(stream.read(length))
    except (OSError, ValueError) as error:
        raise UnfitAdapter(f"{file.name}: is not a safetensors file ({error})") from error
    if not isinstance(header, dict):
        raise UnfitAdapter(f"{file.name}: the header is no object")
    header.pop("__metadata__", None)
    for name, entry in header.items():
        if not _is_entry(entry):
            raise UnfitAdapter(f"{file.name}: the entry of {name} does not parse")
    return header, 8 + length


def _is_entry(entry: Any) -> bool:
    """Whether it is ``{"dtype": str, "shape": [int, …], "data_offsets": [int, int]}``."""
    if not isinstance(entry, dict) or not isinstance(entry.get("dtype"), str):
        return False
    shape, offsets = entry.get("shape"), entry.get("data_offsets")
    if not isinstance(shape, list) or not isinstance(offsets, list) or len(offsets) != 2:
        return False
    return all(type(one) is int and one >= 0 for one in [*shape, *offsets])


def verify(folder: Path, base: Base, *, rank_cap: int) -> Manifest:
    """The manifest of an adapter that is fit to be loaded. Raises UnfitAdapter saying what is wrong."""
    try:
        manifest = read_manifest(folder)
        verify_files(folder, manifest, folder.parent)
    except (InvalidRecord, OSError) as error:
        raise UnfitAdapter(str(error)) from error
    if manifest.id != folder.name:
        raise UnfitAdapter(f"the manifest is of {manifest.id}, the folder of {folder.name}")
    if base.fingerprint and manifest.base != base.fingerprint:
        raise UnfitAdapter(f"trained on base {manifest.base}, served is {base.fingerprint}")
    rank = check_config(folder / CONFIG, rank_cap)
    check_tensors(folder / WEIGHTS, rank, base.shapes)
    return manifest


def check_config(file: Path, rank_cap: int) -> int:
    """The LoRA rank. Raises UnfitAdapter for anything but plain LoRA of a rank the engines take."""
    try:
        config = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise UnfitAdapter(f"{file.name}: does not parse ({error})") from error
    rank = config.get("r")
    if config.get("peft_type") != "LORA":
        raise UnfitAdapter(f"{file.name}: peft_type is {config.get('peft_type')!r}, not 'LORA'")
    if not isinstance(rank, int) or not 1 <= rank <= rank_cap:
        raise UnfitAdapter(f"{file.name}: rank {rank} is not within 1 and {rank_cap}")
    for option in ("use_dora", "modules_to_save", "rank_pattern", "alpha_pattern", "lora_bias"):
        if config.get(option):
            raise UnfitAdapter(f"{file.name}: {option} cannot be served")
    if config.get("bias", "none") != "none":
        raise UnfitAdapter(f"{file.name}: bias cannot be served")
    return rank


def check_tensors(file: Path, rank: int, shapes: Mapping[str, tuple[int, ...]] | None) -> None:
    """Each module has an A and a B that fit the base's weight, and all values are finite."""
    header, start = header_of(file)
    sides: dict[str, set[str]] = {}
    for name, entry in header.items():
        module, side = _split(name, file)
        sides.setdefault(module, set()).add(side)
        shape = tuple(entry["shape"])
        _check_shape(name, shape, (module, side), rank=rank, shapes=shapes)
    halves = sorted(module for module, found in sides.items() if found != {"A", "B"})
    if halves or not sides:
        raise UnfitAdapter(f"{file.name}: no A and B for {halves[0] if halves else 'any module'}")
    _check_values(file, header, start)


def _split(name: str, file: Path) -> tuple[str, str]:
    for side in ("A", "B"):
        if name.startswith(PREFIX) and name.endswith(f".lora_{side}.weight"):
            return name.removeprefix(PREFIX).removesuffix(f".lora_{side}.weight"), side
    raise UnfitAdapter(f"{file.name}: {name} is no LoRA weight")


def _check_shape(
    name: str,
    shape: tuple[int, ...],
    where: tuple[str, str],
    *,
    rank: int,
    shapes: Mapping[str, tuple[int, ...]] | None,
) -> None:
    module, side = where
    along = 0 if side == "A" else 1
    if len(shape) != 2 or shape[along] != rank:
        raise UnfitAdapter(f"{name}: shape {list(shape)} does not have rank {rank}")
    if shapes is None:
        return
    weight = shapes.get(f"{module}.weight")
    if weight is None:
        raise UnfitAdapter(f"{name}: the base has no {module}")
    expected = (rank, weight[1]) if side == "A" else (weight[0], rank)
    if shape != expected:
        raise UnfitAdapter(f"{name}: shape {list(shape)}, the base needs {list(expected)}")


def _check_values(file: Path, header: Mapping[str, dict[str, Any]], start: int) -> None:
    """Finite: no exponent of all ones. Reads the bytes, so that no torch is needed for bfloat16."""
    with file.open("rb") as stream:
        for name, entry in header.items():
            if entry["dtype"] not in _BITS:
                raise UnfitAdapter(f"{name}: dtype {entry['dtype']} cannot be served")
            view, mask = _BITS[entry["dtype"]]
            low, high = entry["data_offsets"]
            if high - low != math.prod(entry["shape"]) * np.dtype(view).itemsize:
                raise UnfitAdapter(f"{name}: its data does not have its shape's size")
            stream.seek(start + low)
            left = high - low
            while left:
                values = np.frombuffer(stream.read(min(STEP, left)), dtype=view)
                if not values.size:
                    raise UnfitAdapter(f"{name}: the file is cut short")
                if bool(((values & np.array(mask, dtype=view)) == mask).any()):
                    raise UnfitAdapter(f"{name}: has values that are not finite")
                left -= values.nbytes
