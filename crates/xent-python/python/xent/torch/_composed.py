"""The loss by PyTorch's operations, with a gradient of its own: on any device.

:mod:`._tensors` leaves the gradient to autograd, which keeps every intermediate result of the
logits' size and reads it again. Here one autograd function keeps the logits and a few numbers per
row (:class:`~xent.torch._passes.Coefficients`), and computes the softmax again in backward. That
covers calls of which only the logits are differentiated, and only once; the rest goes through
:mod:`._tensors`.

Both roads share what targets contribute (:mod:`._rules`) and what a row's loss is made of
(:func:`._tensors.concluded`). The passes over the logits are in :mod:`._passes`.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch._subclasses import FakeTensor

from xent.options import Options
from xent.torch import _passes, _rules, _tensors
from xent.torch._batch import (
    PLAIN,
    VMAP_MODE,
    Batch,
    Stats,
    compute_dtype,
    has_tangent,
    is_differentiated,
)
from xent.torch._passes import Coefficients, Dense
from xent.torch._rules import Contribution, times
from xent.torch._tensors import Statistics, allowed_classes, either


def applies(logits: Tensor, batch: Batch) -> bool:
    """Whether these are plain tensors, of which nothing but the logits is differentiated."""
    return (
        not is_transformed()
        and all(is_plain(tensor) for tensor in (logits, *batch) if tensor is not None)
        and not any(is_differentiated(tensor) for tensor in batch)
    )


def is_transformed() -> bool:
    """Whether operations must be pure and differentiable: under torch.func and the like.

    Not under torch.compile, which makes them pure.
    """
    functorch = torch._C._functorch
    if isinstance(functorch.peek_interpreter_stack(), functorch.CInterpreter):
        return True
    if torch.compiler.is_compiling():
        return False
    is_batched = torch._C._dispatch_tls_is_dispatch_key_included(VMAP_MODE)
    return is_batched or torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]


def is_plain(tensor: Tensor) -> bool:
    return (
        type(tensor) in (*PLAIN, FakeTensor)
        and tensor.layout is torch.strided
        and not tensor.is_nested
        and not has_tangent(tensor)
    )


def cross_entropy(
    logits: Tensor,
    options: Options,
    batch: Batch,
    axis: int,
    loss_dtype: torch.dtype,
    want_stats: bool,
) -> tuple[Tensor, Stats | None]:
    if torch.is_grad_enabled() and logits.requires_grad:
        loss, *stats = ComposedCrossEntropy.apply(
            logits, options, axis, loss_dtype, want_stats, *batch
        )
        return loss, Stats(*stats) if want_stats else None
    with _tensors.without_autocast(logits):
        loss, all_stats, _ = forward_pass(
            logits, options, batch, axis, want_stats, differentiate=False
        )
        return _tensors.in_dtypes_of(logits, loss_dtype, loss, all_stats)


class ComposedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        options: Options,
        axis: int,
        loss_dtype: torch.dtype,
        want_stats: bool,
        *tensors: Tensor | None,
    ) -> tuple[Tensor, ...]:
        batch = Batch(*tensors)  # type: ignore[arg-type]
        with _tensors.without_autocast(logits):
            loss, stats, coefficients = forward_pass(
                logits, options, batch, axis, want_stats, differentiate=True
            )
            loss, stats = _tensors.in_dtypes_of(logits, loss_dtype, loss, stats)
        ctx.save_for_backward(logits, *tensors, *cast(Coefficients, coefficients))
        ctx.call = (options, axis, loss_dtype)
        if not torch.compiler.is_compiling():  # which has no such method
            ctx.set_materialize_grads(False)
        return _tensors.outputs(ctx, loss, stats)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor | None, *_: Tensor | None) -> tuple[Tensor | None, ...]:
        gradient = None if upstream is None else _gradient(ctx, upstream)
        return (gradient, *(None for _ in range(4 + len(Batch._fields))))


def _gradient(ctx: Any, upstream: Tensor) -> Tensor:
    options, axis, loss_dtype = ctx.call
    logits, *tensors = ctx.saved_tensors
    batch, coefficients = _passes.saved(tensors)
    if not torch.compiler.is_compiling() and (
        torch.is_grad_enabled() or is_transformed() or not is_plain(upstream)
    ):
        return _tensors.gradient(logits, options, batch, axis, loss_dtype, upstream)
    with _tensors.without_autocast(logits):
        return backward_pass(logits, options, batch, axis, coefficients, upstream)


def gradient(logits: Tensor, options: Options, batch: Batch, axis: int, upstream: Tensor) -> Tensor:
    """The gradient alone, and not under autograd."""
    _, _, coefficients = forward_pass(logits, options, batch, axis, False, differentiate=True)
    return backward_pass(logits, options, batch, axis, cast(Coefficients, coefficients), upstream)


def forward_pass(
    logits: Tensor,
    options: Options,
    batch: Batch,
    axis: int,
    want_stats: bool,
    differentiate: bool,
) -> tuple[Tensor, Stats | None, Coefficients | None]:
    z = logits.movedim(axis, -1)
    allowed, masked = allowed_classes(batch, z.device, axis), None
    if options["masked"] == "renormalise":
        masked = either(z == -torch.inf, None if allowed is None else ~allowed)
    given = _rules.contribution(
        options,
        batch,
        _probabilities(batch, z, axis),
        _rules.ignored_rows(options, batch, z.device),
        masked,
        z.shape,
        compute_dtype(z),
        z.device,
        want_stats,
    )
    read = _passes.statistics(z, allowed, given.rows, options)
    factor = _tensors.factor(given, read, batch)
    loss, stats = _tensors.concluded(given, read, factor, options, want_stats)
    if not differentiate:
        return loss, stats, None
    return loss, stats, _coefficients(logits, given, read, factor, options, batch)


def _coefficients(
    logits: Tensor,
    given: Contribution,
    read: Statistics,
    factor: Tensor,
    options: Options,
    batch: Batch,
) -> Coefficients:
    """For an upstream gradient of 1, before the division of a mean."""
    rows = given.rows
    by = cast(Tensor, times(rows.whole, factor))
    hot: list[Tensor | None] = []
    for each in rows.hot:
        hot += [each.label, rows.at(each) * by]
    hot += [None] * (4 - len(hot))
    of_lse = None
    if options["z_loss"]:
        of_lse = (2.0 * options["z_loss"]) * (read.max + read.log1p_rest) * factor
    # torch.softmax is a single pass, but over plain logits in the dtype that is computed in.
    is_plain = (
        compute_dtype(logits) is logits.dtype
        and options["temperature"] == 1.0
        and options["softcap"] is None
        and batch.allowed_classes is None
        and logits.is_contiguous()
    )
    return Coefficients(
        given.denominator,
        given.z_denominator,
        v=rows.v if isinstance(rows.v, Tensor) and rows.v.dim() == 1 else None,
        largest=read.max.to(rows.dense),
        share=None if is_plain else (-read.log1p_rest).exp(),
        alpha=rows.total * by,
        of_lse=of_lse,
        gamma=rows.gamma * by if rows.smooths() else None,
        tau=None if rows.target is None else rows.tau * by,
        ignored=given.ignored,
        mix=given.mix,
        label=hot[0],
        at_label=hot[1],
        label_b=hot[2],
        at_label_b=hot[3],
    )


def backward_pass(
    logits: Tensor,
    options: Options,
    batch: Batch,
    axis: int,
    coefficients: Coefficients,
    upstream: Tensor,
) -> Tensor:
    z, dtype = logits.movedim(axis, -1), coefficients.alpha.dtype
    target, table = _probabilities(batch, z, axis), None
    by_class = batch.prior is not None and batch.prior.dim() == 2
    if target is not None or (by_class and coefficients.gamma is not None):
        table = _rules.table(options, batch, z.shape[-1], dtype, z.device)
        table = table if target is None else table.checked(compute_dtype(z))
    dense = Dense(table, target, allowed_classes(batch, z.device, axis))
    coefficients = coefficients.over(upstream.to(dtype), options)
    return _passes.gradient(z, coefficients, dense, options, axis).movedim(-1, axis)


def _probabilities(batch: Batch, z: Tensor, axis: int) -> Tensor | None:
    """With the classes on the last axis."""
    if not batch.has_probabilities():
        return None
    target = batch.target.to(z.device).movedim(axis, -1)
    # Narrower ones are widened where they are multiplied.
    return target.to(compute_dtype(z)) if target.dtype is torch.float64 else target
