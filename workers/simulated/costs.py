"""How long a step takes: a + b x prefilled tokens + c x decoded tokens + d x tokens of context that are read.

The defaults are what a device's data sheet allows, dense bfloat16 and no sparsity: nothing reaches its peaks, and no device was
measured. Figures of a device that was can be given instead.
"""

import math
from dataclasses import dataclass

from ossia.common.errors import UserError
from workers.checkpoint.names import is_packed, tensors
from workers.engine.plan import Plan
from workers.model.config import ModelConfig
from workers.model.layout import Layout, Shard
from workers.runner.spec import ITEM_BYTES

DTYPE = "bfloat16"  # of what is no expert, KV cache included


@dataclass(frozen=True)
class Device:
    """Peaks of one device."""

    bandwidth: float  # of its memory, bytes/s
    flops: float  # dense bfloat16, 1/s
    memory: float  # bytes


DEVICES = {
    "A100": Device(2.039e12, 312e12, 80e9),  # SXM, 80 GB
    "B200": Device(8e12, 2250e12, 180e9),
    "H100": Device(3.35e12, 989e12, 80e9),  # SXM
    "H200": Device(4.8e12, 989e12, 141e9),
    "L40S": Device(0.864e12, 362e12, 48e9),
    "MI300X": Device(5.3e12, 1307e12, 192e9),
}


@dataclass(frozen=True)
class Costs:
    """Seconds."""

    step: float  # a step, whatever it computes
    prefill: float  # a token of a prompt
    decode: float  # a token of output
    context: float  # a token that the layers which see all of the context read

    def step_s(self, plan: Plan) -> float:
        """What the plan takes. The last token of each of its sequences counts as decoded, those before it as prefilled."""
        decodes = len(plan.context_lengths)
        prefills = len(plan.tokens) - decodes
        context = int(plan.context_lengths.sum())
        return self.step + self.prefill * prefills + self.decode * decodes + self.context * context


@dataclass(frozen=True)
class Weights:
    """Of a released checkpoint, by how a step reads them."""

    dense_bytes: int  # all but the experts and the embedding, of which a step reads its tokens' rows alone
    expert_bytes: int  # of all experts, in MXFP4
    embedding_bytes: int
    active: float  # parameters that one token is multiplied with

    @property
    def total_bytes(self) -> int:
        return self.dense_bytes + self.expert_bytes + self.embedding_bytes


def device(name: str) -> Device:
    """Raises UserError where it is not known."""
    known = {each.lower(): found for each, found in DEVICES.items()}
    if name.lower() not in known:
        raise UserError(f"no device {name} is known: use one of {', '.join(DEVICES)}, and --costs for the times of another")
    return known[name.lower()]


def weights(config: ModelConfig) -> Weights:
    shapes = tensors(config, packed=True)
    embedding = math.prod(shapes["model.embed_tokens.weight"])
    experts = sum(math.prod(shape) for name, shape in shapes.items() if is_packed(name))
    blocks = sum(math.prod(shape) for name, shape in shapes.items() if name.endswith("_blocks"))
    dense = sum(math.prod(shape) for name, shape in shapes.items() if not is_packed(name)) - embedding
    active = dense + 2 * blocks * config.num_experts_per_tok / config.num_local_experts
    item = ITEM_BYTES[DTYPE]
    return Weights(item * dense, experts, item * embedding, active)


def costs(config: ModelConfig, device: Device, devices: int, max_sequences: int, token_budget: int) -> Costs:
    """What `devices` of this kind take together, talking to each other for nothing.

    A step reads what is dense once. A full batch of decodes reads those experts that its tokens are routed to, none of which is
    likelier than another, and each decode is charged its share; a whole budget of prefill reads all of them.
    """
    held = weights(config)
    bandwidth, flops = device.bandwidth * devices, device.flops * devices
    missed = (1 - config.num_experts_per_tok / config.num_local_experts) ** max_sequences
    compute = 2 * held.active / flops
    token_bytes, _ = Shard(config, Layout(), 0).block_bytes(1, ITEM_BYTES[DTYPE])
    return Costs(
        step=held.dense_bytes / bandwidth,
        prefill=compute + held.expert_bytes / token_budget / bandwidth,
        decode=compute + (1 - missed) * held.expert_bytes / max_sequences / bandwidth,
        context=token_bytes / bandwidth,
    )
