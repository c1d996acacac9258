"""Batches: what stands goes in once, what may not be read stays out, and the same archive gives the same batch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from feedback.archive import Archive
from feedback.events import Comparison, Event, Label, Report, Response, Vote
from feedback.protocols import Entry
from training.batching import collect, drop_batches, open_batch, read, split_of, write
from training.errors import NothingToLearn
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
    made = []
    for root in (tmp_path / "one", tmp_path / "two"):
        examples, newest = collect(archive, "heed", settings)
        made.append(write(examples, newest, "heed", 2, archive, root))
    assert made[0].id == made[1].id
    assert made[0].votes == 2
    assert (made[0].folder / "examples.parquet").read_bytes() == (
        made[1].folder / "examples.parquet"
    ).read_bytes()
    assert read(open_batch(made[0].folder)) == examples


def test_a_prompt_stays_on_its_side() -> None:
    sides = [split_of(({"role": "user", "content": f"q{n}"},), "s", 0.1) for n in range(2000)]
    assert 0.07 < sides.count("holdout") / 2000 < 0.13
    assert sides == [split_of(({"role": "user", "content": f"q{n}"},), "s", 0.1) for n in range(2000)]


def test_forgetting_drops_every_batch(tmp_path: Path, settings: TrainingSettings) -> None:
    archive = archived(tmp_path / "a", [response(0), vote(0, "up", at=5)])
    examples, newest = collect(archive, "heed", settings)
    batch = write(examples, newest, "heed", 1, archive, settings.batches_dir)
    drop_batches(settings)
    assert not batch.folder.exists()


def test_a_vote_counts_by_the_weights_of_the_criteria_it_names(
    tmp_path: Path, settings: TrainingSettings
) -> None:
    said = [
        replace(vote(0, "up", at=10), reasons=("tone", "brevity")),  # (3 + 1) / 2
        replace(vote(2, "down", at=11), reasons=("harmless",)),  # 0: left out
        replace(vote(4, "down", at=12), reasons=("no criterion",)),
        vote(6, "up", at=13),
    ]
    archive = archived(tmp_path / "a", [*(response(number) for number in (0, 2, 4, 6)), *said])
    examples, _ = collect(archive, "heed", settings, {"tone": 3.0, "brevity": 1.0, "harmless": 0.0})
    assert [(thumb.up, thumb.weight) for thumb in examples.thumbs] == [(True, 2.0), (False, 1.0), (True, 1.0)]


def test_labels_are_thumbs_by_criterion_the_surer_the_heavier(
    tmp_path: Path, settings: TrainingSettings
) -> None:
    scores = {"tone": 0.9, "brevity": 0.25, "helpful": 0.5}
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
    examples, newest = collect(archive, "heed", settings, {"tone": 2.0})
    told = [(thumb.reasons, thumb.up, thumb.weight) for thumb in examples.thumbs]
    assert told == [(("brevity",), False, 0.5), (("tone",), True, pytest.approx(1.6))]
    assert newest == 9.0
