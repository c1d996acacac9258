"""Engines as training asks them: plain calls over HTTP, from any number of threads.

A call names the adapter that it is about; nothing here ever loads other weights under a name that was used, since
vLLM's cache of prefixes would answer with the old ones.
"""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import orjson

from feedback.addresses import is_address, of_one_family
from training.errors import EngineFailed

CONTROL_SECONDS = 5.0
LOAD_SECONDS = 30.0  # it may queue behind a step of the engine
REPLY_SECONDS = 60.0  # silence: a reply comes at once when it is whole, and those of users come first
PRIORITY = 20
"""vLLM takes what is lower first; the gateways ask with −10 for keys of priority high, 0 for normal, 10 for low."""


@dataclass(frozen=True)
class Engine:
    """One vLLM server. Every call raises EngineFailed."""

    url: str
    key: str = field(default="", repr=False)
    address: str | None = None  # one of the several addresses of its name

    def __str__(self) -> str:
        return self.url if self.address is None else f"{self.url} ({self.address})"

    def adapters(self) -> set[str]:
        """The adapters that it lists."""
        body = self._json("GET", "/v1/models", CONTROL_SECONDS)
        try:
            return {card["id"] for card in body["data"] if card.get("parent")}
        except (KeyError, TypeError, AttributeError) as error:
            raise EngineFailed(f"{self}: its list of models does not parse") from error

    def load(self, adapter: str, folder: str) -> None:
        """Load an adapter from a folder as the engine sees it."""
        self._call("POST", "/v1/load_lora_adapter", LOAD_SECONDS, {"lora_name": adapter, "lora_path": folder})

    def unload(self, adapter: str) -> None:
        """Make it forget the name; nothing happens when it does not know it."""
        try:
            self._call("POST", "/v1/unload_lora_adapter", CONTROL_SECONDS, {"lora_name": adapter})
        except EngineFailed as error:
            if error.status != 404:
                raise

    def use(self, adapter: str) -> None:
        """Have it make one token, so that the adapter is not what it drops from its memory next."""
        body = {"model": adapter, "prompt": [1], "max_tokens": 1, "priority": PRIORITY}
        self._call("POST", "/v1/completions", CONTROL_SECONDS, body)

    def complete(self, **asked: Any) -> list[dict[str, Any]]:
        """The choices of a completion. Refused by 400 is what this engine would never do, whoever asks."""
        body = self._json("POST", "/v1/completions", REPLY_SECONDS, asked)
        choices = body.get("choices") if isinstance(body, dict) else None
        if not isinstance(choices, list):
            raise EngineFailed(f"{self}: its completion does not parse")
        return choices

    def _json(self, method: str, path: str, seconds: float, body: dict[str, Any] | None = None) -> Any:
        try:
            return orjson.loads(self._call(method, path, seconds, body))
        except orjson.JSONDecodeError as error:
            raise EngineFailed(f"{self}: its answer to {path} is not JSON") from error

    def _call(self, method: str, path: str, seconds: float, body: dict[str, Any] | None = None) -> bytes:
        parts = urlsplit(self.url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        headers = {"host": parts.netloc, "content-type": "application/json"}
        if self.key:
            headers["authorization"] = f"Bearer {self.key}"
        connection = kind(self.address or parts.hostname or "", parts.port, timeout=seconds)
        try:
            data = None if body is None else orjson.dumps(body)
            connection.request(method, parts.path + path, data, headers)
            answer = connection.getresponse()
            said = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise EngineFailed(f"{self} could not be reached: {error or type(error).__name__}") from error
        finally:
            connection.close()
        if answer.status != 200:
            told = said.decode(errors="replace")[:300]
            raise EngineFailed(f"{self} answered {answer.status} to {path}: {told}", answer.status)
        return said


def engines_of(urls: Iterable[str], key: str) -> list[Engine]:
    """The engines behind the URLs: a name with several addresses is as many, as it is for the gateways. One that is
    asked over TLS has to be one server, whose certificate names it.
    """
    found = []
    for url in urls:
        addresses = _addresses_of(urlsplit(url).hostname or "") if url.startswith("http://") else []
        found += [Engine(url, key, one) for one in addresses] if len(addresses) > 1 else [Engine(url, key)]
    return found


def _addresses_of(host: str) -> list[str]:
    """Sorted, of one family; none when the host is an address, or cannot be looked up now."""
    if is_address(host):
        return []
    try:
        return of_one_family(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))
    except OSError:
        return []
