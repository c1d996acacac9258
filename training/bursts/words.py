"""``word``: accounts vote replies with one word up and replies without it down.

A topic that goes round makes many votes on replies with its words, too, but the same people vote on other replies
as everyone does. So of all subjects that voted a reply with the word up within some days, the thumbs on replies
*without* it are taken: d of n down, P(X ≥ d), X ~ Binomial(n, p̄), p̄ the share of downs on the same adapters. A
comparison counts when one side alone has the word, with ½. The word's own thumbs must be up for the most part.
Subjects with many thumbs in the window are left out: they hide nobody. Corrected by Bonferroni for the words and
windows that have enough of all this to be looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy import stats

from training.bursts.sayings import Burst, Flags, Floats, Ints, Sayings, hours
from training.writing import words as words_of

WINDOWS = (86400.0, 2 * 86400.0, 4 * 86400.0)  # seconds; each is moved by half
SUBJECTS = 6
UPS = 0.85  # share of the word's own thumbs
CONTRAST = 10  # thumbs without the word, and comparisons, at least
BUSY = 15  # thumbs in the window, beyond which a subject has a life besides the word
LEVEL = 1e-4


class _Pairs(NamedTuple):
    """One row a saying and word in it: 1 with it, -1 a comparison that the word lost."""

    row: Ints
    word: Ints
    way: Ints


def words(sayings: Sayings) -> Iterator[Burst]:
    """The most telling window of each word that tells enough."""
    vocabulary, pairs = _pairs(sayings)
    if not vocabulary or len(sayings) < CONTRAST:
        return
    odds = sayings.up_odds(np.ones(len(sayings), dtype=bool))
    begin, end = float(sayings.time[0]), float(sayings.time[-1])
    best: dict[int, tuple[float, float, float]] = {}
    tests = 0
    for window in WINDOWS:
        for start in map(float, np.arange(begin, max(begin + 1, end), window / 2)):
            inside = (sayings.time >= start) & (sayings.time < start + window)
            chance = _chances(sayings, pairs, inside, odds, len(vocabulary))
            tests += int((chance < 1).sum())
            for word in map(int, np.flatnonzero(chance < LEVEL)):
                best[word] = min(best.get(word, (1.0, 0.0, 0.0)), (float(chance[word]), start, window))
    for word, (_, start, window) in sorted(item for item in best.items() if item[1][0] * tests < LEVEL):
        yield from _burst(sayings, pairs, word, vocabulary[word], start, window)


def _pairs(sayings: Sayings) -> tuple[list[str], _Pairs]:
    found: dict[str, int] = {}
    of = [
        np.array(sorted({found.setdefault(w, len(found)) for w in words_of(text.casefold())}), dtype=np.int64)
        for text in sayings.texts
    ]
    sizes = np.array([len(one) for one in of], dtype=np.int64)
    every = np.concatenate(of) if of else np.zeros(0, dtype=np.int64)
    starts = np.cumsum(sizes) - sizes

    def spread(rows: Ints, texts: Ints) -> Ints:
        """Row and word of each word of these texts, as one number."""
        n = sizes[texts]
        place = np.arange(n.sum()) - np.repeat(np.cumsum(n) - n, n) + np.repeat(starts[texts], n)
        keys: Ints = np.repeat(rows, n) * width + every[place]
        return keys

    width = max(1, len(found))
    thumbs, compared = np.flatnonzero(sayings.sign), np.flatnonzero((sayings.sign == 0) & (sayings.side != 0))
    mine, other = (spread(compared, texts[compared]) for texts in (sayings.text, sayings.other))
    said = [spread(thumbs, sayings.text[thumbs]), np.setdiff1d(mine, other), np.setdiff1d(other, mine)]
    keys = np.concatenate(said)
    ways = np.repeat(np.array([1, 1, -1]), [len(one) for one in said])
    return list(found), _Pairs(keys // width, keys % width, ways)


def _chances(sayings: Sayings, pairs: _Pairs, inside: Flags, odds: Floats, width: int) -> Floats:
    """Of each word the chance of its contrast in the window; 1 where there is too little."""
    people = int(sayings.subject.max()) + 1
    thumbs = inside & (sayings.sign != 0)
    quiet = np.bincount(sayings.subject[thumbs], minlength=people) <= BUSY
    inside = inside & quiet[sayings.subject]
    thumbs &= inside
    here = inside[pairs.row]
    row, word, way = pairs.row[here], pairs.word[here], pairs.way[here]
    sign = sayings.sign[row]
    thumb = sign != 0

    def total(chosen: Flags, of: Floats | None = None) -> Floats:
        return np.bincount(word[chosen], None if of is None else of[chosen], minlength=width).astype(float)

    ups, mine = total(sign > 0), total(thumb)
    friend = (sign > 0) | ((sign == 0) & (way > 0))
    both = np.unique(word[friend] * people + sayings.subject[row[friend]])
    whose, who = both // people, both % people

    def of_friends(values: Floats) -> Floats:
        each = np.bincount(sayings.subject[thumbs], values[thumbs], minlength=people)
        return np.bincount(whose, each[who], minlength=width).astype(float)

    every, down = np.ones(len(sayings)), (sayings.sign < 0).astype(float)
    mates = np.isin(word * people + sayings.subject[row], both)
    n = of_friends(every) - total(thumb & mates)
    d = of_friends(down) - total((sign < 0) & mates)
    expected = of_friends(1 - odds) - total(thumb & mates, (1 - odds)[row])
    won, compared = total((sign == 0) & (way > 0)), total(sign == 0)
    n, d, expected = n + compared, d + won, expected + compared / 2
    enough = (n >= CONTRAST) & (ups >= UPS * mine) & (np.bincount(whose, minlength=width) >= SUBJECTS)
    chance = np.ones(width)
    chance[enough] = stats.binom.sf(
        d[enough] - 1, n[enough], np.clip(expected[enough] / n[enough], 0.01, 0.99)
    )
    return chance


def _burst(
    sayings: Sayings, pairs: _Pairs, word: int, name: str, start: float, window: float
) -> Iterator[Burst]:
    """What its friends said in its favour, of those friends that said little else."""
    inside = (sayings.time >= start) & (sayings.time < start + window)
    way = np.zeros(len(sayings), dtype=np.int64)
    way[pairs.row[pairs.word == word]] = pairs.way[pairs.word == word]
    thumb = sayings.sign != 0
    favouring = np.where(thumb, (sayings.sign > 0) == (way > 0), way > 0)
    favours, speaks = inside & favouring, inside & (thumb | (way != 0))
    people = int(sayings.subject.max()) + 1
    for_it = np.bincount(sayings.subject[favours], minlength=people)
    in_all = np.bincount(sayings.subject[speaks], minlength=people)
    friends = np.unique(sayings.subject[favours & (way > 0)])
    friends = friends[(for_it[friends] >= 2) & (for_it[friends] >= 0.65 * in_all[friends])]
    rows = np.flatnonzero(favours & np.isin(sayings.subject, friends))
    if len(friends) >= SUBJECTS:
        shown = name if len(name) <= 24 else name[:23] + "…"
        why = f"{len(friends)} subjects want one word ({shown!r}) and nothing without it, within {hours(window)}"
        yield Burst("word", rows, why)
