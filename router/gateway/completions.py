"""POST /v1/completions: prompts as they are, tokens and text as they come; one pipeline for streams and whole answers."""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field

from ossia.v1 import engine_pb2
from router.gateway.errors import Json, internal
from router.gateway.generation import FINISH, Source, Usage
from router.gateway.logprobs import Logprobs
from router.gateway.models import fingerprint
from router.gateway.schema_completions import DEFAULT_MAX_TOKENS, CompletionBody
from router.gateway.stop import StopStrings
from router.harmony.vocabulary import Detokenizer


@dataclass
class Piece:
    """What one delta added to one choice; `finish` in the choice's last."""

    text: str = ""
    tokens: list[int] = field(default_factory=list)
    logprobs: Logprobs = field(default_factory=Logprobs)
    finish: str | None = None


class Choice:
    """One prompt's output. Fed token by token, so that it does not depend on how deltas were merged on the way."""

    def __init__(self, source: Source, body: CompletionBody, prompt: list[int], card: engine_pb2.DescribeResponse) -> None:
        self._source = source
        self.prompt = prompt
        self._names = body.names
        self._submit = source.submit(prompt, body.sampling())
        if body.max_tokens is None:
            self._submit.sampling.max_tokens = min(DEFAULT_MAX_TOKENS, card.max_context - len(prompt))
        self._stop_tokens = frozenset(card.stop_token_ids)
        self._stop = StopStrings(body.stop or ())
        self._detokenizer = Detokenizer()
        self._length = 0  # characters detokenized, withheld ones included
        self.usage = Usage(len(prompt))

    async def pieces(self) -> AsyncGenerator[Piece, None]:
        """One piece a delta. The engine is let go before the last is told, for its reader may be slow."""
        async with aclosing(self._source.generate(self._submit, self._names)) as deltas:
            async for delta in deltas:
                piece = self._piece(delta)
                if piece.finish is not None:
                    break
                yield piece
            else:
                raise internal()  # the engine ended without saying how
        yield piece

    def _piece(self, delta: engine_pb2.Delta) -> Piece:
        piece = Piece()
        for index, token in enumerate(delta.tokens):
            piece.tokens.append(token)
            if delta.logprobs:
                piece.logprobs.add(token, delta.logprobs[index], self._length)
            piece.text += self._text(token)
            if self._stop.matched:
                break
        if delta.finish and not self._stop.matched:
            piece.text += self._rest()
            piece.finish = "length" if delta.finish == FINISH.FINISH_REASON_LENGTH else "stop"
        if self._stop.matched:
            piece.finish = "stop"
        self.usage.output += len(piece.tokens)
        self.usage.cached = delta.usage.cached_tokens
        return piece

    def _text(self, token: int) -> str:
        """Stop tokens have no text; they end generation wherever they come."""
        text = "" if token in self._stop_tokens else self._detokenizer.feed((token,))
        self._length += len(text)
        return self._stop.feed(text)

    def _rest(self) -> str:
        return self._stop.feed(self._detokenizer.close()) + self._stop.flush()


class CompletionAnswer:
    """The answer to one CompletionBody, to be taken once: as `chunks()` or as `whole()`. A choice a prompt."""

    def __init__(
        self, source: Source, body: CompletionBody, prompts: list[list[int]], card: engine_pb2.DescribeResponse
    ) -> None:
        self._body = body
        self._choices = [Choice(source, body, prompt, card) for prompt in prompts]
        self._head: Json = {
            "id": f"cmpl-{secrets.token_hex(16)}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": body.model,
            "system_fingerprint": fingerprint(card),
        }

    @property
    def usage(self) -> Usage:
        return sum((choice.usage for choice in self._choices), Usage(0))

    async def chunks(self) -> AsyncGenerator[list[Json], None]:
        """Events of the stream, one a delta."""
        begun: set[int] = set()
        async with aclosing(interleave([choice.pieces() for choice in self._choices])) as pieces:
            async for index, piece in pieces:
                choice = self._told(index, piece, with_prompt=index not in begun)
                begun.add(index)
                usage: Json = {"usage": None} if self._body.include_usage else {}
                yield [{**self._head, "choices": [choice], **usage}]
        if self._body.include_usage:
            yield [{**self._head, "choices": [], "usage": self.usage.body()}]

    async def whole(self) -> Json:
        """The answer as one object."""
        wholes = [Piece() for _ in self._choices]
        async with aclosing(interleave([choice.pieces() for choice in self._choices])) as pieces:
            async for index, piece in pieces:
                whole = wholes[index]
                whole.text += piece.text
                whole.tokens += piece.tokens
                whole.logprobs += piece.logprobs
                whole.finish = piece.finish
        choices = [self._told(index, whole, with_prompt=True) for index, whole in enumerate(wholes)]
        return {**self._head, "choices": choices, "usage": self.usage.body()}

    def _told(self, index: int, piece: Piece, with_prompt: bool) -> Json:
        choice: Json = {"index": index, "text": piece.text, "logprobs": None, "finish_reason": piece.finish}
        if self._body.logprobs is not None:
            choice["logprobs"] = piece.logprobs.body()
        if self._body.return_token_ids:
            choice["prompt_token_ids"] = self._choices[index].prompt if with_prompt else None
            choice["token_ids"] = piece.tokens
        return choice


async def interleave(streams: Sequence[AsyncGenerator[Piece, None]]) -> AsyncGenerator[tuple[int, Piece], None]:
    """Items of all streams as they come, each with its stream's index. One item of each is asked for ahead, no more."""
    async with AsyncExitStack() as stack:
        for stream in streams:
            await stack.enter_async_context(aclosing(stream))
        pending = {asyncio.ensure_future(anext(stream)): index for index, stream in enumerate(streams)}
        stack.push_async_callback(_cancel, pending)
        while pending:
            done, _ = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                index = pending.pop(task)
                if isinstance(task.exception(), StopAsyncIteration):
                    continue
                yield index, task.result()
                pending[asyncio.ensure_future(anext(streams[index]))] = index


async def _cancel(pending: dict[asyncio.Task[Piece], int]) -> None:
    """Generators can be closed only once nothing waits for their next item."""
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
