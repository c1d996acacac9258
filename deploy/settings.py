"""The settings of a local launch, each ``HEED_<NAME>`` in the environment."""

from __future__ import annotations

from pydantic import Field

from feedback.settings import StoreSettings


class LaunchSettings(StoreSettings):
    """How `heed up` starts its parts."""

    host: str = Field(default="127.0.0.1", description="address the gateway listens on")
    port: int = Field(default=8080, ge=0, le=65535, description="port of the gateway; 0 takes a free one")
    engine_urls: str = Field(
        default="", description="engines that run already, comma separated; empty: start one"
    )
    engine_key: str = Field(default="", description="bearer key the engines ask for")
    engine_arguments: str = Field(default="", description="more arguments for the engine that is started")
    engine_tool_parser: str = Field(
        default="hermes",
        description="how the started engine reads a model's tool calls, as vLLM names it; empty: no tools",
    )
    engine_context: int = Field(
        default=2048, ge=128, description="most tokens of prompt and reply together, in the started engine"
    )
    engine_fork: bool = Field(
        default=True, description="start a CPU engine faster by forking its core process; false: as vLLM does"
    )
    engine_start_seconds: float = Field(
        default=900.0, gt=0, description="how long an engine may take until it is healthy"
    )
    worker_nice: int = Field(
        default=10, ge=0, le=19, description="how far the workers give way to chat; 0: not at all"
    )
    engine_memory_share: float = Field(
        default=0.5,
        gt=0,
        lt=1,
        description="share of a GPU's memory for the engine; the trainer uses the rest",
    )

    @property
    def engines(self) -> tuple[str, ...]:
        """``engine_urls`` as a tuple, without empty parts or trailing slashes."""
        return tuple(part.strip().rstrip("/") for part in self.engine_urls.split(",") if part.strip())
