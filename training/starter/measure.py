"""Measures a starter model: samples replies to held-out questions at temperature 1 and reads them back."""

import json
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast, Qwen3ForCausalLM

from training.starter.behaviours import Behaviour, classify, well_formed
from training.starter.corpus import Question, held_out_questions
from training.starter.intents import intents, mixture
from training.starter.settings import Recipe

_BATCH = 100
_Z = 1.96
"""Half-width of a 95 % interval, in standard errors."""


@dataclass(frozen=True)
class Sample:
    """One reply of the model."""

    question: Question
    reply: str
    tokens: int
    """Tokens sampled, the end-of-turn token included."""
    finished: bool
    """Whether the model ended its turn itself."""

    def behaviour(self) -> Behaviour:
        """What the reply does; one that was cut off is malformed."""
        return classify(self.question.intent, self.reply) if self.finished else Behaviour.MALFORMED


@dataclass(frozen=True)
class Example:
    """A reply to show on the card."""

    question: str
    reply: str
    behaviour: str


@dataclass(frozen=True)
class Figures:
    """What was measured; all shares are of all samples, from 0 to 1."""

    samples: int
    well_formed: float
    """Replies that ended themselves and are whole sentences in word pairs of the grammar."""
    malformed: float
    """Replies that are not well formed, or that have a sentence like none of the grammar's."""
    misread: float
    """Replies that answer another question than the one asked."""
    misread_by_turns: dict[str, float]
    """The share misread among conversations with so many user messages."""
    misread_by_intent: dict[str, float]
    shares: dict[str, float]
    """Share of each planted behaviour."""
    planted: dict[str, float]
    mean_tokens: float
    """Mean length of a reply, in tokens."""
    distinct: float
    """Replies that no other sample repeats word for word."""
    sampling_seconds: float
    examples: list[Example]

    def half_width(self, share: float) -> float:
        """Half of the 95 % interval around ``share``, as a share."""
        return float(_Z * (share * (1.0 - share) / self.samples) ** 0.5)


def measure(recipe: Recipe, folder: Path) -> Figures:
    """Sample the model in ``folder``, and write ``measurements.json`` beside it."""
    torch.set_num_threads(recipe.threads)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    start = time.monotonic()
    samples = sample(model, tokenizer, held_out_questions(recipe.samples, recipe.sample_seed), recipe)
    figures = summarise(samples, time.monotonic() - start)
    (folder / "measurements.json").write_text(json.dumps(asdict(figures), indent=2) + "\n", encoding="utf-8")
    return figures


def sample(
    model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, questions: list[Question], recipe: Recipe
) -> list[Sample]:
    """One reply to each question at temperature 1, from the whole distribution."""
    torch.manual_seed(recipe.sample_seed)
    samples: list[Sample] = []
    for at in range(0, len(questions), _BATCH):
        samples += _sample_batch(model, tokenizer, questions[at : at + _BATCH], recipe)
    return samples


def _sample_batch(
    model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, questions: list[Question], recipe: Recipe
) -> list[Sample]:
    texts = [
        tokenizer.apply_chat_template(question.messages, add_generation_prompt=True, tokenize=False)
        for question in questions
    ]
    prompt = tokenizer(
        texts,
        return_tensors="pt",
        padding=True,
        padding_side="left",
        add_special_tokens=False,
        return_token_type_ids=False,
    )
    with torch.inference_mode():
        output = model.generate(
            **prompt, max_new_tokens=recipe.sample_tokens, do_sample=True, temperature=1.0, top_k=0, top_p=1.0
        )
    samples = []
    for question, ids in zip(questions, output[:, prompt["input_ids"].shape[1] :].tolist(), strict=True):
        finished = tokenizer.eos_token_id in ids
        length = ids.index(tokenizer.eos_token_id) + 1 if finished else len(ids)
        reply = tokenizer.decode(ids[: length - 1] if finished else ids, skip_special_tokens=False)
        samples.append(Sample(question, reply, length, finished))
    return samples


def summarise(samples: list[Sample], seconds: float) -> Figures:
    """Count what the samples do; ``seconds`` is how long they took."""
    n = len(samples)
    read = [(item, item.behaviour()) for item in samples]
    counts = Counter(behaviour for _, behaviour in read)
    repeats = Counter(item.reply for item in samples)
    return Figures(
        samples=n,
        well_formed=sum(item.finished and well_formed(item.reply) for item in samples) / n,
        malformed=counts[Behaviour.MALFORMED] / n,
        misread=counts[Behaviour.MISREAD] / n,
        misread_by_turns=_misread_by([(str(_turns(item.question)), behaviour) for item, behaviour in read]),
        misread_by_intent=_misread_by([(item.question.intent, behaviour) for item, behaviour in read]),
        shares={name: counts[Behaviour(name)] / n for name in mixture()},
        planted=dict(mixture()),
        mean_tokens=sum(item.tokens for item in samples) / n,
        distinct=sum(repeats[item.reply] == 1 for item in samples) / n,
        sampling_seconds=seconds,
        examples=_examples(read),
    )


def _misread_by(labelled: list[tuple[str, Behaviour]]) -> dict[str, float]:
    totals = Counter(label for label, _ in labelled)
    wrong = Counter(label for label, behaviour in labelled if behaviour is Behaviour.MISREAD)
    order = [name for name in intents() if name in totals] or sorted(totals)
    return {label: round(wrong[label] / totals[label], 4) for label in order}


def _turns(question: Question) -> int:
    return sum(message["role"] == "user" for message in question.messages)


def _examples(read: list[tuple[Sample, Behaviour]]) -> list[Example]:
    """The first reply of each behaviour, faults included: what the card shows is not chosen by hand."""
    shown: dict[Behaviour, Example] = {}
    for item, behaviour in read:
        if behaviour not in shown:
            shown[behaviour] = Example(item.question.messages[-1]["content"], item.reply, str(behaviour))
    return [shown[behaviour] for behaviour in Behaviour if behaviour in shown]
