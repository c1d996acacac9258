"""Packs encoded dialogs into rows of one length, so that no step spends time on padding."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from training.starter.corpus import dialogs
from training.starter.settings import Recipe
from training.starter.vocabulary import DialogEncoder

IGNORED = -100
"""The label of a position without a loss."""

_POOL = 1024
"""Dialogs that are packed together."""


@dataclass(frozen=True)
class Batch:
    """One step's rows; B rows of T tokens."""

    ids: Tensor
    """Token ids, int64, (B, T)."""
    labels: Tensor
    """The id to predict at each position, or ``IGNORED``, int64, (B, T)."""
    positions: Tensor
    """Place of each token inside its own dialog, int64, (B, T)."""
    attention: Tensor
    """True where a query (dim 2) may see a key (dim 3): earlier in the same dialog, bool, (B, 1, T, T)."""


Row = list[tuple[list[int], list[bool]]]


def batches(encoder: DialogEncoder, recipe: Recipe) -> Iterator[Batch]:
    """An endless stream of batches of dialogs that are never repeated."""
    waiting: list[Row] = []
    stream = dialogs(recipe.seed)
    while True:
        encoded = encoder.encode([next(stream) for _ in range(_POOL)])
        waiting += fill_rows(
            [pair for pair in encoded if len(pair[0]) <= recipe.row_tokens], recipe.row_tokens
        )
        while len(waiting) >= recipe.rows:
            yield collate(waiting[: recipe.rows], recipe.row_tokens)
            del waiting[: recipe.rows]


def fill_rows(encoded: Row, length: int) -> list[Row]:
    """First fit: each dialog goes whole into the first row with room for it."""
    rows: list[Row] = []
    room: list[int] = []
    for pair in encoded:
        need = len(pair[0])
        at = next((at for at, free in enumerate(room) if free >= need), None)
        if at is None:
            rows.append([])
            room.append(length)
            at = len(rows) - 1
        rows[at].append(pair)
        room[at] -= need
    return rows


def collate(rows: list[Row], length: int) -> Batch:
    """Lay rows out as tensors; what is left of a row is padding that sees only itself and has no loss."""
    shape = (len(rows), length)
    ids, positions = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    labels, owner = torch.full(shape, IGNORED), torch.full(shape, -1)
    for at, row in enumerate(rows):
        start = 0
        for number, (tokens, said) in enumerate(row):
            end = start + len(tokens)
            ids[at, start:end] = torch.tensor(tokens)
            positions[at, start:end] = torch.arange(len(tokens))
            owner[at, start:end] = number
            target = torch.where(torch.tensor(said[1:]), torch.tensor(tokens[1:]), IGNORED)
            labels[at, start : end - 1] = target
            start = end
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    same = owner[:, :, None] == owner[:, None, :]
    return Batch(ids, labels, positions, (same & causal)[:, None])
