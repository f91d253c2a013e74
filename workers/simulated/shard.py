"""The one rank of a simulated replica: the same leader, metrics and life, and a runner that no other rank joins."""

from ossia.common import vocabulary
from workers.runner.built import Built
from workers.shard import Shard
from workers.simulated.build import build


class SimulatedShard(Shard):
    def _load(self, address: str) -> Built:
        vocabulary.load()
        return build(self._spec.runner)
