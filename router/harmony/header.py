"""What a message header says, right or wrong: where its body goes. Pure functions over the header's text.

A header is spelled as a string in which each byte of ordinary tokens is one character (latin-1) and special tokens are
characters beyond those, so that nothing is lost and no text can pass for a special token.
"""

import enum
import re
from dataclasses import dataclass, replace
from typing import Literal, cast

START, CHANNEL, CONSTRAIN = "\u2401", "\u2402", "\u2403"
"""How `<|start|>`, `<|channel|>` and `<|constrain|>` are spelled inside a header."""

_CHANNELS = r"(?:analysis|commentary|final)"
_ADDRESS = r"[\w.:/-]+"
_WORD = rf"[^\s{START}{CHANNEL}{CONSTRAIN}]+"
_CANONICAL = re.compile(
    rf"{START}assistant(?: to={_ADDRESS})?{CHANNEL}{_CHANNELS}(?: to={_ADDRESS})?(?: ?{CONSTRAIN}\w+| json| code)? ?", re.ASCII
)
_TRUNCATED = re.compile(
    rf"(?:{START}\s*(?:assistant)?)?(?:\s*to=\s*{_ADDRESS})?(?:\s*{CHANNEL}\s*{_CHANNELS}?)*(?:\s*to=\s*{_ADDRESS})?"
    rf"(?:\s*{CONSTRAIN}\s*[a-z]*|\s+(?:json|code)\b)?",
    re.ASCII,
)
_RECIPIENT = re.compile(rf"to=\s*({_WORD})|(?<=[\s{START}])(functions\.{_WORD})", re.ASCII)
_FOREIGN = re.compile(
    rf"{START}\s*(?:(?:user|system|developer|tool)\b|(?!\s|assistant(?!{_WORD})).*\bto=assistant\b)", re.ASCII | re.DOTALL
)
_NAME = re.compile(_ADDRESS, re.ASCII)
_PLACED = re.compile(rf"{START}\s*(?:assistant)?|[{CHANNEL}{CONSTRAIN}]\s*(?:{_WORD})?", re.ASCII)
"""What is known by its place."""
_CONTENT_TYPE = re.compile(rf"{CONSTRAIN}\s*(\w{{1,64}})|\s(json|code)\s*$", re.ASCII)
_MAX_NAME = 256
_WORDS = ("assistant", "analysis", "commentary", "final", "json", "code", "to=")
_NOBODY = ("assistant", "user", "all")
"""Recipients that are no tools."""


Channel = Literal["analysis", "commentary", "final"]


class Target(enum.Enum):
    """Where a body goes: to the caller as reasoning, text or a tool's arguments, or nowhere, when another role is played."""

    REASONING = "reasoning"
    TEXT = "text"
    CALL = "call"
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True)
class Header:
    """`name` is the tool's, for a call. `content_type` is such as `json`, None where the header says none. `body` (latin-1) is
    what stood in the header but belongs to the body.
    """

    target: Target
    channel: Channel = "final"
    name: str = ""
    content_type: str | None = None
    body: str = ""
    canonical: bool = False


def complete(text: str) -> Header:
    """Reads a header that `<|message|>` ended, whatever else is in it. The first recipient and the last channel count."""
    canonical = _CANONICAL.fullmatch(text) is not None and text.count("to=") < 2
    if _FOREIGN.match(text):
        return Header(Target.FOREIGN)
    bare = _RECIPIENT.sub("", text)
    channels = re.findall(rf"{CHANNEL}\s*({_CHANNELS})", bare) or re.findall(_CHANNELS, bare) or ["final"]
    channel = cast(Channel, channels[-1])
    found = _CONTENT_TYPE.search(text)
    content_type = found and (found[1] or found[2])
    if name := _tool(text) or ("" if canonical or channel == "analysis" else _bare(text)):
        return Header(Target.CALL, channel, name, content_type, canonical=canonical)
    target = Target.REASONING if channel == "analysis" else Target.TEXT
    return Header(target, channel, content_type=content_type, canonical=canonical)


def truncated(text: str) -> Header:
    """Reads a header that `<|message|>` did not end: what cannot belong to a header is the beginning of the body."""
    match = _TRUNCATED.match(text)
    end = match.end() if match else 0
    body = re.sub(f"[{START}{CHANNEL}{CONSTRAIN}]", "", text[end:]).lstrip(" ")
    return replace(complete(text[:end]), body=body, canonical=False)


def may_begin(text: str) -> bool:
    """Whether ordinary text, before any special token, may still turn out to be a header."""
    *words, last = text.split() or [""]
    if text[-1:].isspace():
        words, last = [*words, last], ""
    return all(word in _WORDS or word.startswith("to=") for word in words if word) and (
        last.startswith("to=") or any(word.startswith(last) for word in _WORDS)
    )


def _tool(text: str) -> str:
    """The name of the tool that the header addresses, `functions.` taken off; empty where it addresses none."""
    return next(filter(None, (_named(match[1] or match[2]) for match in _RECIPIENT.finditer(text))), "")


def _bare(text: str) -> str:
    """The same where `to=` is missing: as for oss-harmony, one word alone is the recipient, or the first of two."""
    words = [] if "to=" in text else re.findall(_WORD, _PLACED.sub(" ", text), re.ASCII)
    return _named(words[0]) if 0 < len(words) <= 2 and words[0] not in _WORDS else ""


def _named(address: str) -> str:
    """The tool of that address, which what no name holds ends; empty where it is none."""
    function = address.startswith("functions.")
    while address.startswith("functions."):
        address = address.removeprefix("functions.")
    name = _NAME.match(address)
    if name is None or len(name[0]) > _MAX_NAME or (name[0] in _NOBODY and not function):
        return ""
    return name[0]
