"""As much of vLLM's HTTP as rollouts use, with faults that the real one cannot be made to have."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

END = 1  # of the tiny models
LOGPROB = -0.5  # of every token


class FakeEngine:
    """State and faults of one."""

    def __init__(self) -> None:
        self.url = ""
        self.adapters: dict[str, str] = {}
        self.asked: list[dict[str, Any]] = []  # bodies of completions, touches of other adapters included
        self.said: list[str] = []  # loads, uses and unloads, in their order
        self.dies_after: int | None = None  # replies to prompts, and then it breaks off whatever it is asked
        self.refuses: list[int] | None = None  # a prompt that it answers 400 to
        self.choices = 0  # more, or less, than were asked for
        self.logprobs = 0  # more, or less, than there are tokens
        self.forgets = False  # what was loaded, as after a restart
        self.busiest = 0  # most replies that were under way at once
        self._busy, self._lock = 0, threading.Lock()

    def answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        """Status and body. Raises ConnectionError to break off."""
        if self.dies_after is not None and self.dies_after <= 0:
            raise ConnectionError
        if path == "/v1/models":
            cards = [{"id": name, "root": path, "parent": "base"} for name, path in self.adapters.items()]
            return 200, {"data": [{"id": "base", "parent": None}, *cards]}
        if path == "/v1/load_lora_adapter":
            self.said.append(f"load {body['lora_name']}")
            self.adapters[body["lora_name"]] = body["lora_path"]
            return 200, "loaded"
        if path == "/v1/unload_lora_adapter":
            self.said.append(f"unload {body['lora_name']}")
            return (200, "unloaded") if self.adapters.pop(body["lora_name"], None) else (404, "not found")
        assert (method, path) == ("POST", "/v1/completions")
        self.asked.append(body)
        if self.forgets or body["model"] not in self.adapters:
            return 404, {"error": {"message": "no such model"}}
        if not body["model"].startswith("rollout-"):
            self.said.append(f"use {body['model']}")
            return 200, {"choices": [{}]}
        return self._completion(body)

    def _completion(self, body: dict[str, Any]) -> tuple[int, Any]:
        with self._lock:
            self._busy += body["n"]
            self.busiest = max(self.busiest, self._busy)
            if self.dies_after is not None:
                self.dies_after -= 1
        threading.Event().wait(0.01)
        with self._lock:
            self._busy -= body["n"]
        if body["prompt"] == self.refuses:
            return 400, {"error": {"message": "too long"}}
        replies = [[4 + index, 5, 6, END][: body["max_tokens"]] for index in range(body["n"] + self.choices)]
        return 200, {
            "choices": [
                {
                    "token_ids": tokens,
                    "logprobs": {"token_logprobs": [LOGPROB] * (len(tokens) + self.logprobs)},
                }
                for tokens in replies
            ]
        }


@contextmanager
def fake_engine() -> Iterator[FakeEngine]:
    """A fake on a free port, in threads of its own."""
    fake = FakeEngine()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.do_POST()

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"{}")
            try:
                status, said = fake.answer(self.command, self.path, body)
            except ConnectionError:
                self.close_connection = True
                return
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(said).encode())

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        fake.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield fake
        server.shutdown()
        thread.join()
