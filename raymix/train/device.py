"""What a device is called, which of torch's kernels it is kept from, and how it comes to run recorded steps faster."""

from __future__ import annotations

import ctypes
import importlib
import os

import torch


def choose_attention() -> None:
    """Keeps attention on GPUs from cuDNN's kernels, which torch from 2.11 on prefers on Hopper and Blackwell.

    Their backward pass gives NaN where the number of tokens is 64 beyond a multiple of 128, as a ViT's on 64 px has it,
    and the logits of a query are all far below zero (pytorch issue 196678).
    """
    torch.backends.cuda.enable_cudnn_sdp(False)


def repeat_exactly(wanted: bool, device: torch.device) -> None:
    """Whether kernels are to give the same bits each time; on CPUs they do so anyway.

    Compiled ones are then chosen by rule and not by how fast each was when it was tried.
    """
    if device.type != "cuda" or wanted == torch.are_deterministic_algorithms_enabled():
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # which torch asks for before it calls cuBLAS so
    torch.use_deterministic_algorithms(wanted)
    # a check on programs, which costs time
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    compiler = importlib.import_module("torch._inductor.config")
    if hasattr(compiler, "deterministic"):
        compiler.deterministic = wanted  # type: ignore[attr-defined]


def quicken() -> None:
    """Makes one more CUDA context on the current GPU and destroys it: graphs that were recorded before then run faster.

    Kernels stay as they were, pauses between them shrink. A step of ViT-Tiny, mix, 1,024 images, on an H200 (driver
    580.159): 5.85 ms before and 5.61 after, a plain PyTorch loop's 5.92 and 5.61; another process's context does it
    too, one that was made before the recording does not. Why is not known. Where no context can be had, nothing
    happens: the device is full, or lets a process have but one, or is not NVIDIA's.
    """
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return
    device, context = ctypes.c_int(), ctypes.c_void_p()
    driver.cuDeviceGet(ctypes.byref(device), torch.cuda.current_device())
    if driver.cuCtxCreate_v2(ctypes.byref(context), 0, device) == 0:  # current in this thread until it is gone
        driver.cuCtxDestroy_v2(context)


def first_device() -> torch.device:
    """What a process computes on that trains by itself: its first GPU, where there is one."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def name_of(device: torch.device) -> str:
    """The device in words: its maker's name for it, or CPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
