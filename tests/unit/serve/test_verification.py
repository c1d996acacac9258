"""What must not reach an engine, and why it is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from feedback.manifest import fingerprint
from serve import verification
from serve.plain_files import UnfitAdapter
from serve.tensor_file import base_shapes
from serve.verification import Base, Lora, check_tensors, verify
from tests.unit.serve.folders import PLAIN, adapter_folder, tiny_base
from tests.unit.serve.spoiled import BAD, Kind

NAME = f"a-000001-{PLAIN}"


@pytest.fixture
def base(tmp_path: Path) -> Base:
    model = tiny_base(tmp_path / "base")
    adapter_folder(tmp_path / "adapters", NAME, model)
    return Base(fingerprint(str(model)), base_shapes(model))


def test_a_published_adapter_is_fit_and_stamped(tmp_path: Path, base: Base) -> None:
    manifest, stamp = verify(tmp_path / "adapters", NAME, base, rank_cap=16)
    assert manifest.id == NAME
    assert stamp.keys() == {"adapter_config.json", "adapter_model.safetensors", "manifest.json"}


@pytest.mark.parametrize("kind", BAD, ids=lambda kind: kind.name)
def test_an_unfit_adapter_is_refused_with_the_reason(tmp_path: Path, base: Base, kind: Kind) -> None:
    kind.spoil(tmp_path / "adapters" / NAME)
    with pytest.raises(UnfitAdapter) as caught:
        verify(tmp_path / "adapters", NAME, base, rank_cap=16)
    assert kind.why in str(caught.value)


@pytest.mark.parametrize("name", ["..", "../base", "/etc", "a-1-../../x", "", "base", f"{NAME}/../{NAME}"])
def test_a_name_that_is_no_adapter_id_leads_nowhere(tmp_path: Path, base: Base, name: str) -> None:
    with pytest.raises(UnfitAdapter, match="is no adapter id"):
        verify(tmp_path / "adapters", name, base, rank_cap=16)


def test_files_that_change_while_they_are_checked_are_refused(
    tmp_path: Path, base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "adapters" / NAME / "adapter_model.safetensors"

    def checked_and_then_swapped(folder: Path, *arguments: object, **named: object) -> Lora:
        lora: Lora = real(folder, *arguments, **named)  # type: ignore[arg-type]
        other = weights.with_suffix(".new")
        other.write_bytes(weights.read_bytes())
        other.replace(weights)
        os.utime(weights, ns=(0, 0))
        return lora

    real = verification.check_peft
    monkeypatch.setattr(verification, "check_peft", checked_and_then_swapped)
    with pytest.raises(UnfitAdapter, match="changed while they were checked"):
        verify(tmp_path / "adapters", NAME, base, rank_cap=16)


def test_without_the_base_at_hand_everything_but_its_shapes_is_checked(tmp_path: Path, base: Base) -> None:
    weights = tmp_path / "adapters" / NAME / "adapter_model.safetensors"
    check_tensors(weights, Lora(2, ("q_proj",)), None)
    with pytest.raises(UnfitAdapter, match="does not have rank 3"):
        check_tensors(weights, Lora(3, ("q_proj",)), None)
