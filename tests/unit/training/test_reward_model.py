"""The reward model's likelihoods by hand, its optimum against scipy's, and what it learns from planted votes."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest
import torch
from scipy.optimize import minimize

from tests.unit.training.tiny import ask
from training.examples import Examples, Outcome, Pair, Split, Thumb
from training.reference import look
from training.reward_features import raw_features
from training.reward_model import (
    Head,
    RewardConfig,
    RewardModel,
    Votes,
    davidson_nll,
    expected_calibration_error,
    fit,
    fit_head,
    loss,
    vote_nll,
)
from training.trunk import Trunk

CONFIG = RewardConfig(strength=2.0, offset_strength=4.0, heads=5, iterations=60, folds=4, seed=0)
NOBODY = torch.zeros(0)
PROMPT = tuple(ask("so?"))


def votes_of(
    difference: list[list[float]],
    outcome: list[float],
    features: list[list[float]] | None = None,
    up: list[float] | None = None,
    subject: list[int] | None = None,
) -> Votes:
    width = len((difference or features or [[]])[0])
    thumbs = up or []
    return Votes(
        difference=torch.tensor(difference).reshape(-1, width),
        outcome=torch.tensor(outcome),
        pair_weight=torch.ones(len(outcome)),
        features=torch.tensor(features or []).reshape(-1, width),
        up=torch.tensor(thumbs),
        subject=torch.tensor(subject or [0] * len(thumbs)).long(),
        thumb_weight=torch.ones(len(thumbs)),
        subjects=1 + max(subject or [0]),
    )


# --- the likelihoods ------------------------------------------------------------------------------------------


def test_davidsons_probabilities_of_winning_losing_and_a_tie() -> None:
    # e^(d/2) : e^(−d/2) : ν = 2 : ½ : 1 at d = 2 ln 2, ν = 1; all alike at d = 0
    d = torch.tensor([2 * math.log(2)] * 3 + [0.0] * 3)
    outcome = torch.tensor([1.0, 0.0, 0.5] * 2)
    wanted = -torch.tensor([4 / 7, 1 / 7, 2 / 7, 1 / 3, 1 / 3, 1 / 3]).log()
    torch.testing.assert_close(davidson_nll(d, outcome, torch.tensor(0.0)), wanted)


def test_where_ties_never_happen_davidson_is_bradley_and_terry() -> None:
    d = torch.tensor([1.7, -0.4])
    never = torch.tensor(-60.0)
    wanted = -torch.sigmoid(torch.tensor([1.7, 0.4])).log()
    torch.testing.assert_close(davidson_nll(d, torch.tensor([1.0, 0.0]), never), wanted)


def test_a_thumb_is_logistic_in_the_score_over_the_threshold_and_the_subjects_own() -> None:
    votes = votes_of([[1.0, 0.0]], [1.0], [[2.0, 1.0]] * 2, [1.0, 0.0], [0, 1])
    head = Head(torch.tensor([1.0, 0.5]), torch.tensor(0.5), torch.tensor([2.0, -1.0]), torch.tensor(-60.0))
    pairs, thumbs = vote_nll(head, votes)
    # scores 2.5, less ½, less 2 or −1: 0 and 3; the pair's d is 1
    torch.testing.assert_close(thumbs, -torch.tensor([0.5, 1 / (1 + math.e**3)]).log())
    torch.testing.assert_close(pairs, -torch.tensor([1 / (1 + 1 / math.e)]).log())
    _, cooler = vote_nll(head, votes, temperature=3.0)
    torch.testing.assert_close(cooler, -torch.tensor([0.5, 1 / (1 + math.e)]).log())


def test_the_loss_is_votes_and_pulls_over_the_weight_of_the_votes() -> None:
    votes = votes_of([[1.0]], [1.0], [[1.0]], [1.0])
    votes.pair_weight, votes.thumb_weight = torch.tensor([2.0]), torch.tensor([3.0])
    head = Head(torch.tensor([1.0]), torch.tensor(1.0), torch.tensor([0.5]), torch.tensor(0.0))
    pair = -math.log(math.exp(0.5) / (math.exp(0.5) + math.exp(-0.5) + 1))
    thumb = math.log(1 + math.exp(0.5))  # score 1 less 1 less ½
    # weights pulled by 2 from 1 to ¼, offset by 4 from ½, log ν by 1 from 0 to −1, threshold by 0.1 from 1
    pulls = (2 * 0.75**2 + 4 * 0.5**2 + 1 + 0.1) / 2
    wanted = (2 * pair + 3 * thumb + pulls) / 5
    assert float(loss(head, votes, CONFIG, torch.tensor([0.25]))) == pytest.approx(wanted, rel=1e-5)


def test_calibration_error_by_hand() -> None:
    probability = torch.tensor([0.12, 0.18, 0.91, 0.99, 1.0])
    outcome = torch.tensor([0.0, 1.0, 1.0, 1.0, 0.0])
    # two around .15 of which half came true, three around .9667 of which two thirds did
    wanted = (2 * 0.35 + 3 * (2.9 / 3 - 2 / 3)) / 5
    assert expected_calibration_error(probability, outcome) == pytest.approx(wanted, abs=1e-6)
    assert expected_calibration_error(torch.tensor([0.5, 0.5]), torch.tensor([1.0, 0.0])) == 0.0


# --- the fit of one head --------------------------------------------------------------------------------------


def random_votes(n: int, weights: torch.Tensor, seed: int = 0) -> Votes:
    """Pairs and thumbs drawn from the model with these weights, ν = ½, threshold ½, no offsets."""
    generator = torch.Generator().manual_seed(seed)
    difference, features = (torch.randn((n, len(weights)), generator=generator) for _ in range(2))
    d = difference @ weights
    odds = torch.stack([(d / 2).exp(), (-d / 2).exp(), torch.full((n,), 0.5)], 1)
    said = torch.tensor([1.0, 0.0, 0.5])[torch.multinomial(odds, 1, generator=generator)[:, 0]]
    up = (torch.rand(n, generator=generator) < torch.sigmoid(features @ weights - 0.5)).float()
    return votes_of(difference.tolist(), said.tolist(), features.tolist(), up.tolist(), [0, 1] * (n // 2))


def test_the_fit_is_the_optimum_that_scipy_finds() -> None:
    votes = random_votes(60, torch.tensor([1.0, -2.0, 0.0]))
    prior = torch.tensor([0.3, -0.1, 0.2])

    def value(flat: np.ndarray) -> float:
        parts = torch.tensor(flat, dtype=torch.float32).split([3, 1, 2, 1])
        return float(loss(Head(parts[0], parts[1][0], parts[2], parts[3][0]), votes, CONFIG, prior))

    best = minimize(value, np.zeros(7), method="Powell", options={"xtol": 1e-5, "ftol": 1e-9}).x
    found = torch.cat([part.reshape(-1) for part in fit_head(votes, CONFIG, prior).parts()])
    torch.testing.assert_close(found, torch.tensor(best, dtype=torch.float32), atol=5e-3, rtol=5e-3)


def test_many_votes_give_back_the_weights_they_were_drawn_from() -> None:
    planted = torch.tensor([1.0, -2.0, 0.0, 0.5])
    head = fit_head(random_votes(8000, planted), CONFIG)
    torch.testing.assert_close(head.weights, planted, atol=0.12, rtol=0)
    assert float(head.threshold + head.offsets.mean()) == pytest.approx(0.5, abs=0.12)
    assert float(head.log_tie) == pytest.approx(math.log(0.5), abs=0.12)


def test_without_votes_the_weights_stay_where_they_are_pulled() -> None:
    prior = torch.tensor([0.5, -1.0])
    votes = votes_of([[1.0, 1.0]], [1.0])
    head = fit_head(votes.weighted(torch.zeros(1), NOBODY), CONFIG, prior)
    torch.testing.assert_close(head.weights, prior)


def test_ties_say_how_likely_a_tie_is_and_that_the_two_are_alike() -> None:
    wins, ties = [[0.0]] * 500, [[0.0]] * 500
    head = fit_head(votes_of(wins + ties, [1.0] * 500 + [0.5] * 500), CONFIG)
    assert float(head.log_tie) == pytest.approx(math.log(2), abs=0.02)  # ν/(2 + ν) = ½
    strong = fit_head(votes_of([[1.0]] * 20, [1.0] * 20), CONFIG)
    mixed = fit_head(votes_of([[1.0]] * 40, [1.0] * 20 + [0.5] * 20), CONFIG)
    assert float(mixed.weights[0]) < float(strong.weights[0])
    assert float(mixed.weights[0]) > 0


def test_a_subjects_habit_goes_into_its_own_offset_not_into_the_weights() -> None:
    """A grumbler saw only replies with the feature, a praiser only those without; a fair one sees no merit."""
    features = [[1.0]] * 40 + [[-1.0]] * 40 + [[1.0], [-1.0]] * 20
    up = [0.0] * 40 + [1.0] * 40 + [1.0, 0.0, 0.0, 1.0] * 10
    votes = votes_of([], [], features, up, [0] * 40 + [1] * 40 + [2] * 40)
    free, stiff = (fit_head(votes, replace(CONFIG, offset_strength=pull)) for pull in (0.01, 1e4))
    assert float(free.offsets[0]) > 2
    assert float(free.offsets[1]) < -2
    assert abs(float(free.offsets[2])) < 0.2
    assert abs(float(free.weights[0])) < 0.2
    assert float(stiff.weights[0]) < -1  # without offsets the habits pass for a preference
    assert float(stiff.offsets.abs().max()) < 0.01


def test_a_vote_of_weight_two_counts_as_two_votes() -> None:
    votes = random_votes(30, torch.tensor([1.0, -1.0]))
    twice = votes.weighted(torch.full((30,), 2.0), torch.full((30,), 2.0))
    parts = {
        name: torch.cat([getattr(votes, name)] * 2)
        for name in ("difference", "outcome", "pair_weight", "features", "up", "subject", "thumb_weight")
    }
    ours, theirs = fit_head(twice, CONFIG), fit_head(replace(votes, **parts), CONFIG)
    torch.testing.assert_close(ours.weights, theirs.weights, atol=2e-3, rtol=2e-3)


# --- the whole fit --------------------------------------------------------------------------------------------


def text(rng: random.Random, loud: bool) -> str:
    words = ["".join(rng.choice("abcdefgh") for _ in range(4)) for _ in range(3)]
    return " ".join(words) + ("!" * rng.randint(1, 3) if loud else ".")


def planted(
    pairs: int, thumbs: int, *, seed: int = 0, noise: float = 0.0, split: Split = "train"
) -> Examples:
    """Votes of people who like exclamations, of whom a share says the contrary."""
    rng = random.Random(seed)
    made_pairs, made_thumbs = [], []
    for _ in range(pairs):
        good, bad = text(rng, loud=True), text(rng, loud=False)
        good, bad = (bad, good) if rng.random() < noise else (good, bad)
        made_pairs.append(Pair(PROMPT, good, bad, "win", split=split))
    for number in range(thumbs):
        loud = rng.random() < 0.5
        up = loud != (rng.random() < noise)
        made_thumbs.append(Thumb(PROMPT, text(rng, loud), up, subject=f"s-{number % 7}", split=split))
    return Examples(pairs=made_pairs, thumbs=made_thumbs)


def joined(*parts: Examples) -> Examples:
    return Examples(
        pairs=[pair for part in parts for pair in part.pairs],
        thumbs=[thumb for part in parts for thumb in part.thumbs],
    )


def scores(model: RewardModel, texts: list[str]) -> torch.Tensor:
    return model.score([(PROMPT, one) for one in texts]).mean


@pytest.mark.parametrize(("pairs", "thumbs"), [(60, 0), (0, 60), (30, 30)])
def test_a_planted_preference_is_learnt_through_noise(
    trunk: Trunk, tmp_path: Path, pairs: int, thumbs: int
) -> None:
    unseen = planted(pairs, thumbs, seed=9, split="holdout")
    examples = joined(planted(pairs, thumbs, noise=0.15), unseen)
    model, report = fit(trunk, examples, CONFIG, out=tmp_path)
    assert (report.pairs, report.thumbs, report.holdout) == (2 * pairs, 2 * thumbs, 60)
    assert report.accuracy >= 0.85
    assert 0.65 <= report.fold_accuracy <= 0.95  # of votes with 15 % noise
    assert report.nll < math.log(3)
    rng = random.Random(5)
    loud, plain = ([text(rng, loud=one) for _ in range(40)] for one in (True, False))
    assert float((scores(model, loud) > scores(model, plain)).float().mean()) >= 0.95
    assert orjson.loads((tmp_path / "report.json").read_bytes())["accuracy"] == report.accuracy


def test_scores_have_the_middle_and_the_deviation_of_the_replies_voted_on(
    trunk: Trunk, tmp_path: Path
) -> None:
    examples = planted(0, 80)
    model, _ = fit(trunk, examples, CONFIG, out=tmp_path)
    told = scores(model, [thumb.text for thumb in examples.thumbs])
    assert float(told.mean()) == pytest.approx(0.0, abs=1e-3)
    assert float(told.std(unbiased=False)) == pytest.approx(1.0, abs=1e-3)


def test_both_bad_pulls_both_down(trunk: Trunk, tmp_path: Path) -> None:
    rng = random.Random(3)

    def against(outcome: Outcome) -> Examples:
        """Grumbles met each other; the rest was found good or less good."""
        pairs = [
            Pair(PROMPT, f"hmm {text(rng, False)}", f"hmm {text(rng, False)}", outcome) for _ in range(30)
        ]
        return joined(Examples(pairs=pairs), planted(30, 10))

    drops = []
    for outcome in ("tie", "both_bad"):
        model, _ = fit(trunk, against(outcome), CONFIG, out=tmp_path / outcome)
        drops.append(float((scores(model, ["hmm abc."]) - scores(model, ["abc."]))[0]))
    assert drops[1] < drops[0] - 0.3


def test_a_saved_model_gives_the_same_scores(trunk: Trunk, tmp_path: Path) -> None:
    model, _ = fit(trunk, planted(20, 20), CONFIG, out=tmp_path)
    asked = [(PROMPT, one) for one in ("abc!", "abc.", "something else?")]
    before, after = model.score(asked), RewardModel.load(trunk, tmp_path).score(asked)
    assert torch.equal(before.mean, after.mean)
    assert torch.equal(before.std, after.std)


def test_its_probabilities_are_as_sure_as_its_report_says(trunk: Trunk, tmp_path: Path) -> None:
    """σ(certainty · difference) is the fit's own log-odds over the temperature, also of a model that was saved."""
    model, report = fit(trunk, planted(30, 0, noise=0.2), CONFIG, out=tmp_path)
    for one in (model, RewardModel.load(trunk, tmp_path)):
        told = scores(one, ["abcd efgh!", "abcd efgh."])
        raw = one.weights @ (features(one, "abcd efgh!") - features(one, "abcd efgh."))
        wanted = float(raw) / report.temperature
        assert float(told[0] - told[1]) * one.certainty == pytest.approx(wanted, abs=1e-4)


def features(model: RewardModel, said: str) -> torch.Tensor:
    seen = look(model.trunk, [model.trunk.tokens(PROMPT, said)])
    return model.standard.apply(raw_features(model.trunk, seen))[0]


def test_length_that_raters_like_is_believed_or_taken_out_and_the_rest_is_learnt(
    trunk: Trunk, tmp_path: Path
) -> None:
    """They like exclamations and, of two alike, the longer one."""
    rng = random.Random(7)

    def reply(loud: bool, words: int) -> str:
        return " ".join(text(rng, False)[:4] for _ in range(words)) + ("!" if loud else ".")

    pairs = []
    for _ in range(60):
        loud = rng.random() < 0.5
        pairs.append(Pair(PROMPT, reply(loud, 12), reply(loud, 4), "win"))
        pairs.append(Pair(PROMPT, reply(True, 8), reply(False, 8), "win"))
    unseen = [reply(loud, words) for loud in (True, False) for words in range(2, 16) for _ in range(4)]
    long = torch.tensor([float(len(one.split())) for one in unseen])
    for share, low, high in ((1.0, 0.5, 1.0), (0.0, -0.15, 0.15)):
        config = replace(CONFIG, length=share)
        model, _ = fit(trunk, Examples(pairs=pairs), config, out=tmp_path / str(share))
        told = scores(model, unseen)
        assert low <= float(torch.corrcoef(torch.stack([told, long]))[0, 1]) <= high
        assert float((told[:56] > told[56:]).float().mean()) > 0.9  # loud and quiet ones of one length
        doubted = model.opinions([(PROMPT, one) for one in unseen])
        each = [float(torch.corrcoef(torch.stack([head, long]))[0, 1]) for head in doubted.T]
        assert low <= sum(each) / len(each) <= high


def test_the_same_votes_give_the_same_file(trunk: Trunk, tmp_path: Path) -> None:
    for name in ("one", "two"):
        torch.manual_seed(len(name) if name == "one" else 99)
        fit(trunk, planted(15, 15), CONFIG, out=tmp_path / name)
    files = [(tmp_path / name / "reward.safetensors").read_bytes() for name in ("one", "two")]
    assert files[0] == files[1]


def test_without_a_vote_to_learn_from_there_is_no_model(trunk: Trunk, tmp_path: Path) -> None:
    for examples in (Examples(), planted(5, 5, split="holdout")):
        with pytest.raises(ValueError, match="no vote to learn from"):
            fit(trunk, examples, CONFIG, out=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "examples",
    [
        Examples(thumbs=[Thumb(PROMPT, "abc.", up=True)]),
        Examples(thumbs=[Thumb(PROMPT, f"{n} abc.", up=True) for n in range(9)]),
        Examples(thumbs=[Thumb(PROMPT, f"{n} abc.", up=False, subject="s") for n in range(9)]),
        Examples(pairs=[Pair(PROMPT, "abc.", "abc!", "tie")]),
        Examples(pairs=[Pair(PROMPT, "abc.", "abc.", "win")] * 3),
        Examples(pairs=[Pair(PROMPT, "abc.", "abc!", "both_bad")] * 3),
    ],
    ids=["one thumb", "all up", "all down", "one tie", "one text against itself", "all bad"],
)
def test_votes_of_one_kind_give_a_model_whose_scores_are_numbers(
    trunk: Trunk, tmp_path: Path, examples: Examples
) -> None:
    model, report = fit(trunk, examples, CONFIG, out=tmp_path)
    told = model.score([(PROMPT, "abc."), (PROMPT, "quite another one? yes!")])
    assert bool(told.mean.isfinite().all())
    assert bool(told.std.isfinite().all())
    assert all(math.isfinite(value) for value in vars(report).values())
    assert report.holdout == 0  # measured on what it learnt from


def test_more_votes_leave_less_doubt(trunk: Trunk, tmp_path: Path) -> None:
    asked = [(PROMPT, one) for one in ("abcd efgh!", "abcd efgh.", "gfed cbah!!")]
    doubts = []
    for count in (6, 60):
        model, _ = fit(trunk, planted(count, count), CONFIG, out=tmp_path / str(count))
        doubts.append(float(model.score(asked).std.mean()))
    assert doubts[1] < doubts[0]


def test_votes_by_the_coin_make_it_doubt_its_own_probabilities(trunk: Trunk, tmp_path: Path) -> None:
    _, report = fit(trunk, planted(60, 60, noise=0.5), CONFIG, out=tmp_path)
    _, sure = fit(trunk, planted(60, 60), CONFIG, out=tmp_path)
    assert report.temperature > 1 > sure.temperature
    assert report.fold_accuracy == pytest.approx(0.5, abs=0.17)


def test_progress_ends_at_one(trunk: Trunk, tmp_path: Path) -> None:
    told: list[tuple[str, float]] = []
    fit(
        trunk, planted(4, 4), CONFIG, out=tmp_path, progress=lambda name, share, _: told.append((name, share))
    )
    assert told == [("reward model", 0.0), ("reward model", 0.5), ("reward model", 1.0)]
