"""Where images come from: one section a format, told apart by `format`.

A path is local, `s3://`, `gs://` or `https://`. Where a format consists of files, `path` may be a list and may hold
wildcards (`shard-*.tar`).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from raymix.spec.base import Folder, Section

Paths = Folder | Annotated[tuple[Folder, ...], Field(min_length=1)]
Column = Annotated[str, Field(min_length=1, max_length=200)]


class ImageFolderSource(Section):
    """One folder a class, images below it: `path/<class>/**/*.jpg`."""

    format: Literal["image_folder"]
    path: Folder = Field(description="the folder that holds the class folders")


class ImagesSource(Section):
    """Images at any depth below a folder, without labels: for `data.unlabelled`."""

    format: Literal["images"]
    path: Paths = Field(description="a folder, or a list of folders")


class TinyImageNetSource(Section):
    """TinyImageNet's own layout: `train/<wnid>/images/*.JPEG`, validation labels in `val/val_annotations.txt`."""

    format: Literal["tiny_imagenet"]
    path: Folder = Field(description="the folder that holds train/ and val/")


class TableSource(Section):
    """A CSV or JSONL file that names images and their labels."""

    format: Literal["table"]
    path: Folder = Field(description="the .csv, .tsv or .jsonl file")
    images: Folder | None = Field(None, description="folder that image paths are relative to; null: the table's own")
    image_column: Column | None = Field(
        None, description="null: file_name, filename, file, image, image_path or path, whichever there is"
    )
    label_column: Column | None = Field(
        None, description="null: label, class, class_name, category or target, whichever there is"
    )


class ParquetSource(Section):
    """Parquet files with the encoded images in a column: plain binary, or Hugging Face's struct {bytes, path}.

    Files named train-* and val-* (validation-*), or in folders so named, are both sets; test files are left out.
    """

    format: Literal["parquet"]
    path: Paths = Field(description="a file, a folder, a pattern, or a list of them")
    image_column: Column | None = Field(
        None,
        description="null: the one of Hugging Face's type Image, or image, img, jpg, png or bytes, whichever there is",
    )
    label_column: Column | None = Field(
        None, description="null: label, labels, class, fine_label, target or the one of type ClassLabel; -1 is no label"
    )


class WebDatasetSource(Section):
    """WebDataset tar shards: members that share a name up to the first dot are one sample.

    Shards named train-* and val-* (validation-*), or in folders so named, are both sets; test shards are left out.
    """

    format: Literal["webdataset"]
    path: Paths = Field(description="a .tar, a folder of them, a pattern (also {000..127}), or a list")
    label: Column = Field("cls", description="extension of the member that holds the label, or `json:<key>`")


class CifarBinarySource(Section):
    """CIFAR-10 or CIFAR-100 in its binary version: `data_batch_*.bin`, or `train.bin` and `test.bin`."""

    format: Literal["cifar_binary"]
    path: Folder = Field(description="the folder that holds the .bin files")
    labels: Literal["fine", "coarse"] = Field("fine", description="of CIFAR-100: its 100 classes or its 20 groups")


class HfDiskSource(Section):
    """A Hugging Face dataset as `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote it."""

    format: Literal["hf_disk"]
    path: Folder = Field(description="the folder that was written")
    split: Column = Field("train", description="training split of a DatasetDict")
    val_split: Column | None = Field(
        None, description="null: validation, valid, val or test, the first there is; none: a hold-out"
    )
    image_column: Column | None = Field(
        None, description="null: the one of type Image, or image, img, jpg, png or bytes, whichever there is"
    )
    label_column: Column | None = Field(
        None, description="null: label, labels, class, fine_label, target or the one of type ClassLabel; -1 is no label"
    )


class TorchvisionSource(Section):
    """A data set of torchvision by name, as `torchvision.datasets.<name>(root, ...)` reads it.

    Its split val, valid or test, the first that there is, is the validation set.
    """

    format: Literal["torchvision"]
    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")] = Field(description="class name, as in MNIST")
    path: Folder = Field(description="root folder that it is read from")
    download: bool = Field(False, description="let torchvision fetch it where it is not there")


class NpzSource(Section):
    """Arrays in a NumPy .npz file: images (N, H, W), (N, H, W, C) or (N, C, H, W), labels (N,) or (N, 1)."""

    format: Literal["npz"]
    path: Folder = Field(description="the .npz file")
    images: Column | None = Field(
        None,
        description="null: train_images, x_train, images or x, whichever there is; where it says train, "
        "val is the one that says val, valid, validation or test instead",
    )
    labels: Column | None = Field(None, description="null: train_labels, y_train, labels or y, whichever there is")


class DigitsSource(Section):
    """scikit-learn's 1,797 handwritten digits, 8x8 grey; they come with the package, so nothing is downloaded."""

    format: Literal["digits"]


Source = Annotated[
    ImageFolderSource
    | ImagesSource
    | TinyImageNetSource
    | TableSource
    | ParquetSource
    | WebDatasetSource
    | CifarBinarySource
    | HfDiskSource
    | TorchvisionSource
    | NpzSource
    | DigitsSource,
    Field(discriminator="format"),
]
