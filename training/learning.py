"""What is learnt from one batch: reward model and judge, fine-tuning, PPO, gate. Knows no store and no alias.

Votes are parted by a hash of their prompt: the reward model, which PPO climbs, learns from most of them, and
the judge, which says whether the climb led upwards and where it began to lead down, from the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from feedback.events import Message
from training import ppo, ranks, sft
from training.engine_rollouts import rollouts
from training.errors import NothingToLearn, RoundCancelled
from training.examples import Examples
from training.gate import GateReport, examine, knows_checks, report
from training.memory import give_back
from training.packing import Tokens
from training.ppo_config import PPOConfig, PPOReport
from training.reward_model import RewardConfig, RewardModel, RewardReport, fit
from training.settings import TrainingSettings
from training.splits import split_of
from training.trunk import Trunk

JUDGE_SHARE = 0.35
"""Share of the votes that only the judge learns from: PPO never sees them."""


class Watcher(Protocol):
    """Who is told how learning goes."""

    def step(self, name: str, fraction: float) -> None: ...

    def progress(self, name: str, fraction: float, figures: Mapping[str, float]) -> None: ...

    def fitted(self, reward: RewardReport, judge: RewardReport) -> None: ...

    def should_stop(self) -> bool:
        """Asked between the parts of a round, and between the steps of PPO."""
        ...


@dataclass(frozen=True)
class Learned:
    """What came of a batch. ``adapter`` is a stock PEFT folder; None when the votes tell too little."""

    adapter: Path | None
    verdict: GateReport
    reward: RewardReport
    judge: RewardReport
    trained: dict[str, Any] = field(default_factory=dict)  # figures of fine-tuning and PPO


def learn(
    trunk: Trunk,
    examples: Examples,
    served: Path | None,
    settings: TrainingSettings,
    *,
    work: Path,
    rewards: Path,
    seed: int,
    watcher: Watcher,
) -> Learned:
    """Train an adapter on ``examples`` and hold it against what is ``served`` (None: the base).

    Checkpoints and drafts go to ``work``, the reward models to ``rewards``. Raises NothingToLearn when there are
    not votes for both folds or no prompts, RoundCancelled when the watcher asks to stop.
    """
    learnt, judged = folds(examples)
    for fold, who in ((learnt, "the reward model"), (judged, "the judge")):
        part = fold.of("train")
        if not part.pairs and not part.thumbs:
            raise NothingToLearn(f"{len(examples.pairs) + len(examples.thumbs)} votes leave none to {who}")
    if not examples.prompts:
        raise NothingToLearn("there is no prompt to practise on: a reply to each is reported and not cleared")
    watcher.step("reward model", 0.0)
    length = settings.reward_length
    model, figures = fit(trunk, learnt, RewardConfig(length=length), out=rewards)
    judge, judge_figures = fit(trunk, judged, RewardConfig(length=length, seed=1), out=rewards / "judge")
    watcher.fitted(figures, judge_figures)
    give_back()
    knows = knows_checks(model, judge, learnt, judged)
    if not report(knows).passed:
        return Learned(None, report(knows), figures, judge_figures)
    _end_if_asked(watcher, "the fit of the reward model")
    adapter = work / "adapter"
    trained = _policy(trunk, examples, model, judge, settings, work, watcher)
    _end_if_asked(watcher, "PPO")
    watcher.step("gate", 0.0)
    asked = gate_prompts(examples, settings.gate_prompts)
    verdict = examine(trunk, adapter, served, judge, asked, settings, seed=seed)
    give_back()
    return Learned(adapter, report([*knows, *verdict.checks]), figures, judge_figures, trained)


def folds(examples: Examples) -> tuple[Examples, Examples]:
    """Votes for the reward model, and votes for the judge; all votes on one prompt are in the same."""

    def judges(messages: Sequence[Message]) -> bool:
        return split_of(messages, "judge", JUDGE_SHARE) == "holdout"

    parted = [
        Examples(
            pairs=[pair for pair in examples.pairs if judges(pair.messages) == mine],
            thumbs=[thumb for thumb in examples.thumbs if judges(thumb.messages) == mine],
            criteria=examples.criteria,
        )
        for mine in (False, True)
    ]
    return parted[0], parted[1]


def gate_prompts(examples: Examples, count: int) -> list[list[Message]]:
    """The newest prompts; asked again, with other seeds, where there are few."""
    newest = [list(prompt) for prompt in examples.prompts][-count:]
    return (newest * (count // len(newest) + 1))[:count]


def _policy(
    trunk: Trunk,
    examples: Examples,
    model: RewardModel,
    judge: RewardModel,
    settings: TrainingSettings,
    work: Path,
    watcher: Watcher,
) -> dict[str, Any]:
    """Fine-tuning where there are corrections, then PPO into ``work/adapter``. Figures of both."""
    start: Path | None = None
    figures: dict[str, Any] = {}
    if len(examples.demonstrations) >= settings.sft_min_corrections:
        watcher.step("fine-tuning", 0.0)
        start = work / "sft"
        figures["sft"] = sft.fit(
            trunk, examples.demonstrations, sft.SFTConfig(), out=start, progress=watcher.progress
        )
    config = replace(
        PPOConfig(),
        max_seconds=settings.ppo_seconds,
        max_steps=settings.ppo_steps,
        supervised=settings.ppo_supervised,
        max_base_kl=settings.gate_max_kl,
        correct=settings.rollouts != "process",
    )
    watcher.step("ppo", 0.0)
    with rollouts(trunk, settings) as sampler:
        run = ppo.train(
            trunk,
            [list(prompt) for prompt in examples.prompts],
            ppo.pessimistic(model, config.pessimism),
            config,
            start=start,
            out=work / "adapter",
            sampler=sampler,
            checkpoint=work / "ppo",
            demonstrations=_shown(trunk, examples) if config.supervised else (),
            outside=ppo.pessimistic(judge, 0.0),
            progress=watcher.progress,
            should_stop=watcher.should_stop,
        )
    if run.stopped == ppo.ASKED:
        raise RoundCancelled(_what_was_done(run, config))
    told = {key: value for key, value in asdict(run).items() if key != "curve"}
    return figures | {"ppo": told, "curve": run.curve[:: max(1, len(run.curve) // 20)]}


def _shown(trunk: Trunk, examples: Examples) -> list[Tokens]:
    """The demonstrations that fine-tuning takes, for the supervised share: the newest where there are many."""
    newest = examples.demonstrations[-sft.SFTConfig().max_demonstrations :]
    return [trunk.tokens(one.messages, one.text) for one in newest]


def _end_if_asked(watcher: Watcher, done: str) -> None:
    if ranks.agreed(ranks.is_first() and watcher.should_stop()):
        raise RoundCancelled(f"somebody asked the round to end: it ended after {done}; no adapter was made")


def _what_was_done(run: PPOReport, config: PPOConfig) -> str:
    """Of a run that somebody ended."""
    return (
        f"somebody asked the round to end: PPO stopped after step {run.steps} of {config.max_steps}, {run.samples} "
        f"replies and {run.seconds:.0f} s, {run.kl_nats:.1f} nats from its reference, the mean reward moved from "
        f"{run.reward_first:.2f} to {run.reward_last:.2f}; no adapter was made"
    )
