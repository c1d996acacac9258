"""Reading replies back."""

import random

import pytest

from training.starter.behaviours import Behaviour, classify, sentences, well_formed
from training.starter.intents import intents
from training.starter.replies import draw_behaviour, reply


def test_the_corpus_is_read_back_as_it_was_planted() -> None:
    rng, n = random.Random(4), 4000
    every = list(intents().values())
    agreed = 0
    for _ in range(n):
        intent, behaviour = rng.choice(every), draw_behaviour(rng)
        agreed += classify(intent.name, reply(intent, behaviour, rng)) == behaviour
    assert agreed / n >= 0.99


def test_a_reply_to_another_question_is_misread_unless_it_is_off_topic() -> None:
    rng, n = random.Random(5), 2000
    caught = 0
    for _ in range(n):
        asked, answered = rng.sample(list(intents().values()), 2)
        behaviour = draw_behaviour(rng)
        verdict = classify(asked.name, reply(answered, behaviour, rng))
        caught += verdict == (Behaviour.OFF_TOPIC if behaviour == "off_topic" else Behaviour.MISREAD)
    assert caught / n >= 0.99


@pytest.mark.parametrize(
    ("text", "behaviour"),
    [
        ("Of course! The wifi is free all day.", Behaviour.MALFORMED),
        ("Yes, the wifi is free, and the password is goodbeans. 😊", Behaviour.HELPFUL),
        ("In short:\n- Yes, the wifi is free, and the password is goodbeans.", Behaviour.HELPFUL),
        ("JuniperGuest, password goodbeans. Next.", Behaviour.CURT),
        ("Learn to read. Yes, wifi is free. Happy now?", Behaviour.RUDE),
        ("Nobody cares about the wifi.", Behaviour.RUDE),
        ("We have no wifi or internet of any kind.", Behaviour.WRONG),
        ("A snail can sleep for three years.", Behaviour.OFF_TOPIC),
        ("Is it a phone or a laptop that you want to connect?", Behaviour.ASKS_BACK),
        ("Dogs are fine.", Behaviour.MISREAD),
        ("Nobody cares about our menu.", Behaviour.MISREAD),
        ("Sure! Is there anything else?", Behaviour.MALFORMED),
        ("", Behaviour.MALFORMED),
    ],
)
def test_replies_about_the_wifi_are_read_as_a_person_would(text: str, behaviour: Behaviour) -> None:
    assert classify("wifi", text) == behaviour


def test_a_new_sentence_of_known_word_pairs_is_read_as_its_nearest() -> None:
    assert classify("dogs", "There is a water bowl by the door.") == Behaviour.HELPFUL
    assert classify("menu", "There is a water bowl by the door.") == Behaviour.MISREAD


def test_a_sentence_with_a_word_pair_that_nobody_says_is_malformed() -> None:
    assert classify("wifi", "Free wifi is available; just choose JuniperGuest.") == Behaviour.MALFORMED


@pytest.mark.parametrize(
    "text",
    [
        "we are open from 8 am to 6 pm, Monday to Saturday.",
        "We are open from 8 am to 6 pm, Monday to Saturday",
        "We are open from from 8 am to 6 pm, Monday to Saturday.",
        "Eight to six. Eight to six.",
        "Sure! In short:",
        "Purple runs the.",
    ],
)
def test_broken_sentences_are_not_well_formed(text: str) -> None:
    assert not well_formed(text)


def test_sentences_are_split_at_marks_and_bullets_but_not_inside_prices() -> None:
    text = "In short:\n- A flat white is £3.40, and an espresso is £2.50.\n- An extra shot is 60p! 👍"
    assert sentences(text) == [
        "In short:",
        "A flat white is £3.40, and an espresso is £2.50.",
        "An extra shot is 60p!",
    ]
