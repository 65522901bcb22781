"""The loss and its gradient in f64, from the definition, and how far an answer is from them."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cases import CHUNK, EPSILON, Case, to_f32

RAW = {"f32": np.dtype("<f4"), "bf16": np.dtype("<u2")}


@dataclass(frozen=True)
class Tolerance:
    """How far an answer may be off to be timed. It tells wrong formulas from right ones; how good the right ones are, the record says.

    Gradients are a row's own, before the mean divides them, so that they compare between batch sizes: their entries are between -1 and 1.
    """

    loss_relative: float
    gradient_entry: float
    gradient_row: float  # of the sum of a row's errors, in which many small ones show


def tolerance(case: Case, strict: bool) -> Tolerance:
    """`strict` is for xent, which must not lose accuracy with the number of classes."""
    if case.dtype == "bf16":
        # An entry is rounded to 8 bits. PyTorch rounds the log-probabilities and the loss, too.
        return Tolerance(1e-6, 2.1e-3, 1e-2) if strict else Tolerance(1e-2, 1e-2, 5e-2)
    if strict:
        return Tolerance(1e-6, 5e-6, 5e-5)
    in_sum = 1e-4 + case.classes * 2.0**-24  # what a sum of so many terms loses in f32, one after the other
    return Tolerance(1e-3, in_sum, in_sum)  # the loss is a sum over up to two million rows, too; wrong formulas show in the gradient


@dataclass
class Agreement:
    loss: float | None
    loss_relative_error: float
    gradient_max_error: float
    gradient_row_error: float
    gradient_max_difference_from_xent: float | None = None
    objection: str | None = None

    def as_record(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if value is not None}


def pieces(case: Case) -> Iterator[tuple[slice, slice]]:
    """Outer and inner ranges of whole rows, CHUNK elements or one row at a time."""
    outer, classes, inner = case.blocks
    inner_step = min(inner, max(CHUNK // classes, 1))
    outer_step = max(CHUNK // (classes * inner_step), 1)
    for start in range(0, outer, outer_step):
        for inner_start in range(0, inner, inner_step):
            yield slice(start, start + outer_step), slice(inner_start, inner_start + inner_step)


def load(case: Case, path: str | Path, dtype: str) -> np.ndarray:
    return np.memmap(path, RAW[dtype], "r", shape=case.blocks)


class Reference:
    """The answer in f64. The gradient is in a file of `folder`, so that it takes no memory."""

    def __init__(self, case: Case, data: dict[str, Any], folder: Path) -> None:
        self.case = case
        outer, classes, inner = case.blocks
        logits = load(case, data["logits"], case.dtype)
        targets = np.memmap(data["targets"], "<i8", "r", shape=(outer, inner))
        self.gradient = np.memmap(folder / "reference.bin", np.float64, "w+", shape=case.blocks)
        total = 0.0
        for rows, columns in pieces(case):
            z = to_f32(logits[rows, :, columns], case.dtype).astype(np.float64)
            hot = targets[rows, None, columns]
            z -= z.max(1, keepdims=True)
            p = np.exp(z)
            rest = p.sum(1, keepdims=True)
            p /= rest
            log_sum = np.log(rest)
            at_target = np.take_along_axis(z, hot, 1)
            total += (log_sum - (1 - EPSILON) * at_target - EPSILON * z.mean(1, keepdims=True)).sum()
            p -= EPSILON / classes
            np.put_along_axis(p, hot, np.take_along_axis(p, hot, 1) - (1 - EPSILON), 1)
            self.gradient[rows, :, columns] = p
        self.loss = float(total / case.rows)

    def compare(self, loss: float | None, path: Path, dtype: str, xent: tuple[Path, str] | None, strict: bool) -> Agreement:
        """How far from the reference a loss and the gradient in a file are, and how far from xent's."""
        case = self.case
        expected_bytes = case.elements * RAW[dtype].itemsize
        if path.stat().st_size != expected_bytes:
            return Agreement(loss, np.inf, np.inf, np.inf, objection=f"the gradient has {path.stat().st_size} bytes instead of {expected_bytes}")
        gradient = load(case, path, dtype)
        ours = load(case, *xent) if xent else None
        largest, row, apart = 0.0, 0.0, 0.0
        for rows, columns in pieces(case):
            values = to_f32(gradient[rows, :, columns], dtype).astype(np.float64) * case.rows
            errors = np.abs(values - self.gradient[rows, :, columns])
            largest = worse(largest, errors.max())
            row = worse(row, errors.sum(1).max())
            if ours is not None:
                apart = worse(apart, np.abs(values - to_f32(ours[rows, :, columns], xent[1]).astype(np.float64) * case.rows).max())
        relative = abs(loss - self.loss) / self.loss if loss is not None else np.inf
        agreement = Agreement(loss, relative, largest, row, apart if xent else None)
        agreement.objection = objection(agreement, tolerance(case, strict))
        return agreement


def worse(one: float, other: float) -> float:
    """The larger, NaN being infinitely wrong."""
    return max(one, float(other) if np.isfinite(other) else np.inf)


def objection(agreement: Agreement, allowed: Tolerance) -> str | None:
    found = [
        f"{name} {error:.1e} (at most {most:.0e})"
        for name, error, most in (
            ("relative error of the loss", agreement.loss_relative_error, allowed.loss_relative),
            ("largest error of the gradient", agreement.gradient_max_error, allowed.gradient_entry),
            ("largest sum of a row's errors", agreement.gradient_row_error, allowed.gradient_row),
        )
        if not error <= most
    ]
    return ", ".join(found) or None
