"""Which side a vote stands on: most train, some only judge. By hash, so that it is the same for ever."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence

import orjson

from feedback.events import Message
from training.examples import Split


def key_of(messages: Sequence[Message]) -> str:
    """A prompt as one string."""
    return orjson.dumps(list(messages)).decode()


def split_of(messages: Sequence[Message], subject: str, share: float) -> Split:
    """By hash of subject and prompt, so that one stays on its side for ever; ``share`` of them is held out."""
    return splits([key_of(messages)], [subject], share)[0]


def splits(prompts: Iterable[str], subjects: Iterable[str], share: float) -> list[Split]:
    """As ``split_of``, of prompts as ``key_of`` makes them."""
    if share >= 1:
        return ["holdout" for _ in prompts]
    bar = math.ceil(share * 2**64).to_bytes(8)
    return [
        "holdout" if hashlib.sha256(f"{subject}\0{prompt}".encode()).digest()[:8] < bar else "train"
        for prompt, subject in zip(prompts, subjects, strict=True)
    ]
