"""``cross_entropy``: the function behind ``xent.torch.CrossEntropyLoss``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast, overload

import torch
from torch import Tensor
from torch.nn import _reduction
from torch.overrides import (
    handle_torch_function,
    has_torch_function,
    has_torch_function_variadic,
)

from xent.errors import InvalidValue
from xent.options import (
    IN_BATCH,
    Additional,
    Indices,
    Options,
    Reduction,
    complete,
    completed,
    documented,
    expect_known,
)
from xent.torch import (
    _arguments,
    _autograd,
    _composed,
    _linear,
    _operators,
    _sharded,
    _tensors,
    _triton,
)
from xent.torch._batch import (
    Batch,
    OfShardedLayer,
    OfShards,
    PerBatch,
    Stats,
    compute_dtype,
    is_autocast,
    loss_dtype,
    row_shape,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack


class ModuleOptions(Additional, total=False):
    """Keywords of :class:`~xent.torch.CrossEntropyLoss` that PyTorch's does not have."""

    class_axis: Annotated[
        int | None,
        None,
        """the axis of the classes; if None, where PyTorch has it: axis 1 (axis 0 of logits with one
        axis), which is not the last of [B, T, C]: that is −1""",
    ]


class Keywords(ModuleOptions, PerBatch, OfShards, total=False):
    """Keywords of :func:`cross_entropy` that PyTorch's function does not have."""


class LinearOptions(Additional, total=False):
    """Keywords of :class:`~xent.torch.LinearCrossEntropyLoss` that PyTorch's does not have."""

    chunk_rows: Annotated[
        int | None,
        None,
        """rows whose logits exist at a time, at most; if None, by the numbers of classes: 128 to 512
        within 64 MiB on the CPU, 1024 to 4096 within 1.5 GiB elsewhere""",
    ]


class LinearKeywords(LinearOptions, PerBatch, OfShardedLayer, total=False):
    """Keywords of :func:`linear_cross_entropy` that PyTorch's function does not have."""


_PER_BATCH = tuple(PerBatch.__annotations__)


@overload
def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: Indices = -100,
    reduce: bool | None = None,
    reduction: Reduction = "mean",
    label_smoothing: float | Tensor = 0.0,
    *,
    return_stats: Literal[False] = False,
    **keywords: Unpack[Keywords],
) -> Tensor: ...
@overload
def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: Indices = -100,
    reduce: bool | None = None,
    reduction: Reduction = "mean",
    label_smoothing: float | Tensor = 0.0,
    *,
    return_stats: Literal[True],
    **keywords: Unpack[Keywords],
) -> tuple[Tensor, Stats]: ...
@documented(Keywords)
def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: Indices = -100,
    reduce: bool | None = None,
    reduction: Reduction = "mean",
    label_smoothing: float | Tensor = 0.0,
    *,
    return_stats: bool = False,
    **keywords: Any,
) -> Tensor | tuple[Tensor, Stats]:
    r"""Label-smoothed cross-entropy: ``torch.nn.functional.cross_entropy`` with more options, all by keyword.

    With p = softmax(z) and the smoothed target y = (1−ε)·t + ε·u, the loss of a row is −Σ y_k ln p_k
    and its gradient p − y (Szegedy et al. 2015, arXiv 1512.00567, section 7).

    >>> import torch
    >>> from xent.torch.functional import cross_entropy
    >>> logits = torch.tensor([[2.0, -1.0, 0.5, 0.0]], dtype=torch.float64)
    >>> cross_entropy(logits, torch.tensor([0]), label_smoothing=0.1)  # 0.3423495824 without smoothing
    tensor(0.5048, dtype=torch.float64)

    As in PyTorch:
        input: logits ``[C]``, ``[N, C]`` or ``[N, C, d1, …]`` in float32, float64, float16 or bfloat16,
            with any strides. If it is a DTensor, each device computes what it holds: rows, or with its
            classes sharded over one mesh dimension as with process_group. All other tensors are
            DTensors, too, and so is the loss.
        target: class indices of any integer dtype, in the logits' shape without the class axis; or
            probabilities of a floating-point dtype, in the logits' shape.
        weight: one weight per class, finite. (Negative weights have no meaning, but PyTorch computes
            with them, and so do PyTorch's operations here.)
        ignore_index: a class index whose rows are ignored: loss 0, gradient exactly 0, not in the
            denominator, never read. Or several, or None.
        reduction: "mean", "sum" or "none"; size_average and reduce are PyTorch's deprecated spelling of it.
        label_smoothing: ε in [0, 1], or a tensor with one per row. −0.1 and NaN are errors.

    In addition:
        {options}
        return_stats: returns (loss, :class:`~xent.torch.Stats`): nll, floor, predicted class, accuracy
            and more, from the same pass.

    Returns a loss of PyTorch's dtype: the logits', float32 at least under autocast, promoted by
    probabilities and their class weights. It is computed in float64 for float64 logits and in float32
    for all others; numbers per row in float64, where the device has it.

    Raises InvalidValue (an option, shape or device), InvalidType (a type or dtype) or InvalidIndex (a
    class index outside the classes that is no ignore index); they are ValueError, TypeError and
    IndexError, and RuntimeError, too: see :mod:`xent.errors`. NaN and +∞ logits are no errors: they
    make the loss of their row NaN. SEMANTICS.md in the repository has every formula.
    """
    if has_torch_function_variadic(input, target, weight) or (
        keywords and has_torch_function(tuple(keywords.values()))
    ):
        arguments: Any = (
            input,
            target,
            weight,
            size_average,
            ignore_index,
            reduce,
            reduction,
            label_smoothing,
        )
        function: Any = cross_entropy
        result: Tensor | tuple[Tensor, Stats] = handle_torch_function(
            function,
            (input, target, weight, *keywords.values()),
            *arguments,
            return_stats=return_stats,
            **keywords,
        )
        return result
    if size_average is not None or reduce is not None:
        reduction = _reduction.legacy_get_string(size_average, reduce)  # type: ignore[assignment]
    if keywords:
        expect_known("cross_entropy", keywords, Keywords)
    if type(input) is not Tensor and _sharded.is_sharded(input):
        return _sharded.cross_entropy(
            cross_entropy,
            input,
            target=target,
            weight=weight,
            ignore_index=ignore_index,
            reduction=reduction,
            label_smoothing=label_smoothing,
            return_stats=return_stats,
            **keywords,
        )
    group, classes = _group(keywords)
    if group is not None:
        arguments = (target, weight, ignore_index, reduction, label_smoothing)
        loss, stats = _of_shards(input, group, classes, return_stats, keywords, arguments)
        return loss if stats is None else (loss, stats)
    axis = _arguments.class_axis(input, keywords.pop("class_axis", None))
    options, batch = _call(
        input, axis, target, weight, ignore_index, reduction, label_smoothing, keywords
    )
    loss, stats = _cross_entropy(input, options, batch, axis, return_stats)
    return loss if stats is None else (loss, stats)


if TYPE_CHECKING:
    _OfAll = tuple[Tensor, Tensor | None, Indices, Reduction, float | Tensor]
    """What :func:`_call` takes of a target and PyTorch's options."""


def _group(keywords: dict[str, Any]) -> tuple[Any, Any]:
    """process_group and class_range, out of the keywords."""
    group, classes = keywords.pop("process_group", None), keywords.pop("class_range", None)
    if group is None and classes is not None:
        raise InvalidValue(f"class_range is {classes} without process_group, expected None")
    return group, classes


def _of_shards(
    logits: Tensor,
    group: Any,
    classes: tuple[int, int] | None,
    want_stats: bool,
    keywords: dict[str, Any],
    arguments: _OfAll,
) -> tuple[Tensor, Stats | None]:
    from xent.torch import _vocabulary  # it imports torch.distributed

    given_axis, allowed = keywords.pop("class_axis", None), keywords.pop("allowed_classes", None)
    call = _call_of_all(given_axis, keywords, arguments)
    return _vocabulary.cross_entropy(logits, given_axis, group, classes, allowed, call, want_stats)


def _call_of_all(
    given_axis: int | None, keywords: dict[str, Any], arguments: _OfAll
) -> Callable[[Tensor], tuple[Options, Batch]]:
    """:func:`_call` of logits that have all classes, which are known after the exchange."""

    def call(whole: Tensor) -> tuple[Options, Batch]:
        axis = _arguments.class_axis(whole, given_axis)
        return _call(whole, axis, *arguments, dict(keywords))

    return call


def _call(
    logits: Tensor,
    axis: int,
    target: Tensor,
    weight: Tensor | None,
    ignore_index: Indices,
    reduction: Reduction,
    label_smoothing: float | Tensor,
    keywords: dict[str, Any],
) -> tuple[Options, Batch]:
    """What is measured and what comes with the logits, both checked. Of the logits nothing is read."""
    per_batch: dict[str, Any] = {}
    if keywords:
        per_batch = {name: keywords.pop(name) for name in _PER_BATCH if name in keywords}
    prior, denominator = keywords.get("prior", "uniform"), keywords.get("denominator", "pytorch")
    _arguments.expect_valid(
        logits,
        axis,
        target,
        weight=weight,
        label_smoothing=label_smoothing,
        prior=prior,
        denominator=denominator,
        **per_batch,
    )
    if not isinstance(prior, str):
        keywords["prior"] = IN_BATCH
    if not isinstance(denominator, str):
        keywords["denominator"] = IN_BATCH
    options = (complete if torch.compiler.is_compiling() else completed)(
        reduction=reduction,
        label_smoothing=IN_BATCH if isinstance(label_smoothing, Tensor) else label_smoothing,
        ignore_index=ignore_index,
        **keywords,
    )
    if per_batch:
        per_batch["lam"] = _per_row(per_batch.get("lam"), logits, axis)
    batch = Batch(
        target,
        label_smoothing=_per_row(label_smoothing, logits, axis)
        if isinstance(label_smoothing, Tensor)
        else None,
        denominator=None if isinstance(denominator, str) else _number(denominator, logits),
        weight=weight,
        prior=None if isinstance(prior, str) else _distribution(prior),
        **per_batch,
    )
    return _without_indices(options, batch), batch


def _cross_entropy(
    logits: Tensor, options: Options, batch: Batch, axis: int, want_stats: bool
) -> tuple[Tensor, Stats | None]:
    dtype = loss_dtype(logits, batch)
    if not _autograd.sees(logits, *batch):
        if _operators.applies(logits, options, batch):
            return _operators.cross_entropy(logits, options, batch, axis, dtype, want_stats)
        if _triton.applies(logits, options, batch):
            return _triton.cross_entropy(logits, options, batch, axis, dtype, want_stats)
        if _composed.applies(logits, batch):
            return _composed.cross_entropy(logits, options, batch, axis, dtype, want_stats)
        return _tensors.cross_entropy(logits, options, batch, axis, dtype, want_stats)
    if not _autograd.has_negative_weights(batch) and _autograd.differentiates(logits, batch):
        return _autograd.cross_entropy(logits, options, batch, axis, dtype, want_stats)
    _autograd.expect_valid(logits, options, batch, axis)
    return _tensors.cross_entropy(logits, options, batch, axis, dtype, want_stats)


@overload
def linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
    ignore_index: Indices = -100,
    label_smoothing: float | Tensor = 0.0,
    options: Any = None,
    return_stats: Literal[False] = False,
    **keywords: Unpack[LinearKeywords],
) -> Tensor: ...
@overload
def linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
    ignore_index: Indices = -100,
    label_smoothing: float | Tensor = 0.0,
    options: Any = None,
    return_stats: Literal[True],
    **keywords: Unpack[LinearKeywords],
) -> tuple[Tensor, Stats]: ...
@documented(LinearKeywords)
def linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
    ignore_index: Indices = -100,
    label_smoothing: float | Tensor = 0.0,
    options: Any = None,
    return_stats: bool = False,
    **keywords: Any,
) -> Tensor | tuple[Tensor, Stats]:
    r"""The cross-entropy of a linear layer's logits, which never exist all at once.

    ``cross_entropy(F.linear(input, linear_weight, linear_bias), target, …)`` with the classes on the last
    axis, and its gradients. The logits of some rows exist at a time. Ignored rows are never multiplied.

    >>> import torch
    >>> from xent.torch.functional import linear_cross_entropy
    >>> hidden = torch.tensor([[1.0, 2.0], [0.5, -1.0]], requires_grad=True)
    >>> head = torch.tensor([[1.0, 0.5], [0.0, -1.0], [0.5, 0.0]], requires_grad=True)
    >>> loss = linear_cross_entropy(hidden, head, torch.tensor([0, -100]), label_smoothing=0.1)
    >>> loss.detach()  # of the logits [2, −2, 0.5]: 0.9·0.2163 + 0.1·2.0496
    tensor(0.3996)
    >>> loss.backward()
    >>> hidden.grad[1]  # ignored
    tensor([0., 0.])

    As in PyTorch 2.15:
        input: what enters the layer, ``[…, D]``, in float32, float64, float16 or bfloat16.
        linear_weight: the layer's weight ``[K, D]``, in the dtype of the input (another one under
            autocast, which converts both). With ``[K, d1, …, D]``, for logits ``[N, K, d1, …]``, all
            logits exist. A DTensor has to be replicated, or sharded over process_group.
        target: class indices ``[…]``, or probabilities ``[…, K]``.
        linear_bias: the layer's bias ``[K]``.
        weight: one weight per class.
        reduction: "mean", "sum" or "none". With "none", backward forms the logits a second time.
        ignore_index: a class index whose rows are ignored: loss 0, gradients exactly 0, not in the
            denominator, and no part of any product. Or several, or None, which ignores none.
        label_smoothing: ε in [0, 1], or a tensor with one per row.
        options: of PyTorch's LinearCrossEntropyOptions ``batch_chunk_size`` is used, as chunk_rows.

    In addition:
        {options}
        return_stats: returns (loss, :class:`~xent.torch.Stats`): nll, floor, predicted class, accuracy
            and more, from the same pass.

    Logits, the loss and sums over rows, which the gradients of weight and bias are, are in float32
    (float64 for float64) and rounded once; F.linear rounds logits to half precision. For a sum or a
    mean the gradients are computed with the loss, at the memory of float32 gradients and of a chunk.
    Gradients that nobody asks for are not computed. Bits do not depend on the number of threads
    where those of PyTorch's products do not (MKL's do on CPUs with AVX-512, unless the environment
    has ``MKL_CBWR=AUTO,STRICT``). On GPUs the number of rows that are not ignored is read back, so
    that the call waits for the targets (not while a CUDA graph is captured).

    Second derivatives, forward mode, ``vmap``, tensor subclasses, and derivatives of weights,
    priors or targets take ``F.linear`` and :func:`cross_entropy`. With process_group they are
    errors; there, backward forms the logits of a rank a second time, whatever the reduction, unless
    those of all rows take no more memory than a chunk, and are kept. The ranks exchange a few numbers
    per row forward, and the gradient of the input, in float32, backward.

    Raises what :func:`cross_entropy` raises.
    """
    given = (input, linear_weight, target, linear_bias, weight)
    if has_torch_function_variadic(*given) or (
        keywords and has_torch_function(tuple(keywords.values()))
    ):
        function: Any = linear_cross_entropy
        result: Tensor | tuple[Tensor, Stats] = handle_torch_function(
            function,
            (*given, *keywords.values()),
            input,
            linear_weight,
            target,
            linear_bias=linear_bias,
            weight=weight,
            reduction=reduction,
            ignore_index=ignore_index,
            label_smoothing=label_smoothing,
            options=options,
            return_stats=return_stats,
            **keywords,
        )
        return result
    if keywords:
        expect_known("linear_cross_entropy", keywords, LinearKeywords)
    group, classes = _group(keywords)
    if group is not None:
        layer = (input, linear_weight, linear_bias, keywords.pop("chunk_rows", None), options)
        arguments = (target, weight, ignore_index, reduction, label_smoothing)
        loss, stats = _linear_of_shards(layer, group, classes, return_stats, keywords, arguments)
        return loss if stats is None else (loss, stats)
    chunk_rows = _arguments.chunk_rows(keywords.pop("chunk_rows", None), options)
    _arguments.expect_layer(input, linear_weight, linear_bias)
    if not _sharded.is_sharded(input):
        linear_weight = _linear.local("linear_weight", linear_weight)
        linear_bias = None if linear_bias is None else _linear.local("linear_bias", linear_bias)

    def unfused() -> Tensor | tuple[Tensor, Stats]:
        classes, *further = linear_weight.shape[:-1]
        flat = None if linear_bias is None else linear_bias.flatten()
        logits = torch.nn.functional.linear(input, linear_weight.flatten(0, -2), flat)
        axis = input.dim() - 1
        if further:
            logits = logits.view(*input.shape[:-1], classes, *further)
        return cross_entropy(  # type: ignore[call-overload,no-any-return]
            logits,
            target,
            weight,
            ignore_index=ignore_index,
            reduction=reduction,
            label_smoothing=label_smoothing,
            class_axis=axis,
            return_stats=return_stats,
            **keywords,
        )

    if linear_weight.dim() > 2 or _sharded.is_sharded(input):
        return unfused()
    dtype = input.dtype
    if is_autocast(input) and dtype is not torch.float64:
        dtype = torch.get_autocast_dtype(input.device.type)
    rows = input.shape[:-1]
    # In the logits' shape, of which it has one.
    like = input.detach().new_zeros((), dtype=dtype).expand(*rows, linear_weight.shape[0])
    further = dict(keywords)
    words, batch = _call(
        like, len(rows), target, weight, ignore_index, reduction, label_smoothing, further
    )
    if not _linear.applies(input, linear_weight, linear_bias, batch):
        return unfused()
    loss, stats = _linear.cross_entropy(
        input.reshape(-1, input.shape[-1]),
        linear_weight,
        linear_bias,
        words,
        batch.flat(like),
        dtype,
        loss_dtype(like, batch),
        chunk_rows,
        return_stats,
    )
    if loss.dim() > 0:
        loss = loss.view(rows)
    if stats is None:
        return loss
    return loss, Stats(*(part.view(rows) if part.dim() > 0 else part for part in stats))


def _linear_of_shards(
    layer: tuple[Any, ...],
    group: Any,
    classes: tuple[int, int] | None,
    want_stats: bool,
    keywords: dict[str, Any],
    arguments: _OfAll,
) -> tuple[Tensor, Stats | None]:
    from xent.torch import _linear_shards  # it imports torch.distributed

    allowed, call = keywords.pop("allowed_classes", None), _call_of_all(-1, keywords, arguments)
    given = _linear_shards.Given(*layer)
    return _linear_shards.cross_entropy(given, group, classes, allowed, call, want_stats)


def _per_row(value: float | Tensor | None, logits: Tensor, axis: int) -> Tensor | None:
    if value is None:
        return None
    value = _number(value, logits)
    return value.expand(row_shape(logits, axis)) if value.dim() == 0 else value


def _number(value: float | Tensor, logits: Tensor) -> Tensor:
    if isinstance(value, Tensor):
        return value
    # Filled on the device: nothing is copied to it.
    dtype = torch.float64 if logits.device.type == "cpu" else compute_dtype(logits)
    return torch.full((), float(value), dtype=dtype, device=logits.device)


def _distribution(prior: Tensor) -> Tensor:
    """A prior in half precision, as ``module.bfloat16()`` makes of one, sums to 1 only before its entries are rounded."""
    if prior.dtype.itemsize > 2 or not prior.dtype.is_floating_point:
        return prior
    precision, classes = torch.finfo(prior.dtype), prior.shape[-1]
    rounding = (1.0 + classes * precision.smallest_normal) * precision.eps / 2.0
    prior = prior.float()
    sums = prior.sum(-1, keepdim=True)
    return torch.where((sums - 1.0).abs() <= rounding, prior / sums, prior)


def _without_indices(options: Options, batch: Batch) -> Options:
    """No ignore index is meant for probabilities. PyTorch's default is negative, so that only others tell of a mistake."""
    if not batch.has_probabilities():
        return options
    for index in cast(tuple[int, ...], options["ignore_index"] or ()):
        if index >= 0:
            raise InvalidValue(
                f"ignore_index is {index} with target probabilities, which have no index to ignore; ignored_rows takes a mask"
            )
    return {**options, "ignore_index": None}
