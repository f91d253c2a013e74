"""What a simulated model's calls are held to: all that their functions declare, for it cannot read as models do."""

from ossia.v1 import engine_pb2
from workers import grammar
from workers.engine.errors import Refusal


def compile(message: engine_pb2.Grammar, vocab_size: int) -> grammar.Compiled:
    """As `workers.grammar.compile`; arguments satisfy what functions declare as well, where a grammar can hold that."""
    whole = engine_pb2.Grammar()
    whole.CopyFrom(message)
    for function in whole.functions:
        if function.HasField("declared") and _can_be_held(function.declared, vocab_size):
            function.parameters = function.declared
        function.ClearField("declared")
    return grammar.compile(whole, vocab_size)


def _can_be_held(schema: str, vocab_size: int) -> bool:
    try:
        grammar.compile(engine_pb2.Grammar(json_schema=schema), vocab_size)
    except Refusal:
        return False
    return True
