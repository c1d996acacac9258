"""What of a request goes on to an engine, and what of it stays behind in logs and metrics: nothing but its words."""

from __future__ import annotations

import json

from tests.attacks.serving import ADMIN, CANARY, GOOD, Served

HOSTILE = "".join(
    f"{line}\r\n"
    for line in (
        "X-Vllm-Priority: -1000",
        "X-Request-Id: ../../etc",
        "X-Session-Id: x",
        "X-Data-Parallel-Rank: 7",
        "Authorization: Bearer of-the-client",
        "Proxy-Authorization: Basic eDp5",
        "X-Api-Key: x",
        "Cookie: session=x; heed_user=y",
        "Heed-User: bob",
        "Heed-Debug: 1",
        "X-Forwarded-For: 10.0.0.1",
        "X-Forwarded-Host: evil.example",
        "X-Forwarded-Proto: https",
        "Forwarded: for=10.0.0.1;host=evil.example",
        "X-Real-Ip: 10.0.0.1",
        "X-Original-Url: /v1/load_lora_adapter",
        "X-Http-Method-Override: DELETE",
        "Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "Baggage: a=b",
        "User-Agent: evil",
        "Referer: http://evil.example/",
        "Accept: text/evil",
        "Accept-Encoding: br, gzip",
        "Accept-Language: xx",
        "Te: trailers",
        "Trailer: Host",
        "Keep-Alive: timeout=9999",
        "Range: bytes=0-1",
        "If-None-Match: *",
        "Via: 1.1 evil",
        "Content_Length: 5",
        "X_Vllm_Priority: -1",
        "Openai-Organization: org",
        "Content-Language: xx",
    )
)


def test_of_the_clients_headers_an_engine_gets_none(served: Served) -> None:
    for stream in (False, True):
        assert served.chat(stream=stream).status == 200
        plain = served.engine.headers[-1]
        asked = served.ask("POST", "/v1/chat/completions", {**GOOD, "stream": stream}, headers=HOSTILE)
        assert asked.status == 200
        hostile = served.engine.headers[-1]
        assert hostile.keys() == plain.keys()
        assert {name for name in plain if plain[name] != hostile[name]} == {"x-request-id"}
        assert hostile["x-request-id"] != "../../etc"
        assert plain.keys() <= {
            "host", "content-type", "content-length", "x-request-id", "accept", "accept-encoding", "user-agent",
        }  # fmt: skip


def test_of_the_body_an_engine_gets_what_was_checked_and_nothing_else(served: Served) -> None:
    assert served.chat(user="bob", metadata={"a": "b"}, store=False, safety_identifier="c").status == 200
    assert served.engine.bodies[-1].keys() <= {"model", "messages", "priority"}
    assert served.engine.bodies[-1]["messages"] == GOOD["messages"]


def test_the_answer_tells_nothing_of_engine_or_server(served: Served) -> None:
    for answer in (served.chat(), served.ask("GET", "/healthz"), served.ask("GET", "/nowhere")):
        assert (
            not {"server", "x-powered-by", "via", "heed-adapter", "heed-engine"} & dict(answer.headers).keys()
        )


def test_nothing_a_client_says_is_logged_or_measured(served: Served) -> None:
    before = len(served.logged)
    served.chat(user=CANARY, metadata={CANARY: CANARY})
    served.chat(model=CANARY, **{CANARY: CANARY})
    served.chat(messages=[{"role": "user", "content": CANARY}], seed=CANARY)
    one = served.chat(messages=[{"role": "user", "content": CANARY}]).json["id"]
    served.ask(
        "POST", "/v1/feedback", {"response_id": one, "rating": "up", "comment": CANARY, "reasons": [CANARY]}
    )
    served.ask("POST", "/v1/feedback", {"response_id": CANARY, "rating": CANARY, CANARY: 1})
    served.ask("GET", f"/v1/models/{CANARY}?user={CANARY}", headers=f"Heed-User: {CANARY}\r\n")
    served.ask(
        "GET", f"/{CANARY}", headers=f"Cookie: heed_user={CANARY}\r\nAuthorization: Bearer {CANARY}\r\n"
    )
    served.ask("POST", "/v1/adapters", {"path": f"/{CANARY}"})
    served.ask("GET", "/v1/me", headers=f"Authorization: Bearer {CANARY}\r\n", port=served.keyed)
    served.ask("GET", "/v1/me", headers=f"Authorization: Bearer {ADMIN}\r\n", port=served.keyed)
    served.raw(f"{CANARY} / HTTP/1.1\r\n{CANARY}\r\n\r\n".encode())
    said = json.dumps(served.logged[before:])
    assert CANARY not in said
    assert ADMIN not in said
    assert CANARY not in served.ask("GET", "/metrics").body.decode()
