"""Hosts: a name and a port, nothing else."""

from __future__ import annotations

import pytest

from serve.errors import BadField
from serve.middleware.hosts import name_of


@pytest.mark.parametrize(
    ("authority", "name"),
    [
        ("example.org:8080", "example.org"),
        ("LocalHost", "localhost"),
        ("[::1]:80", "::1"),
        ("127.0.0.1", "127.0.0.1"),
        ("", ""),
    ],
)
def test_the_name_is_what_is_before_the_port(authority: str, name: str) -> None:
    assert name_of(authority) == name


@pytest.mark.parametrize(
    "authority",
    [
        "localhost/x",
        "localhost?x",
        "a@localhost",
        "localhost:",
        "localhost:x",
        "::1",
        "[::1",
        "a b",
        "a,b",
        "é",
        "a\n",
    ],
)
def test_more_than_a_name_is_none(authority: str) -> None:
    with pytest.raises(BadField) as caught:
        name_of(authority)
    assert (caught.value.param, caught.value.status) == ("Host", 400)
