"""What the base makes of a conversation, held against transformers on that conversation alone."""

from __future__ import annotations

import pytest
import torch

from tests.unit.training.conftest import Loader
from training.packing import Tokens
from training.reference import look, token_logprobs
from training.trunk import Trunk

CONVERSATIONS = [Tokens((5, 6, 7), (8, 9, 1)), Tokens((10,), (11, 12, 13, 1)), Tokens((5, 6, 7), (14,))]


def test_log_probabilities_of_the_next_tokens() -> None:
    # odds 1 : 3, then 3 : 1; the last position predicts nothing that is there
    logits = torch.tensor([[[1.0, 3.0], [3.0, 1.0], [9.0, 9.0]]]).log()
    ids = torch.tensor([[0, 1, 1]])
    torch.testing.assert_close(token_logprobs(logits, ids), torch.tensor([[0.75, 0.25]]).log())


@pytest.mark.parametrize("settings", [{}, {"attention_bias": True}])  # the second through transformers
@torch.no_grad()
def test_features_log_probabilities_and_states_are_those_of_each_conversation_alone(
    tiny: Loader, settings: dict[str, bool]
) -> None:
    trunk = tiny(**settings)
    for tokens, seen in zip(CONVERSATIONS, look(trunk, CONVERSATIONS), strict=True):
        ids = torch.tensor([[*tokens.prompt, *tokens.reply]])
        with trunk.using(None) as model:
            told = model(input_ids=ids, output_hidden_states=True)
        begin = len(tokens.prompt)
        pooled = torch.cat([layer[0, begin:].mean(0) for layer in told.hidden_states])
        before = told.hidden_states[-1][0, begin - 1 : -1]
        so_far = torch.stack([before[: n + 1].mean(0) for n in range(len(before))])
        close = {"atol": 5e-5, "rtol": 1e-4}
        assert seen.tokens == tokens
        torch.testing.assert_close(seen.features, pooled, **close)
        torch.testing.assert_close(seen.logprobs, token_logprobs(told.logits, ids)[0, begin - 1 :], **close)
        torch.testing.assert_close(seen.states, torch.cat([before, so_far], 1), **close)


def test_the_base_is_seen_whatever_adapter_was_last_in_use(trunk: Trunk) -> None:
    alone = look(trunk, CONVERSATIONS)
    for weight in trunk.add("loud"):
        torch.nn.init.normal_(weight)
    for before, after in zip(alone, look(trunk, CONVERSATIONS), strict=True):
        assert torch.equal(before.logprobs, after.logprobs)


def test_nothing_to_look_at_gives_nothing(trunk: Trunk) -> None:
    assert look(trunk, []) == []
