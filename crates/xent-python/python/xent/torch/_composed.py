"""The loss by PyTorch's own operations, where only the logits are differentiated, once: on any device, or traced.

What targets contribute and how a row's loss is made of it are said in :mod:`._rules` and
:mod:`._tensors`. Here is what touches every logit, a forward and a backward pass. autograd would keep
each intermediate result of the logits' size, and read it again. This keeps the logits and a few numbers
per row (:class:`Kept`), and forms the softmax p again for the gradient

    (α·p_k − γ·v_k − τ·t_k)·slope_k      and at hot classes      (α·p_j − y_j)·slope_j

where the coefficients have the upstream gradient in them, and what a mean divides by. Passes over the
logits overwrite one tensor in the dtype in which logits are computed. An option that is absent costs no
pass. Transformed logits are not formed, either: they are gain·x, where x is the logits themselves, or
their tanh under a softcap, and the gain is a factor of the subtraction of m.

Large batches go through piece by piece (:data:`PIECE`), so that the tensor which is overwritten is small
beside the logits. ``examples/traffic.py`` counts the bytes that all this moves, and those that it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from xent.options import Options
from xent.torch import _rules, _tensors
from xent.torch._batch import (
    PLAIN,
    Batch,
    Stats,
    compute_dtype,
    has_tangent,
    is_differentiated,
)
from xent.torch._rules import Contribution, Number, Rows, Table, times
from xent.torch._tensors import Statistics, allowed_classes, column, either

PIECE = 1 << 24
"""So many logits are computed at a time: enough for an operation to take longer than its launch."""


def applies(logits: Tensor, batch: Batch) -> bool:
    """Whether these are plain tensors, of which none but the logits is differentiated."""
    return (
        not _is_transformed()
        and all(_is_plain(tensor) for tensor in (logits, *batch) if tensor is not None)
        and not any(is_differentiated(tensor) for tensor in batch)
    )


def _is_transformed() -> bool:
    """By torch.func, is_grads_batched or torch.jit, for which operations must be pure; torch.compile makes them so."""
    if isinstance(torch._C._functorch.peek_interpreter_stack(), torch._C._functorch.CInterpreter):
        return True
    return not torch.compiler.is_compiling() and (
        torch._C._dispatch_tls_is_dispatch_key_included("VmapMode") or torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]
    )


def _is_plain(tensor: Tensor) -> bool:
    return (
        type(tensor) in PLAIN
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
        loss, all_stats, _ = _forward(logits, options, batch, axis, want_stats, keep=False)
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
            loss, stats, kept = _forward(logits, options, batch, axis, want_stats, keep=True)
            loss, stats = _tensors.in_dtypes_of(logits, loss_dtype, loss, stats)
        ctx.save_for_backward(logits, *tensors, *cast(Kept, kept))
        ctx.call = (options, axis, loss_dtype)
        if not torch.compiler.is_compiling():  # which does not know it
            ctx.set_materialize_grads(False)
        if stats is None:
            return (loss,)
        ctx.mark_non_differentiable(*stats)
        return (loss, *stats)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor | None, *_: Tensor | None) -> tuple[Tensor | None, ...]:
        gradient = None if upstream is None else _gradient(ctx, upstream)
        return (gradient, *(None for _ in range(4 + len(Batch._fields))))


def _gradient(ctx: Any, upstream: Tensor) -> Tensor:
    options, axis, loss_dtype = ctx.call
    logits, *tensors = ctx.saved_tensors
    batch, kept = Batch(*tensors[: len(Batch._fields)]), Kept(*tensors[len(Batch._fields) :])
    if not torch.compiler.is_compiling() and (
        torch.is_grad_enabled() or _is_transformed() or not _is_plain(upstream)
    ):
        return _tensors.gradient(logits, options, batch, axis, loss_dtype, upstream)
    with _tensors.without_autocast(logits):
        return _backward(logits, options, batch, axis, kept, upstream)


class Kept(NamedTuple):
    """What the gradient needs of the forward pass."""

    denominator: Tensor
    z_denominator: Tensor
    v: Tensor | None
    """``[K]``, if the prior has such a vector. All others are one number per row."""
    largest: Tensor
    """m, in the dtype in which logits are computed."""
    share: Tensor | None
    """1 / (1 + rest); None where :func:`uses_softmax`."""
    alpha: Tensor
    """Y."""
    of_lse: Tensor | None
    """2·λ·lse, which α has as well, but over another denominator."""
    gamma: Tensor | None
    tau: Tensor | None
    ignored: Tensor | None
    mix: Tensor | None
    """The share of the first of two labels."""
    label: Tensor | None
    at_label: Tensor | None
    """y of the class."""
    label_b: Tensor | None
    at_label_b: Tensor | None

    def over(self, upstream: Tensor, options: Options) -> Kept:
        """With the upstream gradient in all coefficients, and what a mean divides by, and the temperature."""

        def factor(denominator: Tensor) -> Tensor:
            mean = _tensors.divided(upstream, options, denominator, self.denominator)
            return cast(Tensor, times(1.0 / options["temperature"], mean))

        by = factor(self.denominator)
        alpha = self.alpha * by
        if self.of_lse is not None:
            alpha = alpha + self.of_lse * factor(self.z_denominator)
        gamma, tau, at_label, at_label_b = (
            None if number is None else number * by
            for number in (self.gamma, self.tau, self.at_label, self.at_label_b)
        )
        return self._replace(
            alpha=alpha, gamma=gamma, tau=tau, at_label=at_label, at_label_b=at_label_b
        )

    def cut(self, cut: Cut) -> Kept:
        """Of some rows."""
        whole = ("denominator", "z_denominator", "v")
        of_rows = {
            name: cut(tensor)
            for name, tensor in self._asdict().items()
            if tensor is not None and name not in whole
        }
        return self._replace(**of_rows)


def kept(
    given: Contribution, read: Statistics, factor: Tensor, options: Options, softmax: bool
) -> Kept:
    rows = given.rows
    by = cast(Tensor, times(rows.whole, factor))
    of_lse = None
    if options["z_loss"]:
        of_lse = (2.0 * options["z_loss"]) * (read.max + read.log1p_rest) * factor
    hot: list[Tensor | None] = []
    for each in rows.hot:
        hot += [each.label, rows.at(each) * by]
    hot += [None] * (4 - len(hot))
    return Kept(
        denominator=given.denominator,
        z_denominator=given.z_denominator,
        v=rows.v if isinstance(rows.v, Tensor) and rows.v.dim() == 1 else None,
        largest=read.max.to(rows.dense),
        share=None if softmax else (-read.log1p_rest).exp(),
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


def uses_softmax(logits: Tensor, options: Options, batch: Batch) -> bool:
    """Whether p is what ``torch.softmax`` returns: in one pass, but for plain logits in the dtype in which they are computed only."""
    return (
        compute_dtype(logits) is logits.dtype
        and options["temperature"] == 1.0
        and options["softcap"] is None
        and batch.allowed_classes is None
        and logits.is_contiguous()
    )


def _forward(
    logits: Tensor, options: Options, batch: Batch, axis: int, want_stats: bool, keep: bool
) -> tuple[Tensor, Stats | None, Kept | None]:
    z = logits.movedim(axis, -1)
    allowed, masked = allowed_classes(batch, z.device, axis), None
    if options["masked"] == "renormalise":
        masked = either(z == -torch.inf, None if allowed is None else ~allowed)
    given = _rules.contribution(
        options,
        batch,
        probabilities(batch, z, axis),
        _rules.ignored_rows(options, batch, z.device),
        masked,
        z.shape,
        compute_dtype(z),
        z.device,
        want_stats,
    )
    read = statistics(z, allowed, given.rows, options)
    factor = _tensors.factor(given, read, batch)
    loss, stats = _tensors.concluded(given, read, factor, options, want_stats)
    if not keep:
        return loss, stats, None
    softmax = uses_softmax(logits, options, batch)
    return loss, stats, kept(given, read, factor, options, softmax)


def probabilities(batch: Batch, z: Tensor, axis: int) -> Tensor | None:
    if not batch.has_probabilities():
        return None
    target = batch.target.to(z.device).movedim(axis, -1)
    # Narrow ones are widened where they are multiplied.
    return target.to(compute_dtype(z)) if target.dtype is torch.float64 else target


Cut = Callable[[Tensor], Tensor]


def cuts(z: Tensor, whole: bool = False) -> Iterator[Cut]:
    """Functions that take some rows of what has rows: all of them, piece by piece."""
    if whole or torch.compiler.is_compiling() or z.dim() == 1 or z.numel() < 2 * PIECE:
        yield lambda tensor: tensor
        return
    axis = longest_axis(z)
    length = max(z.shape[axis] * PIECE // z.numel(), 1)
    for start in range(0, z.shape[axis], length):
        rest = z.shape[axis] - start
        yield partial(torch.narrow, dim=axis, start=start, length=min(length, rest))


def longest_axis(z: Tensor) -> int:
    """Of rows."""
    return max(range(z.dim() - 1), key=lambda axis: z.shape[axis])


def cut_if(cut: Cut, tensor: Tensor | None, z: Tensor) -> Tensor | None:
    """For what may have one number per class, ``[K]``, or per class of a row."""
    return cut(tensor) if tensor is not None and tensor.dim() == z.dim() > 1 else tensor


def statistics(z: Tensor, allowed: Tensor | None, rows: Rows, options: Options) -> Statistics:
    """Those of :mod:`._tensors`, of logits before they are transformed."""
    parts = []
    for cut in cuts(z):
        some = rows._replace(
            hot=tuple(hot._replace(label=cut(hot.label)) for hot in rows.hot),
            target=cut_if(cut, rows.target, z),
            masked=cut_if(cut, rows.masked, z),
            v=cast(Number, cut_if(cut, rows.v, z)) if isinstance(rows.v, Tensor) else rows.v,
        )
        parts.append(_statistics(cut(z), cut_if(cut, allowed, z), some, options))
    if len(parts) == 1:
        return parts[0]

    def joined(column: Sequence[Any]) -> Any:
        if isinstance(column[0], list):
            return [joined(numbers) for numbers in zip(*column)]
        if not isinstance(column[0], Tensor):
            return column[0]
        return torch.cat(list(column), longest_axis(z))

    return Statistics(*(joined(column) for column in zip(*parts)))


def _statistics(z: Tensor, allowed: Tensor | None, rows: Rows, options: Options) -> Statistics:
    x, gain = scaled(z, options, rows.dense)
    if x is not z:
        x.masked_fill_(z == -torch.inf, -torch.inf)
    if allowed is not None:
        x = torch.where(allowed, x, -torch.inf)
    largest, argmax = x.max(-1)
    largest = cast(Tensor, times(gain, largest.to(rows.dense)))
    d = shifted(x, largest, gain, into=None if x is z else x)
    del x

    labels = [hot.label.unsqueeze(-1) for hot in rows.hot]
    at_hot = [d.gather(-1, index) for index in labels]
    target = None if rows.target is None else -against(rows.target, d).to(rows.dtype)
    prior: Number = 0.0
    if rows.smooths():
        left_out = list(zip(labels, at_hot)) if rows.leaves_out else []
        for index, _ in left_out:
            d.scatter_(-1, index, 0.0)
        prior = -against(rows.v, d, rows.masked).to(rows.dtype)
        for index, value in left_out:
            d.scatter_(-1, index, value)
    # The largest logit is left out of a sum of which it would be all the digits.
    rest = d.exp_().scatter_(-1, argmax.unsqueeze(-1), 0.0).sum(-1)
    return Statistics(
        largest.to(rows.dtype),
        argmax,
        rest.to(rows.dtype).log1p(),
        prior,
        target,
        [-value.squeeze(-1).to(rows.dtype) for value in at_hot],
    )


def scaled(z: Tensor, options: Options, dense: torch.dtype) -> tuple[Tensor, float]:
    """x and gain, of which transformed logits are the product, but for logits of −∞, which stay −∞."""
    cap, temperature = options["softcap"], options["temperature"]
    if cap is None:
        return z, 1.0 / temperature
    # A tensor with an axis decides the dtype of a product, which a number does not.
    x = z * torch.full((1,), 1.0 / (cap * temperature), dtype=dense, device=z.device)
    return x.tanh_(), cap


def shifted(x: Tensor, largest: Tensor, gain: float, into: Tensor | None) -> Tensor:
    """gain·x − m, at most 0, written into a tensor of that dtype, if it is one."""
    fits = into is not None and into.dtype is largest.dtype and not torch.compiler.is_compiling()
    return torch.add(-largest.unsqueeze(-1), x, alpha=gain, out=into if fits else None)


def against(values: Number, d: Tensor, masked: Tensor | None = None) -> Tensor:
    """Σ v_k d_k, where 0·∞ is 0: it is the only NaN of rows whose loss is a number."""
    if not isinstance(values, Tensor):
        d = d if masked is None else d.masked_fill(masked, 0.0)
        return cast(Tensor, times(values, d.sum(-1)))
    d = values * d
    return (d if masked is None else d.masked_fill_(masked, 0.0)).nansum(-1)


def _backward(
    logits: Tensor, options: Options, batch: Batch, axis: int, kept: Kept, upstream: Tensor
) -> Tensor:
    z, dtype, dense = logits.movedim(axis, -1), kept.alpha.dtype, kept.largest.dtype
    target, allowed = probabilities(batch, z, axis), allowed_classes(batch, z.device, axis)
    line = None
    by_class = batch.prior is not None and batch.prior.dim() == 2
    if target is not None or (by_class and kept.gamma is not None):
        line = _rules.table(options, batch, z.shape[-1], dtype, z.device)
        line = line if target is None else line.checked(dense)
    kept = kept.over(upstream.to(dtype), options)

    def gradient_of(cut: Cut, out: Tensor | None) -> Tensor:
        return _gradient_of(
            cut(z),
            kept.cut(cut),
            cut_if(cut, target, z),
            cut_if(cut, allowed, z),
            line,
            options,
            axis,
            out,
        )

    # Where the tensor that is overwritten becomes the gradient, nothing is gained by pieces.
    whole = z.dtype is dense and options["softcap"] is None and line is None
    each = list(cuts(z, whole))
    if len(each) == 1:
        return gradient_of(each[0], None).movedim(-1, axis)
    gradient = torch.empty_like(z)
    for cut in each:
        gradient_of(cut, cut(gradient))
    return gradient.movedim(-1, axis)


def _gradient_of(
    z: Tensor,
    kept: Kept,
    target: Tensor | None,
    allowed: Tensor | None,
    line: Table | None,
    options: Options,
    axis: int,
    out: Tensor | None,
) -> Tensor:
    """Written to ``out``, if there is one."""
    dense, alpha, x = kept.largest.dtype, kept.alpha, None
    if kept.share is None:
        p = torch.softmax(z.movedim(-1, axis), axis).movedim(axis, -1)
    else:
        alpha = alpha * kept.share  # of e^(z − m)
        x, gain = scaled(z, options, dense)
        p = shifted(x, kept.largest, gain, into=out).exp_()
    hot = []
    for label, y in ((kept.label, kept.at_label), (kept.label_b, kept.at_label_b)):
        if label is not None and y is not None:
            index = label.unsqueeze(-1)
            hot.append((index, alpha.unsqueeze(-1) * p.gather(-1, index) - y.unsqueeze(-1)))

    def coefficient(number: Tensor) -> Tensor:
        return number.to(dense).unsqueeze(-1)

    passes: list[Callable[..., Tensor]] = []
    v, target = dense_terms(kept, target, line)
    if kept.gamma is None or isinstance(v, Tensor):
        passes.append(partial(torch.mul, other=coefficient(alpha)))
    else:
        minus_gamma = coefficient(kept.gamma * -v)
        passes.append(partial(torch.addcmul, minus_gamma, tensor2=coefficient(alpha)))
    for number, values in ((kept.gamma, v), (kept.tau, target)):
        if number is not None and isinstance(values, Tensor):
            minus = partial(torch.addcmul, value=-1.0)
            passes.append(partial(minus, tensor1=values, tensor2=coefficient(number)))
    slope_of = x if options["softcap"] is not None else None
    for i, run in enumerate(passes):
        last = i + 1 == len(passes) and slope_of is None
        p = run(p, out=place(p, z.dtype, out) if last else place(p, dense, None))
    for index, value in hot:
        p.scatter_(-1, index, value.to(p.dtype))
    if slope_of is not None:
        into = {} if torch.compiler.is_compiling() else {"grad_input": p}
        p = torch.ops.aten.tanh_backward(p, slope_of, **into)
    p = p.to(z.dtype) if out is None or out is p else out.copy_(p)
    unread = unread_classes(z, kept, allowed, options)
    return p if unread is None else p.masked_fill_(unread, 0.0)


def place(p: Tensor, dtype: torch.dtype, out: Tensor | None) -> Tensor | None:
    """Where the result of a pass over p goes, whose dtype it is to have. torch.compile finds a place itself."""
    if torch.compiler.is_compiling():
        return None
    # There, a kernel for other dtypes could be taken from the cache: its key is the dtypes that are read.
    if p.dtype is not dtype and p.device.type == "mps":
        return p
    if out is not None:
        return out
    return p if p.dtype is dtype else torch.empty_like(p, dtype=dtype)


def dense_terms(
    kept: Kept, target: Tensor | None, line: Table | None
) -> tuple[Number, Tensor | None]:
    """v and t, after class weights."""
    dense = kept.largest.dtype
    if line is None:
        return 1.0 if kept.v is None else kept.v, None
    v: Number = 1.0
    if target is None:
        labels = [label for label in (kept.label, kept.label_b) if label is not None]
        shares: list[Number] = [1.0] if kept.mix is None else [kept.mix, 1.0 - kept.mix]
        v = _rules.mixed(_rules.lines_of_prior(line, labels, dense), shares)
    elif kept.gamma is not None:
        v = _rules.prior_of_probabilities(line, target, dense)
    if target is not None:
        target = cast(Tensor, _rules.weighted(target, line.term, dense))
    return _rules.weighted(v, line.term, dense), target


def unread_classes(
    z: Tensor, kept: Kept, allowed: Tensor | None, options: Options
) -> Tensor | None:
    """Where the gradient is exactly 0 (S13.5)."""
    unread = column(kept.ignored)
    if allowed is not None:
        # By ≤ of bools, which are not allowed or else are ignored.
        unread = ~allowed if unread is None else allowed <= unread
    if options["masked"] == "renormalise":
        # NaN equals nothing: S8 comes first.
        masked = torch.where(torch.isfinite(kept.largest), -torch.inf, torch.nan).to(z.dtype)
        unread = either(unread, z == masked.unsqueeze(-1))
    if options["reduction"] == "mean" and options["empty_mean"] == "zero":
        unread = either(unread, kept.denominator == 0.0)
    return unread
