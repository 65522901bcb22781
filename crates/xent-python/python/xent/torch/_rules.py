"""What targets contribute to a loss: a table by class, and from it a few numbers per row (SEMANTICS.md S2, S3, S4.2, S7).

Nothing here depends on the logits. A row that puts the shares s_j on the classes c_j (its hot classes) has

    W = Σ s_j·whole[c_j]      hard_j = s_j·term[c_j]      σ = Σ s_j·sigma[c_j]      π_j = s_j·pi[c_j]

and the smoothed target W·[(1−ε)·Σ hard_j δ_j + ε·(σ·v + Σ π_j δ_j)·term], where v is the part of the
prior that rows share. Where a prior is over the wrong classes, hot classes are left out of v and what
other labels put on them is in π_j, so that no term is taken off again: ∞ − ∞ cannot occur.

The classes are on the last axis. No value is read back from a device; what the engine rejects is NaN.
What is made of options alone stays on the device. What is made of tensors is made again: they may be
differentiated, traced or changed, and are on the device already.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache, reduce
from operator import add
from typing import NamedTuple, cast

import torch
from torch import Tensor

from xent.options import Options
from xent.torch._batch import Batch, is_transformed

Number = Tensor | float


class Table(NamedTuple):
    """What a criterion says of each class: ``[K]``, or a number where it is the same for all."""

    term: Number
    """Multiplies each term of the class."""
    whole: Number
    """Multiplies rows of the class."""
    sigma: Number
    """The share of v that a row of the class gets."""
    pi: Number
    """What such a row gets on the class itself: 1 if the prior has nowhere else to go, else 0."""
    v: Number
    """By true class ``[K, K]`` for such a prior."""
    leaves_out: bool
    """Whether the prior is over the wrong classes."""


def table(
    options: Options, batch: Batch, classes: int, dtype: torch.dtype, device: torch.device
) -> Table:
    weight: Number = (
        1.0 if batch.weight is None else in_range(batch.weight.to(device, dtype), lowest=-torch.inf)
    )
    term, whole = (1.0, weight) if options["weighting"] == "per_row" else (weight, 1.0)
    if batch.prior is not None:
        prior = in_range(batch.prior.to(device, dtype))
        prior = torch.where((prior.sum(-1, keepdim=True) - 1.0).abs() <= 1e-4, prior, torch.nan)
        return Table(term, whole, 1.0, 0.0, prior, leaves_out=False)
    if options["exclude"]:
        capturing = device.type == "cuda" and torch.cuda.is_current_stream_capturing()
        make = _excluding if is_transformed() or capturing else _kept_excluding
        sigma, pi, v = make(cast(tuple[int, ...], options["exclude"]), classes, dtype, device)
        return Table(term, whole, sigma, pi, v, leaves_out=True)
    if options["exclude"] is not None or options["prior"] == "wrong_classes":
        return Table(term, whole, *_spread_over(classes - 1), 1.0, leaves_out=True)
    return Table(term, whole, 1.0 / classes, 0.0, 1.0, leaves_out=False)


def _excluding(
    exclude: tuple[int, ...], classes: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    if max(exclude) >= classes:
        raise IndexError(
            f"exclude names class {max(exclude)}, but the logits have {classes} classes"
        )
    outside = torch.zeros(classes, dtype=torch.bool, device=device).index_fill(
        0, torch.tensor(exclude, device=device), True
    )
    v = (~outside).to(dtype)
    others = classes - len(set(exclude))
    of_open, of_excluded = _spread_over(others - 1), _spread_over(others)
    sigma, pi = (
        torch.full_like(v, of_open[i]).masked_fill(outside, of_excluded[i]) for i in range(2)
    )
    return sigma, pi, v


@lru_cache(maxsize=32)
def _kept_excluding(
    exclude: tuple[int, ...], classes: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    # A later backward cannot save inference tensors.
    with torch.inference_mode(False), torch.no_grad():
        return _excluding(exclude, classes, dtype, device)


def _spread_over(classes: int) -> tuple[float, float]:
    """sigma and pi of a prior that is over so many classes."""
    return (1.0 / classes, 0.0) if classes > 0 else (0.0, 1.0)


class Hot(NamedTuple):
    """A class that rows name."""

    label: Tensor
    share: Number
    """s."""
    own: Number
    """π: what the prior puts on the class other than by v."""


class Rows(NamedTuple):
    """What targets contribute: one number per row, or one for all rows."""

    classes: int
    epsilon: Number
    whole: Number
    """W."""
    hot: tuple[Hot, ...]
    target: Tensor | None
    """t of probabilities ``[..., K]``, which have no hot classes."""
    largest: Tensor | None
    """The label with the largest share, the first on ties."""
    sigma: Number
    v: Number
    """``[K]`` for all rows, ``[..., K]``, or 1."""
    leaves_out: bool
    """Whether v leaves out the hot classes."""

    @property
    def mass(self) -> Number:
        """Σ t."""
        return sum_of(hot.share for hot in self.hot) if self.target is None else self.target.sum(-1)

    @property
    def prior_mass(self) -> Number:
        """Σ U(t)."""
        total = self.v.sum(-1) if isinstance(self.v, Tensor) else float(self.classes)
        for hot in self.hot if self.leaves_out else ():
            total = total - at(self.v, hot.label)
        return reduce(add, (hot.own for hot in self.hot), self.sigma * total)

    def weighted(self, term: Number) -> Rows:
        """The same with each class's terms multiplied by its weight."""
        if not isinstance(term, Tensor):
            return self
        hot = tuple(
            Hot(hot.label, hot.share * at(term, hot.label), hot.own * at(term, hot.label))
            for hot in self.hot
        )
        return self._replace(
            hot=hot, target=None if self.target is None else self.target * term, v=self.v * term
        )

    def renormalised(self, masked: Tensor, dtype: torch.dtype) -> Rows:
        """The prior over the classes that are not masked, its sum as before; the target itself where nothing is left (S7)."""
        v = (~masked).to(dtype) * self.v
        left = self._replace(
            v=v,
            hot=tuple(
                hot._replace(
                    own=torch.where(cast(Tensor, at(masked, hot.label)), 0.0, cast(Tensor, hot.own))
                )
                for hot in self.hot
            ),
        )
        mass = cast(Tensor, left.prior_mass)
        nothing = mass <= 0.0
        scale = self.prior_mass / mass.masked_fill(nothing, 1.0)
        if self.target is not None:
            return self._replace(
                sigma=1.0,
                v=torch.where(
                    nothing.unsqueeze(-1), self.target, v * (self.sigma * scale).unsqueeze(-1)
                ),
            )
        hot = tuple(
            hot._replace(own=torch.where(nothing, hot.share, hot.own * scale)) for hot in left.hot
        )
        return left._replace(sigma=(self.sigma * scale).masked_fill(nothing, 0.0), hot=hot)


def rows(
    line: Table,
    options: Options,
    batch: Batch,
    axis: int,
    ignored: Tensor,
    classes: int,
    dtype: torch.dtype,
) -> Rows:
    """The rows of a batch whose probabilities have the classes on ``axis``, before class weights; ignored rows contribute nothing."""
    epsilon = (
        cast(float, options["label_smoothing"])
        if batch.label_smoothing is None
        else per_row(batch.label_smoothing, ignored, dtype, 1.0)
    )
    v, by_class = line.v, isinstance(line.v, Tensor) and line.v.dim() == 2
    if batch.has_probabilities():
        t = in_range(
            batch.target.to(ignored.device, dtype)
            .movedim(axis, -1)
            .masked_fill(ignored.unsqueeze(-1), 0.0)
        )
        whole = t @ line.whole if isinstance(line.whole, Tensor) else 1.0
        v = t @ cast(Tensor, v) if by_class else v
        if line.leaves_out:
            given = t * line.sigma
            v = (given.sum(-1, keepdim=True) - given) * v + t * line.pi
        return Rows(
            classes, epsilon, whole, (), t, None, 1.0 if line.leaves_out else line.sigma, v, False
        )

    labels = [
        label.to(ignored.device, torch.int64).masked_fill(ignored, 0)
        for label in (batch.target, batch.target_b)
        if label is not None
    ]
    shares: list[Number] = [1.0]
    largest = labels[0]
    if batch.lam is not None and classes > 1:
        lam = per_row(batch.lam, ignored, dtype, 1.0)
        largest = torch.where(lam >= 0.5, labels[0], labels[1])
        # No class is hot twice: another one takes its place, with a share of 0.
        same = labels[0] == labels[1]
        labels[1] = torch.where(same, (labels[0] + 1) % classes, labels[1])
        shares = [lam.masked_fill(same, 1.0), (1.0 - lam).masked_fill(same, 0.0)]
    each = list(zip(labels, shares))
    sigma = (
        sum_of(share * at(line.sigma, label) for label, share in each)
        if isinstance(line.sigma, Tensor)
        else line.sigma
    )
    whole = (
        sum_of(share * at(line.whole, label) for label, share in each)
        if isinstance(line.whole, Tensor)
        else 1.0
    )
    if by_class:
        v = sum_of(
            (share.unsqueeze(-1) if isinstance(share, Tensor) else share)
            * lines(cast(Tensor, v), label)
            for label, share in each
        )
    hot = []
    for label, share in each:
        of_others = (
            (sigma - share * at(line.sigma, label)) * at(v, label) if line.leaves_out else 0.0
        )
        hot.append(Hot(label, share, of_others + share * at(line.pi, label)))
    return Rows(classes, epsilon, whole, tuple(hot), None, largest, sigma, v, line.leaves_out)


def sum_of(numbers: Iterable[Number]) -> Number:
    return reduce(add, numbers)


def at(values: Number, index: Tensor) -> Number:
    """``values[..., index]``, which neither counts from the end nor reads a value back."""
    if not isinstance(values, Tensor):
        return values
    return (
        lines(values, index)
        if values.dim() == 1
        else values.gather(-1, index.unsqueeze(-1)).squeeze(-1)
    )


def lines(values: Tensor, index: Tensor) -> Tensor:
    return values.index_select(0, index.reshape(-1)).reshape((*index.shape, *values.shape[1:]))


def per_row(
    tensor: Tensor, ignored: Tensor, dtype: torch.dtype, highest: float = torch.inf
) -> Tensor:
    return in_range(tensor.to(ignored.device, dtype), highest=highest).masked_fill(ignored, 0.0)


def in_range(tensor: Tensor, lowest: float = 0.0, highest: float = torch.inf) -> Tensor:
    """NaN for what is not finite or not in [lowest, highest]."""
    return torch.where(
        (tensor >= lowest) & (tensor <= highest) & (tensor.abs() < torch.inf), tensor, torch.nan
    )
