"""xent's engine under autograd: for plain tensors on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import Any

import torch
from torch import Tensor
from torch.utils.dlpack import to_dlpack  # type: ignore[attr-defined]

from xent._xent import Output
from xent.options import Options, criterion
from xent.torch import _tensors
from xent.torch._batch import (
    PLAIN,
    Batch,
    Stats,
    compute_dtype,
    has_tangent,
    is_differentiated,
    is_transformed,
    row_shape,
)
from xent.torch._memory import gradient_like

# How the engine calls what PyTorch's function calls otherwise.
_ENGINES = {
    "target": "targets",
    "target_b": "second_targets",
    "row_weight": "row_weights",
    "weight": "class_weights",
}
_NAMES = tuple(_ENGINES.get(name, name) for name in Batch._fields)


def sees(*tensors: Tensor | None) -> bool:
    """Whether these are plain tensors in host memory, and operations on them are neither traced nor transformed."""
    for tensor in tensors:
        if tensor is not None and not (
            type(tensor) in PLAIN
            and tensor.is_cpu
            and tensor.layout is torch.strided
            and not tensor.is_nested
        ):
            return False
    return not is_transformed()


def differentiates(logits: Tensor, batch: Batch) -> bool:
    """Whether the engine has the derivatives that may be requested: with respect to the logits, by backward."""
    for tensor in batch:
        if tensor is not None and is_differentiated(tensor):
            return False
    return not has_tangent(logits)


def has_negative_weights(batch: Batch) -> bool:
    """They have no meaning, but PyTorch takes them, and its own tests do."""
    return batch.weight is not None and bool((batch.weight < 0.0).any())


def expect_valid(logits: Tensor, options: Options, batch: Batch, axis: int) -> None:
    """The engine names what is wrong; PyTorch's operations would continue with it."""
    if batch.weight is not None and has_negative_weights(batch):
        batch = batch._replace(weight=batch.weight.abs())
    run(logits, options, batch, axis)


def cross_entropy(
    logits: Tensor,
    options: Options,
    batch: Batch,
    axis: int,
    loss_dtype: torch.dtype,
    want_stats: bool,
) -> tuple[Tensor, Stats | None]:
    if torch.is_grad_enabled() and logits.requires_grad:
        stats: list[Stats] = []
        loss = CrossEntropy.apply(
            logits, options, batch, axis, loss_dtype, stats if want_stats else None
        )
        return loss, stats[0] if want_stats else None
    output = run(logits, options, batch, axis, None, None, want_stats)
    loss = part(output, "loss", logits, axis, loss_dtype)
    return loss, stats_of(output, logits, axis) if want_stats else None


def run(
    logits: Tensor,
    options: Options,
    batch: Batch,
    axis: int,
    gradient: Tensor | None = None,
    upstream: Tensor | float | None = None,
    predictions: bool = False,
    in_place: bool = False,
) -> Output:
    arrays: dict[str, Any] = {
        name: _lent(tensor) for name, tensor in zip(_NAMES, batch) if tensor is not None
    }
    if batch.denominator is not None:
        arrays["denominator"] = batch.denominator.item()
    return criterion(options).call(
        _lent(logits),
        axis,
        gradient=None if gradient is None else _lent(gradient),
        upstream=_lent(upstream) if isinstance(upstream, Tensor) else upstream,
        threads=torch.get_num_threads(),
        predictions=predictions,
        in_place=in_place,
        **arrays,
    )


def _lent(tensor: Tensor) -> Any:
    """A DLPack capsule. ``__dlpack__`` would come to the same after ten times as long."""
    return to_dlpack(tensor.detach().resolve_neg() if tensor.is_neg() else tensor)


def part(output: Output, name: str, logits: Tensor, axis: int, dtype: torch.dtype) -> Tensor:
    value = output.scalar(name)
    if value is not None:
        try:
            return torch.scalar_tensor(value, dtype=dtype, device="cpu")
        except RuntimeError:  # it is too large for the dtype, and becomes infinite
            return torch.tensor(value, dtype=dtype, device="cpu")
    rows = torch.empty(row_shape(logits, axis), dtype=dtype, device="cpu")
    output.copy_rows(name, rows)
    return rows


def stats_of(output: Output, logits: Tensor, axis: int) -> Stats:
    dtype = compute_dtype(logits)
    nll, smoothing, z_loss, floor, lse = (
        part(output, name, logits, axis, dtype) for name in Stats._fields[:5]
    )
    first = -1 if output.first_non_finite is None else output.first_non_finite
    correct, ignored, non_finite, first_non_finite = (
        torch.tensor(count, dtype=torch.int64, device="cpu")
        for count in (output.correct, output.ignored, output.non_finite, first)
    )
    denominator = torch.tensor(output.denominator, dtype=dtype, device="cpu")
    return Stats(
        nll,
        smoothing,
        z_loss,
        floor,
        lse,
        correct,
        denominator,
        ignored,
        non_finite,
        first_non_finite,
        *predictions(output, row_shape(logits, axis)),
    )


def predictions(output: Output, rows: torch.Size) -> tuple[Tensor, Tensor]:
    """The predicted classes, and which of them are correct."""
    predicted = torch.empty(rows, dtype=torch.int64, device="cpu")
    right = torch.empty(rows, dtype=torch.uint8, device="cpu")
    output.copy_predictions(predicted, right)
    return predicted, right.view(torch.bool)


class CrossEntropy(torch.autograd.Function):
    """A reduced loss almost always meets backward, and its gradient comes from the same pass. Per-row losses wait for their upstream gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        options: Options,
        batch: Batch,
        axis: int,
        loss_dtype: torch.dtype,
        stats: list[Stats] | None,
    ) -> Tensor:
        gradient = None if options["reduction"] == "none" else gradient_like(logits)
        output = run(logits, options, batch, axis, gradient, None, stats is not None)
        ctx.save_for_backward(logits, *batch)
        ctx.call = (options, axis, loss_dtype, logits.dtype)
        # Not among what autograd keeps: it has to be given away without a copy, the first time.
        ctx.gradient = gradient
        if stats is not None:
            stats.append(stats_of(output, logits, axis))
        return part(output, "loss", logits, axis, loss_dtype)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        return _gradient(ctx, upstream), None, None, None, None, None


def _gradient(ctx: Any, upstream: Tensor) -> Tensor:
    options, axis, loss_dtype, dtype = ctx.call
    if torch.is_grad_enabled() or not sees(upstream):
        logits, *tensors = ctx.saved_tensors
        return _tensors.gradient(logits, options, Batch(*tensors), axis, loss_dtype, upstream)

    def form(into: Tensor | None, upstream: Tensor | float) -> Tensor:
        # Here and no sooner, so that the logits may be changed in place if they are not needed.
        logits, *tensors = ctx.saved_tensors
        return formed(logits, options, Batch(*tensors), axis, into, upstream)

    gradient, ctx.gradient = ctx.gradient, None
    return scaled(gradient, upstream, dtype, form)


def formed(
    logits: Tensor,
    options: Options,
    batch: Batch,
    axis: int,
    into: Tensor | None,
    upstream: Tensor | float,
) -> Tensor:
    into = gradient_like(logits) if into is None else into
    run(logits, options, batch, axis, into, upstream)
    return into


def scaled(
    gradient: Tensor | None,
    upstream: Tensor,
    dtype: torch.dtype,
    form: Callable[[Tensor | None, Tensor | float], Tensor],
) -> Tensor:
    """The gradient, in the memory of that for an upstream gradient of 1, if it is there already."""
    if upstream.dim() > 0:
        return form(gradient, upstream.detach())
    factor = upstream.item()
    # In half precision, what a large upstream gradient is to save from underflow would be lost already; and ∞ makes a NaN of an ignored row's 0.
    if factor != 1.0 and (dtype.itemsize < 4 or not isfinite(factor)):
        return form(gradient, factor)
    if gradient is None:
        gradient = form(None, 1.0)
    return gradient if factor == 1.0 else gradient.mul_(factor)
