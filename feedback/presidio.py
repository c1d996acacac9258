"""Redaction by Presidio, which finds names and addresses, too: ``HEED_REDACT=feedback.presidio:redact``.

Presidio and its language model are not among Heed's dependencies: ``pip install presidio-analyzer`` and the spaCy
model that it names, where gateways and ``heed import`` run. After it the patterns are run as well.
"""

from __future__ import annotations

import functools
import re
from typing import Any

from feedback.patterns import redact as by_patterns

LANGUAGE = "en"
KEPT = frozenset({"DATE_TIME", "NRP", "URL"})
"""What Presidio finds and a reply would be useless without."""
_PLACEHOLDER = re.compile(r"(\[[A-Z_]+\])")


@functools.cache
def _analyzer() -> Any:
    from presidio_analyzer import AnalyzerEngine

    return AnalyzerEngine()


def redact(text: str) -> str:
    """The text with placeholders such as ``[PERSON]``. What stands between two placeholders is read by itself, so
    that they are never taken for a part of something.
    """
    parts = _PLACEHOLDER.split(by_patterns(text))
    return by_patterns("".join(part if index % 2 else _found(part) for index, part in enumerate(parts)))


def _found(text: str) -> str:
    if not text.strip():
        return text
    results = _analyzer().analyze(text=text, language=LANGUAGE)
    spans = sorted((one.start, one.end, one.entity_type) for one in results if one.entity_type not in KEPT)
    kept, done = [], 0
    for start, end, kind in spans:
        if start >= done:
            kept += [text[done:start], f"[{kind}]"]
            done = end
        else:
            done = max(done, end)
    return "".join([*kept, text[done:]])
