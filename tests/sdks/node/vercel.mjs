// Vercel's AI SDK, over both of the APIs it speaks: `node vercel.mjs URL MODEL`. What is wrong is thrown.
import assert from "node:assert/strict";
import { createOpenAI } from "@ai-sdk/openai";
import { generateObject, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const [baseURL, name] = process.argv.slice(2);
const greedy = { temperature: 0, maxRetries: 0 };
const streamed = { ...greedy, onError: ({ error }) => { throw error; } };
const openai = createOpenAI({ baseURL, apiKey: "any" });
const Place = z.object({ city: z.string() });

async function streaming(model) {
  const hello = await generateText({ model, prompt: "Hello!", ...greedy });
  assert.equal(hello.finishReason, "stop");
  const stream = streamText({ model, prompt: "Hello!", ...streamed });
  let text = "";
  for await (const part of stream.textStream) text += part;
  assert.ok(text);
  assert.equal(hello.text, text);
  assert.ok((await stream.usage).outputTokens > 0);
}

async function tools(model) {
  const called = [];
  const weather = tool({
    description: "The weather in a city.",
    inputSchema: Place,
    execute: async ({ city }) => { called.push(city); return "sunny"; },
  });
  const loop = streamText({
    model, prompt: "What is the weather in Paris?", tools: { get_weather: weather }, ...streamed,
    stopWhen: stepCountIs(2),
    prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? "required" : "auto" }),
  });
  const kinds = [];
  for await (const part of loop.fullStream) kinds.push(part.type);
  assert.equal(called.length, 1);
  const order = ["tool-input-start", "tool-input-delta", "tool-call", "tool-result", "text-delta"].map((kind) => kinds.indexOf(kind));
  assert.ok(order[0] >= 0);
  assert.deepEqual(order, [...order].sort((a, b) => a - b));
  assert.ok(await loop.text);
}

async function structured(model) {
  const { object } = await generateObject({ model, schema: Place, prompt: "The city is Paris. Give me JSON.", ...greedy });
  assert.deepEqual(Object.keys(object), ["city"]);
}

async function state(model) {
  const told = await generateText({ model, prompt: "My name is Anna.", ...greedy });
  const providerOptions = { openai: { previousResponseId: told.providerMetadata.openai.responseId } };
  const asked = await generateText({ model, prompt: "Who am I?", providerOptions, ...greedy });
  assert.ok(asked.usage.inputTokens > told.usage.inputTokens, "a shorter question, in a longer prompt");
}

for (const [api, parts] of [["responses", [streaming, tools, structured, state]], ["chat", [streaming, tools, structured]]]) {
  for (const part of parts) {
    await part(openai[api](name));
    console.log(`${api}.${part.name}`);
  }
}
