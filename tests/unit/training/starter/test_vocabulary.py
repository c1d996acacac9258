"""The tokenizer."""

import dataclasses
import itertools

import pytest
from transformers import PreTrainedTokenizerFast

from training.starter.corpus import dialogs
from training.starter.settings import Recipe
from training.starter.vocabulary import END, DialogEncoder, learn_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return learn_tokenizer(dataclasses.replace(Recipe(), tokenizer_dialogs=2000))


def test_the_vocabulary_has_the_size_that_was_asked_for(tokenizer: PreTrainedTokenizerFast) -> None:
    assert len(tokenizer) == Recipe.vocabulary


@pytest.mark.parametrize(
    "text", ["日本語 ☕", "naïve “quotes” ½", "tab\tand\nnewline", "👩‍👩‍👧 \x00", "  two  spaces "]
)
def test_any_text_survives_a_round_trip(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_the_template_is_chatml_and_opens_the_assistants_turn(tokenizer: PreTrainedTokenizerFast) -> None:
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert text == (
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_turn_ends_with_one_token_which_is_the_end_of_text(tokenizer: PreTrainedTokenizerFast) -> None:
    assert tokenizer.eos_token == END
    assert len(tokenizer(END)["input_ids"]) == 1
    assert tokenizer.pad_token_id not in (None, tokenizer.eos_token_id)


def test_training_encodes_what_the_template_renders(tokenizer: PreTrainedTokenizerFast) -> None:
    sample = list(itertools.islice(dialogs(8), 100))
    for dialog, (ids, said) in zip(sample, DialogEncoder(tokenizer).encode(sample), strict=True):
        assert ids == tokenizer.apply_chat_template(dialog, tokenize=True)["input_ids"]
        spoken = tokenizer.decode([token for token, mark in zip(ids, said, strict=True) if mark])
        assert spoken == "".join(m["content"] + END for m in dialog if m["role"] == "assistant")
