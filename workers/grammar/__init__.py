"""What an output is held to: masks over the vocabulary, behind `workers.engine.grammar`. No torch.

A harmony turn is an automaton over tokens (`headers`, `turn`) whose bodies are free or held to a content (`content`), a JSON
schema, regular expression, choice or context-free grammar, by llguidance.
"""

from workers.grammar.compiler import Compiled, compile
from workers.grammar.content import load

__all__ = ["Compiled", "compile", "load"]
