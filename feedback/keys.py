"""Every Redis key: name, type, lifetime, who writes, who reads.

``append.lua`` builds the keys marked (lua) from the same names; ``test_keys`` holds the two together.
Scripts and transactions touch keys of several names, so the store is one server (or a primary with
Sentinel, or a managed one), not a Redis Cluster.
"""

from __future__ import annotations

from feedback.ids import RESPONSE

P = "heed"

EVENTS = (
    f"{P}:events"  # (lua) stream {k: kind, e: event}; until archived; gateway and forget write, workers read
)
ARCHIVE_GROUP = "archive"  # the consumer group of EVENTS
WAITING = f"{P}:waiting"  # (lua) hash {events, votes} not yet acknowledged; for ever; log; everyone
DAMAGED = f"{P}:damaged"  # list of entries that do not decode, the last 1000; for ever; workers; people
REPORTS = f"{P}:reports"  # (lua) hash report id → event; for ever; log writes, gateway and batching read
SHAPES = f"{P}:shapes"  # (lua) hash number → JSON of what served responses, and back; for ever; log
VOTES_TOTAL = f"{P}:votes"  # (lua) hash alias → int; for ever; log writes, gateway and workers read

GENERATION = f"{P}:generation"  # int; for ever; registry writes, gateway polls
CHANGES = f"{P}:changes"  # channel: the new generation, at every change; registry publishes, gateway listens
SEQUENCE = f"{P}:sequence"  # int, newest adapter number; for ever; workers
ADAPTERS = f"{P}:adapters"  # hash id → JSON; for ever; workers and gateway
ALIASES = f"{P}:aliases"  # hash name → JSON; for ever; gateway and workers
EXPERIMENTS = f"{P}:experiments"  # hash name → JSON; for ever; gateway and workers
ACCESS = f"{P}:keys"  # hash id → JSON without the key; for ever; command line writes, gateway reads
USES = f"{P}:uses"  # sorted set adapter id by Unix seconds last asked for, the last 256; gateways
DRAINING = f"{P}:draining"  # set of engine names that get no new chats; for ever; gateway writes and reads
ENGINES = f"{P}:engines"  # set of engine names; for ever; gateway writes, review reads
GATEWAYS = f"{P}:gateways"  # hash gateway → "chats at-milliseconds"; seconds; gateway writes and reads
QUARANTINE = f"{P}:quarantine"  # hash event id → JSON; until forgotten or no longer found; workers, gateway
RECEIPTS = f"{P}:receipts"  # hash receipt id → JSON; for ever; forget writes, gateway reads


def seen(event_id: str) -> str:
    """(lua) String; SEEN_SECONDS; the log's own mark that an event was written; a response's is its own key."""
    return f"{P}:seen:{event_id}"


def response(response_id: str) -> str:
    """(lua) String "shape's number|time|prompt's mark"; as long as votes are taken, SEEN_SECONDS at least; log writes,
    gateway reads.
    """
    return f"{P}:response:{response_id.removeprefix(RESPONSE)}"


def awaited(response_id: str) -> str:
    """(lua) Set of the feedback ids that spoke of a response before it was known; until it is, at most as long as votes
    are taken; log.
    """
    return f"{P}:awaited:{response_id.removeprefix(RESPONSE)}"


def voice(feedback_id: str) -> str:
    """(lua) Hash {body, said, time, confirmed, facts, uncounted}: what stands, with sha1 of what was said and what
    experiments count of it; as long as votes are taken; log writes, gateway reads.
    """
    return f"{P}:voice:{feedback_id}"


def history(feedback_id: str) -> str:
    """(lua) List of events as they came, the last 32, from the second on; as long as votes are taken; log; gateway
    reads.
    """
    return f"{P}:history:{feedback_id}"


def forgotten(mark: str) -> str:
    """(lua) String, Unix seconds up to which a subject's events are refused; FORGOTTEN_SECONDS; forget
    writes, log and workers read. ``mark`` is a hash of the subject.
    """
    return f"{P}:forgotten:{mark}"


def subject(name: str) -> str:
    """(lua) List of response ids without their beginning (others after a "="), newest first, the last 1000; as long as
    votes are taken; log; gateway.
    """
    return f"{P}:subject:{name}"


def spoken(name: str) -> str:
    """(lua) Set of the subject's feedback and report ids; as long as votes are taken; log; forget reads."""
    return f"{P}:spoken:{name}"


def counts(experiment: str) -> str:
    """(lua) Hash "arm|field" → number; for ever; log writes, gateway and review read."""
    return f"{P}:counts:{experiment}"


def exposed(experiment: str, arm: str) -> str:
    """(lua) HyperLogLog of subjects, so 0.8 % off when there are many; for ever; log."""
    return f"{P}:exposed:{experiment}:{arm}"


def entered(experiment: str) -> str:
    """(lua) Set of subjects that entered the experiment; KEEP_SECONDS after the last; log."""
    return f"{P}:entered:{experiment}"


def paired(experiment: str, subject: str) -> str:
    """(lua) Hash "a|b" of two responses → JSON {voice: [time, won by a]}; KEEP_SECONDS after the last; log."""
    return f"{P}:paired:{experiment}:{subject}"


def tallies(experiment: str) -> str:
    """(lua) Hash "votes|arm|subject" or "pairs|arm|subject" → "won n"; KEEP_SECONDS after the last; log."""
    return f"{P}:tallies:{experiment}"


def engine(name: str) -> str:
    """String, JSON list of adapter ids; seconds; gateway writes, review reads."""
    return f"{P}:engine:{name}"


def loop(alias: str) -> str:
    """Hash field → JSON; for ever; workers write, gateway reads."""
    return f"{P}:loop:{alias}"


def lease(name: str) -> str:
    """Hash {holder, token}; seconds; workers."""
    return f"{P}:lease:{name}"


def fence(name: str) -> str:
    """Int, the newest token of a lease; for ever; workers."""
    return f"{P}:fence:{name}"


def held(holder: str) -> str:
    """(lua) Hash gateway → "chats at-milliseconds" of one key; seconds; gateway writes and reads."""
    return f"{P}:held:{holder}"


def bucket(name: str) -> str:
    """Hash {level, at}: units left at that time (ms); until it is full again; gateway writes and reads."""
    return f"{P}:bucket:{name}"


def ranking(alias: str) -> str:
    """Sorted set item id by doubt, the last MOST_ITEMS; for ever; workers and gateway write, gateway reads."""
    return f"{P}:ranking:{alias}"


def items(alias: str) -> str:
    """Hash item id → JSON of Item, as many; for ever; workers and gateway write, gateway reads."""
    return f"{P}:items:{alias}"


def rated(alias: str, rater: str) -> str:
    """Set of the ids of items that a rater was shown; KEPT_SECONDS after the last; gateway."""
    return f"{P}:rated:{alias}:{rater}"


def offers(alias: str, item: str) -> str:
    """Sorted set rater by the milliseconds at which the offer ends, +inf: answered; KEPT_SECONDS; gateway."""
    return f"{P}:offers:{alias}:{item}"


def offer(about: str) -> str:
    """String, JSON of Offer; as long as votes are taken; gateway writes and reads."""
    return f"{P}:offer:{about}"
