"""S2, S3 and S6 of SEMANTICS.md in PyTorch's operations: targets, priors, weights and denominators, the classes on the last axis."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from xent._options import Options
from xent.torch._batch import Batch


@dataclass(eq=False)
class Target:
    options: Options
    classes: int
    dtype: torch.dtype
    ignored: Tensor
    eps: Tensor
    """ε, one a row."""
    index: Tensor | None
    """Class indices, 0 in ignored rows; None for probabilities."""
    index_b: Tensor | None
    lam: Tensor | None
    probabilities: Tensor | None
    class_weights: Tensor | None
    prior: Tensor | None
    row_weight: Tensor | None

    @property
    def closed_form(self) -> bool:
        plain = self.prior is None and self.options.prior == "uniform" and self.options.exclude is None
        unmixed = self.index is not None and self.index_b is None
        return plain and unmixed and self.options.masked == "pytorch" and self.options.form == "cross_entropy" and not self._by_row

    @property
    def _by_row(self) -> bool:
        return self.class_weights is not None and self.options.weighting == "per_row"

    @property
    def dense(self) -> Tensor:
        """t, S2."""
        if self.probabilities is not None:
            return self.probabilities
        assert self.index is not None
        first = self._one_hot(self.index)
        if self.index_b is None or self.lam is None:
            return first
        lam = self.lam.unsqueeze(-1)
        return lam * first + (1.0 - lam) * self._one_hot(self.index_b)

    def _one_hot(self, index: Tensor) -> Tensor:
        zeros = torch.zeros((*index.shape, self.classes), dtype=self.dtype, device=index.device)
        return zeros.scatter(-1, index.unsqueeze(-1), 1.0)

    @property
    def label(self) -> Tensor:
        """The target's largest class, the first on ties; S10."""
        if self.probabilities is not None:
            return self.probabilities.argmax(-1)
        assert self.index is not None
        return self.index if self.index_b is None or self.lam is None else torch.where(self.lam >= 0.5, self.index, self.index_b)

    @property
    def _mean_weight(self) -> Tensor | None:
        """w̄ = Σ w_c t_c, one a row."""
        if self.class_weights is None:
            return None
        if self.index is None:
            return self.dense @ self.class_weights
        first = at(self.class_weights, self.index)
        if self.index_b is None or self.lam is None:
            return first
        return self.lam * first + (1.0 - self.lam) * at(self.class_weights, self.index_b)

    @property
    def share(self) -> Tensor | float:
        """What multiplies a row's sums; S4.2."""
        weight = self._mean_weight
        return weight if self._by_row and weight is not None else 1.0

    def weighed(self, distribution: Tensor) -> Tensor:
        """By class, if that is how weights enter; S4.2."""
        return distribution if self.class_weights is None or self._by_row else distribution * self.class_weights

    def distributions(self, masked: Tensor) -> tuple[Tensor, Tensor]:
        """t and U(t); S3, S7."""
        t = self.dense
        prior = self._prior(t)
        if self.options.masked == "renormalise":
            remaining = prior.masked_fill(masked, 0.0)
            left = remaining.sum(-1, keepdim=True)
            nothing = left == 0.0
            prior = torch.where(nothing, t, remaining * (prior.sum(-1, keepdim=True) / left.masked_fill(nothing, 1.0)))
        return t, prior

    def _prior(self, t: Tensor) -> Tensor:
        options, classes = self.options, self.classes
        if self.prior is not None:
            return self.prior.expand_as(t) if self.prior.dim() == 1 else self._by_true_class(t, self.prior)
        if options.exclude is None and options.prior == "uniform":
            return torch.full((), 1.0 / classes, dtype=t.dtype, device=t.device).expand_as(t)
        for excluded in options.exclude or ():
            if excluded >= classes:
                raise IndexError(f"exclude names class {excluded}, but the logits have {classes} classes")
        outside = torch.tensor([k not in (options.exclude or ()) for k in range(classes)], device=t.device)
        # How many classes a true class leaves its prior; none: it keeps all of its mass (S3.6).
        room = outside.sum() - outside.to(torch.int64)
        alone = room == 0
        given = t * (1.0 / room.masked_fill(alone, 1).to(t.dtype)).masked_fill(alone, 0.0)
        return (given.sum(-1, keepdim=True) - given).masked_fill(~outside, 0.0) + t.masked_fill(~alone, 0.0)

    def _by_true_class(self, t: Tensor, rows: Tensor) -> Tensor:
        if self.index is None:
            return t @ rows
        first = at(rows, self.index)
        if self.index_b is None or self.lam is None:
            return first
        lam = self.lam.unsqueeze(-1)
        return lam * first + (1.0 - lam) * at(rows, self.index_b)

    def denominator(self, options: Options, batch: Batch) -> Tensor:
        """D, S6."""
        if batch.denominator is not None:
            given = batch.denominator.to(self.eps.device, self.dtype)
            return torch.where((given > 0.0) & (given < torch.inf), given, torch.nan)
        kept = ~self.ignored
        weight = self._mean_weight
        if options.denominator == "pytorch" and weight is not None and (self.index is not None or self._by_row):
            return weight.masked_fill(self.ignored, 0.0).sum()
        counted = torch.ones_like(kept) if options.denominator == "rows" else kept
        return counted.sum().to(self.dtype)


def at(values: Tensor, index: Tensor) -> Tensor:
    """``values[index]`` that neither counts from the end nor looks at a number."""
    return values.index_select(0, index.reshape(-1)).reshape((*index.shape, *values.shape[1:]))


def of(z: Tensor, options: Options, batch: Batch, axis: int) -> Target:
    """The targets of logits whose classes are on the last axis, once on ``axis``."""
    rows, dtype, device = z.shape[:-1], z.dtype, z.device

    def number(tensor: Tensor | None, highest: float = torch.inf, lowest: float = 0.0) -> Tensor | None:
        """What has to be in [lowest, highest] and finite, NaN where it is not."""
        if tensor is None:
            return None
        tensor = tensor.to(device, dtype)
        return torch.where((tensor >= lowest) & (tensor <= highest) & (tensor.abs() < torch.inf), tensor, torch.nan)

    ignored = torch.zeros(rows, dtype=torch.bool, device=device)
    if batch.ignored_rows is not None:
        ignored = ignored | batch.ignored_rows.to(device, torch.bool)
    index = index_b = probabilities = None
    if batch.has_probabilities():
        probabilities = batch.target.to(device, dtype).movedim(axis, -1).masked_fill(ignored.unsqueeze(-1), 0.0)
        probabilities = number(probabilities)
    else:
        index = batch.target.to(device, torch.int64)
        index_b = None if batch.target_b is None else batch.target_b.to(device, torch.int64)
        for ignore in options.ignore_index:
            ignored = ignored | (index == ignore)
            if index_b is not None:
                ignored = ignored | (index_b == ignore)
        index = index.masked_fill(ignored, 0)
        index_b = None if index_b is None else index_b.masked_fill(ignored, 0)
    eps = number(batch.label_smoothing, 1.0)
    if eps is None:
        eps = torch.full(rows, options.label_smoothing, dtype=dtype, device=device)

    def of_kept(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.masked_fill(ignored, 0.0)

    return Target(
        options,
        z.shape[-1],
        dtype,
        ignored,
        eps.masked_fill(ignored, 0.0),
        index,
        index_b,
        of_kept(number(batch.lam, 1.0)),
        probabilities,
        number(batch.weight, lowest=-torch.inf),
        _distribution(number(batch.prior)),
        of_kept(number(batch.row_weight)),
    )


def _distribution(prior: Tensor | None) -> Tensor | None:
    if prior is None:
        return None
    return torch.where(((prior.sum(-1, keepdim=True) - 1.0).abs() <= 1e-4), prior, torch.nan)
