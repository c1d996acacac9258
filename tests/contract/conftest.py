"""Each contract test runs on the real server and on the in-process twin."""

from __future__ import annotations

import pytest

from feedback.log import RedisEventLog
from feedback.memory import MemoryEventLog, MemoryRegistry
from feedback.memory_rating import MemoryRatingQueue
from feedback.protocols import EventLog, Registry
from feedback.rating import RatingQueue
from feedback.rating_queue import RedisRatingQueue
from feedback.registry import RedisRegistry


@pytest.fixture(params=["redis", "memory"])
def log(request: pytest.FixtureRequest) -> EventLog:
    if request.param == "memory":
        return MemoryEventLog()
    return RedisEventLog(request.getfixturevalue("store"))


@pytest.fixture(params=["redis", "memory"])
def registry(request: pytest.FixtureRequest) -> Registry:
    if request.param == "memory":
        return MemoryRegistry()
    return RedisRegistry(request.getfixturevalue("store"))


@pytest.fixture(params=["redis", "memory"])
def rating_queue(request: pytest.FixtureRequest) -> RatingQueue:
    if request.param == "memory":
        return MemoryRatingQueue()
    return RedisRatingQueue(request.getfixturevalue("store"))
