"""What can go wrong when Heed is launched or spoken to, drawn as a tree.

HeedError
└── DeployError
    ├── CannotStart      something is missing, taken or full: the message names it and the mend
    ├── AlreadyRunning   another launch holds the data directory
    ├── NotRunning       no Heed was found where one was looked for
    └── RequestRefused   the running Heed answered with an error: its status, code and message
"""

from __future__ import annotations

from feedback.errors import HeedError


class DeployError(HeedError):
    """Base of the errors of the command line; the message is fit to show."""


class CannotStart(DeployError):
    """The launch is refused before any process starts."""

    def __init__(self, what: str, mend: str) -> None:
        super().__init__(f"{what}\n  mend: {mend}")
        self.what, self.mend = what, mend


class AlreadyRunning(DeployError):
    """Another supervisor holds the lock of the data directory."""

    def __init__(self, data_dir: str, pid: int | None, url: str | None) -> None:
        where = f" at {url}" if url else ""
        super().__init__(
            f"Heed already runs in {data_dir} (pid {pid or 'unknown'}){where}\n"
            "  mend: use it, stop it with `heed down`, or start another with --data-dir and --port"
        )
        self.pid, self.url = pid, url


class NotRunning(DeployError):
    """Nothing answers where Heed should be."""

    def __init__(self, where: str) -> None:
        super().__init__(
            f"no Heed is running {where}\n  mend: start one with `heed up`, or name it with --url or HEED_URL"
        )


class RequestRefused(DeployError):
    """The running Heed answered with an error."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        hint = ""
        if status in (401, 403):
            hint = "\n  mend: set HEED_API_KEY to a key with the scope (`heed keys create` makes one)"
        super().__init__(f"{message} (HTTP {status}{', ' + code if code else ''}){hint}")
        self.status, self.code = status, code
