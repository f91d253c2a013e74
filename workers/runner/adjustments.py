"""What requests change about their logits before a token is chosen, in one share and in place: penalty, biases, masks."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workers.engine.plan import Int, Plan

_LIMITS = np.where(np.arange(256)[:, None] >> np.arange(8) & 1, np.inf, -np.inf).astype(np.float32)
"""[256, 8] what a byte of a mask makes of the logits of its 8 ids: the least of either."""


def adjusted(plan: Plan) -> NDArray[np.bool_]:
    """[N] whether the row's logits are changed."""
    penalized = (plan.repetitions != 1) & (np.diff(plan.seen_starts) > 0)
    changed: NDArray[np.bool_] = penalized | (np.diff(plan.bias_starts) > 0) | (plan.below >= 0) | (plan.mask_rows >= 0)
    return changed


def adjust(values: Tensor, plan: Plan, vocab_size: int, share: range) -> None:
    """Changes values [N, len(share)], the logits of the ids `share`, as the plan says."""
    if len(plan.seen_ids):
        _penalize(values, plan, share)
    if len(plan.bias_ids):
        _add(values, plan, share)
    if (plan.below >= 0).any():
        _bound(values, plan, share)
    if len(plan.masks):
        _forbid(values, plan, vocab_size, share)


def _penalize(values: Tensor, plan: Plan, share: range) -> None:
    rows, ids, _ = _cells(plan.seen_ids, plan.seen_starts, share)
    found, by = values[rows, ids], torch.from_numpy(plan.repetitions[rows]).to(values.device)
    values[rows, ids] = torch.where(found > 0, found / by, found * by)


def _add(values: Tensor, plan: Plan, share: range) -> None:
    rows, ids, here = _cells(plan.bias_ids, plan.bias_starts, share)
    values[rows, ids] += torch.from_numpy(plan.bias_values[here]).to(values.device)


def _cells(ids: Int, starts: Int, share: range) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """The rows and columns of `ids`, and which of them are in the share: the others are left out."""
    here = (ids >= share.start) & (ids < share.stop)
    rows = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    return rows[here], ids[here].astype(np.int64) - share.start, here


def _bound(values: Tensor, plan: Plan, share: range) -> None:
    """Fills in the ends of rows, all of one length at once, and puts back what may come all the same."""
    kept = np.flatnonzero((plan.below >= 0) & (plan.ends >= share.start) & (plan.ends < share.stop))
    ids = plan.ends[kept].astype(np.int64) - share.start
    spared = values[kept, ids]
    for below in set(plan.below.tolist()) - {-1}:
        rows = torch.from_numpy(np.flatnonzero(plan.below == below)).to(values.device)
        values[:, max(0, below - share.start) :].index_fill_(0, rows, -torch.inf)
    values[kept, ids] = spared


def _forbid(values: Tensor, plan: Plan, vocab_size: int, share: range) -> None:
    """Takes the lesser of each value and its limit: filling in takes four times as long where a mask has no pattern.

    One mask after another, so that its limits, as many as the vocabulary has ids, are still in cache when they are used.
    """
    masks = plan.masks.reshape(-1, -(-vocab_size // 32))
    for number in set(plan.mask_rows.tolist()) - {-1}:
        limits = _LIMITS[masks[number].view(np.uint8)].ravel()[share.start : share.stop]
        limit = torch.from_numpy(limits).to(values.device)
        for row in np.flatnonzero(plan.mask_rows == number):
            torch.minimum(values[row], limit, out=values[row])
