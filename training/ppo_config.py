"""The settings of a PPO run and the figures it tells, each with its unit and the range in which runs are healthy.

The rates suit 3–10 million parameters; docs/algorithms.md says what changes with the size of the base.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Advantage: TypeAlias = Literal["gae", "rloo"]
Truncated: TypeAlias = Literal["penalty", "mask"]


@dataclass(frozen=True)
class PPOConfig:
    """Every setting of a run."""

    # --- how long
    max_seconds: float = 70.0
    """Wall clock after which the run ends in good order."""
    max_steps: int = 24
    """Steps, each of ``prompts · group`` replies. 20–100; more only while the held-out win rate still rises."""
    checkpoint_steps: int = 5
    """Steps from one checkpoint to the next: what a kill may cost, less the sampling, which is kept each step."""
    seed: int = 0

    # --- rollouts
    prompts: int = 32
    """Distinct prompts a step. 32–512."""
    group: int = 4
    """Replies a prompt and step. 2 at least for ``rloo``; 4–8."""
    max_tokens: int = 80
    """Longest reply while sampling, tokens: so long that at most one in twenty is cut."""
    truncated: Truncated = "penalty"
    """A reply that reached ``max_tokens``: scored −1 at most, as one that forgot to end, or left out of the
    losses ("mask"; DAPO, Yu et al. 2025) where long replies are wanted and the limit is the machine's alone."""

    # --- optimisation
    epochs: int = 1
    """Passes over a step's replies. 1–2; more only with ``stop_kl``."""
    minibatch: int = 16
    """Prompts (with all their replies) a gradient step."""
    learning_rate: float = 4e-3
    """Of the adapter; about ten times full fine-tuning's. 1e-5–5e-5 from a billion parameters on."""
    warmup: int = 3
    """Gradient steps of linear warm-up."""
    gradient_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    value_learning_rate: float = 2e-3
    value_warmup: int = 2
    """Steps in which only the value network learns. 10–20 where the value network is a large one."""
    supervised: float = 0.0
    """Weight of the supervised loss on demonstrations beside the policy loss (PPO-ptx, Ouyang et al. 2022).
    0: none. 0.05–0.5 where canaries show that the policy forgets what it was shown."""

    # --- terms
    advantage: Advantage = "gae"
    """``gae`` with the value network, or ``rloo``: the mean of the group's others as the baseline."""
    gae_lambda: float = 0.95
    clip_low: float = 0.2
    clip_high: float = 0.28
    dual_clip: float = 3.0
    value_clip: float = 0.2
    stop_kl: float = 0.05
    """Mean k3 against the sampling policy, per token, that ends a step's epochs."""
    pessimism: float = 0.5
    """λ of mean − λ·std over the reward model's heads. 0.25–1."""

    # --- between sampler and trainer
    correct: bool = False
    """Whether the trainer works out the sampling policy's log-probabilities itself and weighs tokens by
    trainer over sampler. A must for replies from an engine; in process both share one arithmetic and the further
    pass buys nothing (docs/algorithms.md)."""
    importance_cap: float = 2.0
    """Most that a token may weigh by it (truncated importance sampling, Yao et al. 2025). 2–3."""
    sequence_limit: float = 1.2
    """A reply whose geometric mean of that ratio is outside [1/limit, limit] is left out: another policy or
    another arithmetic said it."""

    # --- how far
    beta: float = 0.1
    """First weight of the KL, reward per nat. 0.02–0.2."""
    target_kl: float = 6.0
    """Nats a reply from the reference that the controller aims at. 4–10."""
    horizon: float = 2000.0
    """Samples over which the controller corrects its error."""
    max_kl: float = 12.0
    """Nats a reply from the reference at which the run stops: twice the target."""
    max_base_kl: float = 15.0
    """Nats a reply from the base at which it stops, however near the adapter that it continues; the gate's bar."""
    min_variety: float = 0.15
    """Share of the first step's different replies below which the run stops: one reply is taking over."""
    margin: float = 1.5
    """What a run that stops there keeps is the last policy that was so many times clear of every limit."""
    peak_share: float = 1.1
    """Where the worth that another model tells has a peak on the way, the part of the way (√nats) that is kept."""


@dataclass
class PPOReport:
    """What a run did. Figures of a step are those of the policy that sampled in it."""

    steps: int = 0
    samples: int = 0
    seconds: float = 0.0
    stopped: str = ""  # why, in words
    reward_first: float = 0.0
    reward_last: float = 0.0  # rises, by 0.3 to 2 over a run
    kl_nats: float = 0.0  # k1 a reply, from the reference; near the target
    kl_k3_nats: float = 0.0  # the same by k3: far above k1 where single tokens became next to impossible
    kl_base_nats: float = 0.0  # k1 a reply, from the base
    variety: float = 1.0  # different replies of a step, over those of the first step; above 0.3
    variety_first: float = 0.0  # different replies of the first step, over all of its replies
    truncated: float = 0.0  # share of replies without an end; below 0.05
    clip_fraction: float = 0.0  # of tokens; below 0.2
    step_kl: float = 0.0  # k3 a token from the sampling policy after the step; below ``stop_kl``
    entropy_nats: float = 0.0  # a token; falls slowly
    mismatch_nats: float = (
        0.0  # mean |trainer − sampler| of a token's log-probability; below 0.02 in bfloat16
    )
    masked: float = 0.0  # share of tokens left out of the losses; below 0.1
    value_loss: float = 0.0
    explained_variance: float = 0.0  # of the returns by the value network; rises above 0.3
    supervised_loss: float = 0.0  # −log π a token of demonstrations, nats
    beta: float = 0.0
    outside: float = 0.0  # mean worth by the model that is not climbed; rises with the reward, at first
    peak_nats: float = 0.0  # k1 a reply where that has its peak; 0: none was passed
    kept_nats: float = 0.0  # k1 a reply of the policy that was kept for it
    curve: list[dict[str, float]] = field(default_factory=list)

    def write_down(self, tokens: float) -> None:
        """One more point of the curve; ``tokens`` is the step's mean length of a reply."""
        left_out = ("curve", "stopped", "reward_first", "variety_first", "peak_nats", "kept_nats")
        told = {name: float(value) for name, value in vars(self).items() if name not in left_out}
        self.curve.append(told | {"tokens": tokens})
