"""Grammars in GBNF, held to as whole outputs."""

import json
import random
import time

import pytest

from ossia.common.vocabulary import RETURN, SIZE, encode
from ossia.v1 import engine_pb2
from tests.workers.grammar.walks import refuses, start, text, walk
from workers import grammar
from workers.engine.errors import Cause, Refusal
from workers.grammar import gbnf

JSON = r"""
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws

object ::=
  "{" ws (
            string ":" ws value
    ("," ws string ":" ws value)*
  )? "}" ws

array  ::=
  "[" ws (
            value
    ("," ws value)*
  )? "]" ws

string ::=
  "\"" (
    [^"\\\x7F\x00-\x1F] |
    "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) # escapes
  )* "\"" ws

number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws

# Optional space: by convention, applied in this grammar after literal chars when allowed
ws ::= | " " | "\n" [ \t]{0,20}
"""
"""As llama.cpp has it (grammars/json.gbnf), but for the exponents of numbers, which may be long there."""
SQL = """root ::= select_statement
select_statement ::= "SELECT " column " from " table " where " condition
column ::= "col_1 " | "col_2 "
table ::= "table_1 " | "table_2 "
condition ::= column "= " number
number ::= "1 " | "2 "
"""


def message(spelled: str) -> engine_pb2.Grammar:
    return engine_pb2.Grammar(lark=spelled)


def refusal(spelled: str) -> Refusal:
    with pytest.raises(Refusal) as caught:
        grammar.compile(message(spelled), SIZE)
    assert (caught.value.cause, caught.value.field) == (Cause.INVALID, "grammar.lark")
    return caught.value


@pytest.mark.parametrize(
    ("spelled", "held", "others"),
    [
        (JSON, ['{"a": [1, 2.5e-3, true], "b\\n": {"c": null}}', "{}", '{"é":""}\n\t'], ["[1]", '{"a" 1}', '{"a":01}']),
        (SQL, ["SELECT col_1  from table_2  where col_1 = 1 "], ["SELECT col_3  from table_2  where col_1 = 1 "]),
        ('root ::= [a-z]* "end"', ["end", "abcend", "endend"], ["ab", "ENDend"]),
        ('root ::= ([^\\n-] | "\\u00e9\\U0001F600\\x41")+ .', ["é😀A\n", "ab-"], ["a\nb", "-"]),
        ("root ::= [a-cx-] [+--]", ["b,", "x-", "-+"], ["d,", "a."]),
        ('root ::= ( | "a" | ) "b" x?\nx ::= "c" x | "d"', ["b", "ab", "bccd"], ["aab", "bcc"]),
        ('root ::= "a"\n  x\n  | "b"\nx ::= [0-9]{2,} ("," [0-9]{ 1 , 2 })*', ["a12,3,45", "b"], ["a1", "a12,345"]),
        ('expr-1 ::= "\'/+\\""\r\nroot ::= expr-1 [\\]a^-] root | expr-1 # and so on', ["'/+\"^'/+\"-'/+\""], ["'/+\"b'/+\""]),
        ('root ::= [^] "\\[\\]\\t" [&~&]{2} ""', ["\n[]\t&~"], ["[]\t&&", "x[]\t&"]),
        ('root ::= Root\nRoot ::= "a" ROOT\nROOT ::= "b" | Root', ["ab", "aab"], ["a", "ba"]),
        ('root::="a"{3}', ["aaa"], ["aa", "aaaa"]),
    ],
)
def test_what_is_written_is_what_the_grammar_says(spelled: str, held: list[str], others: list[str]) -> None:
    for written in held:
        assert not refuses(start(message(spelled)), [*encode(written), RETURN])
    for written in others:
        assert refuses(start(message(spelled)), [*encode(written), RETURN])


def test_all_that_is_drawn_is_what_the_grammar_says() -> None:
    ended = 0
    for seed in range(30):
        *tokens, last = walk(start(message(JSON)), random.Random(seed), limit=200, ending=0.9)
        if last == RETURN:
            assert isinstance(json.loads(text(tokens)), dict)
            ended += 1
    assert ended > 5


@pytest.mark.parametrize(
    "spelled", ['start: "root ::= a"', 'start: "a"  // root ::= "b"\n// root ::= "b"', 'start: x\nx: "a"\n | "b"\n# y ::= "c"']
)
def test_larks_form_is_left_as_it_is(spelled: str) -> None:
    assert not gbnf.spoken(spelled)
    walk(start(message(spelled)), random.Random(0))


@pytest.mark.parametrize(
    ("spelled", "told"),
    [
        ('x ::= "a"', "no rule 'root'"),
        ("root ::= y", "names the rule 'y'"),
        ('root ::= "a"\nroot ::= "b"', "line 2 of the grammar: the rule 'root' is there already"),
        ('root ::= "a"\n\n x ::= ("b"', "line 3 of the grammar: a group"),
        ('root ::= ("a"\nx ::= "b"', "line 2 of the grammar: a group of the rule before"),
        ('root ::= "a")', "a group is closed"),
        ('root ::= "a', "no part of a rule"),
        ('root ::= "a" <|end|>', "'<|end|>' is no part of a rule"),
        ("root ::= %json", "no part of a rule"),
        ('"a"\nroot ::= "b"', "a rule begins with its name"),
        ("root ::= | * x\nx ::=", "nothing that * repeats"),
        ('root ::= "a"{2,1}', "{2,1} repeats"),
        ('root ::= "a"{10001}', "{10001} repeats"),
        ('root ::= "a"{,3}', "no part of a rule"),
        ("root ::= []", "a class has no character"),
        ("root ::= [z-a]", "the range z-a"),
        ('root ::= "\\d"', "'\\\\d' is no character"),
        ('root ::= "\\uD800"', "\\uD800 is no character"),
        ('root ::= "\\U00110000"', "\\U00110000 is no character"),
        ("root ::= root", "nothing satisfies it"),
    ],
)
def test_mistakes_are_told_with_their_line(spelled: str, told: str) -> None:
    assert told in refusal(spelled).message


LINKS = "\n".join(f"r{number} ::= r{number + 1} r{number + 1}" for number in range(60))


@pytest.mark.parametrize(
    "spelled",
    [
        "root ::= " + "(" * 5000 + '"a"' + ")" * 5000,
        f'root ::= r0\n{LINKS}\nr60 ::= "a"',
        f'root ::= r0\n{LINKS}\nr60 ::= "a" |',
        "root ::= r0\n" + "\n".join(f"r{number} ::= r{number + 1}" for number in range(9000)) + '\nr9000 ::= "a"',
        "root ::= ((([a-z]{10000}){10000}){10000})",
        'root ::= root root | "a" | ""',
        'root ::= (""*)*',
        "root ::= " + "|" * 100_000,
        "root ::= " + "[!]" * 80_000,
        "root ::= " + '"' * 200_001,
        "root ::= " + "a" * 200_000,
        "root ::= " + "[" * 200_000,
        "root ::= [" + "!" * 50_000 + "]",
    ],
    ids=[
        "groups",
        "doubling",
        "nothing",
        "chain",
        "repeats",
        "ambiguous",
        "empty",
        "choices",
        "classes",
        "quotes",
        "name",
        "open",
        "class",
    ],
)
def test_hostile_grammars_hold_up_nobody(spelled: str) -> None:
    begin = time.thread_time()
    try:
        walk(start(message(spelled)), random.Random(0), limit=20)
    except Refusal as refusal:
        assert refusal.field == "grammar.lark"
    assert time.thread_time() - begin < 2
