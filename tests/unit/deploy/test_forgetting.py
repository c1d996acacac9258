"""What the command line says of a wish to be forgotten."""

from __future__ import annotations

import pytest

from deploy.forgetting import forget_subject, told
from feedback.errors import InvalidRecord


def test_a_receipt_is_told_with_what_is_left_and_what_had_learnt() -> None:
    pending = {
        "id": "fr-1",
        "status": "pending",
        "stores": {"log": 1.0, "archive": None},
        "adapters": ["a-1", "a-2"],
    }
    assert told(pending) == (
        "receipt fr-1: archive not clean yet; the workers go on; had learnt from its votes: a-1, a-2"
    )
    done = {"id": "fr-1", "status": "done", "stores": {"log": 1.0, "archive": 2.0}, "adapters": []}
    assert told(done) == "forgotten: log, archive are clean (receipt fr-1)"


def test_a_name_that_is_no_pseudonym_is_not_said_to_be_forgotten() -> None:
    with pytest.raises(InvalidRecord, match="is no pseudonym"):
        forget_subject("alice")
