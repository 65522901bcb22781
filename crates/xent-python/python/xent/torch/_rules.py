"""What targets contribute to a loss, in numbers per row (SEMANTICS.md S2, S3, S4.2, S6 and S7).

Nothing here depends on the logits, except on which of them are masked. A table has
what criterion and class weights say of each class. A row that puts the shares s_j on the classes
c_j (its hot classes) has

    W = Σ s_j·whole[c_j]   hard_j = s_j·term[c_j]   σ = Σ s_j·sigma[c_j]   π_j = s_j·pi[c_j]

and the smoothed target W·[(1−ε)·Σ hard_j δ_j + ε·(σ·v + Σ π_j δ_j)·term], where v is the part of
the prior that rows share. Where a prior is over the wrong classes, hot classes are left out of v,
and what other labels put on them is in π_j, so that no term is taken off again: ∞ − ∞ cannot
occur.

The classes are on the last axis. Numbers per row have a dtype of their own (:func:`row_dtype`);
what is as large as the logits has the dtype in which they are computed (``dense``). No value is
read back from a device; what the engine rejects is NaN. What is made of options alone stays on
the device. What is made of tensors is made again: they may be differentiated, traced or changed,
and are on the device already.
"""

from __future__ import annotations

from functools import lru_cache, reduce
from operator import add, and_, or_
from typing import NamedTuple, cast

import torch
from torch import Tensor

from xent.options import Options
from xent.torch._batch import Batch, is_transformed

Number = Tensor | float


def row_dtype(device: torch.device) -> torch.dtype:
    """float64 costs nothing for one number per row, where a device has it at all."""
    if device.type == "mps" or (
        device.type == "xpu" and not torch.xpu.get_device_properties(device).has_fp64
    ):
        return torch.float32
    return torch.float64


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
    """By true class ``[K, K]`` for such a prior, which is not checked yet."""
    leaves_out: bool
    """Whether the prior is over the wrong classes."""

    def is_by_class(self) -> bool:
        return isinstance(self.v, Tensor) and self.v.dim() == 2

    def without_prior(self) -> Table:
        return self._replace(sigma=0.0, pi=0.0, v=1.0, leaves_out=False)

    def checked(self, dense: torch.dtype) -> Table:
        """With a prior by true class that is NaN where it is invalid."""
        if not self.is_by_class():
            return self
        v = in_range(cast(Tensor, self.v).to(dense))
        return self._replace(v=torch.where(sums_to_one(v.sum(-1, keepdim=True)), v, torch.nan))


def table(
    options: Options, batch: Batch, classes: int, dtype: torch.dtype, device: torch.device
) -> Table:
    weight: Number = (
        1.0 if batch.weight is None else in_range(batch.weight.to(device, dtype), lowest=-torch.inf)
    )
    term, whole = (1.0, weight) if options["weighting"] == "per_row" else (weight, 1.0)
    if batch.prior is not None:
        prior = batch.prior.to(device)
        if prior.dim() == 1:
            prior = in_range(prior.to(dtype))
            prior = torch.where(sums_to_one(prior.sum(-1)), prior, torch.nan)
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


class Contribution(NamedTuple):
    """What the targets of a batch contribute."""

    rows: Rows
    """With class weights."""
    largest: Tensor | None
    """The class of which rows have most, the first on ties; of probabilities, for statistics."""
    mix: Tensor | None
    """The share of the first of two labels."""
    ignored: Tensor | None
    """Which rows; None where none can be."""
    denominator: Tensor
    """What a mean divides the cross-entropy by (S6)."""
    z_denominator: Tensor
    """What it divides the z-loss by, which does not depend on the scale of class weights."""


def contribution(
    options: Options,
    batch: Batch,
    target: Tensor | None,
    ignored: Tensor | None,
    masked: Tensor | Open | None,
    shape: torch.Size,
    dense: torch.dtype,
    device: torch.device,
    want_stats: bool,
) -> Contribution:
    """Of a batch for logits of that shape; ``target`` are probabilities, if they are given.

    Both have the classes on the last axis.
    """
    dtype, classes = row_dtype(device), shape[-1]
    line = table(options, batch, classes, dtype, device)
    epsilon: Number = cast(float, options["label_smoothing"])
    if batch.label_smoothing is not None:
        epsilon = per_row(batch.label_smoothing, ignored, dtype, device, highest=1.0)
    elif epsilon == 0.0:
        line = line.without_prior()
    mix = None
    if target is None:
        names = named(batch, ignored, classes, dtype, device)
        rows = of_labels(line, epsilon, names, classes, dtype, dense)
        largest: Tensor | None = names.largest
        mix = names.shares[0] if isinstance(names.shares[0], Tensor) else None
    else:
        rows = of_probabilities(line, epsilon, target, dtype, dense)
        largest = target.argmax(-1) if want_stats else None
    if masked is not None:
        rows = rows.renormalised(masked)
    rows = rows.weighted(line.term)
    divisors = denominators(rows, ignored, options, batch, shape[:-1], device)
    return Contribution(rows, largest, mix, ignored, *divisors)


def ignored_rows(options: Options, batch: Batch, device: torch.device) -> Tensor | None:
    """S5. None if no row can be ignored."""
    masks = [] if batch.ignored_rows is None else [batch.ignored_rows.to(device, torch.bool)]
    for label in () if batch.has_probabilities() else (batch.target, batch.target_b):
        if label is not None:
            label = label.to(device, torch.int64)
            indices = cast(tuple[int, ...], options["ignore_index"] or ())
            masks.extend(label == index for index in indices)
    return reduce(or_, masks) if masks else None


def denominators(
    rows: Rows,
    ignored: Tensor | None,
    options: Options,
    batch: Batch,
    shape: torch.Size,
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """S6: of the cross-entropy, and of z-loss."""
    if batch.denominator is not None:
        given = batch.denominator.to(device, rows.dtype).reshape(())
        given = torch.where((given > 0.0) & (given < torch.inf), given, torch.nan)
        return given, given
    if ignored is None or options["denominator"] == "rows":
        number = torch.full((), shape.numel(), dtype=rows.dtype, device=device)
    else:
        number = (~ignored).sum(dtype=rows.dtype)
    by_row = options["weighting"] == "per_row"
    if batch.weight is None or options["denominator"] != "pytorch" or not (by_row or rows.hot):
        return number, number
    weight = cast(Tensor, rows.whole if by_row else rows.mass)
    return unless(ignored, weight, 0.0).sum(), number


def divisors(
    options: Options, batch: Batch, rows: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor | None]:
    """What :func:`denominators` says, of targets alone; the second only if it is another number."""
    if batch.denominator is not None:
        given = batch.denominator.to(device, dtype).reshape(())
        return torch.where((given > 0.0) & (given < torch.inf), given, torch.nan), None
    ignored = ignored_rows(options, batch, device)
    if ignored is None or options["denominator"] == "rows":
        count = torch.full((), rows, dtype=dtype, device=device)
    else:
        count = (~ignored).sum(dtype=dtype)
    if batch.weight is None or options["denominator"] != "pytorch":
        return count, None
    weight = batch.weight.to(device, dtype)
    if batch.has_probabilities():
        if options["weighting"] != "per_row":
            return count, None
        lines = torch.split(batch.target.to(device), 256)
        mass = torch.cat([line.to(dtype) @ weight for line in lines])
        return unless(ignored, mass, 0.0).sum(), count
    mass = weight[unless(ignored, batch.target.to(device, torch.int64), 0)]
    if batch.target_b is not None and batch.lam is not None:
        of_b = weight[unless(ignored, batch.target_b.to(device, torch.int64), 0)]
        mass = batch.lam * mass + (1.0 - batch.lam) * of_b
    return unless(ignored, mass, 0.0).sum(), count


class Hot(NamedTuple):
    """A class that rows name."""

    label: Tensor
    share: Number
    """s."""
    own: Number
    """π: what the prior puts on the class other than by v."""
    of_v: Number
    """v at the class."""


class Open(NamedTuple):
    """Of classes that are masked elsewhere, in numbers per row: sums over those that are not."""

    masked: tuple[Tensor, ...]
    """Whether a hot class is masked, one for each."""
    v: Number
    """Σ v before class weights."""
    weighted: Number
    """Σ v after class weights."""
    entropy: Number
    """Σ h(v), after class weights; only for a floor."""


class Rows(NamedTuple):
    """What targets contribute: one number per row, or one for all rows.

    The numbers of ignored rows are not to be used.
    """

    classes: int
    dtype: torch.dtype
    """Of numbers per row."""
    dense: torch.dtype
    """Of numbers per row and class."""
    epsilon: Number
    whole: Number
    """W."""
    hot: tuple[Hot, ...]
    target: Tensor | None
    """t of probabilities ``[..., K]``, which have no hot classes."""
    mass: Number
    """Σ t."""
    sigma: Number
    v: Number
    """``[K]`` for all rows, ``[..., K]``, or 1."""
    leaves_out: bool
    """Whether v leaves out the hot classes."""
    v_mass: Number
    """Σ v over the classes that it does not leave out."""
    valid: Tensor | None
    """Whether the probabilities or the prior of a row are valid; None without such vectors."""
    masked: Tensor | None = None
    """Classes ``[..., K]`` that v leaves out, too: they are masked, and masks renormalise."""
    open: Open | None = None
    """The same as masked, of a vocabulary in shards."""
    on_target: Number = 0.0
    """1 where masked classes leave nothing of the prior of probabilities: it is t, then."""

    def smooths(self) -> bool:
        return isinstance(self.epsilon, Tensor) or self.epsilon != 0.0

    @property
    def gamma(self) -> Number:
        """γ, before W: what the smoothed target has of v."""
        return times(self.epsilon, self.sigma)

    @property
    def tau(self) -> Number:
        """τ, before W: what it has of t."""
        return plus(1.0 - self.epsilon, times(self.epsilon, self.on_target))

    def at(self, hot: Hot) -> Number:
        """What it has on a hot class, before W."""
        own = plus(times(1.0 - self.epsilon, hot.share), times(self.epsilon, hot.own))
        return own if self.leaves_out else plus(own, times(self.gamma, hot.of_v))

    @property
    def total(self) -> Number:
        """Y, before W: its sum."""
        return plus(times(1.0 - self.epsilon, self.mass), self.epsilon * self.prior_mass)

    @property
    def prior_mass(self) -> Number:
        """Σ U(t)."""
        of_v = times(self.sigma, self.v_mass)
        return plus(of_v, times(self.on_target, self.mass), *(hot.own for hot in self.hot))

    def renormalised(self, masked: Tensor | Open) -> Rows:
        """With the prior over the classes that are not masked, its sum as before (S7).

        Where nothing is left of it, it is the target itself.
        """
        rows = (
            self._replace(open=masked) if isinstance(masked, Open) else self._replace(masked=masked)
        )
        if not self.smooths():
            return rows
        hot = []
        for i, (label, share, *of_prior) in enumerate(self.hot):
            closed = masked.masked[i] if isinstance(masked, Open) else at(masked, label)
            of_prior = [torch.where(cast(Tensor, closed), 0.0, x) for x in of_prior]
            hot.append(Hot(label, share, *of_prior))
        left = rows._replace(hot=tuple(hot))
        left = left._replace(v_mass=left.sum_of_v())
        mass = cast(Tensor, left.prior_mass)
        nothing = mass <= 0.0
        scale = self.prior_mass / mass.masked_fill(nothing, 1.0)
        of_hot = [torch.where(nothing, each.share, each.own * scale) for each in hot]
        return left._replace(
            sigma=(self.sigma * scale).masked_fill(nothing, 0.0),
            hot=tuple(each._replace(own=own) for each, own in zip(hot, of_hot)),
            on_target=0.0 if self.target is None else nothing.to(self.dtype),
        )

    def weighted(self, term: Number) -> Rows:
        """The same with each class's terms multiplied by its weight."""
        if not isinstance(term, Tensor):
            return self._replace(v=to(self.v, self.dense))
        hot = tuple(
            Hot(label, *(times(number, at(term, label)) for number in numbers))
            for label, *numbers in self.hot
        )
        target, mass = None, plus(*(each.share for each in hot))
        if self.target is not None:
            target = cast(Tensor, weighted(self.target, term, self.dense))
            mass = target.sum(-1).to(self.dtype)
        v = weighted(self.v, term, self.dense)
        left = self._replace(hot=hot, target=target, mass=mass, v=v)
        if left.open is not None:
            left = left._replace(open=left.open._replace(v=left.open.weighted))
        return left._replace(v_mass=left.sum_of_v())

    def sum_of_v(self) -> Number:
        total = self.sum(self.v) if self.open is None else self.open.v
        for hot in self.hot if self.leaves_out else ():
            total = total - hot.of_v
        return total

    def sum(self, values: Number) -> Number:
        """The sum of a number per class over the classes that are not masked."""
        if not isinstance(values, Tensor):
            if values == 0.0:
                return 0.0
            left = 0 if self.masked is None else self.masked.sum(-1).to(self.dtype)
            return (self.classes - left) * values
        if self.masked is not None:
            values = values.to(self.dense).masked_fill(self.masked, 0.0)
        return values.sum(-1).to(self.dtype)


def weighted(values: Number, term: Number, dense: torch.dtype) -> Number:
    """Numbers per class, of all rows or of each, times weights of the classes."""
    if isinstance(values, Tensor) and values.dim() > 1:
        return times(values, to(term, dense))
    return to(times(values, term), dense)


class Named(NamedTuple):
    """The classes that rows name."""

    labels: list[Tensor]
    shares: list[Number]
    """One for each; the number 1 for a single class."""
    largest: Tensor
    """The label with the largest share, the first on ties."""


def named(
    batch: Batch, ignored: Tensor | None, classes: int, dtype: torch.dtype, device: torch.device
) -> Named:
    labels = [
        unless(ignored, label.to(device, torch.int64), 0)
        for label in (batch.target, batch.target_b)
        if label is not None
    ]
    shares: list[Number] = [1.0]
    if batch.lam is None or classes == 1:
        return Named(labels[:1], shares, labels[0])
    lam = per_row(batch.lam, ignored, dtype, device, highest=1.0)
    largest = torch.where(lam >= 0.5, labels[0], labels[1])
    # No class is hot twice: another one takes its place, with a share of 0.
    same = labels[0] == labels[1]
    labels[1] = torch.where(same, (labels[0] + 1) % classes, labels[1])
    shares = [lam.masked_fill(same, 1.0), (1.0 - lam).masked_fill(same, 0.0)]
    return Named(labels, shares, largest)


def of_labels(
    line: Table, epsilon: Number, named: Named, classes: int, dtype: torch.dtype, dense: torch.dtype
) -> Rows:
    """Rows that name classes, before class weights."""
    each = list(zip(named.labels, named.shares))
    whole, sigma = (
        plus(*(times(share, at(column, label)) for label, share in each))
        if isinstance(column, Tensor)
        else column
        for column in (line.whole, line.sigma)
    )
    v, lines = line.v, []
    if line.is_by_class():
        lines = lines_of_prior(line, named.labels, dense)
        v = mixed(lines, named.shares)
    hot = []
    for label, share in each:
        own, of_v = times(share, at(line.pi, label)), at(v, label)
        if line.leaves_out and len(each) > 1:
            own = plus(own, times(sigma - share * at(line.sigma, label), of_v))
        hot.append(Hot(label, share, own, of_v))
    rows = Rows(
        classes=classes,
        dtype=dtype,
        dense=dense,
        epsilon=epsilon,
        whole=whole,
        hot=tuple(hot),
        target=None,
        mass=plus(*named.shares),
        sigma=sigma,
        v=v,
        leaves_out=line.leaves_out,
        v_mass=0.0,
        valid=None,
    )
    if not lines:
        return rows._replace(v_mass=rows.sum_of_v())
    sums = [each.sum(-1).to(dtype) for each in lines]
    valid = [(each.amin(-1) >= 0.0) & sums_to_one(total) for each, total in zip(lines, sums)]
    v_mass = plus(*(times(share, total) for share, total in zip(named.shares, sums)))
    return rows._replace(v_mass=v_mass, valid=reduce(and_, valid))


def lines_of_prior(line: Table, labels: list[Tensor], dense: torch.dtype) -> list[Tensor]:
    """Of a prior by true class, what it is for each class that rows name."""
    return [_lines(cast(Tensor, line.v), label).to(dense) for label in labels]


def mixed(lines: list[Tensor], shares: list[Number]) -> Tensor:
    """Vectors of each row, in the shares of its labels."""
    columns = [to(share, lines[0].dtype, column=True) for share in shares]
    return cast(Tensor, plus(*(times(share, line) for share, line in zip(columns, lines))))


def of_probabilities(
    line: Table, epsilon: Number, target: Tensor, dtype: torch.dtype, dense: torch.dtype
) -> Rows:
    """Rows of probabilities, with the classes on the last axis, before class weights."""
    mass = target.sum(-1, dtype=dense).to(dtype)
    whole = line.whole
    if isinstance(whole, Tensor):
        whole = (target.to(dense) @ whole.to(dense)).to(dtype)
    rows = Rows(
        classes=target.shape[-1],
        dtype=dtype,
        dense=dense,
        epsilon=epsilon,
        whole=whole,
        hot=(),
        target=target,
        mass=mass,
        sigma=1.0 if line.leaves_out else line.sigma,
        v=prior_of_probabilities(line.checked(dense), target, dense),
        leaves_out=False,
        v_mass=0.0,
        valid=(target.amin(-1) >= 0.0) & (mass < torch.inf),
    )
    return rows._replace(v_mass=rows.sum_of_v())


def prior_of_probabilities(line: Table, target: Tensor, dense: torch.dtype) -> Number:
    """v, of a checked table: the same for all rows, unless the prior depends on the true class."""
    if line.is_by_class():
        return target.to(dense) @ cast(Tensor, line.v)
    if not line.leaves_out:
        return line.v
    target = target.to(dense)
    of_others = times(target, to(line.sigma, dense))
    if isinstance(of_others, Tensor):
        of_others = times(of_others.sum(-1, keepdim=True) - of_others, to(line.v, dense))
    return plus(of_others, times(target, to(line.pi, dense)))


def sums_to_one(total: Tensor) -> Tensor:
    return (total - 1.0).abs() <= 1e-4


def times(a: Number, b: Number) -> Number:
    """a·b; nothing to do where one of them is 0 or 1 for all rows.

    Not for what may be 1 by rounding only: where the number of classes is a symbol, torch.compile
    checks comparisons again, with other roundings.
    """
    for this, other in ((a, b), (b, a)):
        if not isinstance(this, Tensor) and (this == 0.0 or this == 1.0):
            return other if this == 1.0 else 0.0
    return a * b


def plus(*numbers: Number) -> Number:
    """Their sum; nothing to do for a 0."""
    terms = [x for x in numbers if isinstance(x, Tensor) or x != 0.0]
    return reduce(add, terms) if terms else 0.0


def to(number: Number, dtype: torch.dtype, column: bool = False) -> Number:
    """In another dtype, and as a column if it is to meet one number per class."""
    if not isinstance(number, Tensor):
        return number
    return number.to(dtype).unsqueeze(-1) if column else number.to(dtype)


def at(values: Number, index: Tensor) -> Number:
    """``values[..., index]``, which neither counts from the end nor reads a value back."""
    if not isinstance(values, Tensor):
        return values
    return (
        _lines(values, index)
        if values.dim() == 1
        else values.gather(-1, index.unsqueeze(-1)).squeeze(-1)
    )


def _lines(values: Tensor, index: Tensor) -> Tensor:
    return values.index_select(0, index.reshape(-1)).reshape((*index.shape, *values.shape[1:]))


def per_row(
    tensor: Tensor,
    ignored: Tensor | None,
    dtype: torch.dtype,
    device: torch.device,
    highest: float = torch.inf,
) -> Tensor:
    return unless(ignored, in_range(tensor.to(device, dtype), highest=highest), 0.0)


def in_range(tensor: Tensor, lowest: float = 0.0, highest: float = torch.inf) -> Tensor:
    """NaN for what is not finite or not in [lowest, highest]."""
    return torch.where(
        (tensor >= lowest) & (tensor <= highest) & (tensor.abs() < torch.inf), tensor, torch.nan
    )


def unless(mask: Tensor | None, tensor: Tensor, value: float) -> Tensor:
    """The tensor, with another value where the mask says so."""
    return tensor if mask is None else tensor.masked_fill(mask, value)
