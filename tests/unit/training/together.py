"""What each process does in the tests of several that train together; ``torchrun`` starts it."""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.unit.training.fake_engine import fake_engine
from tests.unit.training.tiny import ask
from training import ranks, sft
from training.checkpoints import Checkpoints
from training.engine_rollouts import EngineSampler
from training.engines import Engine
from training.examples import Demonstration
from training.forward import Forward
from training.packing import Packed
from training.ppo import train
from training.ppo_config import PPOConfig, PPOReport
from training.reference import Seen
from training.rollouts import Sampler
from training.trunk import Trunk

# so long that a minibatch has several rows: each process has passes of its own
PROMPTS = [
    ask(f"{word} " * (80 // len(word))) for word in ("hello", "what", "abc", "day", "no", "yes", "1 2 3")
]
CONFIG = PPOConfig(
    max_seconds=1e9,
    max_steps=3,
    prompts=6,
    group=3,
    max_tokens=6,
    epochs=2,
    minibatch=3,
    learning_rate=1e-2,
    value_warmup=1,
    supervised=0.3,
    stop_kl=1.0,
    max_kl=50.0,
    checkpoint_steps=1,
    seed=4,
)
SHOWN = [Demonstration(tuple(PROMPTS[i % 7]), text) for i, text in enumerate(("zzz", "yes", "no", "abc") * 3)]


def likes_early_letters(seen: list[Seen]) -> Tensor:
    """−5 … −1: the share of letters from a to m."""
    shares = [sum(4 <= token <= 16 for token in one.tokens.reply) / len(one.tokens.reply) for one in seen]
    return 4 * torch.tensor(shares) - 5


def climbed(trunk: Trunk, work: Path, checkpoint: str, out: str) -> PPOReport:
    """PPO from the fine-tuned adapter."""
    return train(
        trunk,
        PROMPTS,
        likes_early_letters,
        CONFIG,
        start=work / "sft",
        out=work / out,
        checkpoint=work / checkpoint,
        demonstrations=[trunk.tokens(one.messages, one.text) for one in SHOWN],
        outside=likes_early_letters,
    )


def taken_up(trunk: Trunk, work: Path, out: str) -> PPOReport:
    """The run in ``work`` as if it had been killed in its last step but one, gone on with."""
    if ranks.is_first():
        (work / f"{out} checkpoint").mkdir()
        for kept in ("000001.pt", "000001.json"):
            shutil.copy(work / "checkpoint" / kept, work / f"{out} checkpoint")
    ranks.meet()
    return climbed(trunk, work, f"{out} checkpoint", out)


def trained(trunk: Trunk, work: Path) -> dict[str, Any]:
    """Fine-tuning and PPO into ``work``; the loss of every gradient step, and PPO's curve."""
    losses: list[float] = []
    plain = Forward.learn

    def learn(self: Forward, conversations: Any, loss_of: Any) -> list[Any]:
        def with_loss(packed: Any, new: Tensor) -> Any:
            loss, told = loss_of(packed, new)
            return loss, (told, float(loss.detach()))

        found = plain(self, conversations, with_loss)
        losses.append(sum(loss for _, loss in found))
        return [told for told, _ in found]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Forward, "learn", learn)
        patch.setattr(Checkpoints, "_forget", lambda _: None)  # every step's replies stay
        figures = sft.fit(trunk, SHOWN, sft.SFTConfig(epochs=2, minibatch=6), out=work / "sft")
        report = climbed(trunk, work, "checkpoint", "ppo")
    return {"losses": losses, "sft": figures, "curve": report.curve, "stopped": report.stopped}


def passed_idly(trunk: Trunk) -> dict[str, Any]:
    """A batch of one pass, which is an idle one for the first process, and one of none. The gradients of the first."""
    weights = trunk.weights("policy")
    for weight in weights:
        weight.grad = None
    forward, tokens = Forward(trunk, "policy"), [trunk.tokens(PROMPTS[0], text) for text in ("yes", "no")]
    told = forward.learn(tokens, lambda packed, new: (new.square().sum(), packed.indices))
    ranks.sum_gradients(weights)
    seen = forward.over(tokens, lambda packed, passed: (packed.indices, len(passed.layers)), states=True)
    return {
        "learnt": told,
        "seen": seen,
        "none": forward.over([], lambda *_: None),
        "gradients": [weight.grad.tolist() for weight in weights if weight.grad is not None],
    }


def in_bfloat16(model: Path, *, shard: bool) -> dict[str, Any]:
    """Log-probabilities and the gradient's size of an adapter far from zero, and how many of the layers' matrices
    a pass keeps for it.
    """
    trunk = Trunk.load(str(model), dtype=torch.bfloat16, threads=1, device="cpu", shard=shard)
    torch.manual_seed(5)
    weights = trunk.add("far")
    for weight in weights:
        nn.init.normal_(weight, std=0.1)
    tokens = [trunk.tokens(prompt, "yes") for prompt in PROMPTS[:2]]  # a pass of each process
    matrices = {
        tuple(shape)
        for name, weight in trunk.base.named_parameters()
        if "base_layer.weight" in name
        and trunk.shape.rank not in weight.shape  # an adapter has some of that shape
        for shape in (weight.shape, weight.shape[::-1])
    }
    held, kept = list[Tensor](), 0

    def packing(tensor: Tensor) -> Tensor:
        if not tensor.requires_grad:  # not an adapter's, which may have the shape of a matrix, too
            held.append(tensor)
        return tensor

    def loss_of(_packed: Packed, new: Tensor) -> tuple[Tensor, list[float]]:
        nonlocal kept
        kept = sum(tuple(one.shape) in matrices and one.untyped_storage().nbytes() > 0 for one in held)
        return new.square().sum(), new.tolist()

    with torch.autograd.graph.saved_tensors_hooks(packing, lambda tensor: tensor):
        found = Forward(trunk, "far").learn(tokens, loss_of)
    ranks.sum_gradients(weights)
    size = sum(float(weight.grad.abs().sum()) for weight in weights if weight.grad is not None)
    return {"logprobs": [one for part in found for one in part], "gradient": size, "kept": kept}


def cut_up(model: Path, work: Path) -> dict[str, Any]:
    """All of ``trained`` on a base that is cut up, and what is held of it."""
    how: dict[str, Any] = {"dtype": torch.float32, "threads": 1, "device": "cpu", "shard": True}
    trunk = Trunk.load(str(model), **how)
    before = trunk.base_bytes
    told = trained(trunk, work)
    sampler = Sampler(trunk, work / "ppo")
    sampler.sample(PROMPTS[:1], max_tokens=2)  # nothing for the first process
    lean = Trunk.load(str(model), **how, recompute=True)
    lean.add("policy", work.parent / model.name / "ppo")
    return told | {
        "bytes": [before, trunk.base_bytes],
        "whole": sum(weight.numel() * weight.element_size() for weight in trunk.frozen().values()),
        "kept for sampling": [name for name in ("_decoder", "_general") if hasattr(sampler, name)],
        "idle": passed_idly(lean),
        "bfloat16": in_bfloat16(model, shard=True),
    }


def words() -> dict[str, Any]:
    """What this process makes of the group's words."""
    mine = ranks.share(5)
    weights = [nn.Parameter(torch.full((2,), float(ranks.place()))) for _ in range(3)]
    weights[0].grad = torch.tensor([1.0, 2.0]) * (1 + ranks.place())
    if ranks.is_first():
        weights[1].grad = torch.tensor([5.0, 7.0])
    ranks.sum_gradients(weights)
    ranks.alike(weights[:1])
    with ranks.in_turn():
        turn = [time.monotonic()]
        time.sleep(0.01)
        turn.append(time.monotonic())
    views = torch.arange(6.0).view(3, 2) + 10 * ranks.place()
    return {
        "share": [mine.start, mine.stop],
        "gathered": ranks.gathered(list("abcde")[mine]),
        "tensors": torch.stack(ranks.gathered(list(views))).tolist(),
        "agreed": ranks.agreed({"I am": ranks.place()}),
        "gradients": [one.grad.tolist() for one in weights if one.grad is not None],
        "weights": [one.tolist() for one in weights],
        "first": ranks.is_first(),
        "turn": turn,
    }


def by_engine(trunk: Trunk, work: Path) -> dict[str, Any]:
    """Rollouts by an engine of this process's own, which refuses one prompt: whether it was asked, and the replies."""
    trunk.add("policy")
    with fake_engine() as fake:
        fake.refuses = list(trunk.prompt_ids(PROMPTS[1]))
        sampler = EngineSampler(trunk, [Engine(fake.url)], work / "adapters")
        sampler.refresh("policy")
        replies = sampler.sample(PROMPTS[:3], max_tokens=6)
        sampler.close()
        return {"asked": len(fake.asked), "replies": [list(reply.token_ids) for reply in replies]}


def main() -> None:
    """Arguments: a folder of models, one of families to train; and where results go."""
    models, out = Path(sys.argv[1]), Path(sys.argv[2])
    with ranks.joined():
        told: dict[str, Any] = {"size": ranks.size(), "words": words()}
        for model in sorted(models.iterdir()):
            trunk = Trunk.load(str(model), dtype=torch.float32, threads=1, device="cpu")
            told[model.name] = trained(trunk, out / model.name)
            told[f"{model.name} idle"] = passed_idly(trunk)
            told[f"{model.name} cut up"] = cut_up(model, out / f"{model.name} cut up")
            if model.name == "qwen3":
                told["samples taken up"] = taken_up(trunk, out / model.name, "again").samples
                told["by engine"] = by_engine(trunk, out)
        (out / f"{ranks.place()}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main()
