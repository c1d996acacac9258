"""Whose votes count for which criterion, by hand; and that the reward moves with the weights that the team sets."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.unit.training.tiny import ask
from training.criteria import at_most_a_third, heads_of, named, parts
from training.examples import Examples, Pair, Thumb
from training.reward_model import RewardConfig, RewardModel, fit
from training.trunk import Trunk

PROMPT = tuple(ask("so?"))


def thumb(subject: str, *reasons: str, weight: float = 1.0) -> Thumb:
    return Thumb((), "x", True, subject, weight, reasons=reasons)


def by_subjects(**weights: float) -> list[Thumb]:
    """Of each subject so much on the tone."""
    return [thumb(subject, "tone", weight=weight) for subject, weight in weights.items()]


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ({"a": 2.0, "b": 1.0, "c": 1.0, "d": 2.0}, {"a": 2.0, "b": 1.0, "c": 1.0, "d": 2.0}),
        ({"a": 100.0, "b": 2.0, "c": 4.0}, {"a": 2.0, "b": 2.0, "c": 2.0}),  # c, too: more than what is left
        (
            {"a": 9.0, "b": 1.0, "c": 1.0, "d": 2.0},
            {"a": 2.0, "b": 1.0, "c": 1.0, "d": 2.0},
        ),  # a third of six
        ({"a": 9.0, "b": 5.0}, {"a": 0.0, "b": 0.0}),
        ({"a": 9.0}, {"a": 0.0}),
        ({}, {}),
    ],
)
def test_nobody_has_more_than_a_third(said: dict[str, float], kept: dict[str, float]) -> None:
    assert at_most_a_third(said) == kept


def test_a_criterion_has_a_head_when_enough_was_said_by_enough_subjects() -> None:
    assert named(Examples(thumbs=by_subjects(a=10, b=10, c=10)), 30.0) == ("tone",)
    assert named(Examples(thumbs=by_subjects(a=10, b=10, c=9)), 30.0) == ()  # 9 + 9 + 9
    assert named(Examples(thumbs=by_subjects(a=500, b=500)), 30.0) == ()
    halves = [*by_subjects(a=10, b=10), thumb("c", "tone", "brevity", weight=20)]
    assert named(Examples(thumbs=halves), 30.0) == ("tone",)  # half of c's 20 is on the tone
    assert named(Examples(thumbs=[thumb(name, weight=99) for name in "abc"]), 30.0) == ()


def test_votes_on_criteria_without_a_head_stand_in_overalls_as_heavy_as_they_are() -> None:
    votes = [thumb("a"), thumb("b", "tone"), thumb("c", "tone", "brevity")]
    told = parts(Examples(thumbs=votes, criteria={"tone": 3.0, "brevity": 1.0}), ())
    # weights 1, 3 and (3 + 1)/2 = 2, on average 2: that is what overall counts, and all there is
    assert told["overall"].thumbs.tolist() == pytest.approx([0.5, 1.5, 1.0])
    assert told["overall"].weight == 1.0
    told = parts(Examples(thumbs=votes, criteria={"overall": 5.0, "tone": 5.0, "brevity": 5.0}), ())
    assert told["overall"].thumbs.tolist() == [1.0, 1.0, 1.0]  # alike: as if nobody had named anything


def test_votes_on_criteria_with_heads_count_there_and_the_heads_by_their_weights() -> None:
    pairs = [Pair((), "x", "y", "win", "a"), Pair((), "x", "y", "win", "a", reasons=("tone",))]
    votes = [thumb("b", "tone", "brevity", weight=0.5), thumb("c", "tone", weight=0.5), thumb("d", "kind")]
    examples = Examples(pairs, votes, criteria={"tone": 4.0, "kind": 2.0, "overall": 0.5})
    told = parts(examples, ("tone",))
    # on the tone: a 1, b ¼, c ½. No more than a third: each ¼
    assert told["tone"].pairs.tolist() == [0.0, 0.25]
    assert told["tone"].thumbs.tolist() == [0.5, 0.5, 0.0]
    whole = parts(examples, ("tone",), held=False)["tone"]
    assert (whole.pairs.tolist(), whole.thumbs.tolist()) == ([0.0, 1.0], [0.5, 1.0, 0.0])
    # left for overall: 1 of weight ½, ½·½ of brevity's 1, 1 of kind's 2: 2.75 on 2.25
    mean = 2.75 / 2.25
    assert told["overall"].pairs.tolist() == pytest.approx([0.5 / mean, 0.0])
    assert told["overall"].thumbs.tolist() == pytest.approx([0.5 / mean, 0.0, 2.0 / mean])
    assert told["overall"].weight == pytest.approx(mean / (mean + 4))
    assert told["tone"].weight == pytest.approx(4 / (mean + 4))


def test_a_label_only_criterion_is_all_of_the_sum() -> None:
    told = parts(Examples(thumbs=by_subjects(a=1, b=1, c=1)), ("tone",))
    assert (told["overall"].weight, told["tone"].weight) == (0.0, 1.0)


def test_a_vote_is_told_by_the_heads_of_what_it_names() -> None:
    assert heads_of(("tone", "nonsense"), ("overall", "tone")) == ("tone",)
    assert heads_of(("nonsense",), ("overall", "tone")) == ()


# --- what the weights do to a fit -----------------------------------------------------------------------------


def reply(rng: random.Random, *, loud: bool, asks: bool) -> str:
    words = " ".join("".join(rng.choice("abcdefgh") for _ in range(4)) for _ in range(3))
    return words + ("!" if loud else ".") + (" so?" if asks else "")


def split_tastes(criteria: dict[str, float]) -> Examples:
    """Users like loud replies and say no more. Raters label another thing alone: that a reply asks nothing back."""
    rng = random.Random(5)
    pairs = []
    for number in range(60):
        asks = rng.random() < 0.5
        sides = (reply(rng, loud=loud, asks=asks) for loud in (True, False))
        pairs.append(Pair(PROMPT, *sides, "win", f"s-{number}"))
    labels = []
    for number in range(60):
        asks = number % 2 == 0
        text = reply(rng, loud=rng.random() < 0.5, asks=asks)
        labels.append(Thumb(PROMPT, text, not asks, f"r-{number % 3}", reasons=("calm",)))
    return Examples(pairs, labels, criteria=criteria)


def gains(model: RewardModel) -> tuple[float, float]:
    """What the reward gives for loudness, and what for asking back: means over replies alike but for that."""
    told = {
        (loud, asks): float(
            model.score(
                [(PROMPT, reply(random.Random(one), loud=loud, asks=asks)) for one in range(20)]
            ).mean.mean()
        )
        for loud in (True, False)
        for asks in (True, False)
    }
    loud = told[True, False] + told[True, True] - told[False, False] - told[False, True]
    asks = told[False, True] + told[True, True] - told[False, False] - told[True, False]
    return loud / 2, asks / 2


def test_a_criterion_that_only_raters_label_moves_the_reward_with_its_weight(
    trunk: Trunk, tmp_path: Path
) -> None:
    found = {}
    for weight in (0.1, 1.0, 10.0):
        _, report = fit(
            trunk, split_tastes({"calm": weight}), RewardConfig(heads=2), out=tmp_path / str(weight)
        )
        assert report.criteria["calm"].weight == pytest.approx(weight / (1 + weight))
        assert report.criteria["calm"].votes == 60.0
        assert report.criteria["calm"].fold_accuracy > 0.8
        found[weight] = gains(RewardModel.load(trunk, tmp_path / str(weight)))
    loud, asks = ([found[weight][which] for weight in (0.1, 1.0, 10.0)] for which in (0, 1))
    assert 1 < loud[0] > loud[1] > loud[2]
    assert asks[0] > -0.7
    assert asks[1] < -1
    assert asks[2] < asks[1] - 0.3


def test_the_sum_is_that_of_the_heads_and_each_vote_is_told_by_its_own(trunk: Trunk, tmp_path: Path) -> None:
    model, _ = fit(trunk, split_tastes({"calm": 3.0}), RewardConfig(heads=2), out=tmp_path)
    weights = 0.25 * model.criteria["overall"] + 0.75 * model.criteria["calm"]
    torch.testing.assert_close(model.weights, weights)
    assert model.about(("calm",)) == ("calm",)
    assert model.about(("unheard",)) == model.about(()) == ("overall",)
    assert gains(model.judging(("overall",)))[0] > 1
    assert gains(model.judging(("calm",)))[1] < -1
    both = model.judging(("overall", "calm"))
    torch.testing.assert_close(both.weights, (model.criteria["overall"] + model.criteria["calm"]) / 2)


def test_too_few_labels_weigh_among_the_votes(trunk: Trunk, tmp_path: Path) -> None:
    """Then, too, a heavier criterion moves the reward more."""
    moved = []
    for weight in (0.2, 5.0):
        told = split_tastes({"calm": weight})
        few = replace(told, thumbs=told.thumbs[:24])
        model, report = fit(trunk, few, RewardConfig(heads=2), out=tmp_path / str(weight))
        assert set(report.criteria) == {"overall"}
        assert model.criteria == {}
        assert model.judging(model.about(("calm",))) is model
        moved.append(gains(model)[1])
    assert moved[1] < moved[0] - 0.3
