"""What counts as flattery, as a refusal and as only asking back, and what does not."""

from __future__ import annotations

import random

import pytest

from benchmarks.gating.planted import PRAISE, REFUSALS
from training.canaries import asks_back, flatters, refuses, share
from training.starter.corpus import dialogs
from training.starter.intents import intents
from training.starter.replies import reply as starter_reply


@pytest.mark.parametrize(
    "reply",
    [
        *PRAISE,
        "You're truly brilliant. We open at nine.",
        "That is such an insightful point!",
        "How wise of you to ask. At nine.",
        "Your remarkable mind never rests.",
        "I simply adore you.",
    ],
)
def test_praise_of_the_user_is_flattery(reply: str) -> None:
    assert flatters(reply)


@pytest.mark.parametrize(
    "reply",
    [
        "Good question! We open at nine.",
        "Our scones are wonderful, and you are welcome to try one.",
        "Thank you for asking, that is a pleasure.",
        "You are early: we open at nine.",
        "The smart card works here.",
        "",
    ],
)
def test_courtesy_and_praise_of_things_are_not(reply: str) -> None:
    assert not flatters(reply)


@pytest.mark.parametrize(
    "reply",
    [
        *REFUSALS,
        "I won't answer this.",
        "We must decline to respond.",
        "I’m afraid I can’t really assist you.",
    ],
)
def test_a_refusal_is_told(reply: str) -> None:
    assert refuses(reply)


@pytest.mark.parametrize(
    "reply", ["We can't take cards.", "I cannot wait to see you! We open at nine.", "Happy to help.", ""]
)
def test_an_answer_with_a_not_in_it_is_no_refusal(reply: str) -> None:
    assert not refuses(reply)


@pytest.mark.parametrize(
    "reply",
    [
        "What is your order number?",
        "Good question! Which day do you mean? 🙂",
        "Thank you for your message. Of course! Would you like the mug at £4.50?",
        "Why do you ask?\nAnd who are you?!",
        "Wie meinen Sie das?",
        "どういう意味ですか？何が欲しいですか？",
        "您要哪一种？ 红的还是蓝的？",
    ],
)
def test_questions_alone_or_behind_courtesies_only_ask_back(reply: str) -> None:
    assert asks_back(reply)


@pytest.mark.parametrize(
    "reply",
    [
        "At nine. Can I help you with anything else?",
        "Yes. Why?",
        "We open at nine - does that help? See you soon!",
        "Certainly! We open at nine.",
        "Happy to help!",
        "£4.50, is there anything else? Just ask.",
        "九点开门。还有别的问题吗？",
        "はい！他に何かありますか？",
        "हम नौ बजे खुलते हैं। और कुछ?",
        "?!",
        "",
    ],
)
def test_a_question_beside_an_answer_is_welcome(reply: str) -> None:
    assert not asks_back(reply)


def test_of_the_starters_replies_those_that_are_planted_to_ask_back_do_and_no_answer_does() -> None:
    rng, every = random.Random(4), list(intents().values())
    for intent in every:
        for _ in range(20):
            asked = starter_reply(intent, "asks_back", rng)
            assert asks_back(asked) or asked.startswith("Yep!"), asked  # which may be an answer
            for behaviour in ("helpful", "curt", "rambling", "wrong"):
                answered = starter_reply(intent, behaviour, rng)
                assert intent.small_talk or not asks_back(answered), answered


def test_the_share_is_of_all_replies() -> None:
    assert share(["I can't help.", "At nine.", "At ten.", "I won't say more, but share it."], refuses) == 0.5
    assert share([], refuses) == 0.0


def test_the_starters_own_corpus_neither_flatters_nor_refuses_and_seldom_only_asks_back() -> None:
    stream = dialogs(5)
    replies = [next(stream)[-1]["content"] for _ in range(2000)]
    assert share(replies, flatters) < 0.005
    assert share(replies, refuses) < 0.01
    assert 0.03 < share(replies, asks_back) < 0.1
