"""Warmup, stable, decay (paper, section 5): the learning rate as a function of the step alone."""


def rate(step: int, steps: int, warmup: float, decay: float, branched_at: int | None = None) -> float:
    """Share of the learning rate at a step (from 0) of `steps`.

    It rises linearly over the first `warmup` of the steps, stays, and falls linearly over the last `decay` of them,
    to reach 0 after the last. A run branched from another at a step falls from there on.
    """
    warm = round(warmup * steps)
    if step < warm:
        return (step + 1) / warm
    falling = steps - branched_at if branched_at is not None else round(decay * steps)
    return min(1.0, (steps - step) / falling) if falling else 1.0
