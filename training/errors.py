"""The errors of the workers.

HeedError
├── NothingToLearn     a batch has too little to fit a reward model on
└── RoundCancelled     somebody asked the round to end
"""

from __future__ import annotations

from feedback.errors import HeedError


class NothingToLearn(HeedError):
    """There is no vote, or none that training may read."""


class RoundCancelled(HeedError):
    """Somebody asked the round to end."""
