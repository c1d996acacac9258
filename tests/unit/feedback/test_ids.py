"""Signed ids: who can make one, who can use one, and for how long."""

from __future__ import annotations

import re
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback.errors import ExpiredId, InvalidId, NotStored, SettingsError
from feedback.ids import (
    COMPARISON,
    RESPONSE,
    Secrets,
    feedback_id,
    mint_comparison,
    mint_response,
    new_event_id,
    rotate,
    sides,
    subject_of,
    verify,
)

OURS = Secrets((b"k" * 32,))
LIFE = 100.0


def check(
    signed: str, subject: str = "s-1", now: float = 1000.0, secrets: Secrets = OURS, prefix: str = RESPONSE
) -> None:
    verify(secrets, signed, subject, now=now, life_seconds=LIFE, prefix=prefix)


def minted(stored: bool = True) -> str:
    return mint_response(OURS, "s-1", now=1000.0, stored=stored)


def test_an_id_is_a_plain_word_that_starts_as_openais() -> None:
    assert re.fullmatch(r"chatcmpl-[A-Za-z0-9_-]{44}", minted())
    assert re.fullmatch(r"cmpr-[A-Za-z0-9_-]{44}", mint_comparison(OURS, "s-1", now=1000.0))


def test_a_genuine_id_is_good_for_its_subject_through_its_life() -> None:
    assert check(minted()) is None
    assert check(minted(), now=1100.0) is None
    assert check(mint_comparison(OURS, "s-1", now=1000.0), prefix=COMPARISON) is None


def test_past_its_life_an_id_has_expired() -> None:
    with pytest.raises(ExpiredId):
        check(minted(), now=1101.0)


@pytest.mark.parametrize("issued", [1000.0, 1000.001, 1000.5, 1000.999])
def test_an_id_is_never_refused_before_the_end_of_its_life(issued: float) -> None:
    response, comparison = mint_response(OURS, "s-1", now=issued), mint_comparison(OURS, "s-1", now=issued)
    check(response, now=issued)
    check(response, now=issued + LIFE)
    check(comparison, now=issued + LIFE, prefix=COMPARISON)
    for side in sides(OURS, comparison, "s-1"):
        check(side, now=issued + LIFE)
    with pytest.raises(ExpiredId):
        check(response, now=issued + LIFE + 1.001)


def exact_seconds(least: int, most: int) -> st.SearchStrategy[float]:
    """In steps of 1/1024 s, whose sums floats hold exactly."""
    return st.integers(least * 1024, most * 1024).map(lambda steps: steps / 1024)


@given(issued=exact_seconds(0, 2**32 - 1), life=exact_seconds(0, 10**8), late=exact_seconds(1, 10**6))
def test_an_id_holds_through_its_life_and_less_than_a_second_longer(
    issued: float, life: float, late: float
) -> None:
    signed = mint_response(OURS, "s-1", now=issued)
    for now in (issued, issued + life / 2, issued + life):
        verify(OURS, signed, "s-1", now=now, life_seconds=life)
    with pytest.raises(ExpiredId):
        verify(OURS, signed, "s-1", now=issued + life + late, life_seconds=life)


def test_an_id_of_a_response_that_is_not_stored_says_so() -> None:
    with pytest.raises(NotStored):
        check(minted(stored=False))


def test_an_id_of_somebody_else_is_as_unknown_as_junk() -> None:
    said = set()
    junk = [
        "",
        "x",
        "chatcmpl-",
        "chatcmpl-abc",
        "chatcmpl-" + "A" * 44,
        "chatcmpl-" + "é" * 44,
        "cmpr-" + "_" * 44,
    ]
    for signed, subject in [(minted(), "s-2"), *((one, "s-1") for one in junk)]:
        with pytest.raises(InvalidId) as caught:
            check(signed, subject)
        said.add(str(caught.value))
    assert said == {"no such id"}


def test_an_id_signed_with_another_key_is_unknown() -> None:
    with pytest.raises(InvalidId):
        check(mint_response(Secrets((b"x" * 32,)), "s-1", now=1000.0))


@given(place=st.integers(0, 43), letter=st.sampled_from("ABCwxyz0189-_+/="))
def test_no_other_spelling_of_an_id_is_taken(place: int, letter: str) -> None:
    genuine = minted()
    at = len("chatcmpl-") + place
    changed = genuine[:at] + letter + genuine[at + 1 :]
    if changed != genuine:
        with pytest.raises(InvalidId):
            check(changed)


def test_plus_and_slash_do_not_stand_for_dash_and_underscore() -> None:
    genuine = next(one for one in (minted() for _ in range(10_000)) if "-" in one[9:] and "_" in one[9:])
    check(genuine)
    for other in ("chatcmpl-" + genuine[9:].replace("-", "+"), "chatcmpl-" + genuine[9:].replace("_", "/")):
        with pytest.raises(InvalidId):
            check(other)


def test_a_response_id_is_not_a_comparison_id() -> None:
    with pytest.raises(InvalidId):
        check(minted().replace("chatcmpl-", "cmpr-"))
    for genuine, other in ((minted(), COMPARISON), (mint_comparison(OURS, "s-1", now=1000.0), RESPONSE)):
        with pytest.raises(InvalidId):
            check(genuine, prefix=other)


def test_the_stored_mark_and_the_time_are_under_the_signature() -> None:
    ids = {minted() for _ in range(500)}
    assert len(ids) == 500
    with pytest.raises(InvalidId):
        check(minted(stored=False)[:30] + minted()[30:])


def test_after_a_rotation_old_ids_hold_and_new_ones_are_signed_with_the_new_key() -> None:
    rotated = Secrets((b"n" * 32, *OURS.keys))
    check(minted(), secrets=rotated)
    new = mint_response(rotated, "s-1", now=1000.0)
    check(new, secrets=Secrets((b"n" * 32,)))
    with pytest.raises(InvalidId):
        check(new)


def test_a_comparisons_sides_follow_from_its_id_and_are_genuine() -> None:
    comparison = mint_comparison(OURS, "s-1", now=1000.0)
    first, second = sides(OURS, comparison, "s-1")
    assert first != second
    assert sides(OURS, comparison, "s-1") == (first, second)
    for side in (first, second):
        check(side)
        with pytest.raises(InvalidId):
            check(side, "s-2")


def test_sides_stay_the_same_when_keys_rotate() -> None:
    comparison = mint_comparison(OURS, "s-1", now=1000.0)
    rotated = Secrets((b"n" * 32, *OURS.keys))
    assert sides(rotated, comparison, "s-1") == sides(OURS, comparison, "s-1")


def test_a_forged_comparison_has_no_sides() -> None:
    for forged in (mint_comparison(Secrets((b"x" * 32,)), "s-1", now=1.0), "cmpr-x", minted()):
        with pytest.raises(InvalidId):
            sides(OURS, forged, "s-1")


def test_a_subject_is_a_pseudonym_that_needs_the_key_and_survives_rotation() -> None:
    subject = subject_of(OURS, "k-1", "alice@example.org")
    assert re.fullmatch(r"s-[0-9a-f]{24}", subject)
    assert subject == subject_of(Secrets((b"n" * 32, *OURS.keys)), "k-1", "alice@example.org")
    others = {
        subject_of(Secrets((b"x" * 32,)), "k-1", "alice@example.org"),
        subject_of(OURS, "k-2", "alice@example.org"),
        subject_of(OURS, "k-1", "bob@example.org"),
    }
    assert len(others | {subject}) == 4


def test_one_subject_has_one_voice_for_each_thing() -> None:
    assert feedback_id("r1", "s-1") == feedback_id("r1", "s-1")
    assert len({feedback_id(r, s) for r in ("r1", "r2") for s in ("s-1", "s-2")}) == 4
    assert feedback_id("r1", "s-1").startswith("fb-")


def test_event_ids_sort_by_time_and_never_repeat() -> None:
    ids = [new_event_id(now) for now in (1.0, 1.00001, 2.0, 1e9, 1.7e9)]
    assert ids == sorted(ids)
    assert len({new_event_id(5.0) for _ in range(1000)}) == 1000


def test_the_secret_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "data" / "secret"
    made = Secrets.load(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(made.keys) == 1
    assert len(made.keys[0]) == 32
    assert Secrets.load(path) == made
    assert [file.name for file in path.parent.iterdir()] == ["secret"]


def test_processes_that_start_together_agree_on_the_secret(tmp_path: Path) -> None:
    found: list[Secrets] = []
    threads = [
        threading.Thread(target=lambda: found.append(Secrets.load(tmp_path / "secret"))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({secrets.keys for secrets in found}) == 1


@pytest.mark.parametrize("content", ["", "not hex", "abcd"])
def test_a_secret_file_that_cannot_sign_is_refused_with_its_name(tmp_path: Path, content: str) -> None:
    (tmp_path / "secret").write_text(content)
    with pytest.raises(SettingsError, match="secret"):
        Secrets.load(tmp_path / "secret")


def test_the_secret_file_lists_the_newest_key_first(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("aa" * 32 + "\n" + "bb" * 32 + "\n")
    assert Secrets.load(tmp_path / "secret").keys == (b"\xaa" * 32, b"\xbb" * 32)


def test_a_key_verifies_at_once_and_signs_from_its_time_on(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    old = Secrets.load(path)
    both = rotate(path, begin=1000.0)
    assert both == Secrets.load(path)
    assert both.keys[1:] == old.keys
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["secret"]
    before, after = (mint_response(both, "s-1", now=now) for now in (999.0, 1000.0))
    check(before, secrets=old)
    check(mint_response(both, "s-1", now=1001.0), secrets=both)
    check(before, secrets=both)
    with pytest.raises(InvalidId):
        check(after, secrets=old)
    assert subject_of(both, "k-1", "alice") == subject_of(old, "k-1", "alice")


def test_a_gateway_that_has_not_signed_with_a_new_key_takes_what_another_signed_with_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "secret"
    Secrets.load(path)
    slow = rotate(path, begin=2000.0)  # by its own clock the time has not come
    check(mint_response(slow, "s-1", now=2001.0), now=2001.0, secrets=slow)


def test_a_leaked_key_is_taken_out_of_service_and_subjects_stay_who_they_were(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    old = Secrets.load(path)
    both = rotate(path, begin=0.0)
    new_line, old_line = path.read_text().split()
    path.write_text(f"{new_line}\n{old_line}@subjects\n")
    left = Secrets.load(path)
    assert left.keys == both.keys[:1]
    assert subject_of(left, "k-1", "alice") == subject_of(old, "k-1", "alice")
    check(mint_response(left, "s-1", now=1000.0), secrets=left)
    with pytest.raises(InvalidId):
        check(mint_response(old, "s-1", now=1000.0), secrets=left)


@pytest.mark.parametrize("content", ["aa" * 32 + "@soon", "aa" * 32 + "@subjects", "aa@5"])
def test_a_file_of_which_no_key_signs_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "secret").write_text(content)
    with pytest.raises(SettingsError, match="secret"):
        rotate(tmp_path / "secret", 0.0)
