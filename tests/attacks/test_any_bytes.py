"""Any bytes as a body, any lines as headers: a well-formed answer, never our fault, nothing unchecked at an engine."""

from __future__ import annotations

import json
import string
from typing import Any
from urllib.parse import quote, urlencode

from hypothesis import given
from hypothesis import strategies as st

from tests.attacks.serving import GOOD, Answer, Served
from tests.exploring import examples

ALLOWED = {
    "model", "messages", "stream", "stream_options", "temperature", "top_p", "max_tokens", "seed", "stop",
    "presence_penalty", "frequency_penalty", "logit_bias", "logprobs", "top_logprobs", "response_format", "tools",
    "tool_choice", "parallel_tool_calls", "priority", "top_k", "min_p", "repetition_penalty", "ignore_eos",
    "reasoning_effort",
}  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from(
    [*sorted(ALLOWED), "n", "user", "store", "metadata", "__proto__", "min_tokens"]
) | st.text(max_size=9)
MESSAGE = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["user", "system", "assistant", "tool"]) | JSON,
        "content": st.text(max_size=30) | JSON,
    },
    optional={"name": JSON, "tool_calls": st.lists(JSON, max_size=2), "tool_call_id": JSON, "x": JSON},
)
CHATS = st.builds(
    lambda messages, more: json.dumps({**GOOD, **more, "messages": messages}).encode(),
    st.lists(MESSAGE, min_size=1, max_size=3),
    st.dictionaries(FIELDS, JSON, max_size=4),
)


@st.composite
def broken(draw: st.DrawFn) -> bytes:
    """A good body with some bytes of it replaced, cut out or put in."""
    data = draw(CHATS | st.just(json.dumps(GOOD).encode()))
    start = draw(st.integers(0, len(data)))
    end = draw(st.integers(start, min(len(data), start + 8)))
    return data[:start] + draw(st.binary(max_size=8)) + data[end:]


BODIES = st.binary(max_size=200) | CHATS | broken()
EACH = examples(400)


def assert_whole(answer: Answer) -> None:
    """Of the contract's shape: a chat, a stream, or an error with a message."""
    assert 200 <= answer.status < 500
    if answer.status >= 400:
        assert answer.error[2]
    elif (answer.header("content-type") or "").startswith("text/event-stream"):
        assert b"data: [DONE]" in answer.body
    else:
        assert "choices" in answer.json


def assert_allowed(bodies: list[dict[str, Any]]) -> None:
    for body in bodies:
        assert body.keys() <= ALLOWED
        assert all(isinstance(one["content"], str | None) for one in body["messages"])
        assert all(
            one.keys() <= {"role", "content", "name", "tool_calls", "tool_call_id"}
            for one in body["messages"]
        )


@EACH
@given(data=BODIES, path=st.sampled_from(["completions", "comparisons"]))
def test_any_body_is_answered(served: Served, data: bytes, path: str) -> None:
    before = len(served.engine.bodies)
    assert_whole(served.ask("POST", f"/v1/chat/{path}", data))
    assert_allowed(served.engine.bodies[before:])


@EACH
@given(
    data=BODIES,
    path=st.sampled_from(["feedback", "comparisons", "labels", "reports", "aliases", "experiments"]),
)
def test_any_feedback_is_refused_as_unprocessable_or_unknown(served: Served, data: bytes, path: str) -> None:
    answer = served.ask("POST", f"/v1/{path}", data)
    assert answer.error[0] in {404, 422}


METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
ADDRESSES = [
    "", "docs", "static", "healthz", "metrics", "openapi.json", "v1/models", "v1/feedback", "v1/feedback/export",
    "v1/comparisons", "v1/labels", "v1/reports", "v1/me", "v1/me/receipts", "v1/annotations/next", "v1/adapters",
    "v1/experiments", "v1/loop", "v1/engines",
]  # fmt: skip
QUERIES = ["user", "alias", "since", "format", "state", "limit", "x"]
ANY = st.text(max_size=12) | st.sampled_from(
    ["heed", "*", "..", "nan", "1e999", "-1", "0001-01-01T00:00:00+23:59", "all", "events", "preference"]
)


@EACH
@given(
    method=st.sampled_from(METHODS),
    path=st.tuples(st.sampled_from(ADDRESSES), st.lists(ANY, max_size=2)),
    query=st.lists(st.tuples(st.sampled_from(QUERIES), ANY), max_size=3),
)
def test_any_address_is_answered(
    served: Served, method: str, path: tuple[str, list[str]], query: list[tuple[str, str]]
) -> None:
    steps = "/".join([path[0], *(quote(step.encode("utf-8", "replace"), safe="") for step in path[1])])
    asked = urlencode([(name, value.encode("utf-8", "replace")) for name, value in query])
    seen = len(served.engine.seen)
    answer = served.ask(method, f"/{steps}?{asked}", {} if method in {"POST", "PUT", "PATCH"} else None)
    assert 200 <= answer.status < 500
    assert answer.status < 400 or method == "HEAD" or answer.error[2]
    assert served.engine.seen[seen:] == [] or path[0] == "v1/annotations/next"


TOKEN = st.text(string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~", min_size=1, max_size=20)
KNOWN = st.sampled_from(
    [
        "Host", "Connection", "Content-Type", "Content-Length", "Content-Encoding", "Transfer-Encoding", "Expect",
        "Upgrade", "Cookie", "Authorization", "Origin", "Heed-User", "Heed-Debug", "Idempotency-Key", "Trailer", "TE",
        "X-Request-Id", "X-Vllm-Priority", "X-Forwarded-For", "Accept", "Range",
    ]
)  # fmt: skip
VALUES = st.text(
    st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=30
) | st.sampled_from(
    [
        "close",
        "keep-alive, Upgrade",
        "chunked",
        "identity",
        "100-continue",
        "localhost",
        "websocket",
        "1",
        "application/json",
    ]
)


@EACH
@given(headers=st.lists(st.tuples(TOKEN | KNOWN, VALUES), max_size=6))
def test_any_headers_are_answered(served: Served, headers: list[tuple[str, str]]) -> None:
    seen, bodies = len(served.engine.headers), len(served.engine.bodies)
    data = json.dumps(GOOD).encode()
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n{lines}"
    raw = served.raw(f"{head}Connection: close\r\n\r\n".encode("latin-1") + data)
    if raw.startswith(b"HTTP/1.1 100 "):
        raw = raw.partition(b"\r\n\r\n")[2]
    assert_whole(Answer(raw))
    assert_allowed(served.engine.bodies[bodies:])
    for sent in served.engine.headers[seen:]:
        assert sent.keys() <= {
            "host", "content-type", "content-length", "x-request-id", "accept", "accept-encoding", "user-agent",
        }  # fmt: skip


@EACH
@given(data=st.binary(max_size=300))
def test_any_bytes_on_the_wire_are_answered_or_waited_for(served: Served, data: bytes) -> None:
    with served.untouched():
        raw = served.raw(data, leaving=True)
    if raw:
        assert Answer(raw).error == (400, None, "invalid_http")
