"""`image_folder`: one folder a class, images at any depth below it, as torchvision's ImageFolder reads it.

A path that holds train/ and val/, each with class folders, is taken as a training set with a validation set of its own.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from raymix.data.files import PATH, SUFFIXES, read_files
from raymix.data.rows import Rows, check_same_classes
from raymix.data.trees import Tree, open_tree
from raymix.spec import ImageFolderSource, JobError

_VAL_NAMES = ("val", "valid", "validation")
_SPLIT_NAMES = frozenset({"train", "test", *_VAL_NAMES})
_EXPECTED = f"expected <class>/*.jpg below it, or train/<class> and val/<class>; images are {', '.join(SUFFIXES)}"


def index(source: ImageFolderSource) -> Rows:
    """All images below the class folders of `source.path`; class names and rows are sorted.

    Raises:
        JobError: the path or its layout is wrong.
    """
    tree = open_tree(source.path)
    train_root, val_root = _roots(tree)
    class_names, uris, labels = _classes(tree, train_root)
    _check_names(tree, train_root, class_names)
    num_train = len(uris)
    if val_root is not None:
        val_names, val_uris, val_labels = _classes(tree, val_root)
        check_same_classes(class_names, val_names, PATH, val_root)
        uris += val_uris
        labels += val_labels
    return Rows.of(source, uris, labels, class_names, num_train)


def fetch(source: ImageFolderSource, uris: Sequence[str]) -> list[bytes]:
    """The files' bytes; OSError where one cannot be read."""
    return read_files(uris)


def _roots(tree: Tree) -> tuple[str, str | None]:
    """The folder that holds the training classes, and the one that holds the validation classes, if there is one."""
    root = tree.root
    held = tree.listing(root)
    if tree.is_file(os.path.join(root, "val", "val_annotations.txt")):
        raise JobError(PATH, f"{root} has the layout of tiny_imagenet", "set the source's format to tiny_imagenet")
    if not held.folders:
        if not held.images and not held.num_others:
            raise JobError(PATH, f"{root} is empty", _EXPECTED)
        problem = "holds images but no class folders" if held.images else "holds no class folders"
        raise JobError(PATH, f"{root} {problem}", _EXPECTED)
    # "train" may be a class beside "bus" and "car": a split is one only where it holds folders itself
    splits = [name for name in held.folders if name in _SPLIT_NAMES and tree.listing(os.path.join(root, name)).folders]
    val_names = [name for name in _VAL_NAMES if name in splits]
    if "train" in splits and val_names:
        return os.path.join(root, "train"), os.path.join(root, val_names[0])
    if "train" in splits and splits == held.folders:
        problem = f"{root} holds {' and '.join(splits)} where class folders are expected"
        raise JobError(PATH, problem, f"name {os.path.join(root, 'train')}")
    return root, None


def _classes(tree: Tree, root: str) -> tuple[tuple[str, ...], list[str], list[int]]:
    """Class names, image paths and their labels of the class folders in `root`."""
    class_names = tuple(tree.listing(root).folders)
    images = [tree.images_below(os.path.join(root, name)) for name in class_names]
    if not any(images):
        raise JobError(PATH, f"no image below {root}", _EXPECTED)
    empty = [name for name, found in zip(class_names, images, strict=True) if not found]
    if empty:
        more = f" ({len(empty)} such folders)" if len(empty) > 1 else ""
        problem = f"class folder {os.path.join(root, empty[0])} holds no image{more}"
        raise JobError(PATH, problem, f"remove it, or fill it; images are {', '.join(SUFFIXES)}")
    uris = [uri for found in images for uri in found]
    labels = [label for label, found in enumerate(images) for _ in found]
    return class_names, uris, labels


def _check_names(tree: Tree, root: str, class_names: tuple[str, ...]) -> None:
    """One class is none; and a single folder is often the wrapping of an unpacked archive."""
    if len(class_names) == 1:
        only = os.path.join(root, class_names[0])
        wraps = len(tree.listing(only).folders) > 1
        problem = f"only one class found: {class_names[0]!r}"
        raise JobError(
            "data.train", problem, f"did you mean path {only}?" if wraps else "a classifier needs two or more"
        )
    for name in class_names:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise JobError(PATH, f"the name of class folder {name!r} is not UTF-8", "rename it") from None
