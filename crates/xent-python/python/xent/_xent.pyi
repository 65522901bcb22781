"""The engine behind xent.torch, xent.numpy and xent.metrics; see src/criterion.rs and src/metrics.rs."""

from collections.abc import Sequence
from typing import Any, final

__all__ = ["Criterion", "Evaluation", "Output", "WORDS", "__version__"]

__version__: str
WORDS: dict[str, dict[str, str]]
"""For each option that is a word: the words that it accepts, and the canonical word for each."""

# Whatever has __dlpack__, or such an array of uint16 with the word "bfloat16".
_Array = Any

@final
class Criterion:
    def __new__(cls, **options: Any) -> Criterion: ...
    def call(
        self,
        logits: _Array,
        class_axis: int,
        targets: _Array,
        *,
        second_targets: _Array | None = None,
        lam: _Array | float | None = None,
        label_smoothing: _Array | None = None,
        row_weights: _Array | None = None,
        ignored_rows: _Array | None = None,
        allowed_classes: _Array | None = None,
        denominator: float | None = None,
        class_weights: _Array | None = None,
        prior: _Array | None = None,
        gradient: _Array | None = None,
        upstream: _Array | float | None = None,
        threads: int = 0,
        predictions: bool = False,
        in_place: bool = False,
    ) -> Output: ...

@final
class Evaluation:
    classes: int
    rows: int
    sources: dict[str, int]
    def __new__(
        cls,
        classes: int,
        *,
        bins: int,
        compat: str | None,
        ignored: Sequence[int],
        temperature: float | None,
        skip_non_finite: bool,
        sample_logits: int | None,
    ) -> Evaluation: ...
    def update(
        self,
        logits: _Array,
        class_axis: int,
        labels: _Array,
        *,
        source: str,
        first: int | None = None,
        threads: int = 0,
    ) -> None: ...
    def merge(self, other: Evaluation) -> None: ...
    def scores(self, threads: int) -> str: ...
    def reset(self) -> None: ...
    def to_bytes(self, name: str, named: bool) -> bytes: ...
    @staticmethod
    def from_bytes(bytes: bytes, name: str | None) -> Evaluation: ...

@final
class Output:
    correct: int
    denominator: float
    ignored: int
    non_finite: int
    first_non_finite: int | None
    def scalar(self, name: str) -> float | None: ...
    def copy_rows(self, name: str, into: _Array) -> None: ...
    def copy_predictions(self, predicted: _Array, correct: _Array) -> None: ...
