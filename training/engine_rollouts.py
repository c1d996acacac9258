"""Sampling replies through the engines, beside the chats that they serve; and the choice between them and the process.

The policy is loaded on every engine under an id that was never used (``rollout-…``): new weights under an old name
would be answered from what the engine remembers of the old ones. Each id takes one of an engine's slots, which gateways
leave to it. An engine may have to read the files of what it lists again, and dies when they are gone; so a name goes
first, and its files one refresh later. What no engine answers is sampled in process: no round fails by its engines.

Log-probabilities are taken as the engine tells them. At temperature 1, which is all that is asked here, those before
and after vLLM's processing are the same, whatever its ``--logprobs-mode``. They come out of another arithmetic than the
trainer's, so PPO has to ``correct`` for it.
"""

from __future__ import annotations

import logging
import math
import secrets
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeAlias, TypeVar

from feedback.events import Message
from training import ranks
from training.engines import PRIORITY, Engine, engines_of
from training.errors import EngineFailed
from training.rollouts import Reply, Rollouts, Sampler, reply_of
from training.settings import TrainingSettings
from training.trunk import Trunk

logger = logging.getLogger(__name__)
NAME = "rollout-"
GROUP = 8  # replies to one prompt that are asked for at once, at most
REST_SECONDS = 30.0  # how long an engine that failed is left alone
LEFT_SECONDS = 3600.0  # a folder of this age belongs to a round that was killed

Said: TypeAlias = tuple[list[int], list[float]]  # tokens and log-probabilities of a reply
Thing = TypeVar("Thing")


@contextmanager
def rollouts(trunk: Trunk, settings: TrainingSettings) -> Iterator[Rollouts]:
    """Whoever samples by the settings; at the end the engines hold nothing of it."""
    if settings.rollouts == "process":
        yield Sampler(trunk)
        return
    engines = EngineSampler(
        trunk,
        engines_of(settings.engines.values(), settings.engine_key.get_secret_value()),
        settings.adapters_dir,
        seen_at=settings.adapters_seen_at,
        slots=settings.adapter_slots,
        at_once=settings.rollouts_at_once,
    )
    try:
        yield engines if settings.rollouts == "engine" else Faster(engines, Sampler(trunk))
    finally:
        engines.close()


class EngineSampler:
    """As ``Sampler``, by engines. Of several processes that train together the first asks, and all hear."""

    def __init__(
        self,
        trunk: Trunk,
        engines: Sequence[Engine],
        folder: Path,
        *,
        seen_at: Path | None = None,
        slots: int = 16,
        at_once: int = 64,
    ) -> None:
        """``folder`` is the adapters folder, ``seen_at`` the same as the engines see it, ``slots`` the adapters
        that each may list, ``at_once`` the replies that each is asked for at a time.
        """
        self._trunk, self._engines, self._slots, self._at_once = trunk, engines, slots, at_once
        self._here, self._there = folder, seen_at or folder
        self._run, self._count = ranks.agreed(secrets.token_hex(4)), 0
        self.stood_in = 0  # replies so far that no engine gave
        self._id = ""  # of the policy as it is now
        self._ready: list[Engine] = []  # hold it
        self._rests: dict[Engine, float] = {}  # monotonic seconds from which one that failed is asked again
        self._listing: dict[str, list[Engine]] = {}  # ids, and the engines that may list them
        if ranks.is_first():
            self._take_over()

    def refresh(self, name: str) -> None:
        """Load the trunk's adapter ``name`` as it is now on every engine that has a slot for it."""
        if ranks.is_first():
            self._let_go()
        self._count += 1
        self._id = f"{NAME}{self._run}-{self._count}"
        self._trunk.write(name, self._folder(self._id))
        if ranks.is_first():
            able = [one for one in self._engines if self._rested(one)]
            self._listing[self._id] = able
            self._ready = list(able)
            _side_by_side(self._load, able)

    def sample(
        self,
        prompts: Sequence[Sequence[Message]],
        *,
        temperature: float = 1.0,
        max_tokens: int = 80,
        seed: int = 0,
    ) -> list[Reply]:
        """One reply a prompt, in order. Equal prompts next to each other are asked together. At other temperatures
        than 1 nobody but this process replies; the ``seed`` is for what it replies.
        """
        told: list[Reply | None] = [None] * len(prompts)
        if ranks.is_first() and temperature == 1.0:
            told = self._asked(prompts, max_tokens)
        told = ranks.agreed(told)
        left = [place for place, reply in enumerate(told) if reply is None]
        self.stood_in += len(left)
        if left:
            logger.warning("%d of %d replies are sampled in process", len(left), len(prompts))
            stand_in = Sampler(self._trunk, self._folder(self._id))
            rest = [prompts[place] for place in left]
            said = stand_in.sample(rest, temperature=temperature, max_tokens=max_tokens, seed=seed)
            told = [reply or said.pop(0) for reply in told]
        return [reply for reply in told if reply is not None]

    def close(self) -> None:
        """Have the engines forget the policy, and delete its files. It may be refreshed again."""
        if ranks.is_first():
            self._let_go(everywhere=True)
            self._let_go(everywhere=True)
        self._id = ""

    # --- adapters on engines ------------------------------------------------------------------------------------

    def _folder(self, name: str) -> Path:
        return self._here / f".{name}"

    def _load(self, engine: Engine) -> None:
        """Nothing that the engine lists may drop out of its memory for it: what is listed is used once before."""
        try:
            others = engine.adapters()
            if len(others) >= self._slots:
                raise EngineFailed(f"{engine}: all its {self._slots} slots are taken")
            with suppress(EngineFailed):
                _side_by_side(engine.use, list(others))
            engine.load(self._id, str(self._there / f".{self._id}"))
        except EngineFailed as error:
            self._failed(engine, error)

    def _failed(self, engine: Engine, error: EngineFailed) -> None:
        """Leave it alone for a while."""
        if self._rested(engine):
            logger.warning("no rollouts by an engine for %.0f s: %s", REST_SECONDS, error)
        self._rests[engine] = time.monotonic() + REST_SECONDS
        with suppress(ValueError):  # another thread was first
            self._ready.remove(engine)

    def _rested(self, engine: Engine) -> bool:
        return time.monotonic() >= self._rests.get(engine, 0.0)

    def _let_go(self, *, everywhere: bool = False) -> None:
        """Delete the files of what no engine lists since the last time, and have them forget the rest."""
        self._ready = []
        for name, engines in list(self._listing.items()):
            if engines:
                asked = [one for one in engines if everywhere or self._rested(one)]
                self._listing[name] = [
                    one for one in engines if one not in asked or not self._forgets(one, name)
                ]
            else:
                del self._listing[name]
                shutil.rmtree(self._folder(name), ignore_errors=True)

    def _forgets(self, engine: Engine, name: str) -> bool:
        try:
            engine.unload(name)
        except EngineFailed as error:
            self._failed(engine, error)
            return False
        return True

    def _take_over(self) -> None:
        """What rounds that were killed have left is let go with what is this one's."""
        for folder in self._here.glob(f".{NAME}*"):
            with suppress(FileNotFoundError):
                if time.time() - folder.stat().st_mtime > LEFT_SECONDS:
                    self._listing[folder.name.removeprefix(".")] = list(self._engines)

    # --- replies ------------------------------------------------------------------------------------------------

    def _asked(self, prompts: Sequence[Sequence[Message]], max_tokens: int) -> list[Reply | None]:
        """What the engines reply; each takes the next prompt as soon as it has answered one. None: nobody did."""
        groups = list(_groups(prompts))
        ids: list[tuple[int, ...]] = []
        for group in groups:
            ids += [self._trunk.prompt_ids(prompts[group.start])] * (group.stop - group.start)
        said: list[Said | None] = [None] * len(prompts)
        waiting = deque(groups)

        def work(engine: Engine) -> None:
            while engine in self._ready:
                try:
                    group = waiting.popleft()
                except IndexError:
                    return
                try:
                    count = group.stop - group.start
                    said[group] = self._told(engine, ids[group.start], count, max_tokens)
                except EngineFailed as error:
                    if error.status == 400:  # too long for the engines, most likely
                        logger.warning("a prompt is refused: %s", error)
                        continue
                    waiting.append(group)
                    self._failed(engine, error)

        lanes = max(1, self._at_once // max((group.stop - group.start for group in groups), default=1))
        while waiting and self._ready:
            _side_by_side(work, self._ready * lanes)
        ends = self._trunk.ends
        return [
            None if one is None else reply_of(self._trunk, prompt, *one, one[0][-1] in ends)
            for prompt, one in zip(ids, said, strict=True)
        ]

    def _told(self, engine: Engine, prompt: tuple[int, ...], count: int, max_tokens: int) -> list[Said]:
        """So many replies to a prompt. What the base's ``generation_config.json`` may set is set here.

        No seed: with one vLLM's engine on a CPU (0.32) dies as soon as a prompt is read in two steps, "CPU Generator
        does not use offset"; and on a GPU each seed is drawn for by itself.
        """
        choices = engine.complete(
            model=self._id,
            prompt=list(prompt),
            n=count,
            max_tokens=max_tokens,
            temperature=1.0,
            top_p=1.0,
            top_k=0,
            min_p=0.0,
            repetition_penalty=1.0,
            presence_penalty=0.0,
            frequency_penalty=0.0,
            stop_token_ids=sorted(self._trunk.ends),
            logprobs=0,  # of the tokens themselves, and of no others
            return_tokens_as_token_ids=True,
            return_token_ids=True,
            priority=PRIORITY,
        )
        try:
            told = [(list(one["token_ids"]), list(one["logprobs"]["token_logprobs"])) for one in choices]
            sound = all(map(math.isfinite, (value for _, logprobs in told for value in logprobs)))
        except (KeyError, TypeError) as error:
            raise EngineFailed(f"{engine}: it told no token ids and log-probabilities: {error!r}") from error
        lengths = [(len(tokens), len(logprobs)) for tokens, logprobs in told]
        if not sound or len(told) != count or not all(0 < a == b <= max_tokens for a, b in lengths):
            raise EngineFailed(
                f"{engine}: {count} replies of at most {max_tokens} tokens were asked for, and it told (tokens, "
                f"log-probabilities) {lengths}"
            )
        return told


class Faster:
    """The engines for one step, the process for one, and from then on whichever made more tokens a second."""

    def __init__(self, engines: EngineSampler, process: Sampler) -> None:
        self._engines, self._process = engines, process
        self._way: Rollouts = engines
        self._rates: list[float] = []  # tokens a second, of engines and process
        self._spent = 0.0  # seconds on the last refresh

    def refresh(self, name: str) -> None:
        """Take up the adapter ``name`` where the next replies come from."""
        by_process = len(self._rates) == 1 or (len(self._rates) > 1 and self._rates[1] >= self._rates[0])
        self._way = self._process if by_process else self._engines
        began = time.monotonic()
        if by_process:
            self._engines.close()
        self._way.refresh(name)
        self._spent = time.monotonic() - began

    def sample(
        self,
        prompts: Sequence[Sequence[Message]],
        *,
        temperature: float = 1.0,
        max_tokens: int = 80,
        seed: int = 0,
    ) -> list[Reply]:
        """As whoever's turn it is replies."""
        began = time.monotonic()
        replies = self._way.sample(prompts, temperature=temperature, max_tokens=max_tokens, seed=seed)
        if len(self._rates) < 2:
            seconds = self._spent + time.monotonic() - began
            self._rates.append(ranks.agreed(sum(len(reply.token_ids) for reply in replies) / seconds))
            logger.info("rollouts, tokens a second by engines and in process: %s", self._rates)
        return replies


def _groups(prompts: Sequence[Sequence[Message]]) -> Iterator[slice]:
    """Runs of equal prompts, each of GROUP at most."""
    start = 0
    for place in range(1, len(prompts) + 1):
        if place == len(prompts) or place - start == GROUP or prompts[place] != prompts[start]:
            yield slice(start, place)
            start = place


def _side_by_side(do: Callable[[Thing], object], things: Sequence[Thing]) -> None:
    """Each in a thread of its own. Raises what the first of them raises."""
    if things:
        with ThreadPoolExecutor(len(things)) as pool:
            list(pool.map(do, things))
