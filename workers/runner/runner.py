"""Runs steps on one rank: the leader's `execute` and the others' `follow` do the same work on the same plan."""

from dataclasses import replace

import numpy as np
import torch

from workers.engine.plan import Plan, Sampled
from workers.model.batch import Batch
from workers.model.cache import Cache
from workers.model.config import ModelConfig
from workers.model.model import Model
from workers.runner.collective import Collective
from workers.runner.rows import cut, joined
from workers.runner.sampler import Sampler

NOTHING = Sampled(np.zeros(0, np.int32), np.zeros(0, np.float32), [], [])
LOGITS_BYTES = 1 << 28  # most bytes of logits at a time


class TorchRunner:
    """One rank of a replica; on rank 0 a `workers.engine.plan.Runner`. Used from one thread."""

    def __init__(
        self,
        config: ModelConfig,
        model: Model,
        cache: Cache,
        collective: Collective,
        kernels: dict[str, str],
        device: torch.device,
    ) -> None:
        self.config = config
        self.kernels = kernels
        self.kv_blocks = cache.full
        self.sliding_blocks = cache.sliding
        self._model = model
        self._cache = cache
        self._collective = collective
        self._sampler = Sampler(config.vocab_size, collective)
        self._most = rows_at_once(config.vocab_size, collective.ranks)
        self._device = device

    def execute(self, plan: Plan) -> Sampled:
        """Runs one step on every rank, leader only. Raises RuntimeError when a rank is lost or late."""
        self._collective.send(plan.pack())
        sampled = self._step(plan)
        assert sampled is not None, "execute belongs to the leader"
        return sampled

    def follow(self) -> None:
        """Runs the leader's steps until it closes. Raises RuntimeError when a rank is lost or late."""
        while (buffer := self._collective.receive()) is not None:
            self._step(Plan.unpack(buffer))
        self._collective.close()

    def close(self) -> None:
        """On the leader, lets the other ranks go; frees the cache. Raises RuntimeError when a rank is lost."""
        self._cache.layers.clear()
        self._collective.close()

    @torch.inference_mode()
    def _step(self, plan: Plan) -> Sampled | None:
        if len(plan.context_lengths) == 0:
            self._collective.beat()
            return NOTHING
        hidden = self._model(Batch.of(plan, self._device), self._cache)
        plan = self._masked(plan)
        parts = [
            self._sampler(self._model.head(hidden[start : start + self._most]), cut(plan, start, start + self._most))
            for start in range(0, len(plan.rows), self._most)
        ]
        return joined([part for part in parts if part is not None]) if self._collective.rank == 0 else None

    def _masked(self, plan: Plan) -> Plan:
        """The plan with its masks, which the leader sends behind it: they are computed while the model is."""
        if not plan.masked:
            return plan
        leads, words = self._collective.rank == 0, -(-self.config.vocab_size // 32)
        masks = plan.filled() if leads else np.empty(plan.masked * words, np.uint32)
        return replace(plan, masks=self._collective.share(masks))


def rows_at_once(vocab_size: int, ranks: int) -> int:
    """Rows whose logits a rank holds at a time, the same on every rank."""
    return max(1, LOGITS_BYTES // (4 * -(-vocab_size // ranks)))
