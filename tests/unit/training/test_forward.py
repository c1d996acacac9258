"""Passes and gradients are those of transformers and PEFT, over the decoder and without it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.unit.training.conftest import Loader, made_adapter
from tests.unit.training.tiny import save_tiny
from training.forward import Forward
from training.packing import Packed, Tokens
from training.trunk import Trunk

CONVERSATIONS = [
    Tokens((5, 6, 7), (8, 9, 10, 1)),
    Tokens((11, 12), (13, 1)),
    Tokens((5, 6, 7), (14, 15, 16, 17, 1)),
    Tokens((11, 12), (18, 19, 20)),
]
WEIGHTS = (1.0, -2.0, 0.5, 3.0)  # of each conversation in the loss
SETTINGS = {
    "qwen3": {},
    "qwen2": {},
    "llama": {"attention_bias": True, "mlp_bias": True},  # through transformers itself
    "granite": {"embedding_multiplier": 3.0, "logits_scaling": 2.0},
}


@pytest.fixture(scope="module", params=sorted(SETTINGS))
def one(request: pytest.FixtureRequest, tiny: Loader, tmp_path_factory: pytest.TempPathFactory) -> Trunk:
    trunk = tiny(request.param, **SETTINGS[request.param])
    made_adapter(trunk, tmp_path_factory.mktemp("adapter"))
    return trunk


def by_peft(trunk: Trunk, name: str | None, tokens: Tokens) -> Tensor:
    """Log-probabilities of the reply, one conversation alone."""
    ids = torch.tensor([[*tokens.prompt, *tokens.reply]])
    with trunk.using(name) as model:
        logprobs = model(input_ids=ids).logits[0].log_softmax(-1)
    return logprobs[len(tokens.prompt) - 1 : -1].gather(1, torch.tensor(tokens.reply)[:, None])[:, 0]


def by_forward(trunk: Trunk, name: str | None) -> list[Tensor]:
    parts = Forward(trunk, name).over(
        CONVERSATIONS,
        lambda packed, passed: list(zip(packed.indices, passed.logprobs.split(packed.sizes), strict=True)),
    )
    found = dict(pair for part in parts for pair in part)
    return [found[index] for index in range(len(CONVERSATIONS))]


@pytest.mark.parametrize("name", [None, "made"])
def test_log_probabilities_are_those_of_transformers_and_peft(one: Trunk, name: str | None) -> None:
    for ours, tokens in zip(by_forward(one, name), CONVERSATIONS, strict=True):
        theirs = by_peft(one, name, tokens).detach()
        torch.testing.assert_close(ours, theirs, atol=5e-5, rtol=1e-4)
        assert not ours.requires_grad


@pytest.mark.parametrize("name", [None, "made"])
def test_the_mean_difference_from_transformers_is_within_a_millionth(one: Trunk, name: str | None) -> None:
    ours = torch.cat(by_forward(one, name))
    theirs = torch.cat([by_peft(one, name, tokens).detach() for tokens in CONVERSATIONS])
    assert float((ours - theirs).abs().mean()) <= 1e-6


def test_an_adapter_changes_the_log_probabilities(one: Trunk) -> None:
    assert (torch.cat(by_forward(one, "made")) - torch.cat(by_forward(one, None))).abs().max() > 0.1


def test_gradients_are_those_of_peft(one: Trunk) -> None:
    weights = one.weights("made")
    for weight in weights:
        weight.grad = None
    sum(
        w * by_peft(one, "made", tokens).square().sum()
        for w, tokens in zip(WEIGHTS, CONVERSATIONS, strict=True)
    ).backward()
    wanted = [weight.grad.clone() for weight in weights]
    for weight in weights:
        weight.grad = None

    def loss_of(packed: Packed, logprobs: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        each = torch.tensor([WEIGHTS[index] for index in packed.indices])[packed.owner]
        return (each * logprobs.square()).sum(), packed.indices

    told = Forward(one, "made").learn(CONVERSATIONS, loss_of)
    assert sorted(index for indices in told for index in indices) == [0, 1, 2, 3]
    for weight, theirs in zip(weights, wanted, strict=True):
        assert theirs.abs().max() > 0
        torch.testing.assert_close(weight.grad, theirs, atol=2e-4, rtol=2e-3)


@pytest.fixture(params=["qwen3", "granite"])
def twins(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Trunk, Trunk]:
    """One that keeps what is inside the layers, and one that works it out anew, by the decoder and by transformers."""
    folder = save_tiny(tmp_path / "model", request.param, num_hidden_layers=6)
    plain, lean = (
        Trunk.load(str(folder), dtype=torch.float32, threads=1, device="cpu", recompute=recompute)
        for recompute in (False, True)
    )
    adapter = made_adapter(plain, tmp_path / "adapter")
    lean.add("made", adapter)
    return plain, lean


def test_layers_that_are_worked_out_anew_give_the_same_gradients_and_keep_less(
    twins: tuple[Trunk, Trunk],
) -> None:
    gradients, kept = [], []
    for trunk in twins:
        weights, sizes = trunk.weights("made"), [0]

        def packing(tensor: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes[0] += tensor.nbytes
            return tensor

        for weight in weights:
            weight.grad = None
        with torch.autograd.graph.saved_tensors_hooks(packing, lambda tensor: tensor):
            Forward(trunk, "made").learn(CONVERSATIONS, lambda _, logprobs: (logprobs.square().sum(), None))
        gradients.append([weight.grad for weight in weights])
        kept.append(sizes[0])
    for ours, theirs in zip(*gradients, strict=True):
        assert theirs.abs().max() > 0
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    assert kept[1] < kept[0] / 2


def test_learning_adds_to_the_gradients_that_are_there(trunk: Trunk, adapter: Path) -> None:
    weights = trunk.weights("made")
    for weight in weights:
        weight.grad = None
    forward = Forward(trunk, "made")
    for _ in range(2):
        Forward(trunk, "made").learn(CONVERSATIONS, lambda packed, logprobs: (logprobs.sum(), None))
    twice = [weight.grad.clone() for weight in weights]
    for weight in weights:
        weight.grad = None
    forward.learn(CONVERSATIONS, lambda packed, logprobs: (logprobs.sum(), None))
    for weight, wanted in zip(weights, twice, strict=True):
        torch.testing.assert_close(2 * weight.grad, wanted)
