"""Open-Assistant's exported message trees, read and judged message by message.

A file holds one tree a line (``prompt`` is the root), or one message a line with its ``message_tree_id``; any
field but ids, text and role may be absent or null. What each field does here:

========================================  ==============================================================
``message_id``, ``parent_id``             which message follows which
``role``, ``text``                        the conversation: ``prompter`` is the user
``tree_state``                            a tree that was aborted or halted is left out, any other is read
``deleted``, ``review_result``            a deleted message and one that failed review (``false``) are left out, and
                                          what follows them
``rank``                                  among the assistant's replies to one message: 0 is best, equal is a tie
``labels``                                scores of the assistant's replies by criterion (see ``oasst_events.py``)
``emojis``, ``detoxify``, ``events``      not read: counts of nobody known, a program's scores, a site's own log
``user_id``, ``created_date``, ``lang``,  not read: ``user_id`` wrote the message and ranked none
``review_count``, ``synthetic``, ``model_name``
========================================  ==============================================================
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from deploy.imports import Skipped, parsed
from feedback.errors import InvalidRecord

ENDED = ("aborted_low_grade", "halted_by_moderator")
ROLES = {"prompter": "user", "assistant": "assistant"}


@dataclass(slots=True)
class Node:
    """One message of a tree, and those that follow it."""

    line: int
    message_id: str
    parent_id: str | None
    role: str  # "user" or "assistant"
    text: str
    rank: int | None
    labels: dict[str, float]
    fault: str | None  # why it does not count; None: it does
    replies: list[Node] = field(default_factory=list)


@dataclass(slots=True)
class Tree:
    """A tree that counts."""

    line: int
    root: Node


def trees(lines: Iterable[bytes]) -> Iterator[Tree | Skipped]:
    """Every tree of the file, and what of it is left out and why: lines, whole trees, and single messages.
    A flat file is held in memory until its end, since the messages of a tree may stand anywhere in it.
    """
    flat: dict[str, dict[str, Node]] = {}
    ended: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = parsed(line)
            if "prompt" in record:
                yield from _whole(record, number)
            else:
                yield from _kept(record, number, flat, ended)
        except InvalidRecord as error:
            yield Skipped(number, str(error))
    for name, messages in flat.items():
        yield from _grown(messages, ended.get(name))


def _whole(record: Mapping[str, Any], line: int) -> Iterator[Tree | Skipped]:
    """A tree that stands in one line. Raises InvalidRecord when it is none."""
    _check_state(record.get("tree_state"))
    if not isinstance(record["prompt"], dict):
        raise InvalidRecord("prompt", "is not a message")
    root = _node(record["prompt"], line)
    below = [(root, record["prompt"])]
    while below:  # no recursion: a tree may be as deep as the file says
        parent, body = below.pop()
        for reply in reversed(_listed(body)):
            try:
                node = _node(reply, line)
            except InvalidRecord as error:
                yield Skipped(line, f"a reply to {parent.message_id}: {error}")
                continue
            parent.replies.insert(0, node)
            below.append((node, reply))
    yield from _counted(root)


def _kept(
    record: Mapping[str, Any], line: int, flat: dict[str, dict[str, Node]], ended: dict[str, str]
) -> Iterator[Skipped]:
    """Put a message of a flat file to its tree. Raises InvalidRecord when it cannot be read."""
    name, node = _text(record, "message_tree_id"), _node(record, line)
    state = record.get("tree_state")
    if state in ENDED:
        ended[name] = state
    messages = flat.setdefault(name, {})
    if node.message_id in messages:
        yield Skipped(line, f"message {node.message_id}: stood in line {messages[node.message_id].line}")
    else:
        messages[node.message_id] = node


def _grown(messages: Mapping[str, Node], ended: str | None) -> Iterator[Tree | Skipped]:
    """The tree of the messages of a flat file."""
    first = next(iter(messages.values()))
    if ended is not None:
        yield Skipped(first.line, f"tree_state: is {ended}")
        return
    roots = [node for node in messages.values() if not node.parent_id]
    if not roots:
        yield Skipped(first.line, "parent_id: no message of the tree is its root")
        return
    for extra in roots[1:]:
        yield Skipped(extra.line, f"message {extra.message_id}: is a second root of its tree")
    for node in messages.values():
        parent = messages.get(node.parent_id or "")
        if parent is not None:
            parent.replies.append(node)
        elif node.parent_id:
            yield Skipped(
                node.line, f"message {node.message_id}: follows {node.parent_id}, which is not there"
            )
    yield from _counted(roots[0])


def _counted(root: Node) -> Iterator[Tree | Skipped]:
    """The tree without the messages that do not count, and those."""
    if root.fault is not None:
        yield Skipped(root.line, f"message {root.message_id}: {root.fault}, and so is all its tree")
        return
    below = [root]
    while below:
        node = below.pop()
        for reply in node.replies:
            if reply.fault is not None:
                yield Skipped(reply.line, f"message {reply.message_id}: {reply.fault}")
        node.replies = [reply for reply in node.replies if reply.fault is None]
        below += node.replies
    yield Tree(root.line, root)


def _node(record: Any, line: int) -> Node:
    """One message. Raises InvalidRecord for one without id, text or role."""
    if not isinstance(record, dict):
        raise InvalidRecord("replies", "holds something that is no message")
    role = _text(record, "role")
    if role not in ROLES:
        raise InvalidRecord("role", f"is {role!r}, not prompter or assistant")
    rank, parent = record.get("rank"), record.get("parent_id")
    return Node(
        line,
        _text(record, "message_id"),
        parent if isinstance(parent, str) and parent else None,
        ROLES[role],
        _text(record, "text"),
        rank if type(rank) is int else None,
        _labels(record.get("labels")),
        _fault(record),
    )


def _fault(record: Mapping[str, Any]) -> str | None:
    if record.get("deleted"):
        return "is deleted"
    return "failed its review" if record.get("review_result") is False else None


def _labels(told: Any) -> dict[str, float]:
    """Name → mean score in [0, 1], of those that anybody gave. What is no such score is passed over."""
    found: dict[str, float] = {}
    for name, label in told.items() if isinstance(told, dict) else ():
        value: Any = label.get("value") if isinstance(label, dict) else None
        if type(value) in (int, float) and 0 <= value <= 1 and label.get("count") != 0:
            found[name] = float(value)
    return found


def _listed(record: Mapping[str, Any]) -> list[Any]:
    """The replies of a message of a tree. Raises InvalidRecord when they are no list."""
    replies = record.get("replies")
    if replies is None:
        return []
    if not isinstance(replies, list):
        raise InvalidRecord("replies", "is not a list")
    return replies


def _check_state(state: Any) -> None:
    if state in ENDED:
        raise InvalidRecord("tree_state", f"is {state}")


def _text(record: Mapping[str, Any], name: str) -> str:
    """A text that must be there. Raises InvalidRecord."""
    value = record.get(name)
    if not isinstance(value, str) or not value.strip():
        raise InvalidRecord(name, "is missing")
    return value
