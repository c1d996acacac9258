"""Records of the HTTP API for people to read: tables of a few columns, or the JSON itself."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

WIDEST = 60


def show(value: Mapping[str, Any], columns: Sequence[str], *, as_json: bool) -> None:
    """A list of records as a table, a single record as lines; all of it with ``as_json``."""
    if as_json:
        print(json.dumps(value, indent=1))
    elif isinstance(value.get("data"), list):
        for line in table(value["data"], columns):
            print(line)
    else:
        for key, item in value.items():
            print(f"{key:<20} {written(key, item)}")


def table(records: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> list[str]:
    """One line a record under a line of headings, columns as wide as their widest cell."""
    cells = [list(columns)]
    cells += [[cut(written(column, record.get(column))) for column in columns] for record in records]
    widths = [max(len(row[at]) for row in cells) for at in range(len(columns))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]
    return lines if len(lines) > 1 else ["none yet"]


def written(key: str, value: Any) -> str:
    """One value: times as dates, nothing as "-", structures as JSON."""
    if value is None or value == "":
        return "-"
    if key in ("created", "time") and isinstance(value, int | float):
        return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple) and all(isinstance(one, str) for one in value):
        return ", ".join(value) or "-"
    return json.dumps(value) if isinstance(value, dict | list) else str(value)


def cut(text: str) -> str:
    """``text``, or its first part with an ellipsis."""
    return text if len(text) <= WIDEST else text[: WIDEST - 1] + "…"
