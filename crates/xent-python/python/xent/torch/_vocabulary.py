"""A vocabulary in shards: each process of a group has the logits of some classes of every row.

Statistics of two parts of a row merge (SEMANTICS.md S13.3). Each process reads its own logits
once and sends a few numbers per row, in one all-gather; what it gets are the statistics of all
parts, which every process merges alike, so that the loss has the same bits everywhere:

    m = max m_r    rest = Σ rest_r·e^(m_r − m) + Σ_{r not the peak's} e^(m_r − m)
    S = Σ [S_r + (m − m_r)·V_r]    z of a hot class: of whoever has it

From there on all is as for a single process: :mod:`._rules` says what targets contribute,
:func:`._tensors.concluded` makes the loss, and the gradient of the shard is that of
:mod:`._composed`, with the coefficients of whole rows. It is formed in backward, where the upstream
gradient is known, from the shard alone. The upstream gradient is the same on all processes, as the
loss is, so that nothing is to be sent there, and autograd never sees the exchange.

Processes that disagree must not wait for each other, nor exchange buffers of two sizes, which ends
a process under gloo. So every exchange has the length that the group agreed on in its last one, and
begins with a header: whether this process failed, the shard, and the length that it needs. All
decide alike by all headers: to take what came, to exchange again with another length, or to raise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, NamedTuple, NoReturn, cast
from weakref import WeakKeyDictionary

import torch
import torch.distributed as dist
from torch import Tensor

from xent import options as _options
from xent.errors import InvalidIndex, InvalidType, InvalidValue
from xent.options import Options, shown
from xent.torch import _arguments, _composed, _passes, _rules, _tensors
from xent.torch._batch import (
    Batch,
    Stats,
    compute_dtype,
    is_differentiated,
    loss_dtype,
)
from xent.torch._passes import Coefficients, Cut
from xent.torch._rules import Contribution, Number, Open, Rows, times, unless
from xent.torch._tensors import Statistics, allowed_classes, either

Call = Callable[[Tensor], tuple[Options, Batch]]
"""Checks what comes with logits of that shape."""
Range = tuple[int, int]


class Shards(NamedTuple):
    """Which classes the processes have."""

    ranges: tuple[Range, ...]
    """By rank."""
    rank: int

    @property
    def classes(self) -> int:
        return max(end for _, end in self.ranges)

    @property
    def start(self) -> int:
        return self.ranges[self.rank][0]

    def cut(self, values: Number) -> Number:
        """The part of one number per class that is of these classes."""
        return values[slice(*self.ranges[self.rank])] if isinstance(values, Tensor) else values

    def here(self, label: Tensor, rank: int | None = None) -> Tensor:
        start, end = self.ranges[self.rank if rank is None else rank]
        return (label >= start) & (label < end)


def cross_entropy(
    logits: Any, given_axis: int | None, group: Any, given_range: Any, allowed: Any, call: Call, want_stats: bool,
) -> tuple[Tensor, Stats | None]:  # fmt: skip
    expect_group(group)
    made: list[Shard] = []

    def shard(shards: Shards) -> Tensor:
        made[:] = [Shard.of(logits, given_axis, shards, allowed, call, want_stats)]
        return made[0].numbers()

    everyone = exchanged(group, Mine.of(logits, given_axis, given_range), shard)
    this = made[0]
    dtype = loss_dtype(logits, this.batch)
    if torch.is_grad_enabled() and logits.requires_grad:
        loss, *stats = ShardedCrossEntropy.apply(
            logits, this, everyone, dtype, want_stats, *this.batch
        )
        return loss, Stats(*stats) if want_stats else None
    loss, all_stats, _ = this.concluded(everyone, dtype, want_stats, differentiate=False)
    return loss, all_stats


class ShardedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        shard: Shard,
        everyone: Tensor,
        loss_dtype: torch.dtype,
        want_stats: bool,
        *tensors: Tensor | None,
    ) -> tuple[Tensor, ...]:
        loss, stats, coefficients = shard.concluded(
            everyone, loss_dtype, want_stats, differentiate=True
        )
        ctx.save_for_backward(logits, *tensors, *cast(Coefficients, coefficients))
        ctx.call = (shard.options, shard.axis)
        ctx.set_materialize_grads(False)
        return _tensors.outputs(ctx, loss, stats)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor | None, *_: Tensor | None) -> tuple[Tensor | None, ...]:
        rest = (None,) * (4 + len(Batch._fields))
        if upstream is None:
            return (None, *rest)
        expect_one_backward(upstream)
        options, axis = ctx.call
        logits, *tensors = ctx.saved_tensors
        if logits.shape[axis] == 0:
            return (torch.zeros_like(logits), *rest)
        batch, coefficients = _passes.saved(tensors)
        with _tensors.without_autocast(logits):
            gradient = _composed.backward_pass(logits, options, batch, axis, coefficients, upstream)
        return (gradient, *rest)


class Shard(NamedTuple):
    """The classes of this process, and what all of them are called with."""

    logits: Tensor
    """Detached."""
    axis: int
    shards: Shards
    options: Options
    batch: Batch
    """With the allowed classes of these."""
    ignored: Tensor | None
    no_class: list[Tensor]
    """Which labels are none: class 0 stands for them."""
    table_v: Number
    """v before class weights, of all classes."""
    given: Contribution
    """Where no class is masked."""
    wants: Wants

    @classmethod
    def of(cls, logits: Any, given_axis: int | None, shards: Shards, allowed: Any, call: Call, want_stats: bool) -> Shard:  # fmt: skip
        """Raises whatever is wrong with a call."""
        axis = _arguments.class_axis(logits, given_axis, fewest=0)
        given, logits, shape = logits, logits.detach(), list(logits.shape)
        shape[axis] = shards.classes
        # In the shape that the logits have altogether.
        options, batch = call(logits.new_zeros(()).expand(shape))
        if allowed is not None:
            _arguments.expect_allowed(logits, axis, allowed)
            batch = batch._replace(allowed_classes=allowed)
        expect_supported(given, batch)
        z = logits.movedim(axis, -1)
        ignored = _rules.ignored_rows(options, batch, z.device)
        if z.device.type == "cpu":
            expect_values(batch, ignored, shards.classes)
        no_class = []
        for name in ("target", "target_b"):
            if (label := getattr(batch, name)) is not None:
                label = label.to(torch.int64)
                no_class.append((label < 0) | (label >= shards.classes))
                batch = batch._replace(**{name: label.masked_fill(no_class[-1], 0)})
        wants = Wants.of(options, batch, want_stats)
        whole = torch.Size((*z.shape[:-1], shards.classes))
        made = _rules.contribution(
            options, batch, None, ignored, None, whole, compute_dtype(z), z.device, wants.argmax
        )
        dtype = _rules.row_dtype(z.device)
        v = _rules.table(options, batch, shards.classes, dtype, z.device).v
        return cls(logits, axis, shards, options, batch, ignored, no_class, v, made, wants)

    def numbers(self) -> Tensor:
        """What this process sends: a few columns, of one number per row each."""
        z = self.logits.movedim(self.axis, -1)
        with _tensors.without_autocast(z):
            return self.marked(self.columns(z, lambda tensor: tensor))

    def columns(self, z: Tensor, take: Cut) -> Tensor:
        """Of the logits of some rows; ``take`` takes these rows of anything else."""
        rows = self.given.rows
        hot = [(take(each.label), take(self.shards.here(each.label))) for each in rows.hot]
        if z.shape[-1] == 0:
            # A class that is masked and has nothing of v takes the place of none.
            z = z.new_full((*z.shape[:-1], 1), -torch.inf)
            v: Number = z.new_zeros(1, dtype=rows.dense)
            before, allowed = v, None
        else:
            v, before = self.shards.cut(rows.v), self.shards.cut(self.table_v)
            allowed = allowed_classes(self.batch, z.device, self.axis)
            allowed = _passes.cut_rows(take, allowed, z)
        local = rows._replace(classes=z.shape[-1], v=v)
        parts = []
        for cut in _passes.pieces(z):
            parts.append(
                _columns(
                    cut(z),
                    _passes.cut_rows(cut, allowed, z),
                    local,
                    before,
                    [(cut(label), cut(here)) for label, here in hot],
                    self,
                )
            )
        return parts[0] if len(parts) == 1 else torch.cat(parts, _passes.longest_axis(z))

    @property
    def width(self) -> int:
        """The number of columns."""
        return 2 + len(self.given.rows.hot) + self.wants.columns

    def marked(self, columns: Tensor) -> Tensor:
        """With a logit of NaN for what is no class. Where values are read, it was an error."""
        if self.shards.rank == 0:
            for i, invalid in enumerate(self.no_class[: len(self.given.rows.hot)]):
                columns[..., 2 + i].masked_fill_(invalid, torch.nan)
        return columns

    def concluded(
        self, everyone: Tensor, loss_dtype: torch.dtype, want_stats: bool, differentiate: bool
    ) -> tuple[Tensor, Stats | None, Coefficients | None]:
        """The loss of all classes; ``everyone`` has the columns of each process, in a row."""
        with _tensors.without_autocast(self.logits):
            loss, stats, made = self._concluded(everyone, want_stats, differentiate)
            return *_tensors.in_dtypes_of(self.logits, loss_dtype, loss, stats), made

    def _concluded(
        self, everyone: Tensor, want_stats: bool, differentiate: bool
    ) -> tuple[Tensor, Stats | None, Coefficients | None]:
        options, batch, shards = self.options, self.batch, self.shards
        rows_shape = self.logits.movedim(self.axis, -1).shape[:-1]
        everyone = everyone.reshape(len(shards.ranges), *rows_shape, self.width)
        given, read = self.merged(everyone)
        factor = _tensors.factor(given, read, batch)
        loss, stats = _tensors.concluded(given, read, factor, options, want_stats)
        if not differentiate:
            return loss, stats, None
        made = _composed._coefficients(self.logits, given, read, factor, options, batch)
        v = None if made.v is None else cast(Tensor, shards.cut(made.v))
        labels = [made.label, made.label_b]
        here = [None if label is None else shards.here(label) for label in labels]
        label, label_b = (
            None if label is None else torch.where(cast(Tensor, mask), label - shards.start, 0)
            for label, mask in zip(labels, here)
        )
        made = made._replace(
            v=v, share=(-read.log1p_rest).exp(),
            label=label, here=here[0], label_b=label_b, here_b=here[1],
        )  # fmt: skip
        return loss, stats, made

    def merged(self, everyone: Tensor) -> tuple[Contribution, Statistics]:
        """The statistics of whole rows, in the same operations on every process."""
        given, shards, wants = self.given, self.shards, self.wants
        rows, ranks = given.rows, range(len(self.shards.ranges))
        columns = iter(everyone.unbind(-1))
        largest, rest = next(columns), next(columns)
        at_hot = [next(columns).sum(0) for _ in rows.hot]
        m = largest.amax(0)
        gap = m - largest
        is_largest = largest == m
        is_peak = is_largest & (is_largest.cumsum(0) == 1)
        rest = torch.where(is_peak, rest, (rest + 1.0) * torch.exp(-gap)).sum(0)
        argmax = torch.zeros_like(m, dtype=torch.int64)
        if wants.argmax:
            index = next(columns).to(torch.int64)
            argmax = torch.where(is_largest, index, shards.classes).amin(0)
        prior: Number = 0.0
        if wants.prior:
            prior = next(columns)
            masked = None
            if wants.open:
                sums = [next(columns) for _ in range(3)]
                masked = tuple(z == -torch.inf for z in at_hot)
                of_rows = (each.sum(0) for each in sums)
                given = self.contribution(Open(masked, *of_rows))
                mass = list(sums[1].unbind(0))
            else:
                mass = [self.mass(rank) for rank in ranks]
            for rank in ranks if rows.leaves_out else ():
                mass[rank] = self.left_of(rank, mass[rank], masked)
            lacking = [_tensors.mass_times(v, g) for v, g in zip(mass, gap.unbind(0))]
            prior = (prior + torch.stack([cast(Tensor, x).expand_as(m) for x in lacking])).sum(0)
        below = [m - z for z in at_hot]
        return given, Statistics(m, argmax, rest.log1p(), prior, None, below)

    def mass(self, rank: int) -> Tensor:
        """Σ v of a shard, after class weights."""
        v, (start, end) = self.given.rows.v, self.shards.ranges[rank]
        dtype = self.given.rows.dtype
        if isinstance(v, Tensor):
            return v[start:end].to(dtype).sum()
        return torch.full((), (end - start) * v, dtype=dtype, device=self.logits.device)

    def left_of(self, rank: int, mass: Tensor, masked: tuple[Tensor, ...] | None) -> Tensor:
        """The same without hot classes; exactly 0 where no other class has something of v."""
        rows, (start, end) = self.given.rows, self.shards.ranges[rank]
        v = rows.v
        others = torch.tensor(end - start)
        if isinstance(v, Tensor):
            others = torch.count_nonzero(v[start:end])
        for i, hot in enumerate(rows.hot):
            counts = self.shards.here(hot.label, rank)
            if isinstance(hot.of_v, Tensor):
                counts = counts & (hot.of_v != 0.0)
            others = others - counts.to(torch.int64)
            if masked is not None:
                counts = counts & ~masked[i]
            mass = mass - counts.to(rows.dtype) * hot.of_v
        return mass.masked_fill(others == 0, 0.0)

    def contribution(self, masked: Open) -> Contribution:
        z, shards = self.logits.movedim(self.axis, -1), self.shards
        shape = torch.Size((*z.shape[:-1], shards.classes))
        dense, largest = compute_dtype(z), self.wants.argmax
        return _rules.contribution(
            self.options, self.batch, None, self.ignored, masked, shape, dense, z.device, largest
        )


class Wants(NamedTuple):
    """Which columns are sent, beside m, rest and z at the hot classes."""

    argmax: bool
    prior: bool
    """S."""
    open: bool
    """Three sums over the classes that are not masked."""
    floor: bool

    @classmethod
    def of(cls, options: Options, batch: Batch, want_stats: bool) -> Wants:
        smooths = batch.label_smoothing is not None or options["label_smoothing"] != 0.0
        return cls(
            argmax=want_stats,
            prior=smooths,
            open=smooths and options["masked"] == "renormalise",
            floor=want_stats or options["form"] == "kl_divergence",
        )

    @property
    def columns(self) -> int:
        return self.argmax + self.prior + 3 * self.open


def _columns(
    z: Tensor,
    allowed: Tensor | None,
    rows: Rows,
    before: Number,
    hot: list[tuple[Tensor, Tensor]],
    shard: Shard,
) -> Tensor:
    """Of a piece, as :func:`._passes._statistics`, where the classes are not all there are."""
    options, dtype, start = shard.options, rows.dtype, shard.shards.start
    masked = None
    if shard.wants.open:
        masked = either(z == -torch.inf, None if allowed is None else ~allowed)
    x, gain = _passes.scaled(z, options, rows.dense)
    if x is not z:
        x.masked_fill_(z == -torch.inf, -torch.inf)
    if allowed is not None:
        x = torch.where(allowed, x, -torch.inf)
    largest, argmax = x.max(-1)
    largest = cast(Tensor, times(gain, largest.to(rows.dense)))
    hot = [
        (torch.where(here, label - start, 0).unsqueeze(-1), here.unsqueeze(-1))
        for label, here in hot
    ]
    columns = [largest, largest]
    for index, here in hot:
        value = cast(Tensor, times(gain, x.gather(-1, index).to(rows.dense)))
        columns.append(value.masked_fill(~here, 0.0).squeeze(-1))
    # Where there is nothing but −∞, this is −∞, and nothing is NaN.
    base = largest.masked_fill(largest == -torch.inf, 0.0)
    d = _passes.shifted(x, base, gain, out=None if x is z else x)
    del x
    if shard.wants.argmax:
        columns.append(argmax + start)
    if shard.wants.prior:
        left_out = []
        for index, here in hot if rows.leaves_out else ():
            left_out.append((index, d.gather(-1, index)))
            d.scatter_(-1, index, left_out[-1][1].masked_fill(here, 0.0))
        columns.append(-_passes.against(rows.v, d, masked))
        for index, value in reversed(left_out):
            d.scatter_(-1, index, value)
    rest = d.exp_().scatter_(-1, argmax.unsqueeze(-1), 0.0).sum(-1)
    columns[1] = rest
    if shard.wants.open:
        rows = rows._replace(masked=masked)
        v = rows.v
        floor: Number = torch.xlogy(v, v) if shard.wants.floor and isinstance(v, Tensor) else 0.0
        for values in (before, v, floor):
            total = rows.sum(values)
            columns.append(torch.as_tensor(total, device=z.device).expand(largest.shape))
    return torch.stack([column.to(dtype) for column in columns], -1)


# The exchange


HEADER = 9


class Mine(NamedTuple):
    """What a process says of its shard, whatever else is wrong with its call."""

    dtype: int
    """Its place in FLOATS; −1 for any other."""
    rows: int
    size: int
    start: int
    """−1 if nobody has said."""
    device: torch.device
    failure: Exception | None
    features: int = 0
    """Of what enters a layer whose logits these are; negative if nobody asks for its gradient."""

    @classmethod
    def of(cls, logits: Any, given_axis: int | None, given_range: Any) -> Mine:
        device = logits.device if isinstance(logits, Tensor) else torch.device("cpu")
        try:
            axis = _arguments.class_axis(logits, given_axis, fewest=0)
            start = class_range(given_range, logits.shape[axis])
            rows = logits.shape[:axis].numel() * logits.shape[axis + 1 :].numel()
            dtype = _arguments.FLOATS.index(logits.dtype)
            return cls(dtype, rows, logits.shape[axis], start, device, None)
        except Exception as error:
            return cls(-1, 0, 0, -1, device, error)


def class_range(given: Any, size: int) -> int:
    if given is None:
        return -1
    if not isinstance(given, (tuple, list)) or len(given) != 2:
        raise InvalidType(f"class_range is {shown(given)}, expected (start, end)")
    start, end = (_options.integer("class_range", bound) for bound in given)
    if start < 0 or end - start != size:
        raise InvalidValue(
            f"class_range is ({start}, {end}), expected 0 ≤ start and end − start = {size}, the "
            "number of classes that the logits have here"
        )
    return start


@dataclass
class Agreed:
    """What all processes of a group know, by what they exchanged: the same on each."""

    length: int = HEADER
    ranges: dict[Range, tuple[Range, ...]] = field(default_factory=dict)
    """By the start and size of the shard here."""


_agreed: WeakKeyDictionary[Any, Agreed] = WeakKeyDictionary()

_ERRORS = (InvalidValue, InvalidType, InvalidIndex)


def all_gathered(mine: Tensor, group: Any) -> Tensor:
    """``[P, n]``, of ``[n]`` on each."""
    everyone = mine.new_empty(group.size() * mine.numel())
    with torch.no_grad():
        dist.all_gather_into_tensor(everyone, mine, group=group)
    return everyone.view(group.size(), -1)


def exchanged(group: Any, mine: Mine, compute: Callable[[Shards], Tensor]) -> Tensor:
    """What ``compute`` makes on each process, in the order of ranks: ``[P, n]``."""
    agreed = _agreed.setdefault(group, Agreed())
    dtype, key = _rules.row_dtype(mine.device), (mine.start, mine.size)
    failure, rank = mine.failure, group.rank()
    shards: Shards | None = None
    body: Tensor | None = None
    while True:
        known = agreed.ranges.get(key)
        if (
            mine.failure is None
            and known is not None
            and (shards is None or shards.ranges != known)
        ):
            shards, failure, body = Shards(known, rank), None, None
            try:
                body = compute(shards).reshape(-1)
            except Exception as error:
                failure = error
        used = -1 if shards is None else shards.start
        classes = -1 if shards is None else shards.classes
        need = HEADER + (0 if body is None else body.numel())
        status = 0 if failure is None else 1 + _kind(failure)
        if mine.failure is not None:
            status = -status
        buffer = torch.zeros(agreed.length, dtype=dtype, device=mine.device)
        buffer[:HEADER] = torch.tensor(
            [
                status,
                mine.dtype,
                mine.rows,
                mine.start,
                mine.size,
                used,
                classes,
                need,
                mine.features,
            ],
            dtype=dtype,
        )
        if body is not None and need <= agreed.length:
            buffer[HEADER:need] = body
        everyone = all_gathered(buffer, group)
        headers = [[int(number) for number in line] for line in everyone[:, :HEADER].tolist()]
        if any(header[0] < 0 for header in headers):
            raise_failure(headers, failure)
        expect_agreement(headers)
        found = ranges_of(headers)
        agreed.ranges[key] = found
        needs = {header[7] for header in headers}
        classes = max(end for _, end in found)
        if any(header[5:7] != [start, classes] for header, (start, _) in zip(headers, found)):
            # Somebody computed for other ranges, which may be why it failed.
            continue
        if any(header[0] != 0 for header in headers):
            raise_failure(headers, failure)
        if len(needs) > 1:
            raise InvalidValue(
                f"the processes of the group send {[n - HEADER for n in sorted(needs)]} numbers, "
                "expected one length: all have the same options and the same shape of rows"
            )
        length, fits = need, need <= agreed.length
        if not fits or agreed.length > 2 * need:
            agreed.length = length
        if fits:
            return everyone[:, HEADER:need]


def _kind(error: Exception) -> int:
    return next((i for i, kind in enumerate(_ERRORS) if isinstance(error, kind)), 0)


def raise_failure(headers: list[list[int]], failure: Exception | None) -> NoReturn:
    if failure is not None:
        raise failure
    rank, status = next((rank, header[0]) for rank, header in enumerate(headers) if header[0] != 0)
    raise _ERRORS[abs(status) - 1](
        f"the call of rank {rank} of the process group raised an error, which it reports"
    )


def expect_agreement(headers: list[list[int]]) -> None:
    """Raises on all processes, or on none."""
    for rank, header in enumerate(headers):
        if header[1] != headers[0][1]:
            names = [_arguments.FLOATS[each[1]] for each in (headers[0], header)]
            raise InvalidType(
                f"rank {rank} of the process group has logits of {names[1]}, expected {names[0]}, as rank 0"
            )
        if header[2] != headers[0][2]:
            raise InvalidValue(
                f"rank {rank} of the process group has {header[2]} rows, expected {headers[0][2]}, as rank 0"
            )
        if header[8] != headers[0][8]:
            raise InvalidValue(
                f"rank {rank} of the process group has {_of_features(header[8])}, expected "
                f"{_of_features(headers[0][8])}, as rank 0"
            )


def _of_features(features: int) -> str:
    if features == 0:
        return "logits as its input"
    kind = "requires a gradient" if features > 0 else "requires no gradient"
    return f"an input of {abs(features)} features that {kind}"


def ranges_of(headers: list[list[int]]) -> tuple[Range, ...]:
    starts, sizes = ([header[i] for header in headers] for i in (3, 4))
    given = [start >= 0 for start in starts]
    if any(given) and not all(given):
        raise InvalidValue(
            f"rank {given.index(False)} of the process group has no class_range, but rank "
            f"{given.index(True)} has one"
        )
    if not any(given):
        starts = [0, *accumulate(sizes)][:-1]
    ranges = tuple((start, start + size) for start, size in zip(starts, sizes))
    end = 0
    for start, following in sorted(ranges):
        if start != end:
            break
        end = following
    else:
        if end > 0:
            return ranges
        raise InvalidValue("no rank of the process group has a class, expected at least 1")
    raise InvalidValue(
        f"the class ranges of the process group are {list(ranges)}, expected all classes once, from 0 on"
    )


# What may be given


def expect_group(group: Any) -> None:
    if not isinstance(group, dist.ProcessGroup):
        raise InvalidType(
            f"process_group is {shown(group)}, expected a torch.distributed.ProcessGroup of which "
            "this process is a member"
        )
    if torch.compiler.is_compiling() or _composed.is_transformed():
        raise InvalidValue(
            "process_group under torch.compile or torch.func, expected an eager "
            "call: torch.compiler.disable around it breaks the graph there"
        )


def expect_one_backward(upstream: Tensor) -> None:
    if torch.is_grad_enabled() or _composed.is_transformed() or not _composed.is_plain(upstream):
        raise InvalidValue(
            "second derivatives, vmap and forward mode of a loss with process_group, expected "
            "one backward pass: a vocabulary in shards has first derivatives only"
        )


def expect_plain(name: str, tensor: Tensor) -> None:
    if not _composed.is_plain(tensor):
        raise InvalidType(
            f"{name} is no plain tensor (a subclass, nested, or with a tangent of forward mode), "
            "expected one with process_group"
        )


def expect_supported(logits: Tensor, batch: Batch) -> None:
    if batch.has_probabilities():
        raise InvalidType(
            f"target has dtype {batch.target.dtype} with process_group, expected class indices: "
            "probabilities of a vocabulary in shards are not supported"
        )
    if batch.prior is not None and batch.prior.dim() == 2:
        raise InvalidValue(
            f"prior has shape {list(batch.prior.shape)} with process_group, expected one over all "
            "classes: a prior by true class of a vocabulary in shards is not supported"
        )
    for name, tensor in (("input", logits), *batch._asdict().items()):
        if tensor is None:
            continue
        expect_plain(name, tensor)
        if name != "input" and is_differentiated(tensor):
            raise InvalidValue(
                f"{name} requires a gradient with process_group, expected none: a vocabulary in "
                "shards has that of the logits only; detach it"
            )


def expect_values(batch: Batch, ignored: Tensor | None, classes: int) -> None:
    """On the CPU, in the words of the engine, which sees no logits here."""
    for name in ("target", "target_b"):
        label = getattr(batch, name)
        if label is not None:
            label = unless(ignored, label.to(torch.int64), 0)
            wrong = ((label < 0) | (label >= classes)).flatten().nonzero()
            if wrong.numel() > 0:
                row = int(wrong[0])
                raise InvalidIndex(
                    f"{name} {label.flatten()[row].item()} in row {row} is outside 0..{classes} and "
                    "not an ignore index"
                )
    one, infinity = 1.0, torch.inf
    for what, tensor, mask, lowest, highest, expected in (
        ("label_smoothing of row", batch.label_smoothing, ignored, 0.0, one, "0 ≤ ε ≤ 1"),
        ("lam of row", batch.lam, ignored, 0.0, one, "0 ≤ λ ≤ 1"),
        ("the weight of row", batch.row_weight, ignored, 0.0, infinity, "a finite number ≥ 0"),
        ("the weight of class", batch.weight, None, -infinity, infinity, "a finite number"),
        ("the prior of class", batch.prior, None, 0.0, infinity, "a finite number ≥ 0"),
    ):
        if tensor is not None:
            given = unless(mask, tensor.to(torch.float64), 0.0)
            given = _rules.in_range(given, lowest, highest)
            wrong = given.isnan().flatten().nonzero()
            if wrong.numel() > 0:
                i = int(wrong[0])
                value = tensor.flatten()[i].item()
                raise InvalidValue(f"{what} {i} is {value:g}, expected {expected}")
    if batch.prior is not None:
        total = batch.prior.to(torch.float64).sum()
        if not _rules.sums_to_one(total):
            raise InvalidValue(f"the prior sums to {total:g}, expected 1 (within 1e-4)")
    if batch.denominator is not None and not 0.0 < batch.denominator.item() < torch.inf:
        raise InvalidValue(
            f"the given denominator is {batch.denominator.item():g}, expected a finite number > 0"
        )
