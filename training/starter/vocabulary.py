"""The starter's tokenizer: byte-level BPE learnt from its own dialogs, with a ChatML chat template."""

import itertools
import logging

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from training.starter.corpus import Message, dialogs
from training.starter.settings import Recipe

START = "<|im_start|>"
END = "<|im_end|>"
PAD = "<|pad|>"

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['content'] is string -%}{%- set text = message['content'] -%}"
    "{%- else -%}{%- set text = message['content'] | map(attribute='text') | join('') -%}{%- endif -%}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + text + '<|im_end|>\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)


def learn_tokenizer(recipe: Recipe) -> PreTrainedTokenizerFast:
    """Learn the merges from generated dialogs; all 256 bytes are tokens, so any UTF-8 encodes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.vocabulary,
        special_tokens=[PAD, START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    stream = itertools.islice(dialogs(recipe.tokenizer_seed), recipe.tokenizer_dialogs)
    texts = (f"{message['role']}\n{message['content']}" for dialog in stream for message in dialog)
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[START],
        chat_template=CHAT_TEMPLATE,
        model_max_length=recipe.positions,
        clean_up_tokenization_spaces=False,
    )


class DialogEncoder:
    """Turns dialogs into token ids and marks which ids the model has to learn to say.

    It encodes piece by piece what the chat template would render, which a test compares.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._backend = tokenizer.backend_tokenizer
        logging.getLogger("transformers.tokenization_utils_base").setLevel(logging.ERROR)

    def encode(self, batch: list[list[Message]]) -> list[tuple[list[int], list[bool]]]:
        """For each dialog its ids, and whether each is said by the assistant, its end of turn included."""
        pieces: list[str] = []
        said: list[bool] = []
        sizes: list[int] = []
        for dialog in batch:
            sizes.append(3 * len(dialog))
            for message in dialog:
                pieces += [f"{START}{message['role']}\n", f"{message['content']}{END}", "\n"]
                said += [False, message["role"] == "assistant", False]
        encoded = [encoding.ids for encoding in self._backend.encode_batch(pieces, add_special_tokens=False)]
        result = []
        at = 0
        for size in sizes:
            ids: list[int] = []
            mask: list[bool] = []
            for piece, spoken in zip(encoded[at : at + size], said[at : at + size], strict=True):
                ids += piece
                mask += [spoken] * len(piece)
            result.append((ids, mask))
            at += size
        return result
