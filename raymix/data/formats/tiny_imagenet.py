"""`tiny_imagenet`: TinyImageNet as it is distributed, `train/<wnid>/images/*.JPEG` and a table of validation labels.

Class names are the WordNet ids (`n01443537`), sorted. Validation images that the table does not name are left out.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from raymix.data.files import PATH, file_size, open_file, read_files
from raymix.data.rows import Rows, check_same_classes
from raymix.data.trees import Tree, open_tree
from raymix.spec import JobError, TinyImageNetSource

_EXPECTED = "expected train/<wnid>/images/*.JPEG, val/images/*.JPEG and val/val_annotations.txt"


def index(source: TinyImageNetSource) -> Rows:
    """Training rows by class and file name, then, where there is a val/ folder, the validation rows by file name.

    Raises:
        JobError: the path, its layout or the table of validation labels is wrong.
    """
    tree = open_tree(source.path)
    _check_layout(tree)
    class_names, uris, labels = _train(tree)
    num_train = len(uris)
    if tree.is_folder(os.path.join(tree.root, "val")):
        table = _annotations(tree)
        check_same_classes(class_names, tuple(set(table.values())), PATH, "val/val_annotations.txt")
        number = {name: label for label, name in enumerate(class_names)}
        folder = os.path.join(tree.root, "val", "images")
        uris += [os.path.join(folder, name) for name in sorted(table)]
        labels += [number[table[name]] for name in sorted(table)]
    return Rows.of(source, uris, labels, class_names, num_train)


def fetch(source: TinyImageNetSource, uris: Sequence[str]) -> list[bytes]:
    """The files' bytes; OSError where one cannot be read."""
    return read_files(uris)


def _check_layout(tree: Tree) -> None:
    root = tree.root
    held = tree.listing(root)
    train = os.path.join(root, "train")
    classes = tree.listing(train).folders if "train" in held.folders else []
    if any(tree.is_folder(os.path.join(train, name, "images")) for name in classes):
        return
    if not held.folders and not held.images and not held.num_others:
        raise JobError(PATH, f"{root} is empty", _EXPECTED)
    parent = os.path.dirname(root)
    if _has_file(os.path.join(parent, "val", "val_annotations.txt")):
        raise JobError(PATH, f"{root} is a part of TinyImageNet", f"did you mean {parent}?")
    for name in held.folders:
        if tree.is_folder(os.path.join(root, name, "train")):
            raise JobError(PATH, f"{root} has no train folder", f"did you mean {os.path.join(root, name)}?")
    folders = [os.path.join(train, name) for name in classes] or [os.path.join(root, name) for name in held.folders]
    if any(tree.listing(folder).images for folder in folders):
        raise JobError(PATH, f"{root} has the layout of image_folder", "set the source's format to image_folder")
    raise JobError(PATH, f"{root} has not the layout of TinyImageNet", _EXPECTED)


def _has_file(path: str) -> bool:
    """Whether a file is there, outside of the tree that was asked for."""
    try:
        return file_size(path) >= 0
    except OSError:
        return False


def _train(tree: Tree) -> tuple[tuple[str, ...], list[str], list[int]]:
    """Class names, image paths and their labels of train/."""
    folder = os.path.join(tree.root, "train")
    class_names = tuple(tree.listing(folder).folders)
    uris: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(class_names):
        images = os.path.join(folder, name, "images")
        found = tree.images_below(images) if tree.is_folder(images) else []
        if not found:
            raise JobError(PATH, f"{images} holds no image", "remove the class folder, or unpack the archive again")
        uris += found
        labels += [label] * len(found)
    return class_names, uris, labels


def _annotations(tree: Tree) -> dict[str, str]:
    """File name -> wnid from val/val_annotations.txt: tab separated, whatever follows these two is ignored."""
    path = os.path.join(tree.root, "val", "val_annotations.txt")
    try:
        with open_file(path) as file:
            lines = file.read().decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise JobError(PATH, f"{path} cannot be read: {reason}", _EXPECTED) from None
    table: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        parts = line.split("\t")
        if len(parts) < 2 or not parts[0].strip() or not parts[1].strip():
            problem = f"{path} line {number} is not a file name, a tab and a class: {line[:60]!r}"
            raise JobError(PATH, problem, "unpack the archive again")
        name, wnid = parts[0].strip(), parts[1].strip()
        if table.setdefault(name, wnid) != wnid:
            raise JobError(PATH, f"{path} line {number} gives {name} a second class", "unpack the archive again")
    if not table:
        raise JobError(PATH, f"{path} is empty", "unpack the archive again")
    _check_images(tree, table)
    return table


def _check_images(tree: Tree, table: dict[str, str]) -> None:
    """Every image of the table is there. One listing, not one stat an image; it also refuses names with a folder."""
    folder = os.path.join(tree.root, "val", "images")
    absent = sorted(table.keys() - set(tree.listing(folder).images)) if tree.is_folder(folder) else sorted(table)
    if absent:
        more = f" and {len(absent) - 1:,} more" if len(absent) > 1 else ""
        problem = f"val/val_annotations.txt names {absent[0]}{more}, not in {folder}"
        raise JobError(PATH, problem, "unpack the archive again, or remove these lines")
