"""xent's engine under autograd: for plain tensors on the CPU."""

from __future__ import annotations

from math import isfinite
from typing import Any

import torch
from torch import Tensor

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


def sees(*tensors: Tensor | None) -> bool:
    """Whether these are plain tensors in host memory, and operations on them are neither traced nor transformed."""
    return not is_transformed() and all(
        tensor is None
        or (
            type(tensor) in PLAIN
            and tensor.device.type == "cpu"
            and tensor.layout is torch.strided
            and not tensor.is_nested
        )
        for tensor in tensors
    )


def differentiates(logits: Tensor, batch: Batch) -> bool:
    """Whether the engine has the derivatives that may be requested: with respect to the logits, by backward."""
    return not (has_tangent(logits) or any(is_differentiated(tensor) for tensor in batch))


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
            logits, options, axis, loss_dtype, stats if want_stats else None, *batch
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
) -> Output:
    arrays: dict[str, Any] = {
        _ENGINES.get(name, name): _exported(tensor)
        for name, tensor in batch._asdict().items()
        if tensor is not None
    }
    if batch.denominator is not None:
        arrays["denominator"] = batch.denominator.item()
    return criterion(options).call(
        _exported(logits),
        axis,
        gradient=gradient,
        upstream=upstream,
        threads=torch.get_num_threads(),
        predictions=predictions,
        **arrays,
    )


def _exported(tensor: Tensor) -> Tensor:
    tensor = tensor.detach()
    return tensor.resolve_neg() if tensor.is_neg() else tensor


def part(output: Output, name: str, logits: Tensor, axis: int, dtype: torch.dtype) -> Tensor:
    value = output.scalar(name)
    if value is not None:
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
    predicted, right = (
        torch.empty(row_shape(logits, axis), dtype=dtype, device="cpu")
        for dtype in (torch.int64, torch.uint8)
    )
    output.copy_predictions(predicted, right)
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
        predicted,
        right.view(torch.bool),
    )


class CrossEntropy(torch.autograd.Function):
    """A reduced loss almost always meets backward, and its gradient comes from the same pass. Per-row losses wait for their upstream gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        options: Options,
        axis: int,
        loss_dtype: torch.dtype,
        stats: list[Stats] | None,
        *tensors: Tensor | None,
    ) -> Tensor:
        batch = Batch(*tensors)  # type: ignore[arg-type]
        gradient = None if options["reduction"] == "none" else gradient_like(logits)
        output = run(logits, options, batch, axis, gradient, None, stats is not None)
        ctx.save_for_backward(logits, *tensors)
        ctx.call = (options, axis, loss_dtype)
        # Not among what autograd keeps: it has to be given away without a copy, the first time.
        ctx.gradient = gradient
        if stats is not None:
            stats.append(stats_of(output, logits, axis))
        return part(output, "loss", logits, axis, loss_dtype)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        return (_gradient(ctx, upstream), *(None for _ in range(4 + len(Batch._fields))))


def _gradient(ctx: Any, upstream: Tensor) -> Tensor:
    options, axis, loss_dtype = ctx.call
    if torch.is_grad_enabled() or not sees(upstream):
        logits, *tensors = ctx.saved_tensors
        with torch.enable_grad():
            loss, _ = _tensors.cross_entropy(
                logits, options, Batch(*tensors), axis, loss_dtype, False
            )
            second: Tensor = torch.autograd.grad(loss, logits, upstream, create_graph=True)[0]
            return second
    gradient: Tensor | None = ctx.gradient
    ctx.gradient = None
    logits, *tensors = ctx.saved_tensors
    return gradient_of(logits, options, Batch(*tensors), axis, gradient, upstream)


def gradient_of(
    logits: Tensor,
    options: Options,
    batch: Batch,
    axis: int,
    gradient: Tensor | None,
    upstream: Tensor,
) -> Tensor:
    """The gradient, from that for an upstream gradient of 1, if it is there, which is overwritten."""

    def formed(upstream: Tensor | float) -> Tensor:
        into = gradient_like(logits) if gradient is None else gradient
        run(logits, options, batch, axis, into, upstream)
        return into

    if options["reduction"] == "none":
        return formed(upstream.detach())
    factor = upstream.item()
    # In half precision, what a large upstream gradient is to save from underflow would be lost already; and ∞ makes a NaN of an ignored row's 0.
    if factor != 1.0 and (logits.dtype.itemsize < 4 or not isfinite(factor)):
        return formed(factor)
    if gradient is None:
        gradient = formed(1.0)
    return gradient if factor == 1.0 else gradient.mul_(factor)
