"""The settings of the workers, each ``HEED_<NAME>`` in the environment; an alias may override them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from feedback.settings import EngineSettings
from feedback.thresholds import Thresholds


class TrainingSettings(Thresholds, EngineSettings):
    """When a round starts, how long its parts may take, and what lets an adapter through."""

    training_threads: int = Field(default=0, ge=0, description="threads of a training run; 0: all cores")
    arithmetic: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description="what a training run's matrix products are computed in; auto: bfloat16 where the processor is fast "
        "in it, else float32; weights and adapters stay float32",
    )
    gradient_checkpointing: bool = Field(
        default=False,
        description="whether a training run keeps only the states between layers for its gradients and works layers "
        "out anew: less memory and more to compute where it learns",
    )
    training_processes: int = Field(
        default=1,
        ge=1,
        description="processes of a training run on the worker's host, each with the whole base or a "
        "part of it and, where there are GPUs, one of its own; 1: the worker itself",
    )
    training_shard_base: bool = Field(
        default=False,
        description="whether the processes of a training run hold a part of the base each, and layers are gathered as "
        "passes come to them; for bases that leave too little of a GPU's memory",
    )
    rollouts: Literal["process", "engine", "auto"] = Field(
        default="process",
        description="who samples PPO's replies: the training process, the engines beside users' chats, or whichever "
        "was faster in the first two steps of a round",
    )
    rollouts_at_once: int = Field(
        default=64,
        ge=1,
        description="replies that a round asks of an engine at once; half its --max-num-seqs leaves users the rest",
    )
    review_stages: str = Field(default="0.1,0.5", description="shares of a canary, comma separated")
    quarantine: bool = Field(
        default=True,
        description="whether votes that look arranged are kept out of training until somebody decides",
    )
    tick_seconds: float = Field(default=2.0, gt=0, description="how often the schedule looks")
    round_silence_seconds: float = Field(
        default=900.0,
        ge=0,
        description="how long a round may show no progress before its process ends and gives it up; 0: for ever",
    )
    canary_hours: float = Field(
        default=4.0, ge=0, description="hours between the canaries' looks at what is live; 0: never"
    )
    lease_seconds: float = Field(default=15.0, gt=1, description="how long a silent round keeps its lease")

    @field_validator("training_shard_base")
    @classmethod
    def _among_several(cls, asked: bool, known: ValidationInfo) -> bool:
        if asked and known.data.get("training_processes") == 1:
            raise ValueError(
                "HEED_TRAINING_SHARD_BASE is on while HEED_TRAINING_PROCESSES is 1: one process has nobody to share "
                "the base with; ask for two or more"
            )
        return asked

    @property
    def stages(self) -> tuple[float, ...]:
        """``review_stages`` as numbers."""
        return tuple(float(part) for part in self.review_stages.split(",") if part.strip())

    def overridden(self, thresholds: Mapping[str, float] | None) -> TrainingSettings:
        """With an alias's own thresholds; names that are none are left out."""
        known = {name: value for name, value in (thresholds or {}).items() if name in Thresholds.model_fields}
        return type(self).model_validate(self.model_dump() | known)
