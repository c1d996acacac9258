"""What the reward model reads of a reply, by hand."""

from __future__ import annotations

import math
import zlib

import pytest
import torch

from training.packing import Tokens
from training.reference import look
from training.reward_features import (
    BEARING,
    EXTENT,
    LIKELIHOOD,
    LONGEST,
    PHRASES,
    WEIGHTS,
    WORDS,
    Standard,
    bearing,
    extent,
    last_question,
    less_length,
    likelihood,
    phrases,
    raw_features,
    surface,
    words_column,
)
from training.trunk import Trunk

SURFACE = len(surface(""))
SMALL = SURFACE + EXTENT + BEARING + LIKELIHOOD


def test_the_surface_of_a_text() -> None:
    text = "Hi! It's £25, OK?\n- yes ☺"
    # 7 words, 25 letters, 3 sentences; one each of ? ! and line's end
    counts = [7, 25, 3, 1, 1, 1, 2, 1, 1, 1]
    wanted = [
        *(math.log(1 + count) for count in counts),
        1, 1, 1, 1, 1,  # question, exclamation, line's end, figure, picture: all there
        7 / 30,
        7 / 3 / 10,
        0,  # it does not end with a question
        1 / 3,
        1 / 3,
        10 * 2 / 25,
        5 * 1 / 7,
        5 * 1 / 7,
        10 * 4 / 25,  # H, I, O, K
        1,  # money
        (3 + 4 + 4 + 3 + 1 + 3 + 1) / 7 / 5,
    ]  # fmt: skip
    assert surface(text) == pytest.approx(wanted)


def test_a_surface_is_the_same_in_every_script() -> None:
    # 6 words: five letters and a figure; 2 sentences, the second asks
    told = surface("是，25元。别的呢？")
    counts = [6, 10, 2, 1, 0, 0, 2, 1, 0, 0]
    assert told[:10] == pytest.approx([math.log(1 + count) for count in counts])
    assert told[10:15] == [1, 0, 0, 1, 0]  # letters are no pictures
    assert told[17] == 1  # it ends with a question
    assert told[21] == pytest.approx(5 * 1 / 6)  # commas
    assert extent("是，25元。别的呢？")[:4] == [0, 1, 0, 0]
    assert surface("It’s ¥25!") == surface("It's ￥25！")


def test_an_empty_text_has_a_surface_too() -> None:
    told = surface("")
    assert told[2] == pytest.approx(math.log(2))  # at least one sentence
    assert sum(map(abs, told)) == pytest.approx(math.log(2))


def test_the_extent_of_a_reply() -> None:
    told = extent("One two three. Four five six seven eight!")  # two sentences, eight words
    near = [
        math.exp(-((math.log(2) * steps / 0.6) ** 2)) for steps in (1, 0, 1, 2, 3, 4, 5, 6)
    ]  # from 8 words
    assert told == pytest.approx([0, 1, 0, 0, *near])
    assert extent("")[:4] == extent("word")[:4] == [1, 0, 0, 0]
    assert extent("a. b. c. d. e.")[:4] == [0, 0, 0, 0]


def test_phrases_are_words_and_neighbours_whatever_their_case() -> None:
    bucket = lambda phrase: zlib.crc32(phrase.encode()) % PHRASES  # noqa: E731
    assert zlib.crc32(b"123456789") == 0xCBF43926  # the check value of CRC-32
    wanted = ["yes", ",", "ok", " yes", "yes ,", ", ok", "ok  "]  # with its beginning and its end
    assert phrases("Yes, OK") == phrases("yes, ok") == set(map(bucket, wanted))
    assert phrases("yes yes") == set(map(bucket, ["yes", " yes", "yes yes", "yes  "]))
    assert phrases("") == set()


def test_a_block_in_which_nothing_differs_does_not_shout() -> None:
    raw = raw_of(40)
    raw[:, 7 : 7 + SURFACE] = 0.25
    odd = raw[:1].clone()
    odd[:, 7 : 7 + SURFACE] = 9.0
    told = Standard.of(raw).apply(odd)[:, 7 : 7 + SURFACE]
    torch.testing.assert_close(told, torch.full_like(told, LONGEST * math.sqrt(WEIGHTS[1])))


def test_the_bearing_of_a_reply_on_its_question() -> None:
    # about: could, they, deliv, where, live; said: they, deliv, after, seven
    told = bearing("Could they deliver where I live?", "They deliver after SEVEN, I think: they, I")
    # said: they, deliv, after, seven, think; shared: they, deliv; neighbours in both: they deliver
    assert told == pytest.approx([math.log(3), 2 / 5, 2 / 5, 1, math.log(2)])


def test_words_are_the_same_by_their_beginning_and_short_ones_do_not_count() -> None:
    assert bearing("is the delivery on time", "it is delivered, in the end")[0] == pytest.approx(math.log(2))
    assert bearing("is it on", "it is on")[:4] == [0, 0, 0, 0]
    assert bearing("", "") == [0, 0, 0, 0, 0]


def test_the_bearing_where_no_spaces_part_words() -> None:
    # about: 什么 么时 时候 候发 发货; said: 今天 天发 发货; shared 发货, and no neighbours
    assert bearing("什么时候发货？", "今天发货。") == pytest.approx([math.log(2), 1 / 5, 1 / 3, 1, 0])
    # about: 배송 언제; said: 배송 내일: by their first two letters
    assert bearing("배송은 언제?", "배송이 내일!") == pytest.approx([math.log(2), 1 / 2, 1 / 2, 1, 0])


def test_the_likelihood_is_the_mean_and_the_least_of_the_tokens() -> None:
    assert likelihood(torch.tensor([-1.0, -4.0, -0.5, -0.5])) == pytest.approx([-1.5, -4.0])


def test_the_last_question_is_the_turn_before_the_reply(trunk: Trunk) -> None:
    turns = [token for text in ("no", "yes", "so", "ok ok") for token in trunk.reply_ids(text)]
    assert last_question(trunk, (*turns, *trunk.reply_ids("so")[:-1])) == "ok ok"
    assert last_question(trunk, trunk.reply_ids("yes")) == "yes"
    assert last_question(trunk, trunk.reply_ids("ok no")[:-1]) == "ok no"  # no end of a turn: all of it


def test_raw_features_are_states_surface_and_phrases_of_the_text_without_its_end(trunk: Trunk) -> None:
    prompt = trunk.prompt_ids([{"role": "user", "content": "so"}])
    ended, broken_off = look(
        trunk, [Tokens(prompt, trunk.reply_ids("ok no?")), Tokens(prompt, trunk.reply_ids("ok no?")[:-1])]
    )
    raw = raw_features(trunk, [ended, broken_off])
    states = trunk.depth * trunk.hidden
    assert raw.shape == (2, states + SMALL + PHRASES)
    torch.testing.assert_close(raw[:, :states], torch.stack([ended.features, broken_off.features]))
    for row, seen in zip(raw, (ended, broken_off), strict=True):
        assert row[states + SMALL - LIKELIHOOD : states + SMALL].tolist() == pytest.approx(
            likelihood(seen.logprobs)
        )
        torch.testing.assert_close(row[states : states + SURFACE], torch.tensor(surface("ok no?")))
        begins = states + SURFACE + EXTENT
        torch.testing.assert_close(row[states + SURFACE : begins], torch.tensor(extent("ok no?")))
        assert row[begins : begins + BEARING].tolist() == bearing("so", "ok no?")
        assert set(row[-PHRASES:].nonzero()[:, 0].tolist()) == phrases("ok no?")


def raw_of(n: int, states: int = 7) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    raw = torch.randn((n, states + SMALL + PHRASES), generator=generator)
    raw[:, :states] = raw[:, :states] * 100 + 50  # wide and off the middle
    raw[:, -PHRASES:] = (raw[:, -PHRASES:] > 1.5).float()
    return raw


def test_each_block_gets_its_weight_whatever_its_width_and_scale() -> None:
    raw = raw_of(40)
    told = Standard.of(raw).apply(raw)
    torch.testing.assert_close(told.mean(0), torch.zeros(told.shape[1]), atol=2e-2, rtol=0)
    sizes = [7, SURFACE, EXTENT, BEARING, LIKELIHOOD, PHRASES]
    lengths = [block.square().sum(1).mean() for block in told.split(sizes, 1)]
    torch.testing.assert_close(torch.stack(lengths), torch.tensor(WEIGHTS), atol=1e-3, rtol=1e-3)


def test_within_a_block_all_dense_features_weigh_alike_and_phrases_as_often_as_they_vary() -> None:
    raw = raw_of(40)
    told = Standard.of(raw).apply(raw)
    spread = told[:, :7].std(0, unbiased=False)
    torch.testing.assert_close(spread, spread[:1].expand(7), atol=1e-3, rtol=1e-3)
    spread, wanted = (part[:, -PHRASES:].std(0, unbiased=False) for part in (told, raw))
    torch.testing.assert_close(spread / spread.max(), wanted / wanted.max(), atol=1e-4, rtol=1e-4)


def test_what_was_hardly_seen_may_not_shout() -> None:
    raw = raw_of(40)
    standard = Standard.of(raw)
    odd = raw[:1].clone()
    odd[:, 0] += 1e6
    assert float((standard.apply(odd) / standard.length)[0, 0]) == pytest.approx(LONGEST)


def test_one_reply_alone_can_be_standardised() -> None:
    raw = raw_of(1)
    told = Standard.of(raw).apply(raw)
    assert torch.equal(told, torch.zeros_like(told))


# --- length ---------------------------------------------------------------------------------------------------


def test_the_number_of_words_stands_where_it_is_looked_for(trunk: Trunk) -> None:
    assert surface("one two three")[WORDS] == pytest.approx(3 / 30)
    raw = raw_features(trunk, look(trunk, [Tokens((1, 2), trunk.reply_ids("one two three"))]))
    assert float(raw[0, words_column(raw.shape[1])]) == pytest.approx(3 / 30)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_of_what_scores_owe_to_length_the_share_stays_that_is_wished(share: float) -> None:
    generator = torch.Generator().manual_seed(4)
    width = SMALL + PHRASES
    features = 0.1 * torch.randn((50, width), generator=generator)
    length = torch.randn(50, generator=generator)
    features[:, words_column(width)] = length
    features[:, 0] += 2 * length  # another feature that stands for length
    weights = torch.randn((3, width), generator=generator)  # as of three heads

    def owed(told: torch.Tensor) -> torch.Tensor:
        """The slope of the scores over length, of each head."""
        centred = length - length.mean()
        return (told @ features.T) @ centred / centred.square().sum()

    moved = less_length(weights, features, share)
    torch.testing.assert_close(owed(moved), share * owed(weights), atol=1e-3, rtol=1e-3)
    others = [place for place in range(width) if place != words_column(width)]
    assert torch.equal(moved[:, others], weights[:, others])


def test_replies_of_one_length_owe_it_nothing() -> None:
    weights, features = torch.ones(SMALL + PHRASES), torch.ones((4, SMALL + PHRASES))
    assert torch.equal(less_length(weights, features, 0.0), weights)
