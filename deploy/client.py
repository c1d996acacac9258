"""The command line's way to a running Heed: its public HTTP API, one call at a time."""

from __future__ import annotations

import http.client
import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any

from deploy.errors import NotRunning, RequestRefused
from feedback.errors import InvalidRecord

CHUNK_BYTES = 65536


class Client:
    """Calls with the key of HEED_API_KEY, if there is one. Raises NotRunning and RequestRefused."""

    def __init__(self, url: str, *, key: str | None = None, seconds: float = 60.0) -> None:
        self.url = url.rstrip("/")
        self._key = key if key is not None else os.environ.get("HEED_API_KEY", "")
        self._seconds = seconds

    def get(self, path: str, **query: object) -> dict[str, Any]:
        return self._call("GET", path, query=query)

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        return self._call("POST", path, body=body or {})

    def patch(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return self._call("PATCH", path, body=body)

    def stream(self, path: str, **query: object) -> Iterator[bytes]:
        """The bytes of a GET as they come."""
        with self._open(self._request("GET", path, query=query)) as reply:
            while chunk := reply.read(CHUNK_BYTES):
                yield chunk

    def _call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        with self._open(self._request(method, path, query=query, body=body)) as reply:
            data = reply.read()
        try:
            value = json.loads(data) if data else {}
        except ValueError as error:
            raise RequestRefused(reply.status, f"{self.url}{path} did not answer JSON") from error
        return value if isinstance(value, dict) else {"data": value}

    def _request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> urllib.request.Request:
        said = urllib.parse.urlencode({k: v for k, v in (query or {}).items() if v is not None})
        headers = {"Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        data = None if body is None else json.dumps(body).encode()
        url = self.url + path + (f"?{said}" if said else "")
        return urllib.request.Request(  # noqa: S310 - the address is the operator's own
            url, data=data, headers=headers, method=method
        )

    def _open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        try:
            reply: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=self._seconds)  # noqa: S310
        except urllib.error.HTTPError as error:
            with error:
                raise _refused(error.code, error.read()) from error
        except (OSError, http.client.HTTPException) as error:
            raise NotRunning(f"at {self.url}") from error
        return reply


def _refused(status: int, body: bytes) -> RequestRefused:
    """OpenAI's error shape as an exception."""
    try:
        error = json.loads(body)["error"]
        return RequestRefused(status, str(error["message"]), error.get("code"))
    except (ValueError, KeyError, TypeError):
        return RequestRefused(status, body.decode(errors="replace")[:300] or "no message")


def is_http(address: str) -> bool:
    """Whether something can be asked at the address: http or https, a host, a port that can be."""
    try:
        parts = urllib.parse.urlsplit(address)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def find_url(url: str | None = None) -> str:
    """Where Heed is: ``url``, else HEED_URL, else the launch of the data directory. Raises NotRunning, and
    InvalidRecord for what is no address.
    """
    from deploy.settings import LaunchSettings
    from deploy.state import running_state

    named = url or os.environ.get("HEED_URL")
    if not named:
        return running_state(LaunchSettings().run_dir).url
    if not is_http(named):
        raise InvalidRecord("--url" if url else "HEED_URL", f"{named!r} is not http://HOST:PORT")
    return named.rstrip("/")


def find(url: str | None = None) -> Client:
    """A client for where Heed is. Raises NotRunning and InvalidRecord."""
    return Client(find_url(url))
