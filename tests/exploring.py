"""How many examples a property is tried on: the same ones in every run of ``make test``, new ones in ``make fuzz``.

A test that says ``@examples(40)`` gets 40 in the one and ten times as many in the other; one that says nothing gets
100 and 1,000. A busy machine is no fault of a property, so nothing here is timed.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

USUAL = 100  # hypothesis's own number
FUZZED = 10 * USUAL
UNASKED = (HealthCheck.too_slow, HealthCheck.function_scoped_fixture)


def register() -> None:
    """The profiles ``heed``, which is loaded, and ``fuzz``, for ``--hypothesis-profile``."""
    settings.register_profile(
        "heed", max_examples=USUAL, derandomize=True, deadline=None, suppress_health_check=UNASKED
    )
    settings.register_profile(
        "fuzz", max_examples=FUZZED, deadline=None, print_blob=True, suppress_health_check=UNASKED
    )
    settings.load_profile("heed")


def examples(usual: int) -> settings:
    """The loaded profile with ``usual`` examples in ``make test``, and their multiple in ``make fuzz``."""
    profile = settings.get_current_profile_name()
    return settings(max_examples=usual * settings.get_profile(profile).max_examples // USUAL)
