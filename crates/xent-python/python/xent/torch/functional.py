"""``cross_entropy``: the function behind ``xent.torch.CrossEntropyLoss``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, TypedDict, overload

import torch
from torch import Tensor
from torch.nn import _reduction
from torch.overrides import handle_torch_function, has_torch_function_variadic

from xent._options import Options, integers
from xent.torch import _composed, _engine
from xent.torch._batch import Batch, Stats, is_autocast, row_shape

Reduction = Literal["none", "mean", "sum"]
Prior = Literal["uniform", "wrong_classes"]
Weighting = Literal["per_class", "per_row"]
Masked = Literal["pytorch", "renormalise"]
Denominator = Literal["pytorch", "kept_rows", "rows"]
EmptyMean = Literal["nan", "zero", "error"]
Form = Literal["cross_entropy", "kl"]

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Further(TypedDict, total=False):
    """What PyTorch's function does not have; :func:`cross_entropy` says what each is."""

    class_axis: int | None
    target_b: Tensor | None
    lam: float | Tensor | None
    prior: Prior | Tensor
    exclude: int | Sequence[int] | None
    weighting: Weighting
    row_weight: Tensor | None
    ignored_rows: Tensor | None
    allowed_classes: Tensor | None
    masked: Masked
    denominator: Denominator | float | Tensor
    empty_mean: EmptyMean
    form: Form
    z_loss: float
    softcap: float | None
    temperature: float


_FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


@overload
def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int | Sequence[int] | None = -100,
    reduce: bool | None = None,
    reduction: Reduction = "mean",
    label_smoothing: float | Tensor = 0.0,
    *,
    return_stats: Literal[False] = False,
    **further: Unpack[Further],
) -> Tensor: ...
@overload
def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int | Sequence[int] | None = -100,
    reduce: bool | None = None,
    reduction: Reduction = "mean",
    label_smoothing: float | Tensor = 0.0,
    *,
    return_stats: Literal[True],
    **further: Unpack[Further],
) -> tuple[Tensor, Stats]: ...
def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int | Sequence[int] | None = -100,
    reduce: bool | None = None,
    reduction: Reduction = "mean",
    label_smoothing: float | Tensor = 0.0,
    *,
    class_axis: int | None = None,
    target_b: Tensor | None = None,
    lam: float | Tensor | None = None,
    prior: Prior | Tensor = "uniform",
    exclude: int | Sequence[int] | None = None,
    weighting: Weighting = "per_class",
    row_weight: Tensor | None = None,
    ignored_rows: Tensor | None = None,
    allowed_classes: Tensor | None = None,
    masked: Masked = "pytorch",
    denominator: Denominator | float | Tensor = "pytorch",
    empty_mean: EmptyMean = "nan",
    form: Form = "cross_entropy",
    z_loss: float = 0.0,
    softcap: float | None = None,
    temperature: float = 1.0,
    return_stats: bool = False,
) -> Tensor | tuple[Tensor, Stats]:
    r"""Label-smoothed cross-entropy: ``torch.nn.functional.cross_entropy`` with further options, all by keyword.

    With p = softmax(z) and the smoothed target y = (1−ε)·t + ε·u a row's loss is −Σ y_k ln p_k and its gradient p − y (Szegedy et al. 2015, arXiv 1512.00567, section 7).

    >>> import torch
    >>> from xent.torch.functional import cross_entropy
    >>> logits = torch.tensor([[2.0, -1.0, 0.5, 0.0]], dtype=torch.float64)
    >>> cross_entropy(logits, torch.tensor([0]), label_smoothing=0.1)  # 0.3423495824 without smoothing
    tensor(0.5048, dtype=torch.float64)

    As in PyTorch:
        input: logits ``[C]``, ``[N, C]`` or ``[N, C, d1, …]`` in float32, float64, float16 or bfloat16, with any strides; ``class_axis`` says where the classes are if not there.
        target: class indices of any integer dtype, in the logits' shape without the class axis; or probabilities of a float dtype, in the logits' shape.
        weight: one weight a class, finite. (Negative ones are PyTorch's nonsense, too, by PyTorch's operations.)
        ignore_index: a class index whose rows are ignored: loss 0, gradient exactly 0, not in the denominator, never read. Or several, or None.
        reduction: "mean", "sum" or "none"; size_average and reduce are PyTorch's deprecated spelling of it.
        label_smoothing: ε in [0, 1], also −0.1 or NaN being errors; or a tensor of one a row.

    Further:
        target_b, lam: second class indices and the share of the first, in [0, 1], a number or one a row, as mixup and cutmix make them.
        prior: where smoothing puts its mass: "uniform" (ε/K on all classes); "wrong_classes" (ε/(K−1) on all but the true one); a tensor ``[K]`` that sums to 1; or ``[K, K]``, a row for
            each true class.
        exclude: classes, padding say, that smoothing gives no mass, beside the true one.
        weighting: "per_class" weighs each class's term as PyTorch does; "per_row" the whole row by its true class's weight, so that weights do not change the smoothing.
        row_weight: one weight a row, finite and ≥ 0; not in the denominator.
        ignored_rows: bools, one a row: rows to ignore beside those of ignore_index.
        allowed_classes: bools ``[K]`` or in the logits' shape; the other classes are as if their logits were −∞, with gradients of exactly 0.
        masked: with "renormalise" smoothing gives masked classes (logit −∞) no mass, and the loss stays finite; with "pytorch" it is +∞.
        denominator: what a mean divides by: "pytorch"; "kept_rows"; "rows" (ignored ones too); or a number > 0.
        empty_mean: a mean over nothing is "nan", "zero" or an "error".
        form: "cross_entropy", or "kl": less the target's entropy, so that the lowest loss is 0.
        z_loss: adds λ·lse² to each row.
        softcap, temperature: z ← z / T, then z ← c·tanh(z / c).
        return_stats: returns (loss, :class:`~xent.torch.Stats`): nll, floor, lse, correct and more, from the same pass.

    Returns a loss of the logits' dtype (float32 under autocast, as PyTorch), computed in float64 for float64 and in float32 for all others, what is one number a row in float64.

    Raises ValueError (an option or shape), TypeError (a dtype) or IndexError (a class index outside the classes that is no ignore index). NaN and +∞ logits are no errors: they make their
    row's loss NaN. SEMANTICS.md in the repository has every formula.
    """
    if has_torch_function_variadic(input, target, weight):
        result: Tensor | tuple[Tensor, Stats] = handle_torch_function(
            cross_entropy,  # type: ignore[arg-type]
            (input, target, weight),
            input,
            target,
            weight,
            size_average,
            ignore_index,
            reduce,
            reduction,
            label_smoothing,
            class_axis=class_axis,
            target_b=target_b,
            lam=lam,
            prior=prior,
            exclude=exclude,
            weighting=weighting,
            row_weight=row_weight,
            ignored_rows=ignored_rows,
            allowed_classes=allowed_classes,
            masked=masked,
            denominator=denominator,
            empty_mean=empty_mean,
            form=form,
            z_loss=z_loss,
            softcap=softcap,
            temperature=temperature,
            return_stats=return_stats,
        )
        return result
    if size_average is not None or reduce is not None:
        reduction = _reduction.legacy_get_string(size_average, reduce)  # type: ignore[assignment]
    axis = _class_axis(input, class_axis)
    _expect_tensor("target", target)
    rows = row_shape(input, axis)
    batch = Batch(
        target,
        target_b,
        _of_rows("lam", lam, input, rows),
        _of_rows("label_smoothing", label_smoothing, input, rows) if isinstance(label_smoothing, Tensor) else None,
        row_weight,
        ignored_rows,
        allowed_classes,
        None
        if isinstance(denominator, str)
        else denominator
        if isinstance(denominator, Tensor)
        else torch.tensor(float(denominator), dtype=torch.float64, device="cpu"),
        weight,
        prior if isinstance(prior, Tensor) else None,
    )
    options = Options(
        reduction,
        0.0 if isinstance(label_smoothing, Tensor) else float(label_smoothing),
        "uniform" if isinstance(prior, Tensor) else prior,
        None if exclude is None else integers("exclude", exclude, 0),
        _ignored_indices(ignore_index, batch),
        weighting,
        masked,
        denominator if isinstance(denominator, str) else "pytorch",
        empty_mean,
        form,
        float(z_loss),
        None if softcap is None else float(softcap),
        float(temperature),
    )
    loss, stats = _cross_entropy(input, options, batch, axis, return_stats)
    return loss if stats is None else (loss, stats)


def _cross_entropy(logits: Tensor, options: Options, batch: Batch, axis: int, want_stats: bool) -> tuple[Tensor, Stats | None]:
    loss_dtype = logits.dtype
    if loss_dtype in (torch.float16, torch.bfloat16) and is_autocast(logits):
        loss_dtype = torch.float32
    if not _engine.sees(logits, *batch):
        return _composed.cross_entropy(logits, options, batch, axis, loss_dtype, want_stats)
    # Nonsense, but PyTorch takes them, and its own tests do.
    negative = batch.weight is not None and batch.weight.numel() == logits.shape[axis] and bool((batch.weight < 0.0).any())
    if not negative and _engine.differentiates(logits, batch):
        return _engine.cross_entropy(logits, options, batch, axis, loss_dtype, want_stats)
    # The engine names what is wrong; PyTorch's operations would go on with it.
    _engine.run(logits, options, batch._replace(weight=batch.weight.abs()) if negative and batch.weight is not None else batch, axis)
    return _composed.cross_entropy(logits, options, batch, axis, loss_dtype, want_stats)


def _class_axis(logits: Tensor, class_axis: int | None) -> int:
    _expect_tensor("input", logits)
    if logits.dtype not in _FLOATS:
        raise TypeError(f"input of dtype {logits.dtype}, expected float32, float64, float16 or bfloat16")
    rank = logits.dim()
    axis = (0 if rank == 1 else 1) if class_axis is None else class_axis
    if not -rank <= axis < rank:
        raise ValueError(f"input of shape {tuple(logits.shape)} with classes on axis {axis}, expected an axis that it has")
    return axis % rank


def _of_rows(name: str, value: float | Tensor | None, logits: Tensor, rows: torch.Size) -> Tensor | None:
    if value is None:
        return None
    if not isinstance(value, Tensor):
        value = torch.as_tensor(float(value), dtype=torch.float64, device="cpu").to(logits.device)
    return value.expand(rows) if value.dim() == 0 else value


def _ignored_indices(ignore_index: int | Sequence[int] | None, batch: Batch) -> tuple[int, ...]:
    """None of them is meant for probabilities; PyTorch's default is negative, so that only others tell of a mistake."""
    indices = integers("ignore_index", ignore_index)
    if not batch.has_probabilities():
        return indices
    if any(index >= 0 for index in indices):
        raise ValueError(f"ignore_index is {ignore_index!r} with target probabilities, which have no index to ignore; ignored_rows takes a mask")
    return ()


def _expect_tensor(name: str, value: object) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} is {type(value).__name__}, expected a tensor")
