"""Learning rate and weight: pure functions of a plan and a global step, so segments can be cut anywhere."""

from __future__ import annotations

import math

from raymix.plan.types import Phase, Plan


def rate(plan: Plan, step: int) -> float:
    """Learning rate of a global step.

    Linear warm-up, then cosine to 0, over the run or its phase (`optim.restart`). An adaptive run, which does not know
    how long its phases will be, keeps the rate and lets it fall in its SL tail alone.
    """
    optim, phase = plan.spec.optim, plan.phases[plan.phase_at(step)]
    if plan.spec.schedule.policy == "adaptive":
        warm = min(1.0, _progress(plan, step) / optim.warmup) if optim.warmup else 1.0
        falling = _within(phase, step) if phase is plan.phases[-1] else 0.0
        return optim.lr * warm * 0.5 * (1 + math.cos(math.pi * falling))
    progress = _within(phase, step) if optim.restart == "phase" else _progress(plan, step)
    if progress < optim.warmup:
        return optim.lr * progress / optim.warmup
    return optim.lr * 0.5 * (1 + math.cos(math.pi * (progress - optim.warmup) / (1 - optim.warmup)))


def weight(plan: Plan, step: int) -> float:
    """w of the SSL side at a global step: the curve over the mix phase, 1 in ssl, 0 in sl."""
    phase = plan.phases[plan.phase_at(step)]
    if phase.kind != "mix":
        return 1.0 if phase.kind == "ssl" else 0.0
    curve, progress = phase.weight or plan.spec.schedule.weight, _within(phase, step)
    if curve.curve == "cosine":
        progress = 0.5 * (1 - math.cos(math.pi * progress))
    return curve.start if curve.curve == "constant" else curve.start + (curve.end - curve.start) * progress


def _progress(plan: Plan, step: int) -> float:
    """Of the run, in the middle of a global step."""
    return plan.anchor.progress_at(step + 0.5, plan.num_steps)


def _within(phase: Phase, step: int) -> float:
    """Of a phase, in the middle of a global step."""
    return phase.anchor.progress_at(step - phase.start + 0.5, phase.steps)
