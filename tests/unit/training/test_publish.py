"""Publishing: whole or not at all, one id for one set of bytes, and a record that says why."""

from __future__ import annotations

import hashlib
import json
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from feedback.errors import LeaseLost
from feedback.manifest import fingerprint, read_manifest, verify_files
from feedback.memory import MemoryRegistry
from feedback.protocols import AdapterRecord
from tests.unit.training.conftest import made_adapter
from training.publish import PROBES, Origin, digest_of, probes, publish
from training.trunk import CONFIG_FILE, WEIGHTS_FILE, Trunk

ORIGIN = Origin(
    alias="heed",
    parent="a-000000-ffffffffffff",
    batches=("b-1",),
    reward_model="b-1",
    training={"ppo": {"steps": 3}},
    gate={"passed": True, "checks": []},
    newest_vote=12.5,
)


class Scene:
    """A registry and a folder for adapters."""

    def __init__(self, trunk: Trunk, source: Path, root: Path) -> None:
        self.trunk, self.source, self.root = trunk, source, root
        self.registry = MemoryRegistry()

    def publish(self, origin: Origin = ORIGIN, **more: Any) -> AdapterRecord:
        return publish(self.registry, self.trunk, self.source, origin, self.root, **more)


@pytest.fixture
def scene(trunk: Trunk, adapter: Path, tmp_path: Path) -> Scene:
    return Scene(trunk, adapter, tmp_path / "adapters")


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """The kernel refuses to let any file grow beyond ``size`` bytes, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_an_adapter_is_published_under_the_hash_of_its_bytes(scene: Scene) -> None:
    record = scene.publish(reason="gate: all checks passed")
    hashes = [
        hashlib.sha256((scene.source / n).read_bytes()).hexdigest() for n in (CONFIG_FILE, WEIGHTS_FILE)
    ]
    digest = hashlib.sha256("".join(hashes).encode()).hexdigest()
    assert record.id == f"a-000001-{digest[:12]}"
    assert digest_of(scene.source) == digest
    assert scene.registry.adapters("heed") == [record]
    assert (record.state, record.reason) == ("candidate", "gate: all checks passed")
    assert (record.parent, record.batches, record.reward_model) == (ORIGIN.parent, ("b-1",), "b-1")
    assert (record.training, record.gate, record.newest_vote) == (ORIGIN.training, ORIGIN.gate, 12.5)
    folder = Path(record.path)
    assert folder == scene.root / record.id
    manifest = read_manifest(folder)
    verify_files(folder, manifest, scene.root)
    assert dict(manifest.files) == dict(zip((CONFIG_FILE, WEIGHTS_FILE), hashes, strict=True))
    assert (manifest.id, manifest.alias, manifest.rank) == (record.id, "heed", 16)
    assert manifest.base == record.base == fingerprint(scene.trunk.model_path)
    assert manifest.target_modules[:2] == ("down_proj", "gate_proj")
    assert len(manifest.probes) == len(PROBES)


def test_the_manifest_is_written_last(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the folder gets its name only after that: whoever reads at any moment sees all or nothing."""
    seen = []

    def watched(folder: Path, manifest: Any) -> None:
        seen.append((folder.name[0], sorted(path.name for path in folder.iterdir())))
        write(folder, manifest)

    from training import publish as module

    write = module.write_manifest
    monkeypatch.setattr(module, "write_manifest", watched)
    scene.publish()
    assert seen == [(".", [CONFIG_FILE, WEIGHTS_FILE])]


def test_the_same_bytes_give_the_standing_record_whatever_is_said_of_them(scene: Scene) -> None:
    first = scene.publish()
    again = scene.publish(Origin(alias="heed"), state="rejected", reason="another")
    assert again == first
    assert [path.name for path in scene.root.iterdir()] == [first.id]


def test_the_same_bytes_for_another_alias_and_other_bytes_get_ids_of_their_own(
    scene: Scene, tmp_path: Path
) -> None:
    first, other = scene.publish(), scene.publish(Origin(alias="support"))
    made_adapter(scene.trunk, tmp_path / "third", seed=8)
    scene.source = tmp_path / "third"
    third = scene.publish()
    assert [record.id[:9] for record in (first, other, third)] == ["a-000001-", "a-000002-", "a-000003-"]
    assert first.id[9:] == other.id[9:] != third.id[9:]


def test_a_rejected_adapter_is_kept_with_its_reason(scene: Scene) -> None:
    record = scene.publish(state="rejected", reason="gate: too long")
    assert (record.state, record.reason) == ("rejected", "gate: too long")
    verify_files(Path(record.path), read_manifest(Path(record.path)))


@pytest.mark.parametrize("file", [CONFIG_FILE, WEIGHTS_FILE, "manifest.json"])
def test_a_full_disk_leaves_nothing_that_looks_like_an_adapter(scene: Scene, file: str) -> None:
    weights = (scene.source / WEIGHTS_FILE).stat().st_size
    config = (scene.source / CONFIG_FILE).stat().st_size
    room = {CONFIG_FILE: config // 2, WEIGHTS_FILE: weights // 2, "manifest.json": weights}[file]
    wordy = Origin(alias="heed", training={"figures": "x" * weights})  # a manifest larger than all else
    with no_file_above(room), pytest.raises(OSError, match="too large"):
        scene.publish(wordy)
    assert list(scene.root.iterdir()) == []
    assert scene.registry.adapters() == []
    assert scene.publish(wordy).state == "candidate"


def test_what_a_killed_publisher_left_half_done_goes_at_the_next_publish(scene: Scene) -> None:
    draft = scene.root / ".heed.tmp"
    draft.mkdir(parents=True)
    (draft / "rest").write_text("half")
    record = scene.publish()
    assert [path.name for path in scene.root.iterdir()] == [record.id]


def test_a_folder_that_a_killed_publisher_left_unrecorded_is_adopted(scene: Scene) -> None:
    first = scene.publish()
    scene.registry = MemoryRegistry()  # the record was never written
    again = scene.publish()
    assert again.id == first.id
    assert scene.registry.adapters("heed") == [again]


@pytest.mark.parametrize("harm", ["no manifest", "other bytes"])
def test_a_harmed_folder_with_its_name_is_not_adopted(scene: Scene, harm: str) -> None:
    first = scene.publish()
    folder = Path(first.path)
    if harm == "no manifest":
        (folder / "manifest.json").unlink()
    else:
        (folder / WEIGHTS_FILE).write_bytes(b"x")
    registry, scene.registry = scene.registry, MemoryRegistry()
    scene.registry.next_sequence()
    again = scene.publish()
    assert again.id == f"a-000002-{first.id[9:]}"
    verify_files(Path(again.path), read_manifest(Path(again.path)))
    assert registry.adapter(first.id) == first


def test_a_publisher_that_lost_its_lease_records_nothing(scene: Scene) -> None:
    token = scene.registry.acquire("round:heed", "old", 60)
    scene.registry.release("round:heed", "old")
    scene.registry.acquire("round:heed", "new", 60)
    with pytest.raises(LeaseLost):
        scene.publish(lease=("round:heed", token or 0))
    assert scene.registry.adapters() == []


@torch.no_grad()
def test_probes_are_what_stock_transformers_and_peft_answer(trunk: Trunk, adapter: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(trunk.model_path, dtype=torch.float32).eval()
    for told, (question, reply) in zip(probes(trunk, adapter), PROBES, strict=True):
        assert told["prompt_token_ids"] == list(trunk.prompt_ids([{"role": "user", "content": question}]))
        assert told["completion_token_ids"] == [*trunk.tokenizer(reply)["input_ids"], trunk.end]
        _hold(base, told, "base_logprobs")
    adapted = PeftModel.from_pretrained(base, str(adapter)).eval()
    for told in probes(trunk, adapter):
        _hold(adapted, told, "logprobs")
        assert max(abs(a - b) for a, b in zip(told["logprobs"], told["base_logprobs"], strict=True)) > 0.1


def _hold(model: Any, told: dict[str, Any], name: str) -> None:
    ids = torch.tensor([told["prompt_token_ids"] + told["completion_token_ids"]])
    begin = len(told["prompt_token_ids"])
    logprobs = model(input_ids=ids).logits[0, begin - 1 : -1].log_softmax(-1)
    wanted = logprobs.gather(1, ids[0, begin:, None])[:, 0].tolist()
    assert told[name] == pytest.approx(wanted, abs=1e-4)


def test_the_published_folder_alone_is_enough_for_stock_peft(scene: Scene, trunk: Trunk) -> None:
    record = scene.publish()
    shutil.rmtree(scene.source)
    base = AutoModelForCausalLM.from_pretrained(trunk.model_path, dtype=torch.float32)
    adapted = PeftModel.from_pretrained(base, record.path).eval()
    for told in read_manifest(Path(record.path)).probes:
        with torch.no_grad():
            _hold(adapted, dict(told), "logprobs")
    assert json.loads((Path(record.path) / CONFIG_FILE).read_text())["peft_type"] == "LORA"
