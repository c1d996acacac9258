"""LangChain's ``ChatOpenAI``, unchanged, against the gateway."""

from __future__ import annotations

from typing import Any, Literal

import openai
from cases import COMPACT, DAYS, HASTY_URL, KEY, QUESTION, URL, case, main, raises
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel


class Hours(BaseModel):
    """Opening hours of a day."""

    day: Literal["monday", "sunday"]


@tool
def hours(day: Literal["monday", "sunday"]) -> str:
    """Opening hours of a day."""
    return f"{day}: 8 to 6"


def model(**more: Any) -> ChatOpenAI:
    said = {"model": "heed", **COMPACT, "max_retries": 0, "timeout": 60}
    return ChatOpenAI(**{**said, "base_url": URL, "api_key": KEY, **more})


@case
def a_chat_is_answered_with_its_usage() -> None:
    answer = model().invoke(QUESTION)
    assert answer.content
    assert answer.response_metadata["model_name"] == "heed"
    assert answer.id
    usage = answer.usage_metadata
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"] > 0


@case
def a_stream_says_the_same() -> None:
    chunks = list(model().stream(QUESTION))
    assert len(chunks) > 2
    assert "".join(str(chunk.content) for chunk in chunks) == model().invoke(QUESTION).content


@case
def a_stream_tells_its_usage_when_asked() -> None:
    whole: Any = sum_of(list(model(stream_usage=True).stream(QUESTION)))
    assert whole.usage_metadata["output_tokens"] == model().invoke(QUESTION).usage_metadata["output_tokens"]


def sum_of(chunks: list[Any]) -> Any:
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    return whole


@case
async def async_chats_streams_and_batches_work() -> None:
    assert (await model().ainvoke(QUESTION)).content
    assert [chunk async for chunk in model().astream(QUESTION)]
    assert all(answer.content for answer in await model().abatch([QUESTION] * 4))


@case
def a_conversation_with_a_system_message_goes_back() -> None:
    said = model().invoke([SystemMessage("Be brief."), HumanMessage(QUESTION)])
    assert (
        model()
        .invoke([SystemMessage("Be brief."), HumanMessage(QUESTION), said, HumanMessage("And?")])
        .content
    )


@case
def content_in_parts_is_understood() -> None:
    assert model().invoke([HumanMessage([{"type": "text", "text": QUESTION}])]).content


@case
def a_bound_tool_is_called_and_its_result_goes_back() -> None:
    bound = model().bind_tools([hours], tool_choice="hours", strict=True)
    said = bound.invoke(QUESTION)
    (call,) = said.tool_calls
    assert call["name"] == "hours"
    assert call["args"]["day"] in DAYS
    told = hours.invoke(call)
    assert isinstance(told, ToolMessage)
    free = model().bind_tools([hours], tool_choice="none")
    assert free.invoke([HumanMessage(QUESTION), said, told]).content


@case
def any_tool_strict_tools_and_streamed_calls_work() -> None:
    bound = model().bind_tools([hours], tool_choice="any", strict=True, parallel_tool_calls=False)
    assert bound.invoke(QUESTION).tool_calls[0]["args"]["day"] in DAYS
    whole = sum_of(list(bound.stream(QUESTION)))
    assert whole.tool_calls[0]["args"]["day"] in DAYS


@case
def tools_left_to_the_model_do_no_harm() -> None:
    said = model(max_tokens=24).bind_tools([hours]).invoke(QUESTION)
    assert said.content or said.tool_calls


@case
def structured_output_by_schema() -> None:
    assert model().with_structured_output(Hours).invoke(QUESTION).day in DAYS
    assert (
        model().with_structured_output(Hours, method="json_schema", strict=True).invoke(QUESTION).day in DAYS
    )


@case
def structured_output_by_a_call() -> None:
    said = (
        model()
        .with_structured_output(Hours, method="function_calling", strict=True, include_raw=True)
        .invoke(QUESTION)
    )
    assert said["parsing_error"] is None
    assert said["parsed"].day in DAYS
    assert isinstance(said["raw"], AIMessage)


@case
def structured_output_by_json_mode_sends_what_the_engine_takes() -> None:
    asked = model(max_tokens=60).with_structured_output(Hours, method="json_mode", include_raw=True)
    try:
        said = asked.invoke(f"{QUESTION} Answer in JSON with the key day.")
    except openai.LengthFinishReasonError as error:  # 3 million parameters may never close the object
        content = error.completion.choices[0].message.content
    else:
        content = said["raw"].content
    assert content.startswith("{")


@case
def structured_output_is_streamed() -> None:
    assert list(model().with_structured_output(Hours).stream(QUESTION))[-1].day in DAYS


@case
def log_probabilities_are_told() -> None:
    said = model(logprobs=True, top_logprobs=2, max_tokens=4).invoke(QUESTION)
    assert len(said.response_metadata["logprobs"]["content"]) == 4


@case
def sampling_settings_and_identities_are_taken() -> None:
    said = model(
        temperature=1, top_p=0.9, seed=1, stop=["\n"], presence_penalty=0.1, frequency_penalty=0.1, n=1,
        metadata={"run": "1"}, store=True, service_tier="auto", model_kwargs={"user": "ann"},
    )  # fmt: skip
    assert said.invoke(QUESTION).content


@case
def errors_are_the_sdks_own() -> None:
    error = raises(openai.NotFoundError, lambda: model(model="nobody").invoke(QUESTION))
    assert error.code == "model_not_found"
    raises(openai.AuthenticationError, lambda: model(api_key="hk-wrong").invoke(QUESTION))
    raises(openai.BadRequestError, lambda: model(n=2).invoke(QUESTION))
    raises(openai.BadRequestError, lambda: model().invoke("when " * 3000))
    hasty = model(base_url=HASTY_URL, max_tokens=1, model_kwargs={"user": "langchain"})
    raises(openai.RateLimitError, lambda: [hasty.invoke(QUESTION) for _ in "ab"])


if __name__ == "__main__":
    main()
