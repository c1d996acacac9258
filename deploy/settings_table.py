"""Every setting of every process, for `heed settings`."""

from __future__ import annotations

import importlib
import json
from dataclasses import asdict, dataclass

from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

# Module and class of each process's settings; they import without the process's own parts.
CLASSES = (
    ("feedback.settings", "StoreSettings", "all"),
    ("feedback.settings", "EngineSettings", "gateway, worker"),
    ("serve.settings", "GatewaySettings", "gateway"),
    ("training.settings", "TrainingSettings", "worker"),
    ("deploy.settings", "LaunchSettings", "launch"),
)


@dataclass(frozen=True)
class Row:
    """One setting."""

    name: str  # HEED_…
    type: str
    default: str
    process: str  # all | gateway | worker | launch, or several
    description: str


def rows() -> list[Row]:
    """One row a name, the widest process first."""
    found: dict[str, Row] = {}
    for module, name, process in CLASSES:
        for row in of_class(getattr(importlib.import_module(module), name), process):
            found.setdefault(row.name, row)
    return list(found.values())


def of_class(settings: type[BaseSettings], process: str) -> list[Row]:
    """The rows of one class, in the order of its fields."""
    prefix = settings.model_config.get("env_prefix", "")
    made = []
    for name, field in settings.model_fields.items():
        kind = (
            getattr(field.annotation, "__name__", None)
            if not getattr(field.annotation, "__args__", None)
            else None
        )
        default = field.get_default(call_default_factory=True, validated_data={})
        made.append(
            Row(
                name=f"{prefix}{name}".upper(),
                type=kind or str(field.annotation).replace("typing.", "").replace("pathlib.", ""),
                default="" if default in (None, PydanticUndefined) else str(default),
                process=process,
                description=field.description or "",
            )
        )
    return made


def report(found: list[Row], *, as_json: bool) -> None:
    """Print a table, or JSON."""
    if as_json:
        print(json.dumps([asdict(row) for row in found], indent=1))
        return
    for row in found:
        print(f"{row.name}  ({row.process}; {row.type}; default {row.default or 'none'})")
        print(f"    {row.description}")
