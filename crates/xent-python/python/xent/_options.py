"""What is measured, as Python says it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from operator import index
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


def integers(name: str, value: int | Sequence[int] | None, lowest: int = -(2**63)) -> tuple[int, ...]:
    """One integer, several, or none, as a tuple."""
    if value is None:
        return ()
    try:
        indices = (index(value),) if not isinstance(value, Iterable) else tuple(index(entry) for entry in value)
    except TypeError:
        raise TypeError(f"{name} is {value!r}, expected an integer, several or None") from None
    for entry in indices:
        if not lowest <= entry < 2**63:
            raise ValueError(f"{name} is {entry}, expected at least {lowest} and less than 2**63")
    return indices
