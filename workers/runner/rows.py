"""A plan's rows, some at a time."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

import numpy as np

from workers.engine.plan import Plan, Sampled

COLUMNS = (
    "rows",
    "targets",
    "temperatures",
    "top_ps",
    "top_ks",
    "min_ps",
    "seeds",
    "output_positions",
    "logprobs",
    "repetitions",
    "below",
    "ends",
    "mask_rows",
)


def cut(plan: Plan, start: int, stop: int) -> Plan:
    """The same plan with the rows `start` to `stop` alone."""
    if start == 0 and stop >= len(plan.rows):
        return plan
    seen, biased = plan.seen_starts[start : stop + 1], plan.bias_starts[start : stop + 1]
    return replace(
        plan,
        **{name: getattr(plan, name)[start:stop] for name in COLUMNS},
        seen_ids=plan.seen_ids[seen[0] : seen[-1]],
        seen_starts=seen - seen[0],
        bias_ids=plan.bias_ids[biased[0] : biased[-1]],
        bias_values=plan.bias_values[biased[0] : biased[-1]],
        bias_starts=biased - biased[0],
    )


def joined(parts: Sequence[Sampled]) -> Sampled:
    """What was sampled from the parts of a plan."""
    if len(parts) == 1:
        return parts[0]
    return Sampled(
        np.concatenate([np.zeros(0, np.int32), *(part.tokens for part in parts)]),
        np.concatenate([np.zeros(0, np.float32), *(part.logprobs for part in parts)]),
        list(chain.from_iterable(part.top_ids for part in parts)),
        list(chain.from_iterable(part.top_logprobs for part in parts)),
    )
