"""Rollouts by engines that fail in every way, and what they leave behind: nothing."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from serve.record import ENGINE_PRIORITY
from tests.unit.training.fake_engine import LOGPROB, FakeEngine, fake_engine
from tests.unit.training.test_rollouts import logprobs_of
from tests.unit.training.tiny import ask
from training import engine_rollouts
from training.engine_rollouts import EngineSampler, Faster, rollouts
from training.engines import PRIORITY, Engine, engines_of
from training.rollouts import Reply, Sampler
from training.settings import TrainingSettings
from training.trunk import Trunk

PROMPTS = [ask(f"question {number}") for number in range(12) for _ in range(4)]
SAID = [(4 + index, 5, 6, 1) for index in range(4)] * 12  # by the fakes


@pytest.fixture
def one() -> Iterator[FakeEngine]:
    with fake_engine() as fake:
        yield fake


@pytest.fixture
def other() -> Iterator[FakeEngine]:
    with fake_engine() as fake:
        yield fake


@pytest.fixture
def made(trunk: Trunk, adapter: Path) -> Trunk:
    """The trunk with an adapter named ``made``."""
    return trunk


def sampler(trunk: Trunk, folder: Path, *fakes: FakeEngine, **more: Any) -> EngineSampler:
    found = EngineSampler(trunk, [Engine(fake.url) for fake in fakes], folder / "adapters", **more)
    found.refresh("made")
    return found


def tokens(replies: list[Reply]) -> list[tuple[int, ...]]:
    return [reply.token_ids for reply in replies]


def of_this_process(trunk: Trunk, replies: list[Reply]) -> bool:
    """Whether the log-probabilities are the policy's: the fakes tell others."""
    told = [torch.tensor(reply.logprobs) for reply in replies]
    return all(
        torch.allclose(mine, logprobs_of(trunk, "made", reply), atol=1e-4)
        for mine, reply in zip(told, replies, strict=True)
    )


def prompts_of(fake: FakeEngine) -> int:
    return len([body for body in fake.asked if body["model"].startswith("rollout-")])


def test_engines_share_the_prompts_and_their_tokens_come_back_with_log_probabilities(
    made: Trunk, tmp_path: Path, one: FakeEngine, other: FakeEngine
) -> None:
    replies = sampler(made, tmp_path, one, other).sample(PROMPTS, max_tokens=9)
    assert tokens(replies) == SAID
    assert {reply.logprobs for reply in replies} == {(LOGPROB,) * 4}
    assert {reply.finish_reason for reply in replies} == {"stop"}
    assert [reply.prompt_ids for reply in replies] == [made.prompt_ids(prompt) for prompt in PROMPTS]
    assert [reply.text for reply in replies[:4]] == ["abc", "bbc", "cbc", "dbc"]
    assert prompts_of(one) + prompts_of(other) == 12
    assert min(prompts_of(one), prompts_of(other)) > 0
    assert not [body for body in one.asked if "seed" in body]  # of which an engine on a CPU may die


def test_a_reply_that_is_cut_has_no_end(made: Trunk, tmp_path: Path, one: FakeEngine) -> None:
    (reply,) = sampler(made, tmp_path, one).sample(PROMPTS[:1], max_tokens=3)
    assert (reply.token_ids, reply.finish_reason, reply.text) == ((4, 5, 6), "length", "abc")


def test_users_come_first(made: Trunk, tmp_path: Path, one: FakeEngine) -> None:
    sampler(made, tmp_path, one, at_once=16).sample(PROMPTS)
    assert {body["priority"] for body in one.asked} == {PRIORITY}
    assert max(ENGINE_PRIORITY.values()) < PRIORITY
    assert 4 <= one.busiest <= 16


def test_an_id_is_used_once_and_its_files_outlive_its_name(
    made: Trunk, tmp_path: Path, one: FakeEngine
) -> None:
    by_engine, seen = sampler(made, tmp_path, one), []
    for _ in range(3):
        ((name, folder),) = one.adapters.items()
        seen.append(name)
        assert sorted(path.name for path in Path(folder).iterdir()) == [
            "adapter_config.json",
            "adapter_model.safetensors",
        ]
        by_engine.refresh("made")
        assert name not in one.adapters
        assert Path(folder).is_dir()  # until the next refresh
    assert len(set(seen)) == 3
    assert len(list((tmp_path / "adapters").iterdir())) == 2
    by_engine.close()
    assert one.adapters == {}
    assert list((tmp_path / "adapters").iterdir()) == []


def test_where_engines_see_the_folder_elsewhere_they_are_told_that_path(
    made: Trunk, tmp_path: Path, one: FakeEngine
) -> None:
    sampler(made, tmp_path, one, seen_at=Path("/elsewhere"))
    ((name, folder),) = one.adapters.items()
    assert folder == f"/elsewhere/.{name}"


def test_what_an_engine_lists_is_used_once_before_something_is_loaded(
    made: Trunk, tmp_path: Path, one: FakeEngine
) -> None:
    one.adapters = {"a-000001-abc": "/a", "a-000002-abc": "/b"}
    sampler(made, tmp_path, one)
    assert sorted(one.said[:2]) == ["use a-000001-abc", "use a-000002-abc"]
    assert one.said[2].startswith("load rollout-")


def breaks_off(fake: FakeEngine) -> None:
    fake.dies_after = 3


def tells_too_few_log_probabilities(fake: FakeEngine) -> None:
    fake.logprobs = -1


def tells_too_many_replies(fake: FakeEngine) -> None:
    fake.choices = 1


def has_restarted(fake: FakeEngine) -> None:
    fake.forgets = True


FAULTS = [breaks_off, tells_too_few_log_probabilities, tells_too_many_replies, has_restarted]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_when_an_engine_fails_midway_the_others_answer_its_prompts(
    made: Trunk, tmp_path: Path, one: FakeEngine, other: FakeEngine, fault: Callable[[FakeEngine], None]
) -> None:
    by_engine = sampler(made, tmp_path, one, other, at_once=4)
    fault(one)
    assert tokens(by_engine.sample(PROMPTS)) == SAID
    failed = prompts_of(one)
    assert prompts_of(other) >= 9
    by_engine.refresh("made")
    assert tokens(by_engine.sample(PROMPTS)) == SAID
    assert prompts_of(one) == failed  # it is left alone for a while


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_when_all_fail_the_process_answers_and_says_so(
    made: Trunk,
    tmp_path: Path,
    one: FakeEngine,
    fault: Callable[[FakeEngine], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    by_engine = sampler(made, tmp_path, one, at_once=4)
    fault(one)
    replies = by_engine.sample(PROMPTS, max_tokens=9)
    answered = 12 if fault is breaks_off else 0  # 3 prompts, 4 replies each
    assert tokens(replies)[:answered] == SAID[:answered]
    assert of_this_process(made, replies[answered:])
    assert by_engine.stood_in == 48 - answered
    assert f"{48 - answered} of 48 replies are sampled in process" in caplog.text
    assert one.url in caplog.text


def test_an_engine_that_failed_is_asked_again_after_a_while(
    made: Trunk, tmp_path: Path, one: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_rollouts, "REST_SECONDS", 0.0)
    by_engine = sampler(made, tmp_path, one)
    has_restarted(one)
    assert of_this_process(made, by_engine.sample(PROMPTS[:4]))
    one.forgets = False
    by_engine.refresh("made")
    assert tokens(by_engine.sample(PROMPTS)) == SAID


def test_an_engine_without_a_free_slot_is_left_as_it_is(
    made: Trunk, tmp_path: Path, one: FakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    one.adapters = {f"a-{number:06d}-abc": "/a" for number in range(3)}
    by_engine = sampler(made, tmp_path, one, slots=3)
    assert of_this_process(made, by_engine.sample(PROMPTS[:4]))
    by_engine.close()
    assert len(one.adapters) == 3
    assert not [said for said in one.said if said.startswith("load")]
    assert "all its 3 slots are taken" in caplog.text


def test_a_prompt_that_engines_refuse_keeps_no_other_from_them(
    made: Trunk, tmp_path: Path, one: FakeEngine
) -> None:
    one.refuses = list(made.prompt_ids(PROMPTS[4]))
    replies = sampler(made, tmp_path, one).sample(PROMPTS)
    assert tokens(replies[:4] + replies[8:]) == SAID[4:]
    assert of_this_process(made, replies[4:8])


def test_at_another_temperature_engines_are_not_asked(made: Trunk, tmp_path: Path, one: FakeEngine) -> None:
    replies = sampler(made, tmp_path, one).sample(PROMPTS[:3], temperature=0.0, max_tokens=5)
    assert one.asked == []
    assert tokens(replies) == tokens(
        Sampler(made, next((tmp_path / "adapters").iterdir())).sample(
            PROMPTS[:3], temperature=0.0, max_tokens=5
        )
    )


def test_nothing_asked_is_nothing_replied(made: Trunk, tmp_path: Path, one: FakeEngine) -> None:
    assert sampler(made, tmp_path, one).sample([]) == []


def test_files_stay_as_long_as_an_engine_may_list_them_and_the_next_round_deletes_them(
    made: Trunk, tmp_path: Path, one: FakeEngine
) -> None:
    by_engine = sampler(made, tmp_path, one)
    one.dies_after = 0
    by_engine.close()
    (left,) = (tmp_path / "adapters").iterdir()
    one.dies_after = None
    sampler(made, tmp_path, one).close()
    assert left.is_dir()  # so young that it may belong to another round
    os.utime(left, (0, 0))
    sampler(made, tmp_path, one).close()
    assert list((tmp_path / "adapters").iterdir()) == []
    assert one.adapters == {}


# --- the choice ---------------------------------------------------------------------------------------------------


def settings(tmp_path: Path, fake: FakeEngine, way: str) -> TrainingSettings:
    told = {"data_dir": tmp_path, "engine_urls": fake.url, "rollouts": way, "engine_key": "k"}
    return TrainingSettings.model_validate(told)


def test_the_process_is_the_default(made: Trunk) -> None:
    with rollouts(made, TrainingSettings()) as chosen:
        assert isinstance(chosen, Sampler)


def test_a_round_that_fails_leaves_nothing_on_the_engines(
    made: Trunk, tmp_path: Path, one: FakeEngine
) -> None:
    def fails() -> None:
        with rollouts(made, settings(tmp_path, one, "engine")) as chosen:
            chosen.refresh("made")
            assert len(one.adapters) == 1
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert one.adapters == {}
    assert list((tmp_path / "adapters").iterdir()) == []


@pytest.mark.parametrize("slow", ["engine", "process"])
def test_auto_tries_both_and_stays_with_the_faster(
    made: Trunk, tmp_path: Path, one: FakeEngine, slow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("training.engine_rollouts.time.monotonic", lambda: clock[0])
    for kind in (EngineSampler, Sampler):

        def sample(self: Any, *told: Any, plain: Any = kind.sample, kind: Any = kind, **more: Any) -> Any:
            clock[0] += 10.0 if (kind is EngineSampler) == (slow == "engine") else 0.1
            return plain(self, *told, **more)

        monkeypatch.setattr(kind, "sample", sample)
    by_engines = []
    with rollouts(made, settings(tmp_path, one, "auto")) as chosen:
        assert isinstance(chosen, Faster)
        for _ in range(4):
            chosen.refresh("made")
            before = prompts_of(one)
            chosen.sample(PROMPTS[:4])
            by_engines.append(prompts_of(one) - before)
            assert len(one.adapters) == by_engines[-1]  # none is held in vain
    assert by_engines == ([1, 0, 0, 0] if slow == "engine" else [1, 0, 1, 1])


def test_a_name_with_several_addresses_is_several_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"many": ["10.0.0.2", "10.0.0.1", "10.0.0.2"], "one": ["10.0.0.3"]}

    def look_up(host: str, *_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, 1, 6, "", (address, 0)) for address in found[host]]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    assert engines_of(["http://many:80", "http://one:80", "https://many", "http://10.0.0.9"], "k") == [
        Engine("http://many:80", "k", "10.0.0.1"),
        Engine("http://many:80", "k", "10.0.0.2"),
        Engine("http://one:80", "k"),
        Engine("https://many", "k"),
        Engine("http://10.0.0.9", "k"),
    ]


def test_warnings_name_the_engine_and_not_its_key() -> None:
    engine = Engine("http://127.0.0.1:9", "secret", "127.0.0.1")
    assert "secret" not in f"{engine} {engine!r}"
