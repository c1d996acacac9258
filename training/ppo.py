"""Proximal policy optimisation of a LoRA adapter against the reward model, whole in one file.

Each step: sample replies with the current policy, look at them once with the frozen base (reference
log-probabilities, reward features and value states come from that one pass), turn the reward and the KL
into advantages, and take clipped steps.

    reward per token   −β·k1 with k1 = log π_old − log π_ref, and the score at the last token
                       ("The N implementation details of RLHF with PPO", Huang et al. 2024)
    score              mean − λ·std over the reward model's heads (Coste et al. 2023), clipped to ±5; at most −1 for a
                       reply that says nothing or does not end (the EOS trick); or cut ones left out (Yu et al. 2025)
    advantage          GAE with γ 1, λ 0.95 (Schulman et al. 2016), or, as a setting, the leave-one-out
                       baseline of the group (RLOO, Ahmadian et al. 2024); whitened over the whole batch
    policy loss        clipped ratio 0.2 below, 0.28 above (Schulman et al. 2017; Yu et al. 2025), dual clip 3
                       (Ye et al. 2020)
    importance         where sampler and trainer compute apart, tokens weigh π_trainer/π_sampler, truncated
                       (Yao et al. 2025), and replies that another policy must have said are left out
    value              its own small network on the frozen base's states, clipped loss; the policy's trunk
                       does not carry it, since a shared one drifted to short replies
    β                  adaptive (Ziegler et al. 2019): error clipped to ±0.2, towards a target in nats a reply
    epochs             end when k3 from the sampling policy is too large (Schulman 2020)
    supervised         beside it, as a setting, −log π of demonstrations (PPO-ptx, Ouyang et al. 2022)
    peak               worth by a model that is not climbed, fitted against √KL (Gao et al. 2022, ``peak``): a
                       run that has it behind it ends, and gives the policy from before it

The reference of a run that starts from an adapter is that adapter, frozen; the distance to the base is
measured beside it and bounded, too. Settings and figures stand in ``ppo_config``.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn, optim
from torch.nn.utils.rnn import pad_sequence

from feedback.events import Message
from training import ranks
from training.checkpoints import Checkpoints
from training.forward import Forward
from training.memory import give_back
from training.packing import Packed, Tokens
from training.peak import Trail
from training.ppo_config import PPOConfig, PPOReport
from training.reference import look
from training.reward_model import Progress, Reward, pessimistic
from training.rollouts import Reply, Rollouts, Sampler
from training.trunk import Trunk

__all__ = ["Batch", "PPOConfig", "PPOReport", "Reward", "Run", "pessimistic", "train"]
logger = logging.getLogger(__name__)
ASKED = "asked to stop"


@dataclass
class Batch:
    """One step's experience: n replies with t tokens in all, token tensors reply by reply."""

    tokens: list[Tokens]
    sizes: list[int]
    scores: Tensor  # (n,)
    old: Tensor  # (t,) log π_old
    kl: Tensor  # (t,) log π_old − log π_ref
    states: Tensor  # (t, 2·hidden)
    weight: Tensor  # (t,) of a token's loss: importance, and 0 for what is left out
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


def whiten(values: Tensor, inside: Tensor) -> Tensor:
    """Mean 0 and deviation 1 over what is ``inside``; the rest is shifted and scaled alike. Both (t,)."""
    told = inside if int(inside.sum()) > 1 else torch.ones_like(inside)
    centred = values - values[told].mean()
    return centred / (centred[told].std() + 1e-8)


def k3(new: Tensor, old: Tensor) -> Tensor:
    """Schulman's estimate ("Approximating KL divergence", 2020) of KL(old ‖ new) at tokens drawn from ``old``; ≥ 0."""
    return torch.expm1(new - old) - (new - old)


def importance(trainer: Tensor, sampler: Tensor, sizes: Sequence[int], config: PPOConfig) -> Tensor:
    """π_trainer/π_sampler of each token, truncated; 0 throughout a reply whose mean is too far from 1. (t,)."""
    gap = trainer - sampler
    far = torch.stack([one.mean().abs() > math.log(config.sequence_limit) for one in gap.split(list(sizes))])
    return gap.exp().clamp(max=config.importance_cap) * ~far.repeat_interleave(torch.tensor(sizes))


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


def final_scores(raw: Tensor, whole: Tensor) -> Tensor:
    """Clipped to ±5; a reply that did not end, or says nothing, gets −1 or worse. Both (n,)."""
    clipped = raw.clamp(-5, 5)
    return torch.where(whole, clipped, clipped.clamp(max=-1.0))


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

    def __init__(
        self, trunk: Trunk, config: PPOConfig, start: Path | None, sampler: Rollouts | None = None
    ) -> None:
        self.trunk, self.config = trunk, config
        torch.manual_seed(config.seed)
        self.weights = trunk.add("policy", start)
        self.anchor: str | None = None  # the reference: the base, or the adapter it started from
        if start is not None:
            self.anchor = "anchor"
            trunk.add(self.anchor, start)
            trunk.weights("policy")
        self.sampler = sampler or Sampler(trunk)
        self.sampler.refresh("policy")
        self.value = Value(2 * trunk.hidden)
        self.demonstrations: list[Tokens] = []
        self.outside: Reward | None = None
        self.trail = Trail()
        self.optimizer = optim.AdamW(self.weights, lr=config.learning_rate, eps=1e-5, weight_decay=0.0)
        self.value_optimizer = optim.AdamW(self.value.parameters(), lr=config.value_learning_rate, eps=1e-5)
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
            "trail": vars(self.trail),
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
        self.trail = Trail(**state["trail"])

    def clear(self, margin: float = 1.0) -> bool:
        """Whether the policy that sampled last is so many times clear of every limit; NaN is not."""
        report, config = self.report, self.config
        near = report.kl_nats <= config.max_kl / margin and report.kl_base_nats <= config.max_base_kl / margin
        return near and report.variety >= config.min_variety * margin

    # --- experience -------------------------------------------------------------------------------------

    def chosen(self, prompts: Sequence[Sequence[Message]]) -> list[Sequence[Message]]:
        """The prompts of this step, each as often as it is answered; they hang on seed and step alone."""
        generator = torch.Generator().manual_seed(self.config.seed * 7919 + self.step)
        picks = torch.randperm(len(prompts), generator=generator).tolist()
        return [
            prompts[picks[place % len(picks)]]
            for place in range(self.config.prompts)
            for _ in range(self.config.group)
        ]

    def rollouts(self, prompts: Sequence[Sequence[Message]], kept: Checkpoints | None) -> list[Reply]:
        """Replies to this step's prompts: those that a killed run had sampled, or new ones."""
        chosen = self.chosen(prompts)
        before = ranks.agreed(kept.rollouts(self.step) if kept is not None else None)
        if before and [one.prompt_ids for one in before] == [self.trunk.prompt_ids(one) for one in chosen]:
            return before
        seed = self.config.seed * 104_729 + self.step
        replies = self.sampler.sample(chosen, max_tokens=self.config.max_tokens, seed=seed)
        if kept is not None:
            kept.keep_rollouts(self.step, replies)
        return replies

    def collect(self, replies: Sequence[Reply], reward: Reward) -> Batch:
        """Look, score, and work out advantages."""
        tokens = [Tokens(reply.prompt_ids, reply.token_ids) for reply in replies]
        sizes = [len(one.reply) for one in tokens]
        ended = torch.tensor([reply.finish_reason == "stop" for reply in replies])
        whole = ended & torch.tensor([bool(reply.text.strip()) for reply in replies])
        seen = look(self.trunk, tokens)
        base = torch.cat([one.logprobs for one in seen])
        sampled = torch.cat([torch.tensor(reply.logprobs) for reply in replies])
        old = self._logprobs("policy", tokens) if self.config.correct else sampled
        reference = base if self.anchor is None else self._logprobs(self.anchor, tokens)
        weight = importance(old, sampled, sizes, self.config) if self.config.correct else torch.ones_like(old)
        if self.config.truncated == "mask":
            weight = weight * ended.repeat_interleave(torch.tensor(sizes))
        batch = Batch(
            tokens, sizes, final_scores(reward(seen), whole), old, old - reference,
            torch.cat([one.states for one in seen]), weight,
        )  # fmt: skip
        self._advantages(batch)
        self.report.truncated = 1 - float(ended.float().mean())
        self.report.mismatch_nats = float((old - sampled).abs().mean())
        self._account(batch, old - base)
        if self.outside is not None:
            self.report.outside = float(self.outside(seen).mean())
            keep = self.snapshot if self.clear(self.config.margin) else None
            self.trail.note(self.report.kl_nats, self.report.outside, keep)
        return batch

    @torch.no_grad()
    def _logprobs(self, name: str, tokens: Sequence[Tokens]) -> Tensor:
        """Of the reply tokens under an adapter (t,)."""
        parts = Forward(self.trunk, name).over(
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
        batch.advantages = whiten(batch.advantages, batch.weight > 0)

    def _account(self, batch: Batch, from_base: Tensor) -> None:
        """Figures of the policy that sampled; one well within the limits becomes the one to keep."""
        report, n = self.report, len(batch.tokens)
        report.reward_last = float(batch.scores.mean())
        report.kl_nats, report.kl_base_nats = float(batch.kl.sum()) / n, float(from_base.sum()) / n
        report.kl_k3_nats = float(k3(-batch.kl, torch.zeros_like(batch.kl)).sum()) / n
        report.masked = float((batch.weight == 0).float().mean())
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
        """A few clipped steps over the batch, until the policy has moved far enough."""
        config, report = self.config, self.report
        for _ in range(config.epochs):
            for conversations in self._minibatches():
                where = batch.at(conversations)
                inside = where[batch.weight[where] > 0]
                if not len(inside):
                    continue
                self._learn_value(batch, inside)
                if self.step >= config.value_warmup or config.advantage == "rloo":
                    told = self._learn_policy(batch, conversations, len(inside))
                    report.clip_fraction, report.step_kl = told
                    if report.step_kl > config.stop_kl:
                        return

    def _minibatches(self) -> Iterator[list[int]]:
        """Replies to one prompt stay together, which halves the tokens to compute."""
        config = self.config
        order = torch.randperm(config.prompts).tolist()
        for begin in range(0, len(order), config.minibatch):
            chosen = order[begin : begin + config.minibatch]
            yield [prompt * config.group + one for prompt in chosen for one in range(config.group)]

    def _learn_policy(self, batch: Batch, conversations: list[int], total: int) -> tuple[float, float]:
        """One step of Adam over ``total`` tokens; the share of clipped ones and the mean k3."""

        def loss_of(packed: Packed, new: Tensor) -> tuple[Tensor, tuple[float, float]]:
            where = batch.at([conversations[i] for i in packed.indices])
            old, advantage, weight = (
                part[where].to(new.device) for part in (batch.old, batch.advantages, batch.weight)
            )
            loss, outside = policy_loss(new, old, advantage, self.config)
            inside = weight > 0
            moved = float(k3(new.detach(), old)[inside].sum()) / total
            return (loss * weight).sum() / total, (float((outside & inside).sum()) / total, moved)

        self.optimizer.zero_grad()
        told = Forward(self.trunk, "policy").learn([batch.tokens[i] for i in conversations], loss_of)
        self._learn_supervised()
        ranks.sum_gradients(self.weights)
        self.updates += 1
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * min(1.0, self.updates / max(1, self.config.warmup))
        nn.utils.clip_grad_norm_(self.weights, self.config.gradient_norm)
        self.optimizer.step()
        return sum(clipped for clipped, _ in told), sum(moved for _, moved in told)

    def _learn_supervised(self) -> None:
        """Add the gradient of the demonstrations' share; which ones hangs on seed and position alone."""
        if not self.config.supervised or not self.demonstrations:
            return
        generator = torch.Generator().manual_seed(self.config.seed * 15_485_863 + self.updates)
        picks = torch.randperm(len(self.demonstrations), generator=generator)[: self.config.minibatch]
        taken = [self.demonstrations[int(pick)] for pick in picks]
        total = sum(len(one.reply) for one in taken)

        def loss_of(_packed: Packed, new: Tensor) -> tuple[Tensor, float]:
            return -self.config.supervised * new.sum() / total, -float(new.detach().sum()) / total

        self.report.supervised_loss = sum(Forward(self.trunk, "policy").learn(taken, loss_of))

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
            n = len(batch.tokens)
            self.beta = next_beta(self.beta, report.kl_nats, config.target_kl, n, config.horizon)
        report.beta = self.beta
        self.sampler.refresh("policy")
        report.write_down(sum(batch.sizes) / len(batch.sizes))
        self.step += 1

    def why_stop(self, should_stop: Callable[[], bool] | None) -> str:
        """In words; empty to go on."""
        if should_stop is not None and should_stop():
            return ASKED
        if not self.clear():
            within = self.report.kl_nats <= self.config.max_kl
            if within and self.report.variety < self.config.min_variety:
                return "replies grew alike"
            return "KL budget from the base spent" if within else "KL budget spent"
        if self.trail.behind():
            return "the peak lies behind"
        if self.step >= self.config.max_steps:
            return "all steps done"
        return "time budget spent" if self.report.seconds >= self.config.max_seconds else ""

    def settle(self) -> None:
        """Take the policy that is to be kept: the last, or one within the limits, or one before the peak."""
        if not self.clear():
            self.adopt(self.kept)
        if (best := self.trail.best(self.config.peak_share)) is not None:
            self.report.peak_nats, self.report.kept_nats = self.trail.peak**2, self.trail.places[best] ** 2
            self.adopt(self.trail.snapshots[best])


def train(
    trunk: Trunk,
    prompts: Sequence[Sequence[Message]],
    reward: Reward,
    config: PPOConfig,
    *,
    start: Path | None = None,
    out: Path,
    checkpoint: Path | None = None,
    sampler: Rollouts | None = None,
    demonstrations: Sequence[Tokens] = (),
    outside: Reward | None = None,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> PPOReport:
    """Train from ``start`` (None: the base) and write a stock PEFT folder to ``out``.

    ``checkpoint`` is a folder: where it holds a run, that is continued, to the same bytes as long as steps and
    not seconds end it; what cannot be read is left aside. ``sampler`` says the replies; None: this process. A run
    that reaches a limit keeps the last policy that was well within all. ``demonstrations`` are for
    ``config.supervised``. ``outside`` is a reward that is not climbed: a run gives the policy from before its peak.
    """
    kept = Checkpoints(checkpoint) if checkpoint is not None and ranks.is_first() else None
    run = _taken_up(lambda: Run(trunk, config, start, sampler), kept)
    run.demonstrations, run.outside = list(demonstrations), outside
    begun = time.monotonic() - run.report.seconds
    while not run.report.stopped:
        batch = run.collect(run.rollouts(prompts, kept), reward)
        if ranks.agreed(run.clear()):
            run.learn(batch)
        run.report.seconds = time.monotonic() - begun
        run.adapt(batch)
        give_back()
        run.report.stopped = ranks.agreed(run.why_stop(should_stop if ranks.is_first() else None))
        if kept is not None and (run.report.stopped or run.step % config.checkpoint_steps == 0):
            kept.save(run.step, run.state())
        if progress is not None and ranks.is_first():
            done = max(run.step / config.max_steps, run.report.seconds / config.max_seconds)
            progress("ppo", min(1.0, done), run.report.curve[-1])
    run.settle()
    trunk.write("policy", out)
    return run.report


def _taken_up(begin: Callable[[], Run], kept: Checkpoints | None) -> Run:
    """The run as its newest whole checkpoint has it. One of another version must not fail every round."""
    for state in ranks.agreed(list(kept.states()) if kept is not None else []):
        run = begin()
        try:
            run.restore(state)
        except (RuntimeError, KeyError, TypeError, ValueError) as error:
            logger.warning("a checkpoint of another version is left aside: %s", error)
            continue
        logger.info("PPO goes on after step %d, from its checkpoint", run.step)
        return run
    return begin()
