"""What is asked: a job as frozen sections. Unknown keys are refused, so a typing error is found before anything starts.

Nothing here reads a file, imports torch or knows how training works; `raymix.jobfile` reads YAML into these classes,
`raymix.plan` turns them into what will be done.
"""

from raymix.spec.backbone import VIT_SIZES, Import, Plugin, Timm, Torchvision, Vit, long_form
from raymix.spec.base import SPEC_VERSION, JobError, Section, masked
from raymix.spec.cluster import Cluster, Elastic
from raymix.spec.data import NUM_CHANNELS, Augment, Channels, Data, GroupPattern, Region, Tile, ViewAugment, boxes_of
from raymix.spec.evaluate import JUDGED_WITH, TOP, CheckpointSpec, Metric, Weights
from raymix.spec.finetune import Cut, Lora, Shrink, check_adapted
from raymix.spec.job import JobSpec, Passes, check_decode_from, check_masks, nearest_size
from raymix.spec.kubernetes import Kubernetes
from raymix.spec.method import MIX_KINDS, SHARED_PASSES, Mae, MixKind, Optim, SimClr, num_visible
from raymix.spec.models import Drift, Embed, Evaluation, Export, Predict, Reading
from raymix.spec.pilot import ARMS, PRETRAINED, Defined, Pilot
from raymix.spec.report import Costs, ReportSpec
from raymix.spec.schedule import (
    AdaptiveSchedule,
    Budget,
    BudgetedSchedule,
    Currency,
    FixedSchedule,
    Goal,
    PhasesSchedule,
    Weight,
)
from raymix.spec.sources import (
    CifarBinarySource,
    DigitsSource,
    HfDiskSource,
    ImageFolderSource,
    ImagesSource,
    NpzSource,
    ParquetSource,
    Source,
    TableSource,
    TinyImageNetSource,
    TorchvisionSource,
    WebDatasetSource,
)
from raymix.spec.sweep import SWEEP_AXES, Sweep, SweepAxis, share_text
from raymix.spec.tune import Asha, Axis, SearchBudget, Tune
from raymix.spec.watch import Mlflow, Wandb, Watch

__all__ = [
    "ARMS",
    "JUDGED_WITH",
    "MIX_KINDS",
    "NUM_CHANNELS",
    "PRETRAINED",
    "SHARED_PASSES",
    "SPEC_VERSION",
    "SWEEP_AXES",
    "TOP",
    "VIT_SIZES",
    "AdaptiveSchedule",
    "Asha",
    "Augment",
    "Axis",
    "Budget",
    "BudgetedSchedule",
    "Channels",
    "CheckpointSpec",
    "CifarBinarySource",
    "Cluster",
    "Costs",
    "Currency",
    "Cut",
    "Data",
    "Defined",
    "DigitsSource",
    "Drift",
    "Elastic",
    "Embed",
    "Evaluation",
    "Export",
    "FixedSchedule",
    "Goal",
    "GroupPattern",
    "HfDiskSource",
    "ImageFolderSource",
    "ImagesSource",
    "Import",
    "JobError",
    "JobSpec",
    "Kubernetes",
    "Lora",
    "Mae",
    "Metric",
    "MixKind",
    "Mlflow",
    "NpzSource",
    "Optim",
    "ParquetSource",
    "Passes",
    "PhasesSchedule",
    "Pilot",
    "Plugin",
    "Predict",
    "Reading",
    "Region",
    "ReportSpec",
    "SearchBudget",
    "Section",
    "Shrink",
    "SimClr",
    "Source",
    "Sweep",
    "SweepAxis",
    "TableSource",
    "Tile",
    "Timm",
    "TinyImageNetSource",
    "Torchvision",
    "TorchvisionSource",
    "Tune",
    "ViewAugment",
    "Vit",
    "Wandb",
    "Watch",
    "WebDatasetSource",
    "Weight",
    "Weights",
    "boxes_of",
    "check_adapted",
    "check_decode_from",
    "check_masks",
    "long_form",
    "masked",
    "nearest_size",
    "num_visible",
    "share_text",
]
