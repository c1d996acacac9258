"""An adapter's folder is what its manifest says, or it is refused by the name of what is wrong."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

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

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "adapters" / "a-000001-aaaaaaaaaaaa"
    folder.mkdir(parents=True)
    (folder / CONFIG).write_bytes(b'{"r": 8}')
    (folder / WEIGHTS).write_bytes(b"weights")
    write_manifest(folder, manifest_of(folder))
    return folder


def manifest_of(folder: Path) -> Manifest:
    return Manifest(
        id=folder.name,
        alias="heed",
        base="0123456789abcdef",
        files={name: sha256_of(folder / name) for name in (CONFIG, WEIGHTS)},
        created=5.0,
        batches=("b-1",),
        training={"steps": 3},
        probes=(
            {
                "prompt_token_ids": [1],
                "completion_token_ids": [2],
                "logprobs": [-0.5],
                "base_logprobs": [-1.0],
            },
        ),
        rank=8,
        target_modules=("q_proj",),
    )


def test_a_manifest_reads_as_it_was_written_and_its_files_are_proved(folder: Path) -> None:
    manifest = read_manifest(folder)
    assert manifest == manifest_of(folder)
    verify_files(folder, manifest, folder.parent)
    assert sorted(path.name for path in folder.iterdir()) == [CONFIG, WEIGHTS, "manifest.json"]


def test_the_digests_are_sha256(folder: Path) -> None:
    assert read_manifest(folder).files[WEIGHTS] == hashlib.sha256(b"weights").hexdigest()


def edit(name: str, data: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(data) and None


def link(name: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / name).rename(folder.parent / "elsewhere")
        (folder / name).symlink_to(folder.parent / "elsewhere")

    return make


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (edit(WEIGHTS, b"wEights"), WEIGHTS),
        (edit(CONFIG, b"{}"), CONFIG),
        (edit("adapter_model.bin", b"pickle"), "adapter_model.bin"),
        (edit("extra.py", b""), "extra.py"),
        (lambda folder: (folder / WEIGHTS).unlink(), WEIGHTS),
        (lambda folder: (folder / "manifest.json").unlink(), "manifest.json"),
        (lambda folder: (folder / "sub").mkdir(), "sub"),
        (link(WEIGHTS), WEIGHTS),
        (link(CONFIG), CONFIG),
        (link("manifest.json"), "manifest.json"),
    ],
)
def test_a_spoiled_folder_is_refused_by_name(folder: Path, spoil: Callable[[Path], None], named: str) -> None:
    manifest = read_manifest(folder)
    spoil(folder)
    with pytest.raises(InvalidRecord) as caught:
        verify_files(folder, manifest, folder.parent)
    assert caught.value.field == named


def test_a_folder_outside_the_data_directory_is_refused(folder: Path, tmp_path: Path) -> None:
    manifest = read_manifest(folder)
    (tmp_path / "other").mkdir()
    with pytest.raises(InvalidRecord, match="outside"):
        verify_files(folder, manifest, tmp_path / "other")
    with pytest.raises(InvalidRecord, match="outside"):
        verify_files(tmp_path / "other" / ".." / "adapters" / folder.name, manifest, tmp_path / "other")


def test_a_folder_that_is_a_link_or_missing_is_refused(folder: Path, tmp_path: Path) -> None:
    manifest = read_manifest(folder)
    (tmp_path / "adapters" / "link").symlink_to(folder)
    for path in (tmp_path / "adapters" / "link", tmp_path / "none"):
        with pytest.raises(InvalidRecord) as caught:
            verify_files(path, manifest)
        assert caught.value.field == "path"


@pytest.mark.parametrize("files", [{}, {WEIGHTS: "0" * 64}, {CONFIG: "0" * 64, "../secret": "0" * 64}])
def test_a_manifest_lists_exactly_the_two_files(folder: Path, files: dict[str, str]) -> None:
    with pytest.raises(InvalidRecord) as caught:
        verify_files(folder, replace(read_manifest(folder), files=files))
    assert caught.value.field == "files"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"id": None}, "id"),
        ({"alias": 5}, "alias"),
        ({"files": [CONFIG]}, "files"),
        ({"files": {CONFIG: "short"}}, "files"),
        ({"created": "today"}, "created"),
        ({"batches": "b-1"}, "batches"),
        ({"probes": {}}, "probes"),
    ],
)
def test_a_manifest_with_a_wrong_field_is_refused_by_its_name(
    folder: Path, change: dict[str, object], named: str
) -> None:
    body = orjson.loads((folder / "manifest.json").read_bytes())
    (folder / "manifest.json").write_bytes(orjson.dumps({**body, **change}))
    with pytest.raises(InvalidRecord) as caught:
        read_manifest(folder)
    assert caught.value.field == named


@pytest.mark.parametrize("data", [None, b"{torn", b"[]"])
def test_a_manifest_that_is_missing_or_torn_is_refused(folder: Path, data: bytes | None) -> None:
    (folder / "manifest.json").unlink()
    if data is not None:
        (folder / "manifest.json").write_bytes(data)
    with pytest.raises(InvalidRecord) as caught:
        read_manifest(folder)
    assert caught.value.field == "manifest.json"


def test_a_newer_writers_fields_are_ignored(folder: Path) -> None:
    body = orjson.loads((folder / "manifest.json").read_bytes())
    (folder / "manifest.json").write_bytes(orjson.dumps({**body, "new_field": 1}))
    assert read_manifest(folder) == manifest_of(folder)


def test_a_crash_while_the_manifest_is_written_leaves_the_old_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (folder / "manifest.json").read_bytes()

    def crash(_: int) -> None:
        raise OSError("power cut")

    monkeypatch.setattr(os, "fsync", crash)
    with pytest.raises(OSError, match="power cut"):
        write_manifest(folder, replace(manifest_of(folder), alias="other"))
    assert (folder / "manifest.json").read_bytes() == before
    assert len(list(folder.iterdir())) == 3


def test_adapter_ids_are_content_addressed_and_sort_by_age() -> None:
    assert adapter_id(12, "abcdef0123456789") == "a-000012-abcdef012345"
    ids = [adapter_id(n, "f" * 64) for n in (1, 9, 10, 99, 100_000)]
    assert ids == sorted(ids)


def test_an_ids_digest_is_of_both_files_whatever_their_order() -> None:
    files = {CONFIG: "a" * 64, WEIGHTS: "b" * 64}
    wanted = hashlib.sha256(("a" * 64 + "b" * 64).encode()).hexdigest()
    assert content_digest(files) == content_digest(dict(reversed(files.items()))) == wanted
    others = {content_digest({**files, name: "c" * 64}) for name in files}
    assert len({wanted, *others}) == 3


def test_the_fingerprint_is_of_content_and_not_of_place(tmp_path: Path) -> None:
    def model(name: str, weights: bytes = b"w", config: bytes = b"{}") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_bytes(config)
        (folder / "tokenizer.json").write_bytes(b"t")
        (folder / "model.safetensors").write_bytes(weights)
        return folder

    one, same = model("one"), model("same")
    (same / "README.md").write_text("notes do not matter")
    assert fingerprint(str(one)) == fingerprint(str(same))
    assert len(fingerprint(str(one))) == 16
    others = {fingerprint(str(model("w", weights=b"x"))), fingerprint(str(model("c", config=b"[]")))}
    assert len(others | {fingerprint(str(one)), fingerprint("org/name")}) == 4
