"""Tables of votes, written by hand."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from training.bursts.sayings import Sayings
from training.suspects import VOTES


class Said:
    """Thumbs and comparisons one after another."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self._replies: dict[tuple[str, str], int] = {}

    def thumb(
        self, subject: str, time: float, up: bool, *, prompt: str = "", text: str = "", adapter: str = "a-1"
    ) -> None:
        prompt = prompt or f"prompt {len(self.rows)}"
        self._row(
            "vote", subject, time, "up" if up else "down", prompt, text or f"reply to {prompt}", None, adapter
        )

    def prefer(self, subject: str, time: float, better: str, worse: str, prompt: str = "which") -> None:
        self._row("comparison", subject, time, "win", prompt, better, worse, "a-1")

    def _row(
        self,
        kind: str,
        subject: str,
        time: float,
        rating: str,
        prompt: str,
        text: str,
        other: str | None,
        adapter: str,
    ) -> None:
        def reply(words: str) -> int:
            return self._replies.setdefault((prompt, words), len(self._replies))

        self.rows.append(
            {"event_id": f"ev-{len(self.rows):05d}", "kind": kind, "subject": subject, "time": time, "rating": rating,
             "messages": prompt, "text": text, "other_text": other, "adapter": adapter, "reply": reply(text),
             "other": None if other is None else reply(other)}
        )  # fmt: skip

    def table(self) -> pa.Table:
        return pa.Table.from_pylist(self.rows, schema=VOTES)

    def sayings(self) -> Sayings:
        return Sayings.of(self.table())
