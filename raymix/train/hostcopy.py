"""A copy of a state in host memory that is, byte for byte, the safetensors file which holds it.

The file can so be written while training goes on, by a thread that hardly ever holds the interpreter's lock.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

# safetensors' names, in the order in which it puts tensors: the widest first, so that each is aligned
DTYPES: dict[torch.dtype, str] = {
    torch.int64: "I64",
    torch.float64: "F64",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_ORDER = {dtype: place for place, dtype in enumerate(DTYPES)}
_NUMPY = set(DTYPES) - {torch.bfloat16}  # types that numpy has, too
_ALIGNED = 8


class HostCopy:
    """Room for a file, in which every tensor has its place. It stays allocated from one copy to the next."""

    def __init__(self) -> None:
        self._layout: tuple[tuple[str, torch.dtype, torch.Size], ...] = ()
        self._file, self._pinned = torch.empty(0, dtype=torch.uint8), False
        self._places: dict[str, Tensor] = {}

    def take(self, tensors: Mapping[str, Tensor]) -> memoryview:
        """The file that holds the tensors as they are now; good until the next call.

        From a GPU they travel side by side into pinned memory, and are waited for once.
        """
        layout = tuple((name, value.dtype, value.shape) for name, value in tensors.items())
        if layout != self._layout:
            self._lay_out(tensors)
            self._layout = layout
        for name, value in tensors.items():
            if value.is_cpu and value.dtype in _NUMPY:
                # by one thread: others have nothing to add to it, and are waited for where the machine is busy
                np.copyto(self._places[name].numpy(), value.detach().numpy())
            else:
                self._places[name].copy_(value.detach(), non_blocking=True)
        if self._pinned:
            torch.cuda.synchronize()
        return self._file.numpy().data

    def _lay_out(self, tensors: Mapping[str, Tensor]) -> None:
        start, entries, spans = 0, dict[str, object](), dict[str, tuple[int, int]]()
        for name, value in sorted(tensors.items(), key=lambda item: (_ORDER[item[1].dtype], item[0].encode())):
            spans[name] = start, start + value.nbytes
            entries[name] = {
                "dtype": DTYPES[value.dtype], "shape": list(value.shape), "data_offsets": list(spans[name])
            }  # fmt: skip
            start += value.nbytes
        header = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
        header += b" " * (-len(header) % _ALIGNED)
        before = len(header).to_bytes(8, "little") + header
        self._pinned = any(value.is_cuda for value in tensors.values())
        self._file = torch.empty(len(before) + start, dtype=torch.uint8, pin_memory=self._pinned)
        self._file[: len(before)] = torch.frombuffer(bytearray(before), dtype=torch.uint8)
        body = self._file[len(before) :]
        self._places = {
            name: body[slice(*spans[name])].view(value.dtype).view(value.shape) for name, value in tensors.items()
        }
