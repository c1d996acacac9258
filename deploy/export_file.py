"""Writes an export to a file that is either whole or not there."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from feedback.errors import InvalidRecord


def write_whole(out: Path, chunks: Iterable[bytes]) -> int:
    """The number of lines. What stood in the file stays when the chunks break off. Raises InvalidRecord when
    the file cannot be written.
    """
    draft = out.with_name(f".{out.name}.part")
    lines = 0
    try:
        with draft.open("wb") as sink:
            for chunk in chunks:
                sink.write(chunk)
                lines += chunk.count(b"\n")
        draft.replace(out)
    except OSError as error:
        raise InvalidRecord(f"--out {out}", f"cannot be written ({error.strerror or error})") from error
    finally:
        draft.unlink(missing_ok=True)
    return lines
