"""The body of a chat as /openapi.json tells it.

``chat_request`` checks bodies by hand, which is faster; Schemathesis holds the two together in the tests.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from serve.schemas.base import Identifier

EXTRA_NULL = ConfigDict(json_schema_extra={"additionalProperties": {"type": "null"}})  # as SDKs dump replies
PartName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
CallId = Annotated[str, Field(min_length=1, max_length=256)]
Arguments = Annotated[
    str, Field(json_schema_extra={"format": "json-object"}, description="a JSON object in a text")
]
Schema = Annotated[dict[str, Any], Field(description="a JSON schema of bounded depth, size and patterns")]
TokenId = Annotated[str, Field(pattern=r"^[0-9]{1,9}$")]
StopText = Annotated[str, Field(min_length=1, max_length=256)]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh"]


class TextPart(BaseModel):
    """A part of a content; further fields are ignored."""

    type: Literal["text"]
    text: str


class RefusalPart(BaseModel):
    """A part of a former reply."""

    type: Literal["refusal"]
    refusal: str


Content: TypeAlias = str | list[TextPart | RefusalPart]


class PromptMessage(BaseModel):
    """What the client says, as itself or as its operator."""

    model_config = EXTRA_NULL
    role: Literal["system", "developer", "user"]
    content: Content
    name: PartName | None = None


class ToolMessage(BaseModel):
    """What a tool answered."""

    model_config = EXTRA_NULL
    role: Literal["tool"]
    content: Content
    tool_call_id: str | None = Field(default=None, min_length=1, max_length=256)
    name: PartName | None = None


class CalledFunction(BaseModel):
    """The function of a call; further fields are ignored."""

    name: PartName
    arguments: Arguments


class ToolCall(BaseModel):
    """A call that the model made; further fields are ignored."""

    id: CallId
    type: Literal["function"] | None = "function"
    function: CalledFunction


class Reply(BaseModel):
    """A former reply; what it has besides text and calls is read and dropped."""

    model_config = EXTRA_NULL
    role: Literal["assistant"]
    name: PartName | None = None
    annotations: list[Any] | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None


class SaidReply(Reply):
    """A reply with text."""

    content: Content
    refusal: str | None = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=128)] | None = None


class CallingReply(Reply):
    """A reply that only calls."""

    content: None = None
    refusal: str | None = None
    tool_calls: Annotated[list[ToolCall], Field(min_length=1, max_length=128)]


class RefusingReply(Reply):
    """A reply that refuses; what it said counts as its text."""

    content: None = None
    refusal: str
    tool_calls: Annotated[list[ToolCall], Field(max_length=128)] | None = None


Message: TypeAlias = PromptMessage | ToolMessage | SaidReply | CallingReply | RefusingReply


class Function(BaseModel):
    """What a tool does; further fields are ignored."""

    name: PartName
    description: str | None = None
    parameters: Schema | None = None
    strict: bool | None = None


class Tool(BaseModel):
    """A function that may be called."""

    type: Literal["function"]
    function: Function


class NamedFunction(BaseModel):
    """A function's name."""

    name: PartName


class NamedTool(BaseModel):
    """The function to call."""

    type: Literal["function"] | None = "function"
    function: NamedFunction


class PlainFormat(BaseModel):
    """Any text, or any JSON object."""

    type: Literal["text", "json_object"]


class Shape(BaseModel):
    """What the answer must look like."""

    name: PartName
    description: str | None = None
    json_schema: Schema = Field(alias="schema")
    strict: bool | None = None


class SchemaFormat(BaseModel):
    """JSON of one shape."""

    type: Literal["json_schema"]
    json_schema: Shape


class StreamOptions(BaseModel):
    """How a stream comes."""

    model_config = ConfigDict(extra="forbid")
    include_usage: bool = False
    include_obfuscation: Literal[False] = False


class Prediction(BaseModel):
    """Text that the answer may repeat; it changes nothing here."""

    type: Literal["content"]
    content: Content


class CacheOptions(BaseModel):
    """Engines cache every prefix by themselves."""

    model_config = ConfigDict(extra="forbid")
    mode: Literal["implicit"] | None = None
    ttl: Any = None


_NEEDS: dict[str, Any] = {  # two fields that mean nothing without another
    "allOf": [
        {
            "anyOf": [
                {"properties": {"top_logprobs": {"type": "null"}}},
                {"properties": {"logprobs": {"const": True}}, "required": ["logprobs"]},
            ]
        },
        {
            "anyOf": [
                {"properties": {"tool_choice": {"type": "null"}}},
                {"properties": {"tools": {"type": "array", "minItems": 1}}, "required": ["tools"]},
            ]
        },
    ]
}


class ComparedChat(BaseModel):
    """A chat to be answered twice. Fields not listed here are refused."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=_NEEDS)
    model: str = Field(
        min_length=1,
        max_length=256,
        pattern="[^:]$",
        description="an alias; with scope product also alias:base or alias:<adapter id>",
    )
    messages: list[Message] = Field(min_length=1, description="text only")
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0.000001, le=1)
    top_k: int | None = Field(default=None, ge=-1, le=100_000)
    min_p: float | None = Field(default=None, ge=0, le=1)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    repetition_penalty: float | None = Field(default=None, ge=0.1, le=2)
    stop: StopText | Annotated[list[StopText], Field(max_length=4)] | None = None
    seed: int | None = Field(default=None, ge=-(2**63), le=2**63 - 1)
    logit_bias: dict[TokenId, Annotated[float, Field(ge=-100, le=100)]] | None = Field(
        default=None, max_length=300
    )
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    response_format: PlainFormat | SchemaFormat | None = None
    tools: Annotated[list[Tool], Field(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: Effort | None = None
    user: Identifier | None = None
    safety_identifier: Identifier | None = None
    metadata: (
        Annotated[
            dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]],
            Field(max_length=16),
        ]
        | None
    ) = None
    modalities: tuple[Literal["text"]] | None = Field(default=None, description="changes nothing")
    prediction: Prediction | None = None
    prompt_cache_key: str | None = Field(default=None, max_length=256, description="changes nothing")
    prompt_cache_options: CacheOptions | None = None
    prompt_cache_retention: Literal["in_memory", "in-memory", "24h"] | None = None
    store: Annotated[bool | None, WithJsonSchema({"enum": [True, None], "default": True})] = True
    service_tier: Literal["auto", "default"] | None = None
    verbosity: Literal["medium"] | None = None
    audio: None = None
    function_call: None = None
    functions: None = None
    moderation: None = None
    web_search_options: None = None


class ChatBody(ComparedChat):
    """A chat in OpenAI's shape. Fields not listed here are refused."""

    n: Literal[1] | None = 1
    store: bool | None = True
    ignore_eos: bool | None = Field(
        default=None, description="run to max_tokens, as load tests want; such a response is not stored"
    )
