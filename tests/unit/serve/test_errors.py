"""Every error of the contract becomes HTTP, and none is forgotten."""

from __future__ import annotations

import inspect

import pytest

from feedback import errors as contract
from feedback.errors import (
    Conflict,
    EventsRefused,
    HeedError,
    InvalidRecord,
    InvalidTransition,
    UnknownRecord,
)
from serve.errors import EngineRefused, GatewayError, body_of, field_name, translate

MADE: dict[str, HeedError] = {
    "Conflict": Conflict("alias heed", 1, 2),
    "EventsRefused": EventsRefused("ERR", [None]),
    "UnknownRecord": UnknownRecord("adapter", "a-1"),
    "InvalidTransition": InvalidTransition("a-1", "rejected", "live"),
    "InvalidRecord": InvalidRecord("arms", "needs two"),
}
NEVER_IN_A_REQUEST = {"HeedError", "SettingsError", "StoreError", "LeaseLost", "RedactionFailed"}
STATUS = {
    "InvalidId": 404,
    "ExpiredId": 410,
    "NotStored": 409,
    "StoreUnavailable": 503,
    "EventsRefused": 503,
    "Conflict": 409,
    "SpoolFull": 503,
    "UnknownRecord": 404,
    "InvalidTransition": 409,
    "InvalidRecord": 422,
}


def test_no_error_of_the_contract_is_forgotten() -> None:
    every = {
        name for name, one in inspect.getmembers(contract, inspect.isclass) if issubclass(one, HeedError)
    }
    assert every - NEVER_IN_A_REQUEST == STATUS.keys()


@pytest.mark.parametrize(("name", "status"), STATUS.items())
def test_each_has_its_status(name: str, status: int) -> None:
    error = MADE.get(name) or getattr(contract, name)("why")
    translated = translate(error)
    assert translated.status == status
    assert (translated.retry_after is not None) == (status == 503)


def test_the_shape_is_openais() -> None:
    assert body_of(GatewayError("oops", param="x", code="y")) == {
        "error": {"message": "oops", "type": "server_error", "param": "x", "code": "y"}
    }


@pytest.mark.parametrize(
    ("answered", "status"), [(400, 400), (422, 400), (404, 502), (500, 502), (429, 503), (503, 503)]
)
def test_an_engines_refusal_is_told_as_ours(answered: int, status: int) -> None:
    assert EngineRefused(answered, "x").status == status


def test_fields_are_named_as_the_client_wrote_them() -> None:
    assert field_name(("body", "labels", "tone")) == "labels.tone"
    assert field_name(("body",)) == "body"
    assert field_name(("query", "since")) == "since"
