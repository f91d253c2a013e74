"""`ossia chat`: a terminal chat over the OpenAI API, with the model's reasoning dimmed. Any server that speaks it will do."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import click
import httpx

from ossia.common.errors import UserError

CONNECT_S = 10.0
KEY = "OSSIA_API_KEY"  # variable: an argument could be read by every user of the host


class Chat:
    """One conversation with the server at `url` (without /v1)."""

    def __init__(self, client: httpx.Client, model: str, write: Callable[[str, bool], None]) -> None:
        self._client = client
        self._model = model
        self._write = write  # text, whether it is reasoning
        self._messages: list[dict[str, str]] = []

    def ask(self, text: str) -> None:
        """Sends a user's turn and writes the answer as it arrives; what came of it is remembered even if it is interrupted."""
        self._messages.append({"role": "user", "content": text})
        answer = ""
        try:
            for delta in self._deltas():
                reasoning, content = delta.get("reasoning") or "", delta.get("content") or ""
                if reasoning:
                    self._write(reasoning, True)
                if content:
                    self._write(content, False)
                answer += content
        finally:
            self._messages.append({"role": "assistant", "content": answer})

    def _deltas(self) -> Iterator[dict[str, Any]]:
        body = {"model": self._model, "messages": self._messages, "stream": True}
        with self._client.stream("POST", "/v1/chat/completions", json=body) as response:
            if response.status_code != 200:
                response.read()
                raise UserError(_refusal(response))
            for line in response.iter_lines():
                data = line.removeprefix("data: ")
                if not line.startswith("data: ") or data == "[DONE]":
                    continue
                event = json.loads(data)
                if "error" in event:
                    raise UserError(event["error"]["message"])
                yield from (choice["delta"] for choice in event["choices"])


def run(url: str, model: str | None) -> None:
    """Talks until /exit or the end of the input. Raises UserError where the server does not answer or refuses."""
    key = os.environ.get(KEY)
    headers = {"authorization": f"Bearer {key}"} if key else {}
    with httpx.Client(base_url=url, headers=headers, timeout=httpx.Timeout(None, connect=CONNECT_S)) as client:
        try:
            chat = Chat(client, model or _first_model(client), Writer())
            if sys.stdin.isatty():
                click.echo(f"{url}  (/exit or Ctrl-D ends, Ctrl-C interrupts an answer)", err=True)
            for text in _turns():
                _answer(chat, text)
        except httpx.HTTPError as error:
            raise UserError(f"{url} does not answer ({error}); start it with `ossia serve` or mend --url") from error


class Writer:
    """Prints reasoning dimmed, and a line between it and the answer. Without a terminal, click drops the colours."""

    def __init__(self) -> None:
        self._in_reasoning = False

    def __call__(self, text: str, reasoning: bool) -> None:
        if self._in_reasoning and not reasoning:
            click.echo("\n")
        self._in_reasoning = reasoning
        click.echo(click.style(text, dim=True) if reasoning else text, nl=False)


def _answer(chat: Chat, text: str) -> None:
    try:
        chat.ask(text)
    except KeyboardInterrupt:
        click.echo(click.style(" (interrupted)", dim=True), nl=False)
    click.echo()


def _turns() -> Iterator[str]:
    """What the user types, a line a turn, without empty ones."""
    if sys.stdin.isatty():
        import readline  # noqa: F401  # line editing and history in input()
    while True:
        try:
            text = input("> " if sys.stdin.isatty() else "").strip()
        except (EOFError, KeyboardInterrupt):
            return
        if text == "/exit":
            return
        if text:
            yield text


def _first_model(client: httpx.Client) -> str:
    response = client.get("/v1/models")
    if response.status_code != 200:
        raise UserError(_refusal(response))
    models = response.json()["data"]
    if not models:
        raise UserError(f"{client.base_url} serves no model yet; try again when it is ready")
    return str(models[0]["id"])


def _refusal(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"{response.url} answered {response.status_code}; mend --url"
