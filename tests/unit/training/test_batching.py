"""Batches: what stands goes in once, what may not be read stays out, and the same archive gives the same batch."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st

from feedback.archive import Archive, Snapshot
from feedback.events import Comparison, Event, Label, Report, Response, Vote
from feedback.memory import MemoryRegistry
from feedback.protocols import Entry
from training.batch_files import (
    KEPT,
    drop_batches,
    drop_old_batches,
    examples_of,
    manifest_of,
    oldest,
    open_batch,
    packed,
    read,
    tidy,
    whole,
)
from training.batching import build, gather, rebuild
from training.errors import BatchDiffers, NothingToLearn
from training.examples import Examples
from training.recipe import Recipe
from training.settings import TrainingSettings


def response(number: int, subject: str = "s-a", *, text: str = "yes", stored: bool = True) -> Response:
    name = f"chatcmpl-{number}"
    messages = ({"role": "user", "content": f"question {number // 2}"},) if stored else ()
    return Response(
        event_id=name, response_id=name, time=float(number), alias="heed", adapter="base", arm="live",
        subject=subject, messages=messages, text=text if stored else "", stored=stored,
    )  # fmt: skip


def vote(
    number: int, rating: str | None, *, at: float, subject: str = "s-a", correction: str | None = None
) -> Vote:
    return Vote(
        event_id=f"ev-{number}-{at}", feedback_id=f"fb-{number}-{subject}", response_id=f"chatcmpl-{number}",
        time=at, subject=subject, rating=rating, correction=correction,  # type: ignore[arg-type]
    )  # fmt: skip


def archived(folder: Path, events: list[Event]) -> Archive:
    archive = Archive(folder)
    archive.write([Entry(f"{1000 + place}-0", event) for place, event in enumerate(events)])
    return archive


def collect(
    archive: Archive, alias: str, settings: TrainingSettings, criteria: Mapping[str, float] | None = None
) -> tuple[Examples, float]:
    """The examples of the batch that would be built, and the time of the newest saying in it."""
    recipe = Recipe.of(settings, alias, criteria, archive.last_position())
    gathered = gather(Snapshot(archive, recipe.until), recipe)
    return examples_of(gathered.table, recipe.criteria), gathered.newest


@pytest.fixture
def settings(tmp_path: Path) -> TrainingSettings:
    return TrainingSettings(data_dir=tmp_path)


def test_the_last_vote_counts_and_a_vote_taken_back_does_not(
    tmp_path: Path, settings: TrainingSettings
) -> None:
    events = [response(0), response(2), vote(0, "up", at=10), vote(0, "down", at=11), vote(2, "up", at=12)]
    archive = archived(tmp_path / "a", [*events, vote(2, None, at=13)])
    examples, newest = collect(archive, "heed", settings)
    assert [(thumb.text, thumb.up) for thumb in examples.thumbs] == [("yes", False)]
    assert newest == 11


def test_a_correction_is_a_demonstration_and_beats_what_was_said(
    tmp_path: Path, settings: TrainingSettings
) -> None:
    archive = archived(tmp_path / "a", [response(0), vote(0, "down", at=5, correction="At eight.")])
    examples, _ = collect(archive, "heed", settings)
    assert [(pair.a, pair.b, pair.outcome) for pair in examples.pairs] == [("At eight.", "yes", "win")]
    assert [shown.text for shown in examples.demonstrations] == ["At eight."]


def test_a_correction_that_repeats_the_reply_makes_no_pair(
    tmp_path: Path, settings: TrainingSettings
) -> None:
    archive = archived(tmp_path / "a", [response(0), vote(0, "up", at=5, correction="yes")])
    examples, _ = collect(archive, "heed", settings)
    assert examples.pairs == []


def test_what_is_unstored_foreign_or_reported_is_not_read(tmp_path: Path, settings: TrainingSettings) -> None:
    report = Report(
        event_id="ev-r",
        report_id="rp-1",
        response_id="chatcmpl-4",
        time=6,
        subject="s-b",
        report_kind="unsafe",
    )
    events = [response(0, stored=False), response(2), response(4), report]
    said = [vote(0, "up", at=7), vote(2, "up", at=7, subject="s-b"), vote(4, "up", at=7)]
    with pytest.raises(NothingToLearn, match="no vote on a stored response"):
        collect(archived(tmp_path / "a", [*events, *said]), "heed", settings)


@pytest.mark.parametrize(
    ("ranking", "both_bad", "wanted"),
    [
        ((("chatcmpl-1",), ("chatcmpl-0",)), False, ("right", "left", "win")),
        ((("chatcmpl-0", "chatcmpl-1"),), False, ("left", "right", "tie")),
        ((("chatcmpl-0", "chatcmpl-1"),), True, ("left", "right", "both_bad")),
    ],
)
def test_a_comparison_becomes_one_pair(
    tmp_path: Path,
    settings: TrainingSettings,
    ranking: tuple[tuple[str, ...], ...],
    both_bad: bool,
    wanted: tuple[str, str, str],
) -> None:
    said = Comparison(
        event_id="ev-c", feedback_id="fb-c", time=9, subject="s-a", ranking=ranking, both_bad=both_bad
    )
    archive = archived(tmp_path / "a", [response(0, text="left"), response(1, text="right"), said])
    examples, _ = collect(archive, "heed", settings)
    assert [(pair.a, pair.b, pair.outcome) for pair in examples.pairs] == [wanted]


def test_no_subject_weighs_more_than_its_share(tmp_path: Path, settings: TrainingSettings) -> None:
    events: list[Event] = []
    for number in range(200):  # half of all votes by one subject, the others by a hundred
        subject = "s-loud" if number % 2 else f"s-{number}"
        events += [response(number, subject), vote(number, "up", at=300 + number, subject=subject)]
    examples, _ = collect(archived(tmp_path / "a", events), "heed", settings)
    loud = sum(thumb.weight for thumb in examples.thumbs if thumb.subject == "s-loud")
    assert loud == pytest.approx(0.05 * 200)  # its share of what was said, before the cap
    assert {thumb.weight for thumb in examples.thumbs if thumb.subject != "s-loud"} == {1.0}


def test_the_same_archive_gives_the_same_batch_and_it_reads_back(
    tmp_path: Path, settings: TrainingSettings
) -> None:
    events: list[Event] = [response(0), response(1, text="no"), vote(0, "up", at=5), vote(1, "down", at=6)]
    archive = archived(tmp_path / "a", events)
    made = [
        build(archive, "heed", TrainingSettings(data_dir=tmp_path / root), None, votes_total=2)
        for root in ("one", "two")
    ]
    assert made[0].id == made[1].id
    assert (made[0].votes, made[0].votes_total, made[0].newest_vote, made[0].prompts) == (2, 2, 6.0, 1)
    assert len({(batch.folder / "examples.parquet").read_bytes() for batch in made}) == 1
    assert open_batch(made[0].folder) == made[0]
    assert read(made[0]) == collect(archive, "heed", settings)[0]


def test_a_batch_is_rebuilt_bit_for_bit_from_the_archive_that_has_grown_and_was_merged(
    tmp_path: Path, settings: TrainingSettings
) -> None:
    archive = Archive(tmp_path / "a")
    said: list[Event] = [event for n in range(8) for event in (response(n), vote(n, "up", at=20.0 + n))]
    for place, event in enumerate(said):  # a segment each
        archive.write([Entry(f"{100 + place}-0", event)])
    batch = build(
        archive, "heed", settings, {"tone": 2.0}, votes_total=8, suspicious=lambda _: {"ev-3-23.0": "a burst"}
    )
    later = [vote(0, "down", at=40.0), vote(1, None, at=41.0), response(8)]
    archive.write([Entry(f"{200 + place}-0", event) for place, event in enumerate(later)])
    archive.compact()
    assert len(archive.segments()) == 1
    assert rebuild(batch.folder, archive) == (batch.folder / "examples.parquet").read_bytes()


def test_a_batch_of_which_somebody_was_forgotten_is_not_rebuilt_as_if_nothing_had_gone(
    tmp_path: Path, settings: TrainingSettings
) -> None:
    events: list[Event] = [
        response(0),
        response(2, "s-b"),
        vote(0, "up", at=5),
        vote(2, "up", at=5, subject="s-b"),
    ]
    archive = archived(tmp_path / "a", events)
    batch = build(archive, "heed", settings, None, votes_total=2)
    archive.forget("s-b")
    with pytest.raises(BatchDiffers, match=batch.id):
        rebuild(batch.folder, archive)


def test_what_is_suspicious_stays_out_until_it_is_released(
    tmp_path: Path, settings: TrainingSettings
) -> None:
    seen = []

    def suspicious(votes: Any) -> dict[str, str]:
        seen.extend(votes.select(["event_id", "kind", "subject", "rating", "adapter", "text"]).to_pylist())
        return {"ev-0-5": "a burst", "ev-2-5": "a burst"}

    archive = archived(tmp_path / "a", [response(0), response(2), vote(0, "up", at=5), vote(2, "up", at=5)])
    with pytest.raises(NothingToLearn):
        build(archive, "heed", settings, None, votes_total=2, suspicious=suspicious)
    batch = build(archive, "heed", settings, None, votes_total=2, suspicious=suspicious, released=["ev-2-5"])
    assert [thumb.event_id for thumb in read(batch).thumbs] == ["ev-2-5"]
    assert manifest_of(batch.folder)["quarantined"] == {"ev-0-5": "a burst"}
    assert seen[0] == {
        "event_id": "ev-0-5", "kind": "vote", "subject": "s-a", "rating": "up", "adapter": "base", "text": "yes"
    }  # fmt: skip


def test_forgetting_drops_the_batches_of_whoever_voted_or_asked_and_no_others(
    tmp_path: Path, settings: TrainingSettings
) -> None:
    said = [response(0), vote(0, "up", at=5), response(2, subject="s-only-asked")]
    archive = archived(tmp_path / "a", said)
    for goes in ("s-a", "s-only-asked"):
        batch = build(archive, "heed", settings, None, votes_total=1)
        checkpoint = settings.checkpoints_dir / "heed" / batch.id
        checkpoint.mkdir(parents=True)
        drop_batches(settings, "s-stranger")
        assert (batch.folder.exists(), checkpoint.exists()) == (True, True)
        drop_batches(settings, goes)
        assert (batch.folder.exists(), checkpoint.exists()) == (False, False)
    batch = build(archive, "heed", settings, None, votes_total=1)
    (batch.folder / "examples.parquet").unlink()
    left = []
    for manifests in (False, True):
        drop_batches(settings, "s-a", manifests=manifests)
        left.append(batch.folder.exists())
    assert left == [True, False]
    unknown = settings.batches_dir / "heed" / "b-of-before-notes"
    unknown.mkdir(parents=True)
    drop_batches(settings, "s-stranger")
    assert not unknown.exists()


def test_a_batch_with_texts_that_are_too_old_goes_with_its_checkpoint(
    tmp_path: Path, settings: TrainingSettings
) -> None:
    archive = archived(tmp_path / "a", [response(0), vote(0, "up", at=5)])
    batch, registry = build(archive, "heed", settings, None, votes_total=1), MemoryRegistry()
    checkpoint = settings.checkpoints_dir / "heed" / batch.id
    checkpoint.mkdir(parents=True)
    logged = oldest(manifest_of(batch.folder))
    registry.acquire("round:heed", "w", 60.0)
    assert drop_old_batches(registry, settings, logged + 1) == 0
    registry.release("round:heed", "w")
    assert drop_old_batches(registry, settings, logged) == 0
    assert drop_old_batches(registry, settings, logged + 1) == 1
    assert not batch.folder.exists()
    assert not checkpoint.exists()


def test_a_damaged_batch_goes_when_texts_grow_old_and_holds_no_other_up(
    tmp_path: Path, settings: TrainingSettings
) -> None:
    archive = archived(tmp_path / "a", [response(0), vote(0, "up", at=5)])
    batch, registry = build(archive, "heed", settings, None, votes_total=1), MemoryRegistry()
    damaged = batch.folder.with_name("a-damaged")
    shutil.copytree(batch.folder, damaged)
    (damaged / "manifest.json").write_bytes(b'{"id": ')
    assert not whole(damaged)
    assert drop_old_batches(registry, settings, oldest(manifest_of(batch.folder))) == 1
    assert not damaged.exists()
    assert whole(batch.folder)


def test_reasons_that_are_no_criterion_are_not_heard(tmp_path: Path, settings: TrainingSettings) -> None:
    said = replace(vote(0, "up", at=10), reasons=("tone", "nonsense"))
    compared = Comparison(
        event_id="ev-c", feedback_id="fb-c", time=9, subject="s-a", ranking=(("chatcmpl-1",), ("chatcmpl-0",)),
        reasons=("nonsense", "tone"),
    )  # fmt: skip
    events = [response(0), response(1, text="no"), said, compared]
    examples, _ = collect(archived(tmp_path / "a", events), "heed", settings, {"tone": 3.0})
    assert [(vote.reasons, vote.weight) for vote in (*examples.pairs, *examples.thumbs)] == [
        (("tone",), 1.0)
    ] * 2
    assert examples.criteria == {"tone": 3.0}


def test_of_a_ranking_the_pairs_that_were_not_said_anew_part_its_weight(
    tmp_path: Path, settings: TrainingSettings
) -> None:
    one = {"role": "user", "content": "one"}
    replies = [replace(response(n, text=f"reply {n}"), messages=(one,)) for n in range(3)]
    ranking = Comparison(
        event_id="ev-r", feedback_id="fb-r", time=9, subject="s-a",
        ranking=(("chatcmpl-0",), ("chatcmpl-1",), ("chatcmpl-2",)),
    )  # fmt: skip
    later = replace(
        ranking, event_id="ev-c", feedback_id="fb-c", time=10, ranking=(("chatcmpl-1",), ("chatcmpl-0",))
    )
    examples, _ = collect(archived(tmp_path / "a", [*replies, later, ranking]), "heed", settings)
    assert [(pair.a, pair.b, pair.weight) for pair in examples.pairs] == [
        ("reply 0", "reply 2", pytest.approx(0.5**0.5)),
        ("reply 1", "reply 2", pytest.approx(0.5**0.5)),
        ("reply 1", "reply 0", 1.0),
    ]


def test_a_batch_holds_the_newest_of_the_alias_alone(tmp_path: Path, settings: TrainingSettings) -> None:
    few = settings.overridden({"round_max_votes": 100})
    events: list[Event] = []
    for number in range(150):
        events += [response(number), vote(number, "up", at=1000.0 + number)]
        other = replace(response(1000 + number), alias="other")
        events += [other, vote(1000 + number, "up", at=2000.0 + number)]
    examples, newest = collect(archived(tmp_path / "a", events), "heed", few)
    assert [thumb.event_id for thumb in examples.thumbs] == [f"ev-{n}-{1000.0 + n}" for n in range(50, 150)]
    assert newest == 1149.0
    assert [prompt[0]["content"] for prompt in examples.prompts] == [f"question {n}" for n in range(75)]


def test_what_is_about_criteria_of_weight_0_alone_stays_out(
    tmp_path: Path, settings: TrainingSettings
) -> None:
    said = [
        replace(vote(0, "up", at=10), reasons=("tone", "brevity")),
        replace(vote(2, "down", at=11), reasons=("harmless",)),
        replace(vote(4, "down", at=12), reasons=("no criterion",)),
        replace(vote(6, "up", at=13, correction="better"), reasons=("harmless", "tone")),
    ]
    archive = archived(tmp_path / "a", [*(response(number) for number in (0, 2, 4, 6)), *said])
    weights = {"tone": 3.0, "brevity": 1.0, "harmless": 0.0}
    examples, _ = collect(archive, "heed", settings, weights)
    first, second, third = (("tone", "brevity"), True, 1.0), ((), False, 1.0), (("tone",), True, 0.5)
    assert [(thumb.reasons, thumb.up, thumb.weight) for thumb in examples.thumbs] == [first, second, third]
    assert [(pair.reasons, pair.weight) for pair in examples.pairs] == [((), 1.0)]
    examples, _ = collect(archive, "heed", settings, {**weights, "overall": 0.0})
    assert [(thumb.reasons, thumb.up, thumb.weight) for thumb in examples.thumbs] == [first, third]
    assert examples.pairs == []


def test_labels_are_thumbs_by_criterion_the_surer_the_heavier(
    tmp_path: Path, settings: TrainingSettings
) -> None:
    scores = {"tone": 0.9, "brevity": 0.25, "helpful": 0.5, "nonsense": 0.0}
    said = Label(
        event_id="ev-l",
        feedback_id="fb-l",
        response_id="chatcmpl-0",
        time=9.0,
        subject="s-rater",
        labels=scores,
    )
    earlier = replace(said, event_id="ev-k", time=8.0, labels={"tone": 0.0})
    archive = archived(tmp_path / "a", [response(0), earlier, said])
    examples, newest = collect(archive, "heed", settings, {"tone": 2.0, "brevity": 1.0})
    told = [(thumb.reasons, thumb.up, thumb.weight) for thumb in examples.thumbs]
    assert told == [(("brevity",), False, 0.5), (("tone",), True, pytest.approx(0.8))]
    assert newest == 9.0


def test_raters_who_label_other_criteria_do_not_contradict_each_other(
    tmp_path: Path, settings: TrainingSettings
) -> None:
    events: list[Event] = []
    for number in range(
        60
    ):  # three raters label the same twenty replies: two the tone, the third their length
        thing, rater = number % 20, number // 20
        given = replace(
            response(number, f"s-{rater}", text=f"reply {thing}"),
            messages=({"role": "user", "content": f"question {thing}"},),
        )
        labels = {"tone": 1.0} if rater < 2 else {"brevity": 0.0}
        events += [given, Label(
            event_id=f"ev-{number}", feedback_id=f"fb-{number}", response_id=given.response_id, time=99.0 + number,
            subject=given.subject, labels=labels,
        )]  # fmt: skip
    examples, _ = collect(archived(tmp_path / "a", events), "heed", settings, {"tone": 1.0, "brevity": 1.0})
    assert {thumb.weight for thumb in examples.thumbs} == {1.0}


def test_a_batch_from_before_criteria_were_written_is_read_as_one_without(
    tmp_path: Path, settings: TrainingSettings
) -> None:
    archive = archived(tmp_path / "a", [response(0), replace(vote(0, "up", at=5), reasons=("tone",))])
    recipe = Recipe.of(settings, "heed", {"tone": 1.0}, archive.last_position())
    table = gather(Snapshot(archive, recipe.until), recipe).table.drop_columns(["criteria"])
    assert [thumb.reasons for thumb in examples_of(table, recipe.criteria).thumbs] == [()]


def test_who_contradicts_everybody_on_the_same_replies_counts_less_whatever_their_case(
    tmp_path: Path, settings: TrainingSettings
) -> None:
    events: list[Event] = []
    for number in range(180):  # six subjects are given the same thirty replies
        thing, subject = number % 30, f"s-{number // 30}"
        given = replace(
            response(number, subject, text=f"Reply {thing}" if number % 2 else f"reply {thing} "),
            messages=({"role": "user", "content": f"question {thing}"},),
        )
        rating = "up" if subject != "s-5" else "down"
        events += [given, vote(number, rating, at=500.0 + number, subject=subject)]
    examples, _ = collect(archived(tmp_path / "a", events), "heed", settings)
    weights = {(thumb.subject, thumb.weight) for thumb in examples.thumbs}
    assert weights == {("s-5", 0.1), *((f"s-{n}", 1.0) for n in range(5))}


def test_a_rare_prompt_weighs_no_more_than_its_share(tmp_path: Path, settings: TrainingSettings) -> None:
    events: list[Event] = []
    for number in range(300):  # a third of all votes by two subjects on one prompt
        subject = f"s-{number % 2}" if number < 100 else f"s-{number}"
        given = replace(
            response(number, subject, text=f"reply {number}"),
            messages=({"role": "user", "content": "rare" if number < 100 else f"question {number}"},),
        )
        events += [given, vote(number, "up", at=500.0 + number, subject=subject)]
    examples, _ = collect(
        archived(tmp_path / "a", events), "heed", settings.overridden({"subject_share": 1.0})
    )
    rare = sum(thumb.weight for thumb in examples.thumbs if thumb.messages[0]["content"] == "rare")
    assert rare == pytest.approx(0.02 * 300)
    assert sum(thumb.weight for thumb in examples.thumbs) == pytest.approx(200 + rare)


@settings_of_hypothesis(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(0, 80), max_size=4), seed=st.integers(0, 99), merged=st.booleans())
def test_however_the_archive_is_cut_the_batch_has_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], seed: int, merged: bool
) -> None:
    rng = random.Random(7)
    events: list[Event] = []
    for number in range(40):
        thing, subject = number % 8, f"s-{number // 8}"
        one = ({"role": "user", "content": f"question {thing}"},)
        given_to = replace(response(number, subject, text=f"reply {thing}"), messages=one)
        events += [
            given_to,
            vote(number, rng.choice(["up", "down"]), at=float(rng.randrange(9)), subject=subject),
        ]
    entries = [Entry(f"{100 + place}-0", event) for place, event in enumerate(events)]
    made = []
    for ends in ([], sorted(cuts)):
        archive = Archive(tmp_path_factory.mktemp("archive"))
        parts = [entries[a:b] for a, b in pairwise([0, *ends, len(entries)])]
        random.Random(seed).shuffle(parts)
        for part in parts:
            archive.write(part + part[:1] + random.Random(seed).sample(entries, 3))  # some twice
        if merged:
            archive.compact()
        recipe = Recipe.of(TrainingSettings(), "heed", None, archive.last_position())
        made.append(packed(gather(Snapshot(archive, recipe.until), recipe).table))
    assert made[0] == made[1]


def test_a_damaged_batch_is_written_again(tmp_path: Path, settings: TrainingSettings) -> None:
    archive = archived(tmp_path / "a", [response(0), vote(0, "up", at=5)])
    batch = build(archive, "heed", settings, None, votes_total=1)
    for name, data in (("examples.parquet", b"PAR1"), ("manifest.json", b"{"), ("manifest.json", b"[]")):
        (batch.folder / name).write_bytes(data)
        assert not whole(batch.folder)
        assert build(archive, "heed", settings, None, votes_total=1) == batch
        assert whole(batch.folder)
        assert len(read(batch).thumbs) == 1


def test_of_old_batches_the_manifest_stays_and_they_can_be_made_again(
    tmp_path: Path, settings: TrainingSettings
) -> None:
    events: list[Event] = [response(0)]
    batches = []
    for number in range(KEPT + 2):
        events.append(vote(0, "up", at=5 + number, subject="s-a"))
        archive = archived(tmp_path / f"a{number}", events)
        batch = build(archive, "heed", settings, None, votes_total=1)
        batches.append(batch)
        os.utime(batch.folder / "manifest.json", (number, number))
        model = settings.reward_models_dir / "heed" / batch.id
        model.mkdir(parents=True)
        os.utime(model, (number, number))
    tidy(settings, "heed")
    kept = [(batch.folder / "examples.parquet").exists() for batch in batches]
    assert kept == [False] * 2 + [True] * KEPT
    assert len(list((settings.reward_models_dir / "heed").iterdir())) == KEPT
    assert manifest_of(batches[0].folder)["id"] == batches[0].id
    assert len(rebuild(batches[0].folder, Archive(tmp_path / "a0"))) > 0
    tidy(settings, "another")
