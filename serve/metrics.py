"""The gateway's Prometheus metrics. Names and labels are the contract's; label values come from
configuration and records, never from what a client sent.

``prometheus_client``'s process-wide registry is not used: each gateway has its own, so that tests can have
several. With several processes on one port (PROMETHEUS_MULTIPROC_DIR set by ``python -m serve``) the scrape
adds the processes up.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector

from feedback.metrics import BY_NAME, PREFIX, TABLE

FAST = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25)
TOKEN = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0)
FIRST = (0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 2.0, 4.0, 8.0, 16.0)
WHOLE = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0, 300.0)
Family: TypeAlias = CounterMetricFamily | GaugeMetricFamily
Mode: TypeAlias = Literal["livesum", "livemax", "livemostrecent"]
LAST: Mode = "livemostrecent"  # how several processes' gauges become one
OTHER = "other"  # the label value of everything that configuration does not know
CODES = frozenset({200, 400, 401, 403, 404, 409, 413, 422, 429, 499, 500, 502, 503})
_NAME = re.compile(r"^[a-z_][a-z0-9_]*$")


class Metrics:
    """All series of one gateway process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        by_adapter = ("adapter",)
        self.chat_requests = self._counter(
            "chat_requests", "chats answered", "alias", "arm", "adapter", "code"
        )
        self.first_token = self._histogram(
            "time_to_first_token_seconds", "request to first byte", FIRST, *by_adapter
        )
        self.inter_token = self._histogram(
            "inter_token_latency_seconds", "mean pause in a reply", TOKEN, *by_adapter
        )
        self.chat_duration = self._histogram(
            "chat_duration_seconds", "request to last byte", WHOLE, *by_adapter
        )
        self.chat_tokens = self._counter("chat_tokens", "tokens", "adapter", "kind")
        self.in_flight = self._gauge("chats_in_flight", "chats being answered", "livesum")
        self.overhead = self._histogram("gateway_overhead_seconds", "request received to engine asked", FAST)
        self.engine_up = self._gauge("engine_up", "1: healthy", LAST, "engine")
        self.adapter_ready = self._gauge(
            "engine_adapter_ready", "1: loaded and proved", LAST, "engine", "adapter"
        )
        self.votes = self._counter("votes", "votes taken", "adapter", "rating")
        self.comparisons = self._counter("comparisons", "comparisons taken", "result")
        self.spool_events = self._gauge("feedback_spool_events", "events on local disk", "livemax")
        self.refused_events = self._gauge("feedback_refused_events", "events the store refuses", "livemax")
        self.unclaimed = self._gauge("feedback_unclaimed_events", "events not yet archived", LAST)
        self.oldest_unclaimed = self._gauge(
            "feedback_oldest_unclaimed_seconds", "age of the oldest event not yet archived", LAST
        )
        self.events_dropped = self._counter("events_dropped", "responses that could not be logged", "why")
        self.redactions_failed = self._counter("redactions_failed", "events stored without text")
        self.swaps = self._counter("swaps", "adapters made ready, or not", "result")
        self.swap_duration = self._histogram(
            "swap_duration_seconds", "record seen to proved on an engine", WHOLE
        )
        self.continued = self._counter("streams_broken", "streams whose engine broke off", "result")
        self.refused = self._counter("requests_refused", "requests over a limit", "code")
        for counter, words in (  # there from the start, so that their first rise is seen
            (self.events_dropped, ("queue_full", "spool_full")),
            (self.swaps, ("ready", "rejected", "retried")),
            (self.continued, ("continued", "ended")),
            (self.comparisons, ("win", "tie", "both_bad", "ranking")),
        ):
            for word in words:
                counter.labels(word)

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(f"heed_{name}", about, labels, registry=self.registry)

    def _gauge(self, name: str, about: str, mode: Mode, *labels: str) -> Gauge:
        return Gauge(f"heed_{name}", about, labels, registry=self.registry, multiprocess_mode=mode)

    def _histogram(self, name: str, about: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(f"heed_{name}", about, labels, buckets=buckets, registry=self.registry)

    def spooled(self) -> int:
        """Events on this machine's disk that wait for the store, as last measured."""
        return int(self.registry.get_sample_value("heed_feedback_spool_events") or 0)

    def set_aside(self) -> int:
        """Events on this machine's disk that the store refuses, as last measured."""
        return int(self.registry.get_sample_value("heed_feedback_refused_events") or 0)

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

    def forget_engine(self, engine: str) -> None:
        """Drop the series of an engine that left the pool."""
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            self.engine_up.labels(engine).set(0)
            return
        for metric in (self.engine_up, self.adapter_ready):
            metric.remove_by_labels({"engine": engine})

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
        families: dict[str, Family] = {"heed_adapter_info": info}
        for metric in TABLE:
            if metric.source == "workers":
                families[metric.full] = _family(metric.full, tuple(sorted(metric.labels)))
        for alias, gauges in self._workers.items():
            for name, value in gauges.items() if isinstance(gauges, Mapping) else ():
                for labels, number in _samples(value):
                    _add(families, name, {"alias": alias, **labels}, number)
        return list(families.values())


def _family(full: str, labels: tuple[str, ...]) -> Family:
    known = BY_NAME.get(full.removeprefix(PREFIX))
    kind = CounterMetricFamily if full.endswith("_total") else GaugeMetricFamily
    return kind(full, known.help if known is not None else "published by a worker", labels=labels)


def _samples(value: Any) -> Iterable[tuple[dict[str, str], float]]:
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield {}, float(value)
    elif isinstance(value, list):
        for item in value:
            if isinstance(item, Mapping) and isinstance(item.get("value"), int | float):
                labels = item.get("labels") or {}
                yield {str(key): str(label) for key, label in labels.items()}, float(item["value"])


def _add(families: dict[str, Family], name: str, labels: dict[str, str], number: float) -> None:
    full = name if name.startswith("heed_") else f"heed_{name}"
    if not _NAME.match(full) or not all(_NAME.match(key) for key in labels):
        return
    names = tuple(sorted(labels))
    family = families.get(full)
    if family is None:
        family = families[full] = _family(full, names)
    if family._labelnames == names:  # noqa: SLF001 - the family keeps them nowhere else
        family.add_metric([labels[key] for key in names], number)
