"""Which addresses a look-up names, and what needs none."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from feedback.addresses import is_address, of_one_family


def answer(family: int, address: str) -> tuple[Any, ...]:
    return (family, socket.SOCK_STREAM, 6, "", (address, 0))


@pytest.mark.parametrize(
    ("host", "told"),
    [("10.0.0.1", True), ("::1", True), ("engines.internal", False), ("", False), ("10.0.0", False)],
)
def test_what_is_an_address(host: str, told: bool) -> None:
    assert is_address(host) == told


def test_a_server_that_both_families_reach_is_told_once() -> None:
    four = [answer(socket.AF_INET, "10.0.0.2"), answer(socket.AF_INET, "10.0.0.1")]
    six = [answer(socket.AF_INET6, "fd00::2"), answer(socket.AF_INET6, "fd00::1")]
    assert of_one_family([six[0], *four, four[0]]) == ["10.0.0.1", "10.0.0.2"]
    assert of_one_family(iter(six)) == ["fd00::1", "fd00::2"]
    assert of_one_family([]) == []
