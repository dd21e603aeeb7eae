"""What a job may ask for: every field that is out of bounds, and every pair that does not fit, is named in one line."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from raymix.jobfile import load_spec
from raymix.spec import Augment, JobError, JobSpec, ViewAugment, num_visible

Job = dict[str, Any]


def refused(job: Job, *overrides: str) -> str:
    """The one line that a job is refused with."""
    with pytest.raises(JobError) as caught:
        load_spec(job, overrides)
    line = str(caught.value)
    assert line.isprintable(), "one line"
    assert line.startswith(caught.value.field)
    return line


# ---- type and range of single fields ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("optim.lr=fast", 'optim.lr: must be a number, not "fast"'),
        ("optim.lr=true", "optim.lr: must be a number, not true"),
        ("optim.lr=", "optim.lr: must be a number, not null"),
        ("optim.lr=[1, 2]", "optim.lr: must be a number, not [1, 2]"),
        ("optim.lr={a: 1}", "optim.lr: must be a number, not a section"),
        ("optim.lr=0", "optim.lr: must be above 0, not 0"),
        ("optim.lr=.nan", "optim.lr: must be a finite number, not NaN"),
        ("optim.lr=-.inf", "optim.lr: must be a finite number, not -Infinity"),
        ("optim.batch=true", "optim.batch: must be a whole number or auto, not true"),
        ("optim.batch=64.0", "optim.batch: must be a whole number or auto, not 64.0"),
        ("optim.batch=.nan", "optim.batch: must be a whole number or auto, not NaN"),
        ("optim.batch=1", "optim.batch: must be at least 2 or auto, not 1"),
        ("optim.batch=10000000", "optim.batch: must be at most 1000000 or auto, not 10000000"),
        ("optim.betas=[0.9, 2]", "optim.betas: must be below 1, not 2"),
        ("optim.precision=fp16", 'optim.precision: unknown value "fp16" (did you mean bf16?)'),
        ("data.augment.flip=yes", 'data.augment.flip: must be true or false, not "yes"'),
        ("data.augment.crop=0.5", "data.augment.crop: must be a list, not 0.5"),
        ("data.augment.crop=[0.5]", "data.augment.crop: must be a list of 2"),
        ("data.augment.crop=[0.1, 0.2, 0.3]", "data.augment.crop: must be a list of 2, not [0.1, 0.2, 0.3]"),
        ("data.augment.crop=[0.1, wide]", 'data.augment.crop: must be a number, not "wide"'),
        ("data.store_size=big", 'data.store_size: must be auto or a whole number, not "big"'),
        ("data.holdout=1", "data.holdout: must be below 1, not 1"),
        ("data.label_fraction=1.5", "data.label_fraction: must be at most 1, not 1.5"),
        ("data.cache=disk", 'data.cache: unknown value "disk" (one of auto, device, host, stream)'),
        ("data.group=3", "data.group: must be text, not 3"),
        ("data.group={pattern: lot}", "data.group.pattern: 'lot' has 0 groups in round brackets, and one is the name"),
        ("data.group={pattern: '(a)(b)'}", "data.group.pattern: '(a)(b)' has 2 groups in round brackets"),
        ("data.group={pattern: '('}", "data.group.pattern: '(' is no regular expression: missing ), unterminated"),
        ("data.group={pattern: '(a+)+b'}", "data.group.pattern: '(a+)+b' repeats what is in brackets, which may take"),
        ("data.group={pattern: '(?x)(a) +'}", "data.group.pattern: '(?x)(a) +' repeats what is in brackets"),
        ("data.group={pattern: '.*.*(.*).*.*'}", "data.group.pattern: '.*.*(.*).*.*' repeats more than 4 things"),
        ("data.group={patern: x}", "data.group.patern: unknown key; and 1 more (did you mean data.group.pattern?)"),
        ("data.region=[0, 0, 1]", "data.region: must be a list of 4"),
        ("data.region=[0.5, 0, 0.5, 1]", "data.region: [0.5, 0.0, 0.5, 1.0] is no part of an image (0 <= left < right"),
        ("data.region=[0, 0, 1, 1.1]", "data.region: [0.0, 0.0, 1.0, 1.1] is no part of an image"),
        ("data.tile.grid=[1, 1]", "data.tile.grid: [1, 1] is no grid of tiles ([rows, columns], 2 to 256 tiles in all"),
        ("data.tile.grid=[0, 4]", "data.tile.grid: [0, 4] is no grid of tiles"),
        ("data.tile.grid=[17, 16]", "data.tile.grid: [17, 16] is no grid of tiles"),
        ("data.tile.grid=[3]", "data.tile.grid: must be a list of 2"),
        ("data.tile={grid: [2, 2], overlap: 0.6}", "data.tile.overlap: must be at most 0.5, not 0.6"),
        ("data.near_duplicates=9", "data.near_duplicates: must be at most 8, not 9"),
        ("data.near_duplicates=0.5", "data.near_duplicates: must be a whole number, not 0.5"),
        ("name=-x", "name: must be letters, digits, '.', '_' and '-', the first a letter or digit, at most 100, not"),
        ("name=a/b", "name: must be letters"),
        ("name=3", "name: must be text, not 3"),
        ("storage=", "storage: must be text, not null"),
        ("storage=''", 'storage: must be text that is not empty, not ""'),
        ('storage="a\\0b"', "storage: must be a path without NUL"),
        ("seed=-1", "seed: must be at least 0, not -1"),
        ("seed=010", 'seed: must be a whole number, not "010"'),
        ("schedule.weight.curve=lin", 'schedule.weight.curve: unknown value "lin" (did you mean linear?)'),
        ("checkpoint.every=5x", "checkpoint.every: a duration is a number and one of s, m, h, d, as in 90s or 2h"),
        ("checkpoint.every=-3", "checkpoint.every: must be at least 0, not -3"),
        ("evaluate.every=often", "evaluate.every: a share is a number from 0 to 1, or a percentage as in 5%"),
        ("evaluate.every=200%", 'evaluate.every: must be at most 1, not "200%"'),
        ("pilot.arms=[sl, mixx]", 'pilot.arms: unknown value "mixx" (did you mean mix?)'),
        ("pilot.arms=[]", "pilot.arms: must be a list of at least 1, not []"),
        ("objective.decoder_width=100", "objective.decoder_width: must be divisible by 8, not 100"),
        ("objective=mae", 'objective: must be a section with fields of its own, not "mae"'),
        ("optim=", "optim: must be a section with fields of its own, not null (leave it out for its defaults)"),
    ],
)
def test_wrong_value_is_named(digits_job: Job, override: str, line: str) -> None:
    assert refused(digits_job, override).startswith(line)


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("optim.rate=1", "optim.rate: unknown key (known here: batch, accumulate, lr, weight_decay, betas, lr_scale"),
        ("optim.bacth=1", "optim.bacth: unknown key (did you mean optim.batch?)"),
        ("optm={}", "optm: unknown key (did you mean optim?)"),
        ("lr=1", "lr: unknown key (did you mean optim.lr?)"),
        ("data.patch=8", "data.patch: unknown key (did you mean backbone.patch?)"),
        ("data.train.path=x", "data.train.path: unknown key (a field of data.train.format: image_folder)"),
        ("objective.temperature=1", "objective.temperature: unknown key (a field of objective.type: simclr)"),
        ("objective.type=simclrr", 'objective.type: unknown value "simclrr" (did you mean simclr?)'),
        ("objective.type=", "objective.type: unknown value null (one of mae, simclr)"),
        (
            "data.train.format=npy",
            'data.train.format: unknown value "npy" (did you mean npz?)',
        ),
        ("data.train={path: x}", "data.train.format: missing (one of image_folder, images, tiny_imagenet, table, "),
        ("data.val={format: image_folder}", "data.val.path: missing (see raymix schema)"),
        (
            "backbone.type=resnet",
            'backbone.type: unknown value "resnet" (one of vit, timm, torchvision, plugin, import)',
        ),
        (
            "schedule.policy=greedy",
            'schedule.policy: unknown value "greedy" (one of fixed, budgeted, phases, adaptive)',
        ),
        ("data=", "data: must be a section with fields of its own, not null"),
        ("optim={lr: 1, bath: 2, warmup: x}", "optim.bath: unknown key; and 1 more (did you mean optim.batch?)"),
    ],
)
def test_wrong_key_is_named_with_what_was_meant(digits_job: Job, override: str, line: str) -> None:
    assert refused(digits_job, override).startswith(line)


def test_missing_fields(digits_job: Job) -> None:
    del digits_job["data"]
    assert refused(digits_job) == "data: missing (see raymix schema)"
    del digits_job["name"]
    assert refused(digits_job) == "name: missing; and 1 more (see raymix schema)"


def test_a_key_with_control_characters_stays_one_line(digits_job: Job) -> None:
    digits_job["a\nb\x1b[31m"] = 1
    assert refused(digits_job).startswith("a\\nb\\x1b[31m: unknown key")


# ---- fields that do not fit each other --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        ("data.image_size=9", "data.image_size: 9 is not divisible by backbone.patch 2 (8 is)"),
        ("data.image_size=10; backbone.patch=16", "data.image_size: 10 is not divisible by backbone.patch 16 (16 is)"),
        ("objective.mask_ratio=0.99", "objective.mask_ratio: 0.99 leaves no visible patch of 16"),
        ("objective.mask_ratio=1e-12", "objective.mask_ratio: 1e-12 leaves no hidden patch of 16"),
        ("objective.mix_mask_ratio=0.99", "objective.mix_mask_ratio: 0.99 leaves no visible patch of 16"),
        ("objective.decode_from=4", "objective.decode_from: 4 is no block before the last of 4 (leave it out"),
        ("objective.decode_from=0", "objective.decode_from: must be at least 1"),
        ("backbone.patch=8", "objective.mask_ratio: 0.75 leaves no visible patch of 1"),
        ("cluster.workers=5", "optim.batch: 96 is not divisible by cluster.workers 5 (the nearest that is: 95)"),
        (
            "optim.batch=99; cluster.workers=5",
            "optim.batch: 99 is not divisible by cluster.workers 5 (the nearest that is: 100)",
        ),
        (
            "optim.batch=3; cluster.workers=8",
            "optim.batch: 3 is not divisible by cluster.workers 8 (the nearest that is: 8)",
        ),
        (
            "optim.accumulate=5",
            "optim.batch: 96 is not divisible by 1 workers times optim.accumulate 5 (the nearest that is: 95)",
        ),
        ("objective={type: simclr}; optim.accumulate=2", "optim.accumulate: simclr contrasts all images of a batch"),
        ("speed.compile=fast", 'speed.compile: unknown value "fast" (one of auto, off, default, max)'),
        ("optim.ema=0", "optim.ema: must be above 0, not 0"),
        ("checkpoint.best=true; evaluate.every=0", "checkpoint.best: there is nothing to choose by"),
        ("checkpoint.best=true; data.select=0", "checkpoint.best: there is nothing to choose by"),
        ("evaluate.weights=ema", "evaluate.weights: there are no averaged weights (set optim.ema, as in optim.ema=1%)"),
        ("objective={type: simclr}; optim.batch=4; cluster.workers=4", "optim.batch: 4 leaves a worker without"),
        (
            "objective={type: simclr}; schedule.shared_pass=masked",
            "schedule.shared_pass: objective simclr does not allow",
        ),
        ("objective={type: simclr}; schedule.sl_drop=0.5", "schedule.sl_drop: objective simclr hides no patches"),
        ("objective={type: simclr}; pilot.arms=[mix, ssl_sl_drop]", "pilot.arms: ssl_sl_drop needs patches to drop"),
        ("objective.mix_mask_ratio=[0.5]", "objective.mix_mask_ratio: must be a number or a list of at least 2, not"),
        ("objective.mix_mask_ratio=[0.5, 0.99]", "objective.mix_mask_ratio: 0.99 leaves no visible patch of 16"),
        ("objective.mix_mask_ratio=[0, 0]", "objective.mix_mask_ratio: 0.0 leaves no hidden patch of 16"),
        (
            "objective.mix_mask_ratio=[0.5, 0]; schedule.interleave=alternate",
            "objective.mix_mask_ratio: interleave",
        ),
        (
            "objective.mix_mask_ratio=[0.5, 0]; budget.wall=1h",
            "objective.mix_mask_ratio: a list cuts the mix",
        ),
        ("schedule.whole_rows=1", "schedule.whole_rows: must be below 1, not 1"),
        ("schedule.whole_rows=25%; objective={type: simclr}", "schedule.whole_rows: objective simclr hides no patches"),
        (
            "schedule.whole_rows=0.25; schedule.shared_pass=full",
            "schedule.whole_rows: shared_pass: full computes all patches of all rows (set schedule.shared_pass=masked",
        ),
        ("schedule.whole_rows=0.25; schedule.interleave=alternate", "schedule.whole_rows: interleave: alternate has"),
        (
            "schedule.whole_rows=0.25; optim.accumulate=2",
            "schedule.whole_rows: the whole rows are the first of a batch",
        ),
        ("schedule.weight.end=0", "schedule.weight.curve: a constant weight cannot go from 0.5 to 0"),
        ("schedule.alternate_steps=3", "schedule.alternate_steps: applies to interleave: alternate only"),
        ("schedule.interleave=alternate; schedule.weight={start: 1, end: 1}", "schedule.weight: interleave: alternate"),
        ("schedule.ssl_epochs=0; schedule.sl_epochs=0", "schedule.sl_epochs: ssl_epochs and sl_epochs are both 0"),
        ("data.augment.crop=[0.5, 0.1]", "data.augment.crop: [0.5, 0.1] is no range of areas"),
        ("objective={type: simclr, first_view: {crop: [0, 1]}}", "objective.first_view.crop: [0.0, 1.0] is no range"),
        ("data.augment.mix_shared=true", "data.augment.mix_shared: there is nothing to mix with"),
        (
            "data.augment.mix_shared=true; data.augment.cutmix=1; objective={type: simclr}",
            "data.augment.mix_shared: objective simclr compares views of one image",
        ),
        ("data.channels=gray; data.augment.hue=0.1", "data.augment.hue: data.channels gray has no colours to change"),
        ("data.channels=gray16; data.augment.grayscale=0.2", "data.augment.grayscale: data.channels gray16 has no"),
        (
            "data.channels=gray; objective={type: simclr, second_view: {hue: 0.1}}",
            "objective.second_view.hue: data.channels gray has no colours to change",
        ),
        ("data.store_size=4", "data.store_size: 4 is below image_size 8"),
        ("pilot.arms=[sl, sl]", "pilot.arms: an arm is named twice"),
        ("pilot.seeds={mixx: 8}", "pilot.seeds.mixx: is no arm that is compared (did you mean mix?)"),
        ("pilot.seeds={mix: 4}", "pilot.seeds.mix: is below default, which is 5 (more seeds may be asked"),
        ("pilot.seeds={mix: true}", "pilot.seeds.mix: must be a whole number from 1 to 1000, not true"),
        ("pilot.seeds=0", "pilot.seeds: must be at least 1 or a section"),
        ("pilot.lengths=[0.5, 2]", "pilot.lengths: 1 is not among them, the length of the verdict"),
        ("pilot.lengths=[1, 1.001]", "pilot.lengths: two of them are within a hundredth of T"),
        ("pilot.lengths=[0, 1]", "pilot.lengths: must be above 0, not 0"),
        ("report.price_per_label=-1", "report.price_per_label: must be at least 0, not -1"),
        ("report.retrainings_per_year=0", "report.retrainings_per_year: must be above 0, not 0"),
        ("report.value_per_point=0", "report.value_per_point: must be above 0, not 0"),
        ("report.price_per_lable=1", "report.price_per_lable: unknown key (did you mean report.price_per_label?)"),
        ("report.engineer_hours=8", "report.price_per_engineer_hour: missing (engineer_hours cost what it says)"),
        ("report.price_per_engineer_hour=90", "report.engineer_hours: missing (price_per_engineer_hour alone costs"),
        ("report.searches=[a, a]", "report.searches: a folder is named twice"),
        ("cluster.gpus_per_worker=1", "cluster.gpus_per_worker: cluster.workers: 0 trains in this process"),
        (
            "cluster.address=ray://head:10001",
            "cluster.address: ray:// (Ray Client) cannot carry a training run (submit",
        ),
        ("storage=gs://bucket/x", "storage: gs://bucket/x is neither a folder nor a place in a bucket"),
        ("storage=s3:/bucket/x", "storage: s3:/bucket/x is neither a folder nor a place in a bucket"),
        ("storage=s3://", "storage: s3:// is neither a folder"),
        ("storage=s3://bucket//x", "storage: s3://bucket//x is neither a folder"),
        ("cluster.placement=near", 'cluster.placement: unknown value "near"'),
        ("cluster.resources_per_worker={CPU: 1}", "cluster.resources_per_worker.CPU: has a field of its own"),
        ("cluster.resources_per_worker={disk: 0}", "cluster.resources_per_worker.disk: must be above 0"),
    ],
)
def test_fields_that_do_not_fit(digits_job: Job, overrides: str, line: str) -> None:
    assert refused(digits_job, *overrides.split("; ")).startswith(line)


# ---- values -----------------------------------------------------------------------------------------------------


def test_units_are_read(digits_job: Job) -> None:
    spec = load_spec(digits_job, ["checkpoint.every=2h", "evaluate.every=5%"])
    assert spec.checkpoint.every == 7200
    assert spec.evaluate.every == 0.05
    assert load_spec(digits_job, ["checkpoint.every=1.5m"]).checkpoint.every == 90


def test_a_spec_is_frozen_and_refuses_the_unknown(digits_job: Job) -> None:
    spec = load_spec(digits_job)
    with pytest.raises(ValidationError):
        spec.seed = 3  # type: ignore[misc]
    with pytest.raises(ValidationError):
        JobSpec.model_validate({**digits_job, "sede": 3})


def test_whole_rows_are_a_share_of_those_that_may_have_a_label(digits_job: Job) -> None:
    of = ["schedule.whole_rows=0.25", "optim.batch=96"]
    assert [load_spec(digits_job, of).num_whole(rows) for rows in (96, 32, 3)] == [24, 8, 1], "one at least"
    assert load_spec(digits_job, [*of, "data.labelled_share=0.5"]).num_whole(96) == 12
    assert load_spec(digits_job).num_whole(96) == 0


def test_shared_pass_auto_is_the_cheapest_that_the_objective_allows(digits_job: Job) -> None:
    assert load_spec(digits_job).passes(drops=True) == ("masked", "masked")
    assert load_spec(digits_job, ["objective={type: simclr}"]).passes(drops=True).mix == "full"
    assert load_spec(digits_job, ["schedule.shared_pass=separate"]).passes(drops=True).mix == "separate"


@pytest.mark.parametrize(
    ("patches", "ratio", "visible"),
    [(64, 0.75, 16), (64, 0.5, 32), (100, 0.9, 10), (16, 0.9, 1), (10, 0.7, 3), (10, 0.75, 2)],
)
def test_visible_patches_are_not_lost_to_rounding(patches: int, ratio: float, visible: int) -> None:
    assert num_visible(patches, ratio) == visible


def test_spec_survives_json_and_pickle(digits_job: Job) -> None:
    spec = load_spec(digits_job, ["schedule.weight={curve: linear, start: 1, end: 0}", "objective.mix_mask_ratio=0.5"])
    assert JobSpec.model_validate_json(spec.model_dump_json(), strict=True) == spec
    assert pickle.loads(pickle.dumps(spec)) == spec


def test_job_error_survives_pickle() -> None:
    error = pickle.loads(pickle.dumps(JobError("optim.lr", "must be a number", "try 1e-3")))
    assert (error.field, error.problem, error.hint) == ("optim.lr", "must be a number", "try 1e-3")
    assert str(error) == "optim.lr: must be a number (try 1e-3)"


def test_schema_lists_every_section() -> None:
    schema = json.dumps(JobSpec.model_json_schema())
    for name in JobSpec.model_fields:
        assert f'"{name}"' in schema
    assert '"additionalProperties": false' in schema


def test_image_tree_is_what_it_says(image_tree: Callable[..., Path], tmp_path: Path) -> None:
    root = image_tree(tmp_path / "images", classes=5, per_class=3, size=12)
    assert sorted(path.name for path in root.iterdir()) == [f"class{i}" for i in range(5)]
    assert len(list(root.rglob("*.jpg"))) == 15


def test_a_view_can_change_what_augmentation_can() -> None:
    """All but what mixes two images; each field means what it means there."""
    options, changes = Augment.model_fields, ViewAugment.model_fields
    assert list(changes) == [name for name in options if name not in ("mixup", "cutmix", "mix_shared")]
    assert all(field.default is None for field in changes.values())
    other = ViewAugment(crop=(0.5, 1), flip=False, blur=0.0).over(Augment(color=0.3, blur=0.5))
    assert other == Augment(crop=(0.5, 1), flip=False, color=0.3, blur=0.0)


def test_a_simclr_job_survives_its_own_json(digits_job: Job) -> None:
    """A run folder keeps its plan whole, and a model is loaded from it."""
    spec = load_spec({**digits_job, "objective": {"type": "simclr"}})
    assert JobSpec.model_validate_json(spec.model_dump_json()) == spec


@pytest.mark.parametrize(("written", "meant"), [("off", "off"), (False, "off"), ("auto", "auto"), (True, "on")])
def test_switches_are_words_however_yaml_reads_them(digits_job: Job, written: Any, meant: str) -> None:
    assert load_spec({**digits_job, "speed": {"replay": written}}).speed.replay == meant


# ---- sweep ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("sweep=3", "sweep: must be a section of axes"),
        ("sweep={}", "sweep: names no axis"),
        ("sweep.data.fractoin=[1]", "sweep.data.fractoin: unknown key (did you mean data.fraction?)"),
        ("sweep.seed=[0, 1]", "sweep.seed: unknown key (one of data.fraction, data.label_fraction)"),
        ("sweep.data.fraction=0.5", "sweep.data.fraction: must be a list of shares, not 0.5"),
        ("sweep.data.fraction=[]", "sweep.data.fraction: must be a list of shares, not []"),
        ("sweep.data.label_fraction=[0, 1]", "sweep.data.label_fraction: must be above 0 and at most 1, not 0"),
        ("sweep.data.label_fraction=[0.5, 1.5]", "sweep.data.label_fraction: must be above 0 and at most 1, not 1.5"),
        ("sweep.data.fraction=[true]", "sweep.data.fraction: must be above 0 and at most 1, not true"),
        ("sweep.data.fraction=[0.5, 0.5]", "sweep.data.fraction: a share is named twice"),
    ],
)
def test_a_sweep_that_is_no_grid_is_refused(digits_job: Job, override: str, line: str) -> None:
    assert refused(digits_job, override).startswith(line)


def test_a_sweep_is_read_back_as_it_was_asked(digits_job: Job) -> None:
    spec = load_spec(digits_job, ["sweep.data.fraction=[0.5, 1]", "sweep.data.label_fraction=[0.1]"])
    assert spec.sweep == {"data.fraction": (0.5, 1.0), "data.label_fraction": (0.1,)}
    assert load_spec(spec) == spec
    assert JobSpec.model_validate_json(spec.model_dump_json()) == spec
