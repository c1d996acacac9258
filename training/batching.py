"""Events to a batch: joined, standing, consented, capped, and immutable on disk.

A batch holds every standing vote of an alias (the newest, up to a limit), so that a round never forgets;
``new_votes`` counts what came since the last one. It is a function of the archive alone, without clocks, and
is named after its bytes: rebuilt from the same archive it is the same batch.
"""

from __future__ import annotations

import hashlib
import shutil
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from feedback.archive import Archive
from feedback.durable import write_durably
from feedback.events import Comparison, Label, Message, Report, Response, Vote
from feedback.export import standing
from feedback.manifest import sha256_of
from training.errors import NothingToLearn
from training.examples import Demonstration, Examples, Pair, Split, Thumb
from training.settings import TrainingSettings

MANIFEST = "manifest.json"
EXAMPLES = "examples.parquet"


@dataclass(frozen=True, slots=True)
class Batch:
    """One immutable snapshot of an alias's votes."""

    id: str
    folder: Path
    alias: str
    votes: int  # standing votes and comparisons in it
    votes_total: int  # ever logged when it was taken: where the count of new votes begins
    newest_vote: float  # Unix seconds
    prompts: int


def _fold(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def _key(messages: Sequence[Message]) -> str:
    return orjson.dumps(list(messages)).decode()


def split_of(messages: Sequence[Message], subject: str, share: float) -> Split:
    """By hash of subject and prompt, so that one stays on its side for ever."""
    return "holdout" if _fold(f"{subject}\0{_key(messages)}") < share else "train"


def collect(
    archive: Archive, alias: str, settings: TrainingSettings, criteria: Mapping[str, float] | None = None
) -> tuple[Examples, float]:
    """The alias's examples and the time of the newest vote. Raises NothingToLearn.

    ``criteria`` are the weights the product team gives: a vote that names some counts by their mean, one that
    names none counts 1, and so does a name that is no criterion.
    """
    events = [entry.event for entry in archive.events()]
    responses = {e.response_id: e for e in events if isinstance(e, Response) and _usable(e, alias)}
    votes, reported = standing(e for e in events if isinstance(e, Vote | Comparison | Report))
    for name in reported:
        responses.pop(name, None)
    labels = {(e.subject, e.response_id): e for e in events if isinstance(e, Label)}
    said = sorted([*votes, *labels.values()], key=lambda one: (one.time, one.event_id))
    pairs: list[Pair] = []
    thumbs: list[Thumb] = []
    shown: list[Demonstration] = []
    newest = 0.0
    for vote in said[-settings.round_max_votes :]:
        before = len(pairs) + len(thumbs)
        if isinstance(vote, Vote):
            _take_vote(vote, responses, settings, criteria or {}, thumbs, pairs, shown)
        elif isinstance(vote, Comparison):
            pairs += _pairs(vote, responses, settings, criteria or {})
        else:
            thumbs += _labelled(vote, responses, settings, criteria or {})
        if len(pairs) + len(thumbs) > before:
            newest = max(newest, vote.time)
    if not pairs and not thumbs:
        raise NothingToLearn(f"alias {alias}: no vote on a stored response yet")
    prompts = {
        _key(r.messages): r.messages for r in sorted(responses.values(), key=lambda r: (r.time, r.event_id))
    }
    weights = _weights([*pairs, *thumbs], settings)
    return Examples(
        pairs=[replace(pair, weight=pair.weight * weights[pair.subject]) for pair in pairs],
        thumbs=[replace(thumb, weight=thumb.weight * weights[thumb.subject]) for thumb in thumbs],
        demonstrations=shown,
        prompts=list(prompts.values()),
    ), newest


def _by_criteria(reasons: Sequence[str], criteria: Mapping[str, float]) -> float:
    return sum(criteria.get(reason, 1.0) for reason in reasons) / len(reasons) if reasons else 1.0


def _labelled(
    label: Label, responses: dict[str, Response], settings: TrainingSettings, criteria: Mapping[str, float]
) -> Iterable[Thumb]:
    """A thumb for each criterion: up above a half, the surer the heavier, by the criterion's weight."""
    response = responses.get(label.response_id)
    if response is None:
        return
    split = split_of(response.messages, label.subject, settings.holdout_share)
    for name, value in sorted(label.labels.items()):
        weight = criteria.get(name, 1.0) * abs(2 * value - 1)
        if weight > 0:
            yield Thumb(
                response.messages,
                response.text,
                value > 0.5,
                label.subject,
                weight,
                split,
                (name,),
                label.event_id,
            )


def _usable(response: Response, alias: str) -> bool:
    return response.alias == alias and response.stored and bool(response.text) and bool(response.messages)


def _take_vote(
    vote: Vote,
    responses: dict[str, Response],
    settings: TrainingSettings,
    criteria: Mapping[str, float],
    thumbs: list[Thumb],
    pairs: list[Pair],
    shown: list[Demonstration],
) -> None:
    response = responses.get(vote.response_id)
    if response is None or response.subject != vote.subject:
        return
    split = split_of(response.messages, vote.subject, settings.holdout_share)
    up, weight = vote.rating == "up", _by_criteria(vote.reasons, criteria)
    if weight > 0:
        thumbs.append(
            Thumb(
                response.messages, response.text, up, vote.subject, weight, split, vote.reasons, vote.event_id
            )
        )
    if vote.correction and vote.correction.strip() not in ("", response.text.strip()):
        said = vote.correction.strip()
        pairs.append(
            Pair(response.messages, said, response.text, "win", vote.subject, 1.0, split, vote.event_id)
        )
        shown.append(Demonstration(response.messages, said))


def _pairs(
    event: Comparison,
    responses: dict[str, Response],
    settings: TrainingSettings,
    criteria: Mapping[str, float],
) -> Iterable[Pair]:
    """Each two of a ranking once; a long ranking counts as one saying, not as many."""
    groups = [[responses[name] for name in group if name in responses] for group in event.ranking]
    flat = [(place, response) for place, group in enumerate(groups) for response in group]
    found = []
    for index, (place, a) in enumerate(flat):
        for other, b in flat[index + 1 :]:
            if a.subject != event.subject or b.subject != event.subject or a.messages != b.messages:
                continue
            outcome: Any = "win" if place != other else "both_bad" if event.both_bad else "tie"
            split = split_of(a.messages, event.subject, settings.holdout_share)
            found.append(Pair(a.messages, a.text, b.text, outcome, event.subject, 1.0, split, event.event_id))
    weight = _by_criteria(event.reasons, criteria)
    return [replace(pair, weight=weight / len(found) ** 0.5) for pair in found if weight > 0]


def _weights(examples: Sequence[Pair | Thumb], settings: TrainingSettings) -> dict[str, float]:
    """Per subject: what keeps its weight within its share of the batch, or the floor."""
    total: defaultdict[str, float] = defaultdict(float)
    for example in examples:
        total[example.subject] += example.weight
    cap = max(settings.subject_floor, settings.subject_share * sum(total.values()))
    if len(total) * cap < sum(total.values()):  # so few subjects that the cap would only shrink them all
        return dict.fromkeys(total, 1.0)
    return {subject: min(1.0, cap / weight) for subject, weight in total.items()}


def _rows(examples: Examples) -> list[dict[str, Any]]:
    rows = [
        {"kind": "pair", "messages": _key(p.messages), "a": p.a, "b": p.b, "said": p.outcome,
         "subject": p.subject, "weight": p.weight, "split": p.split, "event_id": p.event_id}
        for p in examples.pairs
    ]  # fmt: skip
    rows += [
        {"kind": "thumb", "messages": _key(t.messages), "a": t.text,
         "b": orjson.dumps(list(t.reasons)).decode(), "said": "up" if t.up else "down",
         "subject": t.subject, "weight": t.weight, "split": t.split, "event_id": t.event_id}
        for t in examples.thumbs
    ]  # fmt: skip
    rows += [
        {"kind": "demonstration", "messages": _key(d.messages), "a": d.text, "weight": d.weight}
        for d in examples.demonstrations
    ]
    return rows + [{"kind": "prompt", "messages": _key(messages)} for messages in examples.prompts]


_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("kind", "messages", "a", "b", "said", "subject", "split", "event_id")]
    + [("weight", pa.float64())]
)


def write(
    examples: Examples, newest: float, alias: str, votes_total: int, archive: Archive, root: Path
) -> Batch:
    """Durable and complete when it returns; the same examples give the same batch again."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(_rows(examples), schema=_SCHEMA), sink, compression="zstd")
    data = sink.getvalue().to_pybytes()
    batch_id = f"b-{len(examples.pairs) + len(examples.thumbs):06d}-{hashlib.sha256(data).hexdigest()[:12]}"
    folder = root / alias / batch_id
    if not (folder / MANIFEST).exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_durably(folder / EXAMPLES, data)
        body = {
            "id": batch_id,
            "alias": alias,
            "votes": len(examples.pairs) + len(examples.thumbs),
            "votes_total": votes_total,
            "newest_vote": newest,
            "prompts": len(examples.prompts),
            "sha256": sha256_of(folder / EXAMPLES),
            "segments": {segment.name: segment.sha256 for segment in archive.segments()},
        }
        write_durably(folder / MANIFEST, orjson.dumps(body, option=orjson.OPT_INDENT_2))
    return open_batch(folder)


def open_batch(folder: Path) -> Batch:
    """Read a batch's manifest."""
    body = orjson.loads((folder / MANIFEST).read_bytes())
    return Batch(
        body["id"],
        folder,
        body["alias"],
        body["votes"],
        body["votes_total"],
        body["newest_vote"],
        body["prompts"],
    )


def read(batch: Batch) -> Examples:
    """The examples of a batch."""
    rows = pq.read_table(batch.folder / EXAMPLES).to_pylist()
    kinds: defaultdict[str, list[Any]] = defaultdict(list)
    for row in rows:
        messages = tuple(orjson.loads(row["messages"]))
        if row["kind"] == "pair":
            item: Any = Pair(
                messages,
                row["a"],
                row["b"],
                row["said"],
                row["subject"],
                row["weight"],
                row["split"],
                row["event_id"],
            )
        elif row["kind"] == "thumb":
            reasons = tuple(orjson.loads(row["b"]))
            up = row["said"] == "up"
            item = Thumb(
                messages, row["a"], up, row["subject"], row["weight"], row["split"], reasons, row["event_id"]
            )
        elif row["kind"] == "demonstration":
            item = Demonstration(messages, row["a"], row["weight"])
        else:
            item = messages
        kinds[row["kind"]].append(item)
    return Examples(kinds["pair"], kinds["thumb"], kinds["demonstration"], kinds["prompt"])


def drop_batches(settings: TrainingSettings) -> None:
    """Remove every batch and unfinished run: somebody in them asked to be forgotten.

    A batch follows from the archive, so the next round makes a new one without them; ids stay in the lineage
    of the adapters that learnt from the old ones.
    """
    for folder in (settings.batches_dir, settings.checkpoints_dir):
        if folder.exists():
            shutil.rmtree(folder)
