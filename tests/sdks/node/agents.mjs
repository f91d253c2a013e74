// OpenAI's Agents SDK, over both of the APIs it speaks: `node agents.mjs URL MODEL`. What is wrong is thrown.
import assert from "node:assert/strict";
import { Agent, OpenAIProvider, Runner, setTracingDisabled, tool } from "@openai/agents";
import OpenAI from "openai";
import { z } from "zod";

const [baseURL, model] = process.argv.slice(2);
setTracingDisabled(true);
const greedy = { model, modelSettings: { temperature: 0 } };
const Place = z.object({ city: z.string() });
const talker = new Agent({ name: "Talker", ...greedy });
const inputTokens = ({ rawResponses }) => rawResponses.map(({ usage }) => usage.inputTokens);

async function streaming(runner) {
  const whole = await runner.run(talker, "Hello!");
  const stream = await runner.run(talker, "Hello!", { stream: true });
  let text = "";
  for await (const part of stream.toTextStream()) text += part;
  await stream.completed;
  assert.equal(stream.finalOutput, text);
  assert.equal(whole.finalOutput, text);
}

async function tools(runner) {
  const called = [];
  const weather = tool({
    name: "get_weather",
    description: "The weather in a city.",
    parameters: Place,
    execute: ({ city }) => { called.push(city); return "sunny"; },
  });
  const settings = { model, modelSettings: { temperature: 0, toolChoice: "required" }, resetToolChoice: true };
  const agent = new Agent({ name: "Helper", instructions: "Answer.", tools: [weather], ...settings });
  const stream = await runner.run(agent, "What is the weather in Paris?", { stream: true });
  const names = [];
  for await (const event of stream) if (event.type === "run_item_stream_event") names.push(event.name);
  assert.equal(called.length, 1);
  assert.ok(names.includes("tool_called") && names.indexOf("tool_called") < names.indexOf("tool_output"), names);
  assert.ok(stream.finalOutput);
  const [before, after] = inputTokens(stream);
  assert.ok(after > before, "the second prompt holds the call and its result");
}

async function structured(runner) {
  const result = await runner.run(new Agent({ name: "Writer", ...greedy, outputType: Place }), "The city is Paris. Give me JSON.");
  assert.deepEqual(Object.keys(result.finalOutput), ["city"]);
}

async function state(runner) {
  const first = await runner.run(talker, "My name is Anna.");
  const second = await runner.run(talker, "Who am I?", { previousResponseId: first.lastResponseId });
  const [[told], [asked]] = [inputTokens(first), inputTokens(second)];
  assert.ok(asked > told, "a shorter question, in a longer prompt");
}

for (const [useResponses, parts] of [[true, [streaming, tools, structured, state]], [false, [streaming, tools, structured]]]) {
  const openAIClient = new OpenAI({ baseURL, apiKey: "any", maxRetries: 0 });
  const runner = new Runner({ modelProvider: new OpenAIProvider({ openAIClient, useResponses }) });
  for (const part of parts) {
    await part(runner);
    console.log(`${useResponses ? "responses" : "chat"}.${part.name}`);
  }
}
