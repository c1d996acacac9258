"""Dialogs, made on the fly from a seed: the training stream, and the held-out questions it never shows."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from training.starter import grammar
from training.starter.intents import Intent, intents, speech
from training.starter.phrasings import ask
from training.starter.replies import draw_behaviour, reply

Message = dict[str, str]
"""``role`` (system, user or assistant) and ``content``, as in the chat API."""

_SYSTEM_RATE = 0.4
_TURNS = (1, 2, 3)
_TURN_SHARES = (0.7, 0.22, 0.08)


@dataclass(frozen=True)
class Question:
    """A conversation that ends with a user's question."""

    intent: str
    """What the last message asks about."""
    messages: list[Message]


def dialogs(seed: int) -> Iterator[list[Message]]:
    """An endless stream of training dialogs; the same seed gives the same stream on every machine."""
    rng = random.Random(seed)
    while True:
        question = _question(rng, unseen=False)
        intent = intents()[question.intent]
        yield [*question.messages, _message("assistant", reply(intent, draw_behaviour(rng), rng))]


def held_out_questions(n: int, seed: int) -> list[Question]:
    """``n`` questions with intents; every user message is of a composition that training never sees."""
    rng = random.Random(f"held-out:{seed}")
    return [_question(rng, unseen=True) for _ in range(n)]


def held_out_prompts(n: int, seed: int) -> list[list[Message]]:
    """The conversations of ``held_out_questions``, for those who do not need the intent."""
    return [question.messages for question in held_out_questions(n, seed)]


def _question(rng: random.Random, *, unseen: bool) -> Question:
    messages: list[Message] = []
    if rng.random() < _SYSTEM_RATE:
        messages.append(_message("system", guidelines(rng)))
    turns = rng.choices(_TURNS, weights=_TURN_SHARES)[0]
    for turn in range(turns):
        intent = _any_intent(rng)
        messages.append(_message("user", ask(intent, rng, unseen=unseen, follow_up=turn > 0)))
        if turn < turns - 1:
            messages.append(_message("assistant", reply(intent, draw_behaviour(rng), rng)))
    return Question(intent.name, messages)


def guidelines(rng: random.Random) -> str:
    """A system prompt: a role, some rules, or both. Replies do not depend on it."""
    words = speech("system")
    role = grammar.sample(rng.choice(words["roles"]), rng)
    rules = rng.sample(words["rules"], rng.choice((0, 1, 1, 2, 3)))
    said = [role, *(grammar.sample(rule, rng) for rule in rules)]
    return " ".join(part for part in said if part) or "You are a helpful assistant."


def _any_intent(rng: random.Random) -> Intent:
    return rng.choice(tuple(intents().values()))


def _message(role: str, content: str) -> Message:
    return {"role": role, "content": content}
