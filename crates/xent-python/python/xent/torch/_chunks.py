"""Loss and gradients of a linear layer, some rows of its logits at a time. Not under autograd.

For each chunk of rows

    Z = H·Wᵀ + b        one product
    G = ∂L/∂Z           the loss of the chunk, by the road that its device has
    dW += Gᵀ·H          two products
    dH = G·W

Ignored rows never enter a product: those that are kept are gathered into the chunk. Chunks are sized
for the products and by shapes alone, so that bits depend on threads no more than products do. What is
summed over rows is summed in float32 (float64 for float64), and rounded after the upstream gradient
is in it. Without a reduction each row has an upstream gradient of its own, which has to be inside of
the sum over rows: so backward forms Z again.

Halves are multiplied as such where the device returns products of halves in float32, as CUDA does.
Elsewhere tiles of the weight are widened. Logits are in float32 either way; products that are rounded
to halves chunk by chunk would add up to a wrong dW.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import NamedTuple, cast

import torch
from torch import Tensor

from xent.errors import InvalidValue
from xent.options import Options
from xent.torch import _autograd, _chunk_loss, _rules, _tensors
from xent.torch._batch import Batch, Stats
from xent.torch._chunk_loss import Rows, Task
from xent.torch._memory import gradient_like

Cut = Callable[[Tensor], Tensor]
"""Takes the rows of a chunk, or the classes of a tile."""

TILE = 1 << 20
"""Bytes of the weight that are widened at a time: few beside a chunk, and near in the cache."""


class Wanted(NamedTuple):
    """Which gradients."""

    input: bool
    weight: bool
    bias: bool


class Gradients(NamedTuple):
    """For an upstream gradient of 1, times ``scale``, in the dtype in which they were summed."""

    input: Tensor | None
    weight: Tensor | None
    bias: Tensor | None
    scale: Tensor | None
    ignored: Tensor | None
    """Rows whose gradient is exactly 0."""


class Layer(NamedTuple):
    """What is multiplied, and how."""

    input: Tensor
    weight: Tensor
    bias: Tensor | None
    """In the dtype of logits."""
    dtype: torch.dtype
    """Of the layer."""
    logits: torch.dtype
    """Of logits, and of sums over rows: float32 or float64."""
    factors: torch.dtype
    """Of what is multiplied."""

    def rows(self, cut: Cut) -> Tensor:
        return cut(self.input).to(self.dtype).to(self.factors)

    def write_logits(self, h: Tensor, z: Tensor) -> None:
        for columns, tile in self.tiles():
            product(h, tile.t(), columns(z))
        if self.bias is not None:
            z += self.bias

    def tiles(self) -> Iterator[tuple[Cut, Tensor]]:
        """The weight in the dtype of factors, with what takes the same classes of logits."""
        classes, width = self.weight.shape
        if self.weight.dtype is self.dtype is self.factors:
            yield lambda logits: logits, self.weight
            return
        step = max(1, TILE // max(1, width * self.factors.itemsize))
        wide = torch.empty(min(step, classes), width, dtype=self.factors, device=self.input.device)
        for start in range(0, classes, step):
            length = min(step, classes - start)
            tile = wide.narrow(0, 0, length)
            tile.copy_(self.weight.narrow(0, start, length).to(self.dtype))
            yield partial(torch.narrow, dim=1, start=start, length=length), tile


def layer(input: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Layer:
    logits = torch.float64 if dtype is torch.float64 else torch.float32
    input, weight, factors = input.detach(), weight.detach(), logits
    if dtype is not logits and _multiplies(dtype, input.device):
        weight, factors = weight.to(dtype), dtype
    if bias is not None:
        bias = bias.detach().to(dtype).to(logits)
    return Layer(input, weight, bias, dtype, logits, factors)


@lru_cache(maxsize=32)
def _multiplies(dtype: torch.dtype, device: torch.device, add: bool = False) -> bool:
    """Whether products of halves are to be had in float32; with ``add``, added to what is there."""
    a = torch.ones(16, 16, dtype=dtype, device=device)
    out = torch.ones(16, 16, dtype=torch.float32, device=device)
    try:
        if add:
            torch.addmm(out, a, a, out_dtype=out.dtype, out=out)
        else:
            torch.mm(a, a, out_dtype=out.dtype, out=out)
    except (RuntimeError, TypeError):  # not on this device, or not in this version
        return False
    return True


def product(a: Tensor, b: Tensor, out: Tensor, add: bool = False) -> None:
    """a·b in the dtype of ``out``, in place of what is there or added to it."""
    if a.dtype is out.dtype:
        if add:
            out.addmm_(a, b)
        else:
            torch.mm(a, b, out=out)
    elif not add:
        torch.mm(a, b, out_dtype=out.dtype, out=out)
    elif _multiplies(a.dtype, a.device, add=True):
        torch.addmm(out, a, b, out_dtype=out.dtype, out=out)
    else:
        out += torch.mm(a, b, out_dtype=out.dtype)


def rows_of_chunk(
    rows: int, classes: int, given: int, device: str, bytes: int, keeps: bool = False
) -> int:
    """By shapes alone. ``bytes`` are those of a logit and its gradient; ``keeps``: all, if they take no more than a chunk.

    A CPU's products are slow with less than 128 rows, and no faster with more than 512. A GPU reads
    and writes all of dW for each chunk, which takes as long as the product does with some hundred:
    on an H100 a head of [128256, 4096] took 52 ms with 1024 rows, 46 with 2048, 44.5 with 4096.
    """
    low, high, budget, unit = 1024, 4096, 3 << 29, 128
    if device == "cpu":
        low, high, budget, unit = 128, 512, 64 << 20, 1
    if keeps and not given and bytes * classes * rows <= budget:
        return rows
    most = given or min(max(budget // (bytes * classes), low), high)
    if rows <= most:
        return rows
    equal = -(-rows // -(-rows // most))
    return equal if given else -(-equal // unit) * unit


class Made(NamedTuple):
    loss: Tensor
    stats: Stats | None
    gradients: Gradients


def run(
    layer: Layer,
    options: Options,
    batch: Batch,
    chunk_rows: int,
    wanted: Wanted,
    want_stats: bool,
    upstream: Tensor | None = None,
) -> Made:
    """The loss, and the gradients that are wanted: for an upstream gradient of 1, or for that of each row."""
    (rows, _), classes = layer.input.shape, layer.weight.shape[0]
    device, dtype = layer.input.device, _rules.row_dtype(layer.input.device)
    ignored = _rules.ignored_rows(options, batch, device)

    def expect_valid() -> None:
        """The engine names what is wrong, and in which row of the batch."""
        if device.type == "cpu":
            zeros = torch.zeros((), dtype=layer.logits).expand(rows, classes)
            _autograd.expect_valid(zeros, options, batch, 1)

    try:
        divisor, other = _rules.divisors(options, batch, rows, dtype, device)
    except IndexError:  # a label that is no class has no weight
        expect_valid()
        raise
    divisor_z = divisor if other is None else other
    if batch.denominator is not None and device.type == "cpu" and not divisor.isfinite():
        expect_valid()
    is_mean = options["reduction"] == "mean"
    if is_mean and options["empty_mean"] == "error" and divisor.item() == 0.0:
        raise InvalidValue("the denominator of the mean is 0: every row is ignored or has weight 0")
    kept = kept_rows(ignored)
    scale = None
    if upstream is not None:
        upstream = upstream.to(dtype).contiguous()
    if any(wanted) and layer.factors is torch.float16:
        scale = scale_of_halves(options, batch, divisor, upstream)
        upstream = None if upstream is None else upstream * scale
    task = _task(layer, options, any(wanted), want_stats, divisor, divisor_z, scale, kept)

    sums = Sums(layer, wanted, kept)
    totals, found = [], []
    for start, h, z, cut, *_ in logits_of(layer, kept, chunk_rows):
        part = part_of(batch, cut, kept is not None)
        task = task._replace(upstream=None if upstream is None else cut(upstream))
        try:
            of_rows, gradient = _chunk_loss.compute(z, part, task)
        except (ValueError, TypeError, IndexError):
            expect_valid()  # what was raised names a row of the chunk
            raise
        if any(wanted):
            sums.add(gradient, h, start)
        totals.append(of_rows.sums())
        if want_stats or options["reduction"] == "none":
            found.append(of_rows)
    loss, stats = _concluded(
        torch.stack(totals).sum(0),
        found,
        options,
        kept,
        ignored,
        rows,
        divisor,
        divisor_z,
        want_stats,
    )
    if is_mean and options["empty_mean"] == "zero":
        sums.clear(divisor == 0.0)
    return Made(loss, stats, Gradients(sums.input, sums.weight, sums.bias, scale, ignored))


def kept_rows(ignored: Tensor | None) -> Tensor | None:
    """The rows that are not ignored; None for all. On a GPU their number is read back, unless a graph is captured."""
    if ignored is None or (ignored.is_cuda and torch.cuda.is_current_stream_capturing()):
        return None
    kept = (~ignored).nonzero().squeeze(1)
    return None if len(kept) == len(ignored) else kept


class Chunk(NamedTuple):
    start: int
    """Among the rows that are kept."""
    rows: Tensor
    """H."""
    logits: Tensor
    """Z, in memory that the next chunk has, too."""
    cut: Cut
    """Takes these rows."""
    is_first: bool
    is_last: bool

    @property
    def is_only(self) -> bool:
        return self.is_first and self.is_last


def logits_of(
    layer: Layer,
    kept: Tensor | None,
    chunk_rows: int,
    keeps: bool = False,
    made: Tensor | None = None,
) -> Iterator[Chunk]:
    """One chunk at least, of no rows. ``made`` are the logits of the only chunk, if they are there."""
    size = len(layer.input) if kept is None else len(kept)
    classes, device = len(layer.weight), layer.input.device
    bytes = layer.logits.itemsize
    bytes += 0 if layer.factors is layer.logits else layer.factors.itemsize
    step = rows_of_chunk(size, max(classes, 1), chunk_rows, device.type, bytes, keeps)
    logits = made
    if logits is None:
        logits = new_logits(step, classes, layer.logits, device)
    for start in range(0, size, step) if size else [0]:
        length = min(step, size - start)
        cut = _cut(kept, start, length)
        h, z = layer.rows(cut), logits.narrow(0, 0, length)
        if classes > 0 and made is None:
            layer.write_logits(h, z)
        yield Chunk(start, h, z, cut, start == 0, start + length == size)


def _cut(kept: Tensor | None, start: int, length: int) -> Cut:
    if kept is None:
        return partial(torch.narrow, dim=0, start=start, length=length)
    index = kept.narrow(0, start, length)
    return lambda tensor: tensor[index]


def part_of(batch: Batch, cut: Cut, leaves_out: bool) -> Batch:
    """What belongs to a chunk."""
    whole = ("weight", "prior", "denominator")
    fields = {
        name: tensor if tensor is None or name in whole else cut(tensor)
        for name, tensor in batch._asdict().items()
        if name != "allowed_classes"
    }
    allowed = batch.allowed_classes
    if allowed is not None and allowed.dim() == 2:
        allowed = cut(allowed)
    part = Batch(**fields, allowed_classes=allowed)._replace(denominator=None)
    return part._replace(ignored_rows=None) if leaves_out else part


def _task(
    layer: Layer,
    options: Options,
    wants_gradient: bool,
    want_stats: bool,
    divisor: Tensor,
    divisor_z: Tensor,
    scale: Tensor | None,
    kept: Tensor | None,
) -> Task:
    if options["empty_mean"] == "error":
        options = {**options, "empty_mean": "nan"}
    if kept is not None:
        options = {**options, "ignore_index": None}
    if options["reduction"] != "mean":
        divisor = divisor_z = torch.ones_like(divisor)
    if scale is not None:
        divisor, divisor_z = divisor / scale, divisor_z / scale
    return Task(options, wants_gradient, want_stats, divisor, divisor_z, None, layer.factors)


def scale_of_halves(
    options: Options, batch: Batch, divisor: Tensor, upstream: Tensor | None
) -> Tensor:
    """What brings the largest entry of G to some 2^10: float16 ends at 2^16 and at 2^−24."""
    largest = torch.ones_like(divisor)
    if options["reduction"] == "mean":
        largest = largest / divisor
    for factor in (batch.weight, batch.row_weight, upstream):
        if factor is not None and factor.numel() > 0:
            largest = largest * factor.abs().max()
    scale = 1024.0 / largest
    return torch.where((scale > 0.0) & (scale < torch.inf), scale, 1.0)


def new_logits(rows: int, classes: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """On GPUs rows begin at multiples of 64 classes: products are slow elsewhere."""
    stride = classes if device.type == "cpu" else -(-classes // 64) * 64
    return torch.empty(rows, stride, dtype=dtype, device=device).narrow(1, 0, classes)


class Sums:
    """The gradients, to which chunks are added."""

    def __init__(self, layer: Layer, wanted: Wanted, kept: Tensor | None) -> None:
        self.layer, self.kept, self.is_first = layer, kept, True
        self.input, self.weight, self.bias = None, None, None
        weight, device = layer.weight, layer.weight.device
        if wanted.input:
            new = torch.empty if kept is None else torch.zeros
            self.input = new(layer.input.shape, dtype=layer.logits, device=device)
        if wanted.weight and weight.dtype is layer.logits and weight.is_contiguous():
            self.weight = gradient_like(weight)
        elif wanted.weight:
            self.weight = torch.empty(weight.shape, dtype=layer.logits, device=device)
        if wanted.bias:
            self.bias = torch.zeros(len(weight), dtype=_rules.row_dtype(device), device=device)

    def add(self, gradient: Tensor, h: Tensor, start: int) -> None:
        """A chunk's: dL/dZ and H, which may be overwritten if it was gathered."""
        self.add_weight(gradient, h)
        self.add_input(gradient, start, h)

    def add_weight(self, gradient: Tensor, h: Tensor) -> None:
        """What a chunk adds to those of weight and bias."""
        if self.bias is not None:
            self.bias += gradient.sum(0, dtype=self.layer.logits)
        if self.weight is not None:
            product(gradient.t(), h, self.weight, add=not self.is_first)
        self.is_first = False

    def add_input(self, gradient: Tensor, start: int, spare: Tensor | None = None) -> None:
        """What the rows of a chunk are; ``spare`` may be overwritten."""
        if self.input is None:
            return
        into = self.input.narrow(0, start, len(gradient))
        if self.kept is not None:
            is_place = spare is not None and spare.dtype is into.dtype
            into = cast(Tensor, spare) if is_place else torch.empty_like(into)
        for i, (columns, tile) in enumerate(self.layer.tiles()):
            product(columns(gradient), tile, into, add=i > 0)
        if self.kept is not None:
            self.input.index_copy_(0, self.kept.narrow(0, start, len(gradient)), into)

    def clear(self, empty: Tensor) -> None:
        """Exactly 0 where a mean is over nothing."""
        for gradient in (self.input, self.weight, self.bias):
            if gradient is not None:
                gradient.masked_fill_(empty, 0.0)


def _concluded(
    totals: Tensor,
    found: list[Rows],
    options: Options,
    kept: Tensor | None,
    ignored: Tensor | None,
    rows: int,
    divisor: Tensor,
    divisor_z: Tensor,
    want_stats: bool,
) -> tuple[Tensor, Stats | None]:
    """What a call returns, of the chunks' sums or rows."""

    def placed(of_kept: Tensor, elsewhere: float) -> Tensor:
        if kept is None:
            return of_kept
        return of_kept.new_full((rows,), elsewhere).index_copy_(0, kept, of_kept)

    def of_rows(name: str) -> Tensor:
        return torch.cat([cast(Tensor, getattr(chunk, name)) for chunk in found])

    names = ("cross_entropy", "z_loss", "nll", "smoothing", "floor")
    if options["reduction"] == "none":
        parts = [
            placed(of_rows(name), 0.0) if getattr(found[0], name) is not None else torch.zeros(())
            for name in names
        ]
    else:
        parts = [
            _tensors.divided(total, options, divisor_z if name == "z_loss" else divisor, divisor)
            for name, total in zip(names, totals.unbind())
        ]
    cross_entropy, z_loss, nll, smoothing, floor = parts
    loss = cross_entropy + z_loss if options["z_loss"] else cross_entropy
    if not want_stats:
        return loss, None
    wrong = placed(~torch.isfinite(of_rows("cross_entropy") + of_rows("z_loss")), False)
    right = placed(of_rows("right"), False)
    first = torch.full((), -1, dtype=torch.int64, device=loss.device)
    if rows:
        first = torch.where(wrong.any(), wrong.to(torch.uint8).argmax(), first)
    return loss, Stats(
        nll,
        smoothing,
        z_loss,
        floor,
        placed(of_rows("lse"), 0.0),
        right.sum(),
        divisor,
        torch.zeros_like(first) if ignored is None else ignored.sum(),
        wrong.sum(),
        first,
        placed(of_rows("predicted"), -1),
        right,
    )
