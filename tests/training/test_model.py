"""The model that is trained computes what the served one does, from the checkpoint that is exported."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from tests.workers.driver import Request, allocate
from tests.workers.model.test_model import BLOCK, Alone
from training.batch import Arrays
from training.export import bits, released
from training.model import CONFIG, Batch, Model, Parameters, Working
from training.quantize import rounded
from training.start import initial
from workers.checkpoint.compact import expand, write

SMALL = replace(CONFIG, vocab_size=500, hidden_size=64, intermediate_size=32, num_attention_heads=8, head_dim=32)
IDS = np.arange(3, 303, 3, dtype=np.int32)
PREFIX, ROWS, LENGTH = 30, 3, 140


def noisy(seed: int) -> Parameters:
    """Parameters that are different everywhere, as the exported file holds them."""
    generator = torch.Generator().manual_seed(seed)
    found = {
        name: each + 0.1 * torch.randn(each.shape, generator=generator)
        for name, each in initial(SMALL, IDS.tolist(), seed).items()
    }
    values = rounded(found)
    return {name: each if name in ("gate_up", "down") else each.bfloat16().float() for name, each in values.items()}


def some_batch(seed: int, prefix: int = PREFIX) -> Batch:
    random = np.random.default_rng(seed)
    tokens = random.integers(0, len(IDS) + 1, prefix + ROWS * LENGTH)
    sources = np.sort(random.permutation(len(tokens))[:100])
    targets = random.integers(0, len(IDS) + 1, 100)
    row = np.maximum(sources - prefix, 0) // LENGTH
    return Batch.of(Arrays(tokens, sources, targets, row, ("",) * ROWS, prefix, ROWS, LENGTH))


def logits(model: Model, working: Working, batch: Batch) -> torch.Tensor:
    return model.hidden(working.layers, working.outer, batch) @ working.outer.rows.t()


def test_the_trained_model_is_the_served_one(tmp_path: Path) -> None:
    parameters, batch = noisy(1), some_batch(1)
    tensors = {name: bits(tensor) for name, tensor in released(parameters, SMALL).items()}
    write(tmp_path / "small.safetensors", SMALL, IDS, bits(parameters["rows"].bfloat16()), tensors)
    expand(tmp_path / "small.safetensors", tmp_path / "small")
    working = Working(parameters, torch.float32)
    with torch.no_grad():
        ours = logits(Model(SMALL, len(IDS)), working, batch)
    assert ours.std() > 0.3
    names = [*IDS.tolist(), 0]  # 0 is an id that shares the last row
    served = Alone(tmp_path / "small")
    for row in range(ROWS):
        own = batch.tokens[PREFIX + row * LENGTH :][:LENGTH]
        request = Request([names[token] for token in [*batch.tokens[:PREFIX].tolist(), *own.tolist()]])
        allocate([request], 1, BLOCK, 512)
        for count, place in ((PREFIX, PREFIX - 1), (1, PREFIX + row * LENGTH), (LENGTH - 1, PREFIX + (row + 1) * LENGTH - 1)):
            found = served.run([request], [count])[0][names]
            torch.testing.assert_close(found, ours[place], rtol=0, atol=1e-4)


def test_a_shared_prefix_changes_nothing_but_the_cost() -> None:
    parameters, shared = noisy(2), some_batch(2)
    prefix = shared.tokens[:PREFIX].expand(ROWS, -1)
    apart = torch.cat((prefix, shared.tokens[PREFIX:].view(ROWS, LENGTH)), 1).flatten()
    sources = shared.sources - PREFIX
    moved = torch.where(sources < 0, shared.sources, sources + (sources // LENGTH + 1) * PREFIX)
    whole = Batch(apart, moved, shared.targets, 0, ROWS, PREFIX + LENGTH)
    model = Model(SMALL, len(IDS))
    found = []
    for batch in (shared, whole):
        working = Working(parameters, torch.float32)
        losses = model(working.layers, working.outer, batch)
        losses.mean().backward()
        found.append((losses.detach(), working.gradients))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=0, atol=1e-4)
    for name, gradient in found[0][1].items():
        assert gradient.abs().max() > 0, name
        torch.testing.assert_close(gradient, found[1][1][name], rtol=0, atol=1e-4)


def test_ids_without_row_are_one_class_of_the_full_softmax() -> None:
    parameters, batch = noisy(3), some_batch(3, prefix=0)
    working, model = Working(parameters, torch.float32), Model(SMALL, len(IDS))
    with torch.no_grad():
        losses = model(working.layers, working.outer, batch)
        scores = logits(model, working, batch)[batch.sources]
    row = torch.full((SMALL.vocab_size,), len(IDS))
    row[torch.from_numpy(IDS).long()] = torch.arange(len(IDS))
    probabilities = torch.softmax(scores[:, row], -1)
    classes = torch.zeros(len(scores), len(IDS) + 1).index_add_(1, row, probabilities)
    torch.testing.assert_close(losses, -classes[torch.arange(len(scores)), batch.targets].log(), rtol=0, atol=1e-4)
