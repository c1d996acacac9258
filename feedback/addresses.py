"""What a look-up of a host name says of the servers behind it."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from typing import Any


def is_address(host: str) -> bool:
    """Whether there is nothing to look up."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def of_one_family(found: Iterable[tuple[Any, ...]]) -> list[str]:
    """The addresses in what ``getaddrinfo`` found, sorted: the same server is often reached by both families."""
    answers = list(found)
    families = {answer[0] for answer in answers}
    family = socket.AF_INET if socket.AF_INET in families else socket.AF_INET6
    return sorted({str(answer[4][0]) for answer in answers if answer[0] == family})
