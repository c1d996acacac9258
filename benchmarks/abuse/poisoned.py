"""What colluding subjects cost the reward model, with and without Heed's defences, through the archive and the batch.

A hundred subjects, five of them colluding, vote within two weeks on replies of the starter model. The honest ones
follow a hidden preference with a tenth of their votes turned round; the colluders say the opposite of it:
``flood``, forty votes each within two hours; ``clique``, each the same forty replies within two days; ``patient``, as
often as others. Defended is the batch as a round builds it: quarantine, weights by agreement, caps on subjects and
prompts. Undefended is every standing vote at its full weight. Accuracy is the share of pairs of replies to prompts
nobody has voted on, of which the model tells the one that the preference likes better.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.rounds import Judgement, sampled_twice
from deploy.preferences import LIKED_FROM, PREFERENCES
from feedback.archive import Archive
from feedback.events import Event, Message, Response, Vote
from feedback.protocols import Entry
from training.batch_files import manifest_of, read
from training.batching import build
from training.quarantine import suspicious
from training.reward_model import RewardConfig, RewardModel, fit
from training.settings import TrainingSettings
from training.starter.corpus import dialogs
from training.suspects import nobody
from training.trunk import Trunk

ALIAS = "heed"
SUBJECTS, COLLUDERS = 100, 5
NOISE = 0.1
HOUR, DAY = 3600.0, 86400.0
WAYS = ("flood", "clique", "patient")
Prompt = tuple[Message, ...]


@dataclass(frozen=True)
class Asked:
    """One prompt with two replies."""

    messages: Prompt
    texts: tuple[str, str]


class Town:
    """A hundred subjects, what they asked, and the preference they have."""

    def __init__(self, trunk: Trunk, preference: str, seed: int, votes: int) -> None:
        self._name, self._score = preference, PREFERENCES[preference]
        self._seed, stream = seed, dialogs(5000 + seed)
        prompts: list[Prompt] = [tuple(next(stream)[:-1]) for _ in range(votes // 2)]
        replies = sampled_twice(trunk, None, prompts, seed)
        self._asked = [Asked(messages, texts) for messages, texts in zip(prompts, replies, strict=True)]
        self._count = 0

    def honest(self) -> list[Event]:
        """Two thumbs on each prompt, of two subjects."""
        rng, events = random.Random(f"honest {self._seed}"), list[Event]()
        for asked in self._asked:
            for text in asked.texts:
                subject = f"s{rng.randrange(COLLUDERS, SUBJECTS)}"
                up = self._likes(asked.messages, text) != (rng.random() < NOISE)
                events += self._said(subject, rng.random() * 14 * DAY, asked.messages, text, up)
        return events

    def colluding(self, way: str) -> list[Event]:
        """What five say, each the opposite of what is true."""
        rng, events = random.Random(f"{way} {self._seed}"), list[Event]()
        each = 40 if way != "patient" else round(2 * len(self._asked) / SUBJECTS)
        begin = (4 + 6 * rng.random()) * DAY
        common = rng.sample(self._asked, 40)
        for number in range(COLLUDERS):
            time = begin + rng.random() * HOUR
            for place in range(each):
                asked = common[place] if way == "clique" else rng.choice(self._asked)
                text = asked.texts[0] if way == "clique" else rng.choice(asked.texts)
                time += rng.expovariate(1 / 100)
                at = {
                    "flood": time,
                    "clique": begin + rng.random() * 2 * DAY,
                    "patient": rng.random() * 14 * DAY,
                }
                up = not self._likes(asked.messages, text)
                events += self._said(f"s{number}", at[way], asked.messages, text, up)
        return events

    def _likes(self, messages: Prompt, text: str) -> bool:
        return self._score(messages[-1]["content"], text) > LIKED_FROM[self._name]

    def _said(self, subject: str, time: float, messages: Prompt, text: str, up: bool) -> list[Event]:
        self._count += 1
        name = f"chatcmpl-{self._count}"
        return [
            Response(
                event_id=name, response_id=name, time=time - 30, alias=ALIAS, adapter="base", arm="live",
                subject=subject, messages=messages, text=text,
            ),
            Vote(
                event_id=f"ev-{self._count}", feedback_id=f"fb-{self._count}", response_id=name, time=time,
                subject=subject, rating="up" if up else "down", alias=ALIAS,
            ),
        ]  # fmt: skip


def accuracy(
    trunk: Trunk, judgement: Judgement, preference: str, events: Sequence[Event], defended: bool
) -> tuple[float, set[str]]:
    """Of a reward model fitted to these events' batch, and which events the batch left out."""
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingSettings(data_dir=Path(folder), holdout_share=0.0)
        if not defended:
            whole: dict[str, Any] = {"subject_share": 1.0, "prompt_share": 1.0, "agreement_floor": 1.0}
            settings = settings.model_copy(update=whole)
        archive = Archive(settings.archive_dir)
        archive.write([Entry(f"{1000 + place}-0", event) for place, event in enumerate(events)])
        search = suspicious if defended else nobody
        batch = build(archive, ALIAS, settings, None, votes_total=len(events), suspicious=search)
        examples = read(batch)
        fit(trunk, replace(examples, prompts=[]), RewardConfig(), out=Path(folder) / "reward")
        model = RewardModel.load(trunk, Path(folder) / "reward")
        return judgement.told_apart(preference, model), set(manifest_of(batch.folder)["quarantined"])


def poisoned(
    trunk: Trunk, judgement: Judgement, preference: str, seed: int, votes: int
) -> list[dict[str, Any]]:
    """One row a way of colluding."""
    town = Town(trunk, preference, seed, votes)
    honest = town.honest()
    clean, false = accuracy(trunk, judgement, preference, honest, defended=True)
    plain, _ = accuracy(trunk, judgement, preference, honest, defended=False)
    rows = []
    for way in WAYS:
        planted = town.colluding(way)
        names = {event.event_id for event in planted if isinstance(event, Vote)}
        events = [*honest, *planted]
        held, out = accuracy(trunk, judgement, preference, events, defended=True)
        open_to_all, _ = accuracy(trunk, judgement, preference, events, defended=False)
        rows.append(
            {
                "part": "accuracy", "way": way, "preference": preference, "seed": seed, "votes": votes,
                "planted": len(names), "found": len(names & out), "honest_held": len(out - names),
                "honest_held_without_attack": len(false), "clean": clean, "clean_undefended": plain,
                "defended": held, "undefended": open_to_all,
            }
        )  # fmt: skip
    return rows
