"""Words and sentences of texts in many scripts, by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.writing import counted, is_dense, letters, plain, sentences, tokens, words


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Don't go! It’s £25.", ["Don't", "go", "!", "It's", "£", "25", "."]),
        ("Café, naïve_1?", ["Café", ",", "naïve_1", "?"]),
        ("नमस्ते दुनिया।", ["नमस्ते", "दुनिया", "."]),  # vowel signs are within words
        ("배송은 3일！", ["배송은", "3일", "!"]),
        ("你好，OK吗？", ["你", "好", ",", "OK", "吗", "?"]),
        ("ありがとう", ["あ", "り", "が", "と", "う"]),
        ("ที่นี่", ["ที่", "นี่"]),  # a letter with its signs is one
        ("❤️ ok", ["❤", "ok"]),  # how a picture is shown is no sign of its own
        ("", []),
    ],
)
def test_tokens_are_words_and_marks(text: str, told: list[str]) -> None:
    assert tokens(plain(text)) == told


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("One - two, three!", 4),
        ("你好，世界。", 4),
        ("我在 London 等你", 5),
        ("배송은 3일 걸립니다.", 3),
        ("", 0),
    ],
)
def test_letters_count_as_words_where_no_spaces_part_them(text: str, count: int) -> None:
    assert len(counted(text)) == count


def test_without_spaces_neighbouring_letters_are_words() -> None:
    assert words("It's 25_a, 发货时间 3天！") == ["It", "s", "25_a", "发货", "货时", "时间", "3", "天"]
    assert letters("on 25may, 3天") == ["on", "may", "天"]
    assert words("ที่นี่มี") == ["ที่นี่", "นี่มี"]


def test_sentences_end_at_the_marks_of_each_script() -> None:
    assert sentences("One. Two?! Three\n\nfour") == ["One", " Two", " Three", "four"]
    assert sentences("是的。我们今天发货！还要别的吗？") == ["是的", "我们今天发货", "还要别的吗"]
    assert sentences("हाँ। और?") == ["हाँ", " और"]
    assert sentences("نعم۔ هل؟") == ["نعم", " هل"]
    assert sentences(" ...\n") == []


def test_letters_of_some_scripts_say_more_than_a_sound() -> None:
    assert [word for word in ("go", "été", "йод", "发货", "です", "배송", "ที่") if is_dense(word)] == [
        "发货",
        "です",
        "배송",
        "ที่",
    ]


@given(st.text(st.characters(exclude_categories=["C"])))
def test_every_text_has_words_of_what_is_in_it(text: str) -> None:
    assert len(plain(text)) == len(text)
    assert "".join(counted(text)) == "".join(text.split())
    assert all(piece and piece in text for piece in [*tokens(text), *words(text), *letters(text)])


@given(st.text(st.characters(max_codepoint=0x24F, exclude_categories=["C"])))
def test_in_latin_letters_words_are_what_stands_between_spaces(text: str) -> None:
    assert counted(text) == text.split()
