"""Open-Assistant's message trees as events: ranked siblings as comparisons, scores of replies as labels.

=====================================================================  =============================
Open-Assistant's label                                                 criterion
=====================================================================  =============================
``helpfulness``                                                        ``helpful``
``quality``                                                            ``quality``
``toxicity violence hate_speech sexual_content not_appropriate pii``   ``harmless``: 1 − the highest
``humor creativity spam lang_mismatch``                                none: a reply need not be funny, and the
                                                                       last two are about the message's language
                                                                       and purpose, which review decides
=====================================================================  =============================
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from deploy.imports import Origin, Skipped, digest, ranked, response, subject
from deploy.oasst import Node, Tree, trees
from feedback.events import Event, Label, Message, Response

SAME = {"helpfulness": "helpful", "quality": "quality"}
HARMS = frozenset({"toxicity", "violence", "hate_speech", "sexual_content", "not_appropriate", "pii"})


def tree_events(lines: Iterable[bytes], origin: Origin) -> Iterator[list[Event] | Skipped]:
    """What every tree says, each event once, or why it was skipped."""
    for found in trees(lines):
        if isinstance(found, Skipped):
            yield found
            continue
        events = {event.event_id: event for event in _walked(found, origin)}
        if events:
            yield list(events.values())
        else:
            yield Skipped(found.line, "replies: none are ranked among others, and none has labels")


def _walked(tree: Tree, origin: Origin) -> Iterator[Event]:
    """The events of a tree, from its root downwards, replies in the order of the file."""
    below: list[tuple[Node, tuple[Message, ...]]] = [(tree.root, ())]
    while below:
        node, before = below.pop()
        here = (*before, {"role": node.role, "content": node.text})
        replies = [reply for reply in node.replies if reply.role == "assistant"]
        if node.role == "user":
            groups = by_rank(replies)
            if sum(map(len, groups)) > 1:
                yield from ranked(here, groups, None, origin)
            for reply in replies:
                yield from _labelled(here, reply, origin)
        below += [(reply, here) for reply in reversed(node.replies) if reply.replies]


def by_rank(replies: Iterable[Node]) -> list[list[str]]:
    """Texts in groups of one rank, best first; those without a rank left out, the same text once, at its best."""
    groups: defaultdict[int, list[str]] = defaultdict(list)
    said: set[str] = set()
    for reply in sorted((one for one in replies if one.rank is not None), key=lambda one: one.rank or 0):
        if reply.text not in said:
            said.add(reply.text)
            groups[reply.rank or 0].append(reply.text)
    return [groups[rank] for rank in sorted(groups)]


def criteria_of(labels: dict[str, float]) -> dict[str, float]:
    """Open-Assistant's labels as scores by criterion, see above."""
    scores = {SAME[name]: value for name, value in sorted(labels.items()) if name in SAME}
    harms = [value for name, value in labels.items() if name in HARMS]
    return {**scores, "harmless": 1 - max(harms)} if harms else scores


def _labelled(prompt: tuple[Message, ...], reply: Node, origin: Origin) -> Iterator[Response | Label]:
    scores = criteria_of(reply.labels)
    if not scores:
        return
    on = response(prompt, reply.text, None, origin)
    yield on
    key = digest(on.response_id, sorted(scores.items()))
    yield Label(
        event_id=f"ev-import-{key}",
        feedback_id=f"fb-import-label-{digest(on.response_id)}",
        response_id=on.response_id,
        time=origin.now,
        subject=subject(prompt, None),
        labels=scores,
        alias=origin.alias,
    )
