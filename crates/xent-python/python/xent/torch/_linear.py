"""A linear layer and the loss of its logits, as operators of PyTorch's, in eager and in compiled code.

:mod:`._chunks` computes. One operator has the loss and, for a sum or a mean, computes the gradients
with it; another has the gradients. They are handed on beside a token, as in :mod:`._operators`, so
that the first backward pass gives them away, and a later one forms them again.

What these operators cannot do (second derivatives, transforms, subclasses of tensors) is the layer
and the loss one after the other.
"""

from __future__ import annotations

from math import isfinite
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, UntypedStorage

from xent import options as _options
from xent._xent import WORDS
from xent.errors import InvalidValue
from xent.options import Options
from xent.torch import _chunks, _composed, _operators, _sharded, _tensors
from xent.torch._batch import Batch, Stats
from xent.torch._chunks import Gradients, Wanted

_CALL = (
    "Tensor input, Tensor weight, Tensor? bias, Tensor[] batch, str names, str words, float[] numbers, "
    "SymInt[]? exclude, SymInt[]? ignore_index, ScalarType dtype, SymInt chunk_rows, bool[] wanted"
)
_library = torch.library.Library("xent", "FRAGMENT")  # type: ignore[no-untyped-call]
# A CUDA graph would run the kernels again and no Python: neither what hands gradients on, nor what
# reads the number of rows that are kept. Versions without the tag leave out what has a CPU's tensor.
_TAGS = (torch.Tag.cudagraph_unsafe,) if hasattr(torch.Tag, "cudagraph_unsafe") else ()
for _schema in (
    f"linear_cross_entropy({_CALL}, ScalarType loss_dtype, bool want_stats) -> (Tensor, Tensor, Tensor[])",
    f"linear_cross_entropy_backward(Tensor upstream, Tensor token, {_CALL}) -> Tensor[]",
):
    _library.define(_schema, tags=_TAGS)  # type: ignore[no-untyped-call]

_gradients: WeakKeyDictionary[UntypedStorage, Gradients] = WeakKeyDictionary()
"""By the memory of the tokens, which is the same wherever PyTorch keeps them."""


def applies(input: Tensor, weight: Tensor, bias: Tensor | None, batch: Batch) -> bool:
    """Whether these are plain tensors, of which nothing but the layer's are differentiated."""
    return _composed.applies(input, batch) and all(
        tensor is None or _composed.is_plain(tensor) for tensor in (weight, bias)
    )


def local(name: str, tensor: Tensor) -> Tensor:
    """What this device has of a parameter: all of it, or it is refused."""
    if not _sharded.is_sharded(tensor):
        return tensor
    if not all(placement.is_replicate() for placement in tensor.placements):
        raise InvalidValue(
            f"{name} is a DTensor with placements {tuple(tensor.placements)}, expected Replicate() on "
            "every dimension of the mesh: call a module that owns the parameter, so that FSDP gathers "
            f"it, or give {name}.full_tensor(); with process_group it may be Shard(0) over the group"
        )
    return tensor.to_local()


def cross_entropy(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    options: Options,
    batch: Batch,
    dtype: torch.dtype,
    loss_dtype: torch.dtype,
    chunk_rows: int,
    want_stats: bool,
) -> tuple[Tensor, Stats | None]:
    """``input`` is ``[N, D]``; ``dtype`` is the layer's: under autocast another one than the tensors'."""
    wanted = [
        torch.is_grad_enabled() and tensor is not None and tensor.requires_grad
        for tensor in (input, weight, bias)
    ]
    loss, _, stats = torch.ops.xent.linear_cross_entropy.default(
        input,
        weight,
        bias,
        [tensor for tensor in batch if tensor is not None],
        " ".join([name for name, tensor in zip(Batch._fields, batch) if tensor is not None]),
        *_options.packed(options),
        dtype,
        chunk_rows,
        wanted,
        loss_dtype,
        want_stats,
    )
    return loss, Stats(*(part.detach() for part in stats)) if want_stats else None


def _forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    tensors: list[Tensor],
    names: str,
    words: str,
    numbers: list[float],
    exclude: list[int] | None,
    ignore_index: list[int] | None,
    dtype: torch.dtype,
    chunk_rows: int,
    wanted: list[bool],
    loss_dtype: torch.dtype,
    want_stats: bool,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    options = _options.unpacked(words, numbers, exclude, ignore_index)
    at_once = Wanted(*wanted) if options["reduction"] != "none" else Wanted(False, False, False)
    with _tensors.without_autocast(input):
        layer = _chunks.layer(input, weight, bias, dtype)
        batch = _operators.batch_of(names, tensors)
        made = _chunks.run(layer, options, batch, chunk_rows, at_once, want_stats)
    token = torch.zeros((), dtype=torch.uint8, device="cpu")
    if any(at_once):
        _gradients[token.untyped_storage()] = made.gradients
    loss, stats = _tensors.in_dtypes(layer.logits, loss_dtype, made.loss, made.stats)
    return loss, token, list(stats or ())


def _backward(
    upstream: Tensor,
    token: Tensor,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    tensors: list[Tensor],
    names: str,
    words: str,
    numbers: list[float],
    exclude: list[int] | None,
    ignore_index: list[int] | None,
    dtype: torch.dtype,
    chunk_rows: int,
    wanted: list[bool],
) -> list[Tensor]:
    gradients = _gradients.pop(token.untyped_storage(), None)
    options = _options.unpacked(words, numbers, exclude, ignore_index)
    by_row = upstream if options["reduction"] == "none" else None
    with _tensors.without_autocast(input):
        if gradients is None:
            layer = _chunks.layer(input, weight, bias, dtype)
            batch = _operators.batch_of(names, tensors)
            made = _chunks.run(layer, options, batch, chunk_rows, Wanted(*wanted), False, by_row)
            gradients = made.gradients
        return scaled(gradients, upstream if by_row is None else None, input, weight, bias)


def scaled(
    made: Gradients, upstream: Tensor | None, input: Tensor, weight: Tensor, bias: Tensor | None
) -> list[Tensor]:
    """Those that are wanted, times the upstream gradient, rounded once."""
    factor = upstream
    if made.scale is not None:
        factor = 1.0 / made.scale if factor is None else factor / made.scale
    is_finite = factor is None
    if factor is not None and factor.device.type == "cpu":
        number = factor.item()
        is_finite = isfinite(number)
        factor = None if number == 1.0 else factor
    results = []
    for gradient, tensor in ((made.input, input), (made.weight, weight), (made.bias, bias)):
        if gradient is None or tensor is None:
            continue
        if gradient.dtype is not tensor.dtype and factor is not None:
            rounded = torch.empty_like(gradient, dtype=tensor.dtype)
            gradient = torch.mul(gradient, factor, out=rounded)
        elif factor is not None:
            gradient = gradient.mul_(factor)
        results.append(gradient.to(tensor.dtype))
    if made.input is not None and made.ignored is not None and not is_finite:
        results[0].masked_fill_(made.ignored.unsqueeze(-1), 0.0)
    return results


@torch.library.register_fake("xent::linear_cross_entropy", lib=_library)  # type: ignore[untyped-decorator]
def _fake_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    tensors: list[Tensor],
    names: str,
    words: str,
    numbers: list[float],
    exclude: list[int] | None,
    ignore_index: list[int] | None,
    dtype: torch.dtype,
    chunk_rows: int,
    wanted: list[bool],
    loss_dtype: torch.dtype,
    want_stats: bool,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    options: Any = dict(zip(WORDS, words.split()))
    rows = input.shape[:1]
    reduced = rows if options["reduction"] == "none" else ()
    loss = input.new_empty(reduced, dtype=loss_dtype)
    like = input.new_empty((), dtype=dtype)
    stats = _operators.fake_stats(like, rows, reduced) if want_stats else []
    return loss, torch.empty((), dtype=torch.uint8, device="cpu"), stats


@torch.library.register_fake("xent::linear_cross_entropy_backward", lib=_library)  # type: ignore[untyped-decorator]
def _fake_backward(
    upstream: Tensor, token: Tensor, input: Tensor, weight: Tensor, bias: Tensor | None, *call: Any
) -> list[Tensor]:
    wanted = zip((input, weight, bias), call[-1])
    return [tensor.new_empty(tensor.shape) for tensor, is_wanted in wanted if is_wanted and tensor is not None]  # fmt: skip


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, list[Tensor]]) -> None:
    input, weight, bias, tensors, *call = inputs
    *ctx.call, ctx.loss_dtype, _ = call
    ctx.save_for_backward(output[1], input, weight, bias, *tensors)


def _differentiate(ctx: Any, upstream: Tensor, *_: Any) -> tuple[Any, ...]:
    saved: tuple[Any, ...] = ctx.saved_tensors
    token, layer, tensors = saved[0], list(saved[1:4]), list(saved[4:])
    wanted = ctx.call[-1]
    is_compiling = torch.compiler.is_compiling()
    if not is_compiling and (
        torch.is_grad_enabled() or _composed.is_transformed() or not _composed.is_plain(upstream)
    ):
        gradients = _differentiable(ctx, layer, tensors, upstream)
    else:
        gradients = torch.ops.xent.linear_cross_entropy_backward.default(
            upstream, token, *layer, tensors, *ctx.call
        )
    found = iter(gradients)
    of_layer = [next(found) if is_wanted else None for is_wanted in wanted]
    # PyTorch takes an empty list for one of tensors.
    call: Any = ([] if argument == [] else None for argument in ctx.call)
    return (*of_layer, [None] * len(tensors), *call, None, None)


def _differentiable(
    ctx: Any, layer: list[Tensor | None], tensors: list[Tensor], upstream: Tensor
) -> tuple[Tensor, ...]:
    """Gradients that can be differentiated themselves."""
    names, *packed, dtype, _, wanted = ctx.call
    options, batch = _options.unpacked(*packed), _operators.batch_of(names, tensors)
    input, weight, bias = layer
    assert input is not None and weight is not None
    with torch.enable_grad(), _tensors.without_autocast(input):
        given_bias = None if bias is None else bias.to(dtype)
        logits = F.linear(input.to(dtype), weight.to(dtype), given_bias)
        loss, _ = _tensors.cross_entropy(logits, options, batch, 1, ctx.loss_dtype, False)
        of = [
            tensor for tensor, is_wanted in zip(layer, wanted) if is_wanted and tensor is not None
        ]
        return torch.autograd.grad(loss, of, upstream, create_graph=True)


for _name, _function in (
    ("linear_cross_entropy", _forward),
    ("linear_cross_entropy_backward", _backward),
):
    _library.impl(_name, _function, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
torch.library.register_autograd(
    "xent::linear_cross_entropy", _differentiate, setup_context=_keep, lib=_library
)
