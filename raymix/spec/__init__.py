"""What is asked: a job as frozen sections. Unknown keys are refused, so a typing error is found before anything starts.

Nothing here reads a file, imports torch or knows how training works; `raymix.jobfile` reads YAML into these classes,
`raymix.plan` turns them into what will be done.
"""

from raymix.spec.base import JobError, Section
from raymix.spec.data import NUM_CHANNELS, Augment, Channels, Data, ViewAugment
from raymix.spec.job import Cluster, JobSpec
from raymix.spec.method import SHARED_PASSES, FixedSchedule, Mae, Optim, SimClr, Vit, num_visible
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

__all__ = [
    "NUM_CHANNELS",
    "SHARED_PASSES",
    "Augment",
    "Channels",
    "CifarBinarySource",
    "Cluster",
    "Data",
    "DigitsSource",
    "FixedSchedule",
    "HfDiskSource",
    "ImageFolderSource",
    "ImagesSource",
    "JobError",
    "JobSpec",
    "Mae",
    "NpzSource",
    "Optim",
    "ParquetSource",
    "Section",
    "SimClr",
    "Source",
    "TableSource",
    "TinyImageNetSource",
    "TorchvisionSource",
    "ViewAugment",
    "Vit",
    "WebDatasetSource",
    "num_visible",
]
