"""The archive on other shelves than a folder: the same events, in turn, and nothing half written."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
import pytest

from feedback.archive import Archive
from feedback.errors import Conflict, LeaseLost
from feedback.memory import MemoryRegistry
from feedback.shelf import Folder, Objects, shelf_of
from feedback.turns import LEASE, leased
from tests.unit.feedback.test_archive import entries, ids

_numbers = itertools.count()


@pytest.fixture(params=["memory", "dir"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An object store, and a file system that shows files while they are written."""
    if request.param == "memory":
        return f"memory://heed-{next(_numbers)}"
    return (
        f"simplecache::file://{tmp_path}/objects"
        if request.param == "cached"
        else f"dir::file://{tmp_path}/objects"
    )


@contextmanager
def free() -> Iterator[object]:
    yield lambda: None


def test_a_path_and_a_file_url_are_folders(tmp_path: Path) -> None:
    assert isinstance(shelf_of(tmp_path), Folder)
    assert isinstance(shelf_of(str(tmp_path)), Folder)
    assert isinstance(shelf_of(f"file://{tmp_path}"), Folder)
    assert isinstance(shelf_of("memory://x"), Objects)


def test_events_are_written_merged_and_forgotten_as_in_a_folder(url: str) -> None:
    archive = Archive(url, leased(MemoryRegistry(), "w"))
    assert ids(archive) == []
    for n in range(4):
        archive.write([*entries(10 * n, 10 * n + 4), *entries(10 * n + 4, 10 * n + 5, "s-gone")])
    assert archive.compact(small=20, most=10) == 4
    assert [segment.events for segment in archive.segments()] == [10, 10]
    assert archive.forget("s-gone") == 4
    assert ids(archive) == [f"r{10 * n + m}" for n in range(4) for m in range(4)]
    assert ids(Archive(url)) == ids(archive)
    names = shelf_of(url).names()
    assert len(names) == 4
    assert not [name for name in names if name.startswith(".")]


def test_without_a_turn_an_archive_is_only_read(url: str) -> None:
    with pytest.raises(OSError, match="only read"):
        Archive(url).write(entries(0, 1))


def test_a_manifest_that_could_not_be_written_leaves_nothing_to_read(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = Archive(url, leased(MemoryRegistry(), "w"))
    write = Objects.write

    def full(self: Objects, name: str, data: bytes) -> None:
        if name.endswith(".json"):
            raise OSError("no space")
        write(self, name, data)

    with monkeypatch.context() as patch:
        patch.setattr(Objects, "write", full)
        with pytest.raises(OSError, match="no space"):
            archive.write(entries(0, 3))
    assert ids(archive) == []
    archive.compact()  # and what is left of it goes
    assert shelf_of(url).names() == []
    archive.write(entries(0, 3))
    assert ids(archive) == ["r0", "r1", "r2"]


def test_a_listing_reads_each_manifest_once(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = Archive(url, leased(MemoryRegistry(), "w"))
    for n in range(3):
        archive.write(entries(2 * n, 2 * n + 2))
    read: list[str] = []
    real = Objects.read

    def counted(self: Objects, name: str) -> bytes:
        read.append(name)
        return real(self, name)

    monkeypatch.setattr(Objects, "read", counted)
    for _ in range(3):
        assert len(Archive(url).segments()) == 3
    assert len(read) == 3


def test_writers_take_turns_by_a_lease(tmp_path: Path) -> None:
    registry, order = MemoryRegistry(), []
    turns = [leased(registry, name) for name in ("a", "b")]

    def work(index: int) -> None:
        with turns[index]() as check:
            order.append(("in", index))
            check()
            order.append(("out", index))

    threads = [threading.Thread(target=work, args=(n % 2,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(order) == 12
    assert all(a[0] == "in" and b == ("out", a[1]) for a, b in itertools.pairwise(order) if a[0] == "in")


def test_a_turn_that_does_not_come_is_told_and_one_that_was_lost_stops_the_writer() -> None:
    registry = MemoryRegistry()
    registry.acquire(LEASE, "other", 60.0)
    with pytest.raises(Conflict, match="is being written by another"), leased(registry, "w", wait=0.0)():
        pass
    registry.release(LEASE, "other")
    archive = Archive(f"memory://heed-{next(_numbers)}", leased(registry, "w"))
    real = archive._shelf.write

    def slow(name: str, data: bytes) -> None:
        real(name, data)
        registry.release(LEASE, "w")  # as if it had slept too long
        registry.acquire(LEASE, "other", 60.0)

    archive._shelf.write = slow  # type: ignore[method-assign]
    with pytest.raises(LeaseLost):
        archive.write(entries(0, 1))
    assert ids(archive) == []
    assert fsspec.filesystem("memory").ls(archive._place.removeprefix("memory:/"), detail=False)
