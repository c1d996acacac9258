"""Junk does not grow the metrics: 100,000 names that nobody configured, and as many series after as before."""

from __future__ import annotations

import json
import socket
import threading

from tests.attacks.serving import Served

JUNK, LINES, WINDOW = 100_000, 4, 32


def series(served: Served) -> set[str]:
    """Every series' name and labels."""
    text = served.ask("GET", "/metrics").body.decode()
    return {line.rpartition(" ")[0] for line in text.splitlines() if line and not line.startswith("#")}


def junk(number: int) -> bytes:
    """One request with a name of its own: of a path, a model, an end user, a method or a host."""
    name, body = f"junk-{number}", b""
    start, host, more = f"GET /{name}", "localhost", ""
    match number % 6:
        case 0:
            start, body = "POST /v1/chat/completions", json.dumps({"model": name, "messages": []}).encode()
        case 1:
            asked = {"model": name, "messages": [{"role": "user", "content": "x"}], "user": name}
            start, body = "POST /v1/chat/completions", json.dumps(asked).encode()
        case 2:
            start, body = "POST /v1/chat/completions", json.dumps({"model": "heed", name: name}).encode()
        case 3:
            start, more = f"GET /v1/models/{name}", f"Heed-User: {name}\r\nX-{name}: {name}\r\n"
        case 4:
            host = f"{name}.example"
    head = f"{start} HTTP/1.1\r\nHost: {host}\r\n{more}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def send(port: int, numbers: range, statuses: dict[int, int], left: list[int]) -> None:
    """All of them down one connection, WINDOW at a time."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as line:
        reader = line.makefile("rb")
        for first in range(numbers.start, numbers.stop, WINDOW * numbers.step):
            window = numbers[(first - numbers.start) // numbers.step :][:WINDOW]
            line.sendall(b"".join(map(junk, window)))
            for number in window:
                status, size = int(reader.readline().split()[1]), 0
                while (header := reader.readline()) != b"\r\n":
                    if header.startswith(b"content-length: "):
                        size = int(header[16:])
                reader.read(size)
                statuses[number] = status
    left.remove(numbers.start)


def test_a_hundred_thousand_junk_names_make_no_series(served: Served) -> None:
    statuses: dict[int, int] = {}
    warm: dict[int, int] = {}
    send(served.port, range(6), warm, [0])  # each kind of refusal has its one series from here on
    before = series(served)
    with served.untouched():
        left = list(range(LINES))
        lines = [
            threading.Thread(target=send, args=(served.port, range(line, JUNK, LINES), statuses, left))
            for line in range(LINES)
        ]
        for line in lines:
            line.start()
        for line in lines:
            line.join()
    assert left == []
    assert len(statuses) == JUNK
    assert {number % 6: status for number, status in statuses.items()} == warm == {
        0: 400, 1: 404, 2: 400, 3: 404, 4: 403, 5: 404,
    }  # fmt: skip
    assert all(status == warm[number % 6] for number, status in statuses.items())
    assert series(served) == before
