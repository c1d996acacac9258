from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from deploy.client import Client
from deploy.demo import busy, ended_since
from deploy.display import describe_loop
from deploy.errors import DeployError
from deploy.picture import Point, draw, short
from deploy.quality import Quality, judged
from deploy.rounds import outcome, wait_for_round

PNG = b"\x89PNG\r\n\x1a\n"


def quality(model: str, rate: float) -> Quality:
    return Quality(model, rate, rate - 0.05, rate + 0.05, 256, 0.5, 0.2)


def test_the_picture_is_a_png_whatever_served(tmp_path: Path) -> None:
    points = [
        Point(0, "base", quality("base", 0.5)),
        Point(100, "base", quality("base", 0.5)),
        Point(200, "a-000001-abcdef012345", quality("a-000001-abcdef012345", 0.7), 42.0),
    ]
    draw(points, "200 votes", tmp_path / "demo.png")
    assert (tmp_path / "demo.png").read_bytes()[:8] == PNG


def test_an_adapter_is_called_by_its_number() -> None:
    assert short("a-000012-abcdef012345") == "v12"
    assert short("base") == "base"


def test_ties_count_half() -> None:
    prompts = [[{"role": "user", "content": "Hi"}]] * 4
    ours = ["Thank you, of course!", "Ugh.", "Yes.", "Yes."]
    theirs = ["Ugh.", "Thank you, of course!", "Yes.", "Yes."]
    found = judged("polite_helpful", prompts, "heed:a-1", ours, theirs)
    assert (found.win_rate, found.prompts) == (0.5, 4)
    assert found.mean_score == pytest.approx(found.base_score)


@pytest.mark.parametrize(
    ("loop", "expected"),
    [
        ({}, True),
        ({"step": "ppo"}, True),
        ({"step": None, "adapters": {"canary": 1}}, True),
        ({"step": None, "adapters": {"candidate": 0, "canary": 0, "live": 1}}, False),
    ],
)
def test_a_loop_is_busy_while_a_round_runs_or_an_adapter_is_on_trial(
    loop: Mapping[str, Any], expected: bool
) -> None:
    assert busy(loop) is expected


def test_only_a_round_that_ended_later_counts() -> None:
    assert ended_since({"last_round": {"ended": 20.0}}, 10.0)
    assert not ended_since({"last_round": {"ended": 5.0}}, 10.0)
    assert not ended_since({}, 10.0)


def answering(monkeypatch: pytest.MonkeyPatch, loop: dict[str, Any], **adapters: str) -> Client:
    """A client that is told of this loop and of adapters by id and state."""

    def get(self: Client, path: str, **query: object) -> dict[str, Any]:
        name = path.rpartition("/")[2]
        return loop if path == "/v1/loop" else {"id": name, "state": adapters[name], "reason": "better"}

    monkeypatch.setattr(Client, "get", get)
    return Client("http://h")


def test_a_round_ends_with_a_settled_adapter_or_with_the_reason_for_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = answering(monkeypatch, {}, a1="live", a2="canary")
    nothing = {"last_round": {"started": 70.0, "adapter": None, "reason": "too few votes"}}
    assert outcome(client, nothing, 65.0) == "the round made no adapter: too few votes"
    assert outcome(client, nothing, 75.0) is None
    assert outcome(client, {}, 0.0) is None
    first, second = ({"last_round": {"started": 70.0, "adapter": name}} for name in ("a1", "a2"))
    assert outcome(client, first, 65.0) == "a1 is live: better"
    assert outcome(client, second, 65.0) is None
    assert "heed adapters promote a2" in str(outcome(client, second | {"mode": "approve"}, 65.0))


def test_waiting_for_a_round_ends_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.rounds.POLL_SECONDS", 0.01)
    shown: list[Mapping[str, Any]] = []
    client = answering(monkeypatch, {"step": "ppo"})
    with pytest.raises(DeployError, match="has not ended"):
        wait_for_round(client, "heed", 0.0, 1.0, shown.append)
    assert shown[0] == {"step": "ppo"}


def test_the_loop_is_told_in_one_line() -> None:
    assert "not reported" in describe_loop({})
    assert describe_loop({"live": None, "waiting_votes": 3, "step": "ppo", "progress": 0.25}) == (
        "serves base · 3 votes wait · ppo 25%"
    )
    ended = {"live": "a-1", "last_round": {"reason": "passed"}, "freshness_seconds": 61.4}
    assert describe_loop(ended) == "serves a-1 · last round: passed · freshness 61 s"
