"""Checkpoints of a run in a folder: whole or not there, told apart by checksums, the one before kept.

    000010.pt      the state at the start of step 10, written beside, fsynced, renamed
    000010.json    its size and SHA-256, written last: without it the state does not count
    000005.pt …    the one before, for when the newest cannot be read
    rollouts-000011.json   replies sampled in step 11, so that what is redone is redone with the same replies

A kill or a power cut at any point leaves the newest whole checkpoint and the rollouts after it.
"""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import orjson
import torch

from feedback.durable import write_durably
from training.rollouts import Reply

logger = logging.getLogger(__name__)
KEPT = 2
"""Checkpoints that stay: the newest, and the one before."""


class Checkpoints:
    """The checkpoints and rollouts of one run. One writer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Keep ``state``; what is older than the one before it goes."""
        torch.save(state, held := io.BytesIO())
        data = held.getvalue()
        write_durably(self._state(step), data)
        told = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        write_durably(self._manifest(step), orjson.dumps(told))
        self._forget()

    def states(self) -> Iterator[dict[str, Any]]:
        """Whole states, the newest first. One that is torn is told and passed over."""
        for step in reversed(self._steps()):
            try:
                yield self._read(step)
            except (OSError, RuntimeError, EOFError, UnpicklingError, ValueError, KeyError) as error:
                logger.warning("%s cannot be read, it is left aside: %s", self._state(step), error)

    def keep_rollouts(self, step: int, replies: Sequence[Reply]) -> None:
        """Keep what was sampled in ``step`` until two later checkpoints are there."""
        body = orjson.dumps(list(replies))
        write_durably(self._rollouts(step), hashlib.sha256(body).hexdigest().encode() + b"\n" + body)

    def rollouts(self, step: int) -> list[Reply] | None:
        """What was sampled in ``step``, to the last bit; None when it is not there or torn."""
        try:
            told, _, body = self._rollouts(step).read_bytes().partition(b"\n")
        except FileNotFoundError:
            return None
        if hashlib.sha256(body).hexdigest().encode() != told:
            logger.warning("%s is torn, its replies are sampled anew", self._rollouts(step))
            return None
        return [
            Reply(
                text=one["text"],
                prompt_ids=tuple(one["prompt_ids"]),
                token_ids=tuple(one["token_ids"]),
                logprobs=tuple(one["logprobs"]),
                finish_reason=one["finish_reason"],
            )
            for one in orjson.loads(body)
        ]

    def _read(self, step: int) -> dict[str, Any]:
        told, data = orjson.loads(self._manifest(step).read_bytes()), self._state(step).read_bytes()
        if len(data) != told["bytes"] or hashlib.sha256(data).hexdigest() != told["sha256"]:
            raise ValueError(f"{len(data)} bytes that are not those of its manifest")
        state: dict[str, Any] = torch.load(io.BytesIO(data), weights_only=True)
        return state

    def _forget(self) -> None:
        """The manifest goes first: a state without one does not count."""
        steps = self._steps()
        for step in steps[:-KEPT]:
            self._manifest(step).unlink(missing_ok=True)
        for state in self.folder.glob("[0-9]*.pt"):
            if int(state.stem) not in steps[-KEPT:]:
                state.unlink(missing_ok=True)
        for rollouts in self.folder.glob("rollouts-*.json"):
            if int(rollouts.stem.removeprefix("rollouts-")) < steps[-KEPT:][0]:
                rollouts.unlink(missing_ok=True)
        for draft in self.folder.glob(".*.tmp"):  # of a writer that was killed: there is one at a time
            draft.unlink(missing_ok=True)

    def _steps(self) -> list[int]:
        return sorted(int(path.stem) for path in self.folder.glob("[0-9]*.json"))

    def _state(self, step: int) -> Path:
        return self.folder / f"{step:06d}.pt"

    def _manifest(self, step: int) -> Path:
        return self.folder / f"{step:06d}.json"

    def _rollouts(self, step: int) -> Path:
        return self.folder / f"rollouts-{step:06d}.json"
