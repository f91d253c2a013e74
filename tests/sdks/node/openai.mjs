// The official SDK: `node openai.mjs URL MODEL`. What is wrong is thrown.
import assert from "node:assert/strict";
import OpenAI from "openai";

const [baseURL, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "any", maxRetries: 0 });
const parameters = {
  type: "object",
  properties: { city: { type: "string" } },
  required: ["city"],
  additionalProperties: false,
};
const greedy = { model, temperature: 0 };
const question = { role: "user", content: "What is the weather in Paris?" };

async function chat() {
  const answer = await client.chat.completions.create({ ...greedy, messages: [{ role: "user", content: "Hello!" }] });
  assert.equal(answer.choices[0].finish_reason, "stop");
  assert.ok(answer.choices[0].message.content);
  assert.ok(answer.usage.completion_tokens_details.reasoning_tokens > 0);
}

async function streaming() {
  const stream = client.chat.completions.stream({ ...greedy, messages: [{ role: "user", content: "Hello!" }] });
  let text = "";
  for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? "";
  assert.equal(await stream.finalContent(), text);
  assert.ok(text);
}

async function tools() {
  const declared = [{ type: "function", function: { name: "get_weather", parameters, strict: true } }];
  const stream = client.chat.completions.stream({ ...greedy, messages: [question], tools: declared, tool_choice: "required" });
  const deltas = [];
  stream.on("tool_calls.function.arguments.delta", (event) => deltas.push(event.arguments_delta));
  const message = await stream.finalMessage();
  const [call] = message.tool_calls;
  assert.equal(call.function.name, "get_weather");
  assert.equal(deltas.join(""), call.function.arguments);
  assert.deepEqual(Object.keys(JSON.parse(call.function.arguments)), ["city"]);
  const result = { role: "tool", tool_call_id: call.id, content: "sunny" };
  const answer = await client.chat.completions.create({ ...greedy, messages: [question, message, result], tools: declared });
  assert.ok(answer.choices[0].message.content);
}

async function structured() {
  const held = { type: "json_schema", json_schema: { name: "place", strict: true, schema: parameters } };
  const messages = [{ role: "user", content: "The city is Paris. Give me JSON." }];
  const answer = await client.chat.completions.parse({ ...greedy, messages, response_format: held });
  assert.deepEqual(Object.keys(JSON.parse(answer.choices[0].message.content)), ["city"]);
}

async function responses() {
  const first = await client.responses.create({ ...greedy, input: "My name is Anna." });
  assert.equal(first.status, "completed");
  assert.ok(first.output_text);
  const kinds = new Set();
  let text = "";
  for await (const event of await client.responses.create({
    ...greedy, input: "Who am I?", previous_response_id: first.id, stream: true,
  })) {
    kinds.add(event.type);
    if (event.type === "response.output_text.delta") text += event.delta;
    if (event.type === "response.completed") {
      assert.equal(event.response.previous_response_id, first.id);
      assert.ok(event.response.usage.input_tokens > first.usage.input_tokens, "a shorter question, in a longer prompt");
    }
  }
  for (const kind of ["response.created", "response.reasoning_text.delta", "response.output_text.delta", "response.completed"]) {
    assert.ok(kinds.has(kind), `no ${kind}`);
  }
  assert.ok(text);
  const kept = await client.responses.retrieve(first.id);
  assert.equal(kept.output_text, first.output_text);
  await client.responses.delete(first.id);
  await assert.rejects(client.responses.retrieve(first.id), { status: 404 });
}

for (const part of [chat, streaming, tools, structured, responses]) {
  await part();
  console.log(part.name);
}
