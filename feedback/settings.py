"""The settings all processes share, each ``HEED_<NAME>`` in the environment; ``heed settings`` lists them."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class StoreSettings(BaseSettings):
    """Where state lives and how the parts find one another."""

    model_config = SettingsConfigDict(env_prefix="HEED_", extra="ignore", frozen=True)

    data_dir: Path = Field(
        default=Path("~/.local/share/heed"),
        description="holds all state: adapters, batches, archive, spool, logs",
    )
    redis_url: str = Field(default="redis://127.0.0.1:6379/0", description="events, registry, experiments")
    broker_url: str = Field(
        default="redis://127.0.0.1:6379/1", description="Celery's broker, a URL of its own"
    )
    model: str = Field(
        default="starter", description="base model: 'starter', a local path, or a Hugging Face name"
    )
    default_alias: str = Field(default="heed", description="the alias that exists from the start")
    response_life_seconds: float = Field(
        default=30 * 86400.0,
        gt=0,
        description="how long a response can be voted on; after it votes answer 410",
    )
    archive_url: str = Field(
        default="",
        description="where the archive lies: a URL that fsspec knows (s3://bucket/heed); empty: in the data directory",
    )
    retention_days: float = Field(
        default=0, ge=0, description="archived events older than this are deleted; 0: kept for ever"
    )
    text_retention_days: float = Field(
        default=0,
        ge=0,
        description="their texts, where these go earlier than ratings and counts; 0: with them",
    )
    redact: str = Field(
        default="off",
        description="takes personal data out of texts before they are stored: off, patterns, or module:callable",
    )
    spool_max_bytes: int = Field(
        default=256 * 1024 * 1024, gt=0, description="size of the local spool used while Redis is away"
    )

    @cached_property
    def root(self) -> Path:
        """``data_dir`` with ``~`` expanded, absolute."""
        return self.data_dir.expanduser().absolute()

    @property
    def adapters_dir(self) -> Path:
        return self.root / "adapters"

    @property
    def batches_dir(self) -> Path:
        return self.root / "batches"

    @property
    def archive_dir(self) -> Path:
        return self.root / "archive"

    @property
    def archive_place(self) -> Path | str:
        """What the archive is opened by."""
        return self.archive_url or self.archive_dir

    def kept_from(self, now: float) -> tuple[float, float]:
        """Unix seconds from which events, and from which their texts, are kept at ``now``; 0: all."""
        events, texts = (
            now - days * 86400 if days else 0.0 for days in (self.retention_days, self.text_retention_days)
        )
        return events, max(events, texts)

    @property
    def indexed_seconds(self) -> float:
        """How long the log's indexes, which hold comments and corrections, keep what is not touched."""
        days = [days for days in (self.retention_days, self.text_retention_days) if days]
        return min([self.response_life_seconds, *(day * 86400 for day in days)])

    @property
    def lineage_dir(self) -> Path:
        return self.root / "lineage"

    @property
    def reward_models_dir(self) -> Path:
        return self.root / "reward-models"

    @property
    def checkpoints_dir(self) -> Path:
        return self.root / "checkpoints"

    @property
    def spool_dir(self) -> Path:
        return self.root / "spool"

    @property
    def logs_dir(self) -> Path:
        return self.root / "logs"

    @property
    def run_dir(self) -> Path:
        """Process state of a local launch: state.json, sockets, the lock."""
        return self.root / "run"

    @property
    def model_path(self) -> str:
        """What transformers and vLLM are given: a folder, or a hub name."""
        if self.model == "starter":
            return str(Path(__file__).resolve().parent.parent / "deploy" / "starter")
        local = Path(self.model).expanduser()
        return str(local.absolute()) if local.exists() else self.model


class EngineSettings(StoreSettings):
    """Where the engines are and what they hold: asked by gateways, and by workers for rollouts."""

    engine_urls: str = Field(
        default="http://127.0.0.1:8000",
        description="comma separated; the engines are named engine-0, engine-1, … in this order",
    )
    engine_key: SecretStr = Field(default=SecretStr(""), description="sent to the engines as bearer token")
    engine_adapters_dir: Path | None = Field(
        default=None, description="where the engines see the adapters folder; absent: same path as here"
    )
    adapter_slots: int = Field(default=16, ge=2, description="the engines' --max-cpu-loras; one is kept free")

    @cached_property
    def engines(self) -> dict[str, str]:
        """Engine name → URL without a slash at its end."""
        urls = [url.strip().rstrip("/") for url in self.engine_urls.split(",") if url.strip()]
        return {f"engine-{index}": url for index, url in enumerate(urls)}

    @property
    def adapters_seen_at(self) -> Path:
        """The adapters folder, as the engines see it."""
        return self.engine_adapters_dir or self.adapters_dir
