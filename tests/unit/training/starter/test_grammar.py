"""The pattern language."""

import random

import pytest

from training.starter import grammar


def test_a_choice_says_each_branch_once_in_order() -> None:
    texts = [expansion.text for expansion in grammar.expansions("a (b|c) d")]
    assert texts == ["a b d", "a c d"]


def test_choices_multiply_and_nest() -> None:
    texts = {expansion.text for expansion in grammar.expansions("(x(1|2)|y)(!|?)")}
    assert texts == {"x1!", "x1?", "x2!", "x2?", "y!", "y?"}


def test_sentences_that_differ_in_an_optional_group_share_a_composition() -> None:
    found = {e.text: e.composition for e in grammar.expansions("open( today|)(?|!)")}
    assert found == {"open today?": "open?", "open today!": "open!", "open?": "open?", "open!": "open!"}


def test_samples_are_expansions() -> None:
    pattern = "(a|b(c|d|)) and (e|f)"
    every = {expansion.text for expansion in grammar.expansions(pattern)}
    rng = random.Random(0)
    assert {grammar.sample(pattern, rng) for _ in range(200)} == every


def test_outside_a_group_a_bar_is_text() -> None:
    assert [e.text for e in grammar.expansions("a|b")] == ["a|b"]


@pytest.mark.parametrize("pattern", ["(a|b", "a)", "(a|(b)"])
def test_an_unmatched_bracket_is_refused_with_the_pattern_quoted(pattern: str) -> None:
    with pytest.raises(ValueError, match="pattern"):
        grammar.parse(pattern)
