"""Lanes: results in order, threads of their own, work as even as can be."""

from __future__ import annotations

import threading

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.lanes import Lanes


@given(st.integers(1, 9), st.integers(0, 50))
def test_the_slices_cover_everything_once_and_differ_by_one_at_most(lanes: int, count: int) -> None:
    parts = Lanes(lanes).split(count)
    assert [index for part in parts for index in range(count)[part]] == list(range(count))
    sizes = [part.stop - part.start for part in parts]
    assert len(parts) == min(lanes, count)
    assert not sizes or (max(sizes) - min(sizes) <= 1 and min(sizes) >= 1)


def test_results_come_in_order_whatever_ends_first() -> None:
    """The first piece waits for the second, so both must run at once."""
    second_is_done = threading.Event()

    def work(piece: int) -> int:
        if piece == 0:
            assert second_is_done.wait(30)
        else:
            second_is_done.set()
        return piece * 10

    assert Lanes(2).map(work, [0, 1]) == [0, 10]


def test_each_lane_computes_in_one_thread_of_its_own() -> None:
    meeting = threading.Barrier(3)

    def work(_: int) -> tuple[int, int]:
        meeting.wait(30)
        return threading.get_ident(), torch.get_num_threads()

    told = Lanes(3).map(work, range(3))
    assert len({thread for thread, _ in told}) == 3
    assert {threads for _, threads in told} == {1}


@pytest.mark.parametrize("lanes", [1, 0, -2])
def test_one_lane_or_fewer_works_where_it_is_called(lanes: int) -> None:
    assert Lanes(lanes).count == 1
    assert set(Lanes(lanes).map(lambda _: threading.get_ident(), range(3))) == {threading.get_ident()}


def test_no_pieces_give_no_results() -> None:
    assert Lanes(3).map(lambda piece: piece, []) == []


def test_an_error_in_a_lane_is_the_callers() -> None:
    def work(piece: int) -> float:
        return 1 / piece

    with pytest.raises(ZeroDivisionError):
        Lanes(2).map(work, [1, 0])
