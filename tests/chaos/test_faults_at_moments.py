"""Faults at exact moments of a round and of the archive: real processes, a real store, real signals.

The base is a random model of 30,000 parameters, so that a round takes a second; what it learns is of no matter.
"""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from feedback import keys
from feedback.archive import Archive
from feedback.events import Event
from feedback.log import RedisEventLog
from feedback.manifest import read_manifest, verify_files
from feedback.protocols import AdapterRecord, AliasRecord
from feedback.registry import RedisRegistry
from feedback.store import connect
from tests.chaos.faulty import Fault, begin
from tests.contract.making import response, vote
from tests.servers import valkey_server, wait_until
from tests.unit.training.tiny import save_tiny

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1200)]
ADD = "feedback.registry:RedisRegistry.add_adapter"
ENDED = "training.status:Status.ended"
VOTES = 80
REFUSED = re.compile("No space left|File too large")


@dataclass
class Scene:
    """A store with votes in its log, a data directory, and workers that are run one task at a time."""

    url: str
    store_pid: int
    data: Path
    model: Path
    file_bytes: int | None = None  # longest file the kernel lets workers write

    @property
    def registry(self) -> RedisRegistry:
        return RedisRegistry(connect(self.url))

    @property
    def log(self) -> RedisEventLog:
        return RedisEventLog(connect(self.url))

    @property
    def loop(self) -> dict[str, Any]:
        return self.registry.loop("heed")

    @property
    def adapters(self) -> list[AdapterRecord]:
        return self.registry.adapters("heed")

    def begin(self, task: str, fault: Fault | None = None) -> ForkServerProcess:
        """Start one task."""
        env = {
            "HEED_DATA_DIR": str(self.data),
            "HEED_REDIS_URL": self.url,
            "HEED_MODEL": str(self.model),
            "HEED_PPO_SECONDS": "1",
            "HEED_GATE_PROMPTS": "16",
            "HEED_LEASE_SECONDS": "2",
        }
        return begin(task, fault, env, self.said, self.file_bytes)

    def run(self, task: str, fault: Fault | None = None) -> int:
        """Run one task to its end; its exit code, negative for a signal."""
        started = self.begin(task, fault)
        started.join(300)
        assert started.exitcode is not None
        return started.exitcode

    @property
    def said(self) -> Path:
        """What the workers write."""
        return self.data.parent / "workers.log"

    def run_round(self) -> None:
        """Run a round until it is over, as the schedule would."""
        wait_until(lambda: not self.registry.held("round:heed"), 60, "the end of a dead worker's lease")
        assert self.run("train") == 0, self.said.read_text()[-3000:]

    def holder(self, lease: str) -> str:
        """Who holds a lease."""
        return (connect(self.url).hget(keys.lease(lease), "holder") or b"").decode()

    def folders(self) -> list[Path]:
        return sorted(path for path in (self.data / "adapters").glob("*"))


def events() -> list[Event]:
    """Replies that start with a or z; everybody likes a."""
    said: list[Event] = []
    for n in range(VOTES):
        liked, subject = n % 2 == 0, f"s{n % 20}"
        text = ("aaa " if liked else "zzz ") * 3 + "abcdefgh"[n % 8]
        asked = ({"role": "user", "content": f"what is {n}?"},)
        said.append(response(f"r{n}", subject, messages=asked, text=text))
        said.append(vote(f"r{n}", "up" if liked else "down", 200.0 + n, subject, alias="heed"))
    return said


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("model"))


@pytest.fixture
def scene(tmp_path: Path, model: Path) -> Iterator[Scene]:
    """All votes are in the log; nothing is archived."""
    with valkey_server(tmp_path / "valkey") as (url, server):
        made = Scene(url, server.pid, tmp_path / "data", model)
        made.registry.put_alias(AliasRecord(name="heed"))
        made.log.append(events())
        made.registry.set_loop("heed", {"train_requested": time.time()})
        yield made


@contextmanager
def narrow(scene: Scene) -> Iterator[Callable[[int | None], None]]:
    """A small full disk under the data directory, or, where nobody may mount, a limit on files. Yields what leaves
    so many bytes; None: enough.
    """
    folder, ballast = str(scene.data), scene.data / "ballast"
    scene.data.mkdir(parents=True)
    mounting = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", folder]
    mounted = subprocess.run(mounting, check=False, capture_output=True).returncode == 0

    def free(room: int | None) -> None:
        ballast.unlink(missing_ok=True)
        if not mounted:
            scene.file_bytes = room
        elif room is not None:
            ballast.write_bytes(bytes(max(0, psutil.disk_usage(folder).free - room)))

    try:
        free(0)
        yield free
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", folder], check=True)


def assert_published_once(scene: Scene) -> None:
    """One adapter: a whole folder, its record, the round's end that names it."""
    [record] = scene.adapters
    assert scene.loop["last_round"]["adapter"] == record.id
    assert scene.loop["last_round"]["verdict"] in {"candidate", "rejected"}
    assert scene.loop["unfinished"] is None
    assert [path.name for path in scene.folders()] == [record.id]
    verify_files(Path(record.path), read_manifest(Path(record.path)), scene.data / "adapters")


@pytest.mark.parametrize(
    ("when", "where"),
    [("before", ADD), ("before", ENDED), ("after", ENDED)],
    ids=["between folder and record", "between record and end", "between end and clearing up"],
)
def test_a_worker_killed_around_publishing_leaves_one_adapter_and_the_next_round_works(
    scene: Scene, when: str, where: str
) -> None:
    assert scene.run("archive") == 0
    assert scene.run("train", Fault("kill", when, where)) == -signal.SIGKILL
    assert len(scene.folders()) == 1
    if scene.loop["unfinished"]:
        scene.run_round()
    assert_published_once(scene)
    scene.log.append([vote("r1", "up", 900.0, "s1", alias="heed")])
    scene.registry.set_loop("heed", {"train_requested": time.time()})
    assert scene.run("archive") == 0
    first = scene.loop["last_round"]["batch"]
    scene.run_round()
    assert scene.loop["last_round"]["batch"] != first
    assert scene.loop["last_round"]["verdict"] != "failed"
    assert list((scene.data / "checkpoints" / "heed").iterdir()) == []
    assert {path.name for path in scene.folders()} == {record.id for record in scene.adapters}


@pytest.mark.parametrize(
    ("where", "resumed"), [("training.learning:fit", False), ("training.learning:examine", True)]
)
def test_a_worker_killed_before_ppo_begins_anew_and_one_killed_after_it_does_not_train_again(
    scene: Scene, where: str, resumed: bool
) -> None:
    assert scene.run("archive") == 0
    assert scene.run("train", Fault("kill", "before", where)) == -signal.SIGKILL
    assert scene.folders() == []
    scene.run_round()
    assert_published_once(scene)
    assert ("PPO goes on after step" in scene.said.read_text()) is resumed


def test_a_store_killed_between_folder_and_record_gets_the_record_when_it_is_back(scene: Scene) -> None:
    assert scene.run("archive") == 0
    assert scene.run("train", Fault("kill-store", "before", ADD, scene.store_pid)) == 0
    [folder] = scene.folders()
    assert "is taken up again" in scene.said.read_text()
    with valkey_server(scene.data.parent / "valkey", urlsplit(scene.url).port):
        assert scene.adapters == []
        assert scene.loop["unfinished"]
        scene.run_round()
        assert_published_once(scene)
        assert scene.adapters[0].id == folder.name


def test_a_round_that_was_overtaken_at_the_last_moment_publishes_nothing_and_ends_nothing(
    scene: Scene,
) -> None:
    assert scene.run("archive") == 0
    halted = scene.begin("train", Fault("stop", "before", ADD))
    process = psutil.Process(halted.pid)
    wait_until(lambda: process.status() == psutil.STATUS_STOPPED, 300, "the last moment", scene.said)
    wait_until(lambda: scene.registry.acquire("round:heed", "another", 60) is not None, 60, "its lease")
    process.send_signal(signal.SIGCONT)
    halted.join(300)
    assert halted.exitcode == 0
    assert scene.adapters == []
    assert scene.loop["unfinished"]
    assert "last_round" not in scene.loop
    scene.registry.release("round:heed", "another")
    scene.run_round()
    assert_published_once(scene)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_worker_killed_around_acknowledging_loses_no_event_and_counts_none_twice(
    scene: Scene, when: str
) -> None:
    assert scene.run("archive", Fault("kill", when, "feedback.log:RedisEventLog.ack")) == -signal.SIGKILL
    scene.log.append([vote("r1", "up", 900.0, "s1", alias="heed")])
    scene.registry.release("tick:archive", scene.holder("tick:archive"))  # else it runs out in half a minute
    assert scene.run("archive") == 0
    archived = [entry.event.event_id for entry in Archive(scene.data / "archive").events()]
    assert len(archived) == len(set(archived)) == 2 * VOTES + 1
    assert scene.log.votes_total("heed") == VOTES + 1
    assert scene.log.backlog().events == 0


def test_a_round_that_kills_its_worker_each_time_is_given_up(scene: Scene) -> None:
    assert scene.run("archive") == 0
    scene.registry.set_loop("heed", {"starts": 7})
    assert scene.run("train", Fault("kill", "before", "training.learning:fit")) == -signal.SIGKILL
    scene.run_round()
    ended = scene.loop["last_round"]
    assert (ended["verdict"], ended["adapter"]) == ("failed", None)
    assert ended["reason"] == "given up: it was begun 8 times and died each time"
    scene.run_round()  # nothing is due any more
    assert scene.loop["last_round"] == ended


def test_a_full_disk_ends_a_round_with_its_reason_and_after_it_the_same_votes_are_learnt_from(
    scene: Scene,
) -> None:
    with narrow(scene) as free:
        assert scene.run("archive") != 0
        assert REFUSED.search(scene.registry.loop("_workers")["archive"]["why"])
        assert scene.log.backlog().votes == VOTES
        free(200_000)
        assert scene.run("archive") == 0
        assert scene.log.backlog().votes == 0
        scene.run_round()
        failed = scene.loop["last_round"]
        assert (failed["verdict"], failed["adapter"]) == ("failed", None)
        assert REFUSED.search(failed["reason"])
        assert "start 2 of 8" in failed["reason"]
        assert scene.loop["unfinished"]
        scene.run_round()  # it rests: nothing happens
        assert scene.loop["last_round"] == failed
        free(None)
        wait_until(lambda: time.time() > scene.loop["retry_at"], 60, "the end of the rest")
        scene.run_round()
        assert_published_once(scene)
        assert scene.loop["last_round"]["batch"] == scene.loop["last_batch"]["id"]
        assert scene.loop["last_batch"]["votes"] == VOTES
