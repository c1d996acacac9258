"""Open-Assistant's exported message trees as comparisons: sibling replies by their ranks.

A file holds one tree a line (``prompt`` is the root), or one message a line with its ``message_tree_id``;
gzip is understood. Deleted messages, failed reviews and trees that were aborted or halted do not count.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from deploy.imports import Origin, Skipped, parsed, ranked
from feedback.errors import InvalidRecord
from feedback.events import Event, Message

ENDED = ("aborted_low_grade", "halted_by_moderator")
ROLES = {"prompter": "user", "assistant": "assistant"}


def tree_events(lines: Iterable[bytes], origin: Origin) -> Iterator[list[Event] | Skipped]:
    """The comparisons of every tree, or why a line was skipped."""
    flat: defaultdict[str, list[tuple[int, dict[str, Any]]]] = defaultdict(list)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = parsed(line)
            if "prompt" in record:
                yield tree(record, origin)
            else:
                flat[required(record, "message_tree_id")].append((number, record))
        except InvalidRecord as error:
            yield Skipped(number, str(error))
    for messages in flat.values():
        try:
            yield tree(grown(messages), origin)
        except InvalidRecord as error:
            yield Skipped(messages[0][0], str(error))


def grown(messages: list[tuple[int, dict[str, Any]]]) -> dict[str, Any]:
    """A tree from its messages. Raises InvalidRecord when it has no root."""
    nodes = {required(record, "message_id"): {**record, "replies": []} for _, record in messages}
    root = None
    for node in nodes.values():
        parent = nodes.get(node.get("parent_id") or "")
        if parent is not None:
            parent["replies"].append(node)
        elif not node.get("parent_id"):
            root = node
    if root is None:
        raise InvalidRecord("parent_id", "no message of the tree is its root")
    return {"prompt": root, "tree_state": root.get("tree_state")}


def tree(record: Mapping[str, Any], origin: Origin) -> list[Event]:
    """All comparisons in one tree. Raises InvalidRecord when it teaches nothing."""
    state = record.get("tree_state")
    if state in ENDED:
        raise InvalidRecord("tree_state", f"is {state}")
    root = record.get("prompt")
    if not isinstance(root, dict):
        raise InvalidRecord("prompt", "is not a message")
    events = list(walked(root, (), origin))
    if not events:
        raise InvalidRecord("replies", "no two replies to one prompt have different ranks")
    return events


def walked(node: Mapping[str, Any], before: tuple[Message, ...], origin: Origin) -> Iterator[Event]:
    """The comparisons under ``node``, which stands after the messages ``before``."""
    if not counts(node):
        return
    here = (*before, {"role": ROLES[required(node, "role")], "content": required(node, "text")})
    replies = [reply for reply in node.get("replies") or () if isinstance(reply, dict) and counts(reply)]
    if node["role"] == "prompter":
        groups = by_rank(replies)
        if len(groups) > 1:
            yield from ranked(here, groups, None, origin)
    for reply in replies:
        yield from walked(reply, here, origin)


def by_rank(replies: Iterable[Mapping[str, Any]]) -> list[list[str]]:
    """Texts of the assistant's replies in groups of one rank, best first; those without a rank left out."""
    groups: defaultdict[int, list[str]] = defaultdict(list)
    for reply in replies:
        if reply.get("role") == "assistant" and isinstance(reply.get("rank"), int):
            groups[reply["rank"]].append(required(reply, "text"))
    return [groups[rank] for rank in sorted(groups)]


def counts(node: Mapping[str, Any]) -> bool:
    """Whether a message was neither deleted nor failed in review."""
    return not node.get("deleted") and node.get("review_result") is not False


def required(node: Mapping[str, Any], field: str) -> str:
    """A text that must be there. Raises InvalidRecord."""
    value = node.get(field)
    if not isinstance(value, str) or not value.strip():
        raise InvalidRecord(field, "is missing")
    if field == "role" and value not in ROLES:
        raise InvalidRecord("role", f"is {value!r}, not prompter or assistant")
    return value
