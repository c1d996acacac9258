"""What must not reach an engine, and why it is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback.manifest import Manifest, fingerprint
from serve.verification import Base, UnfitAdapter, base_shapes, check_tensors, header_of, verify
from tests.unit.serve.folders import IN, MODULE, OUT, adapter_folder, tensors, tiny_base

A, B = (f"base_model.model.{MODULE}.lora_{side}.weight" for side in "AB")
NAME = "a-000001-0123456789ab"


def checked(tmp_path: Path, **made: Any) -> Manifest:
    base = tiny_base(tmp_path / "base")
    folder = adapter_folder(tmp_path / "adapters", NAME, base, **made)
    return verify(folder, Base(fingerprint(str(base)), base_shapes(base)), rank_cap=16)


def test_a_published_adapter_is_fit(tmp_path: Path) -> None:
    assert checked(tmp_path).id == NAME


def broken(name: str, value: np.ndarray[Any, Any] | None) -> dict[str, np.ndarray[Any, Any]]:
    made = tensors()
    if value is None:
        del made[name]
    else:
        made[name] = value
    return made


@pytest.mark.parametrize(
    ("made", "why"),
    [
        ({"config": {"r": 17}}, "rank 17"),
        ({"config": {"r": 4}}, "rank 4"),
        ({"config": {"peft_type": "LOHA"}}, "peft_type"),
        ({"config": {"use_dora": True}}, "use_dora"),
        ({"config": {"modules_to_save": ["score"]}}, "modules_to_save"),
        ({"config": {"bias": "all"}}, "bias"),
        ({"of_base": "0123456789abcdef"}, "trained on base 0123456789abcdef"),
        ({"weights": broken(A, None)}, "no A and B"),
        ({"weights": broken(A, np.ones((2, IN - 1), np.float32))}, "the base needs"),
        ({"weights": broken(B, np.ones((OUT + 1, 2), np.float32))}, "the base needs"),
        ({"weights": broken(A, np.ones((2, IN), np.int32))}, "dtype I32"),
        ({"weights": broken(A, np.full((2, IN), np.nan, np.float32))}, "not finite"),
        ({"weights": broken(B, np.full((OUT, 2), np.inf, np.float16))}, "not finite"),
        (
            {"weights": {**tensors(), "base_model.model.lm_head.weight": np.ones(2, np.float32)}},
            "no LoRA weight",
        ),
        (
            {"weights": {key.replace("q_proj", "x_proj"): one for key, one in tensors().items()}},
            "the base has no model.layers.0.self_attn.x_proj",
        ),
    ],
)
def test_an_unfit_adapter_is_refused_with_the_reason(tmp_path: Path, made: dict[str, Any], why: str) -> None:
    with pytest.raises(UnfitAdapter, match=why):
        checked(tmp_path, **made)


def test_changed_bytes_stray_files_and_a_missing_manifest_are_refused(tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base")
    folder = adapter_folder(tmp_path / "adapters", NAME, base)
    fits = Base(fingerprint(str(base)), base_shapes(base))
    (folder / "extra.bin").write_text("x")
    with pytest.raises(UnfitAdapter, match="extra"):
        verify(folder, fits, rank_cap=16)
    (folder / "extra.bin").unlink()
    verify(folder, fits, rank_cap=16)
    config = folder / "adapter_config.json"
    config.write_text(config.read_text() + " ")
    with pytest.raises(UnfitAdapter, match="sha256"):
        verify(folder, fits, rank_cap=16)
    (folder / "manifest.json").unlink()
    with pytest.raises(UnfitAdapter, match="missing"):
        verify(folder, fits, rank_cap=16)


def test_a_bfloat16_infinity_is_found(tmp_path: Path) -> None:
    body = np.array([0x3F80] * 16, "<u2")
    for bad, refused in ((0x3F80, False), (0x7F80, True), (0xFFC1, True)):
        body[5] = bad
        entry = {"dtype": "BF16", "shape": [2, 8], "data_offsets": [0, 32]}
        second = {"dtype": "BF16", "shape": [8, 2], "data_offsets": [32, 64]}
        header = json.dumps({A: entry, B: second}).encode()
        file = tmp_path / "x.safetensors"
        file.write_bytes(len(header).to_bytes(8, "little") + header + body.tobytes() * 2)
        if refused:
            with pytest.raises(UnfitAdapter, match="not finite"):
                check_tensors(file, 2, None)
        else:
            check_tensors(file, 2, None)


@given(st.binary(max_size=200))
def test_no_bytes_do_anything_but_parse_or_be_refused(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    file = tmp_path_factory.getbasetemp() / "junk.safetensors"
    file.write_bytes(data)
    try:
        header_of(file)
    except UnfitAdapter:
        return
