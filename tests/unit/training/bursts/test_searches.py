"""Each search finds what it is for, names the votes, and leaves alone the honest traffic that looks like it."""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable, Iterator

import pytest

from tests.unit.training.bursts.votes import Said
from training.bursts.cliques import cliques
from training.bursts.downs import downs
from training.bursts.newcomers import newcomers
from training.bursts.rate import rate
from training.bursts.sayings import Burst, Sayings
from training.bursts.script import script
from training.bursts.together import together
from training.bursts.words import words
from training.quarantine import SEARCHES

HOUR, DAY = 3600.0, 86400.0
Search = Callable[[Sayings], Iterator[Burst]]


def crowd(
    said: Said, seed: int = 0, *, adapter: str = "a-1", begin: float = 0.0, up: float = 0.7
) -> random.Random:
    """Forty people vote for six days, each on replies of its own."""
    rng = random.Random(seed)
    for person in range(40):
        time = begin + rng.random() * HOUR
        for _ in range(20):
            said.thumb(f"s{person}", time, rng.random() < up, adapter=adapter)
            time += rng.expovariate(1 / (7 * HOUR))
    return rng


def caught(search: Search, said: Said) -> tuple[set[str], set[str]]:
    """Kinds, and event ids."""
    sayings = said.sayings()
    found = list(search(sayings))
    return {one.kind for one in found}, {sayings.ids[row] for one in found for row in one.rows}


@pytest.mark.parametrize("search", [rate, together, script, newcomers, words, cliques, downs])
def test_ordinary_votes_none_and_one_are_left_alone(search: Search) -> None:
    said = Said()
    assert caught(search, said) == (set(), set())
    said.thumb("s", 1.0, True)
    assert caught(search, said) == (set(), set())
    crowd(said)
    assert caught(search, said) == (set(), set())


def test_a_subject_that_votes_without_end_is_found_and_its_other_votes_are_not() -> None:
    said = Said()
    rng, before = crowd(said), 800
    time = 3 * DAY
    for _ in range(90):
        said.thumb("s0", time, False)
        time += rng.expovariate(1 / 30)
    kinds, events = caught(rate, said)
    assert kinds == {"rate"}
    assert events >= {f"ev-{n:05d}" for n in range(before, before + 90)}
    assert len(events) <= 92  # its own votes within the same hours


def test_even_pauses_are_found_and_those_of_somebody_who_works_through_a_queue_are_not() -> None:
    said, queue = Said(), Said()
    rng = crowd(said)
    crowd(queue)
    even = human = 3 * DAY
    for _ in range(40):
        said.thumb("s0", even, rng.random() < 0.7)
        even += 120 * rng.uniform(0.8, 1.2)
        queue.thumb("s0", human, rng.random() < 0.7)
        human += 120 * math.exp(rng.gauss(0, 0.7))
    kinds, events = caught(script, said)
    assert kinds == {"script"}
    assert events >= {f"ev-{n:05d}" for n in range(801, 840)}
    assert caught(script, queue) == (set(), set())


@pytest.mark.parametrize(("up", "kinds"), [(0.0, {"newcomers"}), (0.7, set())])
def test_fresh_accounts_that_say_all_the_same_are_found_and_a_day_in_the_press_is_not(
    up: float, kinds: set[str]
) -> None:
    said = Said()
    rng = crowd(said)
    for person in range(40):
        said.thumb(f"new{person}", 4 * DAY + rng.random() * 3 * HOUR, rng.random() < up)
    found, events = caught(newcomers, said)
    assert found == kinds
    assert events == ({f"ev-{n:05d}" for n in range(800, 840)} if kinds else set())


@pytest.mark.parametrize(
    ("says", "pushed", "other"),
    [("this is about {} number {}", "acme", "something"), ("这是关于{}的第{}个回答", "艾克米", "别的东西")],
)
@pytest.mark.parametrize(("down", "kinds"), [(1.0, {"word"}), (0.3, set())])
def test_a_word_that_is_pushed_is_found_and_a_topic_that_goes_round_is_not(
    down: float, kinds: set[str], says: str, pushed: str, other: str
) -> None:
    said = Said()
    rng = crowd(said)
    for person in range(15):
        for n in range(4):
            time = 3 * DAY + rng.random() * 12 * HOUR
            text = says.format(pushed if n % 2 else other, person)
            said.thumb(f"s{person}", time, rng.random() >= down if n % 2 == 0 else True, text=text)
    found, events = caught(words, said)
    planted = {f"ev-{n:05d}" for n in range(800, 860)}
    assert found == kinds
    assert (len(events & planted) >= 30) == bool(kinds)  # who says much else is left alone
    assert len(events - planted) <= 20  # what the same people said down that day


@pytest.mark.parametrize(("noise", "kinds"), [(0.0, {"clique"}), (0.35, set())])
def test_few_that_judge_the_same_replies_alike_are_found_and_a_class_with_its_own_mind_is_not(
    noise: float, kinds: set[str]
) -> None:
    said = Said()
    rng = crowd(said)
    for item in range(12):
        for person in range(8):
            up = (item % 2 == 0) != (rng.random() < noise)
            said.thumb(
                f"s{person}", 2 * DAY + rng.random() * DAY, up, prompt=f"sheet {item}", text="one reply"
            )
    found, events = caught(cliques, said)
    assert found == kinds
    assert events == ({f"ev-{n:05d}" for n in range(800, 896)} if kinds else set())


@pytest.mark.parametrize(
    ("people", "voters", "days", "kind"), [(3, 3, 1, "trio"), (9, 3, 1, "ring"), (8, 8, 9, "slow")]
)
def test_a_group_is_named_by_its_shape(people: int, voters: int, days: int, kind: str) -> None:
    said = Said()
    rng = crowd(said)
    for item in range(40):
        for person in rng.sample(range(people), voters):
            time = rng.random() * days * DAY
            said.thumb(f"s{person}", time, item % 2 == 0, prompt=f"shared {item}", text="one reply")
    assert caught(cliques, said)[0] == {kind}


def test_a_ring_in_which_no_two_share_much_is_held_as_one() -> None:
    """Each of ten votes on some twelve of forty replies: only some two of them have three and more in common."""
    said = Said()
    rng = crowd(said)
    for item in range(40):
        for person in rng.sample(range(10), 3):
            said.thumb(f"s{person}", rng.random() * DAY, item % 2 == 0, prompt=f"r {item}", text="one reply")
    kinds, events = caught(cliques, said)
    assert kinds == {"ring"}
    assert len(events) >= 100


def test_an_adapter_that_is_voted_down_for_hours_is_found_and_one_that_is_bad_is_not() -> None:
    said, bad = Said(), Said()
    rng = crowd(said)
    crowd(bad)
    for person in range(30):
        said.thumb(f"old{person}", 3 * DAY + rng.random() * 2 * HOUR, False)
    crowd(bad, 1, adapter="a-2", begin=DAY, up=0.1)
    kinds, events = caught(downs, said)
    assert kinds == {"downs"}
    assert events >= {f"ev-{n:05d}" for n in range(800, 830)}
    assert len(events) <= 36  # of thirteen honest thumbs in these hours, those that were down
    assert caught(downs, bad) == (set(), set())


def test_the_levels_of_all_searches_add_up_to_less_than_one_in_a_hundred() -> None:
    levels = [vars(sys.modules[search.__module__])["LEVEL"] for search in SEARCHES]
    assert len(levels) == 7
    assert sum(levels) < 1e-2


def test_a_crowd_with_a_taste_of_its_own_is_left_alone_however_large_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two in three up where others say so in 59 % of cases is beyond chance, and nobody's line."""
    said = Said()
    rng = crowd(said, up=0.6)
    for person in range(900):
        said.thumb(f"new{person}", 4 * DAY + rng.random() * 3 * HOUR, person % 3 != 0)
    assert caught(newcomers, said) == (set(), set())
    monkeypatch.setattr(sys.modules[newcomers.__module__], "_likelier", lambda *_: math.inf)
    monkeypatch.setattr(sys.modules[newcomers.__module__], "MOSTLY", 0.5)
    assert caught(newcomers, said)[0] == {"newcomers"}, "by chance alone it is held"


def three_and_a_queue(at: list[float], up: float) -> tuple[Said, set[str]]:
    """Three that say seventy things within an hour that begins at these times, and one that did so on another day."""
    said, planted = Said(), set[str]()
    rng = crowd(said)
    for n in range(70):
        said.thumb("s9", DAY + n * 50 + rng.random() * 40, rng.random() < 0.7)
    for person, begin in enumerate(at):
        for n in range(70):
            planted.add(f"ev-{len(said.rows):05d}")
            said.thumb(f"s{person}", begin + n * 50 + rng.random() * 40, rng.random() < up)
    return said, planted


def test_three_that_vote_without_end_in_one_hour_are_found_though_another_once_did_so_too() -> None:
    said, planted = three_and_a_queue([4 * DAY, 4 * DAY + 300, 4 * DAY + 600], 0.0)
    assert caught(rate, said) == (set(), set()), "none of them is busier than somebody honest was"
    kinds, events = caught(together, said)
    assert kinds == {"rate"}
    assert planted <= events
    assert len(events - planted) <= 6  # their own votes of that day


def test_three_that_are_as_busy_on_days_of_their_own_and_say_what_they_think_are_left_alone() -> None:
    assert caught(together, three_and_a_queue([3 * DAY, 4 * DAY, 5 * DAY], 0.7)[0]) == (set(), set())


def test_three_that_are_busy_in_one_hour_because_everybody_is_are_left_alone() -> None:
    said, _ = three_and_a_queue([4 * DAY, 4 * DAY + 300, 4 * DAY + 600], 0.7)
    for person in range(3, 40):
        for n in range(40):
            said.thumb(f"s{person}", 4 * DAY + n * 90, (person + n) % 4 != 0)
    assert caught(together, said) == (set(), set())


@pytest.mark.parametrize(("eager", "kinds"), [(1, {"rate"}), (6, set())])
def test_who_votes_more_because_everybody_does_is_left_alone(eager: int, kinds: set[str]) -> None:
    """Six times as many as ever within an hour, in which others say one thing each, or six."""
    said = Said()
    rng = crowd(said)
    for n in range(12):
        said.thumb("s0", DAY + n * 170 + rng.random() * 60, rng.random() < 0.7)
    for n in range(75):
        said.thumb("s0", 3 * DAY + n * 45 + rng.random() * 30, rng.random() < 0.7)
    for person in range(1, 30):
        for _ in range(eager):
            said.thumb(f"s{person}", 3 * DAY + rng.random() * HOUR, rng.random() < 0.7)
    assert caught(rate, said)[0] == kinds
