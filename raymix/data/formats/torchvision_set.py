"""`torchvision`: a data set of torchvision by name, read through its own class and kept once a process.

A uri is `<root>/<name>#<split>:<row>`.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import os
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raymix.data.files import PATH
from raymix.data.labels import Labels, Part, of_numbers, rows_of
from raymix.data.rows import Rows
from raymix.spec import JobError, TorchvisionSource

_NAME = "data.train.name"
_DOWNLOAD = "data.train.download"
_VAL_SPLITS = ("val", "valid", "test")
# where torchvision's classes keep the labels of all images; they agree on no name
_LABELS = ("targets", "labels", "_labels", "_targets", "y")
_SAMPLES = ("samples", "_samples", "_flat_character_images")  # pairs (image, label)
_OPENING = threading.Lock()


def index(source: TorchvisionSource) -> Rows:
    """The rows of the training split, then those of the split val, valid or test, the first that torchvision has.

    Raises:
        JobError: torchvision has no such set of classified images, or it is not below the path.
    """
    root = os.path.abspath(os.path.expanduser(source.path))
    kind = _kind(source.name)
    parameters = inspect.signature(kind.__init__).parameters
    if source.download and "download" not in parameters:
        raise JobError(_DOWNLOAD, f"torchvision does not fetch {source.name}", "fetch it by hand, then leave this out")
    train = _train_split(source.name, parameters)
    try:
        found = _dataset(source.name, root, train, source.download)
    except Exception as error:  # OSError, RuntimeError, ValueError, ImportError: each set has its own
        raise _unread(source, root, parameters, error) from None
    val = _val_part(source, root, train, parameters)
    return rows_of(source, PATH, _part(source.name, root, train, found), val)


def fetch(source: TorchvisionSource, uris: Sequence[str]) -> list[NDArray[np.uint8]]:
    """Each image as torchvision shows it, uint8 (H, W) or (H, W, 3). OSError where one cannot be read."""
    images = []
    for uri in uris:
        place, _, row = uri.rpartition(":")
        place, _, split = place.rpartition("#")
        try:
            dataset = _dataset(source.name, place.removesuffix(f"/{source.name}"), split, download=False)
            images.append(_pixels(dataset[int(row)][0]))
        except OSError:
            raise
        except Exception as error:  # whatever its loader raises on a broken file
            raise OSError(f"{uri}: {error}") from error
    return images


def _kind(name: str) -> type[Any]:
    from torchvision import datasets

    kind = getattr(datasets, name, None)
    if not inspect.isclass(kind) or "root" not in inspect.signature(kind.__init__).parameters:
        close = difflib.get_close_matches(name, datasets.__all__, n=1, cutoff=0.5)
        close = close or [known for known in datasets.__all__ if known.lower() == name.lower()]
        hint = f"did you mean {close[0]}?" if close else "a class of torchvision.datasets, as in CIFAR10"
        raise JobError(_NAME, f"torchvision has no data set {name!r}", hint)
    needed = [
        key
        for key, parameter in inspect.signature(kind.__init__).parameters.items()
        if parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
    if needed[2:]:  # beyond self and root
        problem = f"torchvision's {name} needs {', '.join(needed[2:])} too"
        raise JobError(_NAME, problem, "such sets are not read; write it as Parquet, or as one folder a class")
    return kind


def _train_split(name: str, parameters: Any) -> str:
    """What the training split is called; "all" where there is one only."""
    if "train" in parameters:
        return "train"
    if "split" not in parameters:
        return "all"
    default = str(parameters["split"].default)
    return default if "train" in default else "train"


def _val_part(source: TorchvisionSource, root: str, train: str, parameters: Any) -> Part | None:
    """The first split for validation that there is."""
    splits = ("test",) if "train" in parameters else _VAL_SPLITS if "split" in parameters else ()
    for split in splits:
        try:
            dataset = _dataset(source.name, root, split, source.download)
        except Exception:  # torchvision has no such split, or it is not there: the next, else a hold-out
            continue
        return _part(source.name, root, split, dataset)
    return None


@functools.lru_cache(maxsize=4)
def _constructed(name: str, root: str, split: str, download: bool) -> Any:
    kind = _kind(name)
    parameters = inspect.signature(kind.__init__).parameters
    options: dict[str, Any] = {"download": download} if "download" in parameters else {}
    if "train" in parameters:
        options["train"] = split == "train"
    elif "split" in parameters:
        options["split"] = split
    return kind(root, **options)


def _dataset(name: str, root: str, split: str, download: bool) -> Any:
    with _OPENING:  # else threads that come together would each load it
        return _constructed(name, root, split, download)


def _unread(source: TorchvisionSource, root: str, parameters: Any, error: Exception) -> JobError:
    reason = _reason(error)
    if source.download:
        return JobError(_DOWNLOAD, f"torchvision could not fetch {source.name}: {reason}", "fetch it by hand")
    if isinstance(error, ImportError):
        return JobError(_NAME, f"torchvision's {source.name} needs a package: {reason}", "install it")
    known = "download" in parameters
    return JobError(PATH, f"{source.name} is not in {root}", "set its download: true" if known else reason)


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _part(name: str, root: str, split: str, dataset: Any) -> Part:
    try:
        labels = _labels(name, dataset)
        uris = [f"{root}/{name}#{split}:{row}" for row in range(len(dataset))]
    except JobError:
        raise
    except Exception as error:  # where a label is told with its image, whatever that raises
        raise JobError(PATH, f"torchvision cannot read {name} in {root}: {_reason(error)}") from error
    return Part(uris, labels, f"torchvision's split {split!r}")


def _labels(name: str, dataset: Any) -> Labels:
    found = next((getattr(dataset, key) for key in _LABELS if hasattr(dataset, key)), None)
    if found is None:
        samples = next((getattr(dataset, key) for key in _SAMPLES if hasattr(dataset, key)), None)
        if samples is None:  # a few sets tell a label with its image only; one look says whether it is one
            samples = dataset if np.ndim(dataset[0][1]) == 0 else []
        found = [samples[row][1] for row in range(len(samples))]
    try:
        values = np.asarray(found)
    except (TypeError, ValueError):
        values = np.empty(0, dtype=object)
    if values.shape != (len(dataset),) or values.dtype.kind not in "iu":
        raise JobError(_NAME, f"torchvision's {name} has not one class an image", "a set for classification is needed")
    return of_numbers(values, _class_names(dataset), _NAME, f"torchvision's {name}")


def _class_names(dataset: Any) -> list[str]:
    """Names in the order of the labels; empty where torchvision has none."""
    names = getattr(dataset, "classes", None) or getattr(dataset, "categories", None)
    if names is None and isinstance(getattr(dataset, "class_to_idx", None), dict):
        names = sorted(dataset.class_to_idx, key=dataset.class_to_idx.get)
    return [name if isinstance(name, str) else ", ".join(name) for name in names or []]


def _pixels(image: Any) -> NDArray[np.uint8]:
    return np.array(image if image.mode in ("L", "RGB") else image.convert("RGB"))
