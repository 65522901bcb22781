"""How the kernels are called: tiles, strides, what autograd keeps."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from struct import pack, unpack
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from xent.options import Options
from xent.torch import _rules
from xent.torch._batch import Batch
from xent.torch._triton import constants, kernels


class Rows(NamedTuple):
    """G groups of L rows: offset = group·group_stride + row·row_stride + class·stride, for logits and gradient."""

    groups: int
    length: int
    strides: tuple[int, int, int]
    strides_g: tuple[int, int, int]

    @property
    def number(self) -> int:
        return self.groups * self.length


def rows_of(logits: Tensor, gradient: Tensor, axis: int) -> Rows | None:
    """None if the rows are in more than two dimensions that cannot be merged."""
    dims: list[tuple[int, int, int]] = []
    for dim, size in enumerate(logits.shape):
        if dim == axis or size == 1:
            continue
        stride, stride_g = logits.stride(dim), gradient.stride(dim)
        if dims and dims[-1][1] == size * stride and dims[-1][2] == size * stride_g:
            dims[-1] = (dims[-1][0] * size, stride, stride_g)
        else:
            dims.append((size, stride, stride_g))
    if len(dims) > 2:
        return None
    (groups, *outer), (length, *inner) = ([(1, 0, 0)] * 2 + dims)[-2:]
    strides, strides_g = zip(outer, inner, (logits.stride(axis), gradient.stride(axis)))
    return Rows(groups, length, strides, strides_g)


def readable(logits: Tensor, axis: int) -> Tensor:
    """A copy, if kernels cannot read these where they are."""
    if rows_of(logits, torch.empty_like(logits, device="meta"), axis) is None:
        return logits.contiguous()
    return logits


class Tiles(NamedTuple):
    """The compile-time constants that classes and dtype decide, whatever the number of rows: so do bits."""

    R: int
    """Rows of a program."""
    B: int
    """Classes of a tile."""
    V: int
    """Logits in 16 bytes."""
    ALIGNED: bool
    """Whether every row begins at a multiple of 16 bytes."""
    FRINGE: bool
    """Whether rows begin anywhere, and are read from the next multiple of 16 bytes."""
    TAIL: bool
    """Whether the last tile may reach past the row's end."""
    WHOLE: bool
    """Whether a row is one tile."""
    warps: int
    """Of 32 threads."""


def tiles_of(logits: Tensor, gradient: Tensor, rows: Rows, classes: int) -> Tiles:
    width = 16 // logits.element_size()
    power = 1 << max(4, (classes - 1).bit_length())
    if rows.strides[2] != 1 or rows.strides_g[2] != 1:
        block = min(power, 32)
        return Tiles(128, block, width, False, False, classes % block != 0, classes <= block, 4)
    strides = (*rows.strides[:2], *rows.strides_g[:2])
    at_16_bytes = logits.data_ptr() % 16 == 0 and gradient.data_ptr() % 16 == 0
    is_aligned = at_16_bytes and all(stride % width == 0 for stride in (*strides, classes))
    if classes <= WHOLE:
        return Tiles(
            max(1, TILE // power),
            power,
            width,
            is_aligned,
            False,
            classes != power,
            True,
            max(1, power // TILE),
        )
    fringe = at_16_bytes and not is_aligned and rows.strides == rows.strides_g
    block, warps = LOOP[logits.element_size()]
    return Tiles(1, block, width, is_aligned, fringe, fringe or classes % block != 0, False, warps)


# The longest row that is one tile, and the numbers of a warp's part of it. Then the tile and the warps
# of longer rows, by the size of a logit. Measured on an H200: docs/gpu.md.
WHOLE = 8192
TILE = 1024
LOOP = {2: (2048, 4), 4: (2048, 8)}
# Of backward, which mostly finds that there is nothing to do.
MOST_PROGRAMS = 2048


def launch(
    kernel: Any,
    logits: Tensor,
    gradient: Tensor | None,
    axis: int,
    most_programs: int | None,
    arguments: dict[str, Any],
) -> None:
    of_gradient = logits if gradient is None else gradient
    rows = rows_of(logits, of_gradient, axis)
    assert rows is not None  # autograd.py has seen to it
    classes = logits.shape[axis]
    tiles = tiles_of(logits, of_gradient, rows, classes)
    programs = rows.groups * -(-rows.length // tiles.R)
    group_stride, row_stride, stride = rows.strides
    group_stride_g, row_stride_g, stride_g = rows.strides_g
    # Triton launches on the current device, which need not be the tensors'.
    with torch.cuda.device(logits.device) if logits.is_cuda else nullcontext():
        kernel[(min(programs, most_programs or programs),)](
            x=logits,
            gradient=gradient,
            N=rows.number,
            L=rows.length,
            K=classes,
            group_stride=group_stride,
            row_stride=row_stride,
            stride=stride,
            group_stride_g=group_stride_g,
            row_stride_g=row_stride_g,
            stride_g=stride_g,
            R=tiles.R,
            B=tiles.B,
            V=tiles.V,
            ALIGNED=tiles.ALIGNED,
            FRINGE=tiles.FRINGE,
            TAIL=tiles.TAIL,
            WHOLE=tiles.WHOLE,
            T=32 * tiles.warps,
            EXP=(logits.dtype is torch.float32)
            + 2 * (logits.is_cuda and torch.version.hip is None),
            num_warps=max(1, 32 * tiles.warps // threads_of_warp()),
            **arguments,
        )


def threads_of_warp() -> int:
    return 32 if torch.version.hip is None else 64


class Made(NamedTuple):
    """What forward leaves for backward, and for statistics."""

    parts: Tensor
    """f64 [6, N]: loss without z-loss, z-loss, nll, smoothing, floor, lse; only the first rows without statistics."""
    predicted: Tensor | None
    """int32 [N]: the class of the largest logit, −1 in rows that are ignored or NaN."""
    coefficients: tuple[Tensor, Tensor] | None
    """Of the gradient: f32 [5, N], and int32 [2, N], the classes of a row."""


class Prior(NamedTuple):
    kind: Any
    is_open: Tensor | None
    """Which classes it does not exclude."""
    v: Tensor | None
    """After class weights, if it is not 1 everywhere."""
    sigma: float
    """σ of a class."""
    sigma_out: float
    """σ of an excluded one."""


class Call(NamedTuple):
    """What options and batch say of all rows; the same for both kernels."""

    options: Options
    batch: Batch
    axis: int
    weight: Tensor | None
    prior: Prior
    allowed: Tensor | None

    def arguments(self) -> dict[str, Any]:
        options, v, allowed = self.options, self.prior.v, self.batch.allowed_classes
        return {
            "v": v,
            "allowed": _bytes(self.allowed),
            "temperature": options["temperature"],
            "cap": options["softcap"] or 0.0,
            "HOT": 1 if self.batch.target_b is None else 2,
            "PRIOR": self.prior.kind,
            "VECTOR": 0 if v is None else v.dim(),
            "RENORMALISES": options["masked"] == "renormalise",
            "SCALES": options["temperature"] != 1.0,
            "CAPS": options["softcap"] is not None,
            "MASKS": 0 if allowed is None else 1 if allowed.dim() == 1 else 2,
        }


def call(logits: Tensor, options: Options, batch: Batch, axis: int) -> Call:
    classes = logits.shape[axis]
    table = _rules.table(options, batch, classes, torch.float32, logits.device).checked(
        torch.float32
    )
    weight = next((w for w in (table.term, table.whole) if isinstance(w, Tensor)), None)
    allowed = batch.allowed_classes
    if allowed is not None and allowed.shape == logits.shape:
        allowed = allowed.movedim(axis, -1)
    prior = _prior(options, batch, table, classes)
    return Call(options, batch, axis, weight, prior, allowed)


def forward(
    logits: Tensor,
    gradient: Tensor | None,
    call: Call,
    wants_gradient: bool,
    wants_stats: bool,
    denominators: tuple[Tensor, Tensor | None] | None,
) -> Made:
    """Launches the kernel for loss and gradient; with denominators the gradient is that of a mean."""
    options, batch, prior = call.options, call.batch, call.prior
    number = logits.numel() // logits.shape[call.axis]
    ignore = cast(tuple[int, ...], options["ignore_index"] or ())
    ignored = batch.ignored_rows
    if len(ignore) > 1:
        ignored, ignore = _rules.ignored_rows(options, batch, logits.device), ()
    weighting, empty = constants.PER_CLASS, constants.NAN
    if options["weighting"] == "per_row":
        weighting = constants.PER_ROW
    if options["empty_mean"] == "zero":
        empty = constants.ZERO

    def new(*shape: int, dtype: torch.dtype) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=logits.device)

    parts = 6 if wants_stats else 2 if options["z_loss"] else 1
    made = Made(
        new(parts, number, dtype=torch.float64),
        new(number, dtype=torch.int32) if wants_stats else None,
        (new(5, number, dtype=torch.float32), new(2, number, dtype=torch.int32))
        if wants_gradient
        else None,
    )
    coefficients, hot = made.coefficients or (None, None)
    launch(
        kernels.forward,
        logits,
        gradient,
        call.axis,
        None,
        {
            "parts": made.parts,
            "first_class": made.predicted,
            "coefficients": coefficients,
            "hot": hot,
            "target": _flat(batch.target),
            "target_b": _flat(batch.target_b),
            "lam": _flat(batch.lam),
            "epsilons": _flat(batch.label_smoothing),
            "row_weights": _flat(batch.row_weight),
            "ignored": _bytes(ignored),
            "weight": call.weight,
            "is_open": prior.is_open,
            "denominator": None if denominators is None else denominators[0],
            "denominator_z": None if denominators is None else denominators[1],
            "ignore_index": ignore[0] if ignore else 0,
            **_in_two("sigma", prior.sigma),
            **_in_two("sigma_out", prior.sigma_out),
            **_in_two("epsilon", cast(float, options["label_smoothing"])),
            **_in_two("z_loss", options["z_loss"]),
            "EXCLUDES": prior.is_open is not None,
            "WEIGHTS": 0 if call.weight is None else weighting,
            "IGNORES": bool(ignore),
            "Z_LOSS": options["z_loss"] != 0.0,
            "KL": options["form"] == "kl_divergence",
            "STATS": wants_stats,
            "EMPTY_IS": 0 if denominators is None else empty,
            **call.arguments(),
        },
    )
    return made


def backward(
    logits: Tensor,
    gradient: Tensor,
    call: Call,
    coefficients: Sequence[Tensor],
    upstream: Tensor,
    is_written: bool,
) -> None:
    """Launches the kernel for the gradient; with is_written it does nothing if upstream is 1."""
    launch(
        kernels.backward,
        logits,
        gradient,
        call.axis,
        MOST_PROGRAMS,
        {
            "upstream": _flat(upstream),
            "coefficients": coefficients[0],
            "hot": coefficients[1],
            "BY_ROW": upstream.dim() > 0,
            "IS_WRITTEN": is_written,
            **call.arguments(),
        },
    )


def _prior(options: Options, batch: Batch, table: _rules.Table, classes: int) -> Prior:
    if batch.label_smoothing is None and options["label_smoothing"] == 0.0:
        return Prior(constants.NO_PRIOR, None, None, 0.0, 0.0)
    v = table.v.contiguous() if isinstance(table.v, Tensor) else None
    weighted = table.term * table.v if isinstance(table.term, Tensor) else v
    if table.leaves_out:
        others = classes - len(set(cast(tuple[int, ...], options["exclude"] or ())))
        sigma, sigma_out = (1.0 / n if n > 0 else 0.0 for n in (others - 1, others))
        return Prior(constants.LEAVES_OUT, v, weighted, sigma, sigma_out)
    kind = constants.UNIFORM if batch.prior is None else constants.FIXED
    return Prior(kind, None, weighted, 1.0 / classes, 0.0)


def _in_two(name: str, number: float) -> dict[str, float]:
    """What f32 holds of a number, which is how Triton passes it, and the rest."""
    high = cast(float, unpack("f", pack("f", number))[0])
    return {name: high, f"{name}_rest": number - high}


def _flat(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.contiguous().view(-1)


def _bytes(mask: Tensor | None) -> Tensor | None:
    return None if mask is None else mask.contiguous().view(torch.uint8)
