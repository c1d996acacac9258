"""The settings all processes share, each ``HEED_<NAME>`` in the environment; ``heed settings`` lists them."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from pydantic import Field
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
