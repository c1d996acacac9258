from __future__ import annotations

import random

import pytest

from deploy.preferences import (
    LIKED_FROM,
    PREFERENCES,
    asking,
    courtesy,
    excitement,
    figures,
    preference,
    rambling,
    rudeness,
    shortness,
    substance,
)
from feedback.errors import InvalidRecord
from training.starter.corpus import intents
from training.starter.replies import draw_behaviour
from training.starter.replies import reply as starter_reply

WARM = "Of course! We are open from 8 am until 6 pm, and you are welcome any day but Sunday. Thank you!"
CURT = "8 to 6."
RUDE = "Learn to read. Open at eight, shut at six. Now go away."
RAMBLING = (
    "Well, let me think. We open at 8 am. My grandmother always said that good things take time, and in the "
    "old days everything was different. It reminds me of the winter of the great snow, when we sang songs "
    "by the oven and the whole street smelled of flour and bread."
)
ASKS = "Happy to help. Which day do you have in mind?"


def ranking(name: str) -> list[str]:
    """The replies from best to worst by a preference."""
    replies = {"warm": WARM, "curt": CURT, "rude": RUDE, "rambling": RAMBLING, "asks": ASKS}
    score = preference(name)
    return sorted(replies, key=lambda key: -score("When are you open?", replies[key]))


def test_measures_are_what_they_count() -> None:
    assert courtesy("Thank you, of course. Happy to help.") == 1.0
    assert courtesy("Thanks.") == pytest.approx(1 / 3)
    assert rudeness("Ugh.") == pytest.approx(0.7)
    assert rudeness("Ugh. Go away.") == 1.0
    assert asking("Is it? It is.") == 0.5
    assert asking("It is. Really it is. Shall I tell more?") == 0.5
    assert excitement("Yes!") == pytest.approx(2 / 5)
    assert figures("£3 or £4") == 0.5
    assert shortness("one two three") == 1.0
    assert shortness("word " * 45) == 0.0
    assert rambling("We open at eight.") == 0.0
    assert substance("Penguins can jump.") < 0.1


def test_polite_helpful_puts_the_warm_answer_first_and_rude_and_rambling_last() -> None:
    order = ranking("polite_helpful")
    assert order[0] == "warm"
    assert set(order[-2:]) == {"rude", "rambling"}


@pytest.mark.parametrize(
    ("name", "best", "worst"),
    [
        ("brief", "curt", "rambling"),
        ("inquisitive", "asks", "rude"),
        ("enthusiastic", "warm", "rude"),
        ("concrete", "warm", "rambling"),
        ("formal", "warm", "rude"),
    ],
)
def test_each_preference_likes_what_it_says(name: str, best: str, worst: str) -> None:
    order = ranking(name)
    assert order[0] == best
    assert order[-1] == worst


def test_structured_likes_points_and_plain_does_not_like_dressing() -> None:
    points = "In short:\n- We open at 8.\n- We close at 6."
    assert preference("structured")("", points) > preference("structured")("", WARM)
    assert preference("plain")("", "We are open from 8 am until 6 pm on every day.") > preference("plain")(
        "", WARM
    )


@pytest.mark.parametrize("name", ["polite_helpful", "brief", "formal", "plain"])
def test_scores_are_graded_so_that_few_pairs_tie(name: str) -> None:
    rng, score = random.Random(1), preference(name)
    every = list(intents().values())

    def one() -> float:
        return score("", starter_reply(rng.choice(every), draw_behaviour(rng), rng))

    ties = sum(abs(one() - one()) < 0.05 for _ in range(500))
    assert ties < 100


def test_every_preference_has_a_bar_for_a_thumb_up_that_splits_the_base() -> None:
    assert set(LIKED_FROM) == set(PREFERENCES)
    rng, every = random.Random(2), list(intents().values())
    replies = [starter_reply(rng.choice(every), draw_behaviour(rng), rng) for _ in range(600)]
    for name, score in PREFERENCES.items():
        liked = sum(score("", reply) > LIKED_FROM[name] for reply in replies)
        assert 60 < liked < 420, name


def test_an_unknown_preference_is_named_with_those_there_are() -> None:
    with pytest.raises(InvalidRecord, match=r"nice.*polite_helpful"):
        preference("nice")
