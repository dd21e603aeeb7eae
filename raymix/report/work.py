"""What a job of raymix's own ViT has to compute and to hold, from its numbers alone: FLOPs of a step, parameters.

A multiplication and an addition are two FLOPs. Matrix products are counted and nothing else, backward as twice forward:
what `raymix.train.flops` counts of a step, to within 3 %.

B batch, C classes, L patches, K of them visible, M hidden, P pixel values of a patch, D width and N depth of the
backbone, E width of the decoder, W and O widths of the projector.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from raymix.plan import SL_KINDS, Kind, Plan, classified_rows
from raymix.spec import MIX_KINDS, VIT_SIZES, JobSpec, Mae, SimClr, Vit, num_visible

BYTES = 4  # of a weight, of its gradient and of each of AdamW's two moments: all are kept in fp32


class _Shape(NamedTuple):
    """The numbers of a job that the counts need."""

    L: int
    P: int
    D: int
    N: int


def step_flops(spec: JobSpec, num_classes: int, kind: Kind) -> float | None:
    """Forward and backward of one step over all workers; None: it is no ViT of raymix's own."""
    if not isinstance(spec.backbone, Vit):
        return None
    B, shape, head = spec.batch, _shape(spec), 6.0 * VIT_SIZES[spec.backbone.size][0] * num_classes
    passes = spec.passes(drops=True)
    if not spec.has_ssl_loss(kind):
        seen = _seen(spec, "masked" if kind == "sl_drop" else "full", kind)
        rank = spec.lora.rank if spec.lora is not None and kind in SL_KINDS else 0
        return B * (head + (_adapted(shape, seen, rank) if rank else _backbone(shape, seen)))
    if kind == "ssl":
        return _ssl(spec, _decoded(spec, shape), _seen(spec, passes.ssl, kind), kind)
    separate = passes.mix == "separate"
    whole = B if separate else spec.num_whole(B)  # rows that the classifier has a pass of its own for
    of = _decoded(spec, shape) if whole else shape
    total = _ssl(spec, of, _seen(spec, passes.ssl if separate else passes.mix, kind), kind)
    return total + (whole * (_backbone(shape, shape.L) + head) if whole else B * _num_classified(spec) * head)


def labelled_share(plan: Plan, kind: Kind) -> float:
    """Of the rows of a step, those that feed the supervised loss; of mix steps that draw from all rows, on average."""
    if kind not in MIX_KINDS:
        return 0.0 if kind == "ssl" else 1.0
    facts, batch, share = plan.facts, plan.spec.batch, plan.spec.data.labelled_share
    seen = classified_rows(plan, kind, plan.spec.cluster.num_replicas)
    labelled = seen * facts.num_labelled / facts.num_train if share is None else min(seen, round(share * batch))
    return labelled / batch


def labelled_tokens(plan: Plan) -> int | None:
    """Patches of labelled rows that the classifier's features are computed from, over all steps of a plan.

    Masked mix steps and `sl_drop` count the visible ones alone, full and separate ones and whole rows all; of two views
    that are both classified, both. None: it is no ViT of raymix's own.
    """
    if not isinstance(plan.spec.backbone, Vit):
        return None
    turns = [turn for phase in plan.phases for turn in phase.turns]
    batch, share = plan.spec.batch, partial(labelled_share, plan)
    return round(sum(steps * batch * share(kind) * _classified(plan.spec, kind) for kind, steps in turns))


def _classified(spec: JobSpec, kind: Kind) -> int:
    """Patches of one labelled row that reach the classifier in a step."""
    mix = spec.passes(drops=True).mix
    if spec.has_ssl_loss(kind) and mix != "separate" and not spec.schedule.whole_rows:
        return _seen(spec, mix, kind) * _num_classified(spec)
    return _seen(spec, "masked" if kind == "sl_drop" else "full", kind)


def num_parameters(spec: JobSpec, num_classes: int) -> int | None:
    """Weights of backbone, objective and classifier; None: it is no ViT of raymix's own."""
    if not isinstance(spec.backbone, Vit):
        return None
    L, P, D, N = _shape(spec)
    total = P * D + D + L * D + _block_parameters(D, N) + D * num_classes + num_classes
    g = spec.objective
    total += 16 * N * D * spec.lora.rank if spec.lora is not None else 0
    if isinstance(g, Mae):
        E = g.decoder_width
        total += D * E + E + E + L * E + _block_parameters(E, g.decoder_depth) + E * P + P
        total += D if "full" in spec.passes(drops=True) else 0
        total += 2 * D if g.decode_from is not None else 0
    else:
        total += D * g.projector_width + g.projector_width + g.projector_width * g.output_width + g.output_width
    return total


def memory_bytes(spec: JobSpec, num_parameters: int) -> int:
    """What each worker holds of weights, gradients, optimizer state and averaged weights; no activations."""
    return num_parameters * BYTES * (4 + (spec.optim.ema is not None))


def _shape(spec: JobSpec) -> _Shape:
    assert isinstance(spec.backbone, Vit)
    width, depth, _ = VIT_SIZES[spec.backbone.size]
    return _Shape(spec.num_patches, spec.backbone.patch**2 * spec.data.num_channels, width, depth)


def _decoded(spec: JobSpec, shape: _Shape) -> _Shape:
    """The part of the backbone that the objective needs."""
    block = spec.objective.decode_from if isinstance(spec.objective, Mae) else None
    return shape if block is None else shape._replace(N=block)


def _seen(spec: JobSpec, which: str, kind: Kind) -> int:
    """Patches that a pass of the backbone computes."""
    if which == "full" or not isinstance(spec.objective, Mae):
        return spec.num_patches
    return num_visible(spec.num_patches, spec.objective.hidden(kind))


def _num_classified(spec: JobSpec) -> int:
    """Views of an image that the classifier sees where it shares a pass."""
    g = spec.objective
    return 2 if isinstance(g, SimClr) and g.first_view == g.second_view else 1


def _ssl(spec: JobSpec, shape: _Shape, seen: int, kind: Kind) -> float:
    """Backbone and objective, over the batch."""
    B, g, (L, P, D, _) = spec.batch, spec.objective, shape
    if isinstance(g, SimClr):
        projector = 6.0 * (D * g.projector_width + g.projector_width * g.output_width)
        similar = 6.0 * (2 * B) ** 2 * g.output_width  # every view with every other of the batch
        return 2 * B * (_backbone(shape, seen) + projector) + similar
    E, M = g.decoder_width, L - _seen(spec, "masked", kind)
    decoder = 6.0 * seen * D * E + _blocks(L, E, g.decoder_depth) + 6.0 * M * E * P
    return B * (_backbone(shape, seen) + decoder)


def _backbone(shape: _Shape, tokens: int) -> float:
    """One image's pass; pixels need no gradient, so the first layer has one product less backward."""
    return 4.0 * tokens * shape.P * shape.D + _blocks(tokens, shape.D, shape.N)


def _adapted(shape: _Shape, tokens: int, rank: int) -> float:
    """The same where adapters are trained: the backbone's own weights need no gradient, so matrices have a third less.

    The matrices of a block have 16 times its width of inputs and outputs together.
    """
    whole, alone = _blocks(tokens, shape.D, shape.N), 2.0 * shape.N * tokens * 12 * shape.D**2
    return 2.0 * tokens * shape.P * shape.D + whole - alone + 6.0 * shape.N * tokens * 16 * shape.D * rank


def _blocks(tokens: int, width: int, depth: int) -> float:
    """Four projections of attention, two of the perceptron (four times the width), and attention itself."""
    return 3.0 * depth * (2 * tokens * 12 * width**2 + 4 * tokens**2 * width)


def _block_parameters(width: int, depth: int) -> int:
    """Of the blocks and the norm after them."""
    return depth * (12 * width**2 + 13 * width) + 2 * width
