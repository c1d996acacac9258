"""The table of metrics against the contract and the gateway."""

from __future__ import annotations

import re

from feedback.metrics import BY_NAME, SERIES, TABLE
from serve.metrics import Metrics

CONTRACT = """
chat_requests_total{alias,arm,adapter,code} time_to_first_token_seconds{adapter}
inter_token_latency_seconds{adapter} chat_duration_seconds{adapter} chat_tokens_total{adapter,kind}
chats_in_flight gateway_overhead_seconds engine_up{engine} engine_adapter_ready{engine,adapter}
votes_total{adapter,rating} comparisons_total{result} feedback_spool_events
feedback_unclaimed_events feedback_oldest_unclaimed_seconds adapter_info{adapter,state}
swaps_total{result} swap_duration_seconds freshness_seconds reward_model_accuracy{split}
reward_model_calibration_error ppo_reward ppo_kl_nats ppo_clip_fraction ppo_entropy_nats
ppo_samples_total gate_checks_total{check,verdict} experiment_up_rate{experiment,arm}
experiment_up_rate_lower{experiment,arm} experiment_up_rate_upper{experiment,arm}
experiment_probability_best{experiment,arm} experiment_srm_evidence{experiment}
task_last_success_timestamp_seconds{task} task_duration_seconds{task}
"""


def test_every_metric_of_the_contract_is_in_the_table_with_its_labels() -> None:
    for entry in CONTRACT.split():
        found = re.fullmatch(r"(\w+)(?:\{([\w,]+)\})?", entry)
        assert found is not None
        labels = set(found[2].split(",")) if found[2] else set()
        metric = BY_NAME[found[1]]
        assert set(metric.labels) - {"alias"} == labels - {"alias"}, entry


def test_names_are_unique_and_say_what_they_are() -> None:
    assert len(BY_NAME) == len(TABLE)
    for metric in TABLE:
        assert re.fullmatch(r"[a-z][a-z0-9_]*", metric.name)
        assert (metric.kind == "counter") == metric.name.endswith("_total")
        assert metric.help


def test_the_series_of_a_histogram_are_its_buckets_sum_and_count() -> None:
    assert "heed_chat_duration_seconds_bucket" in SERIES
    assert "heed_chat_duration_seconds" not in SERIES
    assert "heed_votes_total" in SERIES


def test_what_the_gateway_measures_is_what_the_table_says() -> None:
    measured = {}
    for family in Metrics().registry.collect():
        name = family.name + ("_total" if family.type == "counter" else "")
        measured[name.removeprefix("heed_")] = family.type
    published = {"adapter_info"}  # read from the registry at each scrape
    assert measured == {m.name: m.kind for m in TABLE if m.source == "gateway" and m.name not in published}
