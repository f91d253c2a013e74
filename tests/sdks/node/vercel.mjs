// Vercel's AI SDK, over both of the APIs it speaks: `node vercel.mjs URL MODEL`. What is wrong is thrown.
import assert from "node:assert/strict";
import { createOpenAI } from "@ai-sdk/openai";
import { generateObject, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const [baseURL, name] = process.argv.slice(2);
const greedy = { temperature: 0, maxRetries: 0 };
const openai = createOpenAI({ baseURL, apiKey: "any" });

for (const model of [openai.responses(name), openai.chat(name)]) {
  const hello = await generateText({ model, prompt: "Hello!", ...greedy });
  assert.equal(hello.finishReason, "stop");
  assert.ok(hello.text);

  const stream = streamText({ model, prompt: "Hello!", ...greedy, onError: ({ error }) => { throw error; } });
  let text = "";
  for await (const part of stream.textStream) text += part;
  assert.ok(text);
  assert.ok((await stream.usage).outputTokens > 0);

  const called = [];
  const weather = tool({
    description: "The weather in a city.",
    inputSchema: z.object({ city: z.string() }),
    execute: async ({ city }) => { called.push(city); return "sunny"; },
  });
  const loop = await generateText({
    model, prompt: "What is the weather in Paris?", tools: { get_weather: weather }, ...greedy, stopWhen: stepCountIs(2),
    prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? "required" : "auto" }),
  });
  assert.equal(called.length, 1);
  assert.ok(loop.text);

  const schema = z.object({ city: z.string() });
  const { object } = await generateObject({ model, schema, prompt: "The city is Paris. Give me JSON.", ...greedy });
  assert.equal(typeof object.city, "string");
  console.log(model.provider);
}
