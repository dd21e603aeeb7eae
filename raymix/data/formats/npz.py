"""`npz`: arrays of images and labels in a NumPy .npz file, as `numpy.savez` and `numpy.savez_compressed` write them.

Images are (N, H, W), (N, H, W, C) or (N, C, H, W). A stored array is mapped into memory, a compressed one loaded once a
process. A uri is `<file>#<array>:<row>`; `<array>*255` where its values run from 0 to 1.
"""

from __future__ import annotations

import difflib
import functools
import os
import threading
import zipfile
from collections.abc import Sequence
from itertools import groupby
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from raymix.data.files import PATH
from raymix.data.labels import Labels, Part, of_numbers, of_texts, rows_of, unlabelled
from raymix.data.rows import Rows
from raymix.spec import JobError, NpzSource

_IMAGES, _LABELS = "data.train.images", "data.train.labels"
_NAMES = {"train_images": "train_labels", "x_train": "y_train", "images": "labels", "x": "y"}
_VAL = ("val", "valid", "validation", "test")  # what stands in the place of "train", the first there is
_CHUNK = 1024  # images looked at together
_UNIT = "*255"
_LOADING = threading.Lock()
_ROUNDING = 0.1  # k/255 in half precision is off by less than this of a grey level


def index(source: NpzSource) -> Rows:
    """The training images in the order of the file, then those of its validation arrays.

    Raises:
        JobError: the file, an array's name, shape, type or values are wrong.
    """
    path = os.path.abspath(os.path.expanduser(source.path))
    names = _members(path)
    images = _named(_IMAGES, source.images, list(_NAMES), names, path)
    if images is None:
        raise JobError(_IMAGES, f"{path} has no array of training images by a usual name", f"it has {_listed(names)}")
    pair = _NAMES.get(images, images.replace("image", "label"))
    labels = _named(_LABELS, source.labels, [pair, *_NAMES.values()], names, path)
    train = _part(path, images, labels)
    for word in _VAL if "train" in images else ():
        val_images, val_labels = images.replace("train", word), (labels or "").replace("train", word)
        if val_images in names and val_labels in names:
            return rows_of(source, PATH, train, _part(path, val_images, val_labels))
    return rows_of(source, PATH, train)


def fetch(source: NpzSource, uris: Sequence[str]) -> list[NDArray[Any]]:
    """Each image, uint8 (H, W) or (H, W, C), or uint16 (H, W). OSError where the file cannot be read."""
    images: list[NDArray[Any]] = []
    for place, group in groupby(uris, key=lambda uri: uri.rpartition(":")[0]):
        path, _, name = place.rpartition("#")
        rows = [int(uri.rpartition(":")[2]) for uri in group]
        array = _array(path, name.removesuffix(_UNIT))
        if max(rows) >= len(array):
            raise OSError(f"{path} has changed since it was indexed")
        picked = np.array(array[rows])  # a copy: no view of the map, or of the whole array, leaves
        if array.ndim == 4 and not _channels_last(array.shape):
            picked = picked.transpose(0, 2, 3, 1)
        if picked.dtype.newbyteorder("=") == np.uint16:
            picked = (picked[..., 0] if picked.ndim == 4 else picked).astype(np.uint16)
        else:
            picked = np.rint(picked * 255.0 if name.endswith(_UNIT) else picked).astype(np.uint8)
        images += list(picked)
    return images


def _members(path: str) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
    except OSError as error:
        raise JobError(PATH, f"{path} cannot be read: {error.strerror or error}", _near(path)) from None
    except Exception:  # of a broken directory zipfile says so in half a dozen ways
        hint = "one array alone has no labels: numpy.savez writes several" if path.endswith(".npy") else ""
        raise JobError(PATH, f"{path} is not a .npz file, or is cut off", hint) from None


def _near(path: str) -> str:
    parent, name = os.path.split(path)
    if os.path.isdir(path):
        return "name the .npz file in it"
    close = difflib.get_close_matches(name, os.listdir(parent), n=1) if os.path.isdir(parent) else []
    return f"did you mean {os.path.join(parent, close[0])}?" if close else ""


def _named(field: str, asked: str | None, usual: Sequence[str], names: Sequence[str], path: str) -> str | None:
    """The array asked for, else the first with a usual name, else None."""
    if asked is None:
        return next((name for name in usual if name in names), None)
    if asked not in names:
        close = difflib.get_close_matches(asked, names, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"it has {_listed(names)}"
        raise JobError(field, f"{path} has no array {asked!r}", hint)
    return asked


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:20])) or "none"


def _part(path: str, images: str, labels: str | None) -> Part:
    array = _opened(_IMAGES, path, images)
    shape = array.shape
    if array.ndim not in (3, 4) or (array.ndim == 4 and not (_channels_last(shape) or shape[1] in (1, 3, 4))):
        raise JobError(_IMAGES, f"{images!r} of {path} is {shape}", "images are (N, H, W) or (N, H, W, C), C 1, 3 or 4")
    if not all(shape):
        raise JobError(_IMAGES, f"{images!r} of {path} is {shape}, which is no pixel", "")
    unit = _UNIT if _is_unit(array, images, path) else ""
    uris = [f"{path}#{images}{unit}:{row}" for row in range(len(array))]
    return Part(uris, _labels(path, labels, len(array)), images)


def _labels(path: str, name: str | None, num_images: int) -> Labels:
    if name is None:
        return unlabelled(num_images)
    values = np.array(_opened(_LABELS, path, name))
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    where = f"{name!r} of {path}"
    if values.shape != (num_images,):
        raise JobError(_LABELS, f"{where} is {values.shape} for {num_images:,} images", "labels are (N,) or (N, 1)")
    if values.dtype.kind == "U":
        return of_texts(values.tolist())
    if values.dtype.kind not in "iufb":
        raise JobError(_LABELS, f"{where} is of type {values.dtype}", "labels are integers or texts")
    return of_numbers(values, (), _LABELS, where)


def _is_unit(array: NDArray[Any], name: str, path: str) -> bool:
    """Whether the values run from 0 to 1 and not from 0 to 255; uint8 and uint16 are taken as they are.

    Raises:
        JobError: they are neither, or not exact enough for 8 bits.
    """
    hint = "store uint8, values 0 to 255"
    wide = array.dtype.newbyteorder("=") == np.uint16
    if array.dtype == np.uint8 or (wide and (array.ndim == 3 or 1 in (array.shape[-1], array.shape[1]))):
        return False
    if array.dtype.kind not in "iufb" or wide:
        raise JobError(_IMAGES, f"{name!r} of {path} is of type {array.dtype}", hint)
    chunks = [array[start : start + _CHUNK] for start in range(0, len(array), _CHUNK)]
    low, high = min(float(chunk.min()) for chunk in chunks), max(float(chunk.max()) for chunk in chunks)
    if not 0 <= low <= high <= 255:
        raise JobError(_IMAGES, f"{name!r} of {path} has values from {low:g} to {high:g}", hint)
    unit = high <= 1 and array.dtype.kind in "fb"
    for chunk in chunks:
        levels = chunk * (255.0 if unit else 1.0)
        if np.abs(levels - np.rint(levels)).max() > _ROUNDING:
            raise JobError(_IMAGES, f"{name!r} of {path} has values between the grey levels of 8 bits", hint)
    return unit


def _channels_last(shape: tuple[int, ...]) -> bool:
    return shape[-1] in (1, 3, 4)


def _opened(field: str, path: str, name: str) -> NDArray[Any]:
    """An array, for an index."""
    try:
        return _array(path, name)
    except OSError as error:
        raise JobError(field, str(error), "numpy.savez writes what can be read") from None


def _array(path: str, name: str) -> NDArray[Any]:
    """An array of the file, mapped into memory where it is stored uncompressed.

    Raises:
        OSError: the file cannot be read, the array is not there, broken, or made of Python objects.
    """
    found = os.stat(path)
    try:
        with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
            member = archive.getinfo(f"{name}.npy")
            if member.compress_type == zipfile.ZIP_STORED:
                return _mapped(file, member, found.st_size)
        with _LOADING:  # else threads that come together would each load it
            return _unpacked(path, name, found.st_size, found.st_mtime_ns)
    except OSError:
        raise
    except Exception as error:  # of a broken array zipfile, zlib and NumPy say so in a dozen ways
        text = "holds Python objects" if "allow_pickle" in str(error) else f"cannot be read: {error}"
        raise OSError(f"{name!r} of {path} {text}") from error


def _mapped(file: IO[bytes], member: zipfile.ZipInfo, size: int) -> NDArray[Any]:
    """The array of a stored member: where its own header in front of the data ends, the .npy file begins."""
    file.seek(member.header_offset + 26)
    lengths = np.frombuffer(file.read(4), "<u2").sum()  # of its name and its extra field
    file.seek(member.header_offset + 30 + int(lengths))
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read_header(file)
    if dtype.hasobject:
        raise ValueError("allow_pickle")
    if file.tell() + dtype.itemsize * int(np.prod(shape, dtype=np.int64)) > size:
        raise EOFError("the file is cut off")
    if not all(shape):
        return np.empty(shape, dtype)  # nothing to map
    return np.memmap(file, dtype, "r", file.tell(), shape, "F" if fortran else "C")


@functools.lru_cache(maxsize=2)  # images and labels, or the images of both sets
def _unpacked(path: str, name: str, size: int, changed: int) -> NDArray[Any]:
    with np.load(path, allow_pickle=False) as arrays:
        array: NDArray[Any] = arrays[name]
    array.flags.writeable = False  # shared by threads
    return array
