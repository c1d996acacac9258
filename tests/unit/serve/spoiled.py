"""Every way in which an adapter may be bad: what is done to a good folder, and what the refusal has to name."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from feedback.manifest import sha256_of
from tests.unit.serve.folders import IN, MODULE, OUT, tensors

CONFIG, WEIGHTS, MANIFEST = "adapter_config.json", "adapter_model.safetensors", "manifest.json"
A, B = (f"base_model.model.{MODULE}.lora_{side}.weight" for side in "AB")
OF_OTHERS = "is not the id of these files"
Spoil = Callable[[Path], None]


@dataclass(frozen=True)
class Kind:
    """One kind of bad adapter."""

    name: str
    spoil: Spoil
    why: str  # stands in the refusal
    imported: bool = True  # whether a PEFT folder without a manifest can have the fault too


def signed(folder: Path) -> None:
    """Write the files' hashes into the manifest, as whoever made this adapter would have."""
    manifest(files={name: sha256_of(folder / name) for name in (CONFIG, WEIGHTS)})(folder)


def manifest(**changed: Any) -> Spoil:
    def spoil(folder: Path) -> None:
        file = folder / MANIFEST
        file.write_text(json.dumps({**json.loads(file.read_text()), **changed}))

    return spoil


def config(**changed: Any) -> Spoil:
    def spoil(folder: Path) -> None:
        file = folder / CONFIG
        file.write_text(json.dumps({**json.loads(file.read_text()), **changed}))
        signed(folder)

    return spoil


def written(name: str, data: bytes) -> Spoil:
    """Other bytes in a file, and the manifest signs them."""

    def spoil(folder: Path) -> None:
        (folder / name).write_bytes(data)
        if name != MANIFEST:
            signed(folder)

    return spoil


def weights(**changed: np.ndarray[Any, Any] | None) -> Spoil:
    """Tensors A, B or any other name changed; None leaves it out."""

    def spoil(folder: Path) -> None:
        made = tensors()
        for name, value in changed.items():
            full = {"A": A, "B": B}.get(name, name)
            made.pop(full, None)
            if value is not None:
                made[full] = value
        save_file(made, folder / WEIGHTS)
        signed(folder)

    return spoil


def header(change: Callable[[dict[str, Any]], str | bytes], size: int | None = None) -> Spoil:
    """Another header before the same data; ``size``: the length it is said to have."""

    def spoil(folder: Path) -> None:
        file = folder / WEIGHTS
        data = file.read_bytes()
        length = int.from_bytes(data[:8], "little")
        made = change(json.loads(data[8 : 8 + length]))
        text = made if isinstance(made, bytes) else made.encode()
        file.write_bytes((size or len(text)).to_bytes(8, "little") + text + data[8 + length :])
        signed(folder)

    return spoil


def entry(name: str, **changed: Any) -> Spoil:
    """One tensor's entry of the header changed."""
    return header(lambda told: json.dumps({**told, name: {**told[name], **changed}}))


def twice(told: dict[str, Any]) -> str:
    text = json.dumps(told)
    return text[:-1] + "," + json.dumps(A) + ":" + json.dumps(told[A]) + "}"


def grown(folder: Path) -> None:
    with (folder / WEIGHTS).open("ab") as file:
        file.write(b"\0" * 64)
    signed(folder)


def cut(folder: Path) -> None:
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[:-16])
    signed(folder)


def flipped(folder: Path) -> None:
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (folder / WEIGHTS).write_bytes(bytes(data))


def linked(folder: Path) -> None:
    elsewhere = folder.parent.parent / f"elsewhere-{folder.name}"
    shutil.move(folder / WEIGHTS, elsewhere)
    (folder / WEIGHTS).symlink_to(elsewhere)


def hard_linked(folder: Path) -> None:
    os.link(folder / WEIGHTS, folder.parent.parent / f"second-name-{folder.name}")


def piped(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    os.mkfifo(folder / WEIGHTS)


def folder_linked(folder: Path) -> None:
    elsewhere = folder.parent.parent / f"outside-{folder.name}"
    shutil.move(folder, elsewhere)
    folder.symlink_to(elsewhere, target_is_directory=True)


def stray(name: str, data: bytes = b"x") -> Spoil:
    return lambda folder: folder.joinpath(name).write_bytes(data) and None  # type: ignore[func-returns-value]


def without(name: str) -> Spoil:
    return lambda folder: (folder / name).unlink()


def renamed(old: str, new: str) -> dict[str, np.ndarray[Any, Any] | None]:
    """The tensors under another module's name."""
    made: dict[str, np.ndarray[Any, Any] | None] = {"A": None, "B": None}
    return {**made, **{name.replace(old, new): value for name, value in tensors().items()}}


def probe(**changed: Any) -> Spoil:
    def spoil(folder: Path) -> None:
        first = json.loads((folder / MANIFEST).read_text())["probes"][0]
        manifest(probes=[{**first, **changed}])(folder)

    return spoil


ONES = np.ones
LM_HEAD = {
    f"base_model.model.lm_head.lora_{side}.weight": ONES(shape, np.float32)
    for side, shape in (("A", (2, IN)), ("B", (OUT, 2)))
}
BAD = (
    # The folder
    Kind("pickled weights", stray("adapter_model.bin", pickle.dumps({})), "adapter_model.bin: may hold code"),
    Kind("a pickle beside", stray("optimizer.pt"), "optimizer.pt: may hold code"),
    Kind("a program beside", stray("modeling.py"), "modeling.py: does not belong"),
    Kind("a folder beside", lambda folder: (folder / "more").mkdir(), "more: does not belong"),
    Kind("notes beside", stray("README.md"), "README.md: does not belong", imported=False),
    Kind("no weights", without(WEIGHTS), WEIGHTS),
    Kind("no configuration", without(CONFIG), CONFIG),
    Kind("weights that are a link", linked, WEIGHTS),
    Kind("weights of two names", hard_linked, "hard links"),
    Kind("weights that are a pipe", piped, WEIGHTS),
    Kind("a folder that is a link", folder_linked, "link", imported=False),
    # The manifest
    Kind("no manifest", without(MANIFEST), "manifest.json: is missing", imported=False),
    Kind("a torn manifest", written(MANIFEST, b'{"id": '), "is not JSON", imported=False),
    Kind("a manifest without end", written(MANIFEST, b" " * (17 << 20)), "is over", imported=False),
    Kind("another's manifest", manifest(id="a-000099-000000000000"), "a-000099", imported=False),
    Kind("a manifest of other files", manifest(files={"../x": "0" * 64}), "files", imported=False),
    Kind("another base", manifest(base="0123456789abcdef"), "base 0123456789abcdef", imported=False),
    Kind("another rank in the manifest", manifest(rank=8), "the manifest's 8", imported=False),
    Kind("no probes", manifest(probes=[]), "0 probes", imported=False),
    Kind("a probe without answers", probe(logprobs=[]), "probe 0", imported=False),
    Kind("a probe of words", probe(prompt_token_ids=["hi"]), "probe 0", imported=False),
    Kind("changed bytes", flipped, "sha256", imported=False),
    Kind("other weights under the id", weights(A=ONES((2, IN), np.float32) * 2), OF_OTHERS, imported=False),
    Kind("another scale under the id", config(lora_alpha=8), OF_OTHERS, imported=False),
    # The configuration
    Kind("a configuration that is no JSON", written(CONFIG, b"{"), "adapter_config.json: does not parse"),
    Kind("a configuration that is a list", written(CONFIG, b"[]"), "no JSON object"),
    Kind("an endless nest", written(CONFIG, b"[" * 100_000), "does not parse"),
    Kind("another method", config(peft_type="LOHA"), "peft_type is 'LOHA'"),
    Kind("a rank over the cap", config(r=17), "rank 17"),
    Kind("a rank of nothing", config(r=0), "rank 0"),
    Kind("a rank that is no number", config(r="2"), "rank '2'"),
    Kind("a rank the weights do not have", config(r=4), "does not have rank 4"),
    Kind("an alpha that is not a number", config(lora_alpha=float("nan")), "lora_alpha nan"),
    Kind("an alpha without bounds", config(lora_alpha=1e9), "lora_alpha"),
    Kind("an alpha below nothing", config(lora_alpha=-4), "lora_alpha -4"),
    Kind("no alpha", config(lora_alpha=None), "lora_alpha None"),
    Kind("DoRA", config(use_dora=True), "use_dora"),
    Kind("whole modules saved", config(modules_to_save=["score"]), "modules_to_save"),
    Kind("ranks by module", config(rank_pattern={"q_proj": 4}), "rank_pattern"),
    Kind("biases", config(bias="all"), "bias 'all'"),
    Kind("an embedding targeted", config(target_modules=["embed_tokens"]), "embed_tokens is an embedding"),
    Kind("a pattern for targets", config(target_modules=".*"), "must be a list"),
    Kind("a target without weights", config(target_modules=["q_proj", "up_proj"]), "names up_proj"),
    # The weights
    Kind("an A without its B", weights(B=None), "no A and B"),
    Kind("no tensors at all", weights(A=None, B=None), "any module"),
    Kind("an A of another width", weights(A=ONES((2, IN - 1), np.float32)), "the base needs"),
    Kind("a B of another height", weights(B=ONES((OUT + 1, 2), np.float32)), "the base needs"),
    Kind("a flat tensor", weights(A=ONES(2 * IN, np.float32)), "does not have rank"),
    Kind("whole numbers", weights(A=ONES((2, IN), np.int32)), "dtype I32"),
    Kind("not a number", weights(A=np.full((2, IN), np.nan, np.float32)), "not finite"),
    Kind("an infinity", weights(B=np.full((OUT, 2), np.inf, np.float16)), "not finite"),
    Kind("the head", weights(**LM_HEAD), "lm_head is an embedding"),
    Kind("a full weight", weights(**{"base_model.model.x.weight": ONES(2, np.float32)}), "no LoRA weight"),
    Kind("an unknown module", weights(**renamed("q_proj", "x_proj")), "no linear layer"),
    Kind("junk for weights", written(WEIGHTS, b"\x80\x04junk" * 9), "header"),
    Kind("an empty file", written(WEIGHTS, b""), "header"),
    Kind("a header that lies about its length", header(json.dumps, size=1 << 40), "header has 1099511627776"),
    Kind("a header that is no JSON", header(lambda _: "{]"), "header does not parse"),
    Kind("a tensor named twice", header(twice), "stands in it twice"),
    Kind("overlapping tensors", entry(B, data_offsets=[0, 4 * 2 * OUT]), "overlaps"),
    Kind("data beyond the end", entry(B, data_offsets=[64, 64 + 4 * 2 * OUT + 4096]), "shape's size"),
    Kind("a gap in the data", entry(B, data_offsets=[128, 128 + 4 * 2 * OUT]), "cut short"),
    Kind("offsets below nothing", entry(A, data_offsets=[-64, 0]), "no whole number"),
    Kind("a file cut short", cut, "cut short"),
    Kind("bytes after the end", grown, "belong to no tensor"),
)
