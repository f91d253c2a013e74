"""Sends a prompt as token ids and reads token ids back: `python examples/completions_tokens.py 13225 11 2375`."""

import os
import sys

from openai import OpenAI


def main() -> None:
    client = OpenAI(
        base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1"), api_key=os.environ.get("OPENAI_API_KEY", "none")
    )
    model = client.models.list().data[0].id
    prompt = [int(token) for token in sys.argv[1:]] or [13225, 11, 2375]
    completion = client.completions.create(
        model=model, prompt=prompt, max_tokens=16, temperature=0, extra_body={"return_token_ids": True}
    )
    choice = completion.choices[0]
    extra = choice.model_extra or {}
    print("prompt:", extra["prompt_token_ids"])
    print("tokens:", extra["token_ids"])
    print("text:  ", repr(choice.text))
    print("finish:", choice.finish_reason)


if __name__ == "__main__":
    main()
