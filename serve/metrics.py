"""The gateway's Prometheus metrics. Names and labels are the contract's; label values come from
configuration and records, never from what a client sent.

``prometheus_client``'s process-wide registry is not used: each gateway has its own, so that tests can have
several. With several processes on one port (PROMETHEUS_MULTIPROC_DIR set by ``python -m serve``) the scrape
adds the processes up.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector

FAST = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25)
TOKEN = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0)
FIRST = (0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 2.0, 4.0, 8.0, 16.0)
WHOLE = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0, 300.0)
OTHER = "other"  # the label value of everything that configuration does not know
CODES = frozenset({200, 400, 401, 403, 404, 409, 413, 422, 429, 499, 500, 502, 503})
_NAME = re.compile(r"^[a-z_][a-z0-9_]*$")


class Metrics:
    """All series of one gateway process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        on = {"registry": self.registry}
        adapter, most = ["adapter"], "livemostrecent"
        self.chat_requests = Counter(
            "heed_chat_requests", "chats answered", ["alias", "arm", "adapter", "code"], **on
        )
        self.first_token = Histogram(
            "heed_time_to_first_token_seconds", "request to first byte", adapter, buckets=FIRST, **on
        )
        self.inter_token = Histogram(
            "heed_inter_token_latency_seconds", "mean pause in a reply", adapter, buckets=TOKEN, **on
        )
        self.chat_duration = Histogram(
            "heed_chat_duration_seconds", "request to last byte", adapter, buckets=WHOLE, **on
        )
        self.chat_tokens = Counter("heed_chat_tokens", "tokens", ["adapter", "kind"], **on)
        self.in_flight = Gauge("heed_chats_in_flight", "chats", multiprocess_mode="livesum", **on)
        self.overhead = Histogram(
            "heed_gateway_overhead_seconds", "request received to engine asked", buckets=FAST, **on
        )
        self.engine_up = Gauge("heed_engine_up", "1: healthy", ["engine"], multiprocess_mode=most, **on)
        self.adapter_ready = Gauge(
            "heed_engine_adapter_ready", "1: loaded and proved", ["engine", "adapter"], multiprocess_mode=most, **on
        )
        self.votes = Counter("heed_votes", "votes taken", ["adapter", "rating"], **on)
        self.comparisons = Counter("heed_comparisons", "comparisons taken", ["result"], **on)
        self.spool_events = Gauge(
            "heed_feedback_spool_events", "on local disk", multiprocess_mode="livesum", **on
        )
        self.unclaimed = Gauge(
            "heed_feedback_unclaimed_events", "not yet archived", multiprocess_mode=most, **on
        )
        self.oldest_unclaimed = Gauge(
            "heed_feedback_oldest_unclaimed_seconds", "age of the oldest", multiprocess_mode=most, **on
        )
        self.events_dropped = Counter(
            "heed_events_dropped", "responses that could not be logged", ["why"], **on
        )
        self.swaps = Counter("heed_swaps", "adapters made ready or not", ["result"], **on)
        self.swap_duration = Histogram(
            "heed_swap_duration_seconds", "record seen to proved on an engine", buckets=WHOLE, **on
        )
        self.refused = Counter("heed_requests_refused", "by a limit or for want of a key", ["code"], **on)
        for reason in ("queue_full", "spool_full"):
            self.events_dropped.labels(reason)

    def forget_adapters(self, gone: Iterable[str]) -> None:
        """Drop the series of adapters that are no longer served, so that their number stays bounded."""
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            return
        for adapter in gone:
            for metric in (
                self.chat_requests,
                self.first_token,
                self.inter_token,
                self.chat_duration,
                self.chat_tokens,
                self.adapter_ready,
                self.votes,
            ):
                metric.remove_by_labels({"adapter": adapter})

    def scrape(self, adapters: Mapping[str, str], workers: Mapping[str, Any]) -> bytes:
        """The exposition text. ``adapters`` is id → state; ``workers`` is alias → the gauges its workers
        published.
        """
        registry: CollectorRegistry = self.registry
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry) + generate_latest(_Read(adapters, workers))


def code_label(status: int) -> str:
    """A status as label, out of a closed set."""
    return str(status) if status in CODES else f"{status // 100}xx"


class _Read(CollectorRegistry):
    """What is read from the registry at each scrape: the adapters' states, and the gauges that workers
    publish there as ``{name: value}`` or as ``{name: [{"labels": {...}, "value": x}]}``.
    """

    def __init__(self, adapters: Mapping[str, str], workers: Mapping[str, Any]) -> None:
        super().__init__()
        self._adapters, self._workers = adapters, workers

    def collect(self) -> Iterable[Metric]:
        """All families."""
        info = GaugeMetricFamily("heed_adapter_info", "1 for its state", labels=["adapter", "state"])
        for adapter, state in self._adapters.items():
            info.add_metric([adapter, state], 1)
        families: dict[str, GaugeMetricFamily] = {"heed_adapter_info": info}
        for alias, gauges in self._workers.items():
            for name, value in gauges.items() if isinstance(gauges, Mapping) else ():
                for labels, number in _samples(value):
                    _add(families, name, {"alias": alias, **labels}, number)
        return list(families.values())


def _samples(value: Any) -> Iterable[tuple[dict[str, str], float]]:
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield {}, float(value)
    elif isinstance(value, list):
        for item in value:
            if isinstance(item, Mapping) and isinstance(item.get("value"), int | float):
                labels = item.get("labels") or {}
                yield {str(key): str(label) for key, label in labels.items()}, float(item["value"])


def _add(families: dict[str, GaugeMetricFamily], name: str, labels: dict[str, str], number: float) -> None:
    full = name if name.startswith("heed_") else f"heed_{name}"
    if not _NAME.match(full) or not all(_NAME.match(key) for key in labels):
        return
    names = tuple(sorted(labels))
    family = families.get(full)
    if family is None:
        family = families[full] = GaugeMetricFamily(full, "published by a worker", labels=names)
    if family._labelnames == names:  # noqa: SLF001 - the family keeps them nowhere else
        family.add_metric([labels[key] for key in names], number)
