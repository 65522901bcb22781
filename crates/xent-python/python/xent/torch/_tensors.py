"""The loss by PyTorch's operations under autograd: traced, transformed, differentiated by anything.

SEMANTICS.md, in four steps. :mod:`._rules` says what targets contribute; :func:`transformed` and
:func:`statistics` read the logits; :func:`fold` makes a row's loss of both; and :func:`concluded`
reduces rows. Every sum has terms ≥ 0, so that nothing cancels:

    m = max z   R = ln(1 + Σ_{k ≠ argmax} e^(z_k − m))   lse = m + R   S = Σ v_k (m − z_k)
    nll = Σ hard_j (R + m − z_j)
    smoothing = ε·[(σ·Σ v + Σ π_j)·R + σ·S + Σ π_j (m − z_j)]

autograd differentiates all of it, and keeps several tensors of the logits' size to do so. Where
only the logits are differentiated, and only once, :mod:`._composed` has statistics and a gradient
of its own that keep none, and shares the other steps.

No value is read back, so that nothing waits for a device, and after a criterion's first call
nothing but the batch is copied to it. What the engine rejects is NaN here; class indices out of
range are left to ``index_select`` and ``gather``.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from math import log
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from xent.options import Options
from xent.torch import _rules
from xent.torch._batch import (
    Batch,
    Stats,
    compute_dtype,
    is_autocast,
    is_transformed,
)
from xent.torch._rules import Contribution, Number, Rows, per_row, plus, times, to, unless


def cross_entropy(
    logits: Tensor,
    options: Options,
    batch: Batch,
    axis: int,
    loss_dtype: torch.dtype,
    want_stats: bool,
) -> tuple[Tensor, Stats | None]:
    with without_autocast(logits):
        loss, stats = _cross_entropy(logits, options, batch, axis, want_stats)
        return in_dtypes_of(logits, loss_dtype, loss, stats)


def without_autocast(logits: Tensor) -> AbstractContextManager[None]:
    """Half precision is widened; autocast must not narrow it again."""
    if is_autocast(logits):
        return torch.autocast(logits.device.type, enabled=False)
    return nullcontext()


def _cross_entropy(
    logits: Tensor, options: Options, batch: Batch, axis: int, want_stats: bool
) -> tuple[Tensor, Stats | None]:
    z = logits.to(compute_dtype(logits)).movedim(axis, -1)
    ignored = _rules.ignored_rows(options, batch, z.device)
    target = None
    if batch.has_probabilities():
        target = batch.target.to(z.device, z.dtype).movedim(axis, -1)
        target = unless(column(ignored), target, 0.0)
    z = transformed(z, ignored, options, batch, axis)
    masked = None
    if options["masked"] == "renormalise":
        masked = (z == -torch.inf) & torch.isfinite(z.amax(-1, keepdim=True))
        z = z.masked_fill(masked, -torch.inf)  # no gradient
    given = _rules.contribution(
        options, batch, target, ignored, masked, z.shape, z.dtype, z.device, want_stats
    )
    if options["reduction"] == "mean" and options["empty_mean"] == "zero":
        # A mean over nothing has no gradient, not even of NaN.
        z = torch.where(given.denominator == 0.0, z.detach(), z)
    read = statistics(z, given.rows)
    return concluded(given, read, factor(given, read, batch), options, want_stats)


def transformed(
    z: Tensor, ignored: Tensor | None, options: Options, batch: Batch, axis: int
) -> Tensor:
    """S1. Ignored rows and forbidden classes are cut off first: their gradients are exactly 0."""
    allowed = allowed_classes(batch, z.device, axis)
    forbidden = None if allowed is None else ~allowed
    z = unless(either(column(ignored), forbidden), z, 0.0)
    cap = options["softcap"]
    if options["temperature"] != 1.0:
        z = z / options["temperature"]
    if cap is not None:
        minus_infinity = z == -torch.inf
        # −∞ is added, not filled in: the slope is 0 there, and a NaN still comes through it.
        z = cap * torch.tanh(z / cap) + torch.where(minus_infinity, -torch.inf, 0.0).to(z.dtype)
    if forbidden is not None and ignored is not None:
        forbidden = forbidden & ~ignored.unsqueeze(-1)
    return unless(forbidden, z, -torch.inf)


def allowed_classes(batch: Batch, device: torch.device, axis: int) -> Tensor | None:
    """``[K]``, or with the classes on the last axis; None without a mask."""
    if batch.allowed_classes is None:
        return None
    allowed = batch.allowed_classes.to(device, torch.bool)
    return allowed if allowed.dim() == 1 else allowed.movedim(axis, -1)


def column(rows: Tensor | None) -> Tensor | None:
    return None if rows is None else rows.unsqueeze(-1)


def either(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    return a | b if a is not None and b is not None else a if b is None else b


class Statistics(NamedTuple):
    """What is read of transformed logits: one number per row."""

    max: Tensor
    argmax: Tensor
    log1p_rest: Tensor
    """R."""
    prior: Number
    """S, over σ's v after class weights; 0 where nothing is smoothed."""
    target: Tensor | None
    """Σ t_k (m − z_k) of probabilities, after class weights."""
    below: list[Tensor]
    """m − z at the hot classes."""


def statistics(z: Tensor, rows: Rows) -> Statistics:
    largest, argmax = z.max(-1)
    below = largest.unsqueeze(-1) - z
    # The largest logit is left out of a sum of which it would be all the digits.
    rest = torch.exp(-below).scatter(-1, argmax.unsqueeze(-1), 0.0).sum(-1)
    labels = [hot.label.unsqueeze(-1) for hot in rows.hot]
    at_hot = [below.gather(-1, index).squeeze(-1).to(rows.dtype) for index in labels]
    target = None if rows.target is None else against(rows.target, below).to(rows.dtype)
    prior: Number = 0.0
    if rows.smooths():
        for index in labels if rows.leaves_out else ():
            below = below.scatter(-1, index, 0.0)
        prior = against(rows.v, unless(rows.masked, below, 0.0)).to(rows.dtype)
    rest = rest.to(rows.dtype).log1p()
    return Statistics(largest.to(rows.dtype), argmax, rest, prior, target, at_hot)


def against(values: Number, below: Tensor) -> Tensor:
    return cast(Tensor, mass_times(values, below)).sum(-1)


def mass_times(mass: Number, below: Tensor) -> Number:
    """mass·below, where 0·∞ is 0."""
    if isinstance(mass, Tensor):
        return mass * below.masked_fill((mass == 0.0) & (below == torch.inf), 0.0)
    return times(mass, below)


class Parts(NamedTuple):
    """S4: one number per row, before W and the row weight."""

    cross_entropy: Number
    """Less the floor in the KL form; without z-loss."""
    nll: Tensor
    smoothing: Number
    floor: Number


def fold(rows: Rows, read: Statistics, options: Options, want_stats: bool) -> Parts:
    rest = read.log1p_rest
    of_hot = list(zip(rows.hot, read.below))
    of_target: list[Number] = (
        [mass_times(hot.share, below) for hot, below in of_hot]
        if read.target is None
        else [read.target]
    )
    nll = cast(Tensor, plus(*of_target, times(rows.mass, rest)))
    smoothing: Number = 0.0
    if rows.smooths():
        of_prior = [mass_times(hot.own, below) for hot, below in of_hot]
        if read.target is not None:
            of_prior.append(mass_times(rows.on_target, read.target))
        of_v = mass_times(rows.sigma, cast(Tensor, read.prior))
        smoothing = plus(of_v, *of_prior, rows.prior_mass * rest)
        smoothing = mass_times(rows.epsilon, cast(Tensor, smoothing))
    cross_entropy = plus(mass_times(1.0 - rows.epsilon, nll), smoothing)
    floor: Number = 0.0
    if want_stats or options["form"] == "kl_divergence":
        floor = entropy_floor(rows, rest)
    if options["form"] == "kl_divergence":
        cross_entropy = cross_entropy - floor
    return Parts(cross_entropy, nll, smoothing, floor)


def entropy_floor(rows: Rows, like: Tensor) -> Number:
    """h(Y) − Σ h(y_k) with h(x) = x ln x (S4.3): of v from its sums, then of the hot classes."""

    def h(x: Number) -> Number:
        if not isinstance(x, Tensor):
            if not torch.compiler.is_compiling():
                return x * log(x) if x > 0.0 else 0.0
            # It may be a symbol, of which nobody has the logarithm.
            x = torch.full((), x, dtype=like.dtype, device=like.device)
        return torch.xlogy(x, x)

    if rows.target is not None:
        tau, gamma = (to(number, rows.dense, column=True) for number in (rows.tau, rows.gamma))
        of_prior = times(gamma, rows.v)
        if isinstance(of_prior, Tensor):
            of_prior = unless(rows.masked, of_prior, 0.0)
        y = plus(times(tau, rows.target.to(rows.dense)), of_prior)
        if not isinstance(y, Tensor):  # the same for all classes
            return h(rows.total) - rows.classes * h(y)
        return h(rows.total) - torch.xlogy(y, y).sum(-1).to(rows.dtype)
    mass = rows.v_mass
    entropy: Number = 0.0
    if isinstance(rows.v, Tensor):
        entropy = rows.sum(h(rows.v)) if rows.open is None else rows.open.entropy
    of_hot: Number = 0.0
    for hot in rows.hot:
        if not rows.leaves_out:
            mass = mass - hot.of_v
        if isinstance(rows.v, Tensor):
            entropy = entropy - h(hot.of_v)
        of_hot = of_hot + h(rows.at(hot))
    of_v = plus(times(rows.gamma, entropy), h(rows.gamma) * mass)
    return h(rows.total) - plus(of_v, of_hot)


def factor(given: Contribution, read: Statistics, batch: Batch) -> Tensor:
    """The row weight; NaN where S8 or an invalid target makes a NaN of the row."""
    largest = read.max.detach()
    number = largest - largest + 1.0
    if given.rows.valid is not None:
        number = torch.where(given.rows.valid, number, torch.nan)
    if batch.row_weight is None:
        return number
    return number * per_row(batch.row_weight, given.ignored, number.dtype, number.device)


def concluded(
    given: Contribution, read: Statistics, factor: Tensor, options: Options, want_stats: bool
) -> tuple[Tensor, Stats | None]:
    """What a call returns, in the dtype of rows."""
    rows, ignored = given.rows, given.ignored

    def settled(part: Number, by: Number = 1.0) -> Tensor:
        return unless(ignored, times(by, part) * factor, 0.0)

    if options["empty_mean"] == "error" and options["reduction"] == "mean":
        _expect_not_empty(given.denominator)
    parts = fold(rows, read, options, want_stats)
    cross_entropy = settled(parts.cross_entropy, rows.whole)
    loss = reduced(cross_entropy, options, given.denominator, given.denominator)
    if not (options["z_loss"] or want_stats):
        return loss, None
    lse = read.max + read.log1p_rest
    of_lse = settled(times(options["z_loss"], lse.square()))
    z_loss = reduced(of_lse, options, given.z_denominator, given.denominator)
    if options["z_loss"]:
        loss = loss + z_loss
    if not want_stats:
        return loss, None

    nll, smoothing, floor = (
        reduced(settled(part, rows.whole), options, given.denominator, given.denominator)
        for part in (parts.nll, parts.smoothing, parts.floor)
    )
    finite = torch.isfinite(read.max)
    judged = finite if ignored is None else finite & ~ignored
    right = judged & (read.argmax == given.largest)
    wrong = ~torch.isfinite(cross_entropy + of_lse)
    first, none = (torch.full((), n, dtype=torch.int64, device=lse.device) for n in (-1, 0))
    if wrong.numel() > 0:
        first = torch.where(wrong.any(), wrong.flatten().to(torch.uint8).argmax(), first)
    return loss, Stats(
        nll.detach(),
        smoothing.detach(),
        z_loss.detach(),
        floor.detach(),
        unless(ignored, torch.where(finite, lse, torch.nan), 0.0).detach(),
        right.sum(),
        given.denominator.detach(),
        none if ignored is None else ignored.sum(),
        wrong.sum(),
        first,
        read.argmax.masked_fill(~judged, -1),
        right,
    )


def in_dtypes_of(
    logits: Tensor, loss_dtype: torch.dtype, loss: Tensor, stats: Stats | None
) -> tuple[Tensor, Stats | None]:
    """What a call returns, in the dtypes that it has."""
    return in_dtypes(compute_dtype(logits), loss_dtype, loss, stats)


def in_dtypes(
    dtype: torch.dtype, loss_dtype: torch.dtype, loss: Tensor, stats: Stats | None
) -> tuple[Tensor, Stats | None]:
    """The loss in one dtype, statistics in the other."""
    if stats is not None:
        stats = Stats(*(x.to(dtype) if x.is_floating_point() else x for x in stats))
    return loss.to(loss_dtype), stats


def outputs(ctx: Any, loss: Tensor, stats: Stats | None) -> tuple[Tensor, ...]:
    """What the forward of an autograd function returns."""
    if stats is None:
        return (loss,)
    ctx.mark_non_differentiable(*stats)
    return (loss, *stats)


def reduced(rows: Tensor, options: Options, denominator: Tensor, of_mean: Tensor) -> Tensor:
    """S6; ``of_mean`` says whether the mean is over nothing."""
    if options["reduction"] == "none":
        return rows
    return divided(rows.sum(), options, denominator, of_mean)


def divided(total: Tensor, options: Options, denominator: Tensor, of_mean: Tensor) -> Tensor:
    """What a reduction makes of a sum over rows, and backward of the upstream gradient."""
    if options["reduction"] != "mean":
        return total
    empty = of_mean == 0.0
    if options["empty_mean"] == "nan":
        return total / denominator.masked_fill(empty, torch.nan)
    return (total / denominator.masked_fill(empty, 1.0)).masked_fill(empty, 0.0)


def gradient(
    logits: Tensor,
    options: Options,
    batch: Batch,
    axis: int,
    loss_dtype: torch.dtype,
    upstream: Tensor,
) -> Tensor:
    """The gradient of the logits, which can be differentiated itself."""
    with torch.enable_grad():
        loss, _ = cross_entropy(logits, options, batch, axis, loss_dtype, False)
        [gradient] = torch.autograd.grad(loss, logits, upstream, create_graph=True)
    return gradient


def _expect_not_empty(denominator: Tensor) -> None:
    if denominator.device.type == "meta" or is_transformed():
        raise ValueError(
            "empty_mean='error' reads a value, which cannot be done under torch.compile or "
            "torch.func or on meta tensors; use 'nan' or 'zero'"
        )
    if denominator.item() == 0.0:
        raise ValueError("the denominator of the mean is 0: every row is ignored or has weight 0")
