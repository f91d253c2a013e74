"""Streams a chat completion, the reasoning dimmed: `python examples/chat.py "Why is the sky blue?"`."""

import os
import sys

from openai import OpenAI

DIM, PLAIN = "\033[2m", "\033[0m"


def main() -> None:
    client = OpenAI(
        base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1"), api_key=os.environ.get("OPENAI_API_KEY", "none")
    )
    model = client.models.list().data[0].id
    question = " ".join(sys.argv[1:]) or "Why is the sky blue?"
    stream = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": question}], max_completion_tokens=512, stream=True
    )
    for chunk in stream:
        for choice in chunk.choices:
            if reasoning := getattr(choice.delta, "reasoning", None):
                print(f"{DIM}{reasoning}{PLAIN}", end="", flush=True)
            if choice.delta.content:
                print(choice.delta.content, end="", flush=True)
    print()


if __name__ == "__main__":
    main()
