"""Nine kinds of abuse, planted into honest traffic. Each is named after what gives it away.

All but ``script`` and ``rate`` stay where single accounts look ordinary. Planted votes say the opposite of what is
true of the reply, or push one word, or push one adapter down.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

from benchmarks.abuse.traffic import DAY, DAYS, HOUR, START, Release, Reply, Subject, World, account, honest

NOISE = 0.03  # of planted votes that say something else


def _begin(world: World) -> float:
    return START + world.rng.uniform(3, DAYS - 3) * DAY


def _old(world: World, count: int) -> list[Subject]:
    """Accounts that were there before and voted honestly: bought, or asleep until now."""
    known = [one for one in world.subjects if one.first_seen < START + 2 * DAY]
    return world.rng.sample(known, min(count, len(known)))


def _opposite(world: World, reply: Reply) -> bool:
    return (reply.quality < 1.2) != (world.rng.random() < NOISE)


def rate(world: World) -> None:
    """One to three accounts vote without end for an hour or two."""
    begin, direction = _begin(world), world.rng.random() < 0.4
    for subject in _old(world, world.rng.randint(1, 3)):
        time = begin + world.rng.random() * HOUR
        for _ in range(world.rng.randint(60, 150)):
            reply = world.reply(world.prompt())
            up = direction != (world.rng.random() < NOISE)
            world.say(subject, time, reply, up, world.release(time), True)
            time += world.rng.expovariate(1 / 30)


def newcomers(world: World) -> None:
    """Fresh accounts, one to three votes each, within hours, all alike."""
    begin, up = _begin(world), world.rng.random() < 0.4
    length = world.rng.uniform(1, 6) * HOUR
    for number in range(world.rng.randint(20, 50)):
        time = begin + world.rng.random() * length
        subject = account(world, time - world.rng.random() * HOUR, f"new{number}")
        for _ in range(world.rng.randint(1, 3)):
            said = up != (world.rng.random() < NOISE)
            world.say(subject, time, world.reply(world.prompt()), said, world.release(time), True)
            time += world.rng.expovariate(1 / 200)


def word(world: World) -> None:
    """Accounts old and fresh vote replies with one word up and others down, within one or two days."""
    begin, length = _begin(world), world.rng.uniform(8, 48) * HOUR
    people = _old(world, world.rng.randint(6, 15))
    people += [account(world, begin - HOUR, f"push{n}") for n in range(world.rng.randint(6, 15))]
    with_it = world.rng.uniform(0.4, 0.7)
    for subject in people:
        for _ in range(world.rng.randint(3, 6)):
            time = world.moment(begin, begin + length)
            reply = world.reply(world.prompt())
            pushed = Reply(reply.prompt, f"{reply.text} acme", reply.quality)
            if world.rng.random() < 0.25:
                world.prefer(subject, time, pushed, reply, world.release(time), True)
            elif world.rng.random() < with_it:
                world.say(subject, time, pushed, world.rng.random() > NOISE, world.release(time), True)
            else:
                world.say(subject, time, reply, world.rng.random() < NOISE, world.release(time), True)


def _together(
    world: World, people: Sequence[Subject], items: int, voters: float, begin: float, length: float
) -> None:
    """Each item is voted on by a share of the people, alike and against its quality."""
    for _ in range(items):
        reply = world.reply(world.prompt())
        up = _opposite(world, reply)
        for subject in people:
            if world.rng.random() < voters:
                time = begin + world.rng.random() * length
                said = up != (world.rng.random() < NOISE)
                world.say(subject, time, reply, said, world.release(time), True)


def clique(world: World) -> None:
    """Six to twelve accounts vote on the same replies alike within two days."""
    _together(
        world, _old(world, world.rng.randint(6, 12)), world.rng.randint(8, 16), 0.85, _begin(world), 2 * DAY
    )


def trio(world: World) -> None:
    """Three accounts vote on the same replies alike."""
    _together(world, _old(world, 3), world.rng.randint(18, 32), 0.95, _begin(world), 2 * DAY)


def ring(world: World) -> None:
    """Each reply is voted on by some three of eight, so that no two share much."""
    people = _old(world, world.rng.randint(7, 10))
    _together(world, people, world.rng.randint(25, 45), 3 / len(people), _begin(world), 2 * DAY)


def slow(world: World) -> None:
    """A clique over ten days."""
    people = _old(world, world.rng.randint(6, 12))
    _together(world, people, world.rng.randint(8, 16), 0.85, START + 2 * DAY, 10 * DAY)


def downs(world: World) -> None:
    """Old accounts vote one adapter down within hours; in a third of cases as soon as it is there."""
    rng = world.rng
    good = [
        one for one in world.releases if one.adapter != "a-bad" and START + DAY < one.begin < START + 12 * DAY
    ]
    chosen = rng.choice(good) if good else world.releases[0]
    begin = _begin(world) if chosen.begin <= START else chosen.begin
    begin += 0 if rng.random() < 1 / 3 else rng.uniform(0.3, 1.5) * DAY
    length = rng.uniform(1, 6) * HOUR
    share = Release(chosen.adapter, 0, math.inf, 1, chosen.quality)
    for subject in _old(world, rng.randint(20, 45)):
        time = begin + rng.random() * length
        for _ in range(rng.randint(1, 4)):
            world.say(subject, time, world.reply(world.prompt()), rng.random() < NOISE, share, True)
            time += rng.expovariate(1 / 120)


def script(world: World) -> None:
    """One to three accounts vote at regular pauses, more or less, for hours."""
    for subject in _old(world, world.rng.randint(1, 3)):
        time, pause = _begin(world), world.rng.uniform(60, 400)
        wobble, up = world.rng.uniform(0, 0.25), world.rng.random() < 0.4
        for _ in range(world.rng.randint(40, 90)):
            said = up != (world.rng.random() < 0.1)
            world.say(subject, time, world.reply(world.prompt()), said, world.release(time), True)
            time += pause * (1 + wobble * world.rng.uniform(-1, 1))


KINDS: dict[str, Callable[[World], None]] = {
    "rate": rate, "newcomers": newcomers, "word": word, "clique": clique, "trio": trio, "ring": ring,
    "downs": downs, "slow": slow, "script": script,
}  # fmt: skip


def attacked(kind: str, seed: int) -> World:
    """Honest traffic with one planted attack."""
    world = honest(seed)
    world.rng = random.Random(f"{kind} {seed}")
    KINDS[kind](world)
    return world
