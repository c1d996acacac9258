"""Paths: what is an engine's stays there, and a path has one spelling."""

from __future__ import annotations

import pytest

from tests.attacks.serving import GOOD, Served

CHAT = "/v1/chat/completions"
ENGINES = [
    "/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/v1/completions", "/v1/responses", "/v1/embeddings",
    "/v1/messages", "/v1/score", "/v1/rerank", "/v1/audio/transcriptions", "/v1/audio/translations",
    "/v1/realtime", "/tokenize", "/detokenize", "/tokenizer_info", "/pooling", "/classify", "/score", "/rerank",
    "/invocations", "/inference/v1/generate", "/health", "/ping", "/version", "/load", "/server_info",
    "/pause", "/resume", "/is_paused", "/sleep", "/wake_up", "/is_sleeping", "/collective_rpc", "/reset_prefix_cache",
    "/reset_mm_cache", "/start_profile", "/stop_profile", "/scale_elastic_ep", "/init_weight_transfer_engine",
    "/update_weights", "/generate",
]  # fmt: skip
SPELLINGS = [
    "//v1/chat/completions", "/v1//chat/completions", "/v1/../v1/chat/completions", "/./v1/chat/completions",
    "/v1/chat/completions/", "/v1/chat/completions//", "/v1/chat/completions/..", "/v1/chat/completions;x=1",
    "/v1;/chat/completions", "/V1/chat/completions", "/v1/Chat/Completions", "/v1/chat/completions%00",
    "/v1/chat/completions%20", "/v1/chat/completions%0d%0a", "/v1/chat%2fcompletions%2f", "/v1/chat/completions%3f",
    "/%2e%2e/v1/chat/completions", "/v1/chat/%2e%2e/chat/completions", "/v1%5cchat/completions",
    "/v1/chat/completions%252e", "/v1/chat/completions.json", "/v1/chat/complet%c4%b1ons", "/heed/v1/chat/completions",
    "/v1/load_lora_adapter/../chat/completions", "/v1/chat/completions/../../load_lora_adapter",
    "/v1/chat/completions%2f..%2f..%2fload_lora_adapter", "/%ff%fe", "/%c0%ae%c0%ae/", "/@evil.example/",
]  # fmt: skip


@pytest.mark.parametrize("path", ENGINES)
def test_an_engines_address_is_none_of_ours(served: Served, path: str) -> None:
    with served.untouched():
        for method in ("GET", "POST"):
            body = {"lora_name": "x", "lora_path": "/etc", "model": "heed"} if method == "POST" else None
            assert served.ask(method, path, body).error == (404, None, "not_found")


@pytest.mark.parametrize("path", SPELLINGS)
def test_an_address_has_one_spelling(served: Served, path: str) -> None:
    with served.untouched():
        answer = served.ask("POST", path, GOOD)
    assert answer.error == (404, None, "not_found")
    assert answer.header("location") is None


def test_an_encoded_letter_is_the_letter(served: Served) -> None:
    assert served.ask("POST", "/v1/%63hat/completions?x=%00&priority=-9", GOOD).status == 200
    assert "priority" not in served.engine.bodies[-1]


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2f..%2fapp.py", "/static//etc/passwd",
        "/static/%2fetc%2fpasswd", "/static/....//app.py", "/static/%00", "/static/" + "a" * 5000, "/static/",
        "/static/..%5capp.py", "/static/index.html/", "/static/index.html%00.js",
    ],
)  # fmt: skip
def test_no_file_outside_of_the_pages_is_served(served: Served, path: str) -> None:
    assert served.ask("GET", path).error == (404, None, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/v1/models/heed:..%2f..%2fetc", "not_found"),
        ("GET", "/v1/models/heed:a-1", "model_not_found"),
        ("GET", "/v1/models/%2a", "model_not_found"),
        ("GET", "/v1/models/%00", "model_not_found"),
        ("GET", "/v1/models/__proto__", "model_not_found"),
        ("GET", "/v1/adapters/%2e%2e", "adapter_not_found"),
        ("GET", "/v1/adapters/a-1%27%20OR%201=1--", "adapter_not_found"),
        ("POST", "/v1/adapters/a-1%0d%0aFLUSHALL/promote", "adapter_not_found"),
        ("POST", "/v1/adapters/..%2fx/retire", "not_found"),
        ("GET", "/v1/aliases/heed%0d%0aDEL%20x", "alias_not_found"),
        ("GET", "/v1/aliases/*", "alias_not_found"),
        ("GET", "/v1/experiments/%7b%22a%22%3a1%7d", "experiment_not_found"),
        ("GET", "/v1/experiments/x%0d%0aSet-Cookie:%20a=b/report", "experiment_not_found"),
        ("GET", "/v1/me/receipts/..%2f..", "not_found"),
        ("GET", "/v1/me/receipts/%ff", "receipt_not_found"),
        ("GET", "/v1/feedback/chatcmpl-%00", "response_not_found"),
        ("DELETE", "/v1/feedback/chatcmpl-" + "A" * 44, "response_not_found"),
        ("DELETE", "/v1/feedback/*", "response_not_found"),
    ],
)
def test_a_name_in_a_path_is_only_a_name(served: Served, method: str, path: str, code: str) -> None:
    with served.untouched():
        answer = served.ask(method, path)
    assert answer.error[::2] == (404, code)
    assert answer.header("set-cookie") is None
