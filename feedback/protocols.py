"""What the gateway and the workers may ask of the store.

Two implementations, one contract test suite: ``log.RedisEventLog`` and ``registry.RedisRegistry`` on a real
server, ``memory.MemoryEventLog`` and ``memory.MemoryRegistry`` in process. All calls are plain (not async):
the gateway makes them from threads, a group at a time.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from feedback.appended import Appended
from feedback.events import Event, Vote
from feedback.held import Quarantine

AdapterState: TypeAlias = Literal["candidate", "canary", "live", "retired", "rejected"]
USES_KEPT = 256
LoopMode: TypeAlias = Literal["auto", "approve", "off"]
Priority: TypeAlias = Literal["high", "normal", "low"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One claimed event and where it stands in the log."""

    position: str
    event: Event


@dataclass(frozen=True, slots=True)
class Backlog:
    """What no consumer has acknowledged yet."""

    events: int
    votes: int  # votes and comparisons among them
    oldest_seconds: float  # age of the oldest; 0 when empty


@dataclass(frozen=True, slots=True)
class ResponseSummary:
    """What the store remembers of a served response, without its text."""

    response_id: str
    alias: str
    adapter: str
    arm: str
    experiment: str | None
    time: float
    prompt: str = ""  # the same for the same prompt; empty: not known


class Entered(NamedTuple):
    """How many subjects had this arm at their first response, while the shares stood as they did."""

    phase: str  # names one setting of all shares; a ramp begins another
    share: float  # this arm's share then
    subjects: int


@dataclass(frozen=True, slots=True)
class ArmCounts:
    """Running totals of one arm of an experiment."""

    exposures: int = 0
    subjects: int = 0
    up: int = 0
    down: int = 0
    wins: float = 0.0  # comparisons won, ties half
    compared: int = 0
    errors: int = 0
    completion_tokens: int = 0
    duration_seconds: float = 0.0
    expected_exposures: float = 0.0  # sum over the experiment's exposures of this arm's propensity
    entered: tuple[Entered, ...] = ()  # by phase, for the sample ratio; empty: shares were not logged
    # Sums over the arm's subjects, for variances by subject; 0: not counted. With n votes of which u are up:
    votes_squared: float = 0.0  # n²
    up_squared: float = 0.0  # u²
    up_votes: float = 0.0  # u·n
    compared_squared: float = 0.0  # the same for comparisons, with n compared of which u were won
    wins_squared: float = 0.0
    wins_compared: float = 0.0
    # Sums over exposures, for the variance of a mean.
    tokens_squared: float = 0.0
    duration_squared: float = 0.0  # seconds²


class EventLog(Protocol):
    """The append-only log of events, and the small indexes kept beside it in the same atomic step."""

    def append(self, events: Sequence[Event]) -> list[Appended]:
        """Write in order, in one round trip; return only when durable. A vote without an alias gets that of its
        response, where it is known. Raises StoreUnavailable; EventsRefused when only some were refused, for what they
        are; and before anything is written InvalidRecord for a time that is not finite.
        """

    def claim(self, consumer: str, count: int, idle_seconds: float = 60.0) -> list[Entry]:
        """Up to ``count`` unacknowledged entries, those abandoned by other consumers first."""

    def ack(self, positions: Sequence[str]) -> None:
        """Mark as archived. Only after the archive is fsynced."""

    def trim(self) -> int:
        """Drop entries that are acknowledged, never others; returns how many went."""

    def backlog(self) -> Backlog: ...

    def votes_total(self, alias: str) -> int:
        """How many votes and comparisons were ever logged for the alias; repeats, votes taken back and votes
        that came too late to stand are not counted.
        """

    def response(self, response_id: str) -> ResponseSummary | None: ...

    def latest(self, response_id: str, subject: str) -> Vote | None:
        """The subject's standing vote on the response; None when there is none or it was taken back."""

    def history(self, response_id: str, subject: str) -> list[Vote]:
        """All the subject's votes on the response, oldest first."""

    def sayings(self, feedback_id: str) -> list[Event]:
        """All that was said in this voice, as it came."""

    def spoken(self, subject: str) -> list[Event]:
        """What stands of all the subject said (votes taken back too, reports), oldest first."""

    def unarchived(self, subject: str) -> list[Event]:
        """What the subject said and was served and is still in the log, in its order."""

    def responses_of(self, subject: str, limit: int = 100) -> list[str]:
        """Newest first."""

    def counts(self, experiment: str) -> dict[str, ArmCounts]:
        """Per arm name."""

    def reports(self, open_only: bool = True) -> list[Event]: ...

    def forget(self, subject: str, before: float, responses: Collection[str] = ()) -> str:
        """Drop the subject's events up to ``before`` (Unix seconds) from the log and the indexes, and refuse
        them for 90 days if they still come out of a spool or a queue. ``responses``: ids of its responses that are
        known from elsewhere. Totals stay: they name nobody. Returns the log's last position, for ``passed``. Safe to
        repeat.
        """

    def forgotten(self, subjects: Collection[str]) -> dict[str, float]:
        """Of these subjects, who asked to be forgotten, and up to when (Unix seconds)."""

    def wishes(self, marks: Collection[str]) -> dict[str, float]:
        """The same of those who are known by their marks alone (``facts.mark_of``)."""

    def gone(self, position: str) -> bool:
        """Whether the store's memory holds nothing any more of what was dropped up to there; once everything up to
        there is acknowledged and trimmed it does not.
        """

    def rewrite(self) -> bool:
        """Have the store's own journal written anew without what was dropped; False: ask again later."""

    def rewritten(self) -> bool:
        """Whether the journal holds nothing any more that was dropped before ``rewrite`` was True."""

    def discard(self, before: float, texts_before: float) -> int:
        """Drop reports from before a time (Unix seconds), and the comments of those from before another, which
        would stay for ever; everything else in the store has a life of its own. Returns how many went.
        """

    def passed(self, position: str) -> bool:
        """Whether no consumer still holds an unacknowledged entry up to ``position``."""

    def ping(self) -> None:
        """Raises StoreUnavailable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterRecord:
    """One adapter as the registry knows it."""

    id: str  # "a-000012-<12 hex>"
    alias: str
    state: AdapterState
    created: float
    path: str  # folder, inside the data directory
    base: str  # fingerprint of the base model
    parent: str | None = None  # adapter it continued from; None: from base
    batches: tuple[str, ...] = ()
    reward_model: str | None = None
    training: Mapping[str, Any] | None = None  # figures of the run
    gate: Mapping[str, Any] | None = (
        None  # {"passed": bool, "checks": [{"check", "verdict", "value", "bar", "why"}]}
    )
    reason: str | None = None  # why it is in this state
    newest_vote: float | None = None  # time of the newest vote it learnt from: freshness counts from here
    history: tuple[Mapping[str, Any], ...] = ()  # [{"time", "from", "to", "reason"}]
    version: int = 0


DEFAULT_CRITERIA: Mapping[str, float] = {"helpful": 1.0}
"""Of an alias that names none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AliasRecord:
    """A product: what clients ask for by name."""

    name: str
    guidelines: str = ""  # system prompt put before every chat; empty: none
    criteria: Mapping[str, float] | None = None  # criterion → weight; None: DEFAULT_CRITERIA
    mode: LoopMode = "auto"
    thresholds: Mapping[str, float] | None = None  # overrides of the training settings, by name
    live: str | None = None  # adapter id; None: base
    previous: tuple[str | None, ...] = ()  # what was live before, newest first: where rollback goes
    version: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One way of answering."""

    name: str
    adapter: str | None  # None: base
    share: float  # of the alias's subjects, in [0, 1]; the shares of an experiment add up to 1
    sampling: Mapping[str, float | int] | None = None  # overrides of temperature, top_p …


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentRecord:
    """A split of an alias's traffic. At most one is running per alias."""

    name: str
    alias: str
    arms: tuple[Arm, ...]
    salt: str  # makes the assignment of this experiment independent of others'
    status: Literal["running", "stopped"] = "running"
    owner: Literal["loop", "people"] = "people"  # the loop ramps and ends only its own
    created: float = 0.0
    history: tuple[Mapping[str, Any], ...] = ()  # [{"time", "what", "reason"}]
    version: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """An access key, without the key. A limit of None is the gateways' setting; 0 is no limit."""

    id: str  # "k-…", fit for logs
    digest: str  # sha256 of the key, hex
    scopes: tuple[str, ...]
    created: float
    name: str = ""
    revoked: bool = False
    priority: Priority = "normal"  # who is served first in overload
    requests_per_minute: float | None = None  # chats
    tokens_per_minute: float | None = None  # of prompts and replies
    tokens_per_day: float | None = None
    max_concurrent: int | None = None  # chats at once, in all gateways


@dataclass(frozen=True, slots=True)
class Use:
    """What one gateway took from one bucket since it last told."""

    bucket: str  # its name
    rate: float  # units a second that flow in, > 0
    burst: float  # most units it holds, > 0
    used: float  # units; 0 only asks


@dataclass(frozen=True, slots=True)
class Hold:
    """The chats in flight that one key has in one gateway."""

    holder: str  # the key's id
    chats: int  # 0 only asks


@dataclass(frozen=True, slots=True)
class Settled:
    """The buckets and the chats of all gateways together."""

    levels: tuple[float, ...]  # units left, in the order of the uses; below 0: taken in advance
    elsewhere: int  # chats in flight in the other gateways that told within the last GATEWAY_SECONDS
    held: tuple[int, ...] = ()  # chats of each holder in those gateways, in the order of the holds


class Quotas(Protocol):
    """Token buckets that all gateways share. A bucket that was never used is full."""

    def settle(
        self, gateway: str, in_flight: int, uses: Sequence[Use], holds: Sequence[Hold] = ()
    ) -> Settled:
        """Take what was used and say what is left and who holds what, in one round trip. What is taken is never
        refused: a bucket may fall below 0 and fills from there. A hold stands for GATEWAY_SECONDS or until it is
        told anew. Raises StoreUnavailable.
        """


class Registry(Quarantine, Protocol):
    """Adapters, aliases, experiments, access keys, the loop's state, the quarantine. Every change bumps ``generation``.

    A record's ``version`` counts its changes; ``put`` writes only over the version it was read at
    (0 creates), else raises Conflict.
    """

    def generation(self) -> int:
        """Grows with every change of an adapter, alias, experiment or key; cheap to poll."""

    def next_sequence(self) -> int:
        """A number for a new adapter id, never given twice."""

    def add_adapter(self, record: AdapterRecord, lease: tuple[str, int] | None = None) -> AdapterRecord:
        """Adding the same id again is a no-op that returns what stands. ``lease`` is its name and token: in the
        same atomic step, raises LeaseLost and adds nothing when ``check`` would.
        """

    def adapter(self, adapter_id: str) -> AdapterRecord:
        """Raises UnknownRecord."""

    def adapters(self, alias: str | None = None) -> list[AdapterRecord]:
        """Oldest first."""

    def transition(self, adapter_id: str, to: AdapterState, reason: str) -> AdapterRecord:
        """Raises InvalidTransition. ``live`` is reached only through promote."""

    def alias(self, name: str) -> AliasRecord:
        """Raises UnknownRecord."""

    def aliases(self) -> list[AliasRecord]: ...

    def put_alias(self, record: AliasRecord) -> AliasRecord: ...

    def promote(self, alias: str, adapter_id: str | None, reason: str) -> AliasRecord:
        """In one atomic step: the alias points at the adapter (None: base), it is ``live``, the former is
        ``retired`` and first in ``previous``, and an experiment of the loop ends, whose control the former was.
        Promoting what is live already changes nothing.
        """

    def rollback(self, alias: str, reason: str) -> AliasRecord:
        """Back to the newest of ``previous``, in one atomic step; the adapter left is ``rejected`` with the reason,
        and an experiment ends that is the loop's or has what was left as an arm. Raises InvalidTransition when
        nothing was live before.
        """

    def experiment(self, name: str) -> ExperimentRecord: ...

    def experiments(self, alias: str | None = None) -> list[ExperimentRecord]: ...

    def put_experiment(self, record: ExperimentRecord) -> ExperimentRecord:
        """Raises Conflict also when another experiment runs on the alias, InvalidTransition for one that runs with a
        rejected adapter as an arm.
        """

    def keys(self) -> list[KeyRecord]: ...

    def put_key(self, record: KeyRecord) -> None: ...

    def report_engine(self, engine: str, adapters: Sequence[str], ttl_seconds: float) -> None:
        """A gateway tells which adapters an engine has loaded and proved."""

    def engines(self) -> dict[str, tuple[str, ...]]:
        """Engine → adapters ready on it, from reports that have not run out."""

    def draining(self) -> frozenset[str]:
        """Engines that are to get no new chats."""

    def drain(self, engine: str, on: bool) -> None:
        """Whether the engine is to get no new chats. Bumps the generation."""

    def uses(self, told: Mapping[str, float]) -> dict[str, float]:
        """Tell when this gateway was last asked for adapters, and hear when any gateway was: adapter → Unix
        seconds, the newest of what all told, of the ``USES_KEPT`` last asked for. Does not bump the generation.
        """

    def loop(self, alias: str) -> dict[str, Any]:
        """What the workers last wrote with ``set_loop``; empty when nothing."""

    def set_loop(self, alias: str, values: Mapping[str, Any]) -> None:
        """Merge JSON values into the alias's loop state. Does not bump the generation."""

    def put_receipt(self, receipt: Mapping[str, Any]) -> None:
        """Write the receipt of a wish to be forgotten, by its ``id``. Does not bump the generation."""

    def receipt(self, receipt_id: str) -> dict[str, Any]:
        """Raises UnknownRecord."""

    def receipts(self) -> list[dict[str, Any]]:
        """Oldest first."""

    def acquire(self, lease: str, holder: str, seconds: float) -> int | None:
        """A fencing token when the lease is free or already the holder's (then the same token and longer);
        None when another has it. Tokens of a lease only grow.
        """

    def check(self, lease: str, token: int) -> None:
        """Raises LeaseLost unless ``token`` is the newest and the lease has not run out."""

    def held(self, lease: str) -> bool:
        """Whether anybody has it at this moment."""

    def release(self, lease: str, holder: str) -> None: ...
