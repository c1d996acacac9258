from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy import doctor, status
from deploy.client import Client
from deploy.doctor import examine, persistence, report
from deploy.errors import DeployError, NotRunning, RequestRefused
from deploy.settings import LaunchSettings
from deploy.state import LaunchState, ProcessState, hold, write_state
from deploy.status import as_table, gather

PROCESSES = (
    ProcessState("redis", "redis", 11, "ready", 0, 1.0),
    ProcessState("gateway", "gateway", 12, "ready", 1, 1.0),
    ProcessState("worker", "worker", None, "waiting", 7, None),
)
STATE = LaunchState(
    "http://127.0.0.1:9", "redis://127.0.0.1:9/0", "redis://127.0.0.1:9/1", (), "", 5, "/d", 0.0, PROCESSES
)


def answering(monkeypatch: pytest.MonkeyPatch, ready: bool) -> None:
    """Let the gateway answer as the contract says."""
    answers = {
        "/v1/aliases": {"data": [{"name": "heed", "live": None}, {"name": "b", "live": "a-1"}]},
        "/v1/loop": {"freshness_seconds": 42.0, "refused_events": 2},
    }
    monkeypatch.setattr(Client, "get", lambda self, path, **query: answers[path])
    monkeypatch.setattr(status, "http_ok", lambda url: ready)


def test_status_has_the_shape_of_the_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, ready=True)
    settings = LaunchSettings(data_dir=tmp_path)
    with hold(settings.run_dir):
        write_state(settings.run_dir, STATE)
        found = json.loads(json.dumps(gather(settings)))
    assert list(found) == ["ready", "url", "processes", "live", "freshness_seconds", "refused_events"]
    assert found["ready"] is True
    assert found["live"] == {"heed": "base", "b": "a-1"}
    assert found["freshness_seconds"] == 42.0
    assert found["processes"][1] == {
        "name": "gateway",
        "label": "gateway",
        "pid": 12,
        "state": "ready",
        "restarts": 1,
    }
    assert "worker" in as_table(found)
    assert "refuses 2 events" in as_table(found)


def test_status_tells_processes_when_neither_gateway_nor_store_answers(tmp_path: Path) -> None:
    settings = LaunchSettings(data_dir=tmp_path)
    with hold(settings.run_dir):
        write_state(settings.run_dir, STATE)
        found = gather(settings)
    assert (found["ready"], found["live"], found["freshness_seconds"]) == (False, {}, None)
    assert found["refused_events"] is None, "unknown is not none"
    assert len(found["processes"]) == 3


def test_status_without_a_launch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotRunning, match="heed up"):
        gather(LaunchSettings(data_dir=tmp_path))


def test_errors_carry_a_mend() -> None:
    assert "HEED_API_KEY" in str(RequestRefused(401, "a key is needed", "missing_key"))
    assert "HEED_API_KEY" not in str(RequestRefused(422, "no such field"))
    assert issubclass(RequestRefused, DeployError)


def test_the_doctor_names_each_lax_setting_of_redis_with_its_mend() -> None:
    strict = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}
    assert {finding.verdict for finding in persistence(strict)} == {"fine"}
    lax = {"appendonly": "no", "appendfsync": "everysec", "maxmemory-policy": "allkeys-lru"}
    found = {finding.check: finding for finding in persistence(lax)}
    assert found["appendonly"].verdict == "broken"
    assert found["appendfsync"].verdict == "warning"
    assert found["maxmemory-policy"].verdict == "broken"
    assert "config set appendfsync always" in found["appendfsync"].mend


def test_the_doctor_looks_at_a_launch_and_points_to_logs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = LaunchSettings(data_dir=tmp_path)
    with hold(settings.run_dir):
        write_state(settings.run_dir, STATE)
        found = examine(settings)
    by_check = {finding.check: finding for finding in found}
    assert by_check["redis"].verdict in ("broken", "fine")
    assert by_check["worker"].verdict == "warning"
    assert "logs/worker.log" in by_check["worker"].mend
    assert by_check["page"].verdict == "broken"
    report(found, as_json=False)
    assert "mend: look into /d/logs/gateway.log" in capsys.readouterr().out


def test_the_doctor_finds_a_fresh_data_directory_fine_but_for_sizes(tmp_path: Path) -> None:
    found = {finding.check: finding for finding in examine(LaunchSettings(data_dir=tmp_path, port=0))}
    assert found["port"].verdict == "fine"
    assert found["model"].verdict == "fine"
    assert found["redis"].found == "an embedded one is started by `heed up`"
    assert all(finding.mend for finding in found.values() if finding.verdict != "fine")


def test_sizes_are_judged_by_two_bars() -> None:
    assert [doctor._sized(value, 10, 20) for value in (9, 10, 19, 20)] == [
        "broken",
        "warning",
        "warning",
        "fine",
    ]
