from __future__ import annotations

import pytest

from benchmarks.swaps import Heard, judged, told_since

ALONE = {("a", "Hi?"): "red green blue", ("b", "Hi?"): "one two three", ("b", "Bye?"): "red green blue"}


@pytest.mark.parametrize(
    ("adapter", "text", "verdict"),
    [
        ("a", "red green blue", "whole"),
        ("b", "one two three", "whole"),
        ("a", "red green three", "mixed"),
        ("a", "red green", "mixed"),
        ("b", "red green blue", "misnamed"),
        ("", "red green blue", "misnamed"),
    ],
)
def test_a_reply_is_whole_only_in_the_words_of_the_adapter_that_is_named(
    adapter: str, text: str, verdict: str
) -> None:
    assert judged(Heard(200, adapter, "Hi?", text, 0.0, 1.0, 2.0), ALONE) == verdict


def test_words_of_another_prompt_excuse_nothing() -> None:
    assert judged(Heard(200, "a", "Bye?", "one two three", 0.0, 1.0, 2.0), ALONE) == "mixed"


def test_a_swap_is_heard_in_replies_that_were_asked_for_since_and_not_in_those_of_its_former_turn() -> None:
    replies = [
        Heard(200, "a", "Hi?", "", 8.0, 8.5, 11.0),
        Heard(200, "b", "Hi?", "", 10.5, 10.6, 11.0),
        Heard(200, "a", "Hi?", "", 10.0, 10.4, 11.0),
    ]
    assert told_since(10.0, "a", replies) == [10.4]
