"""Ten thousand requests come, leave, are late or preempted at any moment: nothing leaks, the first goes on in every step."""

import random

from tests.workers.engine.harness import Harness, limits
from workers.engine.request import Finish, Request
from workers.engine.sampling import Sampling

WITNESS = Sampling(temperature=0.0, max_tokens=24, ignore_eos=True)


def ended(harness: Harness, request: Request) -> bool:
    outputs = harness.outputs.get(request.key)
    return outputs is not None and outputs[-1].end is not None


def test_ten_thousand_cancels_and_deadlines_leak_nothing() -> None:
    random_ = random.Random(4)
    harness = Harness(limits(kv_blocks=24, sliding_blocks=16, max_sequences=6, token_budget=16, max_waiting=24))
    audit, harness.audit = harness.audit, lambda: None  # type: ignore[method-assign]
    documents = [[random_.randrange(8) for _ in range(40)] for _ in range(3)]
    rid = now = 0
    witness, seen = harness.submit(-1, [9], WITNESS, priority=9), 0
    while rid < 10_000:
        for _ in range(random_.randrange(8)):
            prompt = [*random_.choice(documents)[: random_.randrange(36)], random_.randrange(90)]
            patience = random_.randrange(1, 20) if random_.random() < 0.3 else None
            sampling = Sampling(temperature=0.0, max_tokens=random_.randrange(1, 24))
            deadline = None if patience is None else now + patience
            harness.submit(rid, prompt, sampling, priority=random_.randrange(3), deadline_s=deadline)
            rid += 1
        for _ in range(random_.randrange(8)):
            harness.scheduler.cancel((0, random_.randrange(max(0, rid - 40), rid + 1)))
        now += 1
        before = witness.computed
        harness.step(now)
        if ended(harness, witness):
            seen += 1
            witness = harness.submit(-1 - seen, documents[seen % 3], WITNESS, priority=9)
        else:
            assert witness.computed > before or not before
        harness.runner.plans.clear()
        harness.requests = [request for request in harness.requests if not ended(harness, request)]
        if now % 50 == 0:
            audit()
    harness.run()
    audit()
    assert harness.scheduler.cache.full.used == harness.scheduler.cache.sliding.used == 0
    ends = [outputs[-1].end for outputs in harness.outputs.values()]
    assert seen > 30
    assert len(ends) == rid + seen + 1
    assert min(ends.count(end) for end in (Finish.CANCELLED, Finish.DEADLINE, Finish.LENGTH)) > 150
    assert harness.scheduler.preemptions > 50
