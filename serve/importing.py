"""Takes in a PEFT folder made elsewhere: checked, copied, proved on an engine, and then a candidate.

Nobody here trained it, so its probes are measured on the first engine that loads it: every other engine,
and every later load, must answer the same.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from feedback.manifest import Manifest, adapter_id, content_digest, fingerprint, sha256_of, write_manifest
from feedback.protocols import AdapterRecord
from serve.engines import BASE, Engine
from serve.errors import BadField, EngineError, EngineRefused, Unavailable
from serve.gateway import Gateway
from serve.plain_files import BESIDE, CONFIG, WEIGHTS, UnfitAdapter, open_plain, stamp_of
from serve.tensor_file import base_shapes
from serve.verification import Lora, check_peft

PEFT_FILES = frozenset({CONFIG, WEIGHTS})
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
        folder, lora = await asyncio.to_thread(_copy, gateway, source)
    except UnfitAdapter as error:
        raise BadField("path", str(error), status=422) from error
    try:
        probes = await _measure(gateway, engine, folder)
        made = await asyncio.to_thread(_publish, gateway, record.name, folder, lora, probes)
    except BaseException:
        await _forget(engine, folder)
        raise
    await gateway.snapshot.refresh()  # who was told its id may ask for it at once
    return made


async def _forget(engine: Engine, folder: Path) -> None:
    """Undo a failed import, which no record names. The engine forgets first: it may read the files until then."""
    try:
        await engine.client.unload(folder.name)
    except EngineRefused:  # it never had it
        pass
    except EngineError:
        return
    await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def _allowed(gateway: Gateway, path: str) -> Path:
    """The folder, links resolved, when it lies within an allowed one."""
    try:
        folder = Path(path).expanduser().resolve()
        found = folder.is_dir()
    except (OSError, ValueError, RuntimeError) as error:  # too long, a null byte, a home that is nobody's
        raise BadField("path", "is not the path of a folder", status=422) from error
    if not any(folder.is_relative_to(root) for root in gateway.settings.import_folders):
        raise BadField(
            "path", "is outside of the folders that may be imported from: HEED_IMPORT_DIRS", status=422
        )
    if not found:
        raise BadField("path", "is no folder", status=422)
    return folder


def _copy(gateway: Gateway, source: Path) -> tuple[Path, Lora]:
    """Check, copy, check the copy, and only then give it the name of a new id: what is loaded later is what was
    checked here, whatever becomes of the source.
    """
    settings = gateway.settings
    model = Path(settings.model_path)
    shapes = base_shapes(model) if model.is_dir() else None
    stamp_of(source, PEFT_FILES, BESIDE)
    check_peft(source, shapes, rank_cap=settings.adapter_rank_cap)
    settings.adapters_dir.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".import-", dir=settings.adapters_dir))
    try:
        for name in sorted(PEFT_FILES):
            with open_plain(source / name) as stream, (draft / name).open("xb") as copy:
                shutil.copyfileobj(stream, copy)
                copy.flush()
                os.fsync(copy.fileno())
        lora = check_peft(draft, shapes, rank_cap=settings.adapter_rank_cap)
        digest = content_digest({name: sha256_of(draft / name) for name in PEFT_FILES})
        folder = settings.adapters_dir / adapter_id(gateway.registry.next_sequence(), digest)
        draft.chmod(0o755)  # engines may run as another user
        draft.rename(folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return folder, lora


async def _measure(gateway: Gateway, engine: Engine, folder: Path) -> list[dict[str, Any]]:
    """Load it under its own id and note what it answers."""
    if not await gateway.keeper.take_in(engine, folder.name):
        raise Unavailable("no engine has a free slot", code="adapter_slots_in_use", retry_after=5)
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
    gateway: Gateway, alias: str, folder: Path, lora: Lora, probes: list[dict[str, Any]]
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
        rank=lora.rank,
        target_modules=tuple(sorted(lora.targets)),
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
