"""transformers, which every layout must agree with."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

Oracle = Callable[[list[int], int], list[int]]


def load(checkpoint: Path) -> Oracle:
    """Greedy token ids in float32: (prompt, most tokens) to output ids, a stop token included."""
    import torch
    from transformers import GptOssForCausalLM

    # .float(): transformers leaves experts that it unpacked from MXFP4 in bfloat16, whatever dtype it is asked for.
    model: Any = GptOssForCausalLM.from_pretrained(checkpoint, dtype=torch.float32, attn_implementation="eager").float().eval()

    def generate(prompt: list[int], tokens: int) -> list[int]:
        with torch.inference_mode():
            output = model.generate(
                torch.tensor([prompt]), max_new_tokens=tokens, do_sample=False, attention_mask=torch.ones(1, len(prompt))
            )
        return list(output[0, len(prompt) :].tolist())

    return generate
