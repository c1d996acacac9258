"""Which replies raters are asked about: the information by hand, and what is chosen of a small archive."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from feedback.archive import Archive
from feedback.events import Event, Message
from feedback.memory import MemoryRatingQueue
from feedback.protocols import Entry
from feedback.rating import item_id
from tests.contract.making import report, response
from tests.unit.training.tiny import ask
from training.choosing import Asked, ask_raters, information, items, most_telling, newest_prompts
from training.reward_model import RewardModel
from training.settings import TrainingSettings
from training.trunk import Trunk

PROMPT = tuple(ask("so?"))


class Heads:
    """Two heads: each gives a reply the points its text names, as in ``"3 -2"``; fresh replies get none."""

    def __init__(self, trunk: Trunk) -> None:
        self.trunk = trunk

    def opinions(self, conversations: Sequence[tuple[Sequence[Message], str]]) -> Tensor:
        told = [text.split() if text[:1] in "-0123456789" else [] for _, text in conversations]
        return torch.tensor([[float(one) for one in (row if len(row) == 2 else ("0", "0"))] for row in told])


def archive_of(tmp_path: Path, *events: Event) -> Archive:
    archive = Archive(tmp_path / "archive")
    archive.write([Entry(f"{n + 1}-0", event) for n, event in enumerate(events)])
    return archive


def replied(name: str, prompt: str, text: str, time: float, **more: Any) -> Event:
    return response(name, messages=tuple(ask(prompt)), text=text, time=time, **more)


def asked(*texts: str) -> Asked:
    one = Asked(PROMPT, "s1")
    for text in texts:
        one.add(text, "base")
    return one


@pytest.mark.parametrize(
    ("difference", "nats"),
    [
        ([math.log(3), -math.log(3)], math.log(2) + 0.75 * math.log(0.75) + 0.25 * math.log(0.25)),
        ([2.0, 2.0], 0.0),  # sure, and of one mind
        ([0.0, 0.0], 0.0),  # all shrug
        ([100.0, -100.0], math.log(2)),  # no answer can tell more than one bit
    ],
)
def test_what_an_answer_tells_is_high_where_each_head_is_sure_and_they_disagree(
    difference: list[float], nats: float
) -> None:
    assert float(information(torch.tensor(difference))) == pytest.approx(nats, abs=1e-6)


def test_the_pair_that_tells_most_is_compared_and_more_replies_come_by_what_they_add() -> None:
    opinions = torch.tensor([[0.0, 0.0], [3.0, -3.0], [-2.1, 2.1], [-2.0, 2.0]])
    assert most_telling(opinions, 2)[0] == [1, 2]
    assert most_telling(opinions, 3)[0] == [1, 2, 0]
    assert sorted(most_telling(opinions, 5)[0]) == [0, 1, 2, 3]
    assert most_telling(opinions, 2)[1] == float(information(opinions[1] - opinions[2]))


def test_items_come_by_what_they_tell_and_one_reply_is_none() -> None:
    calm, torn = asked("1 1", "0 0"), asked("2 -2", "0 0", "0.1 0")
    torn.messages = tuple(ask("and so?"))
    made = items(Heads(cast("Trunk", None)), [calm, torn, asked("5 -5")], 2)
    assert [[option.text for option in item.options] for item in made] == [["2 -2", "0 0"], ["1 1", "0 0"]]
    assert [item.id for item in made] == [item_id(torn.messages), item_id(PROMPT)]
    assert made[0].doubt > made[1].doubt == pytest.approx(0, abs=1e-6)


def test_the_newest_prompts_come_with_their_different_replies_and_without_reported_ones(
    tmp_path: Path,
) -> None:
    archive = archive_of(
        tmp_path,
        replied("r1", "old", "one", 1.0),
        replied("r2", "twice", "one", 2.0, subject="s2"),
        replied("r3", "twice", "two", 3.0, adapter="a-1"),
        replied("r4", "twice", "one", 4.0, subject="s4"),
        replied("r5", "rude", "words", 5.0),
        replied("r6", "other", "words", 6.0, alias="support"),
        replied("r7", "secret", "words", 7.0, stored=False),
        report("rp-1", "r5"),
    )
    found = newest_prompts(archive, "heed", 9)
    assert [one.messages[0]["content"] for one in found] == ["twice", "old"]
    assert [(option.text, option.adapter) for option in found[0].options] == [("one", "base"), ("two", "a-1")]
    assert found[0].author == "s4"
    assert len(newest_prompts(archive, "heed", 1)) == 1


def test_the_queue_is_filled_with_fresh_replies_where_people_were_given_too_few(
    tmp_path: Path, trunk: Trunk
) -> None:
    archive = archive_of(tmp_path, replied("r1", "so?", "3 -3", 1.0), replied("r2", "and?", "0 0", 2.0))
    queue, model = MemoryRatingQueue(), cast("RewardModel", Heads(trunk))
    settings = TrainingSettings(annotation_replies=3)
    count = ask_raters(queue, archive, "heed", settings, model, None)
    taken = [queue.take("heed", "ann", 2, 60.0) for _ in range(count)]
    found = {item.messages[0]["content"]: item for _, item in filter(None, taken) if item is not None}
    assert len(found) == count >= 1
    assert found["so?"].options[0].text == "3 -3"
    assert all(2 <= len(item.options) <= 3 and item.author == "s1" for item in found.values())
    assert {option.adapter for item in found.values() for option in item.options} == {"base"}
    again = MemoryRatingQueue()
    ask_raters(again, archive, "heed", settings, model, None)
    assert again.take("heed", "ann", 2, 60.0) == taken[0]


def test_an_empty_archive_leaves_an_empty_queue(tmp_path: Path) -> None:
    queue = MemoryRatingQueue()
    model = cast("RewardModel", Heads(cast("Trunk", None)))
    assert ask_raters(queue, Archive(tmp_path / "none"), "heed", TrainingSettings(), model, None) == 0
    assert queue.take("heed", "ann", 2, 60.0) is None
