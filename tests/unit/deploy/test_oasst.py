"""What Open-Assistant's trees come to, worked out by hand from the files of ``tests/unit/deploy/oasst``."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from deploy.import_file import import_lines, lines_of
from deploy.imports import Origin, Skipped
from deploy.oasst_events import criteria_of, tree_events
from feedback.events import Comparison, Event, Label, Response
from feedback.memory import MemoryEventLog

ORIGIN = Origin("heed", 1000.0)
FILES = Path(__file__).parent / "oasst"


def line(record: Any) -> bytes:
    return json.dumps(record).encode()


def node(name: str, role: str, rank: int | None = None, *replies: Any, **more: Any) -> dict[str, Any]:
    told = {"message_id": name, "role": role, "text": f"text of {name}", "rank": rank}
    return told | {"replies": list(replies)} | more


def tree(*replies: Any, **more: Any) -> dict[str, Any]:
    return {
        "message_tree_id": "t",
        "tree_state": "ready_for_export",
        "prompt": node("q", "prompter", None, *replies),
    } | more


def events_of(*records: Any) -> tuple[list[Event], list[Skipped]]:
    found = list(tree_events([line(record) for record in records], ORIGIN))
    skipped = [one for one in found if isinstance(one, Skipped)]
    return [event for one in found if not isinstance(one, Skipped) for event in one], skipped


def texts_of(events: list[Event]) -> list[list[list[str]]]:
    """Each ranking, as texts."""
    said = {event.response_id: event.text for event in events if isinstance(event, Response)}
    rankings = [event.ranking for event in events if isinstance(event, Comparison)]
    return [[[said[name] for name in group] for group in ranking] for ranking in rankings]


def flat(tree: dict[str, Any]) -> list[dict[str, Any]]:
    """The messages of a tree, one record each."""
    told = {"message_tree_id": tree["message_tree_id"], "tree_state": tree["tree_state"]}
    found, below = [], [(tree["prompt"], None)]
    while below:
        body, parent = below.pop(0)
        found.append(
            {name: value for name, value in body.items() if name != "replies"} | told | {"parent_id": parent}
        )
        below += [(reply, body["message_id"]) for reply in body.get("replies") or ()]
    return found


@pytest.mark.parametrize("name", ["trees.jsonl", "messages.jsonl"])
def test_the_counts_of_a_file_with_every_field_are_those_worked_out_by_hand(
    name: str, tmp_path: Path
) -> None:
    """Tree 1: four replies ranked 0, 1, 1, 2 and one not ranked, and below the best one two of equal rank; labels on
    three. Tree 2 has labels only. Tree 3 was aborted, tree 4 has nothing to learn from, tree 5 lost its root.
    """
    zipped = tmp_path / f"{name}.gz"
    zipped.write_bytes(gzip.compress((FILES / name).read_bytes()))
    for file in (FILES / name, zipped):
        log = MemoryEventLog()
        report = import_lines(lines_of(file), "oasst", ORIGIN, log)
        assert (report.records, report.responses, report.votes, report.repeats) == (2, 8, 0, 0)
        assert (report.comparisons, report.labels) == (2, 4)
        assert Counter(dict(report.reasons())) == {
            "is deleted": 1,
            "failed its review": 1,
            "tree_state: is aborted_low_grade": 1,
            "replies: none are ranked among others, and none has labels": 1,
            "is deleted, and so is all its tree": 1,
        }


def test_the_tree_file_and_the_flat_file_mean_the_same() -> None:
    one, other = (
        list(tree_events(lines_of(FILES / name), ORIGIN)) for name in ("trees.jsonl", "messages.jsonl")
    )
    assert [events for events in one if isinstance(events, list)] == [
        events for events in other if isinstance(events, list)
    ]


def test_ranks_are_one_comparison_with_ties_and_its_prompt_is_the_whole_conversation() -> None:
    events, _ = events_of(
        tree(
            node("b", "assistant", 1),
            node(
                "a",
                "assistant",
                0,
                node("q2", "prompter", None, node("d", "assistant", 3), node("c", "assistant", 2)),
            ),
            node("b2", "assistant", 1),
        )
    )
    assert texts_of(events) == [
        [["text of a"], ["text of b", "text of b2"]],
        [["text of c"], ["text of d"]],
    ]
    (second,) = [event for event in events if isinstance(event, Response) and event.text == "text of c"]
    assert [(one["role"], one["content"]) for one in second.messages] == [
        ("user", "text of q"),
        ("assistant", "text of a"),
        ("user", "text of q2"),
    ]


def test_replies_of_one_rank_alone_are_a_tie() -> None:
    events, _ = events_of(tree(node("a", "assistant", 0), node("b", "assistant", 0)))
    assert texts_of(events) == [[["text of a", "text of b"]]]


def test_the_same_text_twice_is_one_reply_at_its_best_rank() -> None:
    replies = [
        node("a", "assistant", 2, text="yes"),
        node("b", "assistant", 0, text="yes"),
        node("c", "assistant", 1),
    ]
    assert texts_of(events_of(tree(*replies))[0]) == [[["yes"], ["text of c"]]]


@pytest.mark.parametrize(
    ("labels", "scores"),
    [
        ({"helpfulness": 0.75, "quality": 0.5}, {"helpful": 0.75, "quality": 0.5}),
        ({"toxicity": 0.25, "violence": 0.75, "pii": 0.0}, {"harmless": 0.25}),
        ({"humor": 0.0, "creativity": 1.0, "spam": 0.0, "lang_mismatch": 1.0, "fails_task": 1.0}, {}),
        ({}, {}),
    ],
)
def test_labels_are_scores_by_criterion(labels: dict[str, float], scores: dict[str, float]) -> None:
    assert criteria_of(labels) == scores


@pytest.mark.parametrize(
    "labels",
    [None, [], "quality", {"quality": None}, {"quality": 0.5}, {"quality": {"value": None, "count": 2}}]
    + [{"quality": {"value": value, "count": 1}} for value in (1.5, -0.1, True, "1")]
    + [{"quality": {"value": 0.5, "count": 0}}],
)
def test_what_is_no_score_is_passed_over(labels: Any) -> None:
    events, skipped = events_of(tree(node("a", "assistant", 0), node("b", "assistant", 1, labels=labels)))
    assert not skipped
    assert not any(isinstance(event, Label) for event in events)


def test_a_label_speaks_of_the_response_that_the_ranking_names() -> None:
    labels = {"quality": {"value": 1.0, "count": 3}}
    events, _ = events_of(tree(node("a", "assistant", 0, labels=labels), node("b", "assistant", 1)))
    (label,) = [event for event in events if isinstance(event, Label)]
    (ranking,) = [event for event in events if isinstance(event, Comparison)]
    assert (label.labels, label.subject) == ({"quality": 1.0}, ranking.subject)
    assert ranking.ranking[0] == (label.response_id,)
    assert sum(isinstance(event, Response) for event in events) == 2


def test_absent_and_null_fields_are_no_fault() -> None:
    bare = {"role": "assistant", "text": "A", "message_id": "a", "rank": 0}
    null = dict.fromkeys(
        ("labels", "emojis", "events", "detoxify", "deleted", "review_result", "synthetic", "replies")
    )
    other = {**bare, **null, "text": "B", "message_id": "b", "rank": 1}
    record = {"prompt": {"message_id": "q", "role": "prompter", "text": "Q", "replies": [bare, other]}}
    assert texts_of(events_of(record)[0]) == [[["A"], ["B"]]]


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (tree(tree_state="aborted_low_grade"), "tree_state: is aborted_low_grade"),
        (tree(tree_state="halted_by_moderator"), "tree_state: is halted_by_moderator"),
        (tree(node("a", "assistant", 0)), "replies: none are ranked among others, and none has labels"),
        ({"prompt": node("q", "robot")}, "role: is 'robot', not prompter or assistant"),
        ({"prompt": "q"}, "prompt: is not a message"),
        ({"prompt": node("q", "prompter") | {"replies": {}}}, "replies: is not a list"),
        ({"prompt": node("q", "prompter", deleted=True)}, "message q: is deleted, and so is all its tree"),
        ({"role": "assistant", "text": "A", "message_id": "a"}, "message_tree_id: is missing"),
    ],
)
def test_a_tree_that_teaches_nothing_says_why(record: Any, why: str) -> None:
    (skipped,) = events_of(record)[1]
    assert skipped == Skipped(1, why)


def test_one_bad_message_costs_itself_and_what_follows_it() -> None:
    replies = [node("a", "assistant", 0), node("b", "assistant", 1), node("c", "assistant", 2, text=" "), 7]
    events, skipped = events_of(tree(*replies))
    assert texts_of(events) == [[["text of a"], ["text of b"]]]
    assert [one.why for one in skipped] == [
        "a reply to q: replies: holds something that is no message",
        "a reply to q: text: is missing",
    ]


def test_messages_of_a_flat_file_that_fit_nowhere_are_told() -> None:
    messages = flat(tree(node("a", "assistant", 0), node("b", "assistant", 1)))
    stray = [
        messages[1] | {"message_id": "o", "parent_id": "gone"},
        messages[0] | {"message_id": "q9"},
        messages[2],
    ]
    events, skipped = events_of(*messages, *stray)
    assert texts_of(events) == [[["text of a"], ["text of b"]]]
    assert {(one.line, one.why) for one in skipped} == {
        (4, "message o: follows gone, which is not there"),
        (5, "message q9: is a second root of its tree"),
        (6, "message b: stood in line 3"),
    }


def test_messages_of_trees_may_be_mixed_and_stand_in_any_order() -> None:
    one = tree(node("a", "assistant", 0), node("b", "assistant", 1))
    two = json.loads(json.dumps(one).replace('"t"', '"u"').replace("text of ", "other "))
    mixed = [message for pair in zip(flat(one)[::-1], flat(two)[::-1], strict=True) for message in pair]
    assert sorted(texts_of(events_of(*mixed)[0])) == [
        [["other a"], ["other b"]],
        [["text of a"], ["text of b"]],
    ]


def test_a_tree_may_be_as_deep_as_its_file() -> None:
    depth = 3000
    messages = []
    for n in range(depth):
        role = "assistant" if n % 2 else "prompter"
        messages.append(
            {"message_tree_id": "t", "message_id": f"m{n}", "role": role, "text": f"{n}", "rank": 0}
        )
        messages[-1]["parent_id"] = f"m{n - 1}" if n else None
    last = {**messages[-1], "message_id": "last", "text": "other", "rank": 1}
    events, skipped = events_of(*messages, last)
    assert not skipped
    assert texts_of(events) == [[[f"{depth - 1}"], ["other"]]]
    nested = b'{"prompt":' + b'{"replies":[' * 5000 + b"]}" * 5000 + b"}"
    (told,) = tree_events([nested], ORIGIN)
    assert isinstance(told, Skipped)
