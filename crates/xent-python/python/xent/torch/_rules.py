"""What targets contribute to a loss: a table by class, and from it a few numbers per row (SEMANTICS.md S2, S3, S4.2, S7).

Nothing here depends on the logits, so that a table stays on its device from call to call. A row that
puts the shares s_j on the classes c_j (its hot classes) has

    W = Σ s_j·whole[c_j]      hard_j = s_j·term[c_j]      σ = Σ s_j·sigma[c_j]      π_j = s_j·pi[c_j]

and the smoothed target W·[(1−ε)·Σ hard_j δ_j + ε·(σ·v + Σ π_j δ_j)·term], where v is the part of the
prior that rows share. Where a prior is over the wrong classes, hot classes are left out of v and what
other labels put on them is in π_j, so that no term is taken off again: ∞ − ∞ cannot occur.

The classes are on the last axis. No value is read back from a device; what the engine rejects is NaN.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from operator import add
from typing import NamedTuple, cast
from weakref import ref

import torch
from torch import Tensor

from xent.options import Options
from xent.torch._batch import PLAIN, Batch, is_differentiated, is_transformed

Number = Tensor | float


class Distribution(NamedTuple):
    """Mass on classes, ``[K]`` for all rows or ``[..., K]``, before and after class weights; 1.0 for 1 on every class."""

    mass: Number
    weighted: Number
    total: Number
    """Σ mass."""
    total_weighted: Number


class Table(NamedTuple):
    """What a criterion says of each class: ``[K]``, or a number where it is the same for all."""

    term: Number
    """Multiplies each term of the class."""
    whole: Tensor | None
    """Multiplies rows of the class; None for 1."""
    sigma: Number
    """The share of v that a row of the class gets."""
    pi: Number
    """What such a row gets on the class itself: 1 if the prior has nowhere else to go, else 0."""
    leaves_out: bool
    """Whether the prior is over the wrong classes."""
    v: Distribution
    matrix: Tensor | None
    """The prior by true class ``[K, K]``, which takes the place of v."""


_tables: dict[tuple[object, ...], tuple[tuple[object, ...], Table]] = {}


def table(options: Options, batch: Batch, classes: int, dtype: torch.dtype, device: torch.device) -> Table:
    """The table, made once for a criterion on a device unless its weights or prior are differentiated or traced."""
    given = [tensor for tensor in (batch.weight, batch.prior) if tensor is not None]
    if is_transformed() or not all(_is_constant(tensor) for tensor in given) or (device.type == "cuda" and torch.cuda.is_current_stream_capturing()):
        return _table(options, batch, classes, dtype, device)
    words = (options["prior"], options["exclude"], options["weighting"])
    key = (*words, classes, dtype, device, id(batch.weight), id(batch.prior))
    versions = tuple((ref(tensor), tensor._version) for tensor in given)
    known = _tables.get(key)
    if known is None or known[0] != versions:
        if len(_tables) >= 32:
            _tables.clear()
        # A later backward cannot save inference tensors.
        with torch.inference_mode(False), torch.no_grad():
            known = _tables[key] = versions, _table(options, batch, classes, dtype, device)
    return known[1]


def _is_constant(tensor: Tensor) -> bool:
    """Whether what is made of a tensor can stay until the tensor changes."""
    return type(tensor) in PLAIN and not tensor.is_inference() and not is_differentiated(tensor)


def _table(options: Options, batch: Batch, classes: int, dtype: torch.dtype, device: torch.device) -> Table:
    weight = None if batch.weight is None else in_range(batch.weight.to(device, dtype), lowest=-torch.inf)
    by_row = options["weighting"] == "per_row"
    term = 1.0 if weight is None or by_row else weight
    sigma: Number = 1.0
    pi: Number = 0.0
    v: Number = 1.0
    matrix = None
    leaves_out = batch.prior is None and (options["exclude"] is not None or options["prior"] == "wrong_classes")
    if batch.prior is not None:
        prior = in_range(batch.prior.to(device, dtype))
        prior = torch.where((prior.sum(-1, keepdim=True) - 1.0).abs() <= 1e-4, prior, torch.nan)
        v, matrix = (prior, None) if prior.dim() == 1 else (1.0, prior)
    elif options["exclude"]:
        excluded = sorted(set(cast(tuple[int, ...], options["exclude"])))
        if excluded[-1] >= classes:
            raise IndexError(f"exclude names class {excluded[-1]}, but the logits have {classes} classes")
        outside = torch.zeros(classes, dtype=torch.bool, device=device).index_fill(0, torch.tensor(excluded, device=device), True)
        v = (~outside).to(dtype)
        of_excluded, of_open = _spread_over(classes - len(excluded)), _spread_over(classes - len(excluded) - 1)
        sigma, pi = (torch.full_like(v, open_).masked_fill(outside, other) for open_, other in zip(of_open, of_excluded))
    elif leaves_out:
        sigma, pi = _spread_over(classes - 1)
    else:
        sigma = 1.0 / classes
    return Table(term, weight if by_row else None, sigma, pi, leaves_out, distribution(v, term, classes), matrix)


def _spread_over(classes: int) -> tuple[float, float]:
    """sigma and pi of a prior that is over so many classes."""
    return (1.0 / classes, 0.0) if classes > 0 else (0.0, 1.0)


def distribution(mass: Number, term: Number, classes: int) -> Distribution:
    weighted = mass * term if isinstance(term, Tensor) else mass
    total, total_weighted = (sums.sum(-1) if isinstance(sums, Tensor) else float(classes) for sums in (mass, weighted))
    return Distribution(mass, weighted, total, total_weighted)


class Hot(NamedTuple):
    """A class that rows name."""

    label: Tensor
    share: Number
    """s."""
    own: Number
    """π: what the prior puts on the class other than by v, before class weights."""
    term: Number
    present: Number
    """0 where the row's first label is the same class, else 1."""


class Rows(NamedTuple):
    """What targets contribute: one number per row, or one for all rows."""

    epsilon: Number
    whole: Number
    """W."""
    hot: tuple[Hot, ...]
    target: Distribution | None
    """t of probabilities, which have no hot classes."""
    label: Tensor | None
    """The target's largest class, the first on ties; None if that is to be found in t."""
    sigma: Number
    v: Distribution
    leaves_out: bool
    """Whether v leaves out the hot classes."""
    term: Number

    def on(self, values: Number, hot: Hot) -> Number:
        """What v or its like has on a hot class."""
        return at(values, hot.label) * hot.present

    def prior_mass(self, weighted: bool) -> Number:
        """Σ U, after class weights or before."""
        total, values = (self.v.total_weighted, self.v.weighted) if weighted else (self.v.total, self.v.mass)
        if self.leaves_out:
            total = total - sum_of([0.0, *(self.on(values, hot) for hot in self.hot)])
        return self.sigma * total + sum_of([0.0, *(hot.own * hot.term if weighted else hot.own for hot in self.hot)])

    @property
    def hard_mass(self) -> Number:
        """Σ t, after class weights."""
        return sum_of(hot.share * hot.term for hot in self.hot) if self.target is None else self.target.total_weighted


def rows(options: Options, batch: Batch, axis: int, ignored: Tensor, classes: int, dtype: torch.dtype) -> Rows:
    """The rows of a batch whose probabilities have the classes on ``axis``; ignored rows contribute nothing."""
    line = table(options, batch, classes, dtype, ignored.device)
    epsilon = cast(float, options["label_smoothing"]) if batch.label_smoothing is None else per_row(batch.label_smoothing, ignored, dtype, 1.0)
    if batch.has_probabilities():
        return _of_probabilities(line, epsilon, batch.target.to(ignored.device, dtype).movedim(axis, -1), ignored)
    labels = [label.to(ignored.device, torch.int64).masked_fill(ignored, 0) for label in (batch.target, batch.target_b) if label is not None]
    return _of_labels(line, epsilon, labels, None if batch.lam is None else per_row(batch.lam, ignored, dtype, 1.0), classes)


def _of_probabilities(line: Table, epsilon: Number, probabilities: Tensor, ignored: Tensor) -> Rows:
    t = in_range(probabilities.masked_fill(ignored.unsqueeze(-1), 0.0))
    classes = t.shape[-1]
    whole = 1.0 if line.whole is None else t @ line.whole
    sigma, v = line.sigma, line.v
    if line.matrix is not None:
        sigma, v = 1.0, distribution(t @ line.matrix, line.term, classes)
    elif line.leaves_out:
        given = t * line.sigma
        u = (given.sum(-1, keepdim=True) - given) * v.mass + t * line.pi
        sigma, v = 1.0, distribution(u, line.term, classes)
    return Rows(epsilon, whole, (), distribution(t, line.term, classes), None, sigma, v, False, line.term)


def _of_labels(line: Table, epsilon: Number, labels: list[Tensor], lam: Tensor | None, classes: int) -> Rows:
    shares: list[Number] = [1.0]
    present: list[Number] = [1.0]
    largest = labels[0]
    if lam is not None:
        same = labels[0] == labels[1]
        shares = [lam.masked_fill(same, 1.0), (1.0 - lam).masked_fill(same, 0.0)]
        present = [1.0, (~same).to(lam.dtype)]
        largest = torch.where(lam >= 0.5, labels[0], labels[1])
    whole = 1.0 if line.whole is None else sum_of(share * at(line.whole, label) for share, label in zip(shares, labels))
    sigma, v = sum_of(share * at(line.sigma, label) for share, label in zip(shares, labels)), line.v
    if line.matrix is not None:
        columns = [share.unsqueeze(-1) if isinstance(share, Tensor) else share for share in shares]
        v = distribution(sum_of(share * lines(line.matrix, label) for share, label in zip(columns, labels)), line.term, classes)
    hot = []
    for label, share, once in zip(labels, shares, present):
        own: Number = 0.0
        if line.leaves_out:
            of_others = sigma - share * at(line.sigma, label)
            own = of_others * at(v.mass, label) * once + share * at(line.pi, label)
        hot.append(Hot(label, share, own, at(line.term, label), once))
    return Rows(epsilon, whole, tuple(hot), None, largest, sigma, v, line.leaves_out, line.term)


def renormalised(given: Rows, masked: Tensor, dtype: torch.dtype) -> Rows:
    """The prior over the classes that are not masked, its sum as before; the target itself where nothing is left (S7)."""
    classes = masked.shape[-1]
    v = (~masked).to(dtype) * given.v.mass
    own = [torch.where(masked.gather(-1, hot.label.unsqueeze(-1)).squeeze(-1), 0.0, hot.own) for hot in given.hot]
    open_ = given._replace(v=distribution(v, given.term, classes), hot=tuple(hot._replace(own=n) for hot, n in zip(given.hot, own)))
    left = cast(Tensor, open_.prior_mass(weighted=False))
    nothing = left <= 0.0
    scale = given.prior_mass(weighted=False) / left.masked_fill(nothing, 1.0)
    if given.target is not None:
        v = torch.where(nothing.unsqueeze(-1), cast(Tensor, given.target.mass), v * (given.sigma * scale).unsqueeze(-1))
        return given._replace(sigma=1.0, v=distribution(v, given.term, classes))
    hot = tuple(hot._replace(own=torch.where(nothing, hot.share, hot.own * scale)) for hot in open_.hot)
    return open_._replace(sigma=(given.sigma * scale).masked_fill(nothing, 0.0), hot=hot)


def sum_of(numbers: Iterable[Number]) -> Number:
    return reduce(add, numbers)


def at(values: Number, index: Tensor) -> Number:
    """``values[..., index]``, which neither counts from the end nor reads a value back."""
    if not isinstance(values, Tensor):
        return values
    return lines(values, index) if values.dim() == 1 else values.gather(-1, index.unsqueeze(-1)).squeeze(-1)


def lines(values: Tensor, index: Tensor) -> Tensor:
    return values.index_select(0, index.reshape(-1)).reshape((*index.shape, *values.shape[1:]))


def per_row(tensor: Tensor, ignored: Tensor, dtype: torch.dtype, highest: float = torch.inf) -> Tensor:
    return in_range(tensor.to(ignored.device, dtype), highest=highest).masked_fill(ignored, 0.0)


def in_range(tensor: Tensor, lowest: float = 0.0, highest: float = torch.inf) -> Tensor:
    """NaN for what is not finite or not in [lowest, highest]."""
    return torch.where((tensor >= lowest) & (tensor <= highest) & (tensor.abs() < torch.inf), tensor, torch.nan)
