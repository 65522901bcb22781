"""Loss and gradient of a chunk of logits, by the road that its device has: engine, Triton, operations.

A road is given logits ``[n, K]`` that it may overwrite, and returns one number per row of each part
of the loss, and the gradient of the reduced loss. What a mean divides by is the whole batch's, so it
comes with the task.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from xent.options import Options
from xent.torch import _autograd, _composed, _triton
from xent.torch._batch import Batch


class Rows(NamedTuple):
    """One number per row, float64 where the device has it (S4, S10); class and row weights are in it."""

    cross_entropy: Tensor
    """Less the floor in the KL form; without z-loss."""
    z_loss: Tensor | None = None
    nll: Tensor | None = None
    smoothing: Tensor | None = None
    floor: Tensor | None = None
    lse: Tensor | None = None
    predicted: Tensor | None = None
    right: Tensor | None = None

    def sums(self) -> Tensor:
        """Of the first five."""
        loss = self.cross_entropy.sum()
        return torch.stack([torch.zeros_like(loss) if x is None else x.sum() for x in self[:5]])


class Task(NamedTuple):
    """What is asked of a chunk."""

    options: Options
    wants_gradient: bool
    want_stats: bool
    divisor: Tensor
    """Of the gradient; 1 if the loss is no mean. It has a factor that float16 may need."""
    divisor_z: Tensor
    """Of that of the z-loss."""
    upstream: Tensor | None
    """One per row, with the same factor, if nothing reduces the loss."""
    dtype: torch.dtype
    """Of the gradient."""

    def by_row(self) -> Options:
        return {**self.options, "reduction": "none"}


def compute(z: Tensor, batch: Batch, task: Task) -> tuple[Rows, Tensor]:
    """One number per row, and dL/dZ, which may be in the place of Z; Z itself if none is wanted."""
    if _autograd.sees(z, *batch):
        if not _autograd.has_negative_weights(batch):
            return _by_engine(z, batch, task)
        _autograd.expect_valid(z, task.by_row(), batch, 1)
    elif _triton.applies(z, task.options, batch):
        return _by_triton(z, batch, task)
    return _by_operations(z, batch, task)


def _by_engine(z: Tensor, batch: Batch, task: Task) -> tuple[Rows, Tensor]:
    """In host memory. The gradient is written over the logits."""
    divisor, ratio, options = task.divisor.item(), 1.0, task.by_row()
    if options["z_loss"]:
        # The engine divides both parts of a loss by one number, so the weight of the z-loss has the other.
        ratio = (task.divisor / task.divisor_z).item()
        ratio = ratio if 0.0 < ratio < torch.inf else 1.0
        options["z_loss"] *= ratio
    factor = 1.0 / divisor if divisor != 0.0 else torch.nan
    output = _autograd.run(
        z,
        options,
        batch,
        1,
        upstream=factor if task.upstream is None else task.upstream,
        predictions=task.want_stats,
        in_place=task.wants_gradient,
    )

    def part(name: str) -> Tensor:
        return _autograd.part(output, name, z, 1, torch.float64)

    loss = part("loss")
    if not (options["z_loss"] or task.want_stats):
        return Rows(loss), z
    z_loss = part("z_loss")
    loss, z_loss = loss - z_loss, z_loss / ratio
    if not task.want_stats:
        return Rows(loss, z_loss), z
    nll, smoothing, floor, lse = (part(name) for name in ("nll", "smoothing", "floor", "lse"))
    predicted, right = _autograd.predictions(output, z.shape[:1])
    return Rows(loss, z_loss, nll, smoothing, floor, lse, predicted, right), z


def _by_triton(z: Tensor, batch: Batch, task: Task) -> tuple[Rows, Tensor]:
    """In one launch; in two if each row has an upstream gradient of its own."""
    from xent.torch._triton import autograd, launch

    gradient, at_once = z, task.wants_gradient and task.upstream is None
    if task.wants_gradient and task.dtype is not z.dtype:
        gradient = torch.empty_strided(z.shape, z.stride(), dtype=task.dtype, device=z.device)
    call = launch.call(z, task.options, batch, 1)
    made = launch.forward(
        z,
        gradient if at_once else None,
        call,
        task.wants_gradient,
        task.want_stats,
        (task.divisor, task.divisor_z) if at_once else None,
    )
    if made.coefficients is not None and task.upstream is not None:
        launch.backward(z, gradient, call, made.coefficients, task.upstream, False)
    rows = Rows(*made.parts)
    if task.want_stats:
        predicted, right = autograd.predictions(made, batch, z.shape[:1])
        rows = rows._replace(predicted=predicted, right=right)
    return rows, gradient


def _by_operations(z: Tensor, batch: Batch, task: Task) -> tuple[Rows, Tensor]:
    """By PyTorch's operations, which make a new tensor for the gradient."""
    has_parts, gradient = task.want_stats or task.options["z_loss"] != 0.0, z
    loss, stats, coefficients = _composed.forward_pass(
        z, task.by_row(), batch, 1, has_parts, differentiate=task.wants_gradient
    )
    if coefficients is not None:
        upstream = task.upstream
        if upstream is None:
            is_mean = task.options["reduction"] == "mean"
            upstream = torch.ones_like(task.divisor) if is_mean else 1.0 / task.divisor
        coefficients = coefficients._replace(denominator=task.divisor, z_denominator=task.divisor_z)
        gradient = _composed.backward_pass(z, task.options, batch, 1, coefficients, upstream)
        gradient = gradient.to(task.dtype)
    if stats is None:
        return Rows(loss), gradient
    rows = Rows(loss - stats.z_loss, stats.z_loss)
    if task.want_stats:
        rows = rows._replace(
            nll=stats.nll,
            smoothing=stats.smoothing,
            floor=stats.floor,
            lse=stats.lse,
            predicted=stats.predicted,
            right=stats.correct_rows,
        )
    return rows, gradient
