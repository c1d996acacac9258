"""Runs of PPO on a tiny model: they learn, repeat, survive a kill, and keep to their budgets."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.unit.training.tiny import ask
from training.checkpoints import Checkpoints
from training.forward import Forward
from training.packing import Tokens
from training.ppo import Reward, Run, pessimistic, train
from training.ppo_config import PPOConfig, PPOReport
from training.reference import Seen, look
from training.reward_model import RewardScores
from training.rollouts import Reply, Sampler
from training.trunk import WEIGHTS_FILE, Trunk

PROMPTS = [ask(text) for text in ("hello", "what is it?", "abc", "good day", "no", "yes please", "1 2 3")]
CONFIG = PPOConfig(
    max_seconds=1e9,
    max_steps=6,
    prompts=6,
    group=3,
    max_tokens=6,
    epochs=2,
    minibatch=3,
    learning_rate=1e-2,
    warmup=2,
    value_learning_rate=2e-3,
    value_warmup=1,
    advantage="gae",
    gae_lambda=0.95,
    clip_low=0.2,
    clip_high=0.28,
    dual_clip=3.0,
    value_clip=0.2,
    stop_kl=1.0,
    beta=0.02,
    target_kl=6.0,
    horizon=2000.0,
    max_kl=50.0,
    pessimism=0.5,
    gradient_norm=1.0,
    checkpoint_steps=2,
    seed=4,
)


class Killed(Exception):
    """What stands for a worker that is killed."""


def likes_early_letters(seen: Sequence[Seen]) -> Tensor:
    """−5 … −1, so that replies without an end are not cut: the share of letters from a to m."""
    shares = [sum(4 <= token <= 16 for token in one.tokens.reply) / len(one.tokens.reply) for one in seen]
    return 4 * torch.tensor(shares) - 5


def killed_at(step: int) -> Callable[[str, float, dict[str, float]], None]:
    seen = []

    def progress(*_: Any) -> None:
        seen.append(None)
        if len(seen) == step:
            raise Killed

    return progress


def run(trunk: Trunk, out: Path, config: PPOConfig = CONFIG, **more: Any) -> PPOReport:
    reward: Reward = more.pop("reward", likes_early_letters)
    return train(trunk, PROMPTS, reward, config, out=out, **more)


def newest(checkpoint: Path) -> dict[str, Any]:
    return next(Checkpoints(checkpoint).states())


def weights(folder: Path) -> bytes:
    return (folder / WEIGHTS_FILE).read_bytes()


@pytest.fixture(scope="module")
def whole(trunk: Trunk, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, PPOReport]:
    """The adapter and the report of a run that nothing disturbed."""
    out = tmp_path_factory.mktemp("whole")
    report = run(trunk, out)
    return weights(out), report


@pytest.mark.parametrize("advantage", ["gae", "rloo"])
def test_a_run_raises_the_reward_of_replies_it_never_saw(
    trunk: Trunk, tmp_path: Path, advantage: str
) -> None:
    config = replace(CONFIG, max_steps=14, prompts=8, group=4, learning_rate=2e-2, advantage=advantage)
    report = run(trunk, tmp_path, config)
    assert report.reward_last > report.reward_first + 0.3
    unseen = [ask(f"question {number}") for number in range(100)]
    means = []
    for adapter in (None, tmp_path):
        replies = Sampler(trunk, adapter).sample(unseen, max_tokens=6, seed=9)
        seen = look(trunk, [Tokens(reply.prompt_ids, reply.token_ids) for reply in replies])
        means.append(float(likes_early_letters(seen).mean()))
    assert means[1] > means[0] + 0.3


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(
    trunk: Trunk, tmp_path: Path, whole: tuple[bytes, PPOReport]
) -> None:
    run(trunk, tmp_path / "again")
    run(trunk, tmp_path / "other", replace(CONFIG, seed=5))
    assert weights(tmp_path / "again") == whole[0]
    assert weights(tmp_path / "other") != whole[0]


@pytest.mark.parametrize("step", [1, 2, 3, 5])
def test_a_run_killed_and_taken_up_gives_the_bytes_of_one_that_was_not(
    trunk: Trunk, tmp_path: Path, whole: tuple[bytes, PPOReport], step: int
) -> None:
    checkpoint = tmp_path / "ppo"
    with pytest.raises(Killed):
        run(trunk, tmp_path / "out", checkpoint=checkpoint, progress=killed_at(step))
    assert bool(list(checkpoint.glob("*.pt"))) == (step >= 2)
    torch.manual_seed(step)  # another process is at another point of its random numbers
    trunk.add("policy")
    report = run(trunk, tmp_path / "out", checkpoint=checkpoint)
    assert weights(tmp_path / "out") == whole[0]
    timeless = [{key: value for key, value in row.items() if key != "seconds"} for row in report.curve]
    assert timeless == [{k: v for k, v in row.items() if k != "seconds"} for row in whole[1].curve]
    assert (report.steps, report.samples) == (6, 6 * 18)


@pytest.mark.parametrize("step", [3, 5])
def test_a_run_from_an_adapter_is_taken_up_to_the_same_bytes(
    trunk: Trunk, adapter: Path, tmp_path: Path, step: int
) -> None:
    config = replace(CONFIG, advantage="rloo", epochs=1)
    run(trunk, tmp_path / "whole", config, start=adapter)
    checkpoint = tmp_path / "ppo"
    more: dict[str, Any] = {"start": adapter, "checkpoint": checkpoint}
    with pytest.raises(Killed):
        run(trunk, tmp_path / "out", config, progress=killed_at(step), **more)
    run(trunk, tmp_path / "out", config, **more)
    assert weights(tmp_path / "out") == weights(tmp_path / "whole")


def test_a_run_killed_twice_and_over_and_over_still_ends_the_same(
    trunk: Trunk, tmp_path: Path, whole: tuple[bytes, PPOReport]
) -> None:
    config = replace(CONFIG, checkpoint_steps=1)
    for _ in range(CONFIG.max_steps):
        with pytest.raises(Killed):
            run(trunk, tmp_path / "out", config, checkpoint=tmp_path / "ppo", progress=killed_at(1))
    run(trunk, tmp_path / "out", config, checkpoint=tmp_path / "ppo", progress=killed_at(1))
    assert weights(tmp_path / "out") == whole[0]


def test_a_run_that_had_ended_is_not_run_again(
    trunk: Trunk, tmp_path: Path, whole: tuple[bytes, PPOReport]
) -> None:
    """Killed after its last checkpoint, before its adapter was written."""
    checkpoint = tmp_path / "ppo"
    with pytest.raises(Killed):
        run(trunk, tmp_path / "out", checkpoint=checkpoint, progress=killed_at(6))
    report = run(trunk, tmp_path / "out", checkpoint=checkpoint, progress=killed_at(1))
    assert report.stopped == "all steps done"
    assert weights(tmp_path / "out") == whole[0]


@pytest.mark.parametrize("damage", ["empty", "cut short", "of another version", "not there"])
def test_a_checkpoint_that_cannot_be_read_leaves_the_run_to_the_one_before_and_says_so(
    trunk: Trunk,
    tmp_path: Path,
    whole: tuple[bytes, PPOReport],
    damage: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    checkpoint = tmp_path / "ppo"
    with pytest.raises(Killed):
        run(trunk, tmp_path / "out", checkpoint=checkpoint, progress=killed_at(5))
    file = checkpoint / "000004.pt"
    good = file.read_bytes()
    if damage == "of another version":
        state = newest(checkpoint)
        Checkpoints(checkpoint).save(4, state | {"report": state["report"] | {"unheard_of": 1.0}})
    elif damage == "not there":
        file.unlink()
    else:
        file.write_bytes({"empty": b"", "cut short": good[: len(good) // 2]}[damage])
    told: list[float] = []
    with caplog.at_level(logging.INFO, "training"):
        report = run(
            trunk,
            tmp_path / "out",
            checkpoint=checkpoint,
            progress=lambda _name, _share, figures: told.append(figures["steps"]),
        )
    assert "left aside" in caplog.text
    assert "PPO goes on after step 2" in caplog.text
    assert told == [3, 4, 5, 6]
    assert report.steps == 6
    assert weights(tmp_path / "out") == whole[0]


def test_a_run_none_of_whose_checkpoints_can_be_read_begins_anew(
    trunk: Trunk, tmp_path: Path, whole: tuple[bytes, PPOReport]
) -> None:
    checkpoint = tmp_path / "ppo"
    with pytest.raises(Killed):
        run(trunk, tmp_path / "out", checkpoint=checkpoint, progress=killed_at(5))
    for file in checkpoint.glob("*.pt"):
        file.write_bytes(b"torn")
    assert run(trunk, tmp_path / "out", checkpoint=checkpoint).steps == 6
    assert weights(tmp_path / "out") == whole[0]


def test_what_was_sampled_before_a_kill_is_not_sampled_again(
    trunk: Trunk, tmp_path: Path, whole: tuple[bytes, PPOReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = tmp_path / "ppo"
    with pytest.raises(Killed):
        run(trunk, tmp_path / "out", checkpoint=checkpoint, progress=killed_at(4))
    with pytest.raises(Killed):  # the two steps after the checkpoint at 4
        run(trunk, tmp_path / "out", checkpoint=checkpoint, progress=killed_at(1))
    sampled = []
    plain = Sampler.sample

    def counting(self: Sampler, *args: Any, **more: Any) -> list[Reply]:
        sampled.append(more["seed"])
        return plain(self, *args, **more)

    monkeypatch.setattr(Sampler, "sample", counting)
    run(trunk, tmp_path / "out", checkpoint=checkpoint)
    assert sampled == [CONFIG.seed * 104_729 + 5]  # step 4 was sampled by the run before
    assert weights(tmp_path / "out") == whole[0]


def test_replies_to_other_prompts_are_not_taken_for_this_steps(trunk: Trunk, tmp_path: Path) -> None:
    run_ = Run(trunk, CONFIG, None)
    kept = Checkpoints(tmp_path)
    mine = run_.rollouts(PROMPTS, None)
    kept.keep_rollouts(0, run_.rollouts([ask("another"), ask("question")], None))
    assert run_.rollouts(PROMPTS, kept) == mine
    assert kept.rollouts(0) == mine


def test_a_run_that_spends_its_budget_writes_the_last_policy_within_it(trunk: Trunk, tmp_path: Path) -> None:
    config = replace(CONFIG, max_steps=50, learning_rate=5e-3, max_kl=0.5, checkpoint_steps=1)
    report = run(trunk, tmp_path / "out", config, checkpoint=tmp_path / "ppo")
    assert report.stopped == "KL budget spent"
    assert report.kl_nats > 0.5
    divergences = [row["kl_nats"] for row in report.curve]
    assert all(kl <= 0.5 for kl in divergences[:-1])
    assert divergences[-2] > 0.01  # what is kept is not where the run began
    # the policy that sampled in the last step but one is what a run of that many steps less one ends with
    before = replace(config, max_steps=len(divergences) - 2)
    run(trunk, tmp_path / "before", before)
    assert weights(tmp_path / "out") == weights(tmp_path / "before")
    checkpoint = tmp_path / "killed"
    with pytest.raises(Killed):  # just before it would have learnt that it was too far away
        run(trunk, tmp_path, config, checkpoint=checkpoint, progress=killed_at(len(divergences) - 1))
    run(trunk, tmp_path / "taken up", config, checkpoint=checkpoint)
    assert weights(tmp_path / "taken up") == weights(tmp_path / "out")


def test_the_budget_is_counted_from_the_adapter_that_a_run_starts_from(
    trunk: Trunk, adapter: Path, tmp_path: Path
) -> None:
    report = run(trunk, tmp_path, replace(CONFIG, max_steps=1), start=adapter)
    assert report.kl_nats == pytest.approx(0.0, abs=1e-3)
    assert report.kl_base_nats > 1.0


def test_weights_that_are_no_numbers_are_never_written(trunk: Trunk, tmp_path: Path) -> None:
    report = run(trunk, tmp_path, replace(CONFIG, learning_rate=1e30, warmup=0, value_warmup=2))
    assert report.stopped == "KL budget spent"
    assert all(bool(weight.isfinite().all()) for weight in load_file(tmp_path / WEIGHTS_FILE).values())


def test_a_run_stops_when_asked_and_says_so_again_when_taken_up(trunk: Trunk, tmp_path: Path) -> None:
    asked = iter([False, False, True])
    checkpoint = tmp_path / "ppo"
    report = run(trunk, tmp_path / "out", checkpoint=checkpoint, should_stop=lambda: next(asked))
    assert (report.steps, report.stopped) == (3, "asked to stop")
    again = run(trunk, tmp_path / "again", checkpoint=checkpoint)
    assert (again.steps, again.stopped) == (3, "asked to stop")
    assert weights(tmp_path / "again") == weights(tmp_path / "out")


def test_the_clock_goes_on_where_a_killed_run_left_it(trunk: Trunk, tmp_path: Path) -> None:
    checkpoint = tmp_path / "ppo"
    with pytest.raises(Killed):
        run(trunk, tmp_path / "out", checkpoint=checkpoint, progress=killed_at(4))
    spent = newest(checkpoint)["report"]["seconds"]
    config = replace(CONFIG, max_steps=1000, max_seconds=spent)
    report = run(trunk, tmp_path / "out", config, checkpoint=checkpoint)
    assert (report.steps, report.stopped) == (5, "time budget spent")
    assert report.seconds > spent > 0


def test_progress_tells_every_step_and_rises_to_one(trunk: Trunk, tmp_path: Path) -> None:
    told: list[tuple[str, float, float]] = []
    run(
        trunk,
        tmp_path,
        replace(CONFIG, max_steps=4),
        progress=lambda name, share, figures: told.append((name, share, figures["samples"])),
    )
    assert told == [("ppo", 0.25, 18.0), ("ppo", 0.5, 36.0), ("ppo", 0.75, 54.0), ("ppo", 1.0, 72.0)]


def test_before_the_value_has_learnt_the_policy_stands_still(trunk: Trunk, tmp_path: Path) -> None:
    report = run(trunk, tmp_path, replace(CONFIG, max_steps=3, value_warmup=2, learning_rate=5e-2))
    divergences = [row["kl_nats"] for row in report.curve]  # of the policy that sampled
    assert divergences[:3] == pytest.approx([0.0, 0.0, 0.0], abs=1e-4)
    assert report.value_loss > 0
    state = load_file(tmp_path / WEIGHTS_FILE)
    assert max(float(w.abs().max()) for name, w in state.items() if "lora_B" in name) > 0  # the third step


def test_one_step_of_experience_by_hand(trunk: Trunk, adapter: Path) -> None:
    """Rewards are −β·(log π − log π_ref), and the score at the end; advantages have mean 0, deviation 1."""
    config = replace(CONFIG, beta=0.5, gae_lambda=1.0)
    taken = Run(trunk, config, adapter)
    trunk.add("anchor")  # as if the run had begun at the base
    batch = taken.collect(taken.rollouts(PROMPTS, None), likes_early_letters)
    assert len(batch.sizes) == 18
    starts = torch.tensor([0, *batch.sizes]).cumsum(0)
    raw = []
    for i, tokens in enumerate(batch.tokens):
        mine = slice(int(starts[i]), int(starts[i + 1]))
        reference = look(trunk, [tokens])[0].logprobs
        torch.testing.assert_close(batch.kl[mine], batch.old[mine] - reference, atol=1e-4, rtol=1e-4)
        rewards = -0.5 * batch.kl[mine]
        rewards[-1] += float(likes_early_letters(look(trunk, [tokens]))[0])
        to_come = rewards.flip(0).cumsum(0).flip(0)
        torch.testing.assert_close(batch.returns[mine], to_come, atol=1e-4, rtol=1e-4)
        raw.append(to_come - batch.values[mine])
    together = torch.cat(raw)
    wanted = (together - together.mean()) / together.std()
    torch.testing.assert_close(batch.advantages, wanted, atol=1e-3, rtol=1e-3)
    assert taken.report.kl_nats == pytest.approx(float(batch.kl.sum()) / 18)
    assert taken.report.kl_base_nats == pytest.approx(taken.report.kl_nats, abs=1e-3)
    assert taken.report.entropy_nats == pytest.approx(-float(batch.old.mean()))


def test_replies_to_one_prompt_stand_together_and_every_prompt_is_asked(trunk: Trunk) -> None:
    replies = Run(trunk, replace(CONFIG, prompts=7), None).rollouts(PROMPTS, None)
    asked = [reply.prompt_ids for reply in replies]
    assert all(len(set(asked[at : at + 3])) == 1 for at in range(0, 21, 3))
    assert set(asked) == {trunk.prompt_ids(prompt) for prompt in PROMPTS}


def test_the_bound_from_the_base_holds_for_a_run_that_continues_an_adapter(
    trunk: Trunk, adapter: Path, tmp_path: Path
) -> None:
    report = run(trunk, tmp_path, replace(CONFIG, max_base_kl=1.0), start=adapter)
    assert report.stopped == "KL budget from the base spent"
    assert (report.steps, report.kl_nats) == (1, pytest.approx(0.0, abs=1e-3))
    assert report.kl_base_nats > 1.0
    assert weights(tmp_path) == weights(adapter)  # nothing was within it: what it began with


def test_the_trainers_own_log_probabilities_are_the_samplers_where_both_compute_alike(
    trunk: Trunk, adapter: Path
) -> None:
    taken = Run(trunk, replace(CONFIG, correct=True), adapter)
    replies = taken.rollouts(PROMPTS, None)
    batch = taken.collect(replies, likes_early_letters)
    sampled = torch.cat([torch.tensor(reply.logprobs) for reply in replies])
    assert float((batch.old - sampled).abs().mean()) <= 1e-6
    assert taken.report.mismatch_nats <= 1e-6
    torch.testing.assert_close(batch.weight, torch.ones_like(batch.weight), atol=1e-4, rtol=0)
    assert taken.report.masked == 0.0


def test_replies_of_another_policy_teach_nothing_and_are_told(trunk: Trunk, adapter: Path) -> None:
    """As if an engine had answered with the base instead of the adapter."""
    taken = Run(trunk, replace(CONFIG, correct=True, value_warmup=0), adapter)
    taken.sampler = Sampler(trunk)
    replies = taken.rollouts(PROMPTS, None)
    batch = taken.collect(replies, likes_early_letters)
    gaps = [
        float((own - torch.tensor(reply.logprobs)).mean())
        for own, reply in zip(batch.old.split(batch.sizes), replies, strict=True)
    ]
    left_out = [abs(gap) > math.log(1.2) for gap in gaps]
    assert sum(left_out) > len(left_out) / 2
    assert [bool((part == 0).all()) for part in batch.weight.split(batch.sizes)] == left_out
    assert float(batch.weight.max()) <= 2.0
    tokens = sum(size for size, out in zip(batch.sizes, left_out, strict=True) if out)
    assert taken.report.masked == pytest.approx(tokens / sum(batch.sizes))


def test_a_reply_that_says_nothing_is_worth_no_more_than_one_without_end(trunk: Trunk) -> None:
    """However well the reward model thinks of silence."""
    taken = Run(trunk, CONFIG, None)
    replies = [replace(reply, finish_reason="stop") for reply in taken.rollouts(PROMPTS, None)]
    replies[1::2] = [replace(reply, text=" \n") for reply in replies[1::2]]
    batch = taken.collect(replies, lambda seen: torch.full((len(seen),), 2.0))
    assert batch.scores.tolist() == [2.0, -1.0] * (len(replies) // 2)
    assert taken.report.truncated == 0.0


def test_cut_replies_can_be_left_out_of_the_losses(trunk: Trunk) -> None:
    taken = Run(trunk, replace(CONFIG, truncated="mask", max_tokens=60), None)
    replies = taken.rollouts(PROMPTS, None)
    batch = taken.collect(replies, likes_early_letters)
    cut = [reply.finish_reason == "length" for reply in replies]
    assert 0 < sum(cut) < len(cut)
    assert taken.report.truncated == pytest.approx(sum(cut) / len(cut))
    assert [bool((part == 0).all()) for part in batch.weight.split(batch.sizes)] == cut
    inside = batch.advantages[batch.weight > 0]
    assert float(inside.mean()) == pytest.approx(0.0, abs=1e-5)
    assert float(inside.std()) == pytest.approx(1.0, abs=1e-4)


def test_a_step_of_cut_replies_alone_moves_nothing_when_they_are_left_out(
    trunk: Trunk, tmp_path: Path
) -> None:
    config = replace(CONFIG, max_tokens=2, max_steps=1, truncated="mask", value_warmup=0)
    report = run(trunk, tmp_path, config)
    assert report.truncated == 1.0
    state = load_file(tmp_path / WEIGHTS_FILE)
    assert max(float(w.abs().max()) for name, w in state.items() if "lora_B" in name) == 0.0


def test_the_supervised_share_keeps_demonstrations_likely(trunk: Trunk, tmp_path: Path) -> None:
    shown = [trunk.tokens(ask("abc"), "zzz"), trunk.tokens(ask("no"), "yyy")]
    config = replace(CONFIG, max_steps=4, value_warmup=0)
    run(trunk, tmp_path / "without", config, demonstrations=shown)
    report = run(trunk, tmp_path / "with", replace(config, supervised=1.0), demonstrations=shown)
    likely = []
    for folder in ("without", "with"):
        trunk.add("told", tmp_path / folder)
        passes = Forward(trunk, "told").over(shown, lambda _packed, passed: float(passed.logprobs.mean()))
        likely.append(sum(passes) / len(passes))
    assert likely[1] > likely[0] + 1.0
    assert report.curve[0]["supervised_loss"] > report.supervised_loss > 0


def test_without_demonstrations_the_supervised_share_changes_nothing(
    trunk: Trunk, tmp_path: Path, whole: tuple[bytes, PPOReport]
) -> None:
    run(trunk, tmp_path, replace(CONFIG, supervised=1.0))
    assert weights(tmp_path) == whole[0]


def test_doubt_lowers_the_reward() -> None:
    class Doubting:
        def score_seen(self, seen: Sequence[Seen]) -> RewardScores:
            return RewardScores(torch.tensor([1.0, 1.0]), torch.tensor([0.0, 3.0]))

    reward = pessimistic(Doubting(), 0.5)  # type: ignore[arg-type]
    assert reward([]).tolist() == [1.0, -0.5]


def unlikes(seen: Sequence[Seen]) -> Tensor:
    """Somebody whose wishes are met the less, the more the reward is."""
    return -likes_early_letters(seen)


def test_a_run_whose_peak_lies_behind_it_ends_and_gives_the_policy_from_before_it(
    trunk: Trunk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Worth that bends with the distance, whatever the replies: its peak is at 1 √nat."""
    config = replace(CONFIG, max_steps=40, prompts=8, group=4, beta=0.0)
    where: list[float] = []

    def watched(run: Run, batch: Any, _from_base: Tensor) -> None:
        account(run, batch, _from_base)
        where.append(math.sqrt(max(0.0, run.report.kl_nats)))

    def bends(seen: Sequence[Seen]) -> Tensor:
        d = where[-1]
        return torch.full((len(seen),), d * (1 - math.log(d)) if d > 0 else 0.0)

    account = Run._account
    monkeypatch.setattr(Run, "_account", watched)
    report = run(trunk, tmp_path, config, outside=bends)
    assert report.stopped == "the peak lies behind"
    assert report.steps < 40
    assert report.peak_nats == pytest.approx(1.0, abs=0.01)
    assert where[-1] > 1.4
    assert math.sqrt(report.kept_nats) == min(where, key=lambda d: abs(math.log(max(d, 1e-6) / 0.9)))
    replies = Sampler(trunk, tmp_path).sample([ask(f"q {n}") for n in range(200)], max_tokens=6, seed=3)
    seen = look(trunk, [Tokens(reply.prompt_ids, reply.token_ids) for reply in replies])
    moved = [sum(r.logprobs) - float(s.logprobs.sum()) for r, s in zip(replies, seen, strict=True)]
    assert sum(moved) / len(moved) < 1.4**2  # on other prompts, but far from where the run ended


def test_a_run_with_somebody_outside_is_taken_up_where_it_was(trunk: Trunk, tmp_path: Path) -> None:
    told = run(trunk, tmp_path / "whole", outside=unlikes)
    with pytest.raises(Killed):
        run(trunk, tmp_path / "out", checkpoint=tmp_path / "ppo", progress=killed_at(5), outside=unlikes)
    trail = newest(tmp_path / "ppo")["trail"]
    assert (len(trail["distance"]), len(trail["worth"])) == (4, 4)
    assert len(trail["places"]) == len(trail["snapshots"]) > 0
    again = run(trunk, tmp_path / "out", checkpoint=tmp_path / "ppo", outside=unlikes)
    assert weights(tmp_path / "out") == weights(tmp_path / "whole")
    assert [row["outside"] for row in again.curve] == [row["outside"] for row in told.curve]
    assert told.curve[0]["outside"] == pytest.approx(-told.curve[0]["reward_last"], abs=1e-5)
