"""Proximal policy optimisation of a LoRA adapter against the reward model, whole in one file.

Each step: sample replies with the current policy, look at them once with the frozen base (reference
log-probabilities, reward features and value states come from that one pass), turn the reward and the KL
into advantages, and take clipped steps.

    reward per token   −β·k1 with k1 = log π_old − log π_ref, and the score at the last token
                       ("The N implementation details of RLHF with PPO", Huang et al. 2024)
    score              mean − λ·std over the reward model's heads (Coste et al. 2023), clipped to ±5;
                       −1 for a reply that did not end
    advantage          GAE with γ 1, λ 0.95 (Schulman et al. 2016), whitened over the batch; or, as a
                       setting, the leave-one-out baseline of the group (RLOO, Ahmadian et al. 2024)
    policy loss        clipped ratio 0.2 below, 0.28 above, dual clip 3 (Schulman 2017; Ye et al. 2020)
    value              its own small network on the frozen base's states, clipped loss; the policy's trunk
                       does not carry it, since a shared one drifted to short replies
    β                  adaptive (Ziegler et al. 2019): error clipped to ±0.2, towards a target in nats a reply
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from feedback.events import Message
from training.reference import Seen, Tokens, look, token_logprobs
from training.reward_model import Progress, RewardModel
from training.rollouts import Reply, Sampler
from training.trunk import Trunk, pad

Reward: TypeAlias = Callable[[Sequence[Seen]], Tensor]


@dataclass(frozen=True)
class PPOConfig:
    """Every setting of a run. Rates suit 3–10 million parameters; see docs/algorithms.md for larger bases."""

    max_seconds: float = 45.0
    """Wall clock after which the run ends in good order."""
    max_steps: int = 60
    prompts: int = 32
    """Distinct prompts a step."""
    group: int = 4
    """Replies a prompt and step."""
    max_tokens: int = 80
    """Longest reply while sampling, tokens."""
    epochs: int = 1
    minibatch: int = 64
    """Replies a gradient step."""
    learning_rate: float = 5e-4
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
    beta: float = 0.03
    """First weight of the KL, reward per nat."""
    target_kl: float = 6.0
    """Nats a reply from the base that the controller aims at."""
    max_kl: float = 10.0
    """Nats a reply from the base at which the run stops."""
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
    kl_nats: float = 0.0
    clip_fraction: float = 0.0
    entropy_nats: float = 0.0
    beta: float = 0.0
    curve: list[dict[str, float]] = field(default_factory=list)


@dataclass
class Batch:
    """One step's experience; per reply a tensor over its tokens."""

    tokens: list[Tokens]
    old: list[Tensor]  # log π_old
    kl: list[Tensor]  # log π_old − log π_ref
    states: list[Tensor]
    scores: Tensor  # (n,)
    advantages: list[Tensor] = field(default_factory=list)
    returns: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)


def gae(rewards: Tensor, values: Tensor, lam: float) -> Tensor:
    """Advantages (n,) of one episode with γ 1, from rewards (n,) and values (n,)."""
    advantage, following = torch.zeros_like(rewards), 0.0
    for t in range(len(rewards) - 1, -1, -1):
        ahead = float(values[t + 1]) if t + 1 < len(rewards) else 0.0
        following = float(rewards[t]) + ahead - float(values[t]) + lam * following
        advantage[t] = following
    return advantage


def leave_one_out(returns: Tensor, group: int) -> Tensor:
    """Each return less the mean of the others of its group. ``returns`` (groups·group,)."""
    rows = returns.view(-1, group)
    return (rows - (rows.sum(1, keepdim=True) - rows) / (group - 1)).view(-1)


def policy_loss(
    new: Tensor, old: Tensor, advantage: Tensor, mask: Tensor, config: PPOConfig
) -> tuple[Tensor, dict[str, float]]:
    """Clipped surrogate with a dual clip, and its figures. All (rows, tokens)."""
    ratio = torch.exp(new - old)
    plain = ratio * advantage
    clipped = ratio.clamp(1 - config.clip_low, 1 + config.clip_high) * advantage
    gain = torch.minimum(plain, clipped)
    gain = torch.where(advantage < 0, torch.maximum(gain, config.dual_clip * advantage), gain)
    count = mask.sum()
    k3 = ((torch.exp(old - new) - 1) - (old - new)) * mask
    figures = {
        "clip_fraction": float(((clipped < plain) * mask).sum() / count),
        "step_kl": float(k3.sum() / count),
    }
    return -(gain * mask).sum() / count, figures


def value_loss(new: Tensor, old: Tensor, returns: Tensor, mask: Tensor, clip: float) -> Tensor:
    """Clipped squared error. All (rows, tokens)."""
    near = old + (new - old).clamp(-clip, clip)
    error = torch.maximum((new - returns).square(), (near - returns).square())
    return 0.5 * (error * mask).sum() / mask.sum()


def next_beta(beta: float, kl: float, target: float, samples: int, horizon: int = 2000) -> float:
    """Ziegler et al.'s controller; ``kl`` and ``target`` in nats a reply."""
    error = min(0.2, max(-0.2, kl / target - 1))
    return beta * (1 + error * samples / horizon)


class Value(nn.Module):
    """A small network on the frozen base's token states."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 128), nn.GELU(), nn.Linear(128, 1))
        nn.init.zeros_(self.net[3].weight)
        nn.init.zeros_(self.net[3].bias)

    def forward(self, states: Tensor) -> Tensor:
        """(…, width) to (…,)."""
        out: Tensor = self.net(states)
        return out[..., 0]


class Run:
    """One run: weights, optimisers, controller, position; all of it is in a checkpoint."""

    def __init__(self, trunk: Trunk, config: PPOConfig, start: Path | None) -> None:
        self.trunk, self.config = trunk, config
        torch.manual_seed(config.seed)
        trunk.add("policy", start)
        self.weights = trunk.parameters("policy")
        self.sampler = Sampler(trunk)
        self.sampler.refresh("policy")
        self.value = Value(2 * trunk.model.config.hidden_size)
        self.optimizer = torch.optim.AdamW(self.weights, lr=config.learning_rate, eps=1e-5, weight_decay=0.0)
        self.value_optimizer = torch.optim.AdamW(
            self.value.parameters(), lr=config.value_learning_rate, eps=1e-5
        )
        self.beta, self.step, self.updates = config.beta, 0, 0
        self.report = PPOReport()

    def state(self) -> dict[str, Any]:
        """Everything that a resumed run needs to give the same bytes."""
        return {
            "weights": [weight.detach() for weight in self.weights],
            "value": self.value.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "value_optimizer": self.value_optimizer.state_dict(),
            "rng": torch.get_rng_state(),
            "position": {"beta": self.beta, "step": self.step, "updates": self.updates},
            "report": vars(self.report),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where ``state`` was taken."""
        with torch.no_grad():
            for weight, saved in zip(self.weights, state["weights"], strict=True):
                weight.copy_(saved)
        self.value.load_state_dict(state["value"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.value_optimizer.load_state_dict(state["value_optimizer"])
        torch.set_rng_state(state["rng"])
        self.beta, self.step, self.updates = (state["position"][key] for key in ("beta", "step", "updates"))
        self.report = PPOReport(**state["report"])
        self.sampler.refresh("policy")

    # --- experience -------------------------------------------------------------------------------------

    def collect(self, prompts: Sequence[Sequence[Message]], reward: Reward) -> Batch:
        """Sample, look, score, and work out advantages."""
        config = self.config
        picks = torch.randperm(
            len(prompts), generator=torch.Generator().manual_seed(config.seed * 7919 + self.step)
        )
        chosen = [
            prompts[int(picks[i % len(picks)])] for i in range(config.prompts) for _ in range(config.group)
        ]
        replies = self.sampler.sample(
            chosen, max_tokens=config.max_tokens, seed=config.seed * 104729 + self.step
        )
        tokens = [Tokens(reply.prompt_ids, reply.token_ids) for reply in replies]
        seen = look(self.trunk, tokens)
        old = [torch.tensor(reply.logprobs) for reply in replies]
        kl = [o - s.logprobs for o, s in zip(old, seen, strict=True)]
        batch = Batch(tokens, old, kl, [s.states for s in seen], _scores(reward(seen), replies))
        self._advantages(batch)
        return batch

    @torch.no_grad()
    def _advantages(self, batch: Batch) -> None:
        config = self.config
        rewards = [-self.beta * k for k in batch.kl]
        for reward, score in zip(rewards, batch.scores, strict=True):
            reward[-1] += score
        batch.values = [self.value(states) for states in batch.states]
        if config.advantage == "gae":
            batch.advantages = [
                gae(r, v, config.gae_lambda) for r, v in zip(rewards, batch.values, strict=True)
            ]
            batch.returns = [a + v for a, v in zip(batch.advantages, batch.values, strict=True)]
        else:
            totals = leave_one_out(torch.stack([r.sum() for r in rewards]), config.group)
            batch.advantages = [t.expand(len(r)).clone() for t, r in zip(totals, rewards, strict=True)]
            batch.returns = [r.flip(0).cumsum(0).flip(0) for r in rewards]
        every = torch.cat(batch.advantages)
        mean, std = every.mean(), every.std() + 1e-8
        batch.advantages = [(a - mean) / std for a in batch.advantages]

    # --- learning ---------------------------------------------------------------------------------------

    def learn(self, batch: Batch) -> dict[str, float]:
        """A few clipped steps over the batch; figures of the last."""
        figures: dict[str, float] = {}
        for _ in range(self.config.epochs):
            order = torch.randperm(len(batch.tokens)).tolist()
            for begin in range(0, len(order), self.config.minibatch):
                rows = sorted(
                    order[begin : begin + self.config.minibatch], key=lambda i: len(batch.tokens[i].prompt)
                )
                self._learn_value(batch, rows)
                if self.step >= self.config.value_warmup or self.config.advantage == "rloo":
                    figures = self._learn_policy(batch, rows)
            if figures.get("step_kl", 0.0) > self.config.stop_kl:
                break
        return figures

    def _learn_policy(self, batch: Batch, rows: list[int]) -> dict[str, float]:
        ids, attention = pad(
            [[*batch.tokens[i].prompt, *batch.tokens[i].reply] for i in rows], self.trunk.end
        )
        with self.trunk.using("policy") as model:
            model.train()
            logits = model(input_ids=ids, attention_mask=attention).logits
        new_all = token_logprobs(logits, ids)
        new, old, advantage, mask = _align(batch, rows, new_all)
        value, figures = policy_loss(new, old, advantage, mask, self.config)
        self.updates += 1
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * min(1.0, self.updates / max(1, self.config.warmup))
        self.optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(self.weights, self.config.gradient_norm)
        self.optimizer.step()
        return figures | {"entropy": float(-(new.detach() * mask).sum() / mask.sum())}

    def _learn_value(self, batch: Batch, rows: list[int]) -> None:
        states = torch.cat([batch.states[i] for i in rows])
        old, returns = torch.cat([batch.values[i] for i in rows]), torch.cat([batch.returns[i] for i in rows])
        for _ in range(2):
            value = value_loss(self.value(states), old, returns, torch.ones_like(old), self.config.value_clip)
            self.value_optimizer.zero_grad()
            value.backward()
            torch.nn.utils.clip_grad_norm_(self.value.parameters(), self.config.gradient_norm)
            self.value_optimizer.step()


def _scores(raw: Tensor, replies: Sequence[Reply]) -> Tensor:
    ended = torch.tensor([reply.finish_reason == "stop" for reply in replies])
    return torch.where(ended, raw.clamp(-5, 5), torch.full_like(raw, -1.0).minimum(raw.clamp(-5, 5)))


def _align(batch: Batch, rows: list[int], new: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Lay the per-reply tensors under the padded log-probabilities ``new`` (rows, length − 1)."""
    old, advantage, mask = torch.zeros_like(new), torch.zeros_like(new), torch.zeros_like(new)
    for row, index in enumerate(rows):
        begin = len(batch.tokens[index].prompt) - 1
        end = begin + len(batch.tokens[index].reply)
        old[row, begin:end], advantage[row, begin:end] = batch.old[index], batch.advantages[index]
        mask[row, begin:end] = 1.0
    return new * mask, old, advantage, mask


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

    ``checkpoint`` is a file: when it exists the run continues from it, to the same bytes.
    """
    run = Run(trunk, config, start)
    if checkpoint is not None and checkpoint.exists():
        run.restore(torch.load(checkpoint, weights_only=True))
    begun = time.monotonic() - run.report.seconds
    report = run.report
    while not report.stopped:
        batch = run.collect(prompts, reward)
        figures = run.learn(batch)
        run.sampler.refresh("policy")
        _account(run, batch, figures, time.monotonic() - begun)
        run.step += 1
        report.stopped = _why_stop(run, should_stop)
        if checkpoint is not None and (report.stopped or run.step % config.checkpoint_steps == 0):
            _save(run.state(), checkpoint)
        if progress is not None:
            done = max(run.step / config.max_steps, report.seconds / config.max_seconds)
            progress("ppo", min(1.0, done), report.curve[-1])
    write_adapter(trunk, "policy", out)
    return report


def _account(run: Run, batch: Batch, figures: dict[str, float], seconds: float) -> None:
    report, reward = run.report, float(batch.scores.mean())
    kl = float(torch.stack([k.sum() for k in batch.kl]).mean())
    if run.step >= run.config.value_warmup:
        run.beta = next_beta(run.beta, kl, run.config.target_kl, len(batch.tokens))
    report.reward_first = reward if not report.curve else report.reward_first
    report.steps, report.samples, report.seconds = run.step + 1, report.samples + len(batch.tokens), seconds
    report.reward_last, report.kl_nats, report.beta = reward, kl, run.beta
    report.clip_fraction = figures.get("clip_fraction", 0.0)
    report.entropy_nats = figures.get("entropy", 0.0)
    tokens = sum(len(one.reply) for one in batch.tokens) / len(batch.tokens)
    report.curve.append({"reward": reward, "kl": kl, "beta": run.beta, "tokens": tokens, **figures})


def _why_stop(run: Run, should_stop: Callable[[], bool] | None) -> str:
    report, config = run.report, run.config
    if report.kl_nats > config.max_kl:
        return "KL budget spent"
    if run.step >= config.max_steps:
        return "all steps done"
    if report.seconds >= config.max_seconds:
        return "time budget spent"
    return "asked to stop" if should_stop is not None and should_stop() else ""


def _save(state: dict[str, Any], checkpoint: Path) -> None:
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    draft = checkpoint.with_suffix(".tmp")
    torch.save(state, draft)
    draft.replace(checkpoint)


def write_adapter(trunk: Trunk, name: str, out: Path) -> None:
    """A stock PEFT folder: ``adapter_config.json`` and ``adapter_model.safetensors``, nothing else."""
    draft = out.with_name(out.name + ".peft")
    trunk.model.save_pretrained(str(draft), selected_adapters=[name])
    out.mkdir(parents=True, exist_ok=True)
    inner = draft / name if (draft / name).exists() else draft
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        (inner / file).replace(out / file)
    for path in sorted(draft.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    draft.rmdir()
