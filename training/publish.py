"""Publishing: content-addressed, whole or not at all, the manifest last, then the registry."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import torch

from feedback.durable import fsync_folder
from feedback.errors import InvalidRecord
from feedback.manifest import (
    Manifest,
    adapter_id,
    content_digest,
    fingerprint,
    read_manifest,
    sha256_of,
    verify_files,
    write_manifest,
)
from feedback.protocols import AdapterRecord, AdapterState, Registry
from training.reference import Tokens, token_logprobs
from training.trunk import Trunk

logger = logging.getLogger(__name__)

FILES = ("adapter_config.json", "adapter_model.safetensors")
PROBES = (
    ("When are you open?", "We are open every day from eight to six."),
    ("Thank you!", "You are welcome. See you soon!"),
    ("Can you help me?", "Of course. What do you need?"),
)


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where an adapter comes from."""

    alias: str
    parent: str | None = None
    batches: tuple[str, ...] = ()
    reward_model: str | None = None
    training: Mapping[str, Any] | None = None
    gate: Mapping[str, Any] | None = None
    newest_vote: float | None = None


@torch.no_grad()
def probes(trunk: Trunk, adapter: Path) -> list[dict[str, Any]]:
    """Log-probabilities of a few fixed replies under adapter and base, natural log, one per token."""
    trunk.add("probe", adapter)
    found = []
    for question, reply in PROBES:
        messages = [{"role": "user", "content": question}]
        tokens = Tokens(tuple(trunk.prompt_ids(messages)), tuple(trunk.reply_ids(reply)))
        found.append(
            {
                "prompt_token_ids": list(tokens.prompt),
                "completion_token_ids": list(tokens.reply),
                "logprobs": _logprobs(trunk, "probe", tokens),
                "base_logprobs": _logprobs(trunk, None, tokens),
            }
        )
    return found


def _logprobs(trunk: Trunk, name: str | None, tokens: Tokens) -> list[float]:
    ids = torch.tensor([[*tokens.prompt, *tokens.reply]], device=trunk.device)
    with trunk.using(name) as model:
        model.eval()
        logits = model(input_ids=ids).logits
    told: list[float] = token_logprobs(logits, ids)[0, len(tokens.prompt) - 1 :].tolist()
    return told


def digest_of(folder: Path) -> str:
    """Hex digest over the files' digests: the content address."""
    return content_digest({name: sha256_of(folder / name) for name in FILES})


def publish(
    registry: Registry,
    trunk: Trunk,
    folder: Path,
    origin: Origin,
    adapters_dir: Path,
    *,
    state: AdapterState = "candidate",
    reason: str | None = None,
    lease: tuple[str, int] | None = None,
) -> AdapterRecord:
    """Copy the PEFT folder in under its own id and tell the registry. Publishing the same bytes for the same
    alias again returns what stands; a folder that a killed publisher left without a record is adopted.

    ``lease`` is the name and token of the publisher's lease: raises LeaseLost, and tells the registry nothing,
    when another has it.
    """
    digest = digest_of(folder)
    for record in registry.adapters(origin.alias):
        if record.id.endswith(digest[:12]):
            return record
    manifest = _left(adapters_dir, origin.alias, digest)
    if manifest is None:
        manifest = _manifest(trunk, folder, adapter_id(registry.next_sequence(), digest), origin)
        _install(folder, adapters_dir / manifest.id, manifest)
    return registry.add_adapter(
        AdapterRecord(
            id=manifest.id,
            alias=origin.alias,
            state=state,
            created=time.time(),
            path=str(adapters_dir / manifest.id),
            base=manifest.base,
            parent=origin.parent,
            batches=origin.batches,
            reward_model=origin.reward_model,
            training=origin.training,
            gate=origin.gate,
            reason=reason,
            newest_vote=origin.newest_vote,
        ),
        lease,
    )


def _left(adapters_dir: Path, alias: str, digest: str) -> Manifest | None:
    """The manifest of a whole folder with these bytes that was published for the alias."""
    for folder in sorted(adapters_dir.glob(f"a-*-{digest[:12]}")):
        try:
            manifest = read_manifest(folder)
            verify_files(folder, manifest)
        except InvalidRecord as error:
            logger.warning("%s is left aside: %s", folder, error)
            continue
        if manifest.alias == alias and digest_of(folder) == digest:
            return manifest
    return None


def _manifest(trunk: Trunk, folder: Path, name: str, origin: Origin) -> Manifest:
    config = orjson.loads((folder / "adapter_config.json").read_bytes())
    modules: Sequence[str] = config.get("target_modules") or ()
    return Manifest(
        id=name,
        alias=origin.alias,
        base=fingerprint(trunk.model_path),
        files={file: sha256_of(folder / file) for file in FILES},
        created=time.time(),
        parent=origin.parent,
        batches=origin.batches,
        reward_model=origin.reward_model,
        training=origin.training,
        gate=origin.gate,
        probes=tuple(probes(trunk, folder)),
        rank=int(config["r"]),
        target_modules=tuple(sorted(modules)),
    )


def _install(folder: Path, target: Path, manifest: Manifest) -> None:
    """A folder beside, fsynced, renamed: a crash or a full disk leaves nothing that looks like an adapter."""
    draft = target.with_name(
        f".{manifest.alias}.tmp"
    )  # one an alias: what a kill left goes at the next publish
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        for name in FILES:
            shutil.copyfile(folder / name, draft / name)
            with (draft / name).open("rb+") as file:
                os.fsync(file.fileno())
        write_manifest(draft, manifest)
        draft.rename(target)
        fsync_folder(target.parent)
    except OSError:
        shutil.rmtree(draft, ignore_errors=True)
        raise
