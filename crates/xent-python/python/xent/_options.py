"""What is measured, as Python says it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from xent._xent import Criterion


class Options(NamedTuple):
    """All that is not an array. Class weights and priors that are arrays come with each call."""

    reduction: str = "mean"
    label_smoothing: float = 0.0
    prior: str = "uniform"
    exclude: tuple[int, ...] | None = None
    ignore_index: tuple[int, ...] = ()
    weighting: str = "per_class"
    masked: str = "pytorch"
    denominator: str = "pytorch"
    empty_mean: str = "nan"
    form: str = "cross_entropy"
    z_loss: float = 0.0
    softcap: float | None = None
    temperature: float = 1.0


@lru_cache(maxsize=256)
def criterion(options: Options) -> Criterion:
    """The checked criterion. ValueError names the option, what came and what was expected."""
    return Criterion(**options._asdict())


def integers(name: str, value: int | Sequence[int] | None) -> tuple[int, ...]:
    """One integer, several, or none, as a tuple."""
    if value is None:
        return ()
    if isinstance(value, int):
        return (value,)
    try:
        return tuple(int(index) for index in value)
    except TypeError:
        raise TypeError(f"{name} is {value!r}, expected an integer, several or None") from None
