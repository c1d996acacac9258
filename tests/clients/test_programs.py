"""Every client program's every case passes, and each program has the cases that its client is known by."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.clients.environment import PYTHON, Told, run_node, run_python
from tests.clients.gateways import Gateways

pytestmark = pytest.mark.engine


def failed(told: list[Told]) -> str:
    """Which cases failed, and why."""
    return "\n".join(f"{one.case}: {one.error}" for one in told if not one.passed)


@pytest.mark.parametrize("python", [Path(sys.executable), PYTHON], ids=["locked", "newest"])
def test_the_official_python_sdk(python: Path, both: Gateways, clients: Path) -> None:
    told = run_python("with_openai", both.environment, python)
    assert len(told) >= 25
    assert not failed(told), failed(told)


@pytest.mark.parametrize(("program", "cases"), [("with_langchain", 15), ("with_litellm", 10)])
def test_a_framework_in_python(program: str, cases: int, both: Gateways, clients: Path) -> None:
    told = run_python(program, both.environment)
    assert len(told) >= cases
    assert not failed(told), failed(told)


def test_the_official_node_sdk(both: Gateways, clients: Path) -> None:
    told = run_node(both.environment)
    assert len(told) >= 14
    assert not failed(told), failed(told)


def test_a_program_that_does_not_get_what_it_asks_for_says_so(both: Gateways, clients: Path) -> None:
    nowhere: Mapping[str, str] = {**both.environment, "CLIENT_KEY": "hk-wrong"}
    told = {one.case: one.passed for one in run_python("with_openai", nowhere)}
    assert not told["a_chat_has_the_shape_of_openai"]
    assert not any(told[case] for case in told if "stream" in case)
