"""One round: the path of an adapter from a batch to a candidate, or to a recorded refusal."""

from __future__ import annotations

import functools
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from feedback.archive import Archive
from feedback.errors import LeaseLost, StoreError
from feedback.protocols import AdapterRecord, AliasRecord, EventLog, Registry
from training import ppo
from training.batching import Batch, collect, open_batch, read, split_of, write
from training.errors import NothingToLearn, RoundCancelled
from training.examples import Examples
from training.gate import GateReport, examine, knows_check, report
from training.publish import Origin, publish
from training.reward_model import RewardConfig, RewardModel, RewardReport, fit
from training.settings import TrainingSettings
from training.status import Status
from training.trunk import Trunk

JUDGE_SHARE = 0.35
"""Share of the votes that only the judge learns from: PPO never sees them."""


@functools.cache
def trunk_of(model_path: str, threads: int) -> Trunk:
    """The frozen base, read once a worker process."""
    return Trunk.load(model_path, threads=threads or None)


@dataclass(frozen=True)
class Outcome:
    """How a round ended."""

    adapter: str | None
    verdict: str  # "candidate", "rejected", "nothing"
    reason: str


class Round:
    """One alias's round under a lease. A killed one is begun again from its batch and checkpoint."""

    def __init__(
        self, registry: Registry, log: EventLog, settings: TrainingSettings, alias: AliasRecord, token: int
    ) -> None:
        self.registry, self.log, self.alias, self.token = registry, log, alias, token
        self.settings = settings.overridden(alias.thresholds)
        self.status = Status(registry, alias.name)
        self.archive = Archive(settings.archive_dir)
        self.started = time.time()

    def run(self) -> Outcome:
        """The whole path. Raises LeaseLost when another worker has taken over."""
        try:
            batch = self._batch()
        except NothingToLearn as error:
            return self._ended(None, Outcome(None, "nothing", str(error)))
        work = self.settings.checkpoints_dir / self.alias.name / batch.id
        work.mkdir(parents=True, exist_ok=True)
        try:
            outcome = self._train(batch, work)
        except RoundCancelled as error:
            outcome = Outcome(None, "nothing", str(error))
        shutil.rmtree(work, ignore_errors=True)
        return self._ended(batch, outcome)

    def _batch(self) -> Batch:
        """The batch of a round that was killed, else a new one."""
        unfinished = self.registry.loop(self.alias.name).get("unfinished")
        if unfinished and (Path(unfinished) / "manifest.json").exists():
            return open_batch(Path(unfinished))
        self.status.step("batch", 0.0)
        total = self.log.votes_total(self.alias.name)
        examples, newest = collect(self.archive, self.alias.name, self.settings)
        batch = write(
            examples,
            newest,
            alias=self.alias.name,
            votes_total=total,
            archive=self.archive,
            root=self.settings.batches_dir,
        )
        said = {
            "id": batch.id,
            "votes": batch.votes,
            "prompts": batch.prompts,
            "newest_vote": batch.newest_vote,
        }
        self.registry.set_loop(
            self.alias.name,
            {
                "unfinished": str(batch.folder),
                "taken_votes": total,
                "last_batch": said,
                "train_requested": None,
            },
        )
        return batch

    def _train(self, batch: Batch, work: Path) -> Outcome:
        trunk = trunk_of(self.settings.model_path, self.settings.training_threads)
        examples = read(batch)
        learn, judged = self._folds(examples)
        self.status.step("reward model", 0.0)
        rewards = self.settings.reward_models_dir / self.alias.name / batch.id
        model, figures = fit(trunk, learn, RewardConfig(), out=rewards)
        judge, judge_figures = fit(trunk, judged, RewardConfig(seed=1), out=rewards / "judge")
        self.status.reward_model(batch.id, figures, judge_figures)
        knows = [knows_check("reward_model", model, judged), knows_check("judge", judge, learn)]
        if not report(knows).passed:
            return Outcome(None, "nothing", f"too little to tell a better reply: {report(knows).reason}")
        adapter = work / "adapter"
        trained = self._policy(trunk, examples, model, work, adapter)
        self.status.step("gate", 0.0)
        served = self._served()
        prompts = self._gate_prompts(examples)
        verdict = examine(
            trunk,
            adapter,
            Path(served.path) if served else None,
            judge,
            prompts,
            self.settings,
            seed=batch.votes,
        )
        verdict = report([*knows, *verdict.checks])
        self.status.gate(verdict)
        self.registry.check(f"round:{self.alias.name}", self.token)
        return self._publish(trunk, adapter, batch, figures, trained, verdict)

    def _folds(self, examples: Examples) -> tuple[Examples, Examples]:
        """Votes for the reward model, and votes for the judge, by hash of the prompt."""

        def judges(messages: Any) -> bool:
            return split_of(messages, "judge", JUDGE_SHARE) == "holdout"

        folds = [
            Examples(
                pairs=[pair for pair in examples.pairs if judges(pair.messages) == mine],
                thumbs=[thumb for thumb in examples.thumbs if judges(thumb.messages) == mine],
            )
            for mine in (False, True)
        ]
        return folds[0], folds[1]

    def _policy(
        self, trunk: Trunk, examples: Examples, model: RewardModel, work: Path, out: Path
    ) -> dict[str, Any]:
        """Fine-tuning where there are corrections, then PPO. Figures of both."""
        start, figures = None, {}
        if len(examples.demonstrations) >= self.settings.sft_min_corrections:
            from training import sft

            self.status.step("fine-tuning", 0.0)
            start = work / "sft"
            figures["sft"] = sft.fit(trunk, examples.demonstrations, sft.SFTConfig(), out=start)
        config = replace(ppo.PPOConfig(), max_seconds=self.settings.ppo_seconds)
        self.status.step("ppo", 0.0)
        run = ppo.train(
            trunk,
            [list(prompt) for prompt in examples.prompts],
            ppo.pessimistic(model, config.pessimism),
            config,
            start=start,
            out=out,
            checkpoint=work / "ppo.pt",
            progress=self.status.progress,
            should_stop=self._cancelled,
        )
        if run.stopped == "asked to stop":
            raise RoundCancelled("somebody asked the round to end")
        told = {key: value for key, value in asdict(run).items() if key != "curve"}
        self.status.ppo(told)
        return figures | {"ppo": told, "curve": run.curve[:: max(1, len(run.curve) // 20)]}

    def _gate_prompts(self, examples: Examples) -> list[Any]:
        """The newest prompts; asked again with other seeds where there are few."""
        newest = [list(prompt) for prompt in examples.prompts][-self.settings.gate_prompts :]
        return (newest * (self.settings.gate_prompts // len(newest) + 1))[: self.settings.gate_prompts]

    def _served(self) -> AdapterRecord | None:
        live = self.registry.alias(self.alias.name).live
        return self.registry.adapter(live) if live else None

    def _publish(
        self,
        trunk: Trunk,
        folder: Path,
        batch: Batch,
        figures: RewardReport,
        trained: dict[str, Any],
        verdict: GateReport,
    ) -> Outcome:
        self.status.step("publish", 0.0)
        record = publish(
            self.registry,
            trunk,
            folder,
            Origin(
                alias=self.alias.name,
                batches=(batch.id,),
                reward_model=batch.id,
                training={"reward_model": asdict(figures), **trained},
                gate=verdict.as_dict(),
                newest_vote=batch.newest_vote,
            ),
            self.settings.adapters_dir,
            state="candidate" if verdict.passed else "rejected",
            reason=f"gate: {verdict.reason}",
        )
        return Outcome(record.id, record.state, verdict.reason)

    def _cancelled(self) -> bool:
        try:
            asked = self.registry.loop(self.alias.name).get("cancel_requested") or 0.0
        except StoreError:  # the run goes on; whether its result counts is asked before it is published
            return False
        return float(asked) > self.started

    def _ended(self, batch: Batch | None, outcome: Outcome) -> Outcome:
        self.status.ended(self.started, batch.id if batch else None, asdict(outcome))
        return outcome


@contextmanager
def heartbeat(registry: Registry, lease: str, holder: str, seconds: float) -> Iterator[int | None]:
    """The lease's token, renewed until the end; None when another has it."""
    token = registry.acquire(lease, holder, seconds)
    if token is None:
        yield None
        return
    done = threading.Event()

    def renew() -> None:
        while not done.wait(seconds / 3):
            try:
                registry.acquire(lease, holder, seconds)
            except StoreError:  # the store is away: the next beat tries again, and `check` has the last word
                continue

    beating = threading.Thread(target=renew, daemon=True)
    beating.start()
    try:
        yield token
    finally:
        done.set()
        beating.join()
        with _quiet():
            registry.release(lease, holder)


@contextmanager
def _quiet() -> Iterator[None]:
    """Releasing is a courtesy: a lease nobody renews runs out."""
    try:
        yield
    except (StoreError, LeaseLost):
        return
