"""How fast, and how forgiving, the harmony parser is: parses mutated turns and prints what came of it as JSON.

    python -m benchmarks.parser [--streams 1000000] [--seed 0]

Half of the streams are fed one token at a time, half in steps of up to 8. Exits with 1 where there are `exceptions`.
Times are the processor's: `us_per_token` covers headers and bodies, `us_per_body_token` one long answer fed a token at a time.
"""

import argparse
import json
import random
import sys
import time
from collections.abc import Sequence

from ossia.common import vocabulary
from ossia.common.vocabulary import CALL, CHANNEL, CONSTRAIN, END, FIRST_SPECIAL, MESSAGE, RETURN, SIZE, START
from router.harmony.parse import Parser

WORDS = 'The weather in Trento is mild, says 🜁 the tool; so take {"a": [1, 2]} a coat. to=functions.f final analysis'
SPECIAL = (CALL, CHANNEL, CONSTRAIN, END, MESSAGE, RETURN, START)


class Source:
    """Draws turns: valid ones, then mutated by up to five edits."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._words = vocabulary.encode(WORDS)
        self._headers = [
            [CHANNEL, *vocabulary.encode(f"{channel}{recipient}"), *kind, MESSAGE]
            for channel in ("analysis", "commentary", "final")
            for recipient in ("", " to=functions.get_weather", " to=browser.search")
            for kind in ([], [CONSTRAIN, *vocabulary.encode("json")])
        ]
        self._next = [START, *vocabulary.encode("assistant")]

    def turn(self) -> list[int]:
        """One mutated turn of one to three messages."""
        stream: list[int] = []
        for index in range(self._random.randint(1, 3)):
            stream += [END, *self._next] if index else []
            stream += self._random.choice(self._headers) + self._random.choices(self._words, k=self._random.randint(0, 60))
        stream.append(self._random.choice((END, CALL, RETURN)))
        for _ in range(self._random.randint(0, 5)):
            place = self._random.randint(0, len(stream))
            stream[place : place + self._random.randint(0, 2)] = [self._token() for _ in range(self._random.randint(0, 2))]
        return stream

    def steps(self, stream: Sequence[int]) -> list[Sequence[int]]:
        """The stream in steps of one token, or of up to eight."""
        size = self._random.choice((1, self._random.randint(2, 8)))
        return [stream[place : place + size] for place in range(0, len(stream), size)]

    def _token(self) -> int:
        return self._random.choice(
            (
                self._random.choice(SPECIAL),
                self._random.choice(self._words),
                self._random.randrange(FIRST_SPECIAL),
                self._random.randrange(FIRST_SPECIAL, SIZE + 100),
            )
        )


def body_speed(tokens: int) -> float:
    """Microseconds of processor time a token of one long answer, fed one token at a time."""
    parser = Parser()
    parser.feed([CHANNEL, *vocabulary.encode("final"), MESSAGE])
    words = vocabulary.encode(WORDS)
    steps = [[words[place % len(words)]] for place in range(tokens)]
    begin = time.process_time()
    for step in steps:
        parser.feed(step)
    return (time.process_time() - begin) / tokens * 1e6


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--streams", type=int, default=1_000_000)
    arguments.add_argument("--seed", type=int, default=0)
    options = arguments.parse_args()
    source = Source(options.seed)
    tokens = exceptions = repaired = 0
    seconds = 0.0
    for _ in range(options.streams):
        steps = source.steps(source.turn())
        tokens += sum(map(len, steps))
        begin = time.process_time()
        try:
            parser = Parser()
            for step in steps:
                parser.feed(step)
            parser.close()
            repaired += parser.repairs > 0
        except Exception as error:  # counting them is the point
            exceptions += 1
            print(f"{type(error).__name__}: {error}: {steps}")
        seconds += time.process_time() - begin
    result = {
        "streams": options.streams,
        "repaired": repaired,
        "exceptions": exceptions,
        "tokens": tokens,
        "tokens_per_s": round(tokens / seconds),
        "us_per_token": round(seconds / tokens * 1e6, 2),
        "us_per_body_token": round(body_speed(200_000), 2),
    }
    print(json.dumps(result))
    sys.exit(exceptions > 0)


if __name__ == "__main__":
    main()
