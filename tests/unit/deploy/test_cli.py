from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from deploy.client import find_url
from deploy.commands.products import alias_body, parse_arm, parse_number
from deploy.errors import RequestRefused
from deploy.export_file import write_whole
from deploy.settings_table import rows
from deploy.show import table, written
from feedback.errors import InvalidRecord
from tests.servers import ROOT

HEAVY = (
    "torch",
    "vllm",
    "transformers",
    "celery",
    "fastapi",
    "redis",
    "rich",
    "aiohttp",
    "pydantic",
    "psutil",
)


def heed(data: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the command line with a data directory of its own."""
    return subprocess.run(
        [sys.executable, "-m", "deploy.cli", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "HEED_DATA_DIR": str(data), **env},
        cwd=ROOT,
        check=False,
        timeout=180,
    )


def test_parsing_arguments_imports_nothing_heavy() -> None:
    code = "import sys, deploy.cli; print(*sorted({n.split('.')[0] for n in sys.modules}))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert set(ran.stdout.split()).isdisjoint(HEAVY)


def test_every_command_of_the_contract_is_there(tmp_path: Path) -> None:
    said = heed(tmp_path, "--help").stdout
    for command in (
        "up", "down", "status", "doctor", "settings", "simulate", "demo", "train", "adapters", "rollback",
        "experiments", "aliases", "import", "feedback", "batches", "forget", "keys",
    ):  # fmt: skip
        assert f"\n  {command} " in said, command


@pytest.mark.parametrize(
    ("group", "commands"),
    [
        ("adapters", ("list", "show", "import", "promote", "retire")),
        ("experiments", ("list", "create", "ramp", "stop", "report")),
        ("aliases", ("list", "create", "set")),
        ("keys", ("create", "list", "revoke")),
        ("batches", ("list", "rebuild")),
        ("feedback", ("export",)),
        ("annotations", ("raters",)),
        ("train", ("now", "cancel")),
    ],
)
def test_every_group_has_its_commands(tmp_path: Path, group: str, commands: tuple[str, ...]) -> None:
    said = heed(tmp_path, group, "--help").stdout
    for command in commands:
        assert f"\n  {command} " in said, command


def test_options_of_up_and_simulate_are_those_of_the_contract(tmp_path: Path) -> None:
    up = heed(tmp_path, "up", "--help").stdout
    for option in (
        "--model",
        "--engine-url",
        "--redis-url",
        "--port",
        "--data-dir",
        "--no-worker",
        "--detach",
    ):
        assert option in up
    simulate = heed(tmp_path, "simulate", "--help").stdout
    for option in ("--users", "--votes", "--preference", "--noise", "--seed", "--url", "--json"):
        assert option in simulate


@pytest.mark.parametrize("command", [("settings",), ("settings", "--json"), ("--help",)])
def test_a_reader_that_leaves_early_is_no_error_worth_words(tmp_path: Path, command: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    ran = subprocess.run(
        [sys.executable, "-m", "deploy.cli", *command],
        stdout=writer,
        stderr=subprocess.PIPE,
        env={**os.environ, "HEED_DATA_DIR": str(tmp_path)},
        cwd=ROOT,
        check=False,
        timeout=180,
    )
    os.close(writer)
    assert ran.returncode in {0, 1}  # 120 is Python's own, for what it could not write at its end
    assert ran.stderr == b""


@pytest.mark.parametrize(
    "command", [("status",), ("down",), ("adapters", "list"), ("keys", "list"), ("rollback",)]
)
def test_without_a_running_heed_a_command_says_so_and_how_to_start_one(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    ran = heed(tmp_path, *command)
    assert ran.returncode == 1
    assert "no Heed is running" in ran.stderr
    assert "heed up" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize(
    "address", ["nope", "127.0.0.1:8080", "ftp://h", "http://", "http://h:x", "file:///etc"]
)
def test_what_is_no_address_is_named_and_not_asked(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    with pytest.raises(InvalidRecord, match=r"--url: .* is not http://HOST:PORT"):
        find_url(address)
    monkeypatch.setenv("HEED_URL", address)
    with pytest.raises(InvalidRecord, match="HEED_URL"):
        find_url()


def test_an_address_is_taken_without_its_last_slash() -> None:
    assert find_url("https://heed.example:8443/") == "https://heed.example:8443"
    assert find_url("http://[::1]:8080") == "http://[::1]:8080"


def test_a_setting_that_does_not_parse_is_named_with_its_value(tmp_path: Path) -> None:
    ran = heed(tmp_path, "up", HEED_PORT="many")
    assert ran.returncode == 1
    assert "HEED_PORT" in ran.stderr
    assert "'many'" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize(
    ("command", "status", "named"),
    [
        (("aliases", "set", "heed", "--guidelines", "@/no/such/file"), 2, "--guidelines"),
        (("forget", "alice"), 1, "SUBJECT"),
        (("forget", "s-abc"), 1, "s-abc"),
        (("simulate", "--preference", "kind", "--url", "http://127.0.0.1:9"), 1, "--preference"),
        (("simulate", "--json", "/no/such/folder/x", "--url", "http://127.0.0.1:9"), 2, "--json"),
        (("experiments", "create", "e", "--arm", "a=base"), 2, "--arm"),
    ],
)
def test_what_is_wrong_on_the_command_line_is_named(
    tmp_path: Path, command: tuple[str, ...], status: int, named: str
) -> None:
    ran = heed(tmp_path, *command)
    assert ran.returncode == status, ran.stderr
    assert named in ran.stderr
    assert "Traceback" not in ran.stderr


def test_an_export_that_breaks_off_leaves_what_stood_in_the_file(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_bytes(b"before")

    def broken() -> Iterator[bytes]:
        yield b"line\n"
        raise RequestRefused(422, "no")

    with pytest.raises(RequestRefused):
        write_whole(out, broken())
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("out", b"before")]
    assert write_whole(out, [b"a\nb\n", b"c\n"]) == 3
    assert out.read_bytes() == b"a\nb\nc\n"
    with pytest.raises(InvalidRecord, match="cannot be written"):
        write_whole(tmp_path / "none" / "out", [b""])


def test_settings_are_listed_once_each_with_type_default_and_description(tmp_path: Path) -> None:
    found = {row.name: row for row in rows()}
    assert found["HEED_PORT"].default == "8080"
    assert found["HEED_PORT"].type == "int"
    assert all(row.description for row in found.values())
    listed = json.loads(heed(tmp_path, "settings", "--json").stdout)
    names = [row["name"] for row in listed]
    assert len(names) == len(set(names))
    assert {"HEED_DATA_DIR", "HEED_REDIS_URL", "HEED_MODEL", "HEED_ENGINE_URLS"} <= set(names)


def test_preferences_can_be_listed(tmp_path: Path) -> None:
    said = heed(tmp_path, "simulate", "--list").stdout
    assert len(said.splitlines()) >= 6
    assert "polite_helpful" in said


def test_an_arm_is_a_name_an_adapter_and_a_share() -> None:
    assert parse_arm("new=a-000001-abc:0.25") == {"name": "new", "adapter": "a-000001-abc", "share": 0.25}
    assert parse_arm("old=base:0.75") == {"name": "old", "adapter": None, "share": 0.75}
    for text in ("new", "new=base", "=base:0.5", "new=base:2", "new=base:x"):
        with pytest.raises(typer.BadParameter, match="NAME=ADAPTER:SHARE"):
            parse_arm(text)


def test_an_alias_is_set_by_what_was_said_alone(tmp_path: Path) -> None:
    assert alias_body(None, None, None, None) == {}
    (tmp_path / "g").write_text("Be kind.")
    said = alias_body(f"@{tmp_path / 'g'}", ["helpful=2", "brevity=-0.5"], "approve", None)
    assert said == {
        "guidelines": "Be kind.",
        "criteria": {"helpful": 2.0, "brevity": -0.5},
        "mode": "approve",
    }
    for text in (
        "helpful",
        "helpful=",
        "helpful=much",
        "helpful=true",
        'helpful="1"',
        "helpful=[1]",
        "helpful=null",
    ):
        with pytest.raises(typer.BadParameter, match="NAME=NUMBER"):
            parse_number(text, "--criterion")


def test_tables_line_up_and_say_when_there_is_nothing() -> None:
    assert table([], ("id",)) == ["none yet"]
    assert table([{"id": "a", "x": 1.0}, {"id": "bbb"}], ("id", "x")) == ["id   x", "a    1", "bbb  -"]
    assert written("created", 0.0) == "1970-01-01 00:00:00"
    assert written("arms", [1]) == "[1]"
    assert written("scopes", ("chat", "ops")) == "chat, ops"
    assert written("engines_ready", []) == "-"
