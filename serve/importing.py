"""Takes in a PEFT folder made elsewhere: checked, copied, proved on an engine, and then a candidate.

Nobody here trained it, so its probes are measured on the first engine that loads it: every other engine,
and every later load, must answer the same.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import time
from pathlib import Path
from typing import Any

from feedback.manifest import Manifest, adapter_id, fingerprint, sha256_of, write_manifest
from feedback.protocols import AdapterRecord
from serve.adapters import load_from, seen_by_engines
from serve.engines import BASE, Engine
from serve.errors import BadField, Unavailable
from serve.gateway import Gateway
from serve.verification import CONFIG, WEIGHTS, UnfitAdapter, base_shapes, check_config, check_tensors

PROBE_PROMPTS = (
    "Hello! What can you help me with?",
    "Please explain in one short sentence why the sky is blue.",
)
PROBE_TOKENS = 16  # of each prompt, the last half is scored


async def take_in(gateway: Gateway, path: str, alias: str | None) -> AdapterRecord:
    """The new candidate's record. Raises BadField for a folder that cannot be served, Unavailable when no
    engine is up.
    """
    record = await asyncio.to_thread(gateway.registry.alias, alias or gateway.settings.default_alias)
    engine = gateway.pool.choose(BASE)
    if engine is None:
        raise Unavailable("no engine is up to prove the adapter", code="engine_warming_up", retry_after=2)
    source = _allowed(gateway, path)
    try:
        folder, rank = await asyncio.to_thread(_copy, gateway, source)
    except UnfitAdapter as error:
        raise BadField("path", str(error), status=422) from error
    probes = await _measure(gateway, engine, folder)
    return await asyncio.to_thread(_publish, gateway, record.name, folder, rank, probes)


def _allowed(gateway: Gateway, path: str) -> Path:
    """The folder, links resolved, when it lies within an allowed one."""
    try:
        folder = Path(path).expanduser().resolve()
        found = [name for name in (CONFIG, WEIGHTS) if (folder / name).is_file()]
        linked = [name for name in found if (folder / name).is_symlink()]
    except (OSError, ValueError, RuntimeError) as error:  # too long, a null byte, a home that is nobody's
        raise BadField("path", "is not the path of a folder", status=422) from error
    if not any(folder.is_relative_to(root) for root in gateway.settings.import_folders):
        raise BadField(
            "path", "is outside of the folders that may be imported from: HEED_IMPORT_DIRS", status=422
        )
    for name in (CONFIG, WEIGHTS):
        if name not in found or name in linked:
            raise BadField("path", f"has no file {name}", status=422)
    return folder


def _copy(gateway: Gateway, source: Path) -> tuple[Path, int]:
    """Check, then copy to the folder of a new id. Returns the folder and the rank."""
    settings = gateway.settings
    model = Path(settings.model_path)
    rank = check_config(source / CONFIG, settings.adapter_rank_cap)
    check_tensors(source / WEIGHTS, rank, base_shapes(model) if model.is_dir() else None)
    digest = hashlib.sha256()
    for name in (CONFIG, WEIGHTS):
        digest.update((source / name).read_bytes())
    new_id = adapter_id(gateway.registry.next_sequence(), digest.hexdigest())
    folder = settings.adapters_dir / new_id
    folder.mkdir(parents=True)
    for name in (CONFIG, WEIGHTS):
        shutil.copyfile(source / name, folder / name)
    return folder, rank


async def _measure(gateway: Gateway, engine: Engine, folder: Path) -> list[dict[str, Any]]:
    """Load it under its own id and note what it answers."""
    await load_from(engine, folder.name, seen_by_engines(gateway.settings, folder.name))
    probes = []
    for text in PROBE_PROMPTS:
        tokens = (await engine.client.tokenize(gateway.pool.base_name, text))[:PROBE_TOKENS]
        half = max(1, len(tokens) // 2)
        prompt, completion = tokens[:half], tokens[half:]
        probes.append(
            {
                "prompt_token_ids": prompt,
                "completion_token_ids": completion,
                "logprobs": await engine.client.log_probabilities(folder.name, prompt, completion),
                "base_logprobs": await engine.client.log_probabilities(
                    gateway.pool.base_name, prompt, completion
                ),
            }
        )
    return probes


def _publish(
    gateway: Gateway, alias: str, folder: Path, rank: int, probes: list[dict[str, Any]]
) -> AdapterRecord:
    """The manifest last, then the record."""
    model = gateway.settings.model_path
    base = fingerprint(model)
    now = time.time()
    manifest = Manifest(
        id=folder.name,
        alias=alias,
        base=base,
        files={name: sha256_of(folder / name) for name in (CONFIG, WEIGHTS)},
        probes=tuple(probes),
        created=now,
        rank=rank,
    )
    write_manifest(folder, manifest)
    record = AdapterRecord(
        id=folder.name,
        alias=alias,
        state="candidate",
        created=now,
        path=str(folder),
        base=base,
        reason="imported",
    )
    return gateway.registry.add_adapter(record)
