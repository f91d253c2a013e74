"""The answer of POST /v1/completions: prompts as they are, tokens and text as they come."""

from dataclasses import dataclass, field
from typing import ClassVar, Self

from ossia.common.vocabulary import Detokenizer
from ossia.v1 import engine_pb2
from router.gateway.answer import Answer
from router.gateway.choice import Choice, cut_off
from router.gateway.errors import Json
from router.gateway.generation import Source
from router.gateway.logprobs import Logprobs
from router.gateway.schema_completions import CompletionBody
from router.gateway.stop import StopStrings


@dataclass
class CompletionPiece:
    """What one delta added. `tokens` are output; text and log probabilities also the prompt's, where it is echoed."""

    text: str = ""
    tokens: list[int] = field(default_factory=list)
    logprobs: Logprobs = field(default_factory=Logprobs)
    finish: str | None = None

    def add(self, later: Self) -> None:
        self.text += later.text
        self.tokens += later.tokens
        self.logprobs += later.logprobs
        self.finish = later.finish


class CompletionChoice(Choice[CompletionPiece]):
    """One output. Fed token by token, so that it does not depend on how deltas were merged on the way."""

    def __init__(
        self, source: Source, body: CompletionBody, submit: engine_pb2.Submit, card: engine_pb2.DescribeResponse
    ) -> None:
        super().__init__(source, submit, body.names)
        self._stop_tokens = frozenset(body.stop_token_ids or ()).union(() if body.ignore_eos else card.stop_token_ids)
        self._stop = StopStrings(body.stop or ())
        self._detokenizer = Detokenizer()
        self._length = 0  # characters detokenized, withheld ones included
        self._to_echo = len(submit.prompt) if body.echo else 0  # tokens of the prompt
        self._scored = body.logprobs is not None

    def _read(self, delta: engine_pb2.Delta) -> CompletionPiece:
        piece = CompletionPiece()
        if self._to_echo:
            self._echo(piece, delta)
        for index, token in enumerate(delta.tokens):
            piece.tokens.append(token)
            if delta.logprobs:
                piece.logprobs.add(token, delta.logprobs[index], self._length)
            piece.text += self._stop.feed(self._text(token))
            if self._stop.matched:
                break
        if delta.finish and not self._stop.matched:
            piece.text += self._stop.feed(self._detokenizer.close()) + self._stop.flush()
            piece.finish = "length" if cut_off(delta) else "stop"
        if self._stop.matched:
            piece.finish = "stop"
        self.usage.output += len(piece.tokens)
        return piece

    def _echo(self, piece: CompletionPiece, delta: engine_pb2.Delta) -> None:
        """Tells more of the prompt: with log probabilities the tokens that have theirs, of which the first has none."""
        begin = len(self.prompt) - self._to_echo
        if self._scored:
            entries = [*([None] if begin == 0 else []), *delta.prompt_logprobs]
            tokens = self.prompt[begin : begin + len(entries)]
            for token, likely in zip(tokens, entries, strict=True):
                piece.logprobs.add(token, likely, self._length)
                piece.text += self._detokenized(token)
        else:
            tokens = self.prompt
            piece.text = self._detokenized(*tokens)
        self._to_echo -= len(tokens)
        if not self._to_echo:
            rest = self._detokenizer.close()
            self._length += len(rest)
            piece.text += rest

    def _text(self, token: int) -> str:
        """Tokens that end generation have no text, wherever they come."""
        return "" if token in self._stop_tokens else self._detokenized(token)

    def _detokenized(self, *tokens: int) -> str:
        text = self._detokenizer.feed(tokens)
        self._length += len(text)
        return text


class CompletionAnswer(Answer[CompletionPiece]):
    """The answer to one CompletionBody; a choice a Submit."""

    prefix: ClassVar[str] = "cmpl"
    objects: ClassVar[tuple[str, str]] = ("text_completion", "text_completion")

    def __init__(
        self, source: Source, body: CompletionBody, submits: list[engine_pb2.Submit], card: engine_pb2.DescribeResponse
    ) -> None:
        super().__init__(body, [CompletionChoice(source, body, submit, card) for submit in submits], card)
        self._with_logprobs = body.logprobs is not None
        self._with_ids = bool(body.return_token_ids)

    def _told(self, index: int, piece: CompletionPiece, first: bool) -> list[Json]:
        logprobs = piece.logprobs.body() if self._with_logprobs else None
        choice: Json = {"index": index, "text": piece.text, "logprobs": logprobs, "finish_reason": piece.finish}
        if self._with_ids:
            choice["prompt_token_ids"] = list(self._choices[index].prompt) if first else None
            choice["token_ids"] = piece.tokens
        return [choice]

    def _gathered(self, index: int, whole: CompletionPiece) -> Json:
        (choice,) = self._told(index, whole, first=True)
        return choice
