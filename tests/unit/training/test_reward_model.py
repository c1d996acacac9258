"""What the reward model learns from planted votes, how sure it is, and what is kept of it."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
import torch

from tests.unit.training.tiny import ask
from training.calibration import Calibration
from training.examples import Examples, Outcome, Pair, Split, Thumb
from training.reference import look
from training.reward_features import raw_features
from training.reward_model import (
    RewardConfig,
    RewardModel,
    expected_calibration_error,
    fit,
)
from training.trunk import Trunk

CONFIG = RewardConfig(strength=2.0, offset_strength=4.0, heads=5, iterations=60, folds=4, seed=0)
PROMPT = tuple(ask("so?"))


def test_calibration_error_by_hand() -> None:
    probability = torch.tensor([0.12, 0.18, 0.91, 0.99, 1.0])
    outcome = torch.tensor([0.0, 1.0, 1.0, 1.0, 0.0])
    # two around .15 of which half came true, three around .9667 of which two thirds did
    wanted = (2 * 0.35 + 3 * (2.9 / 3 - 2 / 3)) / 5
    assert expected_calibration_error(probability, outcome) == pytest.approx(wanted, abs=1e-6)
    assert expected_calibration_error(torch.tensor([0.5, 0.5]), torch.tensor([1.0, 0.0])) == 0.0


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
    """A probability is of the fit's own log-odds, calibrated; also of a model that was saved."""
    model, report = fit(trunk, planted(30, 0, noise=0.2), CONFIG, out=tmp_path)
    for one in (model, RewardModel.load(trunk, tmp_path)):
        told = scores(one, ["abcd efgh!", "abcd efgh."])
        raw = one.weights @ (features(one, "abcd efgh!") - features(one, "abcd efgh."))
        wanted = Calibration(report.temperature, report.lapse).probability(raw)
        torch.testing.assert_close(one.preferred(told[0] - told[1]), wanted)


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
    told_of = {**vars(report.criteria["overall"]), **vars(report)}
    assert all(math.isfinite(value) for name, value in told_of.items() if name != "criteria")
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


def test_votes_turned_round_however_far_apart_two_replies_are_found_to_lapse(
    trunk: Trunk, tmp_path: Path
) -> None:
    def louder(turned: float) -> Examples:
        rng, pairs = random.Random(4), []
        for _ in range(240):
            less, more = sorted(rng.sample(range(1, 13), 2))
            two = [text(rng, loud=False)[:-1] + "!" * marks for marks in (more, less)]
            a, b = reversed(two) if rng.random() < turned else two
            pairs.append(Pair(PROMPT, a, b, "win"))
        return Examples(pairs=pairs)

    _, careless = fit(trunk, louder(0.25), CONFIG, out=tmp_path)
    _, careful = fit(trunk, louder(0.0), CONFIG, out=tmp_path)
    assert careless.lapse == pytest.approx(0.25, abs=0.1)
    assert careful.lapse == 0


def test_progress_ends_at_one(trunk: Trunk, tmp_path: Path) -> None:
    told: list[tuple[str, float]] = []
    fit(
        trunk, planted(4, 4), CONFIG, out=tmp_path, progress=lambda name, share, _: told.append((name, share))
    )
    assert told == [("reward model", 0.0), ("reward model", 0.5), ("reward model", 1.0)]
