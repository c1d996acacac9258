"""The gateway measures what the table of metrics says, under bounded labels."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from feedback.metrics import TABLE, Metric
from serve.metrics import Metrics, code_label

OURS = [metric for metric in TABLE if metric.source == "gateway" and metric.name != "adapter_info"]


@pytest.mark.parametrize("metric", OURS, ids=lambda metric: metric.name)
def test_every_metric_of_the_table_is_there_with_its_labels(metric: Metric) -> None:
    made = {family._name: family for family in Metrics().registry._collector_to_names}  # type: ignore[attr-defined]
    family = made[metric.full.removesuffix("_total")]
    assert family._type == metric.kind
    assert set(family._labelnames) == set(metric.labels)


def test_nothing_is_measured_that_the_table_does_not_name() -> None:
    made = {family._name for family in Metrics().registry._collector_to_names}  # type: ignore[attr-defined]
    assert made == {metric.full.removesuffix("_total") for metric in OURS}


def test_what_workers_publish_keeps_its_kind_and_junk_is_left_out() -> None:
    published = {
        "ppo_samples_total": 12,
        "ppo_kl_nats": 0.5,
        "task_duration_seconds": [{"labels": {"task": "round"}, "value": 3}, {"labels": {"task": "x"}}],
        "bad name": 1,
        "freshness_seconds": None,
        "flag": True,
    }
    text = Metrics().scrape({"a-1": "live"}, {"heed": published, "odd": "junk"}).decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert families["heed_ppo_samples"].type == "counter"
    assert families["heed_ppo_samples"].samples[0].value == 12
    assert families["heed_ppo_kl_nats"].samples[0].labels == {"alias": "heed"}
    assert [sample.labels for sample in families["heed_task_duration_seconds"].samples] == [
        {"alias": "heed", "task": "round"}
    ]
    assert families["heed_adapter_info"].samples[0].labels == {"adapter": "a-1", "state": "live"}
    assert families["heed_freshness_seconds"].samples == []
    assert "heed_flag" not in families


def test_series_of_adapters_that_are_gone_are_dropped() -> None:
    metrics = Metrics()
    for adapter in ("a-1", "a-2"):
        metrics.votes.labels(adapter, "up").inc()
        metrics.first_token.labels(adapter).observe(1)
    metrics.forget_adapters(["a-1"])
    text = metrics.scrape({}, {}).decode()
    assert "a-1" not in text
    assert "a-2" in text


@pytest.mark.parametrize(("status", "label"), [(200, "200"), (418, "4xx"), (599, "5xx"), (499, "499")])
def test_statuses_are_a_closed_set_of_labels(status: int, label: str) -> None:
    assert code_label(status) == label
