"""Signing keys rotate while a gateway runs, and a file that cannot be used changes nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from feedback.ids import Secrets, mint_response, rotate, verify
from serve.rotation import follow, followed


@pytest.mark.parametrize("content", ["", "no hex", "cc" * 32, None])
def test_a_file_that_is_gone_or_of_no_use_leaves_the_keys_as_they_are(
    tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "secret"
    known = Secrets.load(path)
    path.unlink()
    if content is not None:
        path.write_text(content)
    assert followed(path, known) == known
    assert path.exists() == (content is not None), "no key is made while a gateway runs"


async def test_every_change_of_the_file_is_taken_and_old_ids_hold(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    known = Secrets.load(path)
    out = mint_response(known, "s-1", now=1000.0)
    taken: asyncio.Queue[Secrets] = asyncio.Queue()
    task = asyncio.create_task(follow(path, known, taken.put_nowait, 0.01))
    for number in (2, 3):
        rotate(path, begin=0.0)
        found = await asyncio.wait_for(taken.get(), 60)
        assert len(found.keys) == number
        verify(found, out, "s-1", now=1000.0, life_seconds=10.0)
    assert taken.empty()
    task.cancel()
