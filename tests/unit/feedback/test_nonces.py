"""Random bytes are given out once: not twice, not to two threads, not to parent and child."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

from feedback.nonces import unique


def test_each_is_of_its_length_and_no_other_is_like_it() -> None:
    made = [unique(count) for count in (12, 16, 4096, 5000, 12) for _ in range(500)]
    assert [len(one) for one in made[:1000:500]] == [12, 16]
    assert {len(one) for one in made} == {12, 16, 4096, 5000}
    assert len(set(made)) == len(made)


def test_their_bits_are_even() -> None:
    drawn = b"".join(unique(7) for _ in range(20_000))
    ones = sum(byte.bit_count() for byte in drawn) / (8 * len(drawn))
    assert abs(ones - 0.5) < 0.005  # ten standard deviations


def test_threads_share_none() -> None:
    with ThreadPoolExecutor(8) as pool:
        groups = list(pool.map(lambda _: [unique(12) for _ in range(2000)], range(8)))
    made = [one for group in groups for one in group]
    assert len(set(made)) == 16_000


def test_a_child_is_given_others_than_its_parent() -> None:
    unique(1)  # a gulp is at hand
    end, start = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(start, unique(16))
        os._exit(0)
    os.waitpid(child, 0)
    told = os.read(end, 16)
    os.close(end)
    os.close(start)
    assert len(told) == 16
    assert told != unique(16)
