"""The loss by PyTorch's own operations: on any device, traced, transformed, differentiated any number of times.

SEMANTICS.md, in four steps. :mod:`._rules` says what targets contribute; :func:`transformed` and
:func:`statistics` read the logits, a few numbers per row; :func:`fold` makes a row's loss of both; and
:func:`reduced` reduces rows. Every sum has terms ≥ 0, so that nothing cancels:

    m = max z      R = ln(1 + Σ_{k ≠ argmax} e^(z_k − m))      S = Σ v_k (m − z_k)
    nll = Σ hard_j (R + m − z_j)      smoothing = ε·[(σ·Σ v + Σ π_j)·R + σ·S + Σ π_j (m − z_j)]      lse = m + R

No value is read back, so that nothing waits for a device, and after a criterion's first call nothing
but the batch is copied to it. What the engine rejects is NaN here; class indices out of range are left
to ``index_select``.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import NamedTuple, cast

import torch
from torch import Tensor

from xent.options import Options
from xent.torch import _rules
from xent.torch._batch import Batch, Stats, compute_dtype, is_autocast, is_transformed
from xent.torch._rules import Number, Rows, at, per_row


def cross_entropy(
    logits: Tensor,
    options: Options,
    batch: Batch,
    axis: int,
    loss_dtype: torch.dtype,
    want_stats: bool,
) -> tuple[Tensor, Stats | None]:
    # Half precision is widened; autocast must not narrow it again.
    with (
        torch.autocast(logits.device.type, enabled=False) if is_autocast(logits) else nullcontext()
    ):
        loss, stats = _cross_entropy(logits, options, batch, axis, want_stats)
    return loss.to(loss_dtype), stats


def _cross_entropy(
    logits: Tensor, options: Options, batch: Batch, axis: int, want_stats: bool
) -> tuple[Tensor, Stats | None]:
    z = logits.to(compute_dtype(logits)).movedim(axis, -1)
    ignored = ignored_rows(options, batch, z)
    table = _rules.table(options, batch, z.shape[-1], z.dtype, z.device)
    rows = _rules.rows(table, options, batch, axis, ignored, z.shape[-1], z.dtype)
    z = transformed(z, ignored, options, batch, axis)
    if options["masked"] == "renormalise":
        masked = (z == -torch.inf) & torch.isfinite(z.amax(-1, keepdim=True))
        z = z.masked_fill(masked, -torch.inf)  # no gradient
        rows = rows.renormalised(masked, z.dtype)
    label = rows.target.argmax(-1) if want_stats and rows.target is not None else rows.largest
    rows = rows.weighted(table.term)
    denominators = _denominators(rows, ignored, options, batch, z.dtype)
    read = statistics(z, rows)
    parts = fold(rows, read, options, want_stats)

    scale = torch.where(torch.isfinite(read.max), 1.0, torch.nan).to(z.dtype)  # S8
    if batch.row_weight is not None:
        scale = scale * per_row(batch.row_weight, ignored, z.dtype)
    parts = Parts(*((part * scale).masked_fill(ignored, 0.0) for part in parts))
    if options["empty_mean"] == "error" and options["reduction"] == "mean":
        _expect_not_empty(denominators[0])
    z_loss = reduced(parts.z_loss, options, denominators[1], denominators[0])
    loss = reduced(parts.cross_entropy, options, denominators[0], denominators[0]) + z_loss
    return loss, _stats(
        label, read, parts, z_loss, ignored, options, denominators[0]
    ) if want_stats else None


def ignored_rows(options: Options, batch: Batch, z: Tensor) -> Tensor:
    """S5."""
    ignored = torch.zeros(z.shape[:-1], dtype=torch.bool, device=z.device)
    if batch.ignored_rows is not None:
        ignored = batch.ignored_rows.to(z.device, torch.bool)
    for label in () if batch.has_probabilities() else (batch.target, batch.target_b):
        for ignore in cast(tuple[int, ...], options["ignore_index"] or ()):
            ignored = (
                ignored if label is None else ignored | (label.to(z.device, torch.int64) == ignore)
            )
    return ignored


def transformed(z: Tensor, ignored: Tensor, options: Options, batch: Batch, axis: int) -> Tensor:
    """S1. Ignored rows and forbidden classes are cut off before anything reads them, so that their gradients are exactly 0."""
    unread = ignored.unsqueeze(-1)
    forbidden = None
    if batch.allowed_classes is not None:
        allowed = batch.allowed_classes.to(z.device, torch.bool)
        forbidden = ~(unread | (allowed if allowed.dim() == 1 else allowed.movedim(axis, -1)))
        unread = unread | forbidden
    z = z.masked_fill(unread, 0.0)
    cap = options["softcap"]
    if options["temperature"] != 1.0:
        z = z / options["temperature"]
    if cap is not None:
        minus_infinity = z == -torch.inf
        # −∞ is added, not filled in: the slope is 0 there, and a NaN still comes through it.
        z = cap * torch.tanh(z / cap) + torch.where(minus_infinity, -torch.inf, 0.0).to(z.dtype)
    return z if forbidden is None else z.masked_fill(forbidden, -torch.inf)


def _stats(
    label: Tensor | None,
    read: Statistics,
    parts: Parts,
    z_loss: Tensor,
    ignored: Tensor,
    options: Options,
    denominator: Tensor,
) -> Stats:
    lse = read.max + read.log1p_rest
    finite = torch.isfinite(read.max)
    wrong = ~ignored & ~torch.isfinite(parts.cross_entropy + parts.z_loss)
    first = torch.full((), -1, dtype=torch.int64, device=ignored.device)
    if wrong.numel() > 0:
        first = torch.where(wrong.any(), wrong.flatten().to(torch.uint8).argmax(), first)
    nll, smoothing, floor = (
        reduced(part, options, denominator, denominator).detach()
        for part in (parts.nll, parts.smoothing, parts.floor)
    )
    predicted = read.argmax.masked_fill(ignored | ~finite, -1)
    right = (read.argmax == label) & ~ignored & finite
    return Stats(
        nll,
        smoothing,
        z_loss.detach(),
        floor,
        torch.where(finite, lse, torch.nan).masked_fill(ignored, 0.0).detach(),
        right.sum(),
        denominator.detach(),
        ignored.sum(),
        wrong.sum(),
        first,
        predicted,
        right,
    )


class Statistics(NamedTuple):
    """What is read of transformed logits: one number per row."""

    max: Tensor
    argmax: Tensor
    log1p_rest: Tensor
    """R."""
    prior: Tensor
    """S, over σ's v after class weights; 0 where nothing is smoothed."""
    target: Tensor | None
    """Σ t_k (m − z_k) of probabilities, after class weights."""
    below: tuple[Tensor, ...]
    """m − z at the hot classes."""


def statistics(z: Tensor, rows: Rows) -> Statistics:
    largest, argmax = z.max(-1)
    below = largest.unsqueeze(-1) - z
    # The largest logit is left out of a sum of which it would be all the digits.
    rest = torch.exp(-below).scatter(-1, argmax.unsqueeze(-1), 0.0).sum(-1)
    labels = [hot.label.unsqueeze(-1) for hot in rows.hot]
    at_hot = tuple(below.gather(-1, index).squeeze(-1) for index in labels)
    target = None if rows.target is None else against(rows.target, below)
    for index in labels if rows.leaves_out else ():
        below = below.scatter(-1, index, 0.0)
    prior = against(rows.v, below) if smooths(rows) else torch.zeros_like(rest)
    return Statistics(largest, argmax, rest.log1p(), prior, target, at_hot)


def against(values: Number, below: Tensor) -> Tensor:
    return times(values, below).sum(-1) if isinstance(values, Tensor) else below.sum(-1)


def times(a: Number, b: Tensor) -> Tensor:
    """a·b, where 0·∞ is 0."""
    if isinstance(a, Tensor):
        return a * b.masked_fill((a == 0.0) & b.isinf(), 0.0)
    return b * a if a != 0.0 else torch.zeros_like(b)


def smooths(rows: Rows) -> bool:
    return isinstance(rows.epsilon, Tensor) or rows.epsilon != 0.0


class Parts(NamedTuple):
    """S4: one number per row."""

    cross_entropy: Tensor
    """Less the floor in the KL form; without z-loss."""
    nll: Tensor
    smoothing: Tensor
    z_loss: Tensor
    floor: Tensor


def fold(rows: Rows, read: Statistics, options: Options, want_stats: bool) -> Parts:
    rest, zero = read.log1p_rest, torch.zeros_like(read.log1p_rest)
    of_target = (
        [times(hot.share, below) for hot, below in zip(rows.hot, read.below)]
        if read.target is None
        else [read.target]
    )
    nll = sum(of_target, rows.mass * rest)
    smoothing = zero
    if smooths(rows):
        of_hot = [times(hot.own, below) for hot, below in zip(rows.hot, read.below)]
        smoothing = sum((times(rows.sigma, read.prior), *of_hot), rows.prior_mass * rest)
        smoothing = times(rows.epsilon, smoothing)
    cross_entropy = times(1.0 - rows.epsilon, nll) + smoothing
    floor = entropy_floor(rows, zero) if want_stats or options["form"] == "kl_divergence" else zero
    if options["form"] == "kl_divergence":
        cross_entropy = cross_entropy - floor
    z_loss = options["z_loss"] * (read.max + rest).square() if options["z_loss"] else zero
    return Parts(
        rows.whole * cross_entropy,
        rows.whole * nll,
        rows.whole * smoothing,
        z_loss,
        rows.whole * floor,
    )


def entropy_floor(rows: Rows, zero: Tensor) -> Tensor:
    """h(Y) − Σ h(y_k) with h(x) = x ln x: over v from its sums, then the hot classes by themselves (S4.3)."""
    hard, gamma = zero + (1.0 - rows.epsilon), zero + rows.epsilon * rows.sigma
    total = hard * rows.mass + rows.epsilon * rows.prior_mass
    v = rows.v
    if rows.target is not None:
        y = hard.unsqueeze(-1) * rows.target + gamma.unsqueeze(-1) * v
        return _h(total) - _h(y).sum(-1)
    mass, entropy = (
        (v.sum(-1), _h(v).sum(-1)) if isinstance(v, Tensor) else (float(rows.classes), zero)
    )
    of_hot = zero
    for hot in rows.hot:
        on_v = zero + at(v, hot.label)
        mass, entropy = mass - on_v, entropy - _h(on_v)
        y = hard * hot.share + rows.epsilon * hot.own
        of_hot = of_hot + _h(y if rows.leaves_out else y + gamma * on_v)
    return _h(total) - (gamma * entropy + _h(gamma) * mass + of_hot)


def _h(x: Tensor) -> Tensor:
    return torch.xlogy(x, x)


def _denominators(
    rows: Rows, ignored: Tensor, options: Options, batch: Batch, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """S6: of the cross-entropy, and of z-loss, whose mean does not depend on the scale of class weights."""
    if batch.denominator is not None:
        given = batch.denominator.to(ignored.device, dtype).reshape(())
        given = torch.where((given > 0.0) & (given < torch.inf), given, torch.nan)
        return given, given
    kept = ~ignored
    number = (torch.ones_like(kept) if options["denominator"] == "rows" else kept).sum().to(dtype)
    by_row = options["weighting"] == "per_row"
    if batch.weight is None or options["denominator"] != "pytorch" or not (by_row or rows.hot):
        return number, number
    weight = cast(Tensor, rows.whole if by_row else rows.mass)
    return weight.masked_fill(ignored, 0.0).sum(), number


def reduced(rows: Tensor, options: Options, denominator: Tensor, of_mean: Tensor) -> Tensor:
    """S6; ``of_mean`` says whether the mean is over nothing."""
    if options["reduction"] == "none":
        return rows
    if options["reduction"] == "sum":
        return rows.sum()
    empty = of_mean == 0.0
    if options["empty_mean"] == "nan":
        return rows.sum() / denominator.masked_fill(empty, torch.nan)
    return (rows.sum() / denominator.masked_fill(empty, 1.0)).masked_fill(empty, 0.0)


def _expect_not_empty(denominator: Tensor) -> None:
    if denominator.device.type == "meta" or is_transformed():
        raise ValueError(
            "empty_mean='error' reads a value, which cannot be done under torch.compile or torch.func or on meta tensors; use 'nan' or 'zero'"
        )
    if denominator.item() == 0.0:
        raise ValueError("the denominator of the mean is 0: every row is ignored or has weight 0")
