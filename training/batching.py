"""Events to a batch: what stands, joined, searched for suspects, weighed, and immutable on disk.

A batch holds every standing saying of an alias (the newest, up to a limit), so that a round never forgets;
``votes_total`` tells which came since the last one. It is a function of the archive and of a recipe that stands in
its manifest, without clocks, and is named after its bytes: rebuilt from the same archive it is the same batch.
What is read before a batch is taken is acknowledged already: the archive has it on disk.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feedback.archive import Archive, Snapshot
from feedback.joined import Joined, Source, counting, joined, part, reply_codes
from feedback.lineage import note
from feedback.standing import codes_of
from training.agreement import trust
from training.batch_files import SCHEMA, Batch, manifest_of, name_of, packed, write
from training.errors import BatchDiffers, NothingToLearn
from training.influence import caps
from training.recipe import Recipe
from training.rows import sayings
from training.settings import TrainingSettings
from training.splits import splits
from training.suspects import Suspicious, nobody, votes_of, without

AT_ONCE = 10_000
"""Rows whose texts are Python's at once."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """The rows of a batch and what became of the rest."""

    table: Any  # of batch_files.SCHEMA
    votes: int  # pairs and thumbs
    newest: float  # Unix seconds of the newest saying in it
    prompts: int
    quarantined: Mapping[str, str]  # event id → why it stays out
    subjects: frozenset[str]  # whose words are in it


def build(
    archive: Archive,
    alias: str,
    settings: TrainingSettings,
    criteria: Mapping[str, float] | None,
    *,
    votes_total: int,
    suspicious: Suspicious = nobody,
    released: Collection[str] = (),
) -> Batch:
    """Take the alias's batch and write it; durable when it returns. Raises NothingToLearn.

    ``criteria`` are the weights the product team gives. What ``suspicious`` names stays out, unless people have
    ``released`` it (event ids).
    """
    segments = archive.segments()
    recipe = Recipe.of(settings, alias, criteria, archive.last_position())
    with _system_memory():
        gathered = gather(Snapshot(archive, recipe.until), recipe, suspicious, released)
    told = {
        "alias": alias,
        "votes": gathered.votes,
        "votes_total": votes_total,
        "newest_vote": gathered.newest,
        "prompts": gathered.prompts,
        "recipe": recipe.as_dict(),
        "quarantined": dict(gathered.quarantined),
        "released": sorted(released),  # what people let in although a search may have named it
        "segments": {segment.name: segment.sha256 for segment in segments},
    }
    data = packed(gathered.table)
    note(settings.lineage_dir, name_of(data, gathered.votes), gathered.subjects)  # no batch is there without
    return write(data, told, settings.batches_dir)


def rebuild(folder: Path, archive: Archive) -> bytes:
    """The bytes of the batch in ``folder``, made anew from the archive by its manifest alone. Raises BatchDiffers when
    they are not the bytes it was written with: the archive has changed, somebody in it was forgotten for example.
    """
    told = manifest_of(folder)
    recipe = Recipe(**told["recipe"])
    out = told["quarantined"]
    with _system_memory():
        data = packed(gather(Snapshot(archive, recipe.until), recipe, lambda _: out).table)
    if (found := sha256(data).hexdigest()) != told["sha256"]:
        raise BatchDiffers(told["id"], found)
    return data


@contextmanager
def _system_memory() -> Iterator[None]:
    """Columns come from the system's allocator meanwhile: Arrow's own gives pages back and faults them in anew at every
    step, which cost a third of the work on a batch and more memory.
    """
    before = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(before)


def gather(
    source: Source, recipe: Recipe, suspicious: Suspicious = nobody, released: Collection[str] = ()
) -> Gathered:
    """Everything that stands and counts, as rows of a batch. Raises NothingToLearn."""
    found = counting(source, recipe.alias)
    begin = max(0, found.said - recipe.round_max_votes)
    told = joined(source, part(found, begin, found.said), recipe.alias, prompts=recipe.round_max_votes)
    votes = votes_of(told)
    held = {event: why for event, why in suspicious(votes).items() if event not in released}
    said = sayings(without(told, held), recipe.criteria)
    if not len(said):
        raise NothingToLearn(f"alias {recipe.alias}: no vote on a stored response yet")
    table = pa.concat_tables([_examples(said, told, recipe), _shown(said, told), _asked(told)])
    newest = pc.max(said.column("time")).as_py()
    subjects = frozenset([*pc.unique(said.column("subject")).to_pylist(), *told.askers.to_pylist()])
    return Gathered(table, len(said), newest, len(told.prompts), held, subjects)


def _examples(said: Any, told: Joined, recipe: Recipe) -> Any:
    """Pairs and thumbs, weighed."""
    a, b = said.column("a"), said.column("b")
    reply = pc.coalesce(a, b).combine_chunks()
    text = told.replies.column("text")
    messages = told.replies.column("messages").take(reply)
    subjects = codes_of(said.column("subject"))
    prompts = codes_of(told.replies.column("messages"))[reply.to_numpy()]
    columns = {
        "kind": said.column("kind"),
        "messages": messages,
        "a": pc.coalesce(text.take(a.combine_chunks()), said.column("words")),
        "b": text.take(b.combine_chunks()),
        "said": said.column("said"),
        "subject": said.column("subject"),
        "split": _sides(subjects, prompts, said, messages, recipe.holdout_share),
        "event_id": said.column("event_id"),
        "criteria": said.column("criteria"),
        "weight": pa.array(_weights(subjects, prompts, said, told, recipe)),
    }
    return pa.table([columns[name] for name in SCHEMA.names], schema=SCHEMA)


def _sides(subjects: Any, prompts: Any, said: Any, messages: Any, share: float) -> Any:
    """The side of each row: hashed once for a subject and prompt, and some at a time, since as Python's strings prompts
    take much room.
    """
    pairs = prompts.astype(np.int64) * (int(subjects.max()) + 1) + subjects
    _, first, inverse = np.unique(pairs, return_index=True, return_inverse=True)
    asked, names = messages.take(first), said.column("subject").take(first)
    parts = (slice(begin, begin + AT_ONCE) for begin in range(0, len(first), AT_ONCE))
    sides = [splits(asked[part].to_pylist(), names[part].to_pylist(), share) for part in parts]
    return pa.chunked_array(sides, pa.string()).take(inverse)


def _weights(subjects: Any, prompts: Any, said: Any, told: Joined, recipe: Recipe) -> Any:
    """(n,) what each saying counts: as itself, by how far its subject agrees with others, and within the caps."""
    things, first = _judged(said, told)
    trusted = trust(subjects, things, first, recipe.agreement_prior, recipe.agreement_floor)
    weights = said.column("weight").to_numpy() * trusted[subjects]
    return weights * caps(subjects, prompts, weights, recipe)


def _judged(said: Any, told: Joined) -> tuple[Any, Any]:
    """(n,) what was judged (-1: what nobody else can have judged), and which of two was said of it: of a reply that it
    is good, of two that the one with the smaller number is better. Replies that differ in case alone are one;
    what a label judges is one criterion of a reply.
    """
    alike = told.replies.set_column(
        told.replies.schema.get_field_index("text"), "text", _plain(told.replies.column("text"))
    )
    codes = np.append(reply_codes(alike), -1)
    a, b = (codes[pc.fill_null(said.column(side), len(codes) - 1).to_numpy()] for side in "ab")
    verdict = said.column("said")
    thumb = pc.equal(said.column("kind"), "thumb").to_numpy()
    judged = thumb | (pc.equal(verdict, "win").to_numpy() & (a >= 0) & (a != b))
    label = codes_of(said.column("label")).astype(np.int64)
    both = (np.minimum(a, b) + 1) * (codes.max() + 2) + np.maximum(a, b) + 1
    things = np.full(len(a), -1)
    things[judged] = _by_appearance((both * (label.max() + 1) + label)[judged])
    return things, np.where(thumb, pc.equal(verdict, "up").to_numpy(), a < b)


def _by_appearance(values: Any) -> Any:
    """(n,) numbers of the values in the order in which they appear: sums over them then do not depend, to the last
    bit, on how the archive is cut into segments.
    """
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    number = np.empty(len(first), np.int64)
    number[np.argsort(first)] = np.arange(len(first))
    return number[inverse]


def _plain(text: Any) -> Any:
    return pc.utf8_trim_whitespace(pc.utf8_lower(text))


def _shown(said: Any, told: Joined) -> Any:
    """What should have been said: the corrections."""
    own = said.filter(pc.is_null(said.column("a")))
    messages = told.replies.column("messages").take(own.column("b").combine_chunks())
    return _rows("demonstration", messages, own.column("words"))


def _asked(told: Joined) -> Any:
    return _rows("prompt", told.prompts, None)


def _rows(kind: str, messages: Any, text: Any) -> Any:
    """Rows that nobody's vote weighs."""
    count = len(messages)
    own = {"kind": pa.repeat(kind, count), "messages": messages}
    if text is not None:
        own |= {"a": text, "weight": pa.array(np.ones(count))}
    return pa.table([own.get(field.name, pa.nulls(count, field.type)) for field in SCHEMA], schema=SCHEMA)
