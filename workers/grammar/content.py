"""What a body may say: a JSON schema, a regular expression, one of several texts, or a context-free grammar, by llguidance.

JSON is written on one line, with at most one space behind each comma and colon and none elsewhere: what models write by
themselves, without the room to write blanks for ever. Properties come in the schema's order.
"""

import functools
import json
import re
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from weakref import WeakSet, WeakValueDictionary

import llguidance
import numpy as np
from llguidance import LLMatcher, LLParserLimits

from ossia.common.vocabulary import FIRST_SPECIAL
from workers.engine.checks import invalid
from workers.engine.grammar import Mask
from workers.grammar import gbnf, masks
from workers.grammar.masks import END_OF_CONTENT, WORDS
from workers.grammar.schema import schema_grammar

MAX_BYTES = 1 << 18
"""Of one schema, expression or grammar, and of a choice's texts together."""

_STACK = 1 << 29
"""Bytes of stack to compile with. The library recurses along references, and a stack that is used up ends the process: this one
is not, by whatever `MAX_BYTES` can say. Only what is used is taken from the system."""
_THREADS = 4  # that compile at a time
_LIMITS = LLParserLimits(max_lexer_states=1 << 14, step_lexer_fuel=600_000, verbose_errors=False)
"""The library's own, but for the states of a lexer, up to 2 kB each, of which its default allows half a gigabyte, and for the
fuel of one step, about 40 ms, three times the default: multiples within wide bounds need it, once."""
_RENEWALS = 4
"""How often a text goes on where the library has given up: to use up its limits takes half a second each time."""
_MESSAGE = 300
"""Characters of the library's messages that are passed on."""
_ECHO = re.compile(r"^ *(?:\d+ \| .*|\^|<non-verbose/>)$", re.MULTILINE)
"""What the library repeats of the grammar in its messages."""
_FORBIDDEN = re.compile(r'"(?:\\.|[^"\\\n])*"|/(?:\\.|[^/\\])+/|//[^\n]*|#[^\n]*|(<[^<>\s]+>|%json)')
"""Strings, expressions and comments of a Lark grammar, where the library sees them, or else (group 1) what may not be in it."""


class Content:
    """A compiled language. One is shared by all requests that ask for it, in any threads.

    So is what the library has found out about it, up to its limit of memory: where that is reached for one text it is for all,
    and for those that begin later. They go on with the language compiled anew.
    """

    def __init__(self, grammar: str, matcher: LLMatcher) -> None:
        self._grammar = grammar
        self._source = Source(matcher)
        self._lock = threading.Lock()

    @property
    def source(self) -> "Source":
        """What texts begin with."""
        return self._source

    def begin(self) -> "Body":
        return Body(self)

    def renew(self) -> None:
        """Compiles it anew where the library has given up on it."""
        with self._lock:
            if self._source.spoiled:
                self._source = Source(_matcher(self._grammar))


class Source:
    """A matcher at the beginning of a text, and the living texts that began with it: these share its memory."""

    def __init__(self, matcher: LLMatcher) -> None:
        self.spoiled = False  # the library has given up on one of the texts
        self._matcher = matcher
        self._texts: WeakSet[Body] = WeakSet()

    @property
    def texts(self) -> int:
        return len(self._texts)

    def begin(self, text: "Body") -> LLMatcher:
        """The text's own matcher."""
        self._texts.add(text)
        return self._matcher.deep_copy()


class Body:
    """A text of the language, token by token. Used from one thread at a time.

    Where the library gives up on it, which it tells of a mask or of a token, it is stalled: it goes on with the content
    compiled anew, up to `renewals` times. Then nothing may come next. Texts that used up the memory together share that, too:
    else each would end the sooner the more others there are.
    """

    def __init__(self, content: Content, renewals: int | None = None) -> None:
        self._content = content
        self._source = content.source
        self._matcher = self._source.begin(self)
        self._tokens: list[int] = []
        self._lost = False  # the matcher lacks some of these
        self._renewals: float = _RENEWALS if renewals is None else renewals

    @property
    def length(self) -> int:
        """Tokens of the text."""
        return len(self._tokens)

    def mask(self, end: int) -> Mask:
        """The text's next tokens, and `end` where it may end here. None, too, where the library gives up."""
        if self._lost or self._matcher.is_stopped():
            return masks.only(end) if self.complete else self._nothing()
        mask = np.empty(WORDS, np.uint32)
        self._matcher.unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)
        if self._matcher.is_error():
            return self._nothing()
        ends = mask[END_OF_CONTENT >> 5] >> np.uint32(END_OF_CONTENT & 31) & 1
        return masks.ended(mask, (end,) if ends else ())

    @property
    def ends(self) -> bool:
        """Whether the text may end here. Where the library has given up it cannot tell, and those who had a mask know."""
        return self.complete or self._failed

    @property
    def complete(self) -> bool:
        """Whether the text may end here, as far as the library knows."""
        return not self._lost and self._matcher.is_accepting()

    @property
    def stalled(self) -> bool:
        """Whether it takes `renew` for the text to go on."""
        return self._renewals > 0 and self._given_up

    def renew(self) -> None:
        """Goes on with the content compiled anew, which takes up to seconds."""
        part = self._part
        self._source.spoiled = True
        self._content.renew()
        self._source = self._content.source
        self._matcher = self._source.begin(self)
        self._lost = self._matcher.try_consume_tokens(self._tokens) < len(self._tokens)
        self._renewals = 0 if self._lost else self._renewals - part

    def accept(self, token: int) -> bool:
        """Goes on by the token; False where the text cannot."""
        accepted = token < FIRST_SPECIAL and (self._lost or self._matcher.try_consume_tokens([token]) == 1 or self._fails())
        if accepted:
            self._tokens.append(token)
        return accepted

    def rollback(self, length: int) -> None:
        """Takes back all but the first `length` tokens."""
        taken = len(self._tokens) - length
        if taken > 0:
            del self._tokens[length:]
            taken_back = self._lost or self._matcher.rollback(taken)
            assert taken_back or self._matcher.is_error(), "tokens that were accepted can be taken back"

    def forced(self, end: int) -> int | None:
        """The only token that may come next, where there is only one."""
        if self._lost or self._matcher.is_stopped():
            return end if self.complete else None
        return next(iter(self._matcher.compute_ff_tokens()), None)

    @property
    def error(self) -> str:
        """Why the library has given up."""
        return self._matcher.get_error() if self._given_up else "nothing satisfies it"

    def _fails(self) -> bool:
        """Whether a token was refused for want of room: where others have used that up, the library tells so of masks alone,
        and of these not where it forces what comes.
        """
        if not self._matcher.is_error():
            self.mask(END_OF_CONTENT)
        self._lost = not self._matcher.is_error() and self._source.spoiled
        return self._failed

    @property
    def _part(self) -> float:
        """How much of a renewal is this text's: what the library has found out is of all texts, what one step takes of one."""
        return 1 / self._source.texts if self._lost or "too many states" in self._matcher.get_error() else 1

    @property
    def _failed(self) -> bool:
        return self._lost or self._matcher.is_error()

    @property
    def _given_up(self) -> bool:
        return self._failed and not self._matcher.get_error().startswith("NoExtension")

    def _nothing(self) -> Mask:
        if self._given_up:
            self._source.spoiled = True
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
    """What the rule `start` matches from end to end, or `root` of one in GBNF. Special tokens may not be named in it."""
    _check_size(len(text.encode()), field)
    if gbnf.spoken(text):
        text = gbnf.lark(text, field)
        _check_size(len(text.encode()), field)
    found = next((match[1] for match in _FORBIDDEN.finditer(text) if match[1]), None)
    if found == "%json":  # whose numbers end the process, too
        raise invalid("a schema within a grammar is not supported: json_schema takes one alone", "INVALID_GRAMMAR", field)
    if found:
        raise invalid(f"the grammar names the special token {found}, which no content may have", "INVALID_GRAMMAR", field)
    return _compile(_unforced(text), field)


def _unforced(text: str) -> str:
    """A Lark grammar, nothing of which is forced."""
    return json.dumps({"grammars": [{"lark_grammar": f'{text}\n%llguidance {{"no_forcing": true}}\n'}]})


def _compile(grammar: str, field: str) -> Content:
    """The content; one that is in use is not compiled a second time."""
    kept = _kept()
    content = kept.get(grammar)
    if content is None:
        matcher = _matcher(grammar)
        content = Content(grammar, matcher)
        first = Body(content, renewals=0)
        # The first mask takes longest: here it holds up nobody.
        if matcher.is_error() or not first.mask(END_OF_CONTENT).any():
            message = " ".join(_ECHO.sub("", first.error).split())
            if len(message) > _MESSAGE:
                message = f"{message[:_MESSAGE]}..."
            raise invalid(f"the grammar cannot be enforced: {message}", "UNSUPPORTED_GRAMMAR", field)
        kept[grammar] = content
    return content


@functools.cache
def _kept() -> WeakValueDictionary[str, Content]:
    return WeakValueDictionary()


def _matcher(grammar: str) -> LLMatcher:
    """At the beginning of a text, or in error where the library does not take the grammar."""
    tokenizer = masks.tokenizer()
    return _deep().submit(lambda: LLMatcher(tokenizer, grammar, log_level=0, limits=_LIMITS)).result()


@functools.cache
def _deep() -> ThreadPoolExecutor:
    """Threads with all the stack that the library may need, made once: the size is set for all threads of the process."""
    threads = ThreadPoolExecutor(_THREADS, "grammar")
    together = threading.Barrier(_THREADS + 1)
    usual = threading.stack_size(_STACK)
    try:
        for _ in range(_THREADS):
            threads.submit(together.wait)  # each in a thread of its own
    finally:
        threading.stack_size(usual)
    together.wait()
    return threads


def load() -> None:
    """What all contents need, which takes a while the first time."""
    masks.load()
    _deep()


def _check_size(size: int, field: str) -> None:
    if size > MAX_BYTES:
        raise invalid(f"{size} bytes are more than the {MAX_BYTES} that a grammar may have", "GRAMMAR_TOO_LARGE", field)
