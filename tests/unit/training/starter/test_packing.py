"""Packed rows."""

import torch

from training.starter.packing import IGNORED, collate, fill_rows


def _dialog(ids: list[int], said: str) -> tuple[list[int], list[bool]]:
    return ids, [mark == "a" for mark in said]


def test_dialogs_go_whole_into_the_first_row_with_room() -> None:
    sizes = [5, 4, 3, 2, 1]
    rows = fill_rows([_dialog([size] * size, "u" * size) for size in sizes], 8)
    assert [[len(ids) for ids, _ in row] for row in rows] == [[5, 3], [4, 2, 1]]


def test_only_what_the_assistant_says_is_learnt_and_never_across_dialogs() -> None:
    row = [_dialog([10, 11, 12, 13], "uuaa"), _dialog([20, 21], "aa")]
    batch = collate([row], 8)
    assert batch.ids.tolist() == [[10, 11, 12, 13, 20, 21, 0, 0]]
    assert batch.labels.tolist() == [[IGNORED, 12, 13, IGNORED, 21, IGNORED, IGNORED, IGNORED]]
    assert batch.positions.tolist() == [[0, 1, 2, 3, 0, 1, 0, 0]]


def test_a_token_sees_its_own_dialog_up_to_itself() -> None:
    batch = collate([[_dialog([1, 2], "ua"), _dialog([3, 4], "ua")]], 5)
    wanted = torch.tensor(
        [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 1]],
        dtype=torch.bool,
    )
    assert batch.attention.shape == (1, 1, 5, 5)
    assert torch.equal(batch.attention[0, 0], wanted)
