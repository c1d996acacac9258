"""Fields of OpenAI's API that reach no engine: taken where they ask for what happens anyway, refused where not.

SDKs and frameworks send some of them unasked, so refusing them all would break clients for nothing; taking them all
would let a client believe in what it never gets. ``docs/clients.md`` lists every one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from serve.chat_messages import read_content
from serve.errors import BadField

UNSUPPORTED = "unsupported_parameter"
MAX_KEY = 256  # characters of a prompt_cache_key
REFUSED = {
    "audio": "is not taken: answers are text",
    "function_call": "is not taken: use tool_choice",
    "functions": "is not taken: use tools",
    "moderation": "is not taken: nothing moderates here",
    "web_search_options": "is not taken: nothing searches here; offer a search among the tools",
}


def read_hint(value: Any, name: str) -> None:
    """Check a field that changes nothing. Raises BadField when it asks for what is not given."""
    if name in REFUSED:
        raise BadField(name, REFUSED[name], code=UNSUPPORTED)
    _HINTS[name](value, name)


def _among(*allowed: Any, why: str) -> Callable[[Any, str], None]:
    def check(value: Any, name: str) -> None:
        if value not in allowed:
            raise BadField(name, why, code=UNSUPPORTED)

    return check


def _prediction(value: Any, name: str) -> None:
    """Text that the answer may repeat: it changes how fast an answer comes and never what it says."""
    if not isinstance(value, dict) or value.get("type") != "content":
        raise BadField(name, 'must be {"type": "content", "content": "…"}')
    read_content(value.get("content"), f"{name}.content")


def _key(value: Any, name: str) -> None:
    if not isinstance(value, str) or len(value) > MAX_KEY:
        raise BadField(name, f"must be text of at most {MAX_KEY} characters")


def _cache_options(value: Any, name: str) -> None:
    if (
        not isinstance(value, dict)
        or set(value) - {"mode", "ttl"}
        or value.get("mode") not in (None, "implicit")
    ):
        raise BadField(name, "must be of mode implicit: engines cache every prefix", code=UNSUPPORTED)


_HINTS: dict[str, Callable[[Any, str], None]] = {
    "modalities": _among(["text"], why='must be ["text"]: answers are text'),
    "prediction": _prediction,
    "prompt_cache_key": _key,
    "prompt_cache_options": _cache_options,
    "prompt_cache_retention": _among("in_memory", "in-memory", "24h", why="must be in_memory or 24h"),
    "service_tier": _among("auto", "default", why="must be auto or default: there is one tier"),
    "verbosity": _among("medium", why="must be medium: say in the messages how long an answer should be"),
}
HINTS = frozenset(_HINTS) | frozenset(REFUSED)
