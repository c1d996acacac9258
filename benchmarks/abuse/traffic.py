"""Two weeks of honest votes of one alias: load by the hour, heavy users, releases good and bad, and crowds.

What is honest here and looks like abuse: users that vote ten times as often as others, in sittings; raters who
work through a queue at a steady pace; a release that is bad from its first reply to its end, and at which people
vote more often; a prompt that goes round; a day in the press that brings fresh accounts; a class that works on one
sheet; a deployment whose every account is fresh. Quality belongs to the reply, so honest people agree on it.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from typing import NamedTuple

import pyarrow as pa

from training.suspects import VOTES

HOUR, DAY = 3600.0, 86400.0
START = 1_700_000_000.0 // DAY * DAY  # a midnight
DAYS = 14
VOCABULARY = 2500
PROMPTS = 1200


class Said(NamedTuple):
    """One row of the table that the search for bursts reads, and whether it was planted."""

    event_id: str
    kind: str  # "vote" or "comparison"
    subject: str
    time: float  # Unix seconds
    rating: str  # "up" or "down"; of a comparison "win" of text over other_text
    messages: str  # the prompt
    text: str
    other_text: str | None
    adapter: str
    planted: bool


@dataclass
class Reply:
    """One reply: its prompt, its words, and the log-odds that it is liked, apart from who is asked."""

    prompt: str
    text: str
    quality: float


@dataclass
class Subject:
    """One end user."""

    name: str
    first_seen: float
    activity: float  # sittings a day
    bias: float  # log-odds of liking
    votes_in_a_sitting: float
    pause: float  # seconds, median between two votes of a sitting
    spread: float = 1.0  # of the logarithm of pauses


@dataclass
class Release:
    """One adapter, its share of traffic between two times, and what it does to quality."""

    adapter: str
    begin: float
    end: float
    share: float
    quality: float
    eagerness: float = 1.0  # how much more often people vote on what it says


@dataclass
class World:
    """What votes are about. ``rng`` decides everything."""

    rng: random.Random
    subjects: list[Subject] = field(default_factory=list)
    releases: list[Release] = field(default_factory=list)
    said: list[Said] = field(default_factory=list)
    replies: dict[tuple[str, int], Reply] = field(default_factory=dict)
    likes: dict[str, float] = field(default_factory=dict)
    count: int = 0

    def word(self) -> str:
        """One word of the vocabulary, common ones more often."""
        return f"w{int(VOCABULARY ** self.rng.random()) - 1}"

    def prompt(self) -> str:
        """One that others ask, too, or in a third of cases one of the asker's own."""
        self.count += 1
        if self.rng.random() < 0.35:
            return f"own {self.count}"
        return f"p{int(PROMPTS ** self.rng.random()) - 1}"

    def reply(self, prompt: str) -> Reply:
        """One of a few replies to the prompt, common ones more often, or one that is given once."""
        variant = min(int(self.rng.expovariate(0.8)), 9) if self.rng.random() < 0.6 else 10 + self.count
        self.count += 1
        key = (prompt, variant)
        if key not in self.replies:
            about = random.Random(f"topic {prompt}")
            topic = [f"t{about.randrange(900)}" for _ in range(3)]
            self.likes.setdefault(prompt, self.rng.gauss(0, 0.8))
            words = " ".join(topic + [self.word() for _ in range(9)])
            self.replies[key] = Reply(prompt, words, 1.2 + self.likes[prompt] + self.rng.gauss(0, 0.8))
        return self.replies[key]

    def release(self, time: float) -> Release:
        """What answers at that time; the last of the releases that run, by share."""
        running = [one for one in self.releases if one.begin <= time < one.end]
        for one in running[:0:-1]:
            if self.rng.random() < one.share:
                return one
        return running[0]

    def liked(self, reply: Reply, subject: Subject, release: Release) -> bool:
        odds = reply.quality + subject.bias + release.quality
        return self.rng.random() < 1 / (1 + math.exp(-odds))

    def say(
        self, subject: Subject, time: float, reply: Reply, up: bool, release: Release, planted: bool = False
    ) -> None:
        """A thumb."""
        self._row("vote", subject, time, reply, "up" if up else "down", None, release, planted)

    def prefer(
        self,
        subject: Subject,
        time: float,
        better: Reply,
        worse: Reply,
        release: Release,
        planted: bool = False,
    ) -> None:
        """A comparison."""
        self._row("comparison", subject, time, better, "win", worse.text, release, planted)

    def _row(
        self, kind: str, subject: Subject, time: float, reply: Reply, rating: str, other: str | None,
        release: Release, planted: bool,
    ) -> None:  # fmt: skip
        name = f"ev-{len(self.said):06d}"
        self.said.append(
            Said(
                name,
                kind,
                subject.name,
                time,
                rating,
                reply.prompt,
                reply.text,
                other,
                release.adapter,
                planted,
            )
        )

    def table(self) -> pa.Table:
        """What was said, as ``training.suspects.votes_of`` shows it."""
        known: dict[tuple[str, str], int] = {}
        rows = [
            one._asdict()
            | {
                "reply": known.setdefault((one.messages, one.text), len(known)),
                "other": None
                if one.other_text is None
                else known.setdefault((one.messages, one.other_text), len(known)),
            }
            for one in self.said
        ]
        return pa.Table.from_pylist(rows, schema=VOTES)

    def honest(self, subject: Subject, time: float, prompt: str | None = None) -> None:
        """One honest saying: a comparison in a fifth of cases."""
        release = self.release(time)
        asked = prompt or self.prompt()
        reply = self.reply(asked)
        if self.rng.random() < 0.2:
            other = self.reply(asked)
            better = self.rng.random() < 1 / (1 + math.exp(other.quality - reply.quality))
            self.prefer(subject, time, *((reply, other) if better else (other, reply)), release)
            return
        again = release.eagerness
        while again > 0:
            if self.rng.random() < again:
                self.say(subject, time, reply, self.liked(reply, subject, release), release)
                reply = self.reply(asked if prompt else self.prompt())
            again -= 1

    def moment(self, begin: float, end: float) -> float:
        """A time between, by the load of the hour: five times as much by day as by night."""
        while True:
            time = begin + self.rng.random() * (end - begin)
            load = 0.6 + 0.4 * math.sin(2 * math.pi * (time / DAY - 0.375))
            if self.rng.random() < load:
                return time

    def sitting(self, subject: Subject, begin: float) -> None:
        """A few votes with pauses between."""
        time = begin
        for _ in range(1 + int(self.rng.expovariate(1 / max(0.01, subject.votes_in_a_sitting - 0.5)))):
            self.honest(subject, time)
            time += subject.pause * math.exp(self.rng.gauss(0, subject.spread))


def account(world: World, first_seen: float, name: str) -> Subject:
    """An ordinary account; one in thirty is a heavy user."""
    heavy = world.rng.random() < 0.033
    return Subject(
        name, first_seen,
        activity=math.exp(world.rng.gauss(-1.1, 0.8)) * (5 if heavy else 1),
        bias=world.rng.gauss(0, 0.7),
        votes_in_a_sitting=6 if heavy else 2.2,
        pause=world.rng.choice((20.0, 45.0, 90.0, 150.0)),
    )  # fmt: skip


def honest(seed: int) -> World:
    """Two weeks without abuse."""
    rng = random.Random(f"traffic {seed}")
    world = World(rng)
    end = START + DAYS * DAY
    fresh_start = rng.random() < 0.2
    for number in range(round(math.exp(rng.uniform(math.log(120), math.log(500))))):
        old = not fresh_start and rng.random() < 0.7
        first = START - rng.random() * 60 * DAY if old else START + rng.random() * (end - START)
        if fresh_start and rng.random() < 0.6:
            first = START + rng.random() * 2 * DAY
        world.subjects.append(account(world, first, f"s{number}"))
    _releases(world, end)
    for subject in world.subjects:
        begin = max(START, subject.first_seen)
        world.sitting(subject, begin if subject.first_seen >= START else world.moment(START, end))
        for _ in range(_poisson(rng, subject.activity * (end - begin) / DAY)):
            world.sitting(subject, world.moment(begin, end))
    for chance, happening in ((0.5, _viral), (0.35, _press), (0.3, _class), (0.3, _rater)):
        if rng.random() < chance:
            happening(world)
    return world


def _poisson(rng: random.Random, mean: float) -> int:
    left, count = math.exp(-mean), 0
    product = rng.random()
    while product > left:
        product *= rng.random()
        count += 1
    return count


def _releases(world: World, end: float) -> None:
    """One adapter after another, each better or a little worse; in half of all runs one that is bad."""
    rng, time, number = world.rng, START, 0
    world.releases.append(Release("base", START, math.inf, 1.0, 0.0))
    while (time := time + rng.uniform(1.5, 5) * DAY) < end:
        number += 1
        world.releases.append(Release(f"a-{number}", time, time + 6 * HOUR, 0.1, rng.gauss(0.1, 0.3)))
        world.releases.append(
            Release(f"a-{number}", time + 6 * HOUR, math.inf, 1.0, world.releases[-1].quality)
        )
    if rng.random() < 0.5:
        begin = START + rng.uniform(1, DAYS - 1.5) * DAY
        length, share = rng.uniform(2, 14) * HOUR, rng.choice((0.1, 0.5, 1.0))
        eager = rng.choice((1.0, 1.5, 3.0))
        world.releases.append(Release("a-bad", begin, begin + length, share, -rng.uniform(1.5, 4.5), eager))


def _viral(world: World) -> None:
    """One prompt goes round: many ask it within hours, and its replies are as good or bad as they are."""
    rng = world.rng
    begin = START + rng.uniform(1, DAYS - 2) * DAY
    for number in range(rng.randint(20, 80)):
        time = world.moment(begin, begin + rng.uniform(2, 10) * HOUR)
        new = rng.random() < 0.5
        subject = account(world, time - 60, f"viral{number}") if new else rng.choice(world.subjects)
        world.honest(subject, max(time, subject.first_seen), "viral")
        if rng.random() < 0.3:
            world.sitting(subject, max(time, subject.first_seen) + 60)


def _press(world: World) -> None:
    """Fresh accounts within hours, each with a few votes, a little kinder than others."""
    rng = world.rng
    begin = START + rng.uniform(1, DAYS - 2) * DAY
    for number in range(rng.randint(30, 100)):
        time = world.moment(begin, begin + rng.uniform(3, 12) * HOUR)
        subject = account(world, time, f"press{number}")
        subject.bias += 0.3
        world.sitting(subject, time + rng.random() * 600)


def _class(world: World) -> None:
    """Pupils work through one sheet within two hours, and each votes as it thinks."""
    rng = world.rng
    begin = START + (rng.randrange(1, DAYS - 1) + rng.uniform(0.35, 0.6)) * DAY
    sheet = [f"sheet {number}" for number in range(rng.randint(5, 12))]
    fresh = rng.random() < 0.5
    for number in range(rng.randint(10, 30)):
        first = begin if fresh else START - DAY
        subject = account(world, first, f"pupil{number}")
        for place, prompt in enumerate(sheet):
            if rng.random() < 0.6:
                at = begin + (place + rng.random()) / len(sheet) * 1.8 * HOUR
                world.honest(subject, at, prompt)


def _rater(world: World) -> None:
    """Somebody votes through a queue, an hour on some days, at a steady human pace."""
    rng = world.rng
    subject = account(world, START - 10 * DAY, "rater")
    subject.pause, subject.spread = rng.uniform(15, 60), rng.uniform(0.6, 0.9)
    for day in rng.sample(range(DAYS), rng.randint(2, 8)):
        time = START + (day + rng.uniform(0.35, 0.7)) * DAY
        for _ in range(rng.randint(20, 60)):
            world.honest(subject, time)
            time += subject.pause * math.exp(rng.gauss(0, subject.spread))
