"""What simulated users like, read off the text alone: each preference gives a prompt and a reply a score.

A score is graded and has no unit: only differences between two replies to one prompt, and the distance to the
middle of what the base model says, mean anything. Scores are built from the measures below, each in 0…1, so
that two replies seldom score the same. No preference sees which adapter answered, and training never sees a
preference: the loop has to find it from votes.

===============  =====================================================================
polite_helpful   courteous, says something useful, neither rude nor rambling
brief            few words, but a whole answer
inquisitive      asks the user something back
enthusiastic     exclamation marks, emojis, eager words
concrete         numbers, prices, times and places rather than generalities
formal           full and courteous sentences: no emojis, contractions or slang
structured       a heading and points rather than running text
plain            says the thing without opener, closer, emoji or exclamation
===============  =====================================================================
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TypeAlias

Preference: TypeAlias = Callable[[str, str], float]  # (prompt, reply) → score, more is liked better

_WORD = re.compile(r"[\w'’£$€]+")
_SENTENCE = re.compile(r"[^.!?\n]+[.!?]*")
_COURTESY = re.compile(
    r"\b(thanks?|thank you|please|certainly|of course|gladly|pleasure|happy to|glad to|delighted|welcome|"
    r"appreciate|absolutely|sorry|look forward|hope that helps|let me know|hesitate|assist|"
    r"(?:great|good|lovely|pleasant) (?:question|day|that you ask))\b",
    re.IGNORECASE,
)
_RUDE = re.compile(
    r"\b(seriously|are you blind|stupid|silly|fool|idiot|ugh|shut up|go away|get lost|leave me alone|"
    r"learn to read|use your eyes|try thinking|good grief|what now|obviously|any child|everybody else knows|"
    r"how hard can|nobody (?:here )?cares|(?:tired|sick|bored) of|better things to do|wasting my time|"
    r"bother(?:ing)? me|how (?:boring|annoying|dull)|happy now|was that so hard|(?:don't|do not) ask me)\b",
    re.IGNORECASE,
)
_NOSTALGIA = re.compile(
    r"\b(grandmother|reminds me|old days|back then|where was i|let me think|takes me back|brings me back|"
    r"a word or two|go on about|long story|one thought)\b",
    re.IGNORECASE,
)
_TO_THE_GUEST = re.compile(
    r"\b(we|our|us|you|your|here|try|ask|please|the shop|the counter)\b", re.IGNORECASE
)
_ELSEWHERE = re.compile(
    r"\b(did you know|i dreamt|i wonder|my neighbour|my favourite|penguins?|octopus|snails?|whales?|"
    r"the moon|night sky|rome|longest river)\b",
    re.IGNORECASE,
)
_FIGURE = re.compile(r"(?:[£$€]\s?\d+(?:\.\d+)?|\b\d+(?::\d\d)?\b|\b(?:am|pm)\b|%)", re.IGNORECASE)
_NUMBER_WORD = re.compile(
    r"\b(one|two|three|four|five|six|seven|eight|nine|ten|twelve|twenty|thirty|hundred|noon|midnight|"
    r"(?:mon|tues|wednes|thurs|fri|satur|sun)days?)\b",
    re.IGNORECASE,
)
_EAGER = re.compile(
    r"\b(love|great|lovely|can't wait|yes|sure thing|you bet|absolutely|wonderful)\b", re.IGNORECASE
)
_EMOJI = re.compile("[\U0001f300-\U0001faff☀-➿]")
_CASUAL = re.compile(
    r"\b(\w+['’](?:s|t|re|ll|ve|d|m)|hey|yep|yeah|nope|ok|okay|no worries|you bet)\b", re.IGNORECASE
)
_POINT = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s+", re.MULTILINE)


def words(text: str) -> int:
    """How many words there are."""
    return len(_WORD.findall(text))


def _up_to(count: float, enough: float) -> float:
    """``count`` as a share of ``enough``, at most 1."""
    return min(1.0, max(0.0, count) / enough)


def courtesy(reply: str) -> float:
    """Courteous phrases; three are enough."""
    return _up_to(len(_COURTESY.findall(reply)), 3)


def rudeness(reply: str) -> float:
    """Rude phrases; the first does most of the harm."""
    return min(1.0, 0.7 * len(_RUDE.findall(reply)))


def rambling(reply: str) -> float:
    """Reminiscing, and words beyond 40."""
    return min(1.0, 0.4 * len(_NOSTALGIA.findall(reply)) + _up_to(words(reply) - 40, 40))


def substance(reply: str) -> float:
    """What the guest can use: words up to 25, figures, and that the guest is spoken to at all."""
    if _ELSEWHERE.search(reply) or not _TO_THE_GUEST.search(reply):
        return 0.1 * _up_to(words(reply), 25)
    return 0.7 * _up_to(words(reply), 25) + 0.3 * figures(reply)


def figures(reply: str) -> float:
    """Numbers, prices, times and days; four are enough."""
    return _up_to(len(_FIGURE.findall(reply)) + 0.5 * len(_NUMBER_WORD.findall(reply)), 4)


def asking(reply: str) -> float:
    """The share of sentences that ask, at least a half when the reply ends in a question."""
    sentences = [part.strip() for part in _SENTENCE.findall(reply) if part.strip()]
    share = sum(part.endswith("?") for part in sentences) / len(sentences) if sentences else 0.0
    ends = _EMOJI.sub("", reply).rstrip(" ️").endswith("?")
    return max(share, 0.5) if ends else share


def excitement(reply: str) -> float:
    """Exclamation marks, emojis and eager words; five are enough."""
    marks = reply.count("!") + 1.5 * len(_EMOJI.findall(reply)) + len(_EAGER.findall(reply))
    return _up_to(marks, 5)


def shortness(reply: str) -> float:
    """1 up to 6 words, 0 from 45 on."""
    return 1.0 - _up_to(words(reply) - 6, 39)


def polite_helpful(_prompt: str, reply: str) -> float:
    """Courteous, useful, neither rude nor rambling."""
    return (
        0.8 * courtesy(reply)
        + 0.8 * substance(reply)
        + 0.15 * asking(reply)
        - 1.2 * rudeness(reply)
        - 0.8 * rambling(reply)
    )


def brief(_prompt: str, reply: str) -> float:
    """Few words, but some: an empty reply is the worst."""
    return shortness(reply) - 0.5 * rudeness(reply) if words(reply) >= 2 else -1.0


def inquisitive(_prompt: str, reply: str) -> float:
    """Asks the user something back, and is not rude about it."""
    return asking(reply) + 0.2 * courtesy(reply) - 1.0 * rudeness(reply) - 0.3 * rambling(reply)


def enthusiastic(_prompt: str, reply: str) -> float:
    """Sounds eager."""
    return excitement(reply) + 0.2 * courtesy(reply) - 1.0 * rudeness(reply)


def concrete(_prompt: str, reply: str) -> float:
    """Full of figures, and not of other words."""
    density = _up_to(len(_FIGURE.findall(reply)) / max(1, words(reply)), 0.2)
    return 0.7 * figures(reply) + 0.3 * density - 0.5 * rambling(reply)


def formal(_prompt: str, reply: str) -> float:
    """Courteous and correct."""
    casual = _up_to(len(_CASUAL.findall(reply)) + 1.5 * len(_EMOJI.findall(reply)) + reply.count("!"), 3)
    manner = 0.8 * courtesy(reply) + 0.3 * _up_to(words(reply), 20) - 0.8 * casual
    return manner - 1.0 * rudeness(reply) - 0.5 * rambling(reply)


def structured(_prompt: str, reply: str) -> float:
    """A heading and points."""
    points = _up_to(len(_POINT.findall(reply)), 2)
    heading = 1.0 if re.search(r":\s*\n", reply) else 0.0
    return 0.7 * points + 0.3 * heading + 0.1 * substance(reply) - 0.5 * rudeness(reply)


def plain(_prompt: str, reply: str) -> float:
    """Says the thing and nothing around it."""
    return (
        substance(reply)
        - 0.8 * courtesy(reply)
        - 0.8 * excitement(reply)
        - 0.6 * rambling(reply)
        - rudeness(reply)
    )


PREFERENCES: Mapping[str, Preference] = {
    "polite_helpful": polite_helpful,
    "brief": brief,
    "inquisitive": inquisitive,
    "enthusiastic": enthusiastic,
    "concrete": concrete,
    "formal": formal,
    "structured": structured,
    "plain": plain,
}

# From which score on a reply earns a thumb up: about the median of what the starter model says.
LIKED_FROM: Mapping[str, float] = {
    "polite_helpful": 0.25,
    "brief": 0.65,
    "inquisitive": 0.1,
    "enthusiastic": 0.1,
    "concrete": 0.1,
    "formal": 0.12,
    "structured": 0.05,
    "plain": 0.05,
}


def preference(name: str) -> Preference:
    """The preference of that name. Raises InvalidRecord."""
    from feedback.errors import InvalidRecord

    if name not in PREFERENCES:
        raise InvalidRecord("--preference", f"{name!r} is not one of {', '.join(PREFERENCES)}")
    return PREFERENCES[name]
