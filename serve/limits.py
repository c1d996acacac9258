"""What a key and a subject may ask for: requests and tokens by time, and places among the chats in flight.

The buckets are of this process, so that nothing waits for the store; ``share`` tells the store what was used and
hears what the other gateways used. N processes may let N bursts through before they have heard of each other;
what was too much is missing afterwards, so that over time the rate is exact. While the store is away each process
holds every limit alone.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Self

from feedback.errors import StoreUnavailable
from feedback.protocols import Quotas
from serve.auth import Caller
from serve.buckets import Bucket, Buckets, Quota, whole_seconds
from serve.errors import GatewayError, TooMany
from serve.holds import Holds
from serve.meters import KeyMeters, Meter, headers_of
from serve.metrics import Metrics
from serve.places import Bounds, Places, Taken
from serve.settings import GatewaySettings

logger = logging.getLogger(__name__)
TOLD_AT_ONCE = 2000  # buckets
STILL_SECONDS = 1.0  # while nothing changes, the other gateways hear this often; they count it for 3 s
EARLY_SECONDS = 0.01  # least pause between two tellings


class Limits:
    """All limits of one gateway process."""

    def __init__(
        self,
        settings: GatewaySettings,
        metrics: Metrics,
        quotas: Quotas,
        engines_up: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._metrics, self._quotas = settings, metrics, quotas
        self._subject = (
            Quota(settings.subject_rate, settings.subject_burst) if settings.subject_rate else None
        )
        self.places = Places(Bounds.of(settings), engines_up, clock)
        self._wake = asyncio.Event()
        self._holds = Holds(self.places.held, clock, early=self._wake.set)
        self._meters = KeyMeters(settings)
        self._buckets = Buckets(clock, early=self._wake.set)
        self._charges: deque[tuple[Caller, int]] = deque()  # appended by the writer's thread
        self._name = secrets.token_hex(8)  # of this process among the gateways
        self._store_up, self._said_busy = True, False
        self._clock, self._said, self._said_at = clock, 0, -STILL_SECONDS

    def spend(self, caller: Caller, subject: str) -> None:
        """One request of the subject. Raises TooMany with the seconds until there may be another. On the
        loopback without keys there is no rate.
        """
        if self._subject is None or caller.keyless:
            return
        bucket, now = self._buckets.of(f"subject:{subject}", self._subject), self._clock()
        if wait := bucket.wait(now, 1.0):
            error = TooMany("too many requests of one user", retry_after=whole_seconds(wait))
            self._count(error)
            raise error
        self._buckets.take(bucket, now, 1.0)

    async def turn(self, caller: Caller, subject: str, responses: int = 1) -> None:
        """A chat of priority high that finds no place waits a moment for its turn, unless its key or subject may
        have no more. Call ``chat`` next, without a pause.
        """
        if caller.priority != "high" or self.places.free("high", responses):
            return
        try:
            self._charge()
            _check_meters(self._metered(caller), self._clock(), responses)
            self._holders(caller, subject, responses)
        except GatewayError:
            return  # ``chat`` says so
        await self.places.turn("high", responses)

    def chat(self, caller: Caller, subject: str, responses: int = 1) -> Admitted:
        """Places for a chat of so many responses, until they are given back. Raises TooMany when the key or the
        subject has had its share, Unavailable when the priority has.
        """
        self._charge()
        metered, now = self._metered(caller), self._clock()
        try:
            _check_meters(metered, now, responses)
            holders = () if caller.keyless else self._holders(caller, subject, responses)
            self.places.check(caller.priority, responses)
        except GatewayError as error:
            self._count(error)
            raise
        for meter, bucket in metered:
            if meter.unit == "requests":
                self._buckets.take(bucket, now, responses)
        self._metrics.in_flight.inc(responses)
        back = partial(self._metrics.in_flight.dec, responses)
        return Admitted(self.places.taken(holders, responses), headers_of(metered, now), back)

    def charge(self, caller: Caller, tokens: int) -> None:
        """The tokens of a response that has ended, prompt and reply. Any thread may call."""
        if caller.record is not None and tokens > 0:
            self._charges.append((caller, tokens))

    async def share(self) -> None:
        """Tell the store what was used and hear of the other gateways, for ever."""
        while True:
            await self.tell()
            await asyncio.sleep(EARLY_SECONDS)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._settings.quota_sync_seconds):
                    await self._wake.wait()

    async def tell(self) -> None:
        """Once. What the store cannot be told is counted here alone."""
        self._charge()
        self._wake.clear()
        uses, in_flight = self._buckets.untold(TOLD_AT_ONCE), self.places.in_flight
        still = in_flight == self._said and not self._holds.news
        if not uses and still and self._clock() - self._said_at < STILL_SECONDS:
            return
        if not (uses or in_flight or self._said_busy or self._holds.news):
            self.places.elsewhere = 0  # an idle gateway says nothing and hears nothing
            return
        holds = self._holds.untold()
        try:
            settled = await asyncio.to_thread(self._quotas.settle, self._name, in_flight, uses, holds)
        except StoreUnavailable:
            if self._store_up:
                logger.warning("the store is away: each gateway holds the limits alone")
            self._store_up, self.places.elsewhere = False, 0
            self._holds.heard((), ())
            return
        self._store_up, self._said_busy = True, in_flight > 0
        self._said, self._said_at = in_flight, self._clock()
        self.places.elsewhere = settled.elsewhere
        self._holds.heard(holds, settled.held)
        names = (use.bucket for use in uses)
        self._buckets.told(dict(zip(names, settled.levels, strict=True)))

    def _metered(self, caller: Caller) -> list[tuple[Meter, Bucket]]:
        """The limits of the caller's key, each with its bucket."""
        return [(one, self._buckets.of(one.name, one.quota)) for one in self._meters.of(caller.record)]

    def _holders(self, caller: Caller, subject: str, responses: int) -> tuple[str, ...]:
        """Whose places they are. Raises TooMany when one has all it may."""
        own = caller.record.max_concurrent if caller.record is not None else 0
        most = self._settings.key_chats if own is None else own
        elsewhere = self._holds.ask(caller.key_id) if most else 0
        self.places.check_holder(caller.key_id, most, responses, "the key", "--max-concurrent", elsewhere)
        most = self._settings.subject_chats
        self.places.check_holder(subject, most, responses, "the user", "HEED_SUBJECT_CHATS")
        return caller.key_id, subject

    def _charge(self) -> None:
        """Take what the responses that ended have used."""
        if not self._charges:
            return
        # By key: the writer's thread tells of many responses at a time.
        used: dict[str, tuple[Caller, int]] = {}
        while self._charges:
            caller, tokens = self._charges.popleft()
            _, before = used.get(caller.key_id, (caller, 0))
            used[caller.key_id] = caller, before + tokens
        now = self._clock()
        for caller, tokens in used.values():
            for meter, bucket in self._metered(caller):
                if meter.unit == "tokens":
                    self._buckets.take(bucket, now, tokens)

    def _count(self, error: GatewayError) -> None:
        self._metrics.refused.labels(error.code).inc()


class Admitted:
    """A chat that was let in: what ``headers`` say is left, and its places until ``close`` or the end of a ``with``."""

    __slots__ = ("_back", "_taken", "headers")

    def __init__(self, taken: Taken, headers: Mapping[str, str], back: Callable[[], None]) -> None:
        self._taken, self.headers = taken, headers
        self._back: Callable[[], None] | None = back

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the places back; once."""
        if self._back is not None:
            self._taken.close()
            self._back()
            self._back = None


def _check_meters(metered: Sequence[tuple[Meter, Bucket]], now: float, responses: int) -> None:
    """Requests are paid before, tokens after: a chat is let in while one token is left."""
    longest, most = 0.0, None
    for meter, bucket in metered:
        wait = bucket.wait(now, responses if meter.unit == "requests" else 1.0)
        if wait > longest:
            longest, most = wait, meter
    if most is not None:
        raise TooMany(
            f"the key has used its {most.said}: wait as long as Retry-After says, "
            f"or ask for a key with a higher {most.option}",
            code=f"{most.unit}_limit",
            retry_after=whole_seconds(longest),
            headers=headers_of(metered, now),
        )
