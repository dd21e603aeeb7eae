"""Learning rate and weight: pure functions of a plan and a global step, so segments can be cut anywhere."""

from __future__ import annotations

import math

from raymix.plan.types import Phase, Plan

REWARM = 0.05  # share of an extension that warms up where the job warms up nowhere: its rate begins at about 0


def rate(plan: Plan, step: int) -> float:
    """Learning rate of a global step: its cycle's, times the factor of its phase (`optim.lr_scale`).

    Each time that the run was rolled back (`failures.not_finite`) has halved it.
    """
    factor: float = getattr(plan.spec.optim.lr_scale, plan.phases[plan.phase_at(step)].kind)
    return factor * cycle(plan, step) * 0.5 ** sum(step >= start for start in plan.roll_backs)


def cycle(plan: Plan, step: int) -> float:
    """Learning rate of a global step, alike for all phases.

    Linear warm-up, then cosine to 0, over the run or its phase (`optim.restart`). With `optim.decay` it stays at its
    peak until that last share of the cycle (MiniCPM's warm-up, stable, decay, arXiv 2404.06395; the cooldown of Zhai et
    al. 2022, arXiv 2106.04560), and falls by half a cosine, too. An adaptive run, which does not know how long its
    phases will be, keeps the rate and lets it fall in its SL tail alone; one that a goal may end does so in the last
    part of its steps. The cycle of an extension warms up from where the rate was (SGDR, Loshchilov and Hutter, arXiv
    1608.03983).
    """
    optim, phase = plan.spec.optim, plan.phases[plan.phase_at(step)]
    begun, warmup = plan.anchor.rate, optim.warmup or (REWARM if plan.extension else 0.0)
    progress = _progress(plan, step)
    if optim.restart == "phase":
        begun, warmup, progress = 0.0, optim.warmup, _within(phase, step)
    peak = optim.lr
    if progress < warmup:
        peak = begun * optim.lr + (1 - begun) * optim.lr * progress / warmup
    if plan.spec.schedule.policy == "adaptive":
        angle = math.pi * _within(phase, step) if phase is plan.phases[-1] else 0.0
    else:
        falls = warmup if plan.tail is None else max(warmup, 1 - plan.tail)
        angle = math.pi * max(0.0, progress - falls) / (1 - falls)
    return peak * 0.5 * (1 + math.cos(angle))


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
