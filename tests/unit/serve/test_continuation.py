"""What another engine is asked when a stream broke off, and that its answer fits exactly where the stream was cut."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import orjson
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from serve.chat_hints import HINTS
from serve.chat_request import _FIELDS, parse_chat
from serve.continuation import (
    LATE_TOKENS,
    MADE_BY_THE_CHAT_ROUTE,
    SAMPLED,
    Cut,
    Repeated,
    completion_body,
    from_completion,
    goes_on_from_tokens,
    remembered,
    tokens_told,
)
from serve.engine_client import EngineClient
from serve.errors import EngineGarbled
from serve.settings import GatewaySettings
from serve.sse import DONE, Reply

PROMPT = [11, 12, 13]
texts = st.lists(st.text(max_size=6), max_size=8)
cuts = st.lists(st.integers(min_value=0), max_size=10)


def event(body: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(body) + b"\n\n"


def chat(*choices: dict[str, Any], **more: Any) -> bytes:
    envelope = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 7, "model": "base"}
    return event({**envelope, "choices": [{"index": 0, **one} for one in choices], **more})


def said(*deltas: dict[str, Any]) -> bytes:
    return b"".join(chat({"delta": delta, "logprobs": None, "finish_reason": None}) for delta in deltas)


def ending(reason: str = "stop") -> bytes:
    return chat({"delta": {}, "logprobs": None, "finish_reason": reason})


def reply_of(data: bytes) -> Reply:
    reply = Reply()
    reply.take_events(data)
    return reply


def cut_of(data: bytes) -> Cut:
    return Cut("chatcmpl-1", "base", reply_of(data))


def pieces(data: bytes, places: list[int]) -> list[bytes]:
    at = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[low:high] for low, high in pairwise(at) if high > low]


def bodies(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(part[6:]) for part in data.split(b"\n\n") if part.startswith(b"data: {")]


class Tokenizer:
    """An engine whose token n has the n-th text."""

    def __init__(self, words: list[str]) -> None:
        self.words, self.calls = words, 0

    async def detokenize(self, served: str, tokens: list[int]) -> str:
        assert served == "base"
        self.calls += 1
        return "".join(self.words[token] for token in tokens)


def tokenizer(*words: str) -> tuple[EngineClient, Tokenizer]:
    made = Tokenizer(list(words))
    return cast("EngineClient", made), made


def streamed(words: list[str], tokens: list[int]) -> bytes:
    """Chat chunks that say these words and carry these tokens."""
    first = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
    carried = [{"delta": {"content": ""}, "token_ids": tokens}] if tokens else []
    return (
        chat(first, prompt_token_ids=PROMPT)
        + said(*({"content": word} for word in words))
        + b"".join(chat(one) for one in carried)
    )


@pytest.mark.parametrize("late", [0, 1, 3])
async def test_tokens_whose_text_was_not_sent_yet_are_left_out(late: int) -> None:
    client, _ = tokenizer("a", "b", "c", "d", "e")
    words = ["a", "b", "c", "d", "e"][: 5 - late]
    assert await tokens_told(client, cut_of(streamed(words, [0, 1, 2, 3, 4]))) == list(range(5 - late))


async def test_where_nothing_was_said_no_token_was_told_and_none_is_asked_about() -> None:
    client, tokens = tokenizer("a")
    assert await tokens_told(client, cut_of(streamed([], []))) == []
    assert await tokens_told(client, cut_of(streamed([], [0]))) == []
    assert tokens.calls == 1


async def test_text_that_its_tokens_do_not_make_is_not_gone_on_with() -> None:
    client, tokens = tokenizer(*"abc", *"x" * 200)
    with pytest.raises(EngineGarbled, match="does not fit its tokens"):
        await tokens_told(client, cut_of(streamed(["other"], [0, 1, 2])))
    tokens.calls = 0
    with pytest.raises(EngineGarbled):
        await tokens_told(client, cut_of(streamed(["other"], list(range(200)))))
    assert tokens.calls == LATE_TOKENS + 1


def test_only_text_whose_tokens_are_known_goes_on_from_tokens() -> None:
    assert goes_on_from_tokens(reply_of(streamed(["a"], [0])))
    assert not goes_on_from_tokens(reply_of(said({"content": "a"})))
    call = {"tool_calls": [{"index": 0, "function": {"name": "look", "arguments": "{}"}}]}
    assert not goes_on_from_tokens(reply_of(streamed(["a"], [0]) + said(call)))
    assert not goes_on_from_tokens(reply_of(streamed(["a"], [0]) + said({"reasoning": "hm"})))
    logged = chat({"delta": {"content": "b"}, "logprobs": {"content": [{"token": "b"}]}})
    assert not goes_on_from_tokens(reply_of(streamed(["a"], [0]) + logged))


def test_the_completion_asks_for_what_is_left_with_the_chats_own_sampling() -> None:
    sampling = {"max_tokens": 10, "temperature": 0.5, "stop": ["x"], "seed": 3, "user": "u", "tools": []}
    asked = orjson.loads(completion_body(cut_of(streamed([], [])), [1, 2], sampling, 4096, -10))
    assert asked == {
        "model": "base",
        "prompt": [*PROMPT, 1, 2],
        "max_tokens": 8,
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_token_ids": True,
        "temperature": 0.5,
        "stop": ["x"],
        "seed": 3,
        "priority": -10,
    }


@pytest.mark.parametrize(
    ("sampling", "told", "context", "most"),
    [({}, 5, 100, 92), ({}, 97, 100, 1), ({"max_tokens": 5}, 5, 100, 1), ({"max_tokens": 6}, 5, 0, 1)],
)
def test_the_completion_may_be_as_long_as_the_chat_might_have_been(
    sampling: dict[str, Any], told: int, context: int, most: int
) -> None:
    asked = orjson.loads(completion_body(cut_of(streamed([], [])), list(range(told)), sampling, context, 0))
    assert asked["max_tokens"] == most
    assert "priority" not in asked


def completion(words: list[str], spent: int) -> bytes:
    """What an engine's completion route streams."""
    envelope = {"id": "cmpl-2", "object": "text_completion", "created": 99, "model": "base"}
    out = [
        event(
            {
                **envelope,
                "choices": [{"index": 0, "text": word, "finish_reason": None, "token_ids": [100 + at]}],
            }
        )
        for at, word in enumerate(words)
    ]
    last = {"index": 0, "text": "", "finish_reason": "length", "token_ids": None}
    used = {"prompt_tokens": 999, "completion_tokens": spent}
    return b"".join(
        [
            *out,
            event({**envelope, "choices": [last]}),
            event({**envelope, "choices": [], "usage": used}),
            DONE,
        ]
    )


@given(texts, texts, st.integers(0, 50), cuts)
def test_a_completion_becomes_the_rest_of_the_chat(
    before: list[str], after: list[str], told: int, places: list[int]
) -> None:
    sent = streamed(before, list(range(told)))
    reshape = from_completion(cut_of(sent), told)
    data = completion(after, len(after))
    out = b"".join(map(reshape, pieces(data, places)))
    assert out == from_completion(cut_of(sent), told)(data)
    assert out.endswith(DONE)
    whole = reply_of(sent + out)
    assert whole.text == "".join([*before, *after])
    assert whole.finish_reason == "length"
    assert whole.token_ids == [*range(told), *(100 + at for at in range(len(after)))]
    assert (whole.prompt_tokens, whole.completion_tokens) == (len(PROMPT), told + len(after))
    envelopes = {(body["id"], body["object"], body["created"], body["model"]) for body in bodies(out)}
    assert envelopes == {("chatcmpl-1", "chat.completion.chunk", 7, "base")}


def test_an_error_in_a_completion_is_passed_on_as_it_is() -> None:
    error = b'data: {"error":{"message":"died"}}\n\n'
    assert from_completion(cut_of(streamed([], [])), 0)(error) == error


def test_a_reply_that_was_said_gets_its_end() -> None:
    out = cut_of(streamed(["a", "b"], [0, 1]) + ending()).end()
    (body,) = bodies(out)
    assert body["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    assert body["choices"] == []
    assert out.endswith(DONE)


def test_a_usage_that_was_told_is_not_told_twice() -> None:
    used = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    assert cut_of(streamed(["a"], [0]) + ending() + chat(usage=used)).end() == DONE


# A reply as strands, and as events in any division of them.
Strands = list[tuple[str, int, str]]  # kind, index of the call, text
kinds = st.sampled_from([("reasoning", 0), ("content", 0), ("arguments", 0), ("arguments", 1)])
strands = st.lists(st.tuples(kinds, st.text(min_size=1, max_size=8)), max_size=5).map(
    lambda made: [(kind, index, text) for (kind, index), text in made]
)


def begun(made: Strands) -> Strands:
    """With the name of each tool call before its arguments, as engines write it."""
    out: Strands = []
    for kind, index, text in made:
        if kind == "arguments" and ("name", index, f"tool{index}") not in out:
            out.append(("name", index, f"tool{index}"))
        out.append((kind, index, text))
    return out


def delta_of(kind: str, index: int, text: str) -> dict[str, Any]:
    if kind in {"content", "reasoning"}:
        return {kind: text}
    call: dict[str, Any] = {"index": index, "function": {kind: text}}
    if kind == "name":
        call |= {"id": f"call-{text}", "type": "function"}
        call["function"]["arguments"] = ""
    return {"tool_calls": [call]}


def telling(made: Strands, divide: list[int]) -> list[bytes]:
    """Events that say it, each text but a name's in pieces."""
    out = said({"role": "assistant", "content": ""})
    for kind, index, text in begun(made):
        parts = [text] if kind == "name" else _parts(text, divide)
        out += said(*(delta_of(kind, index, part) for part in parts))
    return [one + b"\n\n" for one in out.split(b"\n\n")[:-1]]


def _parts(text: str, divide: list[int]) -> list[str]:
    at = [0, *sorted({place % (len(text) + 1) for place in divide}), len(text)]
    return [text[low:high] for low, high in pairwise(at) if high > low]


class Blame:
    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1


divisions = st.lists(st.integers(0, 8), max_size=3)


@given(strands, divisions, divisions, st.integers(min_value=0), cuts)
def test_told_again_in_other_pieces_only_the_rest_comes_out(
    made: Strands, first: list[int], second: list[int], place: int, places: list[int]
) -> None:
    told = telling(made, first)
    sent = b"".join(told[: 1 + place % len(told)])
    again = b"".join(telling(made, second)) + ending("tool_calls") + DONE
    blame = Blame()
    repeated = Repeated(cut_of(sent), blame)
    out = b"".join(map(repeated, pieces(again, places)))
    assert blame.times == 0
    assert out.endswith(DONE)
    whole = reply_of(sent + out)
    assert whole.strands() == reply_of(again).strands()
    assert whole.finish_reason == "tool_calls"
    calls = [
        call
        for body in bodies(sent + out)
        for one in body["choices"]
        for call in one["delta"].get("tool_calls", ())
    ]
    ids = [call["id"] for call in calls if "id" in call]
    assert len(ids) == len(set(ids)) == len({index for kind, index, _ in begun(made) if kind == "name"})


@given(strands, divisions, cuts)
def test_what_was_sent_whole_leaves_only_the_end(made: Strands, divide: list[int], places: list[int]) -> None:
    told = b"".join(telling(made, divide))
    repeated = Repeated(cut_of(told), Blame())
    out = b"".join(map(repeated, pieces(told + ending() + DONE, places)))
    (last,) = bodies(out)
    assert last["choices"][0] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}


@given(strands, strands, divisions, cuts)
def test_another_or_a_shorter_telling_is_an_error_and_no_lie(
    made: Strands, other: Strands, divide: list[int], places: list[int]
) -> None:
    sent = b"".join(telling(made, divide))
    again = b"".join(telling(other, divide)) + ending() + DONE
    old, new = reply_of(sent).strands(), reply_of(again).strands()
    assume(any(not new.get(strand, "").startswith(text) for strand, text in old.items()))
    blame = Blame()
    repeated = Repeated(cut_of(sent), blame)
    out = b"".join(map(repeated, pieces(again, places)))
    assert blame.times == 1
    assert out.endswith(b'data: {"error": {}}\n\n')
    assert out.count(b'data: {"error"') == 1
    assert out == Repeated(cut_of(sent), Blame())(again)
    assert reply_of(sent + out).finish_reason is None


@given(st.lists(st.integers(1, 3), max_size=6), st.integers(0, 18), cuts)
def test_each_log_probability_is_told_once(sizes: list[int], place: int, places: list[int]) -> None:
    """A token is a letter; one event tells of one to three."""
    letters = "abcdefghijklmnopqr"[: sum(sizes)]

    def telling_of(text: str, sizes: list[int]) -> bytes:
        out, at = b"", 0
        for size in [*sizes, len(text)]:
            part = text[at : at + size]
            at += size
            if part:
                logs = {"content": [{"token": one, "logprob": -1.0} for one in part]}
                out += chat({"delta": {"content": part}, "logprobs": logs, "finish_reason": None})
        return out

    sent = telling_of(letters[: place % (len(letters) + 1)], [1] * 18)
    again = telling_of(letters, sizes) + ending() + DONE
    out = b"".join(map(Repeated(cut_of(sent), Blame()), pieces(again, places)))
    logs = [one.get("logprobs") for body in bodies(sent + out) for one in body["choices"]]
    assert "".join(token["token"] for log in logs if log for token in log["content"]) == letters
    assert reply_of(sent + out).text == letters


def test_what_is_no_choice_is_passed_on() -> None:
    usage = chat(usage={"prompt_tokens": 1, "completion_tokens": 2})
    error = b'data: {"error":{"message":"died"}}\n\n'
    blame = Blame()
    repeated = Repeated(cut_of(said({"content": "a"})), blame)
    assert repeated(b": ping\n\n" + usage + error) == b": ping\n\n" + usage + error
    assert blame.times == 0


EVERY = {
    "model": "heed", "messages": [{"role": "user", "content": "hi"}], "temperature": 0.5, "top_p": 0.9, "top_k": 5,
    "min_p": 0.1, "presence_penalty": 0.1, "frequency_penalty": 0.1, "repetition_penalty": 1.1, "seed": 1,
    "stop": ["."], "logit_bias": {"5": 1.0}, "ignore_eos": True, "max_tokens": 9,
}  # fmt: skip
ONLY_THE_PROMPT = {"reasoning_effort"}  # the prompt's tokens are what they are
WITH_ANOTHER = {
    "top_logprobs",
    "tool_choice",
    "parallel_tool_calls",
}  # mean nothing without logprobs or tools


def test_a_reply_that_goes_on_is_sampled_as_it_was_begun(tmp_path: Path) -> None:
    request = parse_chat(orjson.dumps(EVERY), GatewaySettings(data_dir=tmp_path))
    reply = Reply(prompt_token_ids=[1, 2], token_ids=[3])
    body = orjson.loads(completion_body(Cut("chatcmpl-x", "base", reply), [3], request.sampling, 100, 0))
    penalised = {"5": 1.0, "3": pytest.approx(-0.2)}
    begun = {**request.sampling, "max_tokens": 8, "logit_bias": penalised}
    assert {name: body[name] for name in request.sampling} == begun


@pytest.mark.parametrize(
    ("sampling", "bias"),
    [
        ({}, {}),
        ({"presence_penalty": 0, "frequency_penalty": 0.0, "logit_bias": {"7": 1}}, {}),
        ({"presence_penalty": 0.5}, {"4": -0.5, "7": -0.5}),
        ({"frequency_penalty": 0.5}, {"4": -0.5, "7": -1.5}),
        ({"presence_penalty": 1, "frequency_penalty": -0.5}, {"4": -0.5, "7": 0.5}),
        ({"frequency_penalty": 2, "logit_bias": {"7": -100, "8": 3}}, {"7": -106.0, "8": 3.0, "4": -2.0}),
    ],
)
def test_what_was_said_before_the_break_stays_penalised(
    sampling: dict[str, Any], bias: dict[str, float]
) -> None:
    assert remembered([7, 4, 7, 7], sampling) == bias


def vllms(logits: list[float], said: list[int], sampling: dict[str, Any]) -> list[float]:
    """Logits after vLLM's own sampler: the bias, then both penalties over what the request has put out."""
    bias, count = sampling.get("logit_bias", {}), Counter(said)
    return [
        logit
        + bias.get(str(token), 0.0)
        - sampling["frequency_penalty"] * count[token]
        - sampling["presence_penalty"] * (token in count)
        for token, logit in enumerate(logits)
    ]


@given(
    before=st.lists(st.integers(0, 9), max_size=30),
    after=st.lists(st.integers(0, 9), max_size=30),
    frequency=st.floats(-2, 2),
    presence=st.floats(-2, 2),
    own=st.dictionaries(st.integers(0, 9).map(str), st.floats(-5, 5), max_size=3),
)
def test_logits_after_a_break_are_those_without_but_for_presence_of_what_is_said_again(
    before: list[int], after: list[int], frequency: float, presence: float, own: dict[str, float]
) -> None:
    assume(presence or frequency)
    asked = {"frequency_penalty": frequency, "presence_penalty": presence, "logit_bias": own}
    whole = vllms([0.0] * 10, before + after, asked)
    gone_on = vllms([0.0] * 10, after, {**asked, "logit_bias": remembered(before, asked)})
    for token in range(10):
        twice = presence if token in before and token in after else 0.0
        assert gone_on[token] == pytest.approx(whole[token] - twice, abs=1e-9)


def test_every_field_that_reaches_an_engine_goes_on_or_makes_the_chat_be_told_again() -> None:
    to_engines = set(_FIELDS) - HINTS - {
        "model", "messages", "stream", "store", "stream_options", "n", "user", "safety_identifier", "metadata",
        "max_tokens", "max_completion_tokens",
    }  # fmt: skip
    assert to_engines == SAMPLED | MADE_BY_THE_CHAT_ROUTE | ONLY_THE_PROMPT | WITH_ANOTHER
