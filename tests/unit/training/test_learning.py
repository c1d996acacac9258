"""From votes to a verdict: the folds, too few votes, votes that tell nothing, and votes that tell something."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.unit.training.tiny import ask
from training.errors import NothingToLearn, RoundCancelled
from training.examples import Demonstration, Examples, Pair, Thumb
from training.learning import JUDGE_SHARE, folds, gate_prompts, learn
from training.reward_model import RewardReport
from training.settings import TrainingSettings
from training.trunk import Trunk


class Watching:
    """Remembers what it is told; wants the end from the ``patience``-th time on that it is asked."""

    def __init__(self, *, patience: float = float("inf")) -> None:
        self.patience, self.steps, self.accuracy = patience, list[str](), 0.0

    def step(self, name: str, _fraction: float) -> None:
        self.steps.append(name)

    def progress(self, name: str, fraction: float, figures: Mapping[str, float]) -> None: ...

    def fitted(self, reward: RewardReport, _judge: RewardReport) -> None:
        self.accuracy = reward.fold_accuracy

    def should_stop(self) -> bool:
        self.patience -= 1
        return self.patience <= 0


def word(rng: random.Random, letters: str) -> str:
    return "".join(rng.choice(letters) for _ in range(8))


def votes(count: int, *, coin: bool) -> Examples:
    """Pairs and thumbs. Replies in a…h are better than those in p…w, or a coin says which are."""
    rng = random.Random(f"votes {coin}")
    pairs, thumbs = [], []
    for number in range(count):
        prompt, good, bad = tuple(ask(f"{number}")), word(rng, "abcdefgh"), word(rng, "pqrstuvw")
        if coin and rng.random() < 0.5:
            good, bad = bad, good
        if number % 2:
            pairs.append(Pair(prompt, good, bad, "win"))
        else:
            text, up = rng.choice([(good, True), (bad, False)])
            thumbs.append(Thumb(prompt, text, up))
    return Examples(pairs, thumbs, (), [pair.messages for pair in pairs])


def learnt(trunk: Trunk, examples: Examples, folder: Path, watcher: Watching, **thresholds: float):
    settings = TrainingSettings().overridden({"ppo_seconds": 1.0, "gate_prompts": 16, **thresholds})
    return learn(
        trunk, examples, None, settings, work=folder, rewards=folder / "reward", seed=1, watcher=watcher
    )


def test_each_vote_is_in_one_fold_and_all_votes_on_a_prompt_in_the_same() -> None:
    examples = votes(600, coin=False)
    again = Examples([*examples.pairs, *examples.pairs], examples.thumbs)
    model, judge = folds(again)
    assert len(model.pairs) + len(judge.pairs) == len(again.pairs)
    asked = [{pair.messages[0]["content"] for pair in fold.pairs} for fold in (model, judge)]
    assert not asked[0] & asked[1]
    share = (len(judge.pairs) / 2 + len(judge.thumbs)) / 600
    assert share == pytest.approx(JUDGE_SHARE, abs=0.06)  # three deviations of a share of 600


def test_the_gate_asks_the_newest_prompts_and_repeats_few() -> None:
    examples = Examples(prompts=[tuple(ask(name)) for name in ("a", "b", "c")])
    asked = [messages[0]["content"] for messages in gate_prompts(examples, 2)]
    assert asked == ["b", "c"]
    assert [messages[0]["content"] for messages in gate_prompts(examples, 5)] == ["a", "b", "c", "a", "b"]


def test_a_handful_of_votes_is_nothing_to_learn_from_rather_than_a_crash(
    trunk: Trunk, tmp_path: Path
) -> None:
    with pytest.raises(NothingToLearn, match="1 votes leave none to"):
        learnt(trunk, votes(1, coin=False), tmp_path, Watching())
    few = learnt(trunk, votes(6, coin=False), tmp_path, Watching())  # nothing is held out of six
    assert few.adapter is None
    assert not few.verdict.passed


def test_coins_train_nothing(trunk: Trunk, tmp_path: Path) -> None:
    watcher = Watching()
    told = learnt(trunk, votes(120, coin=True), tmp_path, watcher)
    assert told.adapter is None
    assert "votes they never saw" in told.verdict.reason
    assert watcher.steps == ["reward model"]


def test_votes_that_agree_lead_to_an_adapter_and_a_verdict_on_it(trunk: Trunk, tmp_path: Path) -> None:
    watcher = Watching()
    told = learnt(trunk, votes(120, coin=False), tmp_path, watcher)
    assert watcher.steps == ["reward model", "ppo", "gate"]
    assert watcher.accuracy > 0.8
    assert told.adapter is not None
    assert sorted(path.name for path in told.adapter.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    checks = [check.check for check in told.verdict.checks]
    assert checks[:6] == ["votes", "reward_model", "judge", "win_rate", "moved", "kl"]
    assert told.trained["ppo"]["samples"] > 0
    assert told.trained["ppo"]["supervised_loss"] == 0.0


def test_demonstrations_are_learnt_from_beside_ppo_where_that_is_wished(trunk: Trunk, tmp_path: Path) -> None:
    told = votes(120, coin=False)
    shown = [Demonstration(pair.messages, pair.a) for pair in told.pairs[:3]]  # too few to fine-tune on
    examples = Examples(told.pairs, told.thumbs, shown, told.prompts)
    chosen = {"ppo_supervised": 0.5, "ppo_steps": 3, "ppo_seconds": 600.0}
    figures = learnt(trunk, examples, tmp_path, Watching(), **chosen)
    losses = [point["supervised_loss"] for point in figures.trained["curve"]]
    assert losses[:2] == [0.0, 0.0]  # the value network warms up, the policy stands still
    assert losses[2] > 0


@pytest.mark.parametrize(
    ("patience", "steps", "said"),
    [
        (1, ["reward model"], "it ended after the fit of the reward model; no adapter was made"),
        (
            2,
            ["reward model", "ppo"],
            r"stopped after step 1 of 24, 128 replies and \d+ s, .* nats .* reward moved from .*; no adapter was made",
        ),
    ],
)
def test_a_round_that_is_asked_to_end_ends_and_says_what_it_did(
    trunk: Trunk, tmp_path: Path, patience: int, steps: list[str], said: str
) -> None:
    watcher = Watching(patience=patience)
    with pytest.raises(RoundCancelled, match=said):
        learnt(trunk, votes(120, coin=False), tmp_path, watcher)
    assert watcher.steps == steps
