"""Asks a running server for turns, many at a time, through the openai client. Does not judge them."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Self

import openai

from ossia.common.errors import UserError
from router.harmony.types import Message, ToolCall
from training.judge import Said
from training.sample import prompt
from training.task import Task

LONGEST = 400
"""Tokens of a turn; no taught one comes near."""


class Client:
    """One server and the first model that it lists. At most `concurrency` requests are under way."""

    def __init__(self, url: str, concurrency: int = 32) -> None:
        self._client = openai.AsyncOpenAI(base_url=f"{url.rstrip('/')}/v1", api_key="unused", timeout=600)
        self._free = asyncio.Semaphore(concurrency)
        self.model = ""

    async def __aenter__(self) -> Self:
        self.model = (await self._client.models.list()).data[0].id
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._client.close()

    async def generate(self, task: Task, temperature: float, seed: int) -> list[int]:
        """The ids of the turn, unconstrained, the stop token included. The prompt is what the chat endpoint renders."""
        async with self._free:
            answer = await self._client.completions.create(
                model=self.model,
                prompt=prompt(task, datetime.now(UTC).date()),
                max_tokens=LONGEST,
                temperature=temperature,
                seed=seed,
                extra_body={"return_token_ids": True},
            )
        tokens: list[int] | None = getattr(answer.choices[0], "token_ids", None)
        if tokens is None:
            raise UserError(f"the server of {self.model} returns no token_ids: evaluate one that knows return_token_ids")
        return tokens

    async def chat(self, task: Task, temperature: float = 0, seed: int = 0) -> Said:
        """The turn as the chat endpoint tells it."""
        body: dict[str, Any] = {"messages": [message(each) for each in task.messages], "reasoning_effort": task.effort}
        if task.tools:
            body["tools"] = tools(task)
        async with self._free:
            answer = await self._client.chat.completions.create(
                model=self.model, max_completion_tokens=LONGEST, temperature=temperature, seed=seed, **body
            )
        choice = answer.choices[0]
        reasoning = getattr(choice.message, "reasoning_content", None) or getattr(choice.message, "reasoning", None) or ""
        calls = tuple(
            ToolCall(call.id, call.function.name, call.function.arguments)
            for call in choice.message.tool_calls or ()
            if call.type == "function"
        )
        return Said(choice.message.content or "", reasoning, calls, choice.finish_reason != "length")


def tools(task: Task) -> list[dict[str, Any]]:
    """The task's tools as the API takes them."""
    return [
        {
            "type": "function",
            "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters},
        }
        for tool in task.tools
    ]


def message(said: Message) -> dict[str, Any]:
    """A message as the API takes it."""
    body: dict[str, Any] = {"role": said.role, "content": said.content}
    if said.reasoning is not None:
        body["reasoning"] = said.reasoning
    if said.tool_calls:
        body["tool_calls"] = _calls(said.tool_calls)
    if said.tool_call_id is not None:
        body["tool_call_id"] = said.tool_call_id
    return body


def _calls(calls: Sequence[ToolCall]) -> list[dict[str, Any]]:
    return [{"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}} for call in calls]
