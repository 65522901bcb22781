"""xent's engine and its GPU kernels as operators of PyTorch's, for code that is traced: ``torch.compile``, ``torch.export``.

A graph holds one operator for the loss and one for the gradient, and nothing looks inside.

The engine computes the gradient with the loss, but a graph may not hand it on: operators must not
return what they were given, and to copy it would take longer than to compute it. So the loss comes
with a token, which has no content. While the token's memory is alive, the gradient is kept beside
it; the gradient's operator takes it from there, and computes it again if it is gone: after a first
backward pass, or where somebody has copied the token.

A CUDA graph runs its kernels again and nothing of this module, so that nothing may be kept beside
it. On GPUs the loss comes with a few numbers per row instead, and the gradient's operator computes
from those and the logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, UntypedStorage

from xent import options as _options
from xent._xent import WORDS
from xent.options import Options
from xent.torch import _autograd, _composed, _tensors, _triton
from xent.torch._batch import Batch, Stats, compute_dtype, row_shape
from xent.torch._memory import gradient_like

_OPTIONS = (
    "str names, str words, float[] numbers, SymInt[]? exclude, SymInt[]? ignore_index, int axis"
)
_library = torch.library.Library("xent", "DEF")  # type: ignore[no-untyped-call]
_library.define(  # type: ignore[no-untyped-call]
    f"cross_entropy(Tensor logits, Tensor[] batch, {_OPTIONS}, ScalarType dtype, bool want_stats, "
    "bool want_gradient) -> (Tensor, Tensor[], Tensor[])"
)
_library.define(  # type: ignore[no-untyped-call]
    "cross_entropy_backward(Tensor upstream, Tensor[] kept, Tensor logits, Tensor[] batch, "
    f"{_OPTIONS}) -> Tensor"
)

_gradients: WeakKeyDictionary[UntypedStorage, Tensor] = WeakKeyDictionary()
"""By the memory of the tokens, which is the same wherever PyTorch keeps them."""


def applies(logits: Tensor, options: Options, batch: Batch) -> bool:
    """Whether a call is traced that the engine or the kernels can compute later."""
    return (
        torch.compiler.is_compiling()
        and _composed.applies(logits, batch)
        and (logits.device.type == "cpu" or _has_kernel(logits, options, batch))
    )


def _has_kernel(logits: Tensor, options: Options, batch: Batch) -> bool:
    return _triton.has_kernel(logits, options, batch) and _triton.has_triton()


def cross_entropy(
    logits: Tensor,
    options: Options,
    batch: Batch,
    axis: int,
    loss_dtype: torch.dtype,
    want_stats: bool,
) -> tuple[Tensor, Stats | None]:
    loss, _, stats = torch.ops.xent.cross_entropy.default(
        logits,
        [tensor for tensor in batch if tensor is not None],
        " ".join([name for name, tensor in zip(Batch._fields, batch) if tensor is not None]),
        *_options.packed(options),
        axis,
        loss_dtype,
        want_stats,
        torch.is_grad_enabled() and logits.requires_grad,
    )
    return loss, Stats(*(part.detach() for part in stats)) if want_stats else None


def batch_of(names: str, tensors: list[Tensor]) -> Batch:
    """The batch of an operator's arguments."""
    return Batch(**dict(zip(names.split(), tensors)))


def _forward(
    logits: Tensor,
    tensors: list[Tensor],
    names: str,
    words: str,
    numbers: list[float],
    exclude: list[int] | None,
    ignore_index: list[int] | None,
    axis: int,
    dtype: torch.dtype,
    want_stats: bool,
    want_gradient: bool,
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    options = _options.unpacked(words, numbers, exclude, ignore_index)
    batch = batch_of(names, tensors)
    if _has_kernel(logits, options, batch):
        loss, coefficients, stats = _triton.computed(
            logits, options, batch, axis, want_gradient, want_stats
        )
        return loss.to(dtype), list(coefficients or ()), list(stats or ())
    at_once = want_gradient and options["reduction"] != "none"
    kept = [torch.zeros((), dtype=torch.uint8)] if at_once else []
    if _autograd.has_negative_weights(batch):
        _autograd.expect_valid(logits, options, batch, axis)
        loss, stats = _composed.cross_entropy(logits, options, batch, axis, dtype, want_stats)
        return loss, kept, list(stats or ())
    gradient = gradient_like(logits) if at_once else None
    output = _autograd.run(logits, options, batch, axis, gradient, None, want_stats)
    if gradient is not None:
        _gradients[kept[0].untyped_storage()] = gradient
    stats = _autograd.stats_of(output, logits, axis) if want_stats else None
    return _autograd.part(output, "loss", logits, axis, dtype), kept, list(stats or ())


def _backward(
    upstream: Tensor,
    kept: list[Tensor],
    logits: Tensor,
    tensors: list[Tensor],
    names: str,
    words: str,
    numbers: list[float],
    exclude: list[int] | None,
    ignore_index: list[int] | None,
    axis: int,
) -> Tensor:
    options = _options.unpacked(words, numbers, exclude, ignore_index)
    batch = batch_of(names, tensors)
    if _has_kernel(logits, options, batch):
        return _triton.formed(logits, options, batch, axis, kept, upstream)
    if _autograd.has_negative_weights(batch):
        return _composed.gradient(logits, options, batch, axis, upstream)
    gradient = _gradients.pop(kept[0].untyped_storage(), None) if kept else None
    form = partial(_autograd.formed, logits, options, batch, axis)
    return _autograd.scaled(gradient, upstream, logits.dtype, form)


@torch.library.register_fake("xent::cross_entropy", lib=_library)  # type: ignore[untyped-decorator]
def _fake_forward(
    logits: Tensor,
    tensors: list[Tensor],
    names: str,
    words: str,
    numbers: list[float],
    exclude: list[int] | None,
    ignore_index: list[int] | None,
    axis: int,
    dtype: torch.dtype,
    want_stats: bool,
    want_gradient: bool,
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    rows = row_shape(logits, axis)
    # Numbers may be symbols here. Shapes, dtypes and the choice of a road depend on words alone.
    options: Any = dict(zip(WORDS, words.split()))

    def like(shape: Any, dtype: torch.dtype) -> Tensor:
        return logits.new_empty(shape, dtype=dtype)

    reduced, kept = rows if options["reduction"] == "none" else (), []
    loss = like(reduced, dtype)
    if want_gradient and _has_kernel(logits, options, batch_of(names, tensors)):
        kept = [like((5, rows.numel()), torch.float32), like((2, rows.numel()), torch.int32)]
    elif want_gradient and options["reduction"] != "none":
        kept = [like((), torch.uint8)]
    return loss, kept, fake_stats(logits, rows, reduced) if want_stats else []


def fake_stats(logits: Tensor, rows: Sequence[int], reduced: Sequence[int]) -> list[Tensor]:
    """Statistics in their shapes and dtypes."""

    def like(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        return logits.new_empty(shape, dtype=dtype)

    number, count = compute_dtype(logits), torch.int64
    return [
        *(like(reduced, number) for _ in range(4)),
        like(rows, number),
        like((), count),
        like((), number),
        *(like((), count) for _ in range(3)),
        like(rows, count),
        like(rows, torch.bool),
    ]


@torch.library.register_fake("xent::cross_entropy_backward", lib=_library)  # type: ignore[untyped-decorator]
def _fake_backward(upstream: Tensor, kept: list[Tensor], logits: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(logits)


def _keep(
    ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, list[Tensor], list[Tensor]]
) -> None:
    logits, tensors, *ctx.call, _, _, _ = inputs
    ctx.kept = len(output[1])
    ctx.save_for_backward(logits, *output[1], *tensors)


def _differentiate(ctx: Any, upstream: Tensor, *_: Any) -> tuple[Any, ...]:
    logits, *saved = ctx.saved_tensors
    kept, tensors = saved[: ctx.kept], saved[ctx.kept :]
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        names, *packed, axis = ctx.call
        options, batch = _options.unpacked(*packed), batch_of(names, tensors)
        gradient = _tensors.gradient(logits, options, batch, axis, upstream.dtype, upstream)
    else:
        gradient = torch.ops.xent.cross_entropy_backward.default(
            upstream, kept, logits, tensors, *ctx.call
        )
    # PyTorch takes an empty list for one of tensors.
    call: Any = ([] if argument == [] else None for argument in ctx.call)
    return (gradient, [None] * len(tensors), *call, None, None, None)


for _device in ("CPU", "CUDA"):
    _library.impl("cross_entropy", _forward, _device)  # type: ignore[no-untyped-call]
    _library.impl("cross_entropy_backward", _backward, _device)  # type: ignore[no-untyped-call]
torch.library.register_autograd(
    "xent::cross_entropy", _differentiate, setup_context=_keep, lib=_library
)
