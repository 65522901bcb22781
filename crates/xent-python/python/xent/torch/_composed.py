"""The same loss of PyTorch's own operations: on any device, traced, transformed, differentiated as often as you like.

SEMANTICS.md, section by section. Nothing here looks at a number, so that nothing waits for a device: what the engine would refuse is NaN here, and class indices out of range are left
to ``gather``. Slower and hungrier than the engine.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

from xent._options import Options, criterion
from xent.torch import _composed_target
from xent.torch._batch import Batch, Stats, compute_dtype, is_autocast, is_transformed, row_shape


class _Rows(NamedTuple):
    """One number a row."""

    loss: Tensor
    nll: Tensor
    smoothing: Tensor
    z_loss: Tensor
    floor: Tensor


def cross_entropy(logits: Tensor, options: Options, batch: Batch, axis: int, loss_dtype: torch.dtype, want_stats: bool) -> tuple[Tensor, Stats | None]:
    _check(options)
    _check_shapes(logits, batch, axis)
    # Halves are widened; autocast is not to narrow them again.
    with torch.autocast(logits.device.type, enabled=False) if is_autocast(logits) else nullcontext():
        loss, stats = _cross_entropy(logits, options, batch, axis, want_stats)
    return loss.to(loss_dtype), stats


_WORDS = {
    "reduction": ("none", "mean", "sum"),
    "prior": ("uniform", "wrong_classes"),
    "weighting": ("per_class", "per_row"),
    "masked": ("pytorch", "renormalise"),
    "denominator": ("pytorch", "kept_rows", "rows"),
    "empty_mean": ("nan", "zero", "error"),
    "form": ("cross_entropy", "kl"),
}


def _check(options: Options) -> None:
    if not torch.compiler.is_compiling():
        criterion(options)
        return
    # torch.compile cannot follow into Rust. Whatever it raises it runs again uncompiled, so that Rust has the last word there, too.
    inf = float("inf")
    numbers = 0.0 <= options.label_smoothing <= 1.0 and 0.0 <= options.z_loss < inf and 0.0 < options.temperature < inf
    cap = options.softcap is None or 0.0 < options.softcap < inf
    words = all(getattr(options, name) in words for name, words in _WORDS.items())
    if not (numbers and cap and words):
        raise ValueError(f"an option is outside its range: {options}")


def _check_shapes(logits: Tensor, batch: Batch, axis: int) -> None:
    rows, classes = row_shape(logits, axis), logits.shape[axis]
    if classes == 0:
        raise ValueError("the class axis has length 0, expected at least 1 class")
    if (batch.target_b is None) != (batch.lam is None):
        raise TypeError("a mix of two labels takes target_b and lam, the share of the first; one of them is missing")
    for name, tensor, shapes in (
        ("target", batch.target, (logits.shape if batch.has_probabilities() else rows,)),
        ("target_b", batch.target_b, (rows,)),
        ("lam", batch.lam, (rows,)),
        ("label_smoothing", batch.label_smoothing, (rows,)),
        ("row_weight", batch.row_weight, (rows,)),
        ("ignored_rows", batch.ignored_rows, (rows,)),
        ("allowed_classes", batch.allowed_classes, ((classes,), logits.shape)),
        ("weight", batch.weight, ((classes,),)),
        ("prior", batch.prior, ((classes,), (classes, classes))),
    ):
        if tensor is not None and tuple(tensor.shape) not in [tuple(shape) for shape in shapes]:
            expected = " or ".join(str(list(shape)) for shape in shapes)
            raise ValueError(f"{name} of shape {list(tensor.shape)}, expected {expected} with logits of shape {list(logits.shape)} and classes on axis {axis}")
    for name, tensor in (("target", batch.target), ("target_b", batch.target_b)):
        if tensor is not None and (tensor.dtype is torch.bool or tensor.dtype.is_complex or (tensor.dtype.is_floating_point and not batch.has_probabilities())):
            raise TypeError(f"{name} of dtype {tensor.dtype}, expected integers, or probabilities of a float dtype")


def _cross_entropy(logits: Tensor, options: Options, batch: Batch, axis: int, want_stats: bool) -> tuple[Tensor, Stats | None]:
    z = logits.to(compute_dtype(logits)).movedim(axis, -1)
    classes = z.shape[-1]
    target = _composed_target.of(z, options, batch, axis)
    kept = ~target.ignored

    # S1, S5: ignored rows and forbidden classes are cut off before anything looks at them.
    unread = target.ignored.unsqueeze(-1)
    forbidden = None
    if batch.allowed_classes is not None:
        allowed = batch.allowed_classes.bool()
        forbidden = kept.unsqueeze(-1) & ~(allowed if allowed.dim() == 1 else allowed.movedim(axis, -1))
        unread = unread | forbidden
    z = z.masked_fill(unread, 0.0)
    minus_infinity = z == -torch.inf
    z = z / options.temperature
    if options.softcap is not None:
        # −∞ is added, not filled in: the slope is 0 there, and a NaN still comes through it.
        z = options.softcap * torch.tanh(z / options.softcap) + torch.where(minus_infinity, -torch.inf, 0.0).to(z.dtype)
    if forbidden is not None:
        z = z.masked_fill(forbidden, -torch.inf)
    masked = z == -torch.inf
    # S8: such a row is NaN, and so is all of its gradient.
    bad = ~torch.isfinite(z.amax(-1))
    if options.masked == "renormalise":
        z = z.masked_fill(masked & ~bad.unsqueeze(-1), -torch.inf)

    lse = torch.logsumexp(z, -1)
    good_or_nan = torch.where(bad, torch.nan, 1.0).to(z.dtype)
    surprise = lse.unsqueeze(-1) - z  # ℓ

    def expected(distribution: Tensor) -> Tensor:
        """Σ y_k ℓ_k, where 0·∞ is 0."""
        return (distribution * surprise.masked_fill(masked & (distribution == 0.0), 0.0)).sum(-1)

    def row(value: Tensor) -> Tensor:
        """S4.6, S5, S8."""
        value = value * good_or_nan
        if target.row_weight is not None:
            value = value * target.row_weight
        return value.masked_fill(target.ignored, 0.0)

    zero = torch.zeros_like(lse)
    z_loss = options.z_loss * lse.square() if options.z_loss else zero
    if target.closed_form and not want_stats:
        rows = _Rows(row(target.share * _closed_form(target, surprise, masked, classes) + z_loss), zero, zero, zero, zero)
    else:
        before, prior = target.distributions(masked)
        eps = target.eps.unsqueeze(-1)
        smoothed = target.weighed((1.0 - eps) * before + eps * prior)
        total = smoothed.sum(-1)
        floor = torch.xlogy(total, total) - torch.xlogy(smoothed, smoothed).sum(-1)
        loss = expected(smoothed) - (floor if options.form == "kl" else 0.0)
        rows = _Rows(
            row(target.share * loss + z_loss),
            row(target.share * expected(target.weighed(before))) if want_stats else zero,
            row(target.share * expected(target.weighed(eps * prior))) if want_stats else zero,
            row(z_loss),
            row(target.share * floor),
        )
    denominator = target.denominator(options, batch)
    loss = _reduced(rows.loss, options, denominator)
    if options.empty_mean == "error" and options.reduction == "mean":
        _expect_not_empty(denominator)
    if not want_stats:
        return loss, None
    not_finite = kept & ~torch.isfinite(rows.loss)
    nobody = torch.full((), -1, dtype=torch.int64, device=z.device)
    nll, smoothing, z_loss, floor = (_reduced(part, options, denominator).detach() for part in rows[1:])
    return loss, Stats(
        nll,
        smoothing,
        z_loss,
        floor,
        (lse * good_or_nan).masked_fill(target.ignored, 0.0).detach(),
        ((z.argmax(-1) == target.label) & kept & ~bad).sum(),
        denominator.detach(),
        target.ignored.sum(),
        not_finite.sum(),
        nobody if not_finite.numel() == 0 else torch.where(not_finite.any(), not_finite.flatten().to(torch.uint8).argmax(), nobody),
    )


def _closed_form(target: _composed_target.Target, surprise: Tensor, masked: Tensor, classes: int) -> Tensor:
    """S4.1 for class indices and the uniform prior: (1−ε)·ℓ_y + ε/K·Σℓ, without a target of the logits' size."""
    assert target.index is not None
    nll = surprise.gather(-1, target.index.unsqueeze(-1)).squeeze(-1)
    weights = target.class_weights
    if weights is None:
        spread = surprise.sum(-1)
    else:
        of_label = _composed_target.at(weights, target.index)
        # 0·∞ is 0.
        nll = of_label * nll.masked_fill(of_label == 0.0, 0.0)
        spread = (weights * surprise.masked_fill(masked & (weights == 0.0), 0.0)).sum(-1)
    eps = target.eps
    nll = (1.0 - eps) * nll.masked_fill(eps == 1.0, 0.0)
    return nll + eps / classes * spread.masked_fill(eps == 0.0, 0.0)


def _reduced(rows: Tensor, options: Options, denominator: Tensor) -> Tensor:
    """S6."""
    if options.reduction == "none":
        return rows
    if options.reduction == "sum":
        return rows.sum()
    empty = denominator == 0.0
    if options.empty_mean == "nan":
        return rows.sum() / denominator.masked_fill(empty, torch.nan)
    return (rows.sum() / denominator.masked_fill(empty, 1.0)).masked_fill(empty, 0.0)


def _expect_not_empty(denominator: Tensor) -> None:
    if denominator.device.type == "meta" or is_transformed():
        raise ValueError(
            "empty_mean='error' has to look at numbers, which nobody can here (torch.compile, torch.func, meta tensors); 'nan' and 'zero' need not"
        )
    if denominator.item() == 0.0:
        raise ValueError("the mean's denominator is 0: every row is ignored or weighs nothing")
