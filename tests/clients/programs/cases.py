"""What every client program in Python shares: where the gateway is, and how cases are run and told.

A program runs with its client's own interpreter and environment, so nothing of Heed is imported here. It prints one
JSON line a case: ``{"case", "passed", "error"}``.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

URL = os.environ.get("CLIENT_URL", "") + "/v1"
HASTY_URL = os.environ.get("CLIENT_HASTY_URL", "") + "/v1"  # takes one request in five seconds of one user
KEY = os.environ.get("CLIENT_KEY", "")
QUESTION = "When do you open?"
MESSAGES: list[Any] = [{"role": "user", "content": QUESTION}]
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 24}
# JSON allows blanks between its parts without an end, and 3 million parameters like them: these four tokens.
COMPACT: dict[str, Any] = {
    "temperature": 0,
    "max_tokens": 200,
    "logit_bias": {"200": -100, "201": -100, "204": -100, "223": -100},
}
DAYS = ("monday", "sunday")
PARAMETERS = {
    "type": "object",
    "properties": {"day": {"type": "string", "enum": list(DAYS)}},
    "required": ["day"],
    "additionalProperties": False,
}
HOURS: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "hours",
        "description": "Opening hours of a day.",
        "strict": True,
        "parameters": PARAMETERS,
    },
}
NAMED = {"type": "function", "function": {"name": "hours"}}

_CASES: list[Callable[[], Any]] = []


def case(function: Callable[[], Any]) -> Callable[[], Any]:
    """A case: a function that raises when the client does not get what it should."""
    _CASES.append(function)
    return function


def raises(kind: type[Exception], call: Callable[[], Any]) -> Any:
    """The error that ``call`` raises, which must be of ``kind``."""
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was not raised")


def seconds(call: Callable[[], Any]) -> float:
    """How long ``call`` takes."""
    began = time.monotonic()
    call()
    return time.monotonic() - began


def main() -> None:
    """Run every case and tell."""
    for function in _CASES:
        error = None
        try:
            asyncio.run(function()) if inspect.iscoroutinefunction(function) else function()
        except Exception:  # noqa: BLE001  whatever it is, it is the case's result
            error = traceback.format_exc()
        told = {"case": function.__name__, "passed": error is None, "error": error}
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()
