"""The passes over the logits that :mod:`._composed` makes: statistics, and the gradient.

Each pass is one of PyTorch's operations, and costs what it reads and writes. So a forward pass
overwrites one tensor: z − m is formed, summed against the prior, and becomes e^(z − m), of which
the sum is taken. A backward pass forms e^(z − m) again, or p = softmax(z), and makes of it

    (α·p_k − γ·v_k − τ·t_k)·slope_k      and at the hot classes      (α·p_j − y_j)·slope_j

The last operation writes in the dtype of the logits, all others in the dtype that is computed in.
An option that is absent costs no pass. Nor are transformed logits formed: they are gain·x, where
x is the logits themselves, or under a softcap their tanh, and the gain is a factor of the
subtraction of m.

Large batches are processed in pieces of :data:`PIECE` logits, so that the tensor that is
overwritten is small beside the logits. ``examples/traffic.py`` counts bytes and peak memory.

The classes are on the last axis. Symbols are those of SEMANTICS.md, S13.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from xent.options import Options
from xent.torch import _rules, _tensors
from xent.torch._batch import Batch
from xent.torch._rules import Number, Rows, Table, times
from xent.torch._tensors import Statistics, column, either

PIECE = 1 << 24
"""Logits in a piece: enough for an operation to take longer than its launch does."""

Cut = Callable[[Tensor], Tensor]
"""Takes a piece of a tensor that has rows."""


class Coefficients(NamedTuple):
    """What the gradient needs besides the logits: one number per row, unless a shape is given."""

    denominator: Tensor
    """One number, as is z_denominator."""
    z_denominator: Tensor
    v: Tensor | None
    """``[K]``; None if v is 1, or differs from row to row."""
    largest: Tensor
    """m, in the dtype that is computed in."""
    share: Tensor | None
    """1 / (1 + rest), which makes p of e^(z − m); None where torch.softmax is to compute p."""
    alpha: Tensor
    of_lse: Tensor | None
    """2·λ·lse, a part of α with another denominator."""
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
    here: Tensor | None = None
    """Of a vocabulary in shards: whether the class is among these. If it is not, label is any."""
    here_b: Tensor | None = None

    def over(self, upstream: Tensor, options: Options) -> Coefficients:
        """Times the upstream gradient, over what a mean divides by, and over the temperature."""

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

    def piece(self, cut: Cut) -> Coefficients:
        whole = ("denominator", "z_denominator", "v")
        of_rows = {
            name: cut(tensor)
            for name, tensor in self._asdict().items()
            if tensor is not None and name not in whole
        }
        return self._replace(**of_rows)

    def hot(self) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
        """Labels, y and whether they are here, as columns."""
        for label, y, here in (
            (self.label, self.at_label, self.here),
            (self.label_b, self.at_label_b, self.here_b),
        ):
            if label is not None and y is not None:
                yield label.unsqueeze(-1), y.unsqueeze(-1), column(here)


def saved(tensors: Sequence[Any]) -> tuple[Batch, Coefficients]:
    """Of an autograd function that has saved both, the batch first."""
    fields = len(Batch._fields)
    return Batch(*tensors[:fields]), Coefficients(*tensors[fields:])


class Dense(NamedTuple):
    """What the gradient needs in the shape of the logits."""

    table: Table | None
    """If v differs from row to row, or with probabilities: of what v and t are made."""
    target: Tensor | None
    """Probabilities."""
    allowed: Tensor | None
    """Allowed classes, ``[K]`` or of each row."""

    def piece(self, cut: Cut, z: Tensor) -> Dense:
        return self._replace(
            target=cut_rows(cut, self.target, z), allowed=cut_rows(cut, self.allowed, z)
        )

    def terms(self, given: Coefficients) -> tuple[Number, Tensor | None]:
        """v and t, after class weights."""
        dtype = given.largest.dtype
        if self.table is None:
            return 1.0 if given.v is None else given.v, None
        v: Number = 1.0
        if self.target is None:
            labels = [label for label in (given.label, given.label_b) if label is not None]
            shares: list[Number] = [1.0] if given.mix is None else [given.mix, 1.0 - given.mix]
            v = _rules.mixed(_rules.lines_of_prior(self.table, labels, dtype), shares)
        elif given.gamma is not None:
            v = _rules.prior_of_probabilities(self.table, self.target, dtype)
        target = self.target
        if target is not None:
            target = cast(Tensor, _rules.weighted(target, self.table.term, dtype))
        return _rules.weighted(v, self.table.term, dtype), target


def pieces(z: Tensor) -> list[Cut]:
    """Cuts that together take all rows."""
    if torch.compiler.is_compiling() or z.dim() == 1 or z.numel() < 2 * PIECE:
        return [lambda tensor: tensor]
    axis = longest_axis(z)
    length = max(z.shape[axis] * PIECE // z.numel(), 1)
    return [
        partial(torch.narrow, dim=axis, start=start, length=min(length, z.shape[axis] - start))
        for start in range(0, z.shape[axis], length)
    ]


def longest_axis(z: Tensor) -> int:
    """Of those that rows have."""
    return max(range(z.dim() - 1), key=lambda axis: z.shape[axis])


def cut_rows(cut: Cut, tensor: Tensor | None, z: Tensor) -> Tensor | None:
    """A piece of a tensor in the shape of z; one number per class for all rows stays whole."""
    return cut(tensor) if tensor is not None and tensor.dim() == z.dim() > 1 else tensor


def statistics(z: Tensor, allowed: Tensor | None, rows: Rows, options: Options) -> Statistics:
    """Those of :mod:`._tensors`, of logits that have not been transformed."""
    parts = []
    for cut in pieces(z):
        piece = rows._replace(
            hot=tuple(hot._replace(label=cut(hot.label)) for hot in rows.hot),
            target=cut_rows(cut, rows.target, z),
            masked=cut_rows(cut, rows.masked, z),
            v=cast(Number, cut_rows(cut, rows.v, z)) if isinstance(rows.v, Tensor) else rows.v,
        )
        parts.append(_statistics(cut(z), cut_rows(cut, allowed, z), piece, options))
    if len(parts) == 1:
        return parts[0]

    def joined(field: Sequence[Any]) -> Any:
        if isinstance(field[0], list):
            return [joined(numbers) for numbers in zip(*field)]
        if not isinstance(field[0], Tensor):
            return field[0]
        return torch.cat(list(field), longest_axis(z))

    return Statistics(*(joined(field) for field in zip(*parts)))


def _statistics(z: Tensor, allowed: Tensor | None, rows: Rows, options: Options) -> Statistics:
    x, gain = scaled(z, options, rows.dense)
    if x is not z:
        x.masked_fill_(z == -torch.inf, -torch.inf)
    if allowed is not None:
        x = torch.where(allowed, x, -torch.inf)
    largest, argmax = x.max(-1)
    largest = cast(Tensor, times(gain, largest.to(rows.dense)))
    d = shifted(x, largest, gain, out=None if x is z else x)
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


def scaled(z: Tensor, options: Options, dtype: torch.dtype) -> tuple[Tensor, float]:
    """x and gain, whose product are the transformed logits; but those of −∞ have to stay −∞."""
    cap, temperature = options["softcap"], options["temperature"]
    if cap is None:
        return z, 1.0 / temperature
    # A tensor with an axis decides the dtype of the product, a number would not.
    x = z * torch.full((1,), 1.0 / (cap * temperature), dtype=dtype, device=z.device)
    return x.tanh_(), cap


def shifted(x: Tensor, largest: Tensor, gain: float, out: Tensor | None) -> Tensor:
    """gain·x − m, which is at most 0; in ``out``, if that has its dtype."""
    if torch.compiler.is_compiling() or (out is not None and out.dtype is not largest.dtype):
        out = None
    return torch.add(-largest.unsqueeze(-1), x, alpha=gain, out=out)


def against(values: Number, d: Tensor, masked: Tensor | None = None) -> Tensor:
    """Σ v_k d_k, where 0·∞ is 0: the only NaN there is in rows whose loss is a number."""
    if not isinstance(values, Tensor):
        d = d if masked is None else d.masked_fill(masked, 0.0)
        return cast(Tensor, times(values, d.sum(-1)))
    d = values * d
    return (d if masked is None else d.masked_fill_(masked, 0.0)).nansum(-1)


def gradient(z: Tensor, given: Coefficients, dense: Dense, options: Options, axis: int) -> Tensor:
    """With respect to the logits on input. ``axis``: where they had their classes in memory."""
    # Where one tensor is overwritten until it is the gradient, pieces would save nothing.
    is_lean = z.dtype is given.largest.dtype and options["softcap"] is None and dense.table is None
    cuts = pieces(z)
    if is_lean or len(cuts) == 1:
        return _gradient(z, given, dense, options, axis, None)
    result = torch.empty_like(z)
    for cut in cuts:
        _gradient(cut(z), given.piece(cut), dense.piece(cut, z), options, axis, cut(result))
    return result


def _gradient(
    z: Tensor, given: Coefficients, dense: Dense, options: Options, axis: int, out: Tensor | None
) -> Tensor:
    """Written to ``out``, if there is one."""
    dtype, alpha, x = given.largest.dtype, given.alpha, None
    if given.share is None:
        p = torch.softmax(z.movedim(-1, axis), axis).movedim(axis, -1)
    else:
        alpha = alpha * given.share  # p is e^(z − m)
        x, gain = scaled(z, options, dtype)
        p = shifted(x, given.largest, gain, out).exp_()
    at_hot = [
        (index, alpha.unsqueeze(-1) * p.gather(-1, index) - y, here)
        for index, y, here in given.hot()
    ]

    def coefficient(number: Tensor) -> Tensor:
        return number.to(dtype).unsqueeze(-1)

    steps: list[Callable[..., Tensor]] = []
    v, target = dense.terms(given)
    if given.gamma is None or isinstance(v, Tensor):
        steps.append(partial(torch.mul, other=coefficient(alpha)))
    else:
        minus_gamma = coefficient(given.gamma * -v)
        steps.append(partial(torch.addcmul, minus_gamma, tensor2=coefficient(alpha)))
    subtract = partial(torch.addcmul, value=-1.0)
    for number, values in ((given.gamma, v), (given.tau, target)):
        if number is not None and isinstance(values, Tensor):
            steps.append(partial(subtract, tensor1=values, tensor2=coefficient(number)))
    slope_of = x if options["softcap"] is not None else None
    for i, step in enumerate(steps):
        is_last = i + 1 == len(steps) and slope_of is None
        p = step(p, out=place(p, z.dtype, out) if is_last else place(p, dtype, None))
    for index, value, here in at_hot:
        value = value.to(p.dtype)
        p.scatter_(
            -1, index, value if here is None else torch.where(here, value, p.gather(-1, index))
        )
    if slope_of is not None:
        into = {} if torch.compiler.is_compiling() else {"grad_input": p}
        p = torch.ops.aten.tanh_backward(p, slope_of, **into)
    p = p.to(z.dtype) if out is None or out is p else out.copy_(p)
    unread = unread_classes(z, given, dense.allowed, options)
    return p if unread is None else p.masked_fill_(unread, 0.0)


def place(p: Tensor, dtype: torch.dtype, out: Tensor | None) -> Tensor | None:
    """Where a step that overwrites p writes its result, which is to have this dtype."""
    if torch.compiler.is_compiling():  # which finds a place itself
        return None
    if p.dtype is not dtype and p.device.type == "mps":
        # Metal's graphs were cached by the dtypes that are read, whatever is written.
        return p
    if out is not None:
        return out
    return p if p.dtype is dtype else torch.empty_like(p, dtype=dtype)


def unread_classes(
    z: Tensor, given: Coefficients, allowed: Tensor | None, options: Options
) -> Tensor | None:
    """Where the gradient is exactly 0 (S13.5)."""
    unread = column(given.ignored)
    if allowed is not None:
        # Not allowed or ignored: of bools, allowed ≤ ignored.
        unread = ~allowed if unread is None else allowed <= unread
    if options["masked"] == "renormalise":
        # Masked classes, but not of rows that are NaN as a whole: nothing equals NaN.
        masked = torch.where(torch.isfinite(given.largest), -torch.inf, torch.nan).to(z.dtype)
        unread = either(unread, z == masked.unsqueeze(-1))
    if options["reduction"] == "mean" and options["empty_mean"] == "zero":
        unread = either(unread, given.denominator == 0.0)
    return unread
