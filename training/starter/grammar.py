"""A small pattern language for sentences: ``(a|b|)`` is a choice, choices nest, all else is literal text."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True)
class Choice:
    """One group of a pattern: exactly one of its branches is said."""

    branches: tuple["Sequence", ...]

    @property
    def optional(self) -> bool:
        """Whether the group may be left out altogether."""
        return any(not branch for branch in self.branches)


Sequence = tuple[str | Choice, ...]


@dataclass(frozen=True)
class Expansion:
    """One sentence of a pattern."""

    text: str
    composition: str
    """The text without its optional groups: sentences that differ only in those share it."""


@cache
def parse(pattern: str) -> Sequence:
    """Read a pattern.

    Raises:
        ValueError: a bracket is not matched; the message quotes the pattern.
    """
    sequence, end = _parse_sequence(pattern, 0, nested=False)
    if end != len(pattern):
        raise ValueError(
            f"pattern {pattern!r}: ')' at position {end} closes nothing; remove it or open a group"
        )
    return sequence


def _parse_sequence(pattern: str, start: int, *, nested: bool) -> tuple[Sequence, int]:
    parts: list[str | Choice] = []
    literal = ""
    at = start
    while at < len(pattern):
        char = pattern[at]
        if char == ")" or (char == "|" and nested):
            break
        if char == "(":
            if literal:
                parts.append(literal)
                literal = ""
            choice, at = _parse_choice(pattern, at + 1)
            parts.append(choice)
            continue
        literal += char
        at += 1
    if literal:
        parts.append(literal)
    return tuple(parts), at


def _parse_choice(pattern: str, start: int) -> tuple[Choice, int]:
    branches: list[Sequence] = []
    at = start
    while True:
        branch, at = _parse_sequence(pattern, at, nested=True)
        branches.append(branch)
        if at >= len(pattern):
            raise ValueError(
                f"pattern {pattern!r}: the group opened at position {start - 1} is never closed; add ')'"
            )
        if pattern[at] == ")":
            return Choice(tuple(branches)), at + 1
        at += 1


def expansions(pattern: str) -> tuple[Expansion, ...]:
    """Every sentence of a pattern, in the order in which it is written."""
    return tuple(_expand(parse(pattern)))


def _expand(sequence: Sequence) -> Iterator[Expansion]:
    if not sequence:
        yield Expansion("", "")
        return
    head, tail = sequence[0], sequence[1:]
    rest = list(_expand(tail))
    for first in _expand_part(head):
        for last in rest:
            yield Expansion(first.text + last.text, first.composition + last.composition)


def _expand_part(part: str | Choice) -> Iterator[Expansion]:
    if isinstance(part, str):
        yield Expansion(part, part)
        return
    for branch in part.branches:
        for expansion in _expand(branch):
            yield Expansion(expansion.text, "") if part.optional else expansion


def sample(pattern: str, rng: random.Random) -> str:
    """One sentence of a pattern; every branch of a group is equally likely."""
    return _sample(parse(pattern), rng)


def _sample(sequence: Sequence, rng: random.Random) -> str:
    return "".join(
        part if isinstance(part, str) else _sample(rng.choice(part.branches), rng) for part in sequence
    )
