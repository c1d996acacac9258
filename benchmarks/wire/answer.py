"""A chat as bytes on a socket: the request, and just enough of the answer to tell that it is whole."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

LAST_CHUNK = b"\r\n0\r\n\r\n"
DONE = b"data: [DONE]"
EVENT = b"data: "
OK = b"HTTP/1.1 200"
KEPT = 64  # bytes of the end of what was read: holds DONE, its frame and the last chunk


@dataclass(frozen=True)
class Target:
    """Where to send chats: a gateway, a peer, or the engine itself."""

    name: str
    port: int
    model: str  # as its clients name it
    pid: int  # of the process that is measured
    key: str = "sk-nobody-looks-at-this"


def request(target: Target, *, user: str, max_tokens: int) -> bytes:
    """A streamed chat, head and body, as an OpenAI client sends it."""
    body = orjson.dumps(
        {
            "model": target.model,
            "messages": [
                {"role": "system", "content": "You answer the guests of a small coffee house, briefly."},
                {
                    "role": "user",
                    "content": "Good morning! When do you open on Sundays, and can I bring my dog?",
                },
            ],
            "max_tokens": max_tokens,
            "temperature": 0.7,
            "stream": True,
            "stream_options": {"include_usage": True},
            "user": user,
        }
    )
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{target.port}\r\n"
        f"authorization: Bearer {target.key}\r\naccept: application/json\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Reading:
    """One answer as it arrives. Chunked streams alone end well: anything else is an answer that failed."""

    __slots__ = ("_began", "_tail", "events", "ok", "over", "said_done")

    def __init__(self) -> None:
        self.events = 0
        self.over = False  # nothing more is to come
        self.ok = True
        self.said_done = False
        self._tail, self._began = b"", False

    def feed(self, data: bytes) -> int:
        """Take what was read; how many events began in it."""
        seen = self._tail + data
        if not self._began and len(seen) >= len(OK):
            self._began = True
            if not seen.startswith(OK):
                self.ok, self.over = False, True
        found = seen.count(EVENT, max(0, len(self._tail) - len(EVENT) + 1))
        self.events += found
        self._tail = seen[-KEPT:]
        if self._tail.endswith(LAST_CHUNK):
            self.over, self.said_done = True, DONE in self._tail
        return found

    def whole(self, least: int) -> bool:
        """Whether it was a 200 that ended as it should, with at least so many events."""
        return self.ok and self.over and self.said_done and self.events >= least
