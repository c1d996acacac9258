"""What raters are asked: items, who was offered which, and the queue they stand in.

An item is one prompt with two to five replies. It is offered to as many raters as the alias's overlap says, to each
once. An offer has a life: unanswered, it makes room for another rater when it is over, but not for the same one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, TypeAlias

import orjson

from feedback.errors import InvalidRecord
from feedback.events import Message

MOST_OPTIONS = 5  # replies of an item
MOST_ITEMS = 500  # that stand in the queue of an alias
KEPT_SECONDS = 90 * 86400.0  # how long it is known who saw what, after the last time
Order: TypeAlias = tuple[
    tuple[int, ...], ...
]  # options by their place in the item, in ranked groups, best first


@dataclass(frozen=True, slots=True)
class Option:
    """One reply of an item."""

    text: str
    adapter: str  # adapter id, or "base"


@dataclass(frozen=True, slots=True)
class Item:
    """One prompt and the replies to be compared."""

    id: str  # of the prompt, see ``item_id``
    messages: tuple[Message, ...]  # as the engine saw it, guidelines included
    options: tuple[Option, ...]  # 2 to MOST_OPTIONS different texts
    doubt: float = 0.0  # how far the reward model's heads disagree about them; 0: not known
    author: str = ""  # pseudonym of who asked the prompt; empty: not known

    @property
    def name(self) -> str:
        """Of the prompt and of these replies: what raters are compared on."""
        texts = orjson.dumps([option.text for option in self.options])
        return f"{self.id}-{hashlib.sha256(texts).hexdigest()[:8]}"


@dataclass(frozen=True, slots=True)
class Offer:
    """An item as one rater was shown it."""

    item: str  # its id
    name: str  # see ``Item.name``
    rater: str
    options: Mapping[str, int]  # response id → the option's place in the item

    def order(self, ranking: Sequence[Sequence[str]]) -> Order:
        """What the rater said, by options. Raises KeyError for a response that was not shown."""
        return tuple(tuple(sorted(self.options[name] for name in group)) for group in ranking)


class RatingQueue(Protocol):
    """One queue an alias, shared by all gateways. Everything raises StoreUnavailable."""

    def fill(self, alias: str, items: Sequence[Item], overlap: int) -> None:
        """These are the items now. What was begun stays as it is, until ``overlap`` raters have answered: they are to
        be asked the same. Who saw what stays known.
        """

    def add(self, alias: str, item: Item) -> Item:
        """Put an item behind the others, unless one on the same prompt stands there already; returns what stands."""

    def take(
        self, alias: str, rater: str, overlap: int, life_seconds: float, ids: Sequence[str] | None = None
    ) -> tuple[str, Item | None] | None:
        """In one atomic step, offer the rater the first item that it has not seen and that has room: fewer answers
        and open offers than ``overlap``. The most doubted come first, or those of ``ids`` in their order, which need
        not stand in the queue. The item's id, and the item if it stands there; None when there is none.
        """

    def note(self, about: str, offer: Offer, seconds: float) -> None:
        """Remember for so long what was shown under a comparison's id, or under those of a ranking (``about``)."""

    def offered(self, about: str) -> Offer | None:
        """What was shown under ``about``; None: it was no offer, or too long ago."""

    def settle(self, alias: str, offer: Offer) -> None:
        """The offer was answered: it counts for as long as it is known who saw what."""

    def forget(self, aliases: Sequence[str], subject: str) -> None:
        """Drop the items that the subject asked, and what it saw and answered."""


def item_id(messages: Sequence[Message]) -> str:
    """The name of a prompt: the same whatever guidelines stood before it."""
    said = [message for message in messages if message["role"] != "system"]
    return hashlib.sha256(orjson.dumps(said)).hexdigest()[:16]


def about(response_ids: Sequence[str]) -> str:
    """The name of a ranking: of these responses, whatever their order."""
    return hashlib.sha256("+".join(sorted(response_ids)).encode()).hexdigest()[:24]


def dump(record: Item | Offer) -> bytes:
    """As JSON."""
    return orjson.dumps(asdict(record))


def item_of(data: bytes) -> Item:
    """Raises InvalidRecord."""
    body = _parsed(data)
    options = tuple(Option(**option) for option in body.pop("options"))
    return Item(**{**body, "messages": tuple(body["messages"]), "options": options})


def offer_of(data: bytes) -> Offer:
    """Raises InvalidRecord."""
    return Offer(**_parsed(data))


def _parsed(data: bytes) -> dict[str, Any]:
    try:
        body: dict[str, Any] = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise InvalidRecord("item", f"is not JSON ({error})") from error
    return body


def goes_on(offers: int, answers: int, overlap: int) -> bool:
    """Whether an item was begun, and others are still to be asked the same."""
    return offers > 0 and answers < overlap


def ranked(begun: Sequence[Item], new: Sequence[Item]) -> list[Item]:
    """What the queue holds: the most doubted of both; of one prompt what was begun."""
    every = {item.id: item for item in (*new, *begun)}
    return sorted(every.values(), key=lambda item: -item.doubt)[:MOST_ITEMS]
