from __future__ import annotations

import itertools
import socket
import time
from pathlib import Path

import pytest
import redis

from deploy import engine, preflight
from deploy.errors import CannotStart
from deploy.local import next_database, plan, shown_host
from deploy.ports import claimed_port
from deploy.settings import LaunchSettings
from feedback.registry import RedisRegistry


def settings(tmp_path: Path, **more: object) -> LaunchSettings:
    return LaunchSettings(data_dir=tmp_path, **more)  # type: ignore[arg-type]


def test_a_whole_launch_has_every_part_in_the_order_of_starting(tmp_path: Path) -> None:
    programs, state = plan(settings(tmp_path), 8080, own_store=True, own_engine=True, workers=True)
    assert [p.label for p in programs] == ["redis", "gateway", "engine", "worker", "worker-control", "beat"]
    assert {p.name for p in programs} == {"redis", "gateway", "engine", "worker", "beat"}
    assert state.url == "http://127.0.0.1:8080"
    gateway = programs[1]
    assert gateway.env["HEED_REDIS_URL"] == state.redis_url
    assert gateway.env["HEED_ENGINE_URLS"] == state.engine_urls[0]
    assert state.broker_url == state.redis_url[:-1] + "1"


def test_no_secret_stands_in_an_argument_list(tmp_path: Path) -> None:
    programs, state = plan(settings(tmp_path), 8080, own_store=True, own_engine=True, workers=True)
    password = state.redis_url.split(":")[2].split("@")[0]
    said = " ".join(word for program in programs for word in program.command)
    assert len(password) >= 24
    assert password not in said
    assert state.engine_key not in said
    assert "appendfsync always" in (tmp_path / "run" / "valkey.conf").read_text()


def test_given_addresses_start_neither_store_nor_engine(tmp_path: Path) -> None:
    chosen = settings(tmp_path, redis_url="redis://r:6379/4", engine_urls="http://e:1/, http://e:2")
    programs, state = plan(chosen, 8080, own_store=False, own_engine=False, workers=False)
    assert [p.label for p in programs] == ["gateway"]
    assert state.engine_urls == ("http://e:1", "http://e:2")
    assert state.broker_url == "redis://r:6379/5"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://h:1/0", "redis://h:1/1"),
        ("redis://:p@h:1", "redis://:p@h:1/1"),
        ("rediss://h/7?x=y", "rediss://h/8?x=y"),
    ],
)
def test_the_broker_takes_the_next_database(url: str, expected: str) -> None:
    assert next_database(url) == expected


def test_a_wildcard_address_is_shown_as_the_loopback() -> None:
    assert shown_host("0.0.0.0") == "127.0.0.1"
    assert shown_host("10.0.0.5") == "10.0.0.5"


def test_a_taken_port_is_named_with_its_mend() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(CannotStart, match=rf"port {port} .*taken(.|\n)*--port {port + 1}"):
            claimed_port("127.0.0.1", port)
    assert claimed_port("127.0.0.1", 0) > 1023


def test_the_engine_takes_no_more_context_than_the_model_has(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 512}')
    assert engine.context_length(settings(tmp_path, model=str(tmp_path))) == 512
    assert engine.context_length(settings(tmp_path, model=str(tmp_path), engine_context=256)) == 256
    assert engine.context_length(settings(tmp_path, model="org/name")) == 2048


def test_the_engine_reads_tool_calls_as_it_is_told(tmp_path: Path) -> None:
    pairs = dict(itertools.pairwise(engine.arguments(9000, settings(tmp_path, engine_tool_parser="mistral"))))
    assert pairs["--tool-call-parser"] == "mistral"
    assert "--enable-auto-tool-choice" in pairs
    none = engine.arguments(9000, settings(tmp_path, engine_tool_parser=""))
    assert not {"--tool-call-parser", "--enable-auto-tool-choice"} & set(none)


@pytest.mark.parametrize("native", [True, False])
def test_a_cpu_without_bfloat16_computes_in_float32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, native: bool
) -> None:
    monkeypatch.setattr(engine, "native_bfloat16", lambda: native)
    monkeypatch.setattr(engine, "on_cpu", lambda: True)
    pairs = dict(itertools.pairwise(engine.arguments(9000, settings(tmp_path))))
    assert pairs.get("--dtype") == (None if native else "float32")
    monkeypatch.setattr(engine, "on_cpu", lambda: False)
    assert "--dtype" not in engine.arguments(9000, settings(tmp_path))


def test_the_engine_can_load_adapters_and_obeys_priorities(tmp_path: Path) -> None:
    said = engine.arguments(9000, settings(tmp_path, engine_arguments="--seed 3"))
    pairs = dict(itertools.pairwise(said))
    assert pairs["--max-loras"] == "4"
    assert pairs["--max-cpu-loras"] == "16"
    assert pairs["--max-lora-rank"] == "16"
    assert pairs["--scheduling-policy"] == "priority"
    assert pairs["--logprobs-mode"] == "processed_logprobs"
    assert pairs["--host"] == "127.0.0.1"
    assert pairs["--seed"] == "3"
    env = engine.environment(settings(tmp_path), "secret")
    assert env["VLLM_API_KEY"] == "secret"
    assert env["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "True"
    assert env["HF_HUB_OFFLINE"] == "1"


def test_a_missing_engine_names_the_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(CannotStart, match=r"heed\[cpu\](.|\n)*--engine-url"):
        engine.require_vllm()


def test_too_little_memory_or_disk_is_refused_with_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "LEAST_ENGINE_MEMORY", 1e15)
    with pytest.raises(CannotStart, match=r"engine needs 1000000\.0 GB"):
        preflight.check_memory()
    monkeypatch.setattr(preflight, "LEAST_DISK", 10**18)
    with pytest.raises(CannotStart, match=r"Heed needs 1000000000000 MB(.|\n)*--data-dir"):
        preflight.check_data_dir(tmp_path)


def test_a_data_directory_under_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotStart, match="cannot be made"):
        preflight.check_data_dir(tmp_path / "file" / "data")


def test_a_folder_without_a_model_is_refused_and_a_hub_name_is_not(tmp_path: Path) -> None:
    with pytest.raises(CannotStart, match=r"config\.json"):
        preflight.check_model(str(tmp_path))
    preflight.check_model("org/some-model")
    preflight.check_model(LaunchSettings().model_path)


def test_a_model_that_cannot_chat_is_refused_until_it_has_a_template(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CannotStart, match=r"no chat template(.|\n)*chat_template\.jinja"):
        preflight.check_model(str(tmp_path))
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "x"}')
    with pytest.raises(CannotStart, match="no chat template"):
        preflight.check_model(str(tmp_path))
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}"}')
    preflight.check_model(str(tmp_path))


@pytest.mark.parametrize("address", ["redis://127.0.0.1:1/0", "127.0.0.1:6379", "http://127.0.0.1"])
def test_a_redis_that_does_not_answer_is_refused(tmp_path: Path, address: str) -> None:
    chosen = settings(tmp_path, redis_url=address, engine_urls="http://e")
    with pytest.raises(CannotStart, match="--redis-url"):
        preflight.check_launch(chosen, own_engine=False, own_store=False, workers=False)


@pytest.mark.parametrize("address", ["nope", "127.0.0.1:8000", "http://e:1, e:2", "http://e:x"])
def test_an_engine_that_cannot_be_asked_is_refused(tmp_path: Path, valkey_url: str, address: str) -> None:
    chosen = settings(tmp_path, redis_url=valkey_url, engine_urls=address)
    with pytest.raises(CannotStart, match=r"--engine-url .* is no address(.|\n)*http://HOST:PORT"):
        preflight.check_launch(chosen, own_engine=False, own_store=False, workers=False)
    chosen = settings(tmp_path, redis_url=valkey_url, engine_urls="http://e:1, https://f/prefix")
    preflight.check_launch(chosen, own_engine=False, own_store=False, workers=False)


@pytest.mark.parametrize(
    ("label", "task"), [("worker", "training"), ("worker-control", "archive"), ("beat", "archive")]
)
def test_workers_and_beat_count_as_alive_only_while_their_work_gets_done(
    tmp_path: Path, store: redis.Redis, valkey_url: str, label: str, task: str
) -> None:
    chosen = settings(tmp_path, redis_url=valkey_url, engine_urls="http://e:1")
    programs, _ = plan(chosen, 8080, own_store=False, own_engine=False, workers=True)
    probe = next(program.probe for program in programs if program.label == label)
    registry = RedisRegistry(store)
    seen = []
    for age in (None, 1000.0, 1.0):
        if age is not None:
            registry.set_loop("_workers", {task: {"last_success": time.time() - age}})
        seen.append(probe())
    assert seen == [False, False, True]


def test_an_address_that_others_reach_needs_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = LaunchSettings(data_dir=tmp_path, host="0.0.0.0")
    with pytest.raises(CannotStart, match=r"--host 0\.0\.0\.0 can be reached by others"):
        preflight.check_address(chosen)
    preflight.check_address(LaunchSettings(data_dir=tmp_path, host="127.0.0.1"))
    monkeypatch.setenv("HEED_ADMIN_KEY", "a" * 43)
    preflight.check_address(chosen)
