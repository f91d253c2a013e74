"""The one rank of a simulated replica: the same leader, metrics and life, and a runner that no other rank joins."""

from typing import ClassVar

from ossia.common import vocabulary
from ossia.v1 import engine_pb2
from workers import grammar
from workers.runner.built import Built
from workers.shard import Shard
from workers.simulated import grammars
from workers.simulated.build import build


class SimulatedShard(Shard):
    reads_declarations: ClassVar[bool] = True

    def _load(self, address: str) -> Built:
        vocabulary.load()
        return build(self._spec.runner)

    def _compile(self, message: engine_pb2.Grammar, vocab_size: int) -> grammar.Compiled:
        return grammars.compile(message, vocab_size)
