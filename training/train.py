"""`python -m training.train --folder WORK`: trains ossia-tiny, from the folder's last checkpoint on if there is one.

The folder holds `ids.json`, `state.safetensors` (parameters and optimizer, every few minutes), `first.safetensors` (parameters
before the last part of the run) and `log.jsonl` (mean losses by kind of sample, every hundred steps).
"""

import ctypes
import json
import time
from collections import defaultdict
from pathlib import Path

import click
import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from training import rows
from training.batch import Arrays
from training.mixture import LAST
from training.model import CONFIG, Batch, Model, Working
from training.optimizer import Optimizer
from training.quantize import rounded
from training.start import initial
from training.stream import stream

THREADS = 2
STEPS = 15_600
TOKENS = 650  # of each of a step's batches, behind its prefix
WARM_UP = 100  # steps
AGAIN = 0.3  # of the rates, where the last part of the run begins
ROUNDED = 0.54  # of the steps, at the end: experts are rounded to MXFP4
SAVE_S = 180.0
LOG_STEPS = 100
FIRST = "first.safetensors"
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h


def scale(step: int, steps: int) -> float:
    """Of the rates: up, and from there down to zero; then, for the last part, a little up and down to zero again."""
    left = 1 - step / steps
    return min((step + 1) / WARM_UP, (left - LAST) / (1 - LAST)) if left > LAST else AGAIN * left / LAST


class Run:
    """A training run at some step, and its folder."""

    def __init__(self, folder: Path, seed: int, steps: int) -> None:
        self.folder, self.seed, self.steps = folder, seed, steps
        folder.mkdir(parents=True, exist_ok=True)
        self.ids = _ids(folder / "ids.json")
        self.file = folder / "state.safetensors"
        self.parameters = initial(CONFIG, self.ids, seed)
        self.optimizer = Optimizer(self.parameters)
        self.model = Model(CONFIG, len(self.ids))
        self.working = Working(self.parameters, torch.bfloat16)
        self.step = self._load() if self.file.exists() else 0

    def train(self, batches: list[Arrays]) -> list[Tensor]:
        """One step; the losses of each batch's targets."""
        late = self.step >= self.steps * (1 - ROUNDED)
        self.working.set(rounded(self.parameters) if late else self.parameters)
        count = sum(len(batch.targets) for batch in batches)
        found = []
        for batch in batches:
            losses = self.model(self.working.layers, self.working.outer, Batch.of(batch))
            torch.autograd.backward(losses.sum() / count)
            found.append(losses.detach())
        self.optimizer.step(self.working.gradients, self.step, scale(self.step, self.steps))
        self.step += 1
        return found

    def save(self) -> None:
        """In one step, so that a run that is stopped at any moment goes on from a whole checkpoint."""
        temporary = self.file.with_suffix(".tmp")
        state = {**self.parameters, **self.optimizer.state}
        save_file(state, temporary, {"step": str(self.step), "steps": str(self.steps), "seed": str(self.seed)})
        temporary.replace(self.file)

    def keep(self) -> None:
        """The parameters as they are before the last part of the run, which `training.export` takes the mean with."""
        save_file(self.parameters, self.folder / FIRST)

    def _load(self) -> int:
        with safe_open(self.file, "pt") as stored:
            metadata = stored.metadata()
            if (int(metadata["seed"]), int(metadata["steps"])) != (self.seed, self.steps):
                raise click.ClickException(f"{self.file} is of another run: go on with its --seed and --steps, or remove it")
            for name, tensor in {**self.parameters, **self.optimizer.state}.items():
                tensor.copy_(stored.get_tensor(name))
        return int(metadata["step"])


class Log:
    """Mean losses by kind since the last line of `log.jsonl`."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.sums: dict[str, float] = defaultdict(float)
        self.counts: dict[str, int] = defaultdict(int)

    def add(self, batches: list[Arrays], losses: list[Tensor]) -> float:
        """The mean loss of the step."""
        for batch, found in zip(batches, losses, strict=True):
            by_row = np.bincount(batch.row, found.numpy(), batch.rows)
            for kind, loss, count in zip(batch.kinds, by_row, np.bincount(batch.row, minlength=batch.rows), strict=True):
                self.sums[kind] += float(loss)
                self.counts[kind] += int(count)
        return float(torch.cat(losses).mean())

    def write(self, **more: float) -> None:
        means = {kind: round(self.sums[kind] / self.counts[kind], 4) for kind in sorted(self.sums)}
        with self.file.open("a") as file:
            file.write(json.dumps({**more, "loss": means}) + "\n")
        self.sums.clear()
        self.counts.clear()


def _ids(file: Path) -> list[int]:
    """Those that have a row of their own, the same as when the run began."""
    if not file.exists():
        file.write_text(json.dumps(rows.distinct()))
    ids: list[int] = json.loads(file.read_text())
    return ids


def _keep_memory() -> None:
    """Tells the C library to keep what is freed: a step's first touch of fresh pages costs as much as some of its sums."""
    library = ctypes.CDLL(None)
    for option in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD):
        library.mallopt(option, (1 << 31) - 1)


def train(run: Run, until: int) -> None:
    """Steps up to `until`, with a bar, a log and checkpoints."""
    log = Log(run.folder / "log.jsonl")
    saved = time.monotonic()
    waited = 0.0
    with tqdm(total=run.steps, initial=run.step, desc="training", unit="step", mininterval=5, smoothing=0.05) as bar:
        tokens, began = 0, time.monotonic()
        batches_of_steps = stream(run.seed, run.step, run.steps, TOKENS, run.ids)
        while run.step < until:
            asked = time.monotonic()
            batches = next(batches_of_steps)
            waited += time.monotonic() - asked
            loss = log.add(batches, run.train(batches))
            tokens += sum(batch.rows * (batch.prefix + batch.length) for batch in batches)
            if run.step == round(run.steps * (1 - LAST)):
                run.keep()
            bar.update()
            if run.step % LOG_STEPS == 0:
                speed = tokens / (time.monotonic() - began)
                bar.set_postfix(loss=f"{loss:.3f}", tokens_s=f"{speed:.0f}")
                log.write(
                    step=run.step, seconds=round(bar.format_dict["elapsed"]), tokens_s=round(speed), waited=round(waited, 1)
                )
                tokens, began, waited = 0, time.monotonic(), 0.0
            if time.monotonic() - saved > SAVE_S:
                run.save()
                saved = time.monotonic()
    run.save()


@click.command()
@click.option("--folder", type=click.Path(path_type=Path), required=True, help="Where the run is kept, and goes on from.")
@click.option("--seed", default=0, show_default=True)
@click.option("--steps", default=STEPS, show_default=True, help="How long the run is: about half a second each.")
@click.option("--until", type=int, help="Stop at this step of the run. [default: its last]")
def main(folder: Path, seed: int, steps: int, until: int | None) -> None:
    """Trains ossia-tiny. Interrupted, it goes on from its last checkpoint when it is started again."""
    torch.set_num_threads(THREADS)
    _keep_memory()
    train(Run(folder, seed, steps), steps if until is None else until)


if __name__ == "__main__":
    main()
