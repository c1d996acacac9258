"""Words and sentences of a text, in whatever script it is written.

Most scripts part words by spaces. Chinese, Japanese, Thai, Lao, Khmer and Burmese do not: there each letter counts as
a word, and neighbours stand for what only a dictionary would find, as in full-text search (the bigrams of Lucene's
CJKAnalyzer). Marks that mean what one of ASCII means are read as that one.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import regex

_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_LETTER = rf"[{_UNSPACED}]\p{{M}}*"
_ALIKE = str.maketrans("。｡．।۔！？؟，、､،；؛：’", ".....!??,,,,;;:'")


def _pattern(text: str) -> regex.Pattern[str]:
    return regex.compile(text, regex.V1)  # V1: classes may be subtracted


def _spaced(letters: str) -> str:
    """A word of such letters in a script with spaces; marks are within words and begin none."""
    return rf"[[{letters}]--[{_UNSPACED}\p{{M}}]][[{letters}\p{{M}}]--[{_UNSPACED}]]*"


_ONE_LETTER = _pattern(_LETTER)
_DENSE = _pattern(rf"[{_UNSPACED}\p{{Hangul}}]")
_TOKEN = _pattern("|".join((_LETTER, _spaced(r"\w'"), r"[^\w\s\p{M}]")))
_COUNTED = _pattern(rf"{_LETTER}[^\w\s]*|[^\s{_UNSPACED}]+")
_WORD = _pattern(rf"(?:{_LETTER})+|" + _spaced(r"\w"))
_LETTERS = _pattern(rf"(?:{_LETTER})+|" + _spaced(r"\p{L}"))
_SENTENCE_END = _pattern(r"[.!?\n]+")


def plain(text: str) -> str:
    """The text with marks of other scripts as ASCII's; as long as before."""
    return text.translate(_ALIKE)


def tokens(text: str) -> list[str]:
    """Words and marks, one by one."""
    return list(_TOKEN.findall(text))


def counted(text: str) -> list[str]:
    """What counts as words: what stands between spaces, and each letter where there are none."""
    return list(_COUNTED.findall(text))


def words(text: str) -> list[str]:
    """Words without marks; neighbouring letters in pairs where no spaces part words."""
    return list(_paired(_WORD.findall(text)))


def letters(text: str) -> list[str]:
    """As ``words``, of letters alone: figures part them."""
    return list(_paired(_LETTERS.findall(text)))


def is_dense(word: str) -> bool:
    """Whether its letters say more than a sound each: Hangul's, and those of scripts without spaces."""
    return not word.isascii() and _DENSE.match(word) is not None


def sentences(text: str) -> list[str]:
    """Its sentences without what ends them, and its lines; none of a text without a letter."""
    return [part for part in _SENTENCE_END.split(plain(text)) if part.strip()]


def _paired(runs: list[str]) -> Iterator[str]:
    for run in runs:
        one_by_one = () if run.isascii() else _ONE_LETTER.findall(run)
        if len(one_by_one) > 1:
            yield from map("".join, pairwise(one_by_one))
        else:
            yield run
