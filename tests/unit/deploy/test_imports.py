from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from deploy.import_file import import_lines, lines_of
from deploy.imports import Origin, Skipped, events_of
from deploy.oasst import tree_events
from feedback.errors import InvalidRecord
from feedback.events import Comparison, Event, Response, Vote
from feedback.memory import MemoryEventLog

ORIGIN = Origin("heed", 1000.0)


def line(record: Any) -> bytes:
    return json.dumps(record).encode()


def read(form: str, *records: Any) -> list[list[Event] | Skipped]:
    return list(events_of([line(record) for record in records], form, ORIGIN))


def only(form: str, record: Any) -> list[Event]:
    (found,) = read(form, record)
    assert not isinstance(found, Skipped), found
    return found


def test_a_pair_becomes_two_responses_and_a_comparison_won_by_the_chosen() -> None:
    events = only("preference", {"prompt": "Hi?", "chosen": "Hello!", "rejected": "What."})
    first, second, said = events
    assert isinstance(first, Response)
    assert isinstance(second, Response)
    assert isinstance(said, Comparison)
    assert (first.text, second.text) == ("Hello!", "What.")
    assert first.messages == ({"role": "user", "content": "Hi?"},)
    assert said.ranking == ((first.response_id,), (second.response_id,))
    assert {first.subject, second.subject, said.subject} == {first.subject}
    assert (first.adapter, first.arm, first.alias, first.time) == ("imported", "imported", "heed", 1000.0)


def test_conversations_with_one_beginning_are_read_as_a_pair() -> None:
    start = [{"role": "user", "content": "Hi?"}]
    record = {
        "chosen": [*start, {"role": "assistant", "content": "Hello!"}],
        "rejected": [*start, {"role": "assistant", "content": "What."}],
    }
    plain = only("preference", {"prompt": "Hi?", "chosen": "Hello!", "rejected": "What."})
    assert only("preference", record) == plain


def test_a_label_becomes_a_thumb() -> None:
    for label, rating in ((True, "up"), (False, "down"), (1, "up"), (0, "down")):
        response, vote = only("binary", {"prompt": "Hi?", "completion": "Hello!", "label": label})
        assert isinstance(response, Response)
        assert isinstance(vote, Vote)
        assert (vote.rating, vote.response_id) == (rating, response.response_id)


def test_a_demonstration_becomes_a_correction() -> None:
    record = {"messages": [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Hello!"}]}
    response, vote = only("sft", record)
    assert isinstance(vote, Vote)
    assert (vote.rating, vote.correction) == ("up", "Hello!")
    assert only("sft", {"prompt": "Hi?", "completion": "Hello!"}) == [response, vote]


@pytest.mark.parametrize(
    ("form", "record", "field"),
    [
        ("preference", {"prompt": "Hi?", "chosen": "a"}, "rejected"),
        ("preference", {"prompt": "Hi?", "chosen": "a", "rejected": "a"}, "rejected"),
        ("preference", {"prompt": "", "chosen": "a", "rejected": "b"}, "prompt"),
        ("preference", {"chosen": "a", "rejected": "b"}, "chosen"),
        ("binary", {"prompt": "Hi?", "completion": "a", "label": "yes"}, "label"),
        ("binary", {"prompt": "Hi?", "label": True}, "completion"),
        ("sft", {"messages": [{"role": "user", "content": "Hi?"}]}, "messages"),
        ("sft", {"messages": [{"role": "tool", "content": "x"}]}, "messages"),
        ("sft", [1], "line"),
    ],
)
def test_a_line_that_cannot_be_read_is_skipped_with_its_number_and_field(
    form: str, record: Any, field: str
) -> None:
    good = {"prompt": "Hi?", "completion": "a", "label": True, "chosen": "a", "rejected": "b"}
    found = read(form, good, record)
    assert isinstance(found[0], list)
    assert isinstance(found[1], Skipped)
    assert found[1].line == 2
    assert found[1].why.startswith(field)


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(InvalidRecord, match="preference, binary, sft, oasst"):
        read("csv", {})


def test_raters_are_told_apart_and_never_named() -> None:
    base = {"prompt": "Hi?", "completion": "a", "label": True}
    first, second, nobody = (
        only("binary", base | more)[1] for more in ({"user": "ann"}, {"user": "bob"}, {})
    )
    subjects = {event.subject for event in (first, second, nobody) if isinstance(event, Vote)}
    assert len(subjects) == 3
    assert not any("ann" in subject or "bob" in subject for subject in subjects)


def test_a_file_that_is_imported_twice_counts_once() -> None:
    log = MemoryEventLog()
    lines = [line({"prompt": f"Hi {n}?", "completion": "a", "label": True}) for n in range(450)] + [
        b"nonsense"
    ]
    first = import_lines(lines, "binary", ORIGIN, log)
    assert (first.lines, first.responses, first.votes, first.repeats) == (450, 450, 450, 0)
    assert [skipped.line for skipped in first.skipped] == [451]
    again = import_lines(lines, "binary", Origin("heed", 2000.0), log)
    assert (again.responses, again.votes, again.repeats) == (0, 0, 900)


def test_lines_are_read_from_gzip_too(tmp_path: Path) -> None:
    plain, zipped = tmp_path / "a.jsonl", tmp_path / "b.jsonl.gz"
    plain.write_bytes(b"1\n2\n")
    zipped.write_bytes(gzip.compress(b"1\n2\n"))
    assert list(lines_of(plain)) == list(lines_of(zipped)) == [b"1\n", b"2\n"]
    with pytest.raises(InvalidRecord, match="cannot be read"):
        list(lines_of(tmp_path / "none"))


def node(name: str, role: str, rank: int | None = None, *replies: Any, **more: Any) -> dict[str, Any]:
    return {
        "message_id": name,
        "role": role,
        "text": f"text of {name}",
        "rank": rank,
        "replies": list(replies),
    } | more


TREE = {
    "message_tree_id": "t",
    "tree_state": "ready_for_export",
    "prompt": node(
        "q",
        "prompter",
        None,
        node("b", "assistant", 1),
        node(
            "a",
            "assistant",
            0,
            node("q2", "prompter", None, node("c", "assistant", 0), node("d", "assistant", 0)),
        ),
        node("x", "assistant", 2, deleted=True),
        node("y", "assistant", 3, review_result=False),
        node("z", "assistant", None),
    ),
}


def test_ranked_siblings_of_a_tree_become_one_comparison_without_the_deleted() -> None:
    (events,) = tree_events([line(TREE)], ORIGIN)
    assert isinstance(events, list)
    *responses, said = events
    assert [response.text for response in responses if isinstance(response, Response)] == [
        "text of a",
        "text of b",
    ]
    assert isinstance(said, Comparison)
    assert said.ranking == tuple((r.response_id,) for r in responses if isinstance(r, Response))


def flat(tree: dict[str, Any], parent: str | None = None) -> list[dict[str, Any]]:
    """The messages of a tree, one record each."""
    replies = tree.pop("replies")
    record = tree | {"parent_id": parent, "message_tree_id": "t", "tree_state": "ready_for_export"}
    return [record] + [message for reply in replies for message in flat(reply, tree["message_id"])]


def test_a_flat_file_means_the_same_as_the_tree() -> None:
    messages = flat(json.loads(json.dumps(TREE["prompt"])))
    assert list(tree_events(map(line, messages), ORIGIN)) == list(tree_events([line(TREE)], ORIGIN))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"tree_state": "aborted_low_grade"}, "tree_state"),
        ({"prompt": node("q", "prompter", None, node("a", "assistant", 0))}, "replies"),
        ({"prompt": node("q", "robot")}, "role"),
        ({"prompt": "q"}, "prompt"),
    ],
)
def test_a_tree_that_teaches_nothing_is_skipped(change: dict[str, Any], field: str) -> None:
    (found,) = tree_events([line(TREE | change)], ORIGIN)
    assert isinstance(found, Skipped)
    assert found.why.startswith(field)
