"""One round: the path of an adapter from a batch to a candidate, or to a recorded refusal."""

from __future__ import annotations

import functools
import logging
import math
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from feedback.archive import Archive
from feedback.errors import LeaseLost, StoreUnavailable
from feedback.lineage import marks
from feedback.protocols import AdapterRecord, AliasRecord, EventLog, Registry
from feedback.rating import RatingQueue
from training.attempts import lease_of, rest
from training.batch_files import Batch, open_batch, read, tidy, whole
from training.batching import build
from training.choosing import ask_raters
from training.errors import BatchForgotten, NothingToLearn, RoundCancelled, RoundOvertaken
from training.forgotten import Forgotten
from training.launch import learn_together
from training.learning import Learned, learn
from training.memory import give_back
from training.publish import Origin, publish
from training.quarantine import Search
from training.reward_model import FILE, RewardModel, RewardReport
from training.settings import TrainingSettings
from training.status import Status
from training.trunk import Arithmetic, Trunk

logger = logging.getLogger(__name__)
ARCHIVE_SECONDS = 30.0
"""How long a round waits for the archive before it goes on with what is there."""


@functools.cache
def trunk_of(model_path: str, threads: int, arithmetic: Arithmetic, recompute: bool) -> Trunk:
    """The frozen base, read once a worker process."""
    return Trunk.load(model_path, dtype=arithmetic, threads=threads or None, recompute=recompute)


def trunk_for(settings: TrainingSettings) -> Trunk:
    """The base that a worker with these settings trains on."""
    return trunk_of(
        settings.model_path, settings.training_threads, settings.arithmetic, settings.gradient_checkpointing
    )


@dataclass(frozen=True)
class Outcome:
    """How a round ended."""

    adapter: str | None
    verdict: str  # "candidate", "rejected", "nothing", "failed"
    reason: str


@dataclass(frozen=True)
class Watch:
    """Tells the loop's state how the learning goes, and the learning when it shall end.

    Learning goes on while the store is away: what is only shown may be missed, and whether the result counts is
    asked when it is published.
    """

    status: Status
    registry: Registry
    alias: str
    token: int
    batch: str
    forgotten: Forgotten
    new_votes: Callable[[], int]  # that the batch does not know of
    overtaken: float  # as many of them end the round; infinite: never

    def step(self, name: str, fraction: float) -> None:
        with suppress(StoreUnavailable):
            self.status.step(name, fraction)

    def progress(self, name: str, fraction: float, figures: Mapping[str, float]) -> None:
        with suppress(StoreUnavailable):
            if self.status.progress(name, fraction, figures) and name == "ppo":
                self.status.ppo(self.batch, figures)

    def fitted(self, reward: RewardReport, judge: RewardReport) -> None:
        with suppress(StoreUnavailable):
            self.status.reward_model(self.batch, reward, judge)

    def should_stop(self) -> bool:
        """Whether somebody asked the round to end. Raises LeaseLost when another has taken over, BatchForgotten when
        the batch may no longer be learnt from, RoundOvertaken when it is better learnt from a larger one.
        """
        try:
            self.forgotten()
            self.registry.check(lease_of(self.alias), self.token)
            if self.status.cancelled():
                return True
            new = self.new_votes()
        except StoreUnavailable:
            return False
        if new >= self.overtaken:
            raise RoundOvertaken(new)
        return False


class Round:
    """One alias's round under a lease. A killed one is begun again from its batch and checkpoint."""

    def __init__(
        self,
        registry: Registry,
        log: EventLog,
        settings: TrainingSettings,
        alias: AliasRecord,
        token: int,
        heard: Callable[[], object] = lambda: None,
        rating: RatingQueue | None = None,
    ) -> None:
        """``heard`` is told of every sign of work."""
        self.registry, self.log, self.alias, self.token = registry, log, alias, token
        self.rating = rating  # what raters are asked; None: nobody asks
        self.settings = settings.overridden(alias.thresholds)
        self.status = Status(registry, alias.name, heard)
        self.archive = Archive(settings.archive_place)
        self.started = time.time()

    def run(self) -> Outcome:
        """The whole path. Raises LeaseLost when another worker has taken over, StoreUnavailable when the store is
        away where it is needed; any other failure is an outcome.
        """
        starts = self.status.begun()
        if starts > self.settings.round_starts:
            return self._given_up(f"it was begun {starts - 1} times and died each time")
        try:
            return self._run()
        except (StoreUnavailable, LeaseLost):
            raise
        except BatchForgotten as error:
            return self._failed(1, str(error))
        except Exception as error:
            logger.exception("round of %s failed", self.alias.name)
            return self._failed(self.status.starts(), f"{type(error).__name__}: {error}")

    def _run(self) -> Outcome:
        while True:
            try:
                batch = self._batch()
            except NothingToLearn as error:
                return self._ended(None, Outcome(None, "nothing", str(error)))
            work = self._work(batch)
            try:
                outcome = self._train(batch, work)
            except RoundOvertaken as error:
                logger.info("round of %s leaves %s: %s", self.alias.name, batch.id, error)
                self.registry.check(lease_of(self.alias.name), self.token)
                self.registry.set_loop(self.alias.name, {"unfinished": None})
                continue
            except (NothingToLearn, RoundCancelled) as error:
                outcome = Outcome(None, "nothing", str(error))
            return self._over(batch, work, outcome)

    def _over(self, batch: Batch, work: Path, outcome: Outcome) -> Outcome:
        ended = self._ended(batch.id, outcome)
        shutil.rmtree(work, ignore_errors=True)  # only now: a kill before this line must find the checkpoint
        tidy(self.settings, self.alias.name)
        self._ask_raters(batch)
        return ended

    def _ask_raters(self, batch: Batch) -> None:
        """What raters are asked until the next round. The round is over: it is no worse when this fails. Where that one
        is due already it must not wait for this.
        """
        folder = self._rewards(batch)
        if self.rating is None or not self.settings.annotation_prompts or not (folder / FILE).exists():
            return
        try:
            if self._since(self._taken()) >= self.settings.round_min_votes:
                return
            trunk = self._trunk()
            model, served = RewardModel.load(trunk, folder), self._served()
            count = ask_raters(self.rating, self.archive, self.alias.name, self.settings, model, served)
            logger.info("raters of %s: %d prompts chosen", self.alias.name, count)
        except Exception:
            logger.exception("what raters of %s are asked stays as it was", self.alias.name)

    def _rewards(self, batch: Batch) -> Path:
        return self.settings.reward_models_dir / self.alias.name / batch.id

    def _work(self, batch: Batch) -> Path:
        """The folder of the batch's checkpoint. What former rounds left beside it goes."""
        work = self.settings.checkpoints_dir / self.alias.name / batch.id
        work.mkdir(parents=True, exist_ok=True)
        for left in work.parent.iterdir():
            if left != work:
                shutil.rmtree(left, ignore_errors=True)
        return work

    def _batch(self) -> Batch:
        """The batch of a round that was killed, else a new one."""
        state = self.registry.loop(self.alias.name)
        if (unfinished := state.get("unfinished")) and whole(Path(unfinished)):
            return open_batch(Path(unfinished))
        self.status.step("batch", 0.0)
        total = self._archived_votes()
        taken = {"taken_votes": total}
        search = Search(self.registry, self.alias.name, self.settings.quarantine)
        try:
            batch = build(
                self.archive,
                self.alias.name,
                self.settings,
                self.alias.criteria,
                votes_total=total,
                suspicious=search.suspicious,
                released=search.released,
            )
        except NothingToLearn:
            search.tell()
            self._take(state, taken)
            raise
        search.tell()
        said = {
            "id": batch.id,
            "votes": batch.votes,
            "prompts": batch.prompts,
            "newest_vote": batch.newest_vote,
        }
        self._take(state, {"unfinished": str(batch.folder), "last_batch": said, **taken})
        return batch

    def _take(self, before: Mapping[str, Any], told: Mapping[str, Any]) -> None:
        """Write down what the round took; a wish that came while it read is about votes that it may not have, and
        stays. ``before``: the loop's state when it began to.
        """
        now = self.registry.loop(self.alias.name).get("train_requested")
        heard = {"train_requested": None} if now == before.get("train_requested") else {}
        self.registry.set_loop(self.alias.name, {**told, **heard})

    def _archived_votes(self) -> int:
        """How many votes were ever logged, once all of them are in the archive, where the batch is read."""
        counted, total = time.time(), self.log.votes_total(self.alias.name)
        while (backlog := self.log.backlog()).oldest_seconds > time.time() - counted:
            if time.time() - counted > ARCHIVE_SECONDS:  # the rest counts as new for the next round
                return max(0, total - backlog.votes)
            time.sleep(0.1)
        return total

    def _train(self, batch: Batch, work: Path) -> Outcome:
        served, examples = self._served(), read(batch)
        everybody = marks(self.settings.lineage_dir, batch.id)
        taken = self._taken()
        made = (batch.folder / "manifest.json").stat().st_mtime
        forgotten = Forgotten(self.log, everybody, min(self.started, made), (batch.folder, work))
        forgotten()
        learned = self._learner()(
            examples,
            Path(served.path) if served else None,
            self.settings,
            work=work,
            rewards=self._rewards(batch),
            seed=batch.votes,
            watcher=Watch(
                self.status,
                self.registry,
                self.alias.name,
                self.token,
                batch.id,
                forgotten,
                new_votes=lambda: self._since(taken),
                overtaken=self._overtaken(taken),
            ),
        )
        forgotten()
        if learned.adapter is None:
            return Outcome(None, "nothing", f"too little to tell a better reply: {learned.verdict.reason}")
        self.status.ppo(batch.id, learned.trained["ppo"])
        self.status.gate(learned.verdict)
        self.registry.check(lease_of(self.alias.name), self.token)
        return self._publish(batch, learned, learned.adapter, served)

    def _taken(self) -> int:
        """Votes that this alias's last batch was counted for."""
        return int(self.registry.loop(self.alias.name).get("taken_votes") or 0)

    def _since(self, taken: int) -> int:
        """Votes that came after so many."""
        return self.log.votes_total(self.alias.name) - taken

    def _overtaken(self, taken: int) -> float:
        """New votes that make a round which ``taken`` were counted for one of the past. As many again, by default: then
        few batches are ever left, since each knows of twice the votes of the one before.
        """
        share = self.settings.round_overtaken
        return max(share * taken, self.settings.round_min_votes) if share else math.inf

    def _trunk(self) -> Trunk:
        return trunk_for(self.settings)

    def _learner(self) -> Callable[..., Learned]:
        """The worker itself, or processes beside it, which have the memory of its base meanwhile."""
        if self.settings.training_processes > 1:
            trunk_of.cache_clear()
            give_back()
            return learn_together
        trunk = self._trunk()
        return functools.partial(learn, trunk)

    def _served(self) -> AdapterRecord | None:
        """With its folder where the data directory is now: it may have been moved since."""
        live = self.registry.alias(self.alias.name).live
        return (
            replace(self.registry.adapter(live), path=str(self.settings.adapters_dir / live))
            if live
            else None
        )

    def _publish(self, batch: Batch, learned: Learned, folder: Path, served: AdapterRecord | None) -> Outcome:
        self.status.step("publish", 0.0)
        record = publish(
            self.registry,
            self._trunk(),
            folder,
            Origin(
                alias=self.alias.name,
                batches=(batch.id,),
                reward_model=batch.id,
                training={"reward_model": asdict(learned.reward), **learned.trained},
                gate={**learned.verdict.as_dict(), "against": served.id if served else None},
                newest_vote=batch.newest_vote,
            ),
            self.settings.adapters_dir,
            state="candidate" if learned.verdict.passed else "rejected",
            reason=f"gate: {learned.verdict.reason}",
            lease=(lease_of(self.alias.name), self.token),
        )
        verdict = "candidate" if learned.verdict.passed else "rejected"
        return Outcome(record.id, verdict, learned.verdict.reason)

    def _ended(self, batch: str | None, outcome: Outcome) -> Outcome:
        self.registry.check(lease_of(self.alias.name), self.token)
        self.status.ended(self.started, batch, asdict(outcome))
        return outcome

    def _failed(self, starts: int, why: str) -> Outcome:
        """Told, and begun anew from batch and checkpoint after a rest; after the last start given up."""
        if starts >= self.settings.round_starts:
            return self._given_up(why)
        pause = rest(starts)
        again = f"begun anew in {pause:.0f} s, start {starts + 1} of {self.settings.round_starts}"
        outcome = Outcome(None, "failed", f"{why} ({again})")
        self.registry.check(lease_of(self.alias.name), self.token)
        self.status.failed(self.started, None, asdict(outcome), pause)
        return outcome

    def _given_up(self, why: str) -> Outcome:
        """The votes stay in the archive: the round after the next votes learns from them, too."""
        taken = {"taken_votes": self.log.votes_total(self.alias.name), "train_requested": None}
        self.registry.set_loop(self.alias.name, taken)
        return self._ended(None, Outcome(None, "failed", f"given up: {why}"))
