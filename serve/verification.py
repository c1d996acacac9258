"""Proves an adapter's files before any engine sees them.

Checked: that the folder lies in the data directory and holds plain files of its own and nothing that could run;
each file's hash, and the id, which is made of them; that the configuration is plain LoRA of a rank and scale that can
be served; that each tensor fits the base's own weight; that every value is finite; that the probes can be run. An
engine checks little of this itself: it accepts a wrong base, copies small tensors into a slice, and reads pickles.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from feedback.errors import InvalidRecord
from feedback.manifest import Manifest, content_digest, read_manifest, verify_files
from serve.plain_files import CONFIG, MANIFEST, WEIGHTS, Stamp, UnfitAdapter, open_plain, stamp_of
from serve.tensor_file import Shapes, check_layout, check_values, layout_of

ADAPTER_ID = re.compile(r"a-[0-9]{6,}-[0-9a-f]{12}")
FILES = frozenset({CONFIG, WEIGHTS, MANIFEST})
PREFIX = "base_model.model."
MAX_SCALE = 64.0  # of the update: alpha over rank, or over its root
MAX_PROBES, MAX_PROBE_TOKENS = 64, 4096
UNSERVED = (  # options of LoRA that change what is calculated, and that no engine knows how to
    "use_dora",
    "use_qalora",
    "modules_to_save",
    "rank_pattern",
    "alpha_pattern",
    "lora_bias",
    "layer_replication",
    "trainable_token_indices",
    "target_parameters",
    "alora_invocation_tokens",
)
EMBEDDINGS = frozenset(
    {"lm_head", "embed_tokens", "embed_in", "embed_out", "wte", "wpe", "word_embeddings", "output"}
)


@dataclass(frozen=True, slots=True)
class Base:
    """What an adapter must fit: the base's fingerprint and the shape of each of its weights. Both are
    empty where the gateway's machine does not hold the base; then the probe alone proves the fit.
    """

    fingerprint: str = ""
    shapes: Shapes | None = None


@dataclass(frozen=True, slots=True)
class Lora:
    """What the configuration says."""

    rank: int
    targets: tuple[str, ...]


def verify(root: Path, adapter: str, base: Base, *, rank_cap: int) -> tuple[Manifest, Stamp]:
    """The manifest of the adapter in ``root`` that is fit to be loaded, and the stamp of the files that were
    looked at. Raises UnfitAdapter saying what is wrong.
    """
    if not ADAPTER_ID.fullmatch(adapter):
        raise UnfitAdapter(f"{adapter!r} is no adapter id: a-, a number, - and 12 hex digits")
    folder = root / adapter
    stamp = stamp_of(folder, FILES)
    try:
        manifest = read_manifest(folder)
        verify_files(folder, manifest, root)
    except (InvalidRecord, OSError) as error:
        raise UnfitAdapter(str(error)) from error
    if manifest.id != adapter:
        raise UnfitAdapter(f"{MANIFEST}: is of {manifest.id}, the folder of {adapter}")
    if base.fingerprint and manifest.base != base.fingerprint:
        raise UnfitAdapter(f"trained on base {manifest.base}, served is {base.fingerprint}")
    check_probes(manifest.probes)
    lora = check_peft(folder, base.shapes, rank_cap=rank_cap)
    if manifest.rank not in {0, lora.rank}:
        raise UnfitAdapter(f"{CONFIG}: rank {lora.rank} is not the manifest's {manifest.rank}")
    if not adapter.endswith(digest := content_digest(manifest.files)[:12]):
        raise UnfitAdapter(f"{adapter}: is not the id of these files, which ends in {digest}")
    if stamp_of(folder, FILES) != stamp:
        raise UnfitAdapter(f"{adapter}: its files changed while they were checked")
    return manifest, stamp


def check_peft(folder: Path, shapes: Shapes | None, *, rank_cap: int) -> Lora:
    """Configuration and weights of a PEFT folder. Raises UnfitAdapter."""
    lora = check_config(folder / CONFIG, rank_cap)
    check_tensors(folder / WEIGHTS, lora, shapes)
    return lora


def check_config(file: Path, rank_cap: int) -> Lora:
    """Raises UnfitAdapter for anything but plain LoRA of a rank and scale that engines take."""
    try:
        with open_plain(file) as stream:
            config = json.loads(stream.read().decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise UnfitAdapter(f"{file.name}: does not parse ({error})") from error
    if not isinstance(config, dict):
        raise UnfitAdapter(f"{file.name}: is no JSON object")
    if config.get("peft_type") != "LORA":
        raise UnfitAdapter(f"{file.name}: peft_type is {config.get('peft_type')!r}, only 'LORA' is served")
    rank = config.get("r")
    if type(rank) is not int or not 1 <= rank <= rank_cap:
        raise UnfitAdapter(f"{file.name}: rank {rank!r} is not within 1 and {rank_cap}")
    for option in UNSERVED:
        if config.get(option):
            raise UnfitAdapter(f"{file.name}: {option} cannot be served")
    if config.get("bias", "none") != "none":
        raise UnfitAdapter(f"{file.name}: bias {config['bias']!r} cannot be served, 'none' can")
    _check_alpha(file.name, config, rank)
    return Lora(rank, _targets(file.name, config.get("target_modules")))


def _check_alpha(file: str, config: Mapping[str, Any], rank: int) -> None:
    alpha = config.get("lora_alpha")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float):
        raise UnfitAdapter(f"{file}: lora_alpha {alpha!r} is no number")
    scale = min(alpha, 10**9) / (math.sqrt(rank) if config.get("use_rslora") else rank)
    if not 0 < scale <= MAX_SCALE:  # not a number is not, either
        raise UnfitAdapter(f"{file}: lora_alpha {alpha} scales by {scale:g}, not within 0 and {MAX_SCALE:g}")


def _targets(file: str, targets: Any) -> tuple[str, ...]:
    if not isinstance(targets, list) or not targets or not all(isinstance(one, str) for one in targets):
        raise UnfitAdapter(f"{file}: target_modules must be a list of the modules' names")
    for target in targets:
        _check_no_embedding(target, f"{file}: target_modules")
    return tuple(targets)


def _check_no_embedding(module: str, where: str) -> None:
    if module.rpartition(".")[2] in EMBEDDINGS:
        raise UnfitAdapter(f"{where}: {module} is an embedding or the head, which adapters may not change")


def check_tensors(file: Path, lora: Lora, shapes: Shapes | None) -> None:
    """Each targeted module has an A and a B that fit the base's weight, and all values are finite."""
    layout = layout_of(file)
    sides: dict[str, set[str]] = {}
    for name, tensor in layout.tensors.items():
        module, side = _split(name, file.name)
        _check_no_embedding(module, file.name)
        sides.setdefault(module, set()).add(side)
        _check_shape(name, tensor.shape, (module, side), rank=lora.rank, shapes=shapes)
    halves = sorted(module for module, found in sides.items() if found != {"A", "B"})
    if halves or not sides:
        raise UnfitAdapter(f"{file.name}: no A and B for {halves[0] if halves else 'any module'}")
    _check_targets(lora.targets, sides)
    check_layout(layout)
    check_values(file, layout.tensors)


def _split(name: str, file: str) -> tuple[str, str]:
    for side in ("A", "B"):
        if name.startswith(PREFIX) and name.endswith(f".lora_{side}.weight"):
            return name.removeprefix(PREFIX).removesuffix(f".lora_{side}.weight"), side
    raise UnfitAdapter(f"{file}: {name} is no LoRA weight")


def _check_targets(targets: Sequence[str], modules: Iterable[str]) -> None:
    """What the configuration names and what the weights hold is the same: PEFT goes by one, vLLM by the other."""
    modules = set(modules)
    met = {
        target: {module for module in modules if module == target or module.endswith(f".{target}")}
        for target in targets
    }
    for target, found in met.items():
        if not found:
            raise UnfitAdapter(f"{CONFIG}: target_modules names {target}, of which there are no weights")
    for module in sorted(modules - set().union(*met.values())):
        raise UnfitAdapter(f"{CONFIG}: target_modules does not name {module}, of which there are weights")


def _check_shape(
    name: str, shape: tuple[int, ...], where: tuple[str, str], *, rank: int, shapes: Shapes | None
) -> None:
    module, side = where
    along = 0 if side == "A" else 1
    if len(shape) != 2 or shape[along] != rank:
        raise UnfitAdapter(f"{name}: shape {list(shape)} does not have rank {rank}")
    if shapes is None:
        return
    weight = shapes.get(f"{module}.weight")
    if weight is None or len(weight) != 2:
        raise UnfitAdapter(f"{name}: the base has no linear layer {module}")
    expected = (rank, weight[1]) if side == "A" else (weight[0], rank)
    if shape != expected:
        raise UnfitAdapter(f"{name}: shape {list(shape)}, the base needs {list(expected)}")


def check_probes(probes: Sequence[Any]) -> None:
    """Each says which tokens had which log-probabilities, under the adapter and under the base."""
    if not 1 <= len(probes) <= MAX_PROBES:
        raise UnfitAdapter(
            f"{MANIFEST}: has {len(probes)} probes; at least one must prove what it answers, "
            f"and {MAX_PROBES} are the most"
        )
    for number, probe in enumerate(probes):
        if not isinstance(probe, Mapping) or not _is_probe(probe):
            raise UnfitAdapter(
                f"{MANIFEST}: probe {number} needs prompt_token_ids and completion_token_ids, at most "
                f"{MAX_PROBE_TOKENS}, and for each of the latter a finite number in logprobs and base_logprobs"
            )


def _is_probe(probe: Mapping[str, Any]) -> bool:
    prompt, completion = _tokens(probe.get("prompt_token_ids")), _tokens(probe.get("completion_token_ids"))
    told = [_numbers(probe.get(name)) for name in ("logprobs", "base_logprobs")]
    few = 0 < len(prompt) + len(completion) <= MAX_PROBE_TOKENS
    return few and len(prompt) > 0 and all(0 < len(completion) == len(numbers) for numbers in told)


def _tokens(value: Any) -> list[int]:
    """The list itself when all are token ids; else empty."""
    able = isinstance(value, list) and all(type(one) is int and 0 <= one < 2**31 for one in value)
    return value if able else []


def _numbers(value: Any) -> list[float]:
    """The list itself when all are finite numbers; else empty."""
    able = isinstance(value, list) and all(type(one) in {int, float} and math.isfinite(one) for one in value)
    return value if able else []
