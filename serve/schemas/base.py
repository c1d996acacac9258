"""What the other schemas are made of."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]
Criterion = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,39}$")]
Reasons = Annotated[list[Annotated[str, Field(min_length=1, max_length=64)]], Field(max_length=16)]
Comment = Annotated[str, Field(max_length=4000)]
Id = Annotated[str, Field(min_length=1, max_length=512)]
Identifier = Annotated[str, Field(min_length=1, max_length=256)]
Unit = Annotated[float, Field(ge=0, le=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]  # how much a criterion's votes count
MOST_FIELDS = 64


def at_most(most: int) -> BeforeValidator:
    """Refuse an object of more keys before it is looked at: pydantic would make an error of each of them."""

    def check(value: Any) -> Any:
        if isinstance(value, dict) and len(value) > most:
            raise ValueError(f"must have at most {most} keys")
        return value

    return BeforeValidator(check)


def _whole(value: Any) -> Any:
    """JSON has one kind of number: 5.0 is 5."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Version = Annotated[int, Field(ge=0), BeforeValidator(_whole)]


class Body(BaseModel):
    """A request body: unknown fields are refused, and nothing is taken for what it is not, such as "1" for 1."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _has_few_fields(cls, value: Any) -> Any:
        if isinstance(value, dict) and len(value) > MOST_FIELDS:
            raise ValueError(f"must have at most {MOST_FIELDS} fields")
        return value


class FromUser(Body):
    """A body that may name the end user, as the chat's did."""

    user: Identifier | None = None
    safety_identifier: Identifier | None = None


class Listing(BaseModel):
    """Any list."""

    object: Literal["list"] = "list"
    data: list[dict[str, Any]]


class ErrorDetail(BaseModel):
    """What is wrong, which field, and a code to branch on."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorAnswer(BaseModel):
    """OpenAI's error shape."""

    error: ErrorDetail
