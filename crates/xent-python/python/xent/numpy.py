"""Cross-entropy on numpy's arrays, and on whatever else speaks DLPack.

>>> import numpy as np
>>> from xent.numpy import cross_entropy, cross_entropy_with_grad
>>> logits = np.array([[2.0, -1.0, 0.5, 0.0], [0.0, 1.0, -2.0, 3.0]])
>>> round(float(cross_entropy(logits, [0, 3], label_smoothing=0.1)), 10)  # (0.5048495824 + 0.4255153626) / 2
0.4651824725
>>> loss, grad = cross_entropy_with_grad(np.zeros((1, 4)), [2], label_smoothing=0.1)
>>> grad.round(4)  # 1/4 − 0.1/4, and 1/4 − 0.9 − 0.1/4
array([[ 0.225,  0.225, -0.675,  0.225]])
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np

from xent._stats import describe
from xent._xent import Output
from xent.errors import InvalidType, InvalidValue
from xent.options import (
    IN_BATCH,
    Options,
    completed,
    criterion,
    documented,
    expect_known,
    integer,
    number,
    share,
)
from xent.options import denominator as expect_denominator

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Stats", "cross_entropy", "cross_entropy_with_grad"]


class Keywords(Options, total=False):
    """Keywords of :func:`cross_entropy`. Arrays are whatever numpy makes an array of, or has ``__dlpack__``."""

    class_axis: Annotated[int, -1, "the axis of the classes"]
    class_weights: Annotated[Any, None, "one per class, finite and ≥ 0"]
    second_targets: Annotated[
        Any, None, "second class indices, for two-label mixes as in mixup and cutmix"
    ]
    lam: Annotated[Any, None, "λ in [0, 1], the share of the first label: a number or one per row"]
    row_weights: Annotated[Any, None, "one per row, finite and ≥ 0; not in the denominator"]
    ignored_rows: Annotated[
        Any, None, "bools, one per row: rows to ignore in addition to those of ignore_index"
    ]
    allowed_classes: Annotated[
        Any,
        None,
        "bools [K] or in the logits' shape: the other classes count as masked, with gradients of exactly 0",
    ]
    return_stats: Annotated[bool, False, "returns (…, :class:`Stats`)"]
    threads: Annotated[
        int | None,
        None,
        "how many; all available ones, or as many as RAYON_NUM_THREADS says, if None",
    ]


_ARRAYS = ("class_weights", "second_targets", "row_weights", "ignored_rows", "allowed_classes")


@describe(none="None")
class Stats(NamedTuple):
    """What the same pass computes in addition to the loss; SEMANTICS.md S4, S6 and S10.

    ``loss = (1−ε)·nll + smoothing + z_loss``, less ``floor`` in the KL form. Logarithms are natural.

    Fields:
        {fields}
    """

    nll: Any
    smoothing: Any
    z_loss: Any
    floor: Any
    lse: np.ndarray
    correct: int
    denominator: float
    ignored: int
    non_finite: int
    first_non_finite: int | None
    predicted: np.ndarray
    correct_rows: np.ndarray

    @property
    def accuracy(self) -> float:
        """``correct / (rows − ignored)``: the share of kept rows that are correct; NaN if no row is kept.

        Over several batches, divide the sum of ``correct`` by that of the kept rows instead.
        """
        kept = self.lse.size - self.ignored
        return self.correct / kept if kept else float("nan")


@documented(Keywords)
def cross_entropy(logits: Any, targets: Any, **options: Unpack[Keywords]) -> Any:
    """The label-smoothed cross-entropy of logits.

    With p = softmax(z) and the smoothed target y = (1−ε)·t + ε·u, the loss of a row is −Σ y_k ln p_k
    (Szegedy et al. 2015, arXiv 1512.00567, section 7).

    logits: float16, bfloat16 (ml_dtypes), float32 or float64, of any strides. Whatever has
        ``__dlpack__`` and lies in host memory is read in place.
    targets: class indices of any integer type, in the logits' shape without the class axis; or
        probabilities of a floating-point type, in the logits' shape.

    Options, all by keyword:
        {options}

    Returns a float64 for float64 logits and a float32 for all others; an array of them for "none".
    Per-row values are computed in float64.

    Raises InvalidValue (an option or shape), InvalidType (a type) or InvalidIndex (a class index
    outside the classes that is no ignore index): see :mod:`xent.errors`.
    """
    loss, _, stats = _call("cross_entropy", logits, targets, False, 1.0, options)
    return loss if stats is None else (loss, stats)


@documented(Keywords)
def cross_entropy_with_grad(
    logits: Any, targets: Any, *, upstream: Any = 1.0, **options: Unpack[Keywords]
) -> Any:
    """(loss, gradient), or (loss, gradient, stats), from one pass over the logits.

    The gradient is dL/dlogits times ``upstream``, an array of the logits' shape and type. Otherwise as
    :func:`cross_entropy`, which says what logits, targets and loss are.

    Options, all by keyword:
        upstream: a number or, for reduction "none", one per row. Default: 1.0.
        {options}
    """
    loss, gradient, stats = _call(
        "cross_entropy_with_grad", logits, targets, True, upstream, options
    )
    return (loss, gradient) if stats is None else (loss, gradient, stats)


def _call(
    name: str, logits: Any, targets: Any, want_gradient: bool, upstream: Any, given: Keywords
) -> tuple[Any, np.ndarray | None, Stats | None]:
    expect_known(name, given, Keywords)
    logits = _array("logits", logits)
    axis, threads = integer("class_axis", given.get("class_axis", -1)), given.get("threads")
    if threads is not None and (threads := integer("threads", threads)) < 1:
        raise InvalidValue(f"threads is {threads}, expected at least 1")
    arrays: dict[str, Any] = {
        key: value for key in _ARRAYS if (value := given.get(key)) is not None
    }
    options: dict[str, Any] = {
        key: _item(value) for key, value in given.items() if key in Options.__annotations__
    }
    for key in ("label_smoothing", "prior"):
        if _is_array(value := options.get(key)):
            arrays[key], options[key] = value, IN_BATCH
    numbers: dict[str, Any] = {}
    denominator = options.get("denominator", "pytorch")
    if not isinstance(denominator, str):
        options["denominator"] = IN_BATCH
        numbers["denominator"] = expect_denominator(denominator)
    lam = given.get("lam")
    if _is_array(lam):
        arrays["lam"] = lam
    elif lam is not None:
        numbers["lam"] = share(_item(lam))
    if _is_array(upstream):
        arrays["upstream"] = upstream
    else:
        numbers["upstream"] = number("upstream", _item(upstream))
    # What other frameworks lend tells its dtype as a view of numpy's does; bfloat16 alone is not numpy's.
    view = logits if isinstance(logits, np.ndarray) else _as_numpy(logits)
    gradient = np.empty_like(view) if want_gradient else None
    output = criterion(completed(**options)).call(
        _exported(logits),
        axis,
        _exported(_array("targets", targets)),
        gradient=_exported(gradient),
        threads=threads or 0,
        predictions=bool(given.get("return_stats")),
        **numbers,
        **{key: _exported(_array(key, value)) for key, value in arrays.items()},
    )
    rows = tuple(logits.shape)
    rows = rows[:axis] + rows[axis:][1:]
    dtype = np.float64 if view.dtype == np.float64 else np.float32
    loss = _part(output, "loss", rows, dtype)
    if not given.get("return_stats"):
        return loss, gradient, None
    nll, smoothing, z_loss, floor, lse = (
        _part(output, name, rows, dtype) for name in Stats._fields[:5]
    )
    predicted, right = np.empty(rows, np.int64), np.empty(rows, np.uint8)
    output.copy_predictions(predicted, right)
    counts = (
        output.correct,
        output.denominator,
        output.ignored,
        output.non_finite,
        output.first_non_finite,
    )
    return (
        loss,
        gradient,
        Stats(nll, smoothing, z_loss, floor, lse, *counts, predicted, right.view(bool)),
    )


def _part(output: Output, name: str, rows: tuple[int, ...], dtype: type) -> Any:
    value = output.scalar(name)
    if value is not None:
        return dtype(value)
    part: np.ndarray = np.empty(rows, dtype)
    output.copy_rows(name, part)
    return part


def _array(name: str, value: Any) -> Any:
    """An array, copied only if it cannot be read in place: unaligned, or in another byte order."""
    if not isinstance(value, np.ndarray):
        if hasattr(value, "__dlpack__") and not isinstance(value, np.generic):
            return value
        value = np.asarray(value)
    if value.dtype.kind not in "biuf" and value.dtype.name != "bfloat16":
        raise InvalidType(f"{name} has dtype {value.dtype}, expected numbers or bools")
    if not value.dtype.isnative:
        value = value.astype(value.dtype.newbyteorder("="))
    return value if value.flags.aligned else value.copy()


def _is_array(value: Any) -> bool:
    """Whether it holds more than one number for all rows."""
    return isinstance(value, (list, tuple)) or getattr(value, "ndim", 0) > 0


def _item(value: Any) -> Any:
    """What an array without axes holds."""
    return value.item() if getattr(value, "ndim", None) == 0 else value


def _exported(value: Any) -> Any:
    """bfloat16 is passed as its bits: numpy cannot export it otherwise."""
    return (
        (value.view(np.uint16), "bfloat16")
        if isinstance(value, np.ndarray) and value.dtype.name == "bfloat16"
        else value
    )


def _as_numpy(array: Any) -> np.ndarray:
    try:
        return np.from_dlpack(array)
    except (BufferError, RuntimeError):
        import ml_dtypes

        # numpy has no bfloat16 of its own to borrow; only shape and type are needed here.
        return np.empty(tuple(array.shape), ml_dtypes.bfloat16)
