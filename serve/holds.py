"""The chats in flight of keys that may have only so many: here, and in the other gateways as last told.

A key is told of and asked for while it chats and for a few seconds after, so that the store hears of few keys and
nothing waits for it. What processes begin before they have heard of each other is let through.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from feedback.protocols import Hold

KEPT_SECONDS = 3.0  # after a key's last chat was asked for
KNOWN_SECONDS = 1.0  # how long what was heard is believed: what tells nothing new tells once a second


class Holds:
    """Which keys are told of, and what was heard. ``here`` gives a key's chats in this process; ``early`` is called
    when a key comes of which nothing was heard yet.
    """

    def __init__(
        self, here: Callable[[str], int], clock: Callable[[], float], early: Callable[[], None]
    ) -> None:
        self._here, self._clock, self._early = here, clock, early
        self._asked: dict[str, float] = {}  # key → when its last chat was asked for
        self._elsewhere: Mapping[str, int] = {}
        self._heard_at = 0.0
        self._news = False

    def ask(self, key: str) -> int:
        """The key's chats in the other gateways. From now on it is told of."""
        now = self._clock()
        if now - self._heard_at > KNOWN_SECONDS:
            self._elsewhere = {}
        if key not in self._elsewhere:
            self._early()
        self._asked[key] = now
        self._news = True
        return self._elsewhere.get(key, 0)

    @property
    def news(self) -> bool:
        """Whether a key has asked since the last telling."""
        return self._news

    def untold(self) -> list[Hold]:
        """What to tell and to ask for."""
        self._news = False
        oldest = self._clock() - KEPT_SECONDS
        found = [Hold(key, self._here(key)) for key in self._asked]
        self._asked = {
            hold.holder: self._asked[hold.holder]
            for hold in found
            if hold.chats or self._asked[hold.holder] >= oldest
        }
        return found

    def heard(self, holds: Sequence[Hold], elsewhere: Sequence[int]) -> None:
        """What the others have of each. Empty: they are not heard, and each process counts alone."""
        self._heard_at = self._clock()
        self._elsewhere = {
            hold.holder: chats
            for hold, chats in zip(holds, elsewhere, strict=True)
            if hold.holder in self._asked
        }
