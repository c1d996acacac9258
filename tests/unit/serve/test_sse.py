"""Renaming in a stream, byte by byte."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from serve.sse import Rename, Reply

SERVED, ALIAS = "a-000012-0123456789ab", "heed"
TRICKY = ['"model":"a-000012-0123456789ab"', "[DONE]", "\n\n", 'data: {"error"', '"choices":[],', "é☕", "a"]


def event(choices: list[dict[str, Any]], **more: Any) -> bytes:
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": SERVED,
        "choices": choices,
    }
    return (
        b"data: " + json.dumps({**body, **more}, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"
    )


def stream_of(texts: list[str], usage: bool = True) -> bytes:
    events = [event([{"index": 0, "delta": {"role": "assistant", "content": ""}}])]
    events += [event([{"index": 0, "delta": {"content": text}, "finish_reason": None}]) for text in texts]
    events.append(event([{"index": 0, "delta": {}, "finish_reason": "stop"}]))
    if usage:
        events.append(event([], usage={"prompt_tokens": 3, "completion_tokens": 7}, system_fingerprint="x"))
    return b"".join([*events, b"data: [DONE]\n\n"])


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    at = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[low:high] for low, high in pairwise(at) if high > low]


texts_st = st.lists(st.one_of(st.sampled_from(TRICKY), st.text(max_size=12)), max_size=6)
cuts_st = st.lists(st.integers(min_value=0), max_size=12)


@given(texts_st, cuts_st, st.booleans())
def test_the_output_does_not_depend_on_where_the_bytes_were_cut(
    texts: list[str], cuts: list[int], keep: bool
) -> None:
    data = stream_of(texts)
    whole = Rename(SERVED, ALIAS, keep_usage=keep).feed(data)
    rename = Rename(SERVED, ALIAS, keep_usage=keep)
    assert b"".join(rename.feed(piece) for piece in pieces(data, cuts)) == whole
    assert rename.done


@given(texts_st, cuts_st)
def test_only_the_envelope_is_renamed_and_no_text_is_touched(texts: list[str], cuts: list[int]) -> None:
    rename = Rename(SERVED, ALIAS, keep_usage=True)
    out = b"".join(rename.feed(piece) for piece in pieces(stream_of(texts), cuts))
    chunks = [json.loads(part[6:]) for part in out.split(b"\n\n") if part.startswith(b"data: {")]
    assert {chunk["model"] for chunk in chunks} == {ALIAS}
    said = [choice["delta"].get("content", "") for chunk in chunks for choice in chunk["choices"]]
    assert "".join(said) == "".join(texts)


@given(texts_st)
def test_a_reply_is_read_back_whole(texts: list[str]) -> None:
    rename, reply = Rename(SERVED, ALIAS, keep_usage=False), Reply()
    rename.feed(stream_of(texts))
    reply.take_events(rename.whole)
    assert (reply.text, reply.finish_reason) == ("".join(texts), "stop")
    assert (reply.prompt_tokens, reply.completion_tokens) == (3, 7)


def test_the_usage_event_is_dropped_unless_it_was_asked_for() -> None:
    assert b"usage" not in Rename(SERVED, ALIAS, keep_usage=False).feed(stream_of(["hi"]))
    kept = Rename(SERVED, ALIAS, keep_usage=True).feed(stream_of(["hi"]))
    assert b'"usage"' in kept
    assert b"system_fingerprint" not in kept


def test_an_engines_error_is_not_passed_on() -> None:
    rename = Rename(SERVED, ALIAS, keep_usage=False)
    assert rename.feed(b'data: {"error":{"message":"a-000012-0123456789ab exploded"}}\n\n') == b""
    assert rename.error is not None
    assert rename.feed(b"data: [DONE]\n\n") == b""  # as vLLM says after an error too
    assert not rename.done
    rename.again()
    assert rename.feed(b"data: [DONE]\n\n") == b"data: [DONE]\n\n"
    assert rename.done


def test_the_tokens_of_a_chunk_are_kept_and_not_passed_on() -> None:
    rename, reply = Rename(SERVED, ALIAS, keep_usage=False), Reply()
    text = ',"token_ids":[7]'
    choice = {"index": 0, "delta": {"content": text}, "logprobs": None, "token_ids": [12, 5]}
    out = rename.feed(event([choice], prompt_token_ids=[1, 2, 3]))
    reply.take_events(rename.whole)
    assert json.loads(out[6:])["choices"][0] == {"index": 0, "delta": {"content": text}, "logprobs": None}
    assert "prompt_token_ids" not in json.loads(out[6:])
    assert (reply.prompt_token_ids, reply.token_ids, reply.text) == ([1, 2, 3], [12, 5], text)


def test_a_reply_tells_what_it_is_made_of() -> None:
    reply = Reply()
    for call in (
        {"index": 0, "id": "x", "type": "function", "function": {"name": "look", "arguments": ""}},
        {"index": 0, "function": {"arguments": '{"a":'}},
        {"index": 0, "function": {"arguments": "1}"}},
    ):
        reply.take_events(event([{"index": 0, "delta": {"tool_calls": [call]}}]))
    assert reply.strands() == {("name", 0): "look", ("arguments", 0): '{"a":1}'}
    assert not reply.plain


def test_a_single_byte_is_held_back() -> None:
    rename = Rename(SERVED, ALIAS, keep_usage=False)
    assert rename.feed(b"d") == b""
    assert rename.feed(event([])[1:-1]) == b""


pieces_st = st.lists(
    st.tuples(st.one_of(st.sampled_from(TRICKY), st.text(max_size=9)), st.integers(0, 9)), max_size=8
)


def plain_event(word: str, token: int, tokens: str) -> bytes:
    """An event of nothing but text, as vLLM writes it with and without its tokens."""
    told = {"none": {}, "null": {"token_ids": None}, "ids": {"token_ids": [token, 7]}}[tokens]
    return event([{"index": 0, "delta": {"content": word}, "logprobs": None, "finish_reason": None, **told}])


@given(pieces_st, st.sampled_from(["none", "null", "ids"]), cuts_st, st.booleans())
def test_events_of_mere_text_come_out_alike_one_by_one_and_together(
    words: list[tuple[str, int]], tokens: str, cuts: list[int], ends: bool
) -> None:
    events = [plain_event(*word, tokens) for word in words]
    events += [
        event([{"index": 0, "delta": {"content": "!"}, "finish_reason": "stop"}]),
        b"data: [DONE]\n\n",
    ] * ends
    one_by_one, cut, together = (Rename(SERVED, ALIAS, keep_usage=False) for _ in range(3))
    whole = together.feed(b"".join(events))
    out, kept = b"", b""
    for one in events:
        out += one_by_one.feed(one)
        kept += one_by_one.whole
    assert (out, kept) == (whole, b"".join(events))
    assert b"".join(cut.feed(piece) for piece in pieces(b"".join(events), cuts)) == whole
    assert one_by_one.done == together.done == ends
    assert b'token_ids":' not in b"".join(out.split(b"content")[:1])


def test_another_engines_events_may_begin_otherwise() -> None:
    rename = Rename(SERVED, ALIAS, keep_usage=False)
    before = [rename.feed(plain_event(word, 1, "ids")) for word in ("a", "b")]
    rename.again()
    other = plain_event("c", 2, "ids").replace(b'"created":1', b'"created":22')
    after = [rename.feed(one) for one in (other, other.replace(b'"c"', b'"d"'))]
    said = [json.loads(out[6:]) for out in (*before, *after)]
    assert [(one["created"], one["model"], one["choices"][0]["delta"]["content"]) for one in said] == [
        (1, ALIAS, "a"), (1, ALIAS, "b"), (22, ALIAS, "c"), (22, ALIAS, "d"),
    ]  # fmt: skip


@given(pieces_st, st.sampled_from(["none", "null", "ids"]))
def test_events_cut_up_say_what_their_json_says(words: list[tuple[str, int]], tokens: str) -> None:
    events = [plain_event(*word, tokens) for word in words]
    together, one_by_one = Reply(), Reply()
    together.take_events(b"".join(events))
    for one in events:
        one_by_one.take(json.loads(one[6:]))
    assert (together.text, together.token_ids) == (one_by_one.text, one_by_one.token_ids)
    assert together.text == "".join(word for word, _ in words)


def test_a_character_that_two_events_share_is_read() -> None:
    first = event([{"index": 0, "delta": {"content": "?"}, "logprobs": None, "finish_reason": None}])
    reply = Reply()
    reply.take_events(first.replace(b"?", b"\\ud83d") + first.replace(b"?", b"\\ude00"))
    assert reply.text == "😀"
