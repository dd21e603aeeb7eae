"""A model's card: what it is, what it was trained with, how good it was, what it cost. Markdown with YAML in front."""

from __future__ import annotations

import yaml

from raymix.models.own import Own
from raymix.report import words
from raymix.report.judging import METRIC_WORDS
from raymix.spec import Export
from raymix.train.exported import About

_SHOWN = 20  # class names


def card(own: Own, about: About, spec: Export, file: str) -> str:
    """The text of README.md, with the front matter that model hubs read."""
    front = {
        "license": spec.licence or "unknown",
        "library_name": "raymix",
        "pipeline_tag": "image-classification",
        "tags": ["mixtraining", about.format],
    }
    head = yaml.safe_dump(front, sort_keys=False)
    sections = {
        "Use": _use(about, file),
        "Data": _data(own),
        "Schedule": _schedule(own),
        "Results": _results(own),
        "Cost": _cost(own),
        "This file": _file(about, file),
    }
    body = "\n".join(f"## {title}\n\n{text}\n" for title, text in sections.items())
    return f"---\n{head}---\n\n# {about.name}\n\n{_model(own)}\n\n{body}"


def _model(own: Own) -> str:
    backbone = own.plan.spec.backbone.model_dump(mode="json", exclude_none=True)
    made = ", ".join(f"{name} {value}" for name, value in backbone.items() if not isinstance(value, dict))
    size = own.plan.spec.data.image_size
    return f"An image classifier of {own.plan.facts.num_classes} classes at {size} px ({made}), trained with raymix."


def _use(about: About, file: str) -> str:
    names = ", ".join(about.class_names[:_SHOWN]) + (", ..." if len(about.class_names) > _SHOWN else "")
    steps = "; ".join(about.transform.steps)
    ways = {
        "safetensors": "`raymix.load_model(this folder)`",
        "onnx": f"`onnxruntime.InferenceSession('{file}')`",
        "torch_export": f"`torch.export.load('{file}').module()`",
    }
    return (
        f"{ways[about.format]}. Input: {about.transform.dtype} images of shape (N, {about.transform.size}, "
        f"{about.transform.size}, {about.transform.frame.num_channels}), made so: {steps}. They are normalised by the "
        f"model itself. Output: {about.output}.\n\nClasses: {names}; all of them in `model.json`."
    )


def _data(own: Own) -> str:
    rows, data = own.report.rows, own.plan.spec.data
    tiles = f" in {rows.tiles} tiles each" if rows.tiles > 1 else ""
    labelled = f"{words.count(rows.train)} training images{tiles}, {words.count(rows.labelled)} of them labelled"
    where = getattr(data.train, "path", data.train.format)
    return f"{labelled}, {words.count(rows.select)} select and {words.count(rows.val)} val images, from `{where}`."


def _schedule(own: Own) -> str:
    lines = ["| phase | epochs | steps | images |", "|---|---|---|---|"]
    for phase in own.report.phases:
        lines.append(f"| {phase.kind} | {phase.epochs:g} | {phase.steps:,} | {phase.images:,} |")
    optim = own.plan.spec.optim
    return "\n".join(lines) + f"\n\nBatch {own.plan.spec.batch}, rate {optim.lr:g}, seed {own.report.seed}."


def _results(own: Own) -> str:
    final = own.report.final
    if final is None:
        return f"None: the run is {own.report.status}."
    name = METRIC_WORDS[final.metric].capitalize()
    return f"{name} {words.percent(final.top1)} on {words.count(final.num_val)} val images, read once, at the end."


def _cost(own: Own) -> str:
    totals = own.report.totals
    price = "price not set" if totals.cost is None else f"{totals.cost:.2f}"
    held = f"{words.seconds(totals.worker_seconds)} of {own.report.unit}"
    return f"{held} on {own.report.device}, {words.seconds(totals.wall_seconds)} in all; {price}."


def _file(about: About, file: str) -> str:
    whose = "those of the pruned model" if any("pruned" in side.name for side in about.sides) else "the run's own"
    differ = f"its logits differ by at most {about.max_difference:.2g} from {whose}"
    what = f"`{file}`, {about.bytes / 1e6:.2f} MB. On {about.checked_images} val images {differ}."
    head = side_heads(about)
    lines = [head, ["---"] * len(head), *side_cells(about)]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return f"{what}\n\n{table}\n\n{sides_note(about)}"


def side_heads(about: About) -> list[str]:
    """What stands over the columns of `side_cells`."""
    return ["", *_judged_by(about), "points lost", "MB", *(f"ms for {size}" for size in about.latency_ms)]


def _judged_by(about: About) -> list[str]:
    """The job's metric and top-1."""
    return list(dict.fromkeys((METRIC_WORDS[about.spec.metric], METRIC_WORDS["top1"])))


def side_cells(about: About) -> list[list[str]]:
    """A line for each form of the model: name, the job's metric, top-1, points lost, MB, a latency for each size."""
    lines, by_metric = [], about.spec.metric != "top1"
    for side in about.sides:
        lost = "" if side.lost is None else f"{side.lost.value:.2f} ({words.point_interval(side.lost)})"
        times = [f"{ms:.2f}" for ms in side.latency_ms.values()]
        scores = [words.percent(score) for score in (*([side.score] if by_metric else []), side.top1)]
        lines.append([side.name, *scores, lost, f"{side.bytes / 1e6:.2f}", *times])
    return lines


def sides_note(about: About) -> str:
    """What the figures of `side_cells` are of."""
    names = _judged_by(about)
    of = f" of {names[0]}" if len(names) > 1 else ""
    figures = " and ".join(names)
    figures = figures[0].upper() + figures[1:]
    told = f"{figures} on {words.count(about.judged_images)} val images, points{of} lost with their 95 % interval; "
    if not about.judged_images:
        told = f"{figures} {'were' if of else 'was'} not told: it takes long here, and val_images=N asks for it; "
    return f"{told}latencies on the CPU that exported it."
