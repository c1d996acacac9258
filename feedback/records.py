"""Registry records as JSON and back. Unknown fields are ignored: old readers understand new writers."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any, TypeVar

import orjson

from feedback.errors import InvalidRecord
from feedback.protocols import Arm, ExperimentRecord

R = TypeVar("R")


def dump(record: Any) -> bytes:
    """One record as JSON bytes."""
    return orjson.dumps(asdict(record))


def load(cls: type[R], data: bytes) -> R:
    """The record in ``data``. Raises InvalidRecord."""
    known = {field.name for field in fields(cls)}  # type: ignore[arg-type]
    try:
        body = orjson.loads(data)
        values = {key: tuple(v) if isinstance(v, list) else v for key, v in body.items() if key in known}
        if cls is ExperimentRecord:
            values["arms"] = tuple(Arm(**arm) for arm in values["arms"])
        return cls(**values)
    except (orjson.JSONDecodeError, TypeError, AttributeError, KeyError) as error:
        raise InvalidRecord(cls.__name__, f"does not parse ({error})") from error
