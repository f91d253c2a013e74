"""Induction heads, written into the weights that training starts from.

Copying what followed an earlier occurrence of the present token (Olsson et al., 2022, "In-context Learning and Induction
Heads") takes two heads in two layers, and neither is of use before the other: small models find the pair late or never. Here
every sliding layer starts with a head that looks at the token before and writes a code of it into a subspace, and the full
layer behind it with heads that look for the code of the present token there, and that write what they see.
"""

import torch
from torch import Tensor

from workers.model.config import ModelConfig
from workers.model.rope import inverse_frequencies

TURNS = 4  # the fastest of RoPE's frequencies: they tell neighbours apart
POSITION = 3.0  # of the biases by which a head looks at the token before: 8 more in its score than 6 tokens on
CONTENT = 0.3  # of that head's content, so that position decides
CODE = 0.05  # what it writes, of orthonormal directions
MATCH = 2.1  # both sides of the match: some 10 more in the score of the right token
COPY = 0.25  # what the matching heads write, of what they see
PAIRS = 2  # key-value heads of a full layer that match


def write(parameters: dict[str, Tensor], config: ModelConfig, generator: torch.Generator) -> None:
    """Changes what every layer's first key-value heads start from; the parameters are those of `training.model`."""
    heads, out, biases = parameters["heads"], parameters["out"], parameters["heads_bias"]
    queries, keys = config.num_attention_heads, config.num_key_value_heads
    group = queries // keys
    for layer in range(0, config.num_hidden_layers, 2):
        code = torch.linalg.qr(torch.randn(config.hidden_size, config.head_dim, generator=generator))[0].t()
        seen = heads[layer, queries + keys].clone()
        _look_back(heads[layer], biases[layer], config)
        out[layer, :group] = CODE * code
        for key in range(PAIRS):
            matching = slice(key * group, (key + 1) * group)
            heads[layer + 1, queries + key] = MATCH * code
            heads[layer + 1, matching] = MATCH * seen
            out[layer + 1, matching] = COPY * heads[layer + 1, queries + keys + key]


def _look_back(heads: Tensor, biases: Tensor, config: ModelConfig) -> None:
    """Turns the queries of the first key-value head so that they meet the key of the token before, whatever it is."""
    queries, half = config.num_attention_heads, config.head_dim // 2
    group = queries // config.num_key_value_heads
    angles = inverse_frequencies(config)[:TURNS].float()
    heads[:group] *= CONTENT
    heads[queries] *= CONTENT
    biases[queries, :TURNS] = POSITION
    biases[:group, :TURNS] = POSITION * angles.cos()
    biases[:group, half : half + TURNS] = -POSITION * angles.sin()
