"""Proximal policy optimisation of a LoRA adapter against the reward model, whole in one file.

Each step: sample replies with the current policy, look at them once with the frozen base (reference
log-probabilities, reward features and value states come from that one pass), turn the reward and the KL
into advantages, and take clipped steps.

    reward per token   −β·k1 with k1 = log π_old − log π_ref, and the score at the last token
                       ("The N implementation details of RLHF with PPO", Huang et al. 2024)
    score              mean − λ·std over the reward model's heads (Coste et al. 2023), clipped to ±5;
                       at most −1 for a reply that did not end
    advantage          GAE with γ 1, λ 0.95 (Schulman et al. 2016), or, as a setting, the leave-one-out
                       baseline of the group (RLOO, Ahmadian et al. 2024); whitened over the batch
    policy loss        clipped ratio 0.2 below, 0.28 above (Schulman 2017; Yu et al. 2025), dual clip 3
                       (Ye et al. 2020)
    value              its own small network on the frozen base's states, clipped loss; the policy's trunk
                       does not carry it, since a shared one drifted to short replies
    β                  adaptive (Ziegler et al. 2019): error clipped to ±0.2, towards a target in nats a reply

The reference of a run that starts from an adapter is that adapter, frozen; the distance to the base is
reported beside it.
"""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from feedback.durable import write_durably
from feedback.events import Message
from training.forward import Forward
from training.memory import give_back
from training.packing import Packed, Tokens
from training.reference import Seen, look
from training.reward_model import Progress, RewardModel
from training.rollouts import Sampler
from training.trunk import Trunk

logger = logging.getLogger(__name__)
Reward: TypeAlias = Callable[[Sequence[Seen]], Tensor]


@dataclass(frozen=True)
class PPOConfig:
    """Every setting of a run. Rates suit 3–10 million parameters; see docs/algorithms.md for larger bases."""

    max_seconds: float = 90.0
    """Wall clock after which the run ends in good order."""
    max_steps: int = 24
    prompts: int = 32
    """Distinct prompts a step."""
    group: int = 4
    """Replies a prompt and step."""
    max_tokens: int = 80
    """Longest reply while sampling, tokens."""
    epochs: int = 1
    minibatch: int = 16
    """Prompts (with all their replies) a gradient step."""
    learning_rate: float = 4e-3
    warmup: int = 3
    """Gradient steps of linear warm-up."""
    value_learning_rate: float = 2e-3
    value_warmup: int = 2
    """Steps in which only the value network learns."""
    advantage: Literal["gae", "rloo"] = "gae"
    gae_lambda: float = 0.95
    clip_low: float = 0.2
    clip_high: float = 0.28
    dual_clip: float = 3.0
    value_clip: float = 0.2
    stop_kl: float = 0.05
    """Mean k3 against the sampling policy, per token, that ends a step's epochs."""
    beta: float = 0.1
    """First weight of the KL, reward per nat."""
    target_kl: float = 6.0
    """Nats a reply from the reference that the controller aims at."""
    horizon: float = 2000.0
    """Samples over which the controller corrects its error."""
    max_kl: float = 12.0
    """Nats a reply from the reference at which the run stops."""
    min_variety: float = 0.15
    """Share of the first step's different replies below which the run stops: one reply is taking over."""
    margin: float = 1.5
    """What a run that stops there keeps is the last policy that was so many times clear of either limit."""
    pessimism: float = 0.5
    """λ of mean − λ·std."""
    gradient_norm: float = 1.0
    checkpoint_steps: int = 5
    seed: int = 0


@dataclass
class PPOReport:
    """What a run did."""

    steps: int = 0
    samples: int = 0
    seconds: float = 0.0
    stopped: str = ""
    reward_first: float = 0.0
    reward_last: float = 0.0
    kl_nats: float = 0.0  # a reply, from the reference
    kl_base_nats: float = 0.0  # a reply, from the base
    variety: float = 1.0  # different replies of a step, over those of the first step
    variety_first: float = 0.0  # different replies of the first step, over all of its replies
    clip_fraction: float = 0.0
    entropy_nats: float = 0.0  # a token
    value_loss: float = 0.0
    explained_variance: float = 0.0  # of the returns by the value network
    beta: float = 0.0
    curve: list[dict[str, float]] = field(default_factory=list)


@dataclass
class Batch:
    """One step's experience: n replies with t tokens in all, token tensors reply by reply."""

    tokens: list[Tokens]
    sizes: list[int]
    scores: Tensor  # (n,)
    old: Tensor  # (t,) log π_old
    kl: Tensor  # (t,) log π_old − log π_ref
    states: Tensor  # (t, 2·hidden)
    values: Tensor = field(default_factory=lambda: torch.empty(0))  # (t,)
    advantages: Tensor = field(default_factory=lambda: torch.empty(0))  # (t,)
    returns: Tensor = field(default_factory=lambda: torch.empty(0))  # (t,)

    def at(self, conversations: Sequence[int]) -> Tensor:
        """Where the tokens of these conversations stand, one after the other."""
        starts = torch.tensor([0, *self.sizes]).cumsum(0)
        return torch.cat([torch.arange(int(starts[i]), int(starts[i + 1])) for i in conversations])


# --- the formulas ---------------------------------------------------------------------------------------------


def gae(rewards: Tensor, values: Tensor, lam: float) -> Tensor:
    """Generalised advantages with γ 1. (n, t), rows padded on the right with zeros; a padded tail gives zeros."""
    advantage = torch.zeros_like(rewards)
    following, ahead = torch.zeros(len(rewards)), torch.zeros(len(rewards))
    for t in range(rewards.shape[1] - 1, -1, -1):
        following = rewards[:, t] + ahead - values[:, t] + lam * following
        advantage[:, t], ahead = following, values[:, t]
    return advantage


def leave_one_out(returns: Tensor, group: int) -> Tensor:
    """Each return less the mean of the others of its group. (groups·group,) neighbours first."""
    rows = returns.view(-1, group)
    return (rows - (rows.sum(1, keepdim=True) - rows) / (group - 1)).view(-1)


def k3(new: Tensor, old: Tensor) -> Tensor:
    """Schulman's low-variance estimate of KL(old ‖ new) at tokens drawn from ``old``; never negative."""
    return torch.expm1(new - old) - (new - old)


def policy_loss(new: Tensor, old: Tensor, advantage: Tensor, config: PPOConfig) -> tuple[Tensor, Tensor]:
    """Clipped surrogate with a dual clip: per token the loss, and whether it was clipped. All (t,)."""
    ratio = torch.exp(new - old)
    plain = ratio * advantage
    clipped = ratio.clamp(1 - config.clip_low, 1 + config.clip_high) * advantage
    gain = torch.minimum(plain, clipped)
    gain = torch.where(advantage < 0, torch.maximum(gain, config.dual_clip * advantage), gain)
    return -gain, clipped < plain


def value_loss(new: Tensor, old: Tensor, returns: Tensor, clip: float) -> Tensor:
    """Clipped squared error. All (t,); the mean."""
    near = old + (new - old).clamp(-clip, clip)
    return 0.5 * torch.maximum((new - returns).square(), (near - returns).square()).mean()


def next_beta(beta: float, kl: float, target: float, samples: int, horizon: float) -> float:
    """Ziegler et al.'s controller; ``kl`` and ``target`` in nats a reply."""
    error = min(0.2, max(-0.2, kl / target - 1))
    return beta * (1 + error * samples / horizon)


def final_scores(raw: Tensor, ended: Tensor) -> Tensor:
    """Clipped to ±5; a reply that did not end gets −1 or worse. Both (n,)."""
    clipped = raw.clamp(-5, 5)
    return torch.where(ended, clipped, clipped.clamp(max=-1.0))


class Value(nn.Module):
    """A small network on the frozen base's token states."""

    def __init__(self, width: int) -> None:
        super().__init__()
        last = nn.Linear(128, 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.net = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 128), nn.GELU(), last)

    def forward(self, states: Tensor) -> Tensor:
        """(…, width) to (…,)."""
        out: Tensor = self.net(states)
        return out[..., 0]


# --- the run --------------------------------------------------------------------------------------------------


class Run:
    """One run: weights, optimisers, controller, position; all of it is in a checkpoint."""

    def __init__(self, trunk: Trunk, config: PPOConfig, start: Path | None) -> None:
        self.trunk, self.config = trunk, config
        torch.manual_seed(config.seed)
        self.weights = trunk.add("policy", start)
        self.anchor: str | None = None  # the reference: the base, or the adapter it started from
        if start is not None:
            self.anchor = "anchor"
            trunk.add(self.anchor, start)
            trunk.weights("policy")
        self.sampler = Sampler(trunk)
        self.sampler.refresh("policy")
        self.value = Value(2 * trunk.hidden)
        self.optimizer = torch.optim.AdamW(self.weights, lr=config.learning_rate, eps=1e-5, weight_decay=0.0)
        self.value_optimizer = torch.optim.AdamW(
            self.value.parameters(), lr=config.value_learning_rate, eps=1e-5
        )
        self.beta, self.step, self.updates = config.beta, 0, 0
        self.kept = self.snapshot()
        self.report = PPOReport()

    def snapshot(self) -> list[Tensor]:
        """A copy of the adapter as it is now."""
        return [weight.detach().clone() for weight in self.weights]

    @torch.no_grad()
    def adopt(self, weights: Sequence[Tensor]) -> None:
        """Put a snapshot in place."""
        for weight, saved in zip(self.weights, weights, strict=True):
            weight.copy_(saved)
        self.sampler.refresh("policy")

    def state(self) -> dict[str, Any]:
        """Everything that a resumed run needs to give the same bytes."""
        return {
            "weights": self.snapshot(),
            "kept": self.kept,
            "value": self.value.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "value_optimizer": self.value_optimizer.state_dict(),
            "rng": torch.get_rng_state(),
            "position": {"beta": self.beta, "step": self.step, "updates": self.updates},
            "report": vars(self.report),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where ``state`` was taken."""
        self.adopt(state["weights"])
        self.kept = state["kept"]
        self.value.load_state_dict(state["value"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.value_optimizer.load_state_dict(state["value_optimizer"])
        torch.set_rng_state(state["rng"])
        self.beta, self.step, self.updates = (state["position"][key] for key in ("beta", "step", "updates"))
        self.report = PPOReport(**state["report"])

    def clear(self, margin: float = 1.0) -> bool:
        """Whether the policy that sampled last is so many times clear of both limits; NaN is not."""
        report, config = self.report, self.config
        near = report.kl_nats <= config.max_kl / margin
        return near and report.variety >= config.min_variety * margin

    # --- experience -------------------------------------------------------------------------------------

    def collect(self, prompts: Sequence[Sequence[Message]], reward: Reward) -> Batch:
        """Sample, look, score, and work out advantages."""
        config = self.config
        generator = torch.Generator().manual_seed(config.seed * 7919 + self.step)
        picks = torch.randperm(len(prompts), generator=generator)
        chosen = [
            prompts[int(picks[i % len(picks)])] for i in range(config.prompts) for _ in range(config.group)
        ]
        seed = config.seed * 104_729 + self.step
        replies = self.sampler.sample(chosen, max_tokens=config.max_tokens, seed=seed)
        tokens = [Tokens(reply.prompt_ids, reply.token_ids) for reply in replies]
        seen = look(self.trunk, tokens)
        old = torch.cat([torch.tensor(reply.logprobs) for reply in replies])
        batch = Batch(
            tokens=tokens,
            sizes=[len(one.reply) for one in tokens],
            scores=final_scores(reward(seen), torch.tensor([one.finish_reason == "stop" for one in replies])),
            old=old,
            kl=old - self._reference(tokens, seen),
            states=torch.cat([one.states for one in seen]),
        )
        self._advantages(batch)
        self._account(batch, old - torch.cat([one.logprobs for one in seen]))
        return batch

    @torch.no_grad()
    def _reference(self, tokens: Sequence[Tokens], seen: Sequence[Seen]) -> Tensor:
        """The reference's log-probabilities (t,)."""
        if self.anchor is None:
            return torch.cat([one.logprobs for one in seen])
        parts = Forward(self.trunk, self.anchor).over(
            tokens,
            lambda packed, passed: list(
                zip(packed.indices, passed.logprobs.cpu().split(packed.sizes), strict=True)
            ),
        )
        found = dict(pair for part in parts for pair in part)
        return torch.cat([found[index] for index in range(len(tokens))])

    @torch.no_grad()
    def _advantages(self, batch: Batch) -> None:
        config = self.config
        rewards = -self.beta * batch.kl
        rewards[torch.tensor(batch.sizes).cumsum(0) - 1] += batch.scores
        batch.values = self.value(batch.states)
        rows = pad_sequence(rewards.split(batch.sizes), batch_first=True)
        inside = pad_sequence(torch.ones_like(rewards).split(batch.sizes), batch_first=True) > 0
        if config.advantage == "gae":
            values = pad_sequence(batch.values.split(batch.sizes), batch_first=True)
            batch.advantages = gae(rows, values, config.gae_lambda)[inside]
            batch.returns = batch.advantages + batch.values
        else:
            alone = leave_one_out(rows.sum(1), config.group)
            batch.advantages = alone[:, None].expand_as(rows)[inside].clone()
            batch.returns = rows.flip(1).cumsum(1).flip(1)[inside]
        batch.advantages -= batch.advantages.mean()
        batch.advantages /= batch.advantages.std() + 1e-8

    def _account(self, batch: Batch, from_base: Tensor) -> None:
        """Figures of the policy that sampled; one well within the limits becomes the one to keep."""
        report, n = self.report, len(batch.tokens)
        report.reward_last = float(batch.scores.mean())
        report.kl_nats, report.kl_base_nats = float(batch.kl.sum()) / n, float(from_base.sum()) / n
        report.reward_first = report.reward_last if self.step == 0 else report.reward_first
        report.entropy_nats = -float(batch.old.mean())
        left = (batch.returns - batch.values).var() / (batch.returns.var() + 1e-8)
        report.explained_variance = float(1 - left)
        report.steps, report.samples = self.step + 1, report.samples + n
        different = len({one.reply for one in batch.tokens}) / n
        report.variety_first = report.variety_first or different
        report.variety = different / report.variety_first
        if self.clear(self.config.margin):
            self.kept = self.snapshot()

    # --- learning ---------------------------------------------------------------------------------------

    def learn(self, batch: Batch) -> None:
        """A few clipped steps over the batch."""
        config, report = self.config, self.report
        for _ in range(config.epochs):
            for conversations in self._minibatches():
                self._learn_value(batch, batch.at(conversations))
                if self.step >= config.value_warmup or config.advantage == "rloo":
                    report.clip_fraction, step_kl = self._learn_policy(batch, conversations)
                    if step_kl > config.stop_kl:
                        return

    def _minibatches(self) -> Iterator[list[int]]:
        """Replies to one prompt stay together, which halves the tokens to compute."""
        config = self.config
        order = torch.randperm(config.prompts).tolist()
        for begin in range(0, len(order), config.minibatch):
            chosen = order[begin : begin + config.minibatch]
            yield [prompt * config.group + one for prompt in chosen for one in range(config.group)]

    def _learn_policy(self, batch: Batch, conversations: list[int]) -> tuple[float, float]:
        """One step of Adam; the share of clipped tokens and the mean k3."""
        total = sum(batch.sizes[i] for i in conversations)

        def loss_of(packed: Packed, new: Tensor) -> tuple[Tensor, tuple[float, float]]:
            where = batch.at([conversations[i] for i in packed.indices])
            old, advantage = batch.old[where].to(new.device), batch.advantages[where].to(new.device)
            loss, outside = policy_loss(new, old, advantage, self.config)
            return loss.sum() / total, (
                float(outside.sum()) / total,
                float(k3(new.detach(), old).sum()) / total,
            )

        self.optimizer.zero_grad()
        told = Forward(self.trunk, "policy").learn([batch.tokens[i] for i in conversations], loss_of)
        self.updates += 1
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * min(1.0, self.updates / max(1, self.config.warmup))
        nn.utils.clip_grad_norm_(self.weights, self.config.gradient_norm)
        self.optimizer.step()
        return sum(clipped for clipped, _ in told), sum(moved for _, moved in told)

    def _learn_value(self, batch: Batch, where: Tensor) -> None:
        states, old, returns = batch.states[where], batch.values[where], batch.returns[where]
        for _ in range(2):
            loss = value_loss(self.value(states), old, returns, self.config.value_clip)
            self.value_optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.value.parameters(), self.config.gradient_norm)
            self.value_optimizer.step()
            self.report.value_loss = float(loss.detach())

    def adapt(self, batch: Batch) -> None:
        """Move β, take up the new weights, write the figures down."""
        config, report = self.config, self.report
        if self.step >= config.value_warmup:
            self.beta = next_beta(
                self.beta, report.kl_nats, config.target_kl, len(batch.tokens), config.horizon
            )
        report.beta = self.beta
        self.sampler.refresh("policy")
        told = (
            "reward_last", "kl_nats", "kl_base_nats", "clip_fraction", "entropy_nats", "value_loss",
            "explained_variance", "variety", "beta", "samples", "seconds",
        )  # fmt: skip
        tokens = sum(batch.sizes) / len(batch.sizes)
        report.curve.append({name: float(getattr(report, name)) for name in told} | {"tokens": tokens})
        self.step += 1

    def why_stop(self, should_stop: Callable[[], bool] | None) -> str:
        """In words; empty to go on."""
        if should_stop is not None and should_stop():
            return "asked to stop"
        if not self.clear():
            return "replies grew alike" if self.report.kl_nats <= self.config.max_kl else "KL budget spent"
        if self.step >= self.config.max_steps:
            return "all steps done"
        return "time budget spent" if self.report.seconds >= self.config.max_seconds else ""


def pessimistic(model: RewardModel, pessimism: float) -> Reward:
    """Mean − λ·std of the reward model's heads."""

    def reward(seen: Sequence[Seen]) -> Tensor:
        scores = model.score_seen(seen)
        return scores.mean - pessimism * scores.std

    return reward


def train(
    trunk: Trunk,
    prompts: Sequence[Sequence[Message]],
    reward: Reward,
    config: PPOConfig,
    *,
    start: Path | None = None,
    out: Path,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> PPOReport:
    """Train from ``start`` (None: the base) and write a stock PEFT folder to ``out``.

    ``checkpoint`` is a file: when it exists the run continues from it, to the same bytes; one that cannot be
    read is left aside. A run that reaches a limit keeps the last policy that was well within both.
    """
    run = _taken_up(trunk, config, start, checkpoint)
    begun = time.monotonic() - run.report.seconds
    while not run.report.stopped:
        batch = run.collect(prompts, reward)
        if run.clear():
            run.learn(batch)
        run.report.seconds = time.monotonic() - begun
        run.adapt(batch)
        give_back()
        run.report.stopped = run.why_stop(should_stop)
        if checkpoint is not None and (run.report.stopped or run.step % config.checkpoint_steps == 0):
            _save(run.state(), checkpoint)
        if progress is not None:
            done = max(run.step / config.max_steps, run.report.seconds / config.max_seconds)
            progress("ppo", min(1.0, done), run.report.curve[-1])
    if not run.clear():
        run.adopt(run.kept)
    trunk.write("policy", out)
    return run.report


def _taken_up(trunk: Trunk, config: PPOConfig, start: Path | None, checkpoint: Path | None) -> Run:
    """The run as its checkpoint has it. One cut short or of another version must not fail every round."""
    run = Run(trunk, config, start)
    if checkpoint is None or not checkpoint.exists():
        return run
    try:
        run.restore(torch.load(checkpoint, weights_only=True))
        logger.info("PPO goes on after step %d, from its checkpoint", run.step)
    except (RuntimeError, EOFError, UnpicklingError, KeyError, TypeError, ValueError) as error:
        logger.warning("%s cannot be read, the run begins anew: %s", checkpoint, error)
        return Run(trunk, config, start)
    return run


def _save(state: dict[str, Any], checkpoint: Path) -> None:
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, held := io.BytesIO())
    write_durably(checkpoint, held.getvalue())
