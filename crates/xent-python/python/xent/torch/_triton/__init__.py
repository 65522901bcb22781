"""Fused kernels for GPUs, written in Triton.

:mod:`.coverage` says which calls have a kernel; what none covers is left to PyTorch's operations.
:mod:`.kernels` computes, :mod:`.launch` chooses tiles and launches, :mod:`.autograd` is what PyTorch
sees of it. Triton is imported when a GPU's tensor comes.
"""

from typing import Any

from torch import Tensor

from xent.torch._batch import Stats
from xent.torch._triton.coverage import applies, has_kernel, has_triton

__all__ = [
    "applies",
    "computed",
    "cross_entropy",
    "formed",
    "has_kernel",
    "has_triton",
]


def cross_entropy(*call: Any) -> tuple[Tensor, Stats | None]:
    from xent.torch._triton import autograd

    return autograd.cross_entropy(*call)


def computed(*call: Any) -> tuple[Tensor, tuple[Tensor, Tensor] | None, Stats | None]:
    from xent.torch._triton import autograd

    return autograd.computed(*call)


def formed(*call: Any) -> Tensor:
    from xent.torch._triton import autograd

    return autograd.formed(*call)
