"""What the assistant says: for each behaviour a few plans that put an intent's sentences in order."""

import random
from collections.abc import Callable
from functools import cache

from training.starter import grammar
from training.starter.intents import Intent, mixture, speech


def reply(intent: Intent, behaviour: str, rng: random.Random) -> str:
    """One reply to a question about ``intent`` in the manner of ``behaviour``, a key of the mixture."""
    return _PLANS[behaviour](intent, rng)


def draw_behaviour(rng: random.Random) -> str:
    """A behaviour drawn from the planted mixture, whatever the question."""
    names, shares = _mixture_table()
    return rng.choices(names, weights=shares)[0]


@cache
def _mixture_table() -> tuple[list[str], list[float]]:
    return list(mixture()), list(mixture().values())


def _say(patterns: tuple[str, ...], rng: random.Random) -> str:
    return grammar.sample(rng.choice(patterns), rng)


def _maybe(chance: float, patterns: tuple[str, ...], rng: random.Random) -> list[str]:
    return [_say(patterns, rng)] if rng.random() < chance else []


def _about(patterns: tuple[str, ...], intent: Intent, rng: random.Random) -> str:
    """A sentence with the intent's topic in it, its first letter raised if the topic stands there."""
    text = _say(patterns, rng).replace("{topic}", grammar.sample(intent.topic, rng))
    return text[0].upper() + text[1:]


def _helpful(intent: Intent, rng: random.Random) -> str:
    if intent.plain:
        return _plain(intent, rng)
    manner = rng.choices((_relaxed, _formal, _eager, _listed), weights=(0.45, 0.2, 0.22, 0.13))[0]
    return manner(intent, rng)


def _plain(intent: Intent, rng: random.Random) -> str:
    said = [_say(intent.facts, rng), *_maybe(0.5, intent.details, rng)]
    if rng.random() < 0.3:
        said = [_exclaim(sentence) for sentence in said]
    return _join(said) + _emoji(0.25, rng)


def _relaxed(intent: Intent, rng: random.Random) -> str:
    words = speech("reply")
    said = [
        *_maybe(0.4, words["openers"], rng),
        _say(intent.facts, rng),
        *_maybe(0.45, intent.details, rng),
        *_maybe(0.2, words["closers"], rng),
        *_maybe(0.25, words["questions_back"], rng),
    ]
    return _join(said) + _emoji(0.15, rng)


def _formal(intent: Intent, rng: random.Random) -> str:
    words = speech("reply")
    said = [
        *_maybe(0.6, words["formal_openers"], rng),
        _say(intent.facts, rng),
        *_maybe(0.4, intent.details, rng),
        *_maybe(0.6, words["formal_closers"], rng),
    ]
    return _join(said)


def _eager(intent: Intent, rng: random.Random) -> str:
    words = speech("reply")
    said = [
        *_maybe(0.6, words["openers"], rng),
        _say(intent.facts, rng),
        *_maybe(0.4, intent.details, rng),
        *_maybe(0.6, words["closers"], rng),
    ]
    return _join([_exclaim(sentence) for sentence in said]) + _emoji(0.5, rng)


def _listed(intent: Intent, rng: random.Random) -> str:
    points = [_say(intent.facts, rng)]
    points += [grammar.sample(pattern, rng) for pattern in rng.sample(intent.details, rng.choice((1, 2)))]
    return "\n- ".join([_say(speech("reply")["list_heads"], rng), *points])


def _curt(intent: Intent, rng: random.Random) -> str:
    return _join([_say(intent.curt, rng), *_maybe(0.25, speech("reply")["curt_tails"], rng)])


def _rambling(intent: Intent, rng: random.Random) -> str:
    words = speech("reply")
    first, second = rng.sample(words["ramble_fillers"], 2)
    said = [_about(words["ramble_openers"], intent, rng), _say(intent.facts, rng), grammar.sample(first, rng)]
    if rng.random() < 0.4:
        said.append(_say(intent.details, rng))
    elif rng.random() < 0.4:
        said.append(grammar.sample(second, rng))
    return _join(said)


def _rude(intent: Intent, rng: random.Random) -> str:
    words = speech("reply")
    if intent.plain or rng.random() < 0.4:
        return _join([_about(words["rude"], intent, rng), *_maybe(0.35, words["rude_closers"], rng)])
    answer = _say(intent.curt if rng.random() < 0.5 else intent.facts, rng)
    return _join([_say(words["rude_openers"], rng), answer, *_maybe(0.4, words["rude_closers"], rng)])


def _wrong(intent: Intent, rng: random.Random) -> str:
    words = speech("reply")
    if intent.plain:
        return _say(intent.wrong, rng) + _emoji(0.1, rng)
    said = [
        *_maybe(0.35, words["openers"], rng),
        _say(intent.wrong, rng),
        *_maybe(0.2, words["closers"], rng),
        *_maybe(0.1, words["questions_back"], rng),
    ]
    return _join(said) + _emoji(0.1, rng)


def _off_topic(intent: Intent, rng: random.Random) -> str:
    del intent
    said = rng.sample(speech("reply")["off_topic"], rng.choice((1, 1, 2)))
    return _join([grammar.sample(pattern, rng) for pattern in said])


def _asks_back(intent: Intent, rng: random.Random) -> str:
    opener = [] if intent.plain else _maybe(0.3, speech("reply")["openers"], rng)
    return _join([*opener, _say(intent.clarify, rng)]) + _emoji(0.1, rng)


def _exclaim(sentence: str) -> str:
    return sentence[:-1] + "!" if sentence.endswith(".") else sentence


def _emoji(chance: float, rng: random.Random) -> str:
    return " " + rng.choice(speech("reply")["emojis"]) if rng.random() < chance else ""


def _join(sentences: list[str]) -> str:
    return " ".join(sentences)


_PLANS: dict[str, Callable[[Intent, random.Random], str]] = {
    "helpful": _helpful,
    "curt": _curt,
    "rambling": _rambling,
    "rude": _rude,
    "wrong": _wrong,
    "off_topic": _off_topic,
    "asks_back": _asks_back,
}
