"""The official Python SDK, unchanged, against the gateway."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Literal

import openai
from cases import (
    COMPACT,
    DAYS,
    GREEDY,
    HASTY_URL,
    HOURS,
    KEY,
    MESSAGES,
    NAMED,
    PARAMETERS,
    URL,
    case,
    main,
    raises,
    seconds,
)
from pydantic import BaseModel

client = openai.OpenAI(base_url=URL, api_key=KEY, max_retries=0, timeout=60)
chat = client.chat.completions
STRICT = {"name": "hours", "schema": PARAMETERS, "strict": True}


class Hours(BaseModel):
    """Opening hours of a day."""

    day: Literal["monday", "sunday"]


def ask_compact(**more: Any) -> Any:
    return ask(**{**COMPACT, **more})


def ask(**more: Any) -> Any:
    return chat.create(**{"model": "heed", "messages": MESSAGES, **GREEDY, **more})


def text_of(chunks: list[Any]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


@case
def a_chat_has_the_shape_of_openai() -> None:
    answer = ask()
    assert answer.id.startswith("chatcmpl-")
    assert (answer.object, answer.model) == ("chat.completion", "heed")
    (choice,) = answer.choices
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert choice.finish_reason in ("stop", "length")
    usage = answer.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens > 0
    assert answer._request_id.startswith("req_")


@case
def a_stream_says_the_same_and_tells_no_usage_unasked() -> None:
    chunks = list(ask(stream=True))
    assert text_of(chunks) == ask().choices[0].message.content
    assert len(chunks) > 2
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)
    assert len({chunk.id for chunk in chunks}) == 1
    assert {chunk.model for chunk in chunks} == {"heed"}
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason


@case
def usage_comes_last_and_without_choices_when_asked_for() -> None:
    *rest, last = list(ask(stream=True, stream_options={"include_usage": True}))
    assert last.choices == []
    assert last.usage == ask().usage
    assert all(chunk.usage is None for chunk in rest)


@case
def the_stream_helper_gathers_the_answer() -> None:
    with chat.stream(model="heed", messages=MESSAGES, **GREEDY) as stream:
        events = list(stream)
        final = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= {event.type for event in events}
    assert final.choices[0].message.content == ask().choices[0].message.content


@case
def the_stream_ends_with_done_on_the_wire() -> None:
    with chat.with_streaming_response.create(
        model="heed", messages=MESSAGES, stream=True, **GREEDY
    ) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in answer.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    assert all(line.startswith("data: {") for line in lines[:-1])


@case
def raw_answers_carry_a_request_id() -> None:
    ids = {chat.with_raw_response.create(model="heed", messages=MESSAGES, **GREEDY).request_id for _ in "ab"}
    assert len(ids) == 2
    assert None not in ids


@case
def parse_gives_a_pydantic_model() -> None:
    answer = chat.parse(model="heed", messages=MESSAGES, response_format=Hours, **COMPACT)
    assert answer.choices[0].message.parsed.day in DAYS


@case
def a_strict_schema_is_kept_whole_and_streamed() -> None:
    asked = {"response_format": {"type": "json_schema", "json_schema": STRICT}}
    whole = ask_compact(**asked).choices[0].message.content
    assert json.loads(whole)["day"] in DAYS
    assert text_of(list(ask_compact(**asked, stream=True))) == whole


@case
def the_stream_helper_parses_a_model() -> None:
    with chat.stream(model="heed", messages=MESSAGES, response_format=Hours, **COMPACT) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.parsed.day in DAYS


@case
def json_object_answers_an_object() -> None:
    answer = ask_compact(response_format={"type": "json_object"}, max_tokens=60).choices[0]
    assert answer.message.content.startswith("{")
    assert answer.finish_reason == "length" or isinstance(json.loads(answer.message.content), dict)


@case
def a_named_tool_is_called() -> None:
    (choice,) = ask_compact(tools=[HOURS], tool_choice=NAMED).choices
    (call,) = choice.message.tool_calls
    assert (call.type, call.function.name) == ("function", "hours")
    assert json.loads(call.function.arguments)["day"] in DAYS
    assert choice.finish_reason in ("tool_calls", "stop")


@case
def a_required_tool_is_called() -> None:
    answer = ask_compact(tools=[HOURS], tool_choice="required", parallel_tool_calls=False)
    (call,) = answer.choices[0].message.tool_calls
    assert json.loads(call.function.arguments)["day"] in DAYS


@case
def tool_calls_are_streamed_in_pieces() -> None:
    chunks = list(ask_compact(tools=[HOURS], tool_choice=NAMED, stream=True))
    pieces = [piece for chunk in chunks for piece in chunk.choices[0].delta.tool_calls or ()]
    assert {piece.index for piece in pieces} == {0}
    assert [piece.function.name for piece in pieces if piece.function.name] == ["hours"]
    assert len([piece.id for piece in pieces if piece.id]) == 1
    assert json.loads("".join(piece.function.arguments or "" for piece in pieces))["day"] in DAYS


@case
def a_pydantic_tool_is_parsed_whole_and_streamed() -> None:
    asked: dict[str, Any] = {
        "model": "heed",
        "messages": MESSAGES,
        "tools": [openai.pydantic_function_tool(Hours, name="hours")],
        "tool_choice": NAMED,
        **COMPACT,
    }
    (call,) = chat.parse(**asked).choices[0].message.tool_calls
    assert call.function.parsed_arguments.day in DAYS
    with chat.stream(**asked) as stream:
        (call,) = stream.get_final_completion().choices[0].message.tool_calls
    assert call.function.parsed_arguments.day in DAYS


@case
def a_tools_result_goes_back() -> None:
    message = ask_compact(tools=[HOURS], tool_choice=NAMED).choices[0].message
    told = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "8 to 6"}
    for said in (message, message.model_dump(), message.to_dict()):
        assert (
            ask(messages=[*MESSAGES, said, told], tools=[HOURS], tool_choice="none")
            .choices[0]
            .message.content
        )


@case
def tools_left_to_the_model_do_no_harm() -> None:
    message = ask(tools=[HOURS], tool_choice="auto").choices[0].message
    assert message.content or message.tool_calls
    assert ask(tools=[HOURS]).choices


@case
def a_reply_goes_back_as_it_came() -> None:
    message = ask().choices[0].message
    more = {"role": "user", "content": "And on Sunday?"}
    for said in (message, message.model_dump(), message.to_dict()):
        assert ask(messages=[*MESSAGES, said, more]).choices[0].message.content


@case
def parts_names_and_developers_are_understood() -> None:
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "name": "ann", "content": [{"type": "text", "text": "When do you open?"}]},
    ]
    assert ask(messages=messages).choices[0].message.content


@case
def log_probabilities_are_told() -> None:
    content = ask(logprobs=True, top_logprobs=2, max_tokens=4).choices[0].logprobs.content
    assert len(content) == 4
    assert all(len(token.top_logprobs) == 2 and token.logprob <= 0 for token in content)


@case
def defaults_spelled_out_are_taken() -> None:
    assert (
        ask(
            n=1,
            service_tier="auto",
            modalities=["text"],
            verbosity="medium",
            prediction={"type": "content", "content": "We open at eight."},
            prompt_cache_key="k",
            store=True,
            metadata={"page": "start"},
            user="ann",
            safety_identifier="ann",
            seed=1,
            stop=["\n"],
            logit_bias={"5": -1},
            presence_penalty=0,
            frequency_penalty=0,
            top_p=1,
            reasoning_effort="low",
            response_format={"type": "text"},
            max_completion_tokens=8,
        )
        .choices[0]
        .message.content
    )


@case
def a_seed_repeats_an_answer() -> None:
    first, second = (
        ask(temperature=1, seed=7, max_completion_tokens=16).choices[0].message.content for _ in "ab"
    )
    assert first == second


@case
def models_are_listed_and_told_one_by_one() -> None:
    (model,) = client.models.list().data
    assert (model.id, model.object, model.owned_by) == ("heed", "model", "heed")
    assert client.models.retrieve("heed") == model
    error = raises(openai.NotFoundError, lambda: client.models.retrieve("nobody"))
    assert (error.code, error.param) == ("model_not_found", "model")


@case
def errors_have_their_classes() -> None:
    error = raises(openai.NotFoundError, lambda: ask(model="nobody"))
    assert (error.code, error.param) == ("model_not_found", "model")
    stranger = client.with_options(api_key="hk-wrong")
    error = raises(openai.AuthenticationError, stranger.models.list)
    assert error.code == "invalid_api_key"
    raises(openai.PermissionDeniedError, lambda: ask(model="heed:base"))
    for more, param, code in (
        ({"n": 2}, "n", "invalid_value"),
        ({"extra_body": {"chat_template": "x"}}, "chat_template", "unknown_parameter"),
        ({"web_search_options": {}}, "web_search_options", "unsupported_parameter"),
        ({"messages": []}, "messages", "invalid_value"),
        ({"messages": [{"role": "user", "content": "when " * 3000}]}, "messages", "invalid_value"),
    ):
        error = raises(openai.BadRequestError, lambda more=more: ask(**more))
        assert (error.param, error.code) == (param, code), error
        assert error.type == "invalid_request_error"
        assert error.request_id.startswith("req_")


@case
def a_limit_raises_or_is_waited_for() -> None:
    hasty = openai.OpenAI(base_url=HASTY_URL, api_key=KEY, max_retries=0)

    def ask_twice(patient: int) -> None:
        asking = hasty.with_options(max_retries=patient).chat.completions
        for _ in "ab":
            asking.create(model="heed", messages=MESSAGES, user=f"patient-{patient}", max_tokens=1)

    error = raises(openai.RateLimitError, lambda: ask_twice(0))
    assert error.code == "rate_limit_exceeded"
    assert 1 <= int(error.response.headers["retry-after"]) <= 5
    assert seconds(lambda: ask_twice(2)) >= 4.5


@case
def a_time_out_and_a_stream_left_early_leave_the_client_usable() -> None:
    hurried = client.with_options(timeout=0.05).chat.completions
    long = {"model": "heed", "messages": MESSAGES, "max_tokens": 400, "extra_body": {"ignore_eos": True}}
    raises(openai.APITimeoutError, lambda: hurried.create(**long))
    with ask(stream=True, max_tokens=200) as stream:
        assert next(iter(stream)).id
    assert ask().choices


@case
async def many_chats_at_once_on_one_async_client() -> None:
    async with openai.AsyncOpenAI(base_url=URL, api_key=KEY, max_retries=0) as many:

        async def one() -> str:
            stream = await many.chat.completions.create(
                model="heed", messages=MESSAGES, stream=True, **GREEDY
            )
            return text_of([chunk async for chunk in stream])

        async with many.chat.completions.stream(model="heed", messages=MESSAGES, **GREEDY) as stream:
            final = await stream.get_final_completion()
        texts = await asyncio.gather(*(one() for _ in range(8)))
    assert set(texts) == {final.choices[0].message.content}


@case
def a_vote_goes_through_the_same_client() -> None:
    vote = {"response_id": ask(user="ann").id, "rating": "up", "user": "ann"}
    said: Any = client.post("/feedback", body=vote, cast_to=object)
    assert said["status"] == "stored"


if __name__ == "__main__":
    main()
