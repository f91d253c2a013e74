"""A run that is interrupted ends as one that is not, and learns; its schedule; what samples become."""

import json
from itertools import islice
from pathlib import Path

import click
import numpy as np
import pytest
import torch

from tests.training.test_model import IDS, SMALL
from training import mixture, rows, train
from training.batch import Arrays, Classes, pack
from training.export import mean
from training.optimizer import orthogonal
from training.sample import Sample
from training.stream import stream
from training.train import Log, Run, scale


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(train, "CONFIG", SMALL)
    (tmp_path / "ids.json").write_text(json.dumps(IDS.tolist()))
    return tmp_path


def batches(step: int) -> list[Arrays]:
    """Two batches of text that always counts on, and so can be learnt."""
    starts = np.random.default_rng(step).integers(0, len(IDS) - 20, 8)
    samples = [Sample([int(IDS[start + i]) for i in range(20)], [i > 2 for i in range(20)], 0, "count") for start in starts]
    classes, random = Classes(IDS.tolist(), SMALL.vocab_size), np.random.default_rng(0)
    return [pack(samples[:4], classes, 0.0, random), pack(samples[4:], classes, 0.0, random)]


def advance(run: Run, until: int) -> list[float]:
    return [float(torch.cat(run.train(batches(step))).mean()) for step in range(run.step, until)]


def test_an_interrupted_run_ends_as_one_that_is_not(folder: Path) -> None:
    whole = Run(folder, seed=1, steps=8)
    advance(whole, 8)
    first = Run(folder, seed=1, steps=8)
    advance(first, 6)
    first.save()
    advance(first, 7)  # lost, as it is not saved
    second = Run(folder, seed=1, steps=8)
    assert second.step == 6
    advance(second, 8)
    for name, parameter in whole.parameters.items():
        assert torch.equal(parameter, second.parameters[name]), name


def test_another_runs_checkpoint_is_refused(folder: Path) -> None:
    Run(folder, seed=1, steps=8).save()
    with pytest.raises(click.ClickException, match="is of another run"):
        Run(folder, seed=2, steps=8)


def test_a_run_learns_and_logs_losses_by_kind(folder: Path) -> None:
    run, log = Run(folder, seed=1, steps=180), Log(folder / "log.jsonl")
    losses = []
    for step in range(180):
        made = batches(step)
        losses.append(log.add(made, run.train(made)))
    log.write(step=180)
    assert losses[0] > 5 and np.mean(losses[-10:]) < 2.5
    line = json.loads((folder / "log.jsonl").read_text())
    assert line == {"step": 180, "loss": {"count": pytest.approx(np.mean(losses), abs=1e-3)}}


def test_the_rates_rise_and_fall_to_zero_twice() -> None:
    scales = [scale(step, 1200) for step in range(1201)]
    top = scales.index(max(scales))
    assert scales[0] == pytest.approx(1 / train.WARM_UP) and scales[500] == pytest.approx(0.5)
    assert scales[999] == pytest.approx(0, abs=2e-3) and scales[1000] == pytest.approx(train.AGAIN) and scales[1200] == 0
    assert 0 < top <= train.WARM_UP and scales[:top] == sorted(scales[:top])
    for falling in (scales[top:1000], scales[1000:]):
        assert falling == sorted(falling, reverse=True)


def test_samples_become_rows_behind_their_prefix() -> None:
    classes = Classes([10, 20, 30, 40], 50)
    first = Sample([10, 20, 30, 40, 11], [False, False, True, True, True], 2, "a")
    second = Sample([10, 20, 40], [False, False, True], 2, "b")
    made = pack([first, second], classes, 0.0, np.random.default_rng(0))
    assert (made.prefix, made.rows, made.length, made.kinds) == (2, 2, 3, ("a", "b"))
    assert made.tokens.tolist()[:6] == [0, 1, 2, 3, 4, 3]  # 11 has no row of its own
    assert made.sources.tolist() == [1, 2, 3, 1]
    assert made.targets.tolist() == [2, 3, 4, 3]
    assert made.row.tolist() == [0, 0, 0, 1]


def test_only_what_is_given_is_dropped_and_only_where_it_is_shown() -> None:
    classes = Classes([10, 20, 30, 40], 50)
    sample = Sample([10, *[20] * 40, *[30] * 40], [*[False] * 41, *[True] * 40], 1, "a")
    made = pack([sample], classes, 0.5, np.random.default_rng(0))
    assert made.tokens[0] == 0 and made.tokens[41:].tolist() == [2] * 40
    assert set(made.tokens[1:41].tolist()) == {1, 4}
    assert made.targets.tolist() == [2] * 40


def test_newton_schulz_makes_matrices_nearly_orthogonal() -> None:
    matrices = torch.randn(3, 16, 40, generator=torch.Generator().manual_seed(0)) * torch.tensor([[[1e-3]], [[1.0]], [[50.0]]])
    values = torch.linalg.svdvals(orthogonal(matrices))
    assert values.min() > 0.6 and values.max() < 1.3


def test_the_mean_of_the_weights_before_and_after_the_last_part_is_written(folder: Path) -> None:
    run = Run(folder, seed=1, steps=8)
    advance(run, 6)
    run.keep()
    first = {name: each.clone() for name, each in run.parameters.items()}
    advance(run, 7)
    run.save()
    with pytest.raises(click.ClickException, match="is at step 7 of 8"):
        mean(folder)
    advance(run, 8)
    run.save()
    assert not torch.equal(first["norm"], run.parameters["norm"])
    for name, each in mean(folder).items():
        torch.testing.assert_close(each, (first[name] + run.parameters[name]) / 2)


def test_a_stream_goes_on_in_the_middle_of_a_block() -> None:
    ids = rows.distinct()

    def made(first: int, steps: int) -> list[list[Arrays]]:
        return list(islice(stream(3, first, 1000, train.TOKENS, ids), steps))

    whole, later = made(mixture.STEPS, mixture.STEPS + 1), made(mixture.STEPS + 3, 2)
    for wanted, found in zip(whole[3:], later, strict=True):
        for theirs, ours in zip(wanted, found, strict=True):
            assert all(np.array_equal(getattr(theirs, name), getattr(ours, name)) for name in ("tokens", "targets", "sources"))
