"""A linear layer and its loss, with the classes in shards: each process has some rows of the weight.

:mod:`._vocabulary` has the loss of logits in shards. Here the logits of a shard are formed as
:mod:`._chunks` forms them, some rows at a time, and twice, because the statistics of a row are known
only when those of all shards have been exchanged:

    forward     for each chunk   Z = H·Wᵀ + b    statistics of the shard
                one exchange of the statistics of all rows; the loss
    backward    for each chunk   Z = H·Wᵀ + b    G = ∂L/∂Z    dH = G·W    dW += Gᵀ·H
                dH is summed over the processes

The logits of all rows are kept instead, where they take no more memory than those of a chunk may;
since a shard has few of the classes, they often do.

dW and the bias's gradient are those of the shard. H is the same on all processes, and so is dL/dH, to
which every shard adds: that is the one sum in backward. It begins before the last chunk's Gᵀ·H, which
hides some of it. Autograd sees neither exchange.

What the processes must agree on is checked in the exchange, so that none waits for another that has
failed: in addition to what logits need, the width of H and whether its gradient is summed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
import torch.distributed as dist
from torch import Tensor

from xent.errors import InvalidValue
from xent.options import Options
from xent.torch import _arguments, _chunks, _composed, _linear, _passes, _sharded, _tensors
from xent.torch._batch import Batch, Stats, is_autocast, loss_dtype
from xent.torch._chunks import Gradients, Layer, Wanted
from xent.torch._passes import Coefficients
from xent.torch._vocabulary import (
    Call,
    Mine,
    Shard,
    Shards,
    class_range,
    exchanged,
    expect_group,
    expect_one_backward,
    expect_plain,
)


class Given(NamedTuple):
    """The layer as it was given."""

    input: Any
    weight: Any
    bias: Any
    chunk_rows: Any
    of_pytorch: Any
    """PyTorch's options."""


class Head(NamedTuple):
    """The layer of this process, checked."""

    input: Tensor
    """``[..., D]``"""
    weight: Tensor
    """``[C, D]`` of C classes here."""
    bias: Tensor | None
    dtype: torch.dtype
    """Of the layer: under autocast another one than the tensors'."""
    chunk_rows: int

    @classmethod
    def of(cls, given: Given, group: Any) -> Head:
        chunk_rows = _arguments.chunk_rows(given.chunk_rows, given.of_pytorch)
        weight = shard_of("linear_weight", given.weight, group)
        bias = None if given.bias is None else shard_of("linear_bias", given.bias, group)
        _arguments.expect_layer(given.input, weight, bias, fewest=0)
        if weight.dim() > 2:
            raise InvalidValue(
                f"linear_weight has shape {list(weight.shape)}, expected [K, D] with process_group"
            )
        layer = {"input": given.input, "linear_weight": weight, "linear_bias": bias}
        for name, tensor in layer.items():
            if tensor is not None:
                expect_plain(name, tensor)
        input, dtype = given.input, given.input.dtype
        if is_autocast(input) and dtype is not torch.float64:
            dtype = torch.get_autocast_dtype(input.device.type)
        return cls(input, weight, bias, dtype, chunk_rows)

    def mine(self, given_range: Any) -> Mine:
        """What the others are told."""
        input, classes = self.input, len(self.weight)
        features = input.shape[-1]
        if not (torch.is_grad_enabled() and input.requires_grad):
            features = -features
        return Mine(
            _arguments.FLOATS.index(self.dtype),
            input.shape[:-1].numel(),
            classes,
            class_range(given_range, classes),
            input.device,
            None,
            features,
        )


def shard_of(name: str, tensor: Any, group: Any) -> Any:
    """What this process has of a parameter: of a DTensor, the rows that the group has divided."""
    if not _sharded.is_sharded(tensor):
        return tensor
    from torch.distributed.tensor import Shard as Rows

    mesh, ranks = tensor.device_mesh, dist.get_process_group_ranks(group)
    divided = [
        dim for dim, placement in enumerate(tensor.placements) if not placement.is_replicate()
    ]
    if len(divided) == 1:
        placement, of_dim = tensor.placements[divided[0]], mesh.get_group(divided[0])
        # A subclass has its rows in another order.
        is_by_rows = type(placement) is Rows and placement.dim == 0
        if is_by_rows and dist.get_process_group_ranks(of_dim) == ranks:
            return tensor.to_local()
    raise InvalidValue(
        f"{name} is a DTensor with placements {tuple(tensor.placements)}, expected Shard(0) over the "
        "process_group and Replicate() on other dimensions of the mesh"
    )


def cross_entropy(
    given: Given, group: Any, given_range: Any, allowed: Any, call: Call, want_stats: bool
) -> tuple[Tensor, Stats | None]:
    """``call`` checks what comes with logits ``[..., K]``."""
    expect_group(group)
    made: list[tuple[Head, Shard, Tensor | None]] = []
    head: Head | None = None
    try:
        head = Head.of(given, group)
        mine = head.mine(given_range)
    except Exception as error:
        device = given.input.device if isinstance(given.input, Tensor) else torch.device("cpu")
        mine = Mine(-1, 0, 0, -1, device, error)

    def statistics(shards: Shards) -> Tensor:
        this = cast(Head, head)
        shard = shard_of_rows(this, shards, allowed, call, want_stats)
        numbers, logits = columns(this, shard)
        made[:] = [(this, shard, logits)]
        return numbers

    everyone = exchanged(group, mine, statistics)
    [(head, shard, logits)] = made
    dtype = loss_dtype(shard.logits, shard.batch)
    layer = (head.input.reshape(-1, head.input.shape[-1]), head.weight, head.bias)
    stats: Stats | None = None
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in layer):
        loss, *found = ShardedLinearCrossEntropy.apply(
            *layer, head, shard, logits, everyone, group, dtype, want_stats, *shard.batch
        )
        stats = Stats(*found) if want_stats else None
    else:
        loss, stats, _ = shard.concluded(everyone, dtype, want_stats, differentiate=False)
    rows = head.input.shape[:-1]

    def shaped(part: Tensor) -> Tensor:
        return part.view(rows) if part.dim() > 0 else part

    return shaped(loss), None if stats is None else Stats(*map(shaped, stats))


def shard_of_rows(head: Head, shards: Shards, allowed: Any, call: Call, want_stats: bool) -> Shard:
    """Of all rows on one axis. Its logits have a shape, and no memory."""
    rows, classes = head.input.shape[:-1], len(head.weight)
    zero = head.input.detach().new_zeros((), dtype=head.dtype)
    if allowed is not None:
        _arguments.expect_allowed(zero.expand(*rows, classes), len(rows), allowed)
        if allowed.dim() > 1 or not rows:
            allowed = allowed.reshape(rows.numel(), classes)

    def flat(whole: Tensor) -> Any:
        whole = zero.expand(*rows, whole.shape[-1])
        options, batch = call(whole)
        return options, batch.flat(whole)

    like = zero.expand(rows.numel(), classes)
    return Shard.of(like, 1, shards, allowed, flat, want_stats)


def columns(head: Head, shard: Shard) -> tuple[Tensor, Tensor | None]:
    """What is sent of each row: zeros of those that are ignored, of which nothing is read.

    And the logits, if all of them are there.
    """
    input, logits = head.input.reshape(-1, head.input.shape[-1]), None
    with _tensors.without_autocast(input):
        layer = _chunks.layer(input, head.weight, head.bias, head.dtype)
        kept = _chunks.kept_rows(shard.ignored)
        dtype = shard.given.rows.dtype
        made = torch.zeros(len(input), shard.width, dtype=dtype, device=input.device)
        for chunk in _chunks.logits_of(layer, kept, head.chunk_rows, keeps=True):
            logits = chunk.logits if chunk.is_only else None
            found = shard.columns(chunk.logits, chunk.cut)
            if kept is None:
                made.narrow(0, chunk.start, len(found)).copy_(found)
            else:
                made.index_copy_(0, kept.narrow(0, chunk.start, len(found)), found)
        return shard.marked(made), logits


class ShardedLinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        head: Head,
        shard: Shard,
        logits: Tensor | None,
        everyone: Tensor,
        group: Any,
        loss_dtype: torch.dtype,
        want_stats: bool,
        *tensors: Tensor | None,
    ) -> tuple[Tensor, ...]:
        loss, stats, coefficients = shard.concluded(
            everyone, loss_dtype, want_stats, differentiate=True
        )
        ctx.save_for_backward(
            input, weight, bias, logits, *tensors, *cast(Coefficients, coefficients)
        )
        ctx.call = (head.dtype, head.chunk_rows, shard.options, group)
        ctx.set_materialize_grads(False)
        return _tensors.outputs(ctx, loss, stats)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor | None, *_: Tensor | None) -> tuple[Tensor | None, ...]:
        rest = (None,) * (7 + len(Batch._fields))
        if upstream is None:
            return (None, None, None, *rest)
        expect_one_backward(upstream)
        dtype, chunk_rows, options, group = ctx.call
        input, weight, bias, logits, *tensors = ctx.saved_tensors
        batch, coefficients = _passes.saved(tensors)
        wanted = Wanted(*ctx.needs_input_grad[:3])
        with _tensors.without_autocast(input):
            layer = _chunks.layer(input, weight, bias, dtype)
            made = gradients(
                layer, logits, options, batch, coefficients, upstream, wanted, chunk_rows, group
            )
            found = iter(_linear.scaled(made, None, input, weight, bias))
        return (*(next(found) if is_wanted else None for is_wanted in wanted), *rest)


def gradients(
    layer: Layer,
    logits: Tensor | None,
    options: Options,
    batch: Batch,
    coefficients: Coefficients,
    upstream: Tensor,
    wanted: Wanted,
    chunk_rows: int,
    group: Any,
) -> Gradients:
    kept, upstream = _chunks.kept_rows(coefficients.ignored), upstream.to(coefficients.alpha.dtype)
    scale = None
    if layer.factors is torch.float16:
        scale = _chunks.scale_of_halves(options, batch, coefficients.denominator, upstream)
        upstream = upstream * scale
    sums, finish = _chunks.Sums(layer, wanted, kept), None
    has_classes = len(layer.weight) > 0
    if sums.input is not None and not has_classes:
        sums.input.zero_()
    for chunk in _chunks.logits_of(layer, kept, chunk_rows, keeps=True, made=logits):
        gradient = None
        if has_classes:
            gradient = _composed.backward_pass(
                chunk.logits,
                options,
                _chunks.part_of(batch, chunk.cut, kept is not None),
                1,
                coefficients.piece(chunk.cut),
                chunk.cut(upstream) if upstream.dim() > 0 else upstream,
            ).to(layer.factors)
            sums.add_input(gradient, chunk.start)
        if chunk.is_last and sums.input is not None and sums.input.numel() > 0:
            finish = added_up(sums.input, group)
        if gradient is not None:
            sums.add_weight(gradient, chunk.rows)
    if finish is not None:
        finish()
    return Gradients(sums.input, sums.weight, sums.bias, scale, coefficients.ignored)


def added_up(tensor: Tensor, group: Any) -> Callable[[], object]:
    """Begins to add up a tensor over the processes, in its place; what is returned waits for it."""
    work = dist.all_reduce(tensor, group=group, async_op=True)
    return cast(Callable[[], object], work.wait)
