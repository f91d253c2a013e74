// OpenAI's Agents SDK, over both of the APIs it speaks: `node agents.mjs URL MODEL`. What is wrong is thrown.
import assert from "node:assert/strict";
import { Agent, OpenAIProvider, Runner, setTracingDisabled, tool } from "@openai/agents";
import OpenAI from "openai";
import { z } from "zod";

const [baseURL, model] = process.argv.slice(2);
setTracingDisabled(true);

for (const useResponses of [true, false]) {
  const called = [];
  const weather = tool({
    name: "get_weather",
    description: "The weather in a city.",
    parameters: z.object({ city: z.string() }),
    execute: ({ city }) => { called.push(city); return "sunny"; },
  });
  const openAIClient = new OpenAI({ baseURL, apiKey: "any", maxRetries: 0 });
  const runner = new Runner({ modelProvider: new OpenAIProvider({ openAIClient, useResponses }) });
  const settings = { modelSettings: { temperature: 0, toolChoice: "required" }, resetToolChoice: true };
  const agent = new Agent({ name: "Helper", instructions: "Answer.", model, tools: [weather], ...settings });
  const result = await runner.run(agent, "What is the weather in Paris?");
  assert.equal(called.length, 1);
  assert.ok(result.finalOutput);
  const stream = await runner.run(new Agent({ name: "Talker", model, modelSettings: { temperature: 0 } }), "Hello!", { stream: true });
  let text = "";
  for await (const part of stream.toTextStream()) text += part;
  await stream.completed;
  assert.equal(stream.finalOutput, text);
  console.log(useResponses ? "responses" : "chat");
}
