"""Ports of this machine: a free one, whether one is taken, and by whom."""

from __future__ import annotations

import socket

import psutil

from deploy.errors import CannotStart

LOOPBACK = "127.0.0.1"


def free_port(host: str = LOOPBACK) -> int:
    """A port nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
    return port


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def holder(port: int) -> str:
    """Who listens on ``port``, as far as we may know: " by python (pid 12)", or nothing."""
    try:
        listening = [
            c
            for c in psutil.net_connections("tcp")
            if c.status == psutil.CONN_LISTEN and c.laddr and c.laddr.port == port
        ]
        pid = next((c.pid for c in listening if c.pid), None)
        return f" by {psutil.Process(pid).name()} (pid {pid})" if pid else ""
    except psutil.Error:
        return ""


def claimed_port(host: str, port: int) -> int:
    """``port``, or a free one for 0. Raises CannotStart when it is taken."""
    if port == 0:
        return free_port(host)
    if not is_free(host, port):
        raise CannotStart(
            f"port {port} on {host} is taken{holder(port)}",
            f"stop what listens there, or start elsewhere: heed up --port {port + 1} (--port 0: any)",
        )
    return port
