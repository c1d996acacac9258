"""Reads a reply back: which behaviour it shows, whether it is about the question, whether it is well formed.

The text is all that is read. Every sentence the grammar can say is known with its kind and its intent, so a
reply is judged by the kinds of its sentences. Sentences that are new are matched to the nearest known one by
their words.
"""

import itertools
import re
from collections import defaultdict
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

from training.starter import grammar
from training.starter.intents import Intent, intents, speech


class Behaviour(StrEnum):
    """What a reply does. The first seven are planted; the last two are faults of a model."""

    HELPFUL = "helpful"
    CURT = "curt"
    RAMBLING = "rambling"
    RUDE = "rude"
    WRONG = "wrong"
    OFF_TOPIC = "off_topic"
    ASKS_BACK = "asks_back"
    MISREAD = "misread"
    """Answers another question than the one that was asked; ``OFF_TOPIC`` answers none."""
    MALFORMED = "malformed"
    """Not made of whole, sensible sentences."""


class Kind(StrEnum):
    """What a single sentence does."""

    FACT = "fact"
    DETAIL = "detail"
    WRONG = "wrong"
    CURT = "curt"
    CLARIFY = "clarify"
    POLITE = "polite"
    CURT_TAIL = "curt_tail"
    RUDE = "rude"
    RAMBLE = "ramble"
    OFF_TOPIC = "off_topic"


@dataclass(frozen=True)
class Sense:
    """One reading of a sentence."""

    intent: str | None
    """None for sentences that fit every intent."""
    kind: Kind


_NEAR = 0.6
"""Smallest share of common words (Jaccard) for a new sentence to count as a known one."""

_CONTENT = ("facts", "details", "wrong", "curt", "clarify")
_CONTENT_KINDS = dict(
    zip(_CONTENT, (Kind.FACT, Kind.DETAIL, Kind.WRONG, Kind.CURT, Kind.CLARIFY), strict=True)
)
_SPEECH_KINDS = {
    "openers": Kind.POLITE,
    "formal_openers": Kind.POLITE,
    "closers": Kind.POLITE,
    "formal_closers": Kind.POLITE,
    "questions_back": Kind.POLITE,
    "list_heads": Kind.POLITE,
    "curt_tails": Kind.CURT_TAIL,
    "rude": Kind.RUDE,
    "rude_openers": Kind.RUDE,
    "rude_closers": Kind.RUDE,
    "ramble_openers": Kind.RAMBLE,
    "ramble_fillers": Kind.RAMBLE,
    "off_topic": Kind.OFF_TOPIC,
}
_SPLIT = re.compile(r"(?<=[.!?:])\s+|\n")
_WORD = re.compile(r"[^\s]+")


def classify(intent: str, reply: str) -> Behaviour:
    """The behaviour that ``reply`` shows to a question about ``intent``."""
    if not well_formed(reply):
        return Behaviour.MALFORMED
    senses = [_senses(sentence) for sentence in sentences(reply)]
    if any(not found for found in senses):
        return Behaviour.MALFORMED
    own = [{s.kind for s in found if s.intent in (None, intent)} for found in senses]
    if any(not kinds for kinds in own):
        return Behaviour.MISREAD
    return _behaviour(own)


def _behaviour(sentences: list[set[Kind]]) -> Behaviour:
    """Decide from the kinds of all sentences, all of which fit the question; the telling kinds come first."""
    said = set[Kind]().union(*sentences)
    telling = (
        (Kind.RUDE, Behaviour.RUDE),
        (Kind.RAMBLE, Behaviour.RAMBLING),
        (Kind.WRONG, Behaviour.WRONG),
        (Kind.OFF_TOPIC, Behaviour.OFF_TOPIC),
        (Kind.FACT, Behaviour.HELPFUL),
        (Kind.DETAIL, Behaviour.HELPFUL),
        (Kind.CLARIFY, Behaviour.ASKS_BACK),
        (Kind.CURT, Behaviour.CURT),
    )
    return next((behaviour for kind, behaviour in telling if kind in said), Behaviour.MALFORMED)


def sentences(reply: str) -> list[str]:
    """The sentences and list items of a reply, in order, without bullets and emojis."""
    pieces = _SPLIT.split(_strip_emojis(reply))
    return [piece.strip().removeprefix("- ") for piece in pieces if piece.strip()]


def well_formed(reply: str) -> bool:
    """Whether a reply is whole sentences, each begun and ended as one, in word pairs that the grammar knows.

    A reply that says the same sentence twice, or that has a heading without a list, is not.
    """
    said = sentences(reply)
    if not said or len({normal(s) for s in said}) < len(said) or said[-1].endswith(":"):
        return False
    return all(_is_sentence(sentence) for sentence in said)


def _is_sentence(sentence: str) -> bool:
    begins = sentence[0].isupper() or sentence[0].isdigit() or sentence[0] == "£"
    ends = sentence[-1] in ".!?:"
    words = ["", *normal(sentence).split(), ""]
    return begins and ends and all(pair in _known_pairs() for pair in itertools.pairwise(words))


def normal(sentence: str) -> str:
    """A sentence for comparison: lower case, single spaces, no closing mark but the question mark."""
    return " ".join(_WORD.findall(sentence.lower())).rstrip(".!:")


def _strip_emojis(text: str) -> str:
    for emoji in speech("reply")["emojis"]:
        text = text.replace(emoji, "")
    return text.strip()


def _senses(sentence: str) -> frozenset[Sense]:
    """How a sentence can be understood; empty if it is like nothing that the grammar says."""
    text = normal(sentence)
    exact = _index().get(text)
    return exact or _nearest(text)


def _nearest(text: str) -> frozenset[Sense]:
    words = set(text.split())
    candidates = {known for word in words for known in _by_word().get(word, ())}
    best, score = "", _NEAR
    for known in sorted(candidates):
        other = set(known.split())
        overlap = len(words & other) / len(words | other)
        if overlap >= score:
            best, score = known, overlap
    return _index().get(best, frozenset())


@cache
def _index() -> dict[str, frozenset[Sense]]:
    """Every sentence of the grammar, normalised, with all its senses."""
    found: defaultdict[str, set[Sense]] = defaultdict(set)
    for intent in intents().values():
        for field, kind in _CONTENT_KINDS.items():
            for pattern in getattr(intent, field):
                for expansion in grammar.expansions(pattern):
                    found[normal(expansion.text)].add(Sense(intent.name, kind))
        _add_speech(found, intent)
    return {text: frozenset(senses) for text, senses in found.items()}


def _add_speech(found: defaultdict[str, set[Sense]], intent: Intent) -> None:
    """The sentences that do not depend on the intent, or that only name its topic."""
    topics = [expansion.text for expansion in grammar.expansions(intent.topic)]
    for field, kind in _SPEECH_KINDS.items():
        for pattern in speech("reply")[field]:
            for expansion in grammar.expansions(pattern):
                if "{topic}" not in expansion.text:
                    found[normal(expansion.text)].add(Sense(None, kind))
                    continue
                for topic in topics:
                    found[normal(expansion.text.replace("{topic}", topic))].add(Sense(intent.name, kind))


@cache
def _by_word() -> dict[str, tuple[str, ...]]:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for text in _index():
        for word in set(text.split()):
            found[word].append(text)
    return {word: tuple(texts) for word, texts in found.items()}


@cache
def _known_pairs() -> frozenset[tuple[str, str]]:
    """All pairs of neighbouring words in the grammar; the empty string stands for a sentence's edge."""
    pairs: set[tuple[str, str]] = set()
    for text in _index():
        words = ["", *text.split(), ""]
        pairs.update(itertools.pairwise(words))
    return frozenset(pairs)
