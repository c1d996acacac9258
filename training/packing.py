"""Conversations laid out in rows without padding, each prompt once, however many replies it has.

A row holds several groups of (prompt, replies). A token sees its own prompt and its own reply up to itself,
nothing else, and counts its position from the start of its conversation: the states are those of each
conversation alone, at a half to a quarter of the tokens. The layout is the tree attention of Medusa (Cai et
al. 2024) put to training; rows follow "Efficient sequence packing without cross-contamination" (Krell 2021).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

ROW_TOKENS = 256  # attention costs row², a longer row packs a little tighter
BATCH_ROWS = 16
BATCH_PAIRS = BATCH_ROWS * 1024**2
"""Of tokens that may see one another, in a batch of several rows. Rows are as long as the longest of their batch, and
what attention needs grows with length²: one chat of 16,000 tokens beside 15 short ones would take 26 GB.
"""


@dataclass(frozen=True, slots=True)
class Tokens:
    """One conversation as tokens: what was asked and what was replied."""

    prompt: tuple[int, ...]
    reply: tuple[int, ...]


@dataclass(frozen=True)
class Packed:
    """Rows × length tokens that hold ``n`` conversations with ``t`` reply tokens in all.

    ``source``, ``own``, ``target`` and ``owner`` run over the reply tokens, conversation by conversation in
    the order of ``indices``; the first two point into the flattened (rows·length) states.
    """

    ids: Tensor  # (rows, length)
    positions: Tensor  # (rows, length)
    visible: Tensor  # (rows, 1, length, length), True where a token (dim 2) may see another (dim 3)
    source: Tensor  # (t,) the token before: whose state predicts the reply token
    own: Tensor  # (t,) the reply token itself
    target: Tensor  # (t,) its id
    owner: Tensor  # (t,) its conversation, 0…n−1
    indices: tuple[int, ...]  # (n,) where each conversation stood in the input
    sizes: tuple[int, ...]  # (n,) reply tokens of each

    def to(self, device: torch.device) -> Packed:
        """The same on another device."""
        moved: dict[str, Any] = {
            field.name: value.to(device)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return replace(self, **moved)

    def mask(self, dtype: torch.dtype) -> Tensor:
        """``visible`` as what attention adds to its scores."""
        return torch.zeros(self.visible.shape, dtype=dtype, device=self.visible.device).masked_fill_(
            ~self.visible, torch.finfo(dtype).min
        )


Group = tuple[tuple[int, ...], list[int]]  # a prompt, and the conversations that begin with it


def pack(
    conversations: Sequence[Tokens], *, row_tokens: int = ROW_TOKENS, rows: int = BATCH_ROWS, pieces: int = 1
) -> Iterator[Packed]:
    """Every conversation once, in batches of at most ``rows`` rows, fewer where they are long, and at least ``pieces``
    batches where there are rows enough; a conversation longer than a row gets a longer row. Replies must not be empty.
    """
    groups = _groups(conversations, row_tokens)
    sized = [
        (len(prompt) + sum(len(conversations[i].reply) for i in members), (prompt, members))
        for prompt, members in groups
    ]
    filled = _fill(sized, row_tokens)
    rows = max(1, min(rows, -(-len(filled) // pieces)))
    start = 0
    while start < len(filled):  # the longest come first
        count = max(1, min(rows, BATCH_PAIRS // _length(conversations, filled[start]) ** 2))
        yield _lay(conversations, filled[start : start + count])
        start += count


def _groups(conversations: Sequence[Tokens], row_tokens: int) -> list[Group]:
    """Conversations by prompt; a prompt with more replies than a row holds comes several times."""
    groups: list[Group] = []
    latest: dict[tuple[int, ...], tuple[list[int], int]] = {}
    for index, one in enumerate(conversations):
        members, room = latest.get(one.prompt, ([], 0))
        if not members or len(one.reply) > room:
            members, room = [], row_tokens - len(one.prompt)
            groups.append((one.prompt, members))
        members.append(index)
        latest[one.prompt] = (members, room - len(one.reply))
    return groups


def _fill(sized: list[tuple[int, Group]], row_tokens: int) -> list[list[Group]]:
    """First fit, longest first."""
    rows: list[list[Group]] = []
    room: list[int] = []
    for size, group in sorted(sized, key=lambda pair: -pair[0]):
        at = next((at for at, free in enumerate(room) if free >= size), None)
        if at is None:
            rows.append([])
            room.append(max(row_tokens, size))
            at = len(rows) - 1
        rows[at].append(group)
        room[at] -= size
    return rows


def _lay(conversations: Sequence[Tokens], rows: list[list[Group]]) -> Packed:
    length = max(_length(conversations, row) for row in rows)
    shape = (len(rows), length)
    ids, positions = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    group, branch = torch.full(shape, -1), torch.full(shape, -1)  # branch 0 is the prompt
    source, own, target, indices, sizes = [], [], [], [], []
    for row, groups in enumerate(rows):
        at = 0
        for number, (prompt, members) in enumerate(groups):
            end = at + len(prompt)
            ids[row, at:end], positions[row, at:end] = torch.tensor(prompt), torch.arange(len(prompt))
            group[row, at:end], branch[row, at:end] = number, 0
            last = row * length + end - 1
            for place, index in enumerate(members, start=1):
                reply = conversations[index].reply
                at, end = end, end + len(reply)
                ids[row, at:end] = torch.tensor(reply)
                positions[row, at:end] = torch.arange(len(prompt), len(prompt) + len(reply))
                group[row, at:end], branch[row, at:end] = number, place
                here = torch.arange(row * length + at, row * length + end)
                source += [torch.tensor([last]), here[:-1]]
                own.append(here)
                target.append(torch.tensor(reply))
                indices.append(index)
                sizes.append(len(reply))
            at = end
    return Packed(
        ids, positions, _visible(group, branch), torch.cat(source), torch.cat(own), torch.cat(target),
        torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes)), tuple(indices), tuple(sizes),
    )  # fmt: skip


def _length(conversations: Sequence[Tokens], row: list[Group]) -> int:
    return sum(len(prompt) + sum(len(conversations[i].reply) for i in members) for prompt, members in row)


def _visible(group: Tensor, branch: Tensor) -> Tensor:
    """Earlier in the same conversation; what is left of a row is padding, which sees itself alone."""
    length = group.shape[1]
    same = group[:, :, None] == group[:, None, :]
    along = (branch[:, None, :] == 0) | (branch[:, :, None] == branch[:, None, :])
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    inside = same & along & causal & (group >= 0)[:, :, None]
    return (inside | torch.eye(length, dtype=torch.bool))[:, None]
