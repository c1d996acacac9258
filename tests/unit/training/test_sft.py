"""Fine-tuning on demonstrations: it learns what is shown, heeds weights, and keeps the best."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.unit.training.conftest import Loader
from tests.unit.training.tiny import ask
from training import sft
from training.examples import Demonstration
from training.reference import look
from training.rollouts import Sampler
from training.sft import SFTConfig, fit, measure
from training.trunk import WEIGHTS_FILE, Trunk

CONFIG = SFTConfig(
    epochs=4,
    minibatch=4,
    learning_rate=1e-2,
    warmup=2,
    gradient_norm=1.0,
    held_out=0.1,
    max_demonstrations=2000,
    seed=0,
)


def shown(count: int, text: str = "abcab", weight: float = 1.0) -> list[Demonstration]:
    return [Demonstration(tuple(ask(f"q{number}")), text, weight) for number in range(count)]


def weights(folder: Path) -> bytes:
    return (folder / WEIGHTS_FILE).read_bytes()


def settings(**more: float) -> SFTConfig:
    return SFTConfig(**{**vars(CONFIG), **more})  # type: ignore[arg-type]


def test_the_loss_falls_and_the_adapter_says_what_was_shown(trunk: Trunk, tmp_path: Path) -> None:
    told = fit(trunk, shown(40), settings(epochs=12), out=tmp_path)
    assert told["demonstrations"] == 40
    assert told["loss_after"] < 0.3 < 2 < told["loss_before"]
    replies = Sampler(trunk, tmp_path).sample([ask("q0"), ask("q77")], temperature=0.0, max_tokens=9)
    assert [reply.text for reply in replies] == ["abcab"] * 2  # the second was not shown


def test_the_loss_is_the_weighted_mean_over_reply_tokens(trunk: Trunk) -> None:
    trunk.add("sft")  # the base itself
    tokens = [trunk.tokens(ask("a"), "bc"), trunk.tokens(ask("d"), "efghi")]
    logprobs = [seen.logprobs for seen in look(trunk, tokens)]
    told = measure(trunk, list(zip(tokens, (1.0, 3.0), strict=True)))
    wanted = -(logprobs[0].sum() + 3 * logprobs[1].sum()) / (3 + 3 * 6)  # tokens with their ends
    assert told == pytest.approx(float(wanted), rel=1e-4)


def test_the_heavier_of_two_contrary_demonstrations_wins(trunk: Trunk, tmp_path: Path) -> None:
    prompt = tuple(ask("which?"))
    both = [Demonstration(prompt, "xx", 5.0), Demonstration(prompt, "yy", 0.5)] * 4
    fit(trunk, both, settings(epochs=15, learning_rate=2e-2), out=tmp_path)
    (reply,) = Sampler(trunk, tmp_path).sample([list(prompt)], temperature=0.0, max_tokens=4)
    assert reply.text == "xx"


def test_what_is_kept_is_the_best_on_what_was_put_aside(
    trunk: Trunk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third pass is measured as worse than the second: the run ends, with the weights after the second."""

    def fitted(epochs: int, losses: list[float]) -> dict[str, float]:
        measured = iter(losses)
        monkeypatch.setattr(sft, "measure", lambda *_: next(measured))
        return fit(trunk, shown(20), settings(epochs=epochs), out=tmp_path / str(epochs))

    told = fitted(12, [5.0, 3.0, 2.0, 2.5])
    assert (told["epochs"], told["loss_before"], told["loss_after"]) == (2, 5.0, 2.0)
    fitted(2, [5.0, 3.0, 2.0])
    assert weights(tmp_path / "12") == weights(tmp_path / "2")


@pytest.mark.parametrize("rate", [1e3, 1e30])
def test_a_run_that_only_makes_it_worse_keeps_where_it_began(
    trunk: Trunk, tmp_path: Path, rate: float
) -> None:
    """With the second rate the weights are no numbers any more."""
    start, out = tmp_path / "start", tmp_path / "out"
    fit(trunk, shown(12), settings(learning_rate=2e-2), out=start)
    told = fit(trunk, shown(12), settings(learning_rate=rate, warmup=0), start=start, out=out)
    assert told["epochs"] == 0
    assert told["loss_after"] == told["loss_before"]
    assert math.isfinite(told["loss_after"])
    assert weights(out) == weights(start)


def test_few_demonstrations_are_learnt_from_and_measured_on_alike(trunk: Trunk, tmp_path: Path) -> None:
    told = fit(trunk, shown(9), CONFIG, out=tmp_path)
    assert told["loss_after"] < told["loss_before"]
    everything = [(trunk.tokens(one.messages, one.text), one.weight) for one in shown(9)]
    assert measure(trunk, everything) == pytest.approx(told["loss_after"], rel=1e-5)


def test_the_heaviest_and_of_these_the_newest_are_taken(trunk: Trunk, tmp_path: Path) -> None:
    light, old, new = shown(3, "zz", 0.5), shown(3, "aa"), shown(3, "bb")
    capped = fit(trunk, [*old, *light, *new], settings(max_demonstrations=3), out=tmp_path / "capped")
    fit(trunk, new, CONFIG, out=tmp_path / "new")
    assert capped["demonstrations"] == 3
    assert weights(tmp_path / "capped") == weights(tmp_path / "new")


def test_it_goes_on_from_an_adapter_and_the_same_seed_gives_the_same_bytes(
    tiny: Loader, trunk: Trunk, adapter: Path, tmp_path: Path
) -> None:
    for name, start in (("one", adapter), ("two", adapter), ("base", None)):
        fit(trunk, shown(12), settings(epochs=1), start=start, out=tmp_path / name)
    assert weights(tmp_path / "one") == weights(tmp_path / "two") != weights(tmp_path / "base")
    moved, begun = load_file(tmp_path / "one" / WEIGHTS_FILE), load_file(adapter / WEIGHTS_FILE)
    # three steps of Adam at a rate of at most .01 each, and the gradient's sign alone tells where
    assert 0 < max(float((moved[name] - begun[name]).abs().max()) for name in moved) < 0.05


def test_without_demonstrations_there_is_nothing_to_do(trunk: Trunk, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no demonstration"):
        fit(trunk, [], CONFIG, out=tmp_path)
    assert not (tmp_path / WEIGHTS_FILE).exists()


def test_the_base_is_not_touched(trunk: Trunk, tmp_path: Path) -> None:
    before = {name: weight.clone() for name, weight in trunk.frozen().items()}
    fit(trunk, shown(4), settings(epochs=1), out=tmp_path)
    assert all(torch.equal(weight, before[name]) for name, weight in trunk.frozen().items())
