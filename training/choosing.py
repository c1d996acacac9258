"""Which replies raters are asked about: those whose comparison would tell the reward model most.

The model's resampled heads are samples of what it may come to believe. What an answer would tell is the mutual
information of the answer and the head (BALD; Houlsby et al. 2011, arXiv 1112.5745),

    I(p) = H(mean of σ(d_h)) − mean of H(σ(d_h)),    d_h: how much head h prefers one reply, in nats

which is high where each head is sure and they disagree, and low where all shrug alike. Replies are those that
people were given to the newest prompts, and as many fresh ones of the served adapter as there are too few.
Whether this choice saves any ratings is another question: see docs/data.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, Protocol

import orjson
import pyarrow.compute as pc
import torch
from torch import Tensor

from feedback.archive import Archive
from feedback.events import Message
from feedback.protocols import AdapterRecord
from feedback.rating import MOST_OPTIONS, Item, Option, RatingQueue, item_id
from feedback.standing import COLUMNS, SAID, standing
from training.reward_model import RewardModel
from training.rollouts import Sampler
from training.settings import TrainingSettings
from training.trunk import Trunk

KNOWN = 4
"""Replies to one prompt that are looked at; what people were not given is sampled."""
ANSWER_TOKENS = 80
_READ = ("response_id", "alias", "subject", "time", "stored", "adapter", "messages", "text")


class Opinionated(Protocol):
    """A reward model with several heads."""

    def opinions(self, conversations: Sequence[tuple[Sequence[Message], str]]) -> Tensor:
        """(n, heads) logits."""
        ...


@dataclass
class Asked:
    """A prompt that was asked, and what is known to have been replied."""

    messages: tuple[Message, ...]
    author: str
    options: list[Option] = field(default_factory=list)

    def add(self, text: str, adapter: str) -> None:
        """Another reply, unless it says the same or there are enough."""
        if text.strip() and len(self.options) < KNOWN and all(text != one.text for one in self.options):
            self.options.append(Option(text, adapter))


def ask_raters(
    queue: RatingQueue,
    archive: Archive,
    alias: str,
    settings: TrainingSettings,
    model: RewardModel,
    served: AdapterRecord | None,
) -> int:
    """Fill the alias's queue; returns how many items were chosen. Raises StoreUnavailable."""
    asked = newest_prompts(archive, alias, settings.annotation_prompts)
    if asked:
        folder, name = (Path(served.path), served.id) if served else (None, "base")
        with_fresh(model.trunk, folder, name, asked, seed=len(asked))
    chosen = items(model, asked, settings.annotation_replies)
    queue.fill(alias, chosen, settings.annotation_overlap)
    return len(chosen)


def newest_prompts(archive: Archive, alias: str, count: int) -> list[Asked]:
    """The alias's newest distinct prompts, newest first; none of a reply that is reported and not cleared."""
    left_out = standing(archive.tables(COLUMNS, SAID)).left_out
    found: dict[str, Asked] = {}
    for row in _newest_first(archive, alias, left_out):
        messages = tuple(orjson.loads(row["messages"]))
        name = item_id(messages)
        if name not in found:
            if len(found) == count:
                continue
            found[name] = Asked(messages, row["subject"])
        if found[name].messages == messages:
            found[name].add(row["text"], row["adapter"])
    return list(found.values())


def _newest_first(archive: Archive, alias: str, left_out: Any) -> Iterator[dict[str, Any]]:
    """Responses that may be used; a prompt goes with its reply."""
    rows = []
    for table in archive.tables(_READ, ("response",)):
        usable = pc.and_(table.column("stored"), pc.equal(table.column("alias"), alias))
        usable = pc.and_(usable, pc.not_equal(table.column("messages"), "[]"))
        rows += table.filter(usable).to_pylist()
    out = set(left_out.to_pylist())
    bad = {row["messages"] for row in rows if row["response_id"] in out}
    yield from sorted(
        (row for row in rows if row["messages"] not in bad),
        key=lambda row: (-row["time"], row["response_id"]),
    )


def with_fresh(trunk: Trunk, served: Path | None, adapter: str, asked: Sequence[Asked], seed: int) -> None:
    """Let the served adapter reply where fewer than KNOWN replies are known. ``served`` None: the base, which
    ``adapter`` names.
    """
    wanted = [one for one in asked for _ in range(KNOWN - len(one.options))]
    replies = Sampler(trunk, served).sample(
        [one.messages for one in wanted], max_tokens=ANSWER_TOKENS, seed=seed
    )
    for one, reply in zip(wanted, replies, strict=True):
        if reply.finish_reason == "stop":
            one.add(reply.text, adapter)


def information(difference: Tensor) -> Tensor:
    """(..., heads) logits → (...,) nats that an answer would tell about which head is right."""
    chance = torch.sigmoid(difference)
    return _entropy(chance.mean(-1)) - _entropy(chance).mean(-1)


def _entropy(chance: Tensor) -> Tensor:
    nats: Tensor = torch.special.entr(chance) + torch.special.entr(1 - chance)
    return nats


def items(model: Opinionated, asked: Sequence[Asked], replies: int) -> list[Item]:
    """One item a prompt that has two replies, of the ``replies`` that tell most, the most telling prompt first."""
    known = [one for one in asked if len(one.options) > 1]
    if not known:
        return []
    opinions = model.opinions([(one.messages, option.text) for one in known for option in one.options])
    made = []
    for one, told in zip(known, opinions.split([len(one.options) for one in known]), strict=True):
        chosen, doubt = most_telling(told, min(replies, MOST_OPTIONS))
        options = tuple(one.options[place] for place in chosen)
        made.append(Item(item_id(one.messages), one.messages, options, doubt, one.author))
    return sorted(made, key=lambda item: (-item.doubt, item.id))


def most_telling(opinions: Tensor, count: int) -> tuple[list[int], float]:
    """Which ``count`` of the replies (n ≥ 2, heads) to compare, and what the best pair tells: from that pair on, the
    reply that tells most against those chosen is added.
    """
    told = information(opinions[:, None] - opinions[None, :])
    best = max((float(told[a, b]), -a, -b) for a, b in combinations(range(len(opinions)), 2))
    chosen = [-best[1], -best[2]]
    while len(chosen) < min(count, len(opinions)):
        rest = [place for place in range(len(opinions)) if place not in chosen]
        chosen.append(max(rest, key=lambda place: float(told[place, chosen].sum())))
    return chosen, best[0]
