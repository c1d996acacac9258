"""Packed rows hold every conversation once, and each sees itself alone."""

from __future__ import annotations

from collections import Counter

import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.exploring import examples
from training.packing import BATCH_PAIRS, BATCH_ROWS, Packed, Tokens, pack

PROMPTS = st.lists(st.integers(1, 9), min_size=1, max_size=7).map(tuple)
REPLIES = st.lists(st.integers(10, 19), min_size=1, max_size=9).map(tuple)
CONVERSATIONS = st.builds(
    # few prompts, so that many replies share one
    lambda prompts, picked: [Tokens(prompts[place % len(prompts)], reply) for place, reply in picked],
    st.lists(PROMPTS, min_size=1, max_size=3),
    st.lists(st.tuples(st.integers(0, 2), REPLIES), min_size=1, max_size=12),
)


def seen_by(packed: Packed, place: int) -> list[tuple[int, int]]:
    """(position, id) of what the token at a flat place sees."""
    row, column = divmod(place, packed.ids.shape[1])
    visible = packed.visible[row, 0, column]
    where = zip(packed.positions[row][visible].tolist(), packed.ids[row][visible].tolist(), strict=True)
    return sorted(where)


@given(CONVERSATIONS, st.integers(4, 30), st.integers(1, 4), st.integers(1, 4))
@examples(80)
def test_every_conversation_is_there_once_and_each_token_sees_its_own_past_alone(
    conversations: list[Tokens], row_tokens: int, rows: int, pieces: int
) -> None:
    batches = list(pack(conversations, row_tokens=row_tokens, rows=rows, pieces=pieces))
    assert Counter(index for packed in batches for index in packed.indices) == Counter(
        range(len(conversations))
    )
    for packed in batches:
        assert packed.ids.shape[0] <= rows
        ends = torch.tensor([0, *packed.sizes]).cumsum(0).tolist()
        for number, index in enumerate(packed.indices):
            one = conversations[index]
            mine = slice(ends[number], ends[number + 1])
            assert tuple(packed.target[mine].tolist()) == one.reply
            assert set(packed.owner[mine].tolist()) == {number}
            whole = list(enumerate((*one.prompt, *one.reply)))
            for place, (source, own) in enumerate(
                zip(packed.source[mine].tolist(), packed.own[mine].tolist(), strict=True)
            ):
                past = len(one.prompt) + place
                assert seen_by(packed, source) == whole[:past]
                assert seen_by(packed, own) == whole[: past + 1]


@given(CONVERSATIONS, st.integers(4, 30))
@examples(40)
def test_a_row_is_no_longer_than_asked_unless_one_conversation_is(
    conversations: list[Tokens], row_tokens: int
) -> None:
    longest = max(len(one.prompt) + len(one.reply) for one in conversations)
    for packed in pack(conversations, row_tokens=row_tokens):
        assert packed.ids.shape[1] <= max(row_tokens, longest)


def test_a_prompt_is_laid_out_once_for_all_its_replies() -> None:
    conversations = [Tokens((1, 2, 3), (10,)), Tokens((4,), (11, 12)), Tokens((1, 2, 3), (13, 14))]
    (packed,) = pack(conversations, row_tokens=9)
    assert packed.ids.tolist() == [[1, 2, 3, 10, 13, 14, 4, 11, 12]]
    assert packed.positions.tolist() == [[0, 1, 2, 3, 3, 4, 0, 1, 2]]
    assert packed.indices == (0, 2, 1)
    assert packed.source.tolist() == [2, 2, 4, 6, 7]  # both replies follow from the prompt's last token
    assert packed.own.tolist() == [3, 4, 5, 7, 8]
    assert packed.target.tolist() == [10, 13, 14, 11, 12]


def test_padding_sees_itself_alone_and_nothing_sees_it() -> None:
    (packed,) = pack([Tokens((1,), (10, 11)), Tokens((2,), (12,))], row_tokens=3)
    assert packed.ids.tolist() == [[1, 10, 11], [2, 12, 0]]
    assert packed.visible[1, 0].tolist() == [[True, False, False], [True, True, False], [False, False, True]]


def test_there_are_as_many_batches_as_lanes_where_there_are_rows_enough() -> None:
    conversations = [Tokens((n,), (10,) * 4) for n in range(1, 9)]
    assert [b.ids.shape[0] for b in pack(conversations, row_tokens=5, pieces=3)] == [3, 3, 2]
    assert [b.ids.shape[0] for b in pack(conversations, row_tokens=5, rows=2, pieces=2)] == [2, 2, 2, 2]
    assert [b.ids.shape[0] for b in pack(conversations[:1], row_tokens=5, pieces=4)] == [1]
    assert list(pack([])) == []


def test_the_mask_adds_nothing_where_a_token_is_seen_and_the_least_number_elsewhere() -> None:
    (packed,) = pack([Tokens((1,), (10,))], row_tokens=2)
    least = torch.finfo(torch.float32).min
    assert packed.mask(torch.float32).tolist() == [[[[0.0, least], [0.0, 0.0]]]]


def test_a_very_long_conversation_has_a_batch_of_its_own_and_the_others_stay_together() -> None:
    short = [Tokens((1, number), (2,) * 200) for number in range(64)]
    batches = list(pack([*short, Tokens((1,) * 5000, (2,))]))
    assert [packed.ids.shape[0] for packed in batches] == [1, BATCH_ROWS, BATCH_ROWS, BATCH_ROWS, BATCH_ROWS]
    assert all(packed.visible.numel() <= max(BATCH_PAIRS, 5001**2) for packed in batches)
    assert [packed.ids.shape[1] for packed in batches[1:]] == [202] * 4
