// The official Node SDK, unchanged, against the gateway. Prints one JSON line a case, as the Python programs do.
import assert from "node:assert/strict";
import OpenAI from "openai";
import { zodFunction, zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

const { CLIENT_URL, CLIENT_HASTY_URL, CLIENT_KEY } = process.env;
const client = new OpenAI({ baseURL: `${CLIENT_URL}/v1`, apiKey: CLIENT_KEY, maxRetries: 0, timeout: 60_000 });
const chat = client.chat.completions;
const messages = [{ role: "user", content: "When do you open?" }];
const greedy = { model: "heed", messages, temperature: 0, max_tokens: 24 };
const long = { ...greedy, max_tokens: 200 };
const compact = { ...long, logit_bias: { 200: -100, 201: -100, 204: -100, 223: -100 } }; // no blanks between JSON's parts
const Hours = z.object({ day: z.enum(["monday", "sunday"]) });
const days = ["monday", "sunday"];
const named = { type: "function", function: { name: "hours" } };
const tools = [
  {
    type: "function",
    function: {
      name: "hours",
      description: "Opening hours of a day.",
      strict: true,
      parameters: {
        type: "object",
        properties: { day: { type: "string", enum: days } },
        required: ["day"],
        additionalProperties: false,
      },
    },
  },
];

async function all(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}
const textOf = (chunks) => chunks.map((chunk) => chunk.choices[0]?.delta?.content ?? "").join("");

const cases = {
  async a_chat_has_the_shape_of_openai() {
    const answer = await chat.create(greedy);
    assert.match(answer.id, /^chatcmpl-/);
    assert.equal(answer.model, "heed");
    assert.ok(answer.choices[0].message.content);
    assert.equal(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens);
    assert.match(answer._request_id, /^req_/);
  },
  async a_stream_says_the_same_and_tells_no_usage_unasked() {
    const chunks = await all(await chat.create({ ...greedy, stream: true }));
    assert.equal(textOf(chunks), (await chat.create(greedy)).choices[0].message.content);
    assert.ok(chunks.length > 2 && chunks.every((chunk) => chunk.choices.length === 1 && !chunk.usage));
  },
  async usage_comes_last_and_without_choices_when_asked_for() {
    const chunks = await all(await chat.create({ ...greedy, stream: true, stream_options: { include_usage: true } }));
    const last = chunks.at(-1);
    assert.deepEqual(last.choices, []);
    assert.deepEqual(last.usage, (await chat.create(greedy)).usage);
  },
  async the_stream_helper_gathers_the_answer() {
    const stream = chat.stream(greedy);
    let heard = "";
    stream.on("content", (delta) => (heard += delta));
    const final = await stream.finalChatCompletion();
    assert.equal(heard, final.choices[0].message.content);
    assert.equal(heard, (await chat.create(greedy)).choices[0].message.content);
  },
  async raw_answers_carry_a_request_id() {
    const { data, response, request_id: id } = await chat.create(greedy).withResponse();
    assert.equal(response.headers.get("x-request-id"), id);
    assert.equal(data._request_id, id);
  },
  async parse_gives_what_zod_describes() {
    const answer = await chat.parse({ ...compact, response_format: zodResponseFormat(Hours, "hours") });
    assert.ok(days.includes(answer.choices[0].message.parsed.day));
    const stream = chat.stream({ ...compact, response_format: zodResponseFormat(Hours, "hours") });
    assert.ok(days.includes((await stream.finalChatCompletion()).choices[0].message.parsed.day));
  },
  async a_named_tool_is_called_and_its_result_goes_back() {
    const { message } = (await chat.create({ ...compact, tools, tool_choice: named })).choices[0];
    const [call] = message.tool_calls;
    assert.equal(call.function.name, "hours");
    assert.ok(days.includes(JSON.parse(call.function.arguments).day));
    const told = { role: "tool", tool_call_id: call.id, content: "8 to 6" };
    const again = await chat.create({ ...greedy, messages: [...messages, message, told], tools, tool_choice: "none" });
    assert.ok(again.choices[0].message.content);
  },
  async tool_calls_are_streamed_in_pieces() {
    const chunks = await all(await chat.create({ ...compact, tools, tool_choice: "required", stream: true }));
    const pieces = chunks.flatMap((chunk) => chunk.choices[0].delta.tool_calls ?? []);
    assert.equal(pieces.filter((piece) => piece.function.name).length, 1);
    assert.ok(days.includes(JSON.parse(pieces.map((piece) => piece.function.arguments ?? "").join("")).day));
  },
  async run_tools_calls_the_function() {
    const asked = [];
    const hours = zodFunction({
      name: "hours",
      description: "Opening hours of a day.",
      parameters: Hours,
      function: ({ day }) => (asked.push(day), "8 to 6"),
    });
    const runner = chat.runTools({ ...compact, tools: [hours], tool_choice: named });
    await runner.done();
    assert.ok(days.includes(asked[0]));
    const streamed = chat.runTools({ ...compact, tools: [hours], tool_choice: named, stream: true });
    await streamed.done();
    assert.ok(days.includes(asked[1]));
  },
  async a_reply_goes_back_as_it_came() {
    const { message } = (await chat.create(greedy)).choices[0];
    const more = [...messages, message, { role: "user", content: "And on Sunday?" }];
    assert.ok((await chat.create({ ...greedy, messages: more })).choices[0].message.content);
  },
  async models_are_listed_and_told_one_by_one() {
    const ids = [];
    for await (const model of client.models.list()) ids.push(model.id);
    assert.deepEqual(ids, ["heed"]);
    assert.equal((await client.models.retrieve("heed")).owned_by, "heed");
  },
  async errors_have_their_classes() {
    const wrong = (kind, call, fields) =>
      assert.rejects(call, (error) => {
        assert.ok(error instanceof kind, String(error));
        for (const [name, value] of Object.entries(fields)) assert.equal(error[name], value);
        assert.match(error.requestID, /^req_/);
        return true;
      });
    await wrong(OpenAI.NotFoundError, () => chat.create({ ...greedy, model: "nobody" }), { code: "model_not_found" });
    await wrong(OpenAI.BadRequestError, () => chat.create({ ...greedy, n: 2 }), { param: "n" });
    await wrong(OpenAI.BadRequestError, () => chat.create({ ...greedy, best_of: 2 }), { code: "unknown_parameter" });
    await wrong(OpenAI.PermissionDeniedError, () => chat.create({ ...greedy, model: "heed:base" }), { status: 403 });
    const stranger = client.withOptions({ apiKey: "hk-wrong" });
    await wrong(OpenAI.AuthenticationError, () => stranger.models.list(), { status: 401 });
  },
  async a_limit_raises_or_is_waited_for() {
    const hasty = client.withOptions({ baseURL: `${CLIENT_HASTY_URL}/v1` });
    const twice = async (maxRetries) => {
      const asking = hasty.withOptions({ maxRetries }).chat.completions;
      for (const _ of "ab") await asking.create({ ...greedy, user: `node-${maxRetries}`, max_tokens: 1 });
    };
    await assert.rejects(twice(0), OpenAI.RateLimitError);
    const began = Date.now();
    await twice(2);
    assert.ok(Date.now() - began >= 4500);
  },
  async an_abort_and_a_time_out_leave_the_client_usable() {
    const controller = new AbortController();
    const stream = await chat.create({ ...long, stream: true }, { signal: controller.signal });
    for await (const chunk of stream) {
      assert.ok(chunk.id);
      controller.abort();
      break;
    }
    const aborted = new AbortController();
    const whole = chat.create(long, { signal: aborted.signal });
    aborted.abort();
    await assert.rejects(whole, OpenAI.APIUserAbortError);
    await assert.rejects(client.models.list({ timeout: 1 }), OpenAI.APIConnectionTimeoutError);
    assert.ok((await chat.create(greedy)).choices[0].message.content);
  },
};

for (const [name, run] of Object.entries(cases)) {
  let error = null;
  await run().catch((caught) => (error = caught?.stack ?? String(caught)));
  console.log(JSON.stringify({ case: name, passed: error === null, error }));
}
