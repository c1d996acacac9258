"""Adapter folders made by hand, without torch, that fit a tiny base made by hand."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from feedback.manifest import Manifest, fingerprint, sha256_of, write_manifest
from feedback.protocols import AdapterRecord, AdapterState

MODULE = "model.layers.0.self_attn.q_proj"
OUT, IN, RANK = 12, 8, 2
PROBE = {
    "prompt_token_ids": [1, 2, 3],
    "completion_token_ids": [4, 5],
    "logprobs": [-0.5, -0.5],
    "base_logprobs": [-1.0, -1.0],
}


PLAIN = "0fea8d10068c"  # what the id of a folder ends in that is made without weights and configuration of its own


def tiny_base(folder: Path) -> Path:
    """A base of one weight."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    save_file({f"{MODULE}.weight": np.zeros((OUT, IN), np.float32)}, folder / "model.safetensors")
    return folder


def tensors(rank: int = RANK) -> dict[str, np.ndarray[Any, Any]]:
    """A and B that fit the tiny base."""
    name = f"base_model.model.{MODULE}.lora_"
    return {
        f"{name}A.weight": np.ones((rank, IN), np.float32),
        f"{name}B.weight": np.ones((OUT, rank), np.float32),
    }


def adapter_folder(
    root: Path,
    name: str,
    base: Path,
    *,
    weights: dict[str, np.ndarray[Any, Any]] | None = None,
    config: dict[str, Any] | None = None,
    probes: tuple[dict[str, Any], ...] = (PROBE,),
    of_base: str | None = None,
) -> Path:
    """A published folder."""
    folder = root / name
    folder.mkdir(parents=True)
    made = {"peft_type": "LORA", "r": RANK, "lora_alpha": 4, "bias": "none", "target_modules": ["q_proj"]}
    made.update(config or {})
    (folder / "adapter_config.json").write_text(json.dumps(made))
    save_file(tensors() if weights is None else weights, folder / "adapter_model.safetensors")
    files = {one: sha256_of(folder / one) for one in ("adapter_config.json", "adapter_model.safetensors")}
    manifest = Manifest(
        id=name,
        alias="heed",
        base=of_base or fingerprint(str(base)),
        files=files,
        created=time.time(),
        probes=probes,
        rank=RANK,
    )
    write_manifest(folder, manifest)
    return folder


def record_of(name: str, state: AdapterState = "candidate", created: float = 0.0) -> AdapterRecord:
    """The registry's record of it."""
    return AdapterRecord(id=name, alias="heed", state=state, created=created or time.time(), path="", base="")
