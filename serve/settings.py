"""The gateway's settings, each ``HEED_<NAME>`` in the environment."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from pydantic import Field, SecretStr

from feedback.settings import EngineSettings
from feedback.thresholds import Rating
from serve.pulse import PATIENCE_SECONDS


class GatewaySettings(Rating, EngineSettings):
    """Where the gateway listens, which engines it asks, and its bounds."""

    host: str = Field(default="127.0.0.1", description="address to listen on; others need a key configured")
    port: int = Field(default=8080, ge=0, le=65535, description="port to listen on; 0 picks a free one")
    gateway_workers: int = Field(default=1, ge=1, description="gateway processes that share the port")
    allowed_hosts: str = Field(
        default="", description="comma separated Host names that are answered besides the loopback's"
    )

    trust_forwarded_proto: bool = Field(
        default=False,
        description="a proxy in front sets X-Forwarded-Proto, and over https the page's cookie is Secure",
    )

    engine_base_name: str = Field(
        default="base", description="the engines' --served-model-name of the base model"
    )
    engine_health_seconds: float = Field(default=0.5, gt=0, description="pause between health checks")
    engine_connect_seconds: float = Field(default=2.0, gt=0, description="longest wait for a connection")
    engine_resolve_seconds: float = Field(
        default=5.0, gt=0, description="pause between look-ups of engine host names with several addresses"
    )
    engine_silence_seconds: float = Field(
        default=600.0, gt=0, description="longest silence of an engine before its reply is given up"
    )

    engine_stall_seconds: float = Field(
        default=PATIENCE_SECONDS,
        gt=0,
        description="where another engine could answer: silence of all an engine's chats, with its own counts standing "
        "still, after which its core is taken for hung",
    )

    admin_key: SecretStr = Field(default=SecretStr(""), description="a key with every scope; empty: none")

    max_body_bytes: int = Field(default=1024 * 1024, gt=0, description="largest request body")
    max_messages: int = Field(default=256, gt=0, description="most messages in a chat")
    max_tokens_cap: int = Field(default=8192, gt=0, description="most tokens a chat may ask for")
    max_chats_in_flight: int = Field(default=4096, gt=0, description="most chats a process answers at once")
    engine_chats: int = Field(
        default=128,
        ge=0,
        description="most chats at once for each engine that is up, from all gateways; at most the engines' "
        "--max-num-seqs (128 on a CPU), so that no chat of high priority waits there for a place; 0: any",
    )
    high_reserve: float = Field(
        default=0.1, ge=0, lt=1, description="share of the places that only chats of priority high may take"
    )
    low_share: float = Field(
        default=0.25, gt=0, le=1, description="share of the places that chats of priority low may fill"
    )
    key_chats: int = Field(
        default=0, ge=0, description="most chats at once of a key that sets no --max-concurrent; 0: any"
    )
    subject_chats: int = Field(
        default=64, ge=0, description="most chats at once of one subject where keys are used; 0: any"
    )
    key_requests_per_minute: float = Field(
        default=0, ge=0, description="chats a minute of a key that sets no --requests-per-minute; 0: any"
    )
    key_tokens_per_minute: float = Field(
        default=0, ge=0, description="tokens a minute of a key that sets no --tokens-per-minute; 0: any"
    )
    key_tokens_per_day: float = Field(
        default=0, ge=0, description="tokens a day of a key that sets no --tokens-per-day; 0: any"
    )
    quota_sync_seconds: float = Field(
        default=0.1, gt=0, description="pause between the gateways' telling each other what was used"
    )
    subject_rate: float = Field(
        default=20.0,
        ge=0,
        description="requests a second one subject may keep up where keys are used; 0: any",
    )
    subject_burst: int = Field(default=60, gt=0, description="requests a subject may send at once")

    writer_queue: int = Field(default=20_000, gt=0, description="events that may wait to be written")
    store_retry_seconds: float = Field(
        default=1.0, gt=0, description="pause before Redis is tried again after it failed"
    )
    watch_seconds: float = Field(
        default=0.5,
        gt=0,
        description="pause between looks at the registry, whose changes are announced besides",
    )
    reread_seconds: float = Field(
        default=5.0,
        gt=0,
        description="the registry and the file of signing keys are re-read at least this often",
    )

    adapter_rank_cap: int = Field(default=16, ge=1, description="the engines' --max-lora-rank")
    adapter_wait_seconds: float = Field(
        default=5.0, ge=0, description="longest a chat waits for an adapter that has to be loaded first"
    )
    adapter_keep_seconds: float = Field(
        default=7 * 86400.0,
        ge=0,
        description="files of an adapter are deleted this long after it was retired or rejected; 0: never",
    )
    probe_tolerance_nats: float = Field(
        default=0.1,
        gt=0,
        description="mean difference of log-probabilities between engine and trainer that a probe allows",
    )
    import_dirs: str = Field(
        default="",
        description="comma separated folders adapters may be imported from, besides the data directory",
    )

    compare_with_base_share: float = Field(
        default=0.25,
        ge=0,
        le=1,
        description="share of comparisons, while no experiment runs, of the live adapter with the base",
    )
    metrics_open: bool = Field(
        default=True, description="/metrics needs no key; it names adapters and counts, never a user"
    )
    docs: bool = Field(default=True, description="serve /docs and /openapi.json")

    @cached_property
    def import_folders(self) -> tuple[Path, ...]:
        """Folders a PEFT folder may be imported from, resolved."""
        extra = [Path(part.strip()).expanduser() for part in self.import_dirs.split(",") if part.strip()]
        return tuple(folder.resolve() for folder in (self.root, *extra))

    @cached_property
    def host_names(self) -> frozenset[str]:
        """Host names that are answered besides the loopback's."""
        return frozenset(part.strip().lower() for part in self.allowed_hosts.split(",") if part.strip())
