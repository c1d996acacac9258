"""A command in a terminal of its own, as a person runs it, and what it leaves behind."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.servers import stop_group


class Terminal:
    """The command leads the session of a pseudo-terminal, so Ctrl-C reaches its foreground group."""

    def __init__(self, command: Sequence[str], where: Path, env: Mapping[str, str], log: Path) -> None:
        self._master, slave = pty.openpty()
        # whoever runs in the background ignores INT, and so would its children
        fresh = ["setsid", "--ctty", "env", "--default-signal=INT", *command]
        self.process = subprocess.Popen(
            fresh, stdin=slave, stdout=slave, stderr=slave, cwd=where, env=dict(env)
        )
        os.close(slave)
        self._log, self._closed = log, threading.Event()
        self._reader = threading.Thread(target=self._read, name="terminal", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        """A terminal that nobody reads stops who writes to it."""
        with self._log.open("ab") as sink, contextlib.suppress(OSError):
            while not self._closed.is_set():
                if select.select([self._master], [], [], 0.1)[0]:
                    sink.write(os.read(self._master, 65536))
                    sink.flush()

    def press_ctrl_c(self) -> None:
        """What the key sends; the terminal makes a SIGINT of it."""
        os.write(self._master, b"\x03")

    def hang_up(self) -> None:
        """What closing the window does: SIGHUP, and nowhere left to write to."""
        if not self._closed.is_set():
            self._closed.set()
            self._reader.join()
            os.close(self._master)

    def close(self) -> None:
        """End the session, however it stands."""
        stop_group(self.process)
        self.hang_up()


@contextmanager
def terminal(command: Sequence[str], where: Path, env: Mapping[str, str], log: Path) -> Iterator[Terminal]:
    """A Terminal that is gone at the end."""
    opened = Terminal(command, where, env, log)
    try:
        yield opened
    finally:
        opened.close()


def belonging_to(folder: Path) -> set[int]:
    """Processes that work in ``folder`` or were told of it in arguments or environment, by /proc alone."""
    mark = os.fsencode(folder)
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            told = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            if mark in told or os.fsencode((entry / "cwd").readlink()).startswith(mark):
                found.add(int(entry.name))
    return found - {os.getpid()}
