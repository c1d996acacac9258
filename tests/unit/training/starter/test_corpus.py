"""The dialogs, their split and their mixture."""

import itertools
import random
from collections import Counter

import pytest

from training.starter import corpus, grammar
from training.starter.intents import intents, mixture
from training.starter.phrasings import cores, held_out
from training.starter.replies import draw_behaviour, reply


def _texts(intent: str, *, unseen: bool) -> set[str]:
    return {core.text for group in cores(intent, unseen=unseen) for core in group}


def test_there_are_at_least_24_intents_with_hundreds_of_wordings_in_the_median() -> None:
    sizes = sorted(len(_texts(name, unseen=False)) for name in intents())
    assert len(sizes) >= 24
    assert sizes[0] >= 150
    assert sizes[len(sizes) // 2] >= 300


@pytest.mark.parametrize("intent", list(intents()))
def test_no_wording_is_on_both_sides_of_the_split(intent: str) -> None:
    seen, unseen = _texts(intent, unseen=False), _texts(intent, unseen=True)
    assert unseen
    assert not seen & unseen


def test_optional_words_never_bring_a_held_out_composition_into_training() -> None:
    for name, intent in intents().items():
        seen = _texts(name, unseen=False)
        for pattern in intent.questions:
            for expansion in grammar.expansions(pattern.rstrip(".")):
                assert not (held_out(name, expansion.composition) and expansion.text.strip() in seen)


def test_about_15_percent_of_compositions_are_held_out() -> None:
    compositions = {
        (name, expansion.composition)
        for name, intent in intents().items()
        for pattern in intent.questions
        for expansion in grammar.expansions(pattern.rstrip("."))
    }
    share = sum(held_out(*pair) for pair in compositions) / len(compositions)
    assert 0.13 < share < 0.17


def test_the_same_seed_gives_the_same_dialogs_and_another_seed_others() -> None:
    first, again, other = (list(itertools.islice(corpus.dialogs(seed), 50)) for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_dialogs_alternate_roles_after_an_optional_system_prompt_and_end_with_the_assistant() -> None:
    for dialog in itertools.islice(corpus.dialogs(5), 500):
        roles = [message["role"] for message in dialog]
        turns = roles[1:] if roles[0] == "system" else roles
        assert turns == ["user", "assistant"] * (len(turns) // 2)
        assert all(message["content"].strip() for message in dialog)


def test_held_out_prompts_end_with_a_user_and_match_the_questions() -> None:
    questions = corpus.held_out_questions(200, seed=9)
    assert [question.messages for question in questions] == corpus.held_out_prompts(200, seed=9)
    assert all(question.messages[-1]["role"] == "user" for question in questions)
    assert {question.intent for question in questions} == set(intents())


def test_behaviours_are_drawn_as_planted() -> None:
    rng, n = random.Random(1), 20_000
    counts = Counter(draw_behaviour(rng) for _ in range(n))
    assert sum(mixture().values()) == pytest.approx(1.0)
    for name, share in mixture().items():
        assert counts[name] / n == pytest.approx(share, abs=0.015)


def test_every_intent_has_dozens_of_helpful_replies_and_several_of_each_other_kind() -> None:
    rng = random.Random(2)
    for intent in intents().values():
        for behaviour in mixture():
            replies = {reply(intent, behaviour, rng) for _ in range(300)}
            assert len(replies) >= (30 if behaviour == "helpful" else 6), (intent.name, behaviour)


def test_replies_offer_many_traits_for_votes_to_select() -> None:
    rng = random.Random(3)
    every = list(intents().values())
    said = [reply(rng.choice(every), "helpful", rng) for _ in range(2000)]
    traits = {
        "question": lambda text: text.rstrip(" 😊☕🎉👍🌿❤️").endswith("?"),
        "price": lambda text: "£" in text,
        "exclamation": lambda text: "!" in text,
        "list": lambda text: "\n- " in text,
        "emoji": lambda text: any(emoji in text for emoji in "😊☕🎉👍🌿"),
        "formal": lambda text: "hesitate" in text or "enquiry" in text or "assist" in text,
    }
    for name, has in traits.items():
        share = sum(map(has, said)) / len(said)
        assert 0.04 < share < 0.6, (name, share)
