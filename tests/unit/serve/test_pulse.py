"""Which silence is a hang: all chats silent and the engine's own counts still, and how a slow engine is told apart."""

from __future__ import annotations

from serve.pulse import Pulse

STILL = ("vllm:generation_tokens_total 7",)


def seen(pulse: Pulse, *, seconds: float, counts: list[tuple[str, ...]] | None = None) -> float | None:
    """Look every second at an engine that is silent from 0 on; when it is taken for hung, None: it is not."""
    for now in range(int(seconds) + 1):
        told = counts[now] if counts else STILL
        if pulse.doubtful(float(now)) and pulse.stopped(told, float(now), 100.0 + now):
            return float(now)
    return None


def test_silence_and_still_counts_for_half_of_it_are_a_hang() -> None:
    assert seen(Pulse(10.0), seconds=60) == 10.0
    assert seen(Pulse(10.0), seconds=9) is None


def test_counts_that_move_are_work_however_long_the_silence() -> None:
    assert seen(Pulse(10.0), seconds=60, counts=[(f"tokens {now // 4}",) for now in range(61)]) is None


def test_the_time_begins_anew_when_they_moved_once() -> None:
    counts = [("tokens 1",)] * 9 + [("tokens 2",)] * 52
    assert seen(Pulse(10.0), seconds=60, counts=counts) == 9 + 5


def test_an_engine_that_counts_nothing_is_never_taken_for_hung() -> None:
    assert seen(Pulse(10.0), seconds=200, counts=[()] * 201) is None


def test_counts_of_an_earlier_silence_do_not_count() -> None:
    pulse = Pulse(10.0)
    assert pulse.doubtful(6.0)
    assert not pulse.stopped(STILL, 6.0, 0.0)
    assert not pulse.doubtful(1.0)  # somebody heard something
    assert pulse.doubtful(11.0)
    assert not pulse.stopped(STILL, 11.0, 20.0)
    assert not pulse.stopped(STILL, 15.0, 24.9)
    assert pulse.stopped(STILL, 15.1, 25.0)


def test_one_that_comes_back_by_itself_gets_twice_the_time_from_then_on() -> None:
    pulse = Pulse(10.0)
    pulse.hung(10.0, 110.0)
    assert pulse.hangs
    pulse.answered(125.0)  # one step of 25 s
    assert not pulse.hangs
    assert seen(pulse, seconds=120) == 50.0


def test_one_that_was_started_anew_was_not_slow() -> None:
    pulse = Pulse(10.0)
    pulse.hung(10.0, 110.0)
    pulse.restarted()
    assert (pulse.hangs, seen(pulse, seconds=60)) == (False, 10.0)
