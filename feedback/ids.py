"""Signed ids: a response id proves, without a look-up, that it was served here to this subject.

Layout, before base64url: 12 random bytes, 4 bytes of Unix seconds (rounded up: no id ends before its life does),
1 byte of flags, 16 bytes of HMAC-SHA256 over those 17 and the subject. A comparison's two response ids follow from
its own.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import math
import os
import secrets as random
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from feedback.durable import fsync_folder
from feedback.errors import ExpiredId, InvalidId, NotStored, SettingsError
from feedback.nonces import unique

RESPONSE, COMPARISON = "chatcmpl-", "cmpr-"
_HEAD, _MAC = 17, 16
_STORED = 1


@dataclass(frozen=True, slots=True)
class Secrets:
    """The signing keys, newest first. The first whose time has come signs; all verify, those that wait as well, so
    that every gateway knows a key before any signs with it.
    """

    keys: tuple[bytes, ...]
    begins: tuple[float, ...] = ()  # Unix seconds from which each signs; none: at once
    pseudonyms: bytes = b""  # makes subjects; none: the last of ``keys``

    @classmethod
    def load(cls, path: Path) -> Secrets:
        """Read the keys, one line each; make the file (0600) when there is none. A line is ``HEX``, ``HEX@SECONDS`` of
        a key that signs from then on, or ``HEX@subjects`` of one that signs and verifies nothing any more and only
        keeps the subjects' pseudonyms what they were.
        """
        if not path.exists():
            _create(path)
        try:
            lines = [_parsed(line) for line in path.read_text().split()]
        except ValueError as error:
            raise SettingsError(
                f"{path}: each line must be hex, or hex@unix-seconds; delete the file to make a new key"
            ) from error
        signing = [(key, begin) for key, begin in lines if begin != math.inf]
        if not signing or any(len(key) < 16 for key, _ in lines):
            raise SettingsError(f"{path}: needs at least one key of 32 hex digits that signs")
        begins = tuple(begin for _, begin in signing)
        return cls(tuple(key for key, _ in signing), begins if any(begins) else (), lines[-1][0])

    def signer(self, now: float) -> bytes:
        """The key that signs at that time; the oldest where none may yet."""
        begun = (key for key, begin in zip(self.keys, self.begins, strict=True) if begin <= now)
        return next(begun, self.keys[-1]) if self.begins else self.keys[0]


def _parsed(line: str) -> tuple[bytes, float]:
    """A key and from when it signs; never: infinite. Raises ValueError."""
    text, _, begin = line.partition("@")
    return bytes.fromhex(text), math.inf if begin == "subjects" else float(begin or 0)


def rotate(path: Path, begin: float) -> Secrets:
    """Put a new key first that signs from ``begin`` (Unix seconds) on; what stands then. Whoever reads the file sees
    the old keys or all of them. Raises SettingsError for a file that cannot be read.
    """
    Secrets.load(path)
    draft = _draft(path, f"{random.token_hex(32)}@{begin:.0f}\n{path.read_text()}")
    draft.replace(path)
    fsync_folder(path.parent)
    return Secrets.load(path)


def _draft(path: Path, text: str) -> Path:
    """A file beside, durable, that only its owner can read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.{random.token_hex(4)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return draft


def _create(path: Path) -> None:
    draft = _draft(path, random.token_hex(32) + "\n")
    try:
        os.link(draft, path)  # fails when another process was first: then its key stands
    except FileExistsError:
        return
    finally:
        draft.unlink()


@lru_cache(maxsize=64)
def _keyed(key: bytes) -> hmac.HMAC:
    """HMAC-SHA256 with the key taken in: a copy costs half of a new one, and other threads need not be let in."""
    return hmac.new(key, digestmod="sha256")


def _mac(key: bytes, what: bytes, size: int = _MAC) -> bytes:
    mac = _keyed(key).copy()
    mac.update(what)
    return mac.digest()[:size]


def subject_of(secrets: Secrets, key_id: str, identifier: str) -> str:
    """The pseudonym of an end user under an access key; the last key of the file keeps it stable."""
    return (
        "s-"
        + _mac(secrets.pseudonyms or secrets.keys[-1], f"subject\0{key_id}\0{identifier}".encode(), 12).hex()
    )


def _mint(secrets: Secrets, prefix: str, subject: str, *, nonce: bytes, now: float, flags: int) -> str:
    head = nonce + math.ceil(now).to_bytes(4, "big") + bytes([flags])
    body = head + _mac(secrets.signer(now), prefix.encode() + head + subject.encode())
    return prefix + base64.urlsafe_b64encode(body).decode()  # 33 bytes: no padding


def mint_response(secrets: Secrets, subject: str, *, now: float, stored: bool = True) -> str:
    """A fresh id for one response to ``subject``."""
    return _mint(secrets, RESPONSE, subject, nonce=unique(12), now=now, flags=_STORED if stored else 0)


def mint_comparison(secrets: Secrets, subject: str, *, now: float) -> str:
    """A fresh id for one comparison."""
    return _mint(secrets, COMPARISON, subject, nonce=unique(12), now=now, flags=_STORED)


def sides(secrets: Secrets, comparison_id: str, subject: str) -> tuple[str, str]:
    """The two response ids of a comparison, a function of its id: signed with the key that signed it, so that
    they stay the same when keys rotate. Raises InvalidId.
    """
    body = _unpack(comparison_id)
    head = body[:_HEAD]
    key = _signer(secrets, COMPARISON, body, subject)
    if key is None or not comparison_id.startswith(COMPARISON):
        raise InvalidId("no such id")
    secrets = Secrets((key,))
    now = int.from_bytes(head[12:16], "big")
    first, second = (hashlib.sha256(head + bytes([side])).digest()[:12] for side in (0, 1))
    return (
        _mint(secrets, RESPONSE, subject, nonce=first, now=now, flags=_STORED),
        _mint(secrets, RESPONSE, subject, nonce=second, now=now, flags=_STORED),
    )


def _unpack(signed: str) -> bytes:
    """The bytes of an id. Only the one spelling that was minted is taken: another would be another voice."""
    _, _, text = signed.partition("-")
    try:
        body = base64.b64decode(text.encode("ascii"), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidId("no such id") from error
    if len(body) != _HEAD + _MAC or base64.urlsafe_b64encode(body).decode() != text:
        raise InvalidId("no such id")
    return body


def _signer(secrets: Secrets, prefix: str, body: bytes, subject: str) -> bytes | None:
    """The key that signed the id for the subject. Every key is tried, so that time tells nothing."""
    what = prefix.encode() + body[:_HEAD] + subject.encode()
    found = None
    for key in secrets.keys:
        if hmac.compare_digest(_mac(key, what), body[_HEAD:]):
            found = key
    return found


def verify(
    secrets: Secrets, signed: str, subject: str, *, now: float, life_seconds: float, prefix: str = RESPONSE
) -> None:
    """Raises InvalidId, ExpiredId or NotStored; forged, foreign, junk and an id of the other kind are never
    told apart. ``prefix``: the kind, RESPONSE or COMPARISON.
    """
    try:
        body = _unpack(signed)
    except InvalidId:
        _signer(secrets, prefix, bytes(_HEAD + _MAC), subject)  # junk takes as long as a forgery
        raise
    head = body[:_HEAD]
    if _signer(secrets, prefix, body, subject) is None or not signed.startswith(prefix):
        raise InvalidId("no such id")
    if now - int.from_bytes(head[12:16], "big") > life_seconds:
        raise ExpiredId("this response can no longer be voted on")
    if not head[16] & _STORED:
        raise NotStored("this response was not stored")


def feedback_id(thing_id: str, subject: str) -> str:
    """One voice for each subject and thing."""
    return "fb-" + hashlib.sha256(f"{thing_id}\0{subject}".encode()).hexdigest()[:24]


def new_event_id(now: float | None = None) -> str:
    """Unique; sorts by time."""
    stamp = int((time.time() if now is None else now) * 1e6)
    return f"ev-{stamp:014x}{unique(8).hex()}"
