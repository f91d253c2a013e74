"""What a body may say: a JSON schema, a regular expression, one of several texts, or a context-free grammar, by llguidance.

JSON is written on one line, with at most one space behind each comma and colon and none elsewhere: what models write by
themselves, without the room to write blanks for ever. Properties come in the schema's order.
"""

import functools
import json
import re
import threading
from collections.abc import Callable, Sequence

import llguidance
import numpy as np
from llguidance import LLMatcher, LLParserLimits

from ossia.common.vocabulary import FIRST_SPECIAL
from workers.engine.checks import invalid
from workers.engine.grammar import Mask
from workers.grammar import masks
from workers.grammar.masks import END_OF_CONTENT, WORDS
from workers.grammar.schema import schema_grammar

MAX_BYTES = 1 << 18
"""Of one schema, expression or grammar, and of a choice's texts together."""

_STACK = 1 << 29
"""Bytes of stack to compile with. The library recurses along references, and a stack that is used up ends the process: this one
is not, by whatever `MAX_BYTES` can say. Only what is used is taken from the system."""
_LIMITS = LLParserLimits(max_lexer_states=1 << 16, step_lexer_fuel=600_000, verbose_errors=False)
"""The library's own, but for the states of a lexer, 1 or 2 kB each, of which its default allows half a gigabyte, and for the
fuel of one step, about 40 ms, three times the default: multiples within wide bounds need it, once."""
_MESSAGE = 300
"""Characters of the library's messages that are passed on."""
_ECHO = re.compile(r"^ *(?:\d+ \| .*|\^|<non-verbose/>)$", re.MULTILINE)
"""What the library repeats of the grammar in its messages."""
_SPECIAL = re.compile(r'"(?:\\.|[^"\\\n])*"|/(?:\\.|[^/\\\n])+/|//[^\n]*|#[^\n]*|(<[^<>\s]+>)')
"""Strings, expressions and comments of a Lark grammar, or else (group 1) what names special tokens."""


class Content:
    """A compiled language. One is shared by all requests that ask for it, in any threads.

    So is what the library has found out about it, its limits of time and memory included: where it has given up once, it always
    does. `spoiled` says that it has, and that the language is to be compiled anew for those who come later.
    """

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher
        self.spoiled = False

    def begin(self) -> "Body":
        return Body(self, self._matcher.deep_copy())


class Body:
    """A text of the language, token by token. Used from one thread.

    Where the library gives up on it, which it tells of a mask or of a token, nothing may come next, even after a rollback.
    """

    def __init__(self, content: Content, matcher: LLMatcher) -> None:
        self._content = content
        self._matcher = matcher
        self.length = 0  # tokens

    def mask(self, end: int) -> Mask:
        """The text's next tokens, and `end` where it may end here."""
        if self._matcher.is_stopped():
            return masks.only(end) if self.complete else self._given_up()
        mask = np.empty(WORDS, np.uint32)
        self._matcher.unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)
        if self._matcher.is_error():  # which the library makes an end of
            return self._given_up()
        ends = mask[END_OF_CONTENT >> 5] >> np.uint32(END_OF_CONTENT & 31) & 1
        return masks.ended(mask, (end,) if ends else ())

    @property
    def complete(self) -> bool:
        """Whether the text may end here."""
        return self._matcher.is_accepting()

    def accept(self, token: int) -> bool:
        """Goes on by the token; False where the text cannot."""
        accepted = token < FIRST_SPECIAL and (self._matcher.try_consume_tokens([token]) == 1 or self._matcher.is_error())
        self.length += accepted
        return accepted

    def rollback(self, length: int) -> None:
        """Takes back all but the first `length` tokens."""
        if length < self.length:
            taken = self._matcher.rollback(self.length - length)
            assert taken or self._matcher.is_error(), "tokens that were accepted can be taken back"
            self.length = length

    def forced(self, end: int) -> int | None:
        """The only token that may come next, where there is only one."""
        if self._matcher.is_stopped():
            return end if self.complete else None
        return next(iter(self._matcher.compute_ff_tokens()), None)

    @property
    def error(self) -> str:
        """Why the library has given up."""
        error = self._matcher.get_error()
        return "nothing satisfies it" if error.startswith("NoExtension") else error

    def _given_up(self) -> Mask:
        self._content.spoiled = True
        return masks.only()


def json_schema(text: str, field: str) -> Content:
    """What satisfies the schema (draft 2020-12), as JSON. Raises Refusal where the library does not hold all it says."""
    _check_size(len(text.encode()), field)
    schema, forces = schema_grammar(text, field)
    grammar = f'{{"grammars": [{{"json_schema": {schema}}}]}}' if forces else _unforced(f"start: %json {schema}")
    return _compile(grammar, field)


def regex(text: str, field: str) -> Content:
    """What the expression matches from end to end, in the syntax of Rust's regex; anchors around it say nothing more."""
    _check_size(len(text.encode()), field)
    return _compile(_unforced(f"start: /{llguidance.regex_to_lark(_unanchored(text), use_ascii='')}/"), field)


def _unanchored(pattern: str) -> str:
    pattern = pattern.removeprefix("^")
    body = pattern.removesuffix("$")
    escaped = (len(body) - len(body.rstrip("\\"))) % 2
    return pattern if escaped else body


def choice(texts: Sequence[str], field: str) -> Content:
    """One of the texts."""
    if not texts or not all(texts):
        raise invalid("a choice needs texts, none of which is empty", "INVALID_GRAMMAR", field)
    _check_size(sum(len(text.encode()) for text in texts), field)
    quoted = " | ".join(json.dumps(text).replace("\x7f", "\\u007f") for text in dict.fromkeys(texts))
    return _compile(_unforced(f"start: TEXT\nTEXT: {quoted}"), field)


def lark(text: str, field: str) -> Content:
    """What the rule `start` matches from end to end. Special tokens may not be named in it."""
    _check_size(len(text.encode()), field)
    if "%json" in text:  # whose numbers end the process, too
        raise invalid("a schema within a grammar is not supported: json_schema takes one alone", "INVALID_GRAMMAR", field)
    if named := next((match[1] for match in _SPECIAL.finditer(text) if match[1]), None):
        raise invalid(f"the grammar names the special token {named}, which no content may have", "INVALID_GRAMMAR", field)
    return _compile(_unforced(text), field)


def _unforced(text: str) -> str:
    """A Lark grammar, nothing of which is forced."""
    return json.dumps({"grammars": [{"lark_grammar": f'{text}\n%llguidance {{"no_forcing": true}}\n'}]})


def _compile(grammar: str, field: str) -> Content:
    compiled = _compiled(grammar)
    if isinstance(compiled, Content):
        return compiled
    message = " ".join(_ECHO.sub("", compiled).split())
    if len(message) > _MESSAGE:
        message = f"{message[:_MESSAGE]}..."
    raise invalid(f"the grammar cannot be enforced: {message}", "UNSUPPORTED_GRAMMAR", field)


@functools.lru_cache(128)
def _compiled(grammar: str) -> Content | str:
    """The content, or what is wrong with the grammar."""
    matchers: list[LLMatcher] = []
    tokenizer = masks.tokenizer()
    _deep(lambda: matchers.append(LLMatcher(tokenizer, grammar, log_level=0, limits=_LIMITS))).join()
    matcher = matchers[0]
    if matcher.is_error():
        return matcher.get_error()
    content = Content(matcher)
    first = content.begin()
    # The first mask takes longest: here it holds up nobody.
    return content if first.mask(END_OF_CONTENT).any() else first.error


def forget() -> None:
    """Compiles all anew that is asked for."""
    _compiled.cache_clear()


def _deep(function: Callable[[], None]) -> threading.Thread:
    """Runs the function in a thread with all the stack that it may need."""
    thread = threading.Thread(target=function, name="grammar")
    with _STACKS:
        usual = threading.stack_size(_STACK)
        try:
            thread.start()
        finally:
            threading.stack_size(usual)
    return thread


_STACKS = threading.Lock()  # of `threading.stack_size`, which is the process's


def _check_size(size: int, field: str) -> None:
    if size > MAX_BYTES:
        raise invalid(f"{size} bytes are more than the {MAX_BYTES} that a grammar may have", "GRAMMAR_TOO_LARGE", field)
