"""A replica without a model: a cost model takes the time of a forward pass, a script says what comes next. No torch.

Scheduler, KV cache, grammars and everything before them are the real ones; `runner` is a second `workers.engine.plan.Runner`.
"""
