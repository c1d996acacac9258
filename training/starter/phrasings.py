"""What users say: compositions of an intent's patterns, dressed with openers, endings and typos."""

import hashlib
import random
from dataclasses import dataclass
from functools import cache

from training.starter import grammar
from training.starter.intents import Intent, intents, speech

HELD_OUT_PERCENT = 15
"""Percent of compositions that training never sees."""

STATEMENT = "."
_TYPO_RATE = 0.12
_LOWERCASE_RATE = 0.3
_CAPITAL_RATE = 0.6


@dataclass(frozen=True)
class Core:
    """One wording of a question, before it is dressed."""

    text: str
    statement: bool


def held_out(intent: str, composition: str) -> bool:
    """Whether a composition is held out: a hash of its text decides, so the split never moves."""
    key = f"{intent}:{' '.join(composition.lower().strip(' .?').split())}"
    return (
        int.from_bytes(hashlib.blake2b(key.encode(), digest_size=4).digest(), "big") % 100 < HELD_OUT_PERCENT
    )


@cache
def cores(intent: str, *, unseen: bool) -> tuple[tuple[Core, ...], ...]:
    """The cores of an intent on one side of the split, grouped by pattern; patterns with none are left out.

    A text that two patterns can make counts as held out if either says so, and is then kept out of training.
    """
    return _split(intent)[int(unseen)]


@cache
def _split(intent: str) -> tuple[tuple[tuple[Core, ...], ...], tuple[tuple[Core, ...], ...]]:
    patterns = [(p.rstrip(STATEMENT), p.endswith(STATEMENT)) for p in intents()[intent].questions]
    expanded = [[(e, statement) for e in grammar.expansions(p)] for p, statement in patterns]
    secret = {e.text for group in expanded for e, _ in group if held_out(intent, e.composition)}
    sides = []
    for unseen in (False, True):
        groups = [
            tuple(Core(e.text.strip(), statement) for e, statement in group if (e.text in secret) is unseen)
            for group in expanded
        ]
        sides.append(tuple(group for group in groups if group))
    return sides[0], sides[1]


def ask(intent: Intent, rng: random.Random, *, unseen: bool, follow_up: bool = False) -> str:
    """One user message about an intent, from the held-out compositions if ``unseen``."""
    core = rng.choice(rng.choice(cores(intent.name, unseen=unseen)))
    text = core.text
    if not intent.small_talk:
        opener = rng.choice(speech("user")["follow_ups" if follow_up else "openers"])
        text = grammar.sample(opener, rng) + text + grammar.sample(rng.choice(speech("user")["endings"]), rng)
    return _write(text, core, rng)


def _write(text: str, core: Core, rng: random.Random) -> str:
    """Write the words down as people do: with or without capitals and marks, with a typo now and then."""
    if rng.random() < _LOWERCASE_RATE:
        text = text.lower()
    elif rng.random() < _CAPITAL_RATE:
        text = text[0].upper() + text[1:]
    if rng.random() < _TYPO_RATE:
        text = _typo(text, rng)
    marks = (".", "", "!") if core.statement else ("?", "?", "?", "", "", "??", ".")
    return text + rng.choice(marks)


def _typo(text: str, rng: random.Random) -> str:
    """Drop, double or swap one letter inside one long word."""
    words = text.split(" ")
    long = [at for at, word in enumerate(words) if len(word) > 4 and word.isalpha()]
    if not long:
        return text
    at = rng.choice(long)
    word = words[at]
    letter = rng.randrange(1, len(word) - 1)
    words[at] = rng.choice(
        (
            word[:letter] + word[letter + 1 :],
            word[:letter] + word[letter] + word[letter:],
            word[:letter] + word[letter + 1] + word[letter] + word[letter + 2 :],
        )
    )
    return " ".join(words)
