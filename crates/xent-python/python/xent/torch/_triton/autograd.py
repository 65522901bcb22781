"""The kernels under autograd."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from xent.options import Options
from xent.torch import _rules, _tensors
from xent.torch._batch import Batch, Stats, row_shape
from xent.torch._triton import launch


def cross_entropy(
    logits: Tensor,
    options: Options,
    batch: Batch,
    axis: int,
    loss_dtype: torch.dtype,
    want_stats: bool,
) -> tuple[Tensor, Stats | None]:
    logits = launch.readable(logits, axis)
    if not (torch.is_grad_enabled() and logits.requires_grad):
        logits = logits.detach()  # or a Function thinks that a gradient is wanted
    stats: list[Stats] = []
    loss: Tensor = CrossEntropy.apply(
        logits, options, axis, loss_dtype, stats if want_stats else None, *batch
    )
    return loss, stats[0] if want_stats else None


class CrossEntropy(torch.autograd.Function):
    """A reduced loss almost always meets backward, and its gradient comes from the same launch. Per-row losses wait for their upstream gradient."""

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
        wants_gradient = ctx.needs_input_grad[0]
        # Of a small gradient for 1, f16 has lost what loss scaling is to save.
        is_f16 = logits.dtype is torch.float16
        at_once = wants_gradient and options["reduction"] != "none" and not is_f16
        gradient = gradient_like(logits) if at_once else None
        call = launch.call(logits, options, Batch(*tensors), axis)  # type: ignore[arg-type]
        loss, coefficients, of_batch = forward(
            logits, gradient, call, wants_gradient, stats is not None
        )
        if wants_gradient:
            ctx.save_for_backward(logits, *tensors)
            # Not among what autograd keeps: the gradient has to be given away without a copy.
            ctx.call, ctx.coefficients, ctx.gradient = call, coefficients, gradient
            ctx.loss_dtype = loss_dtype
        if stats is not None and of_batch is not None:
            stats.append(of_batch)
        return loss.to(loss_dtype)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        return (_gradient(ctx, upstream), *(None for _ in range(4 + len(Batch._fields))))


def forward(
    logits: Tensor,
    gradient: Tensor | None,
    call: launch.Call,
    wants_gradient: bool,
    want_stats: bool,
) -> tuple[Tensor, tuple[Tensor, Tensor] | None, Stats | None]:
    """The loss, the coefficients of its gradient, and statistics."""
    options, shape = call.options, row_shape(logits, call.axis)
    is_mean = options["reduction"] == "mean"
    denominators = None
    if is_mean or want_stats:
        denominators = _rules.divisors(
            options, call.batch, shape.numel(), torch.float64, logits.device
        )
    made = launch.forward(
        logits, gradient, call, wants_gradient, want_stats, denominators if is_mean else None
    )
    divisor, divisor_z = denominators or (made.parts[0, 0], None)
    divisors = (divisor, divisor if divisor_z is None else divisor_z, *[divisor] * 3)
    parts = [
        _reduced(part.view(shape), options, of_part, divisor, not want_stats)
        for part, of_part in zip(made.parts, divisors)
    ]
    stats = _stats(made, parts, options, call.batch, shape, divisor) if want_stats else None
    loss = parts[0] + parts[1] if options["z_loss"] else parts[0]
    return loss, made.coefficients, stats


def _gradient(ctx: Any, upstream: Tensor) -> Tensor:
    call: launch.Call = ctx.call
    gradient: Tensor | None = ctx.gradient
    ctx.gradient = None
    try:
        logits, *tensors = ctx.saved_tensors
    except RuntimeError:
        # The logits were changed in place, which PyTorch's own loss allows.
        if gradient is None or torch.is_grad_enabled():
            raise
        return gradient.mul_(upstream)
    if torch.is_grad_enabled():
        with torch.enable_grad():
            loss, _ = _tensors.cross_entropy(
                logits, call.options, Batch(*tensors), call.axis, ctx.loss_dtype, False
            )
            second: Tensor = torch.autograd.grad(loss, logits, upstream, create_graph=True)[0]
            return second
    is_written = gradient is not None
    if gradient is None:
        gradient = gradient_like(logits)
    launch.backward(logits, gradient, call, ctx.coefficients, upstream, is_written)
    return gradient


def computed(
    logits: Tensor,
    options: Options,
    batch: Batch,
    axis: int,
    wants_gradient: bool,
    want_stats: bool,
) -> tuple[Tensor, tuple[Tensor, Tensor] | None, Stats | None]:
    """What :func:`forward` returns, for a graph that holds the gradient as an operator of its own."""
    call = launch.call(logits, options, batch, axis)
    return forward(launch.readable(logits, axis), None, call, wants_gradient, want_stats)


def formed(
    logits: Tensor,
    options: Options,
    batch: Batch,
    axis: int,
    coefficients: Sequence[Tensor],
    upstream: Tensor,
) -> Tensor:
    """The gradient from what :func:`computed` has left."""
    call, gradient = launch.call(logits, options, batch, axis), gradient_like(logits)
    read = launch.readable(logits, axis)
    into = gradient if read is logits else gradient_like(read)
    launch.backward(read, into, call, coefficients, upstream, False)
    return gradient if into is gradient else gradient.copy_(into)


def gradient_like(logits: Tensor) -> Tensor:
    """Memory for a gradient, of which the kernels write every element."""
    return torch.empty_like(logits)


def _reduced(
    part: Tensor, options: Options, denominator: Tensor, of_mean: Tensor, alone: bool
) -> Tensor:
    if alone and options["reduction"] == "mean" and options["empty_mean"] == "nan":
        return part.sum() / denominator  # where that is 0, the kernel has written NaN
    return _tensors.reduced(part, options, denominator, of_mean)


def _stats(
    made: launch.Made,
    parts: list[Tensor],
    options: Options,
    batch: Batch,
    shape: torch.Size,
    denominator: Tensor,
) -> Stats:
    ignored = _rules.ignored_rows(options, batch, made.parts.device)
    predicted, right = predictions(made, batch, shape)
    wrong = ~torch.isfinite(made.parts[0] + made.parts[1])
    nll, smoothing, z_loss, floor, lse = (
        part.to(torch.float32)
        for part in (parts[2], parts[3], parts[1], parts[4], made.parts[5].view(shape))
    )
    return Stats(
        nll,
        smoothing,
        z_loss,
        floor,
        lse,
        right.sum(),
        denominator.to(torch.float32),
        torch.zeros_like(wrong.sum()) if ignored is None else ignored.sum(),
        wrong.sum(),
        torch.where(wrong.any(), wrong.to(torch.uint8).argmax(), -1),
        predicted,
        right,
    )


def predictions(made: launch.Made, batch: Batch, shape: torch.Size) -> tuple[Tensor, Tensor]:
    """The predicted classes, and which of them are correct."""
    label = batch.target
    if batch.target_b is not None and batch.lam is not None:
        label = torch.where(batch.lam >= 0.5, batch.target, batch.target_b)
    predicted = cast(Tensor, made.predicted).view(shape).to(torch.int64)
    return predicted, (predicted == label) & (predicted >= 0)
