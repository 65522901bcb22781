"""Which calls have a kernel."""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from warnings import warn

import torch
from torch import Tensor

from xent.options import Options
from xent.torch._batch import PLAIN, Batch, has_tangent, is_differentiated, is_transformed

DEVICES = ("cuda",)
OLDEST = (3, 6)


def applies(logits: Tensor, options: Options, batch: Batch) -> bool:
    """Whether the kernels compute this call, on this device."""
    return (
        has_kernel(logits, options, batch)
        and logits.numel() > 0
        and not is_transformed()
        and all(tensor is None or type(tensor) in PLAIN for tensor in (logits, *batch))
        and not (has_tangent(logits) or any(is_differentiated(tensor) for tensor in batch))
        and has_triton()
    )


def has_kernel(logits: Tensor, options: Options, batch: Batch) -> bool:
    """Whether there is a kernel for these options, for logits of this dtype on this device."""
    return (
        logits.device.type in DEVICES
        and logits.dtype in (torch.float32, torch.float16, torch.bfloat16)
        and covers(options, batch)
    )


def covers(options: Options, batch: Batch) -> bool:
    """Whether a kernel has the options: all but a few combinations that would need further statistics."""
    weighs_terms = batch.weight is not None and options["weighting"] == "per_class"
    by_class = batch.prior is not None and batch.prior.dim() == 2
    return (
        not batch.has_probabilities()
        and not (weighs_terms and (by_class or options["masked"] == "renormalise"))
        and not (by_class and batch.target_b is not None)
        and options["empty_mean"] != "error"
    )


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def has_triton() -> bool:
    """Warns once if it is not there or too old."""
    return _has_triton()


@lru_cache(maxsize=1)
def _has_triton() -> bool:
    wanted = "xent's fused GPU kernels need triton"
    try:
        found = version("triton")
    except PackageNotFoundError:
        warn(
            f"{wanted}, which is not installed: PyTorch's operations compute instead", stacklevel=2
        )
        return False
    if tuple(int(part) for part in found.split(".")[:2]) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        warn(
            f"{wanted} {oldest} or newer, found {found}: PyTorch's operations compute instead",
            stacklevel=2,
        )
        return False
    return True
