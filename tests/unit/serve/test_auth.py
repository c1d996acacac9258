"""Who calls, and who is behind it."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
from starlette.requests import Request

from feedback.ids import Secrets
from feedback.protocols import KeyRecord
from serve.auth import Doorman, digest_of, is_loopback
from serve.errors import BadField, Forbidden, Unauthorized
from serve.routing import RouteTable

SECRETS = Secrets((b"x" * 32,))


def request(client: str = "127.0.0.1", **headers: str) -> Request:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "headers": raw, "client": (client, 1), "method": "GET", "path": "/"})


def doorman(*keys: tuple[str, tuple[str, ...]], admin: str = "") -> Doorman:
    records = [
        KeyRecord(id=f"k-{key}", digest=digest_of(key), scopes=scopes, created=0.0) for key, scopes in keys
    ]
    table = RouteTable(keys={record.digest: record for record in records})
    return Doorman(lambda: table, SECRETS, admin)


def bearer(key: str) -> dict[str, Any]:
    return {"authorization": f"Bearer {key}"}


@pytest.mark.parametrize("client", ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"])
def test_without_keys_the_loopback_may_do_everything(client: str) -> None:
    assert doorman().caller(request(client)).has("admin")


@pytest.mark.parametrize("client", ["10.0.0.1", "::ffff:10.0.0.1", "fe80::1", "example.org", ""])
def test_without_keys_nobody_else_may_do_anything(client: str) -> None:
    with pytest.raises(Forbidden):
        doorman().caller(request(client))


def test_with_a_key_the_loopback_needs_one_too() -> None:
    with pytest.raises(Unauthorized):
        doorman(("secret", ("chat",))).caller(request())
    with pytest.raises(Unauthorized):
        doorman(("secret", ("chat",))).caller(request(**bearer("other")))
    with pytest.raises(Unauthorized):
        doorman(("secret", ("chat",))).caller(request(authorization="Basic secret"))


def test_scopes_bound_a_key_and_admin_has_them_all() -> None:
    door = doorman(("reader", ("chat",)), ("boss", ("admin",)))
    caller = door.caller(request("10.0.0.1", **bearer("reader")))
    caller.need("chat")
    with pytest.raises(Forbidden):
        caller.need("product")
    door.caller(request(**bearer("boss"))).need("ops")


def test_the_key_of_the_environment_is_an_admins() -> None:
    door = doorman(admin="root")
    assert not door.keyless
    assert door.caller(request("10.0.0.1", **bearer("root"))).has("admin")
    with pytest.raises(Unauthorized):
        door.caller(request())


def test_identity_goes_from_the_body_to_the_header_to_the_cookie_to_the_key() -> None:
    door = doorman()
    caller = door.caller(request())
    both = request(heed_user="header", cookie="heed_user=cookie")
    by_safety = door.subject(caller, both, "safety", "user")
    by_user = door.subject(caller, both, None, "user")
    by_header = door.subject(caller, both)
    by_cookie = door.subject(caller, request(cookie="heed_user=cookie"))
    by_key = door.subject(caller, request())
    assert len({by_safety, by_user, by_header, by_cookie, by_key}) == 5
    assert by_user == door.subject(caller, request(heed_user="user"))
    assert door.subject(caller, request(cookie="heed_user=user")) != by_user
    assert not any("user" in one or "cookie" in one for one in (by_user, by_cookie))


def test_the_same_user_under_another_key_is_somebody_else() -> None:
    door = doorman(("a", ("chat",)), ("b", ("chat",)))
    callers = [door.caller(request(**bearer(key))) for key in "ab"]
    assert len({door.subject(caller, request(), None, "alice") for caller in callers}) == 2


def test_an_endless_user_header_is_refused() -> None:
    door = doorman()
    with pytest.raises(BadField):
        door.subject(door.caller(request()), request(heed_user="x" * 257))


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("localhost", True), ("127.0.0.1", True), ("::1", True), ("0.0.0.0", False), ("", False), (None, False)],
)
def test_what_counts_as_loopback(host: str | None, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_what_strangers_send_for_a_host_is_not_kept_at_length() -> None:
    tracemalloc.start()
    for n in range(1000):
        assert not is_loopback(f"{n:04}" + "a" * 60_000)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 2**20
