"""Induction heads, written into the weights that training starts from.

To copy what followed an earlier occurrence of the present tokens (Olsson et al., 2022, "In-context Learning and Induction
Heads") takes heads in two layers, and neither is of use before the other: small models find the pair late or never. Here every
sliding layer starts with heads that look one, two and three tokens back and write a code of each into a subspace of its own;
and the full layer behind it with heads that look for a place with the same codes: for what follows the present token and the
one before it, and for what follows the two before the present one, as in lists, where that is but a comma or a space.
"""

import torch
from torch import Tensor

from workers.model.config import ModelConfig
from workers.model.rope import inverse_frequencies

TURNS = 4  # the fastest of RoPE's frequencies: they tell neighbours apart
POSITION = 4.0  # of the biases by which a head looks back: 3 more in its score than a neighbour, 15 than the farther ones
CONTENT = 0.3  # of such a head's content, so that position decides
CODE = 0.05  # what it writes, of orthonormal directions
PRESENT, FOUND = 4.5, 2.1  # the two sides of the match of the present token: some 8 more in its score
EARLIER = 1.7  # both sides of the match of an earlier one: some 5 more
COPY = 0.25  # what the matching heads write, of what they see
BACK = 3  # tokens


Side = tuple[Tensor, Tensor]
"""What reads the same token's code from the query and from the key."""


def write(parameters: dict[str, Tensor], config: ModelConfig, generator: torch.Generator) -> None:
    """Changes what every layer's first key-value heads start from; the parameters are those of `training.model`."""
    heads, out, biases = parameters["heads"], parameters["out"], parameters["heads_bias"]
    queries, keys = config.num_attention_heads, config.num_key_value_heads
    group = queries // keys
    for layer in range(0, config.num_hidden_layers, 2):
        codes = _codes(config, generator)
        seen = heads[layer, queries + keys].clone()
        for key, code in enumerate(codes):
            _look_back(heads[layer], biases[layer], config, key)
            heads[layer, queries + keys + key] = seen
            out[layer, key * group : (key + 1) * group] = CODE * code
        sides = [(PRESENT * seen, FOUND * codes[0])]
        sides += [(EARLIER * ours, EARLIER * theirs) for ours, theirs in zip(codes, codes[1:], strict=False)]
        for key, (nearer, farther) in enumerate(zip(sides, sides[1:], strict=False)):
            matching = slice(key * group, (key + 1) * group)
            _match(heads[layer + 1], config, matching, queries + key, nearer, farther)
            out[layer + 1, matching] = COPY * heads[layer + 1, queries + keys + key]


def _codes(config: ModelConfig, generator: torch.Generator) -> list[Tensor]:
    """Orthonormal directions, [head_dim, hidden] for each of the tokens looked back at."""
    directions = torch.linalg.qr(torch.randn(config.hidden_size, BACK * config.head_dim, generator=generator))[0].t()
    return list(directions.split(config.head_dim))


def _look_back(heads: Tensor, biases: Tensor, config: ModelConfig, key: int) -> None:
    """Turns the queries of this key-value head so that they meet the key of the token `key` + 1 before, whatever it is."""
    queries, half = config.num_attention_heads, config.head_dim // 2
    group = queries // config.num_key_value_heads
    asking = slice(key * group, (key + 1) * group)
    angles = (key + 1) * inverse_frequencies(config)[:TURNS].float()
    heads[asking] *= CONTENT
    heads[queries + key] *= CONTENT
    biases[queries + key, :TURNS] = POSITION
    biases[asking, :TURNS] = POSITION * angles.cos()
    biases[asking, half : half + TURNS] = -POSITION * angles.sin()


def _match(heads: Tensor, config: ModelConfig, asking: slice, key: int, nearer: Side, farther: Side) -> None:
    """Both at once, where RoPE turns slowly: half of these dimensions for each."""
    half = config.head_dim // 2
    slow, middle = half * 10 // 32, half * 21 // 32
    for begin, end, (query, found) in ((slow, middle, nearer), (middle, half, farther)):
        for place in (slice(begin, end), slice(half + begin, half + end)):
            heads[asking, place] = query[place]
            heads[key, place] = found[place]
