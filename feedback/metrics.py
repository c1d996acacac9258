"""Every metric Heed shows: name, type, labels, unit in the name, what it means, and who measures it.

The gateway, the dashboards, the alerts and the documents take names from here; tests hold them together.
Label values come from configuration and records (aliases, arms, adapters kept, engines, fixed words), never
from what clients send, so the number of series is bounded. What workers measure carries the alias, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

PREFIX = "heed_"
Kind: TypeAlias = Literal["counter", "gauge", "histogram"]
Source: TypeAlias = Literal["gateway", "workers"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric family."""

    name: str  # as scraped, without PREFIX; counters end in _total
    kind: Kind
    labels: tuple[str, ...]
    help: str
    source: Source = "gateway"  # workers publish theirs through the registry; the gateway shows them

    @property
    def full(self) -> str:
        """As Prometheus knows it; a histogram's series add _bucket, _sum and _count."""
        return PREFIX + self.name

    @property
    def series(self) -> frozenset[str]:
        """The names a query may use."""
        if self.kind == "histogram":
            return frozenset({f"{self.full}_bucket", f"{self.full}_sum", f"{self.full}_count"})
        return frozenset({self.full})


def _gateway(name: str, kind: Kind, labels: str, text: str) -> Metric:
    return Metric(name, kind, tuple(labels.split()), text)


def _worker(name: str, labels: str, text: str) -> Metric:
    kind: Kind = "counter" if name.endswith("_total") else "gauge"
    return Metric(name, kind, ("alias", *labels.split()), text, "workers")


TABLE: tuple[Metric, ...] = (
    _gateway("chat_requests_total", "counter", "alias arm adapter code", "chats answered, by HTTP status"),
    _gateway("time_to_first_token_seconds", "histogram", "adapter", "request to first byte of the reply"),
    _gateway("inter_token_latency_seconds", "histogram", "adapter", "mean pause between tokens of a reply"),
    _gateway("chat_duration_seconds", "histogram", "adapter", "request to last byte of the reply"),
    _gateway("chat_tokens_total", "counter", "adapter kind", "tokens, kind prompt or completion"),
    _gateway("chats_in_flight", "gauge", "", "chats being answered now"),
    _gateway("gateway_overhead_seconds", "histogram", "", "request received to engine asked"),
    _gateway("engine_up", "gauge", "engine", "1: the engine is healthy"),
    _gateway("engine_adapter_ready", "gauge", "engine adapter", "1: loaded and proved on the engine"),
    _gateway("votes_total", "counter", "adapter rating", "votes taken: up, down, taken_back"),
    _gateway("comparisons_total", "counter", "result", "comparisons taken: win, tie, both_bad, ranking"),
    _gateway("feedback_spool_events", "gauge", "", "events on the local disk, waiting for the store"),
    _gateway(
        "feedback_refused_events", "gauge", "", "events set aside on the local disk: the store refuses them"
    ),
    _gateway("feedback_unclaimed_events", "gauge", "", "events in the log that are not archived yet"),
    _gateway("feedback_oldest_unclaimed_seconds", "gauge", "", "age of the oldest of them"),
    _gateway("events_dropped_total", "counter", "why", "responses that could not be logged; never votes"),
    _gateway(
        "redactions_failed_total", "counter", "", "events stored without text: it could not be redacted"
    ),
    _gateway(
        "streams_broken_total", "counter", "result", "streams whose engine broke off: continued or ended"
    ),
    _gateway("requests_refused_total", "counter", "code", "requests refused by a limit or for want of a key"),
    _gateway("adapter_info", "gauge", "adapter state", "1 for the state the adapter is in"),
    _gateway("swaps_total", "counter", "result", "adapters made ready, rejected, or retried on an engine"),
    _gateway("swap_duration_seconds", "histogram", "", "record seen to proved on an engine"),
    _worker(
        "quarantined_votes", "kind verdict", "votes kept out of training, and what people decided of them"
    ),
    _worker("freshness_seconds", "", "a vote to the first response by an adapter that learnt from it"),
    _worker(
        "reward_model_accuracy", "split", "share of comparisons ordered as people did; split train, holdout"
    ),
    _worker("reward_model_calibration_error", "", "expected calibration error on the holdout, 0 to 1"),
    _worker("ppo_reward", "", "mean standardised reward of the last step's samples"),
    _worker("ppo_kl_nats", "", "mean divergence from the base, nats a reply"),
    _worker("ppo_clip_fraction", "", "share of tokens whose ratio was clipped"),
    _worker("ppo_entropy_nats", "", "mean entropy, nats a token"),
    _worker("ppo_samples_total", "", "replies sampled for training"),
    _worker("gate_checks_total", "check verdict", "offline checks of adapters, passed or failed"),
    _worker(
        "canary_share", "canary of", "share of replies that show it, of what is live, base, or at the gate"
    ),
    _worker("canary_broken", "canary", "1: at the last look what is live was beyond the gate's bar"),
    _worker("experiment_up_rate", "experiment arm", "share of thumbs up"),
    _worker("experiment_up_rate_lower", "experiment arm", "always-valid lower bound"),
    _worker("experiment_up_rate_upper", "experiment arm", "always-valid upper bound"),
    _worker("experiment_probability_best", "experiment arm", "posterior probability of the highest up-rate"),
    _worker("experiment_srm_evidence", "experiment", "times likelier that shares are not those set; 1: none"),
    _worker("task_last_success_timestamp_seconds", "task", "when the task last ended well, Unix seconds"),
    _worker("task_duration_seconds", "task", "how long the task's last run took"),
)
BY_NAME: Mapping[str, Metric] = {metric.name: metric for metric in TABLE}
SERIES: frozenset[str] = frozenset(name for metric in TABLE for name in metric.series)
