"""The grammar's data, read from the files in ``data/`` into typed records."""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"
INTENT_FILES = ("visit.toml", "food.toml", "shop.toml", "people.toml")


@dataclass(frozen=True)
class Intent:
    """One thing that people ask about. Every list holds patterns of ``grammar``."""

    name: str
    topic: str
    """A noun phrase that names the subject, for replies that speak about the question itself."""
    questions: tuple[str, ...]
    """What users say; a pattern that ends in a full stop is a statement."""
    facts: tuple[str, ...]
    details: tuple[str, ...]
    wrong: tuple[str, ...]
    curt: tuple[str, ...]
    clarify: tuple[str, ...]
    plain: bool = False
    """Replies take no polite opener or closer: "Certainly! Goodbye." makes no sense."""
    small_talk: bool = False
    """Questions take no opener or ending either."""


@cache
def intents() -> dict[str, Intent]:
    """All intents by name, in the order of the files."""
    found: dict[str, Intent] = {}
    for file in INTENT_FILES:
        for name, fields in tomllib.loads((DATA / file).read_text(encoding="utf-8")).items():
            found[name] = Intent(name=name, **{key: _frozen(value) for key, value in fields.items()})
    return found


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


@cache
def speech(section: str) -> dict[str, tuple[str, ...]]:
    """A section of patterns that do not depend on the intent: ``user``, ``system`` or ``reply``."""
    table = tomllib.loads((DATA / "speech.toml").read_text(encoding="utf-8"))[section]
    return {key: tuple(value) for key, value in table.items()}


@cache
def mixture() -> dict[str, float]:
    """The planted share of every behaviour; the shares sum to 1."""
    shares: dict[str, float] = tomllib.loads((DATA / "speech.toml").read_text(encoding="utf-8"))["mixture"]
    if abs(sum(shares.values()) - 1.0) > 1e-9:
        raise ValueError(f"mixture in speech.toml sums to {sum(shares.values())}; make its shares sum to 1")
    return shares
