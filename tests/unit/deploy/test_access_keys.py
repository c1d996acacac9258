"""Access keys: long, kept as digests, with limits that are numbers."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import asdict

import orjson
import pytest

from deploy.access_keys import KEY_PREFIX, Terms, create_key, revoke_key
from feedback.errors import InvalidRecord, UnknownRecord
from feedback.memory import MemoryRegistry
from feedback.protocols import KeyRecord
from feedback.records import dump, load


def test_a_key_has_256_bits_and_only_its_digest_is_kept() -> None:
    registry = MemoryRegistry()
    record, key = create_key(registry, Terms(["chat"], "web"))
    secret = key.removeprefix(KEY_PREFIX)
    assert len(base64.urlsafe_b64decode(secret + "=")) == 32
    assert record.digest == hashlib.sha256(key.encode()).hexdigest()
    assert secret not in repr(registry.keys())
    assert create_key(registry, Terms(["chat"]))[1] != key


def test_what_a_key_may_is_kept_with_it() -> None:
    registry = MemoryRegistry()
    record, _ = create_key(registry, Terms(["chat", "ops"], "batch", "low", 60, 10_000, 1e6, 4))
    assert registry.keys() == [record]
    limits = (
        record.requests_per_minute,
        record.tokens_per_minute,
        record.tokens_per_day,
        record.max_concurrent,
    )
    assert (record.scopes, record.priority, *limits) == (("chat", "ops"), "low", 60, 10_000, 1e6, 4)


@pytest.mark.parametrize(
    ("terms", "option"),
    [
        (Terms([]), "--scope"),
        (Terms(["root"]), "--scope"),
        (Terms(["chat"], priority="urgent"), "--priority"),
        (Terms(["chat"], requests_per_minute=-1), "--requests-per-minute"),
        (Terms(["chat"], tokens_per_minute=float("nan")), "--tokens-per-minute"),
        (Terms(["chat"], tokens_per_day=float("inf")), "--tokens-per-day"),
        (Terms(["chat"], max_concurrent=-2), "--max-concurrent"),
    ],
)
def test_what_makes_no_sense_is_named_and_makes_no_key(terms: Terms, option: str) -> None:
    registry = MemoryRegistry()
    with pytest.raises(InvalidRecord, match=option):
        create_key(registry, terms)
    assert registry.keys() == []


def test_a_record_of_before_there_were_limits_still_loads() -> None:
    old = {"id": "k-1", "digest": "d", "scopes": ["chat"], "created": 1.0, "name": "web", "revoked": False}
    record = load(KeyRecord, orjson.dumps(old))
    assert record == KeyRecord(id="k-1", digest="d", scopes=("chat",), created=1.0, name="web")
    assert (record.priority, record.requests_per_minute, record.max_concurrent) == ("normal", None, None)
    assert asdict(load(KeyRecord, dump(record))) == asdict(record)


def test_a_revoked_key_stays_in_the_list_and_keeps_its_limits() -> None:
    registry = MemoryRegistry()
    record, _ = create_key(registry, Terms(["chat"], priority="high"))
    revoke_key(registry, record.id)
    (kept,) = registry.keys()
    assert (kept.id, kept.revoked, kept.priority) == (record.id, True, "high")
    with pytest.raises(UnknownRecord):
        revoke_key(registry, "k-unknown")
