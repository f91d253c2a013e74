"""Lets the model call a function until it answers: `python examples/tools.py "What is the weather in Trento?"`."""

import json
import os
import sys

from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
MAX_CALLS = 8


def get_weather(arguments: str) -> str:
    """The tool: what it returns is what the model reads, errors included."""
    try:
        city = json.loads(arguments)["city"]
    except (ValueError, KeyError, TypeError) as error:
        return f"arguments must be an object with a city: {error!r}"
    return json.dumps({"city": city, "sky": "clear", "celsius": 21})


def main() -> None:
    client = OpenAI(
        base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1"), api_key=os.environ.get("OPENAI_API_KEY", "none")
    )
    model = client.models.list().data[0].id
    question = " ".join(sys.argv[1:]) or "What is the weather in Trento?"
    messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": question}]
    for _ in range(MAX_CALLS):
        answer = client.chat.completions.create(model=model, messages=messages, tools=[WEATHER], max_completion_tokens=512)
        message = answer.choices[0].message
        if not message.tool_calls:
            print(message.content)
            return
        # exclude_none, not a hand-made dict: the reasoning must travel back for the model to go on with its thought
        messages.append(message.model_dump(exclude_none=True))  # type: ignore[arg-type]
        for call in message.tool_calls:
            if call.type == "function":
                print(f"{call.function.name}({call.function.arguments})", file=sys.stderr)
                messages.append({"role": "tool", "tool_call_id": call.id, "content": get_weather(call.function.arguments)})
    print(f"no answer after {MAX_CALLS} calls", file=sys.stderr)


if __name__ == "__main__":
    main()
