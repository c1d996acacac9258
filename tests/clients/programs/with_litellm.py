"""LiteLLM as a client, unchanged, by its OpenAI provider and by its provider for hosted vLLM."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Literal

import litellm
from cases import COMPACT, DAYS, GREEDY, HASTY_URL, HOURS, KEY, MESSAGES, NAMED, URL, case, main, raises
from pydantic import BaseModel

PROVIDERS = ("openai/heed", "hosted_vllm/heed")


class Hours(BaseModel):
    """Opening hours of a day."""

    day: Literal["monday", "sunday"]


def asking(**more: Any) -> dict[str, Any]:
    where = {"api_base": URL, "api_key": KEY, "num_retries": 0, "timeout": 60}
    return {"model": PROVIDERS[0], "messages": MESSAGES, **GREEDY, **where, **more}


def ask(**more: Any) -> Any:
    return litellm.completion(**asking(**more))


def text_of(chunks: list[Any]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


@case
def a_chat_is_answered_with_its_usage() -> None:
    for provider in PROVIDERS:
        answer = ask(model=provider)
        assert answer.id.startswith("chatcmpl-")
        assert answer.choices[0].message.content
        assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0


@case
def a_stream_says_the_same_and_gathers_its_usage() -> None:
    whole = ask()
    for provider in PROVIDERS:
        chunks = list(ask(model=provider, stream=True, stream_options={"include_usage": True}))
        assert text_of(chunks) == whole.choices[0].message.content
        gathered: Any = litellm.stream_chunk_builder(chunks, messages=MESSAGES)
        assert gathered.usage.completion_tokens == whole.usage.completion_tokens
    assert text_of(list(ask(stream=True))) == whole.choices[0].message.content


@case
async def async_chats_and_streams_work() -> None:
    answers = await asyncio.gather(*(litellm.acompletion(**asking()) for _ in range(4)))
    assert len({answer.choices[0].message.content for answer in answers}) == 1
    stream: Any = await litellm.acompletion(**asking(stream=True))
    assert text_of([chunk async for chunk in stream]) == answers[0].choices[0].message.content


@case
def a_tool_is_called_and_its_result_goes_back() -> None:
    # Not by "hosted_vllm", which takes "strict" out of the tools: the starter model then writes no sense.
    message = ask(tools=[HOURS], tool_choice=NAMED, **COMPACT).choices[0].message
    (call,) = message.tool_calls
    assert json.loads(call.function.arguments)["day"] in DAYS
    told = {"role": "tool", "tool_call_id": call.id, "name": "hours", "content": "8 to 6"}
    for said in (message, message.model_dump()):
        again = ask(messages=[*MESSAGES, said, told], tools=[HOURS], tool_choice="none")
        assert again.choices[0].message.content


@case
def tool_calls_are_streamed() -> None:
    chunks = list(ask(tools=[HOURS], tool_choice="required", stream=True, **COMPACT))
    gathered: Any = litellm.stream_chunk_builder(chunks, messages=MESSAGES)
    (call,) = gathered.choices[0].message.tool_calls
    assert call.function.name == "hours"
    assert json.loads(call.function.arguments)["day"] in DAYS


@case
def a_pydantic_model_is_the_format() -> None:
    for provider in PROVIDERS:
        said = ask(model=provider, response_format=Hours, **COMPACT).choices[0].message.content
        assert Hours.model_validate_json(said).day in DAYS


@case
def a_reply_goes_back_as_it_came() -> None:
    message = ask().choices[0].message
    more = {"role": "user", "content": "And on Sunday?"}
    for said in (message, message.model_dump(), json.loads(message.model_dump_json())):
        assert ask(messages=[*MESSAGES, said, more]).choices[0].message.content


@case
def what_it_drops_or_sends_is_taken() -> None:
    assert ask(
        drop_params=True, user="ann", seed=1, stop=["\n"], top_p=0.9, n=1, presence_penalty=0.1,
        frequency_penalty=0.1, logit_bias={"5": -1}, metadata={"run": "1"}, store=True, service_tier="auto",
        parallel_tool_calls=False, tools=[HOURS], tool_choice="none",
    ).choices[0].message.content  # fmt: skip


@case
def log_probabilities_are_told() -> None:
    assert len(ask(logprobs=True, top_logprobs=2, max_tokens=4).choices[0].logprobs.content) == 4


@case
def errors_have_its_classes() -> None:
    raises(litellm.NotFoundError, lambda: ask(model="openai/nobody"))
    raises(litellm.AuthenticationError, lambda: ask(api_key="hk-wrong"))
    raises(litellm.BadRequestError, lambda: ask(n=2))
    raises(
        litellm.ContextWindowExceededError,
        lambda: ask(messages=[{"role": "user", "content": "when " * 3000}]),
    )
    raises(
        litellm.RateLimitError,
        lambda: [ask(api_base=HASTY_URL, user="litellm", max_tokens=1) for _ in "ab"],
    )


@case
def its_router_retries_what_it_was_told_to_wait_for() -> None:
    where = {"model": PROVIDERS[0], "api_base": HASTY_URL, "api_key": KEY}
    router = litellm.Router(
        model_list=[{"model_name": "shop", "litellm_params": where}], num_retries=3, allowed_fails=100
    )
    for _ in "ab":
        assert router.completion(model="shop", messages=MESSAGES, user="router", max_tokens=1).choices


if __name__ == "__main__":
    main()
