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

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from xent._options import Options, criterion, integers
from xent._xent import Output

__all__ = ["Stats", "cross_entropy", "cross_entropy_with_grad"]


class Stats(NamedTuple):
    """What the same pass found beside the loss; SEMANTICS.md S4, S6 and S10. Natural logarithms.

    ``nll`` to ``floor`` are reduced as the loss is: ``loss = (1−ε)·nll + smoothing + z_loss``, less ``floor`` in the KL form.
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


def cross_entropy(logits: Any, targets: Any, **options: Any) -> Any:
    """The label-smoothed cross-entropy of logits.

    A row's loss is −Σ y_k ln softmax(logits)_k with y = (1−ε)·t + ε·u, t the target and u the prior; Szegedy et al. 2015, arXiv 1512.00567, section 7.

    logits: float16, bfloat16 (ml_dtypes), float32 or float64, of any strides, with the classes on ``class_axis`` (the last). Whatever has ``__dlpack__`` and lies in main memory is read
    in place.
    targets: class indices of any integer type, in the logits' shape without the class axis; or probabilities of a float type, in the logits' shape.

    Options, all by keyword:
        reduction: "mean", "sum" or "none", one loss a row.
        label_smoothing: ε in [0, 1], a number or one a row.
        class_weights: one a class, finite and ≥ 0.
        ignore_index: class indices whose rows are ignored (loss 0, gradient exactly 0, not in the denominator, never read): one, several or None, the default.
        second_targets, lam; prior, exclude; weighting; row_weights; ignored_rows; allowed_classes; masked; denominator; empty_mean; form; z_loss; softcap; temperature:
            as ``target_b`` … ``temperature`` of :func:`xent.torch.functional.cross_entropy`.
        return_stats: returns (loss, :class:`Stats`).
        threads: how many; all that there are unless said (``RAYON_NUM_THREADS`` limits those).

    Returns a float64 for float64 logits and a float32 for all others; an array of them for "none". What is one number a row is computed in float64.

    Raises ValueError (an option or shape), TypeError (a type) or IndexError (a class index outside the classes that is no ignore index).
    """
    loss, _, stats = _call(logits, targets, False, options)
    return loss if stats is None else (loss, stats)


def cross_entropy_with_grad(logits: Any, targets: Any, *, upstream: Any = 1.0, **options: Any) -> Any:
    """(loss, gradient), or (loss, gradient, stats), from one pass over the logits: dL/dlogits times ``upstream``, an array of the logits' shape and type.

    ``upstream`` is a number or, for reduction "none", one a row. Otherwise as :func:`cross_entropy`.
    """
    loss, gradient, stats = _call(logits, targets, True, options, upstream)
    return (loss, gradient) if stats is None else (loss, gradient, stats)


def _call(logits: Any, targets: Any, want_gradient: bool, options: dict[str, Any], upstream: Any = None) -> tuple[Any, np.ndarray | None, Stats | None]:
    return _Call(logits, targets, **options).run(want_gradient, upstream)


class _Call:
    def __init__(
        self,
        logits: Any,
        targets: Any,
        *,
        class_axis: int = -1,
        reduction: Literal["none", "mean", "sum"] = "mean",
        label_smoothing: Any = 0.0,
        class_weights: Any = None,
        ignore_index: int | Sequence[int] | None = None,
        second_targets: Any = None,
        lam: Any = None,
        prior: Any = "uniform",
        exclude: int | Sequence[int] | None = None,
        weighting: Literal["per_class", "per_row"] = "per_class",
        row_weights: Any = None,
        ignored_rows: Any = None,
        allowed_classes: Any = None,
        masked: Literal["pytorch", "renormalise"] = "pytorch",
        denominator: Literal["pytorch", "kept_rows", "rows"] | float = "pytorch",
        empty_mean: Literal["nan", "zero", "error"] = "nan",
        form: Literal["cross_entropy", "kl"] = "cross_entropy",
        z_loss: float = 0.0,
        softcap: float | None = None,
        temperature: float = 1.0,
        return_stats: bool = False,
        threads: int | None = None,
    ) -> None:
        self.logits = _array(logits)
        self.shape = tuple(self.logits.shape)
        rank = len(self.shape)
        if not -rank <= class_axis < rank:
            raise ValueError(f"logits of shape {self.shape} with classes on axis {class_axis}, expected an axis that they have")
        self.axis = class_axis % rank
        self.rows = self.shape[: self.axis] + self.shape[self.axis + 1 :]
        if threads is not None and threads < 1:
            raise ValueError(f"threads is {threads}, expected at least 1")
        eps, share = _number(label_smoothing), _number(lam)
        self.criterion = criterion(
            Options(
                reduction,
                0.0 if eps is None else eps,
                prior if isinstance(prior, str) else "uniform",
                None if exclude is None else integers("exclude", exclude, 0),
                integers("ignore_index", ignore_index),
                weighting,
                masked,
                denominator if isinstance(denominator, str) else "pytorch",
                empty_mean,
                form,
                float(z_loss),
                None if softcap is None else float(softcap),
                float(temperature),
            )
        )
        self.targets = _array(targets)
        self.arrays = {
            "second_targets": _optional(second_targets),
            "lam": _optional(lam) if share is None else share,
            "label_smoothing": _array(label_smoothing) if eps is None else None,
            "row_weights": _optional(row_weights),
            "ignored_rows": _optional(ignored_rows),
            "allowed_classes": _optional(allowed_classes),
            "denominator": None if isinstance(denominator, str) else float(denominator),
            "class_weights": _optional(class_weights),
            "prior": None if isinstance(prior, str) else _array(prior),
            "threads": threads or 0,
        }
        self.return_stats = return_stats

    def run(self, want_gradient: bool, upstream: Any) -> tuple[Any, np.ndarray | None, Stats | None]:
        # What other frameworks lend tells its dtype as a view of numpy's does; bfloat16 alone is not numpy's.
        view = self.logits if isinstance(self.logits, np.ndarray) else _as_numpy(self.logits)
        gradient = np.empty_like(view) if want_gradient else None
        output = self.criterion.call(
            _exported(self.logits),
            self.axis,
            _exported(self.targets),
            gradient=None if gradient is None else _exported(gradient),
            upstream=_exported(_optional(upstream)) if _number(upstream) is None else _number(upstream),
            **{name: _exported(value) for name, value in self.arrays.items()},
        )
        dtype = np.float64 if view.dtype == np.float64 else np.float32
        return self._part(output, "loss", output.loss, dtype), gradient, self._stats(output, dtype) if self.return_stats else None

    def _part(self, output: Output, name: str, value: float | None, dtype: type) -> Any:
        return self._rows(output, name, dtype) if value is None else dtype(value)

    def _rows(self, output: Output, name: str, dtype: type) -> np.ndarray:
        rows = np.empty(self.rows, dtype)
        output.copy_rows(name, rows)
        return rows

    def _stats(self, output: Output, dtype: type) -> Stats:
        names = ("loss", "nll", "smoothing", "z_loss", "floor")
        _, nll, smoothing, z_loss, floor = (self._part(output, name, value, dtype) for name, value in zip(names, output.scalars))
        lse = self._rows(output, "lse", dtype)
        return Stats(nll, smoothing, z_loss, floor, lse, output.correct, output.denominator, output.ignored, output.non_finite, output.first_non_finite)


def _array(value: Any) -> Any:
    """An array as it came, if it is one that can be read where it lies: aligned, in this machine's byte order."""
    if not isinstance(value, np.ndarray):
        if hasattr(value, "__dlpack__") and not isinstance(value, np.generic):
            return value
        value = np.asarray(value)
    if not value.dtype.isnative:
        value = value.astype(value.dtype.newbyteorder("="))
    return value if value.flags.aligned else value.copy()


def _optional(value: Any) -> Any:
    return None if value is None else _array(value)


def _number(value: Any) -> float | None:
    """A number for all rows, if it is one."""
    return float(value) if value is not None and np.ndim(value) == 0 else None


def _exported(value: Any) -> Any:
    """bfloat16 goes by its bits: numpy cannot lend it otherwise."""
    return (value.view(np.uint16), "bfloat16") if isinstance(value, np.ndarray) and value.dtype.name == "bfloat16" else value


def _as_numpy(array: Any) -> np.ndarray:
    try:
        return np.from_dlpack(array)
    except (BufferError, RuntimeError):
        import ml_dtypes

        # numpy has no bfloat16 of its own to borrow; only shape and type are asked for here.
        return np.empty(tuple(array.shape), ml_dtypes.bfloat16)
