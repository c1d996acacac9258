"""Every text of an event goes through the step, and none stays when the step fails."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from feedback.errors import SettingsError
from feedback.events import Event, Label, Report, encode
from feedback.patterns import redact as patterns
from feedback.redaction import Redaction, redaction_of
from tests.contract.making import comparison, response, vote

SECRET = "ann@example.org"
EVENTS: list[Event] = [
    response(
        "r1",
        messages=({"role": "system", "content": SECRET}, {"role": "user", "content": f"I am {SECRET}"}),
        text=f"Hello {SECRET}",
    ),
    vote("r1", "down", 1.0, reasons=(SECRET, "tone"), comment=SECRET, correction=f"Hi {SECRET}"),
    comparison(("a",), ("b",), reasons=(SECRET,), comment=SECRET),
    Report(
        event_id="e",
        report_id="rp-1",
        response_id="r1",
        time=1.0,
        subject="s1",
        report_kind="x",
        comment=SECRET,
    ),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_every_text_is_redacted_and_nothing_else_changes(event: Event) -> None:
    said = Redaction(patterns)(event)
    assert encode(event).replace(SECRET.encode(), b"[EMAIL]") == encode(said)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_when_the_step_fails_no_text_is_kept_and_it_is_counted(
    event: Event, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(text: str) -> str:
        raise RuntimeError(f"cannot do {text}")

    failed: list[int] = []
    said = Redaction(broken, lambda: failed.append(1))(event)
    assert SECRET.encode() not in encode(said)
    assert b"tone" not in encode(said)
    assert (said.event_id, said.subject, said.time) == (event.event_id, event.subject, event.time)
    assert failed == [1]
    assert SECRET not in caplog.text


def test_a_step_that_returns_no_text_has_failed() -> None:
    said = Redaction(lambda text: None)(EVENTS[0])  # type: ignore[arg-type,return-value]
    assert SECRET.encode() not in encode(said)


def test_a_prompt_for_raters_is_redacted_or_not_shown() -> None:
    prompt = ({"role": "user", "content": SECRET},)
    assert Redaction(patterns).messages(prompt) == ({"role": "user", "content": "[EMAIL]"},)
    assert Redaction().messages(prompt) == prompt

    def broken(text: str) -> str:
        raise ValueError

    assert Redaction(broken).messages(prompt) == ()


def test_a_label_has_no_text() -> None:
    label = Label(event_id="e", feedback_id="f", response_id="r", time=1.0, subject="s", labels={"tone": 1.0})
    assert Redaction(patterns)(label) is label


def test_the_setting_names_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("ours")
    module.hide = str.upper  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ours", module)
    assert redaction_of("off") is None
    assert redaction_of("patterns") is patterns
    step = redaction_of("ours:hide")
    assert step is not None
    assert step("a") == "A"


@pytest.mark.parametrize("setting", ["on", "json:nothing", "no.such.module:x", "json:__name__", ":x"])
def test_a_setting_that_names_no_step_is_refused_by_name(setting: str) -> None:
    with pytest.raises(SettingsError, match="HEED_REDACT"):
        redaction_of(setting)


def test_presidio_finds_between_placeholders_only(monkeypatch: pytest.MonkeyPatch) -> None:
    from feedback import presidio

    asked: list[str] = []

    class Analyzer:
        def analyze(self, text: str, language: str) -> list[SimpleNamespace]:
            asked.append(text)
            start = text.find("Ann Lee")
            found = SimpleNamespace(start=start, end=start + 7, entity_type="PERSON")
            inner = SimpleNamespace(start=start + 1, end=start + 7, entity_type="LOCATION")
            when = SimpleNamespace(start=0, end=1, entity_type="DATE_TIME")
            return [inner, found, when] if start >= 0 else []

    monkeypatch.setattr(presidio, "_analyzer", Analyzer)
    once = presidio.redact("I am Ann Lee, a@b.co.")
    assert once == "I am [PERSON], [EMAIL]."
    assert all("[" not in text for text in asked)
    assert presidio.redact(once) == once
