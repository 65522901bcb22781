"""Metrics of a classifier from its logits, as a value that merges.

An :class:`Evaluation` takes batches of logits and labels, on as many processes as there are, in one
pass and in memory that does not grow with the rows once its sample is full. Evaluations of the parts
of a data set merge, in any order, to the bits of one evaluation of all of it. The numbers are those
of ``xent eval``, whose files (``--partial``, ``--merge``) are read and written.

>>> import numpy as np
>>> from xent.metrics import Evaluation
>>> logits = np.array([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]])
>>> left, right = Evaluation(2), Evaluation(2)
>>> left.update(logits[:1], [0])
>>> right.update(logits[1:], [1, 1])
>>> left.merge(right)
>>> round(left.compute()["accuracy"], 4)  # two of three
0.6667
>>> round(left.compute()["nll"], 4)  # (ln(1 + e^-2) + ln(1 + e^-1) + ln(1 + e^3)) / 3
1.1629

PyTorch is not needed; NumPy only for arrays that are not PyTorch's.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

from xent import _xent
from xent.errors import InvalidType, InvalidValue
from xent.options import integer, integers, number

__all__ = ["Evaluation"]

_MODEL = "model"
"""What reports call a model without a name."""


class Evaluation:
    """Everything that is known of a classifier on some rows: SEMANTICS.md S12 has the formulas.

    classes: K, from 2 to 2²⁴.

    Options, all by keyword, those of ``xent eval``:
        bins: the number of confidence bins of the calibration errors, from 1 to 1000. Default: 15.
        compat: the package whose convention for confidences on the edge of a bin is followed,
            "torchmetrics" or "netcal"; bins are (a, b] if None. Default: None.
        ignore_index: a label, or several, whose rows are left out without being read. Default: None.
        skip_non_finite: leaves out rows with NaN or +∞, or with nothing except −∞, and counts them,
            instead of raising. Default: False.
        temperature: T of the numbers after temperature scaling, softmax(z/T), if it was fitted
            elsewhere; if None, it is fitted to the sampled rows. Default: None.
        sample_logits: the most logits that are retained as whole rows, to fit the temperature to: all
            rows as long as they fit, then a sample that depends neither on their order nor on how
            they were split. An evaluation takes 4 bytes for each (8 for float64), and its bytes
            half as much again. Default: 2²⁵, and 1 if the temperature is given.

    Takes about 500 bytes per class. Threads may share one: calls wait for one another.

    Raises InvalidValue if an option is out of range: see :mod:`xent.errors`.
    """

    _engine: _xent.Evaluation

    def __init__(
        self,
        classes: int,
        *,
        bins: int = 15,
        compat: Literal["torchmetrics", "netcal"] | None = None,
        ignore_index: int | Iterable[int] | None = None,
        skip_non_finite: bool = False,
        temperature: float | None = None,
        sample_logits: int | None = None,
    ) -> None:
        self._engine = _xent.Evaluation(
            _count("classes", classes),
            bins=_count("bins", bins),
            compat=compat,
            ignored=[] if ignore_index is None else integers("ignore_index", ignore_index),
            temperature=None if temperature is None else number("temperature", temperature),
            skip_non_finite=bool(skip_non_finite),
            sample_logits=None if sample_logits is None else _count("sample_logits", sample_logits),
        )

    def update(
        self,
        logits: Any,
        labels: Any,
        *,
        class_axis: int = -1,
        source: str = "",
        first_row: int | None = None,
        threads: int | None = None,
    ) -> None:
        """Adds the rows of a batch: all of them, or none if it raises.

        logits: float16, bfloat16, float32 or float64, [N, K] or of more axes. NumPy arrays, tensors on
            any device, whatever has ``__dlpack__`` in host memory, and whatever NumPy makes an array
            of. Everything is computed in float64.
        labels: class indices of any integer type, in the logits' shape without the class axis.

        Options, all by keyword:
            class_axis: the axis of the classes. Default: −1.
            source: what ``mistakes`` call the place of these rows: a file, a shard. Default: "".
            first_row: the number of the first of these rows in the source; they are numbered in C
                order. Default: the number of the source's rows so far.
            threads: how many; all available ones, or as many as RAYON_NUM_THREADS says, if None. The
                numbers do not depend on it. Default: None.

        Only ``mistakes``, and the choice of the sample where rows are more than fit, depend on sources
        and numbers; with those of the files, they are those of one ``xent eval`` over these files.

        Raises InvalidValue (a shape; a row that is not finite), InvalidType (a dtype) or InvalidIndex
        (a label that is neither a class nor ignored).
        """
        self._engine.update(
            _lent("logits", logits),
            integer("class_axis", class_axis),
            _lent("labels", labels),
            source=source,
            first=None if first_row is None else _count("first_row", first_row),
            threads=_threads(threads),
        )

    def merge(self, other: Evaluation) -> None:
        """Adds an evaluation of other rows, which stays as it is.

        Raises InvalidValue if its options differ, or if a source of it has the same rows as a source
        that is here already: a part that comes twice. (Parts that go by one name are one source: that
        of a part that was merged is recognised as long as nothing else has its name.)
        """
        if not isinstance(other, Evaluation):
            raise InvalidType(f"other is of type {type(other).__name__}, expected an Evaluation")
        self._engine.merge(other._engine)

    def scores(self, *, threads: int | None = None) -> dict[str, Any]:
        """All metrics, in the layout of a model of ``xent eval``'s report.json.

        ``["raw"]`` has them at temperature 1, ``["scaled"]`` at ``["temperature"]["value"]``. Each of
        ``accuracy``, ``top5`` (with more than five classes), ``nll`` (nats), ``perplexity``, ``brier``
        (in [0, 2]), ``ece``, ``ece_equal_mass``, ``ece_classwise``, ``mce`` and ``aurc`` has its
        ``"value"``, its ``"chance"`` level and its 95 % ``"interval"``. The rest: reliability bins,
        risk by coverage, logit gaps, up to 1000 classes, the most confident mistakes.

        The same rows have the same bits, whatever the batches, their order, processes and threads.
        ``["temperature"]["rows"]`` says to how many rows the temperature was fitted.

        Raises InvalidValue if there are no rows.
        """
        scores: dict[str, Any] = json.loads(self._engine.scores(_threads(threads)))
        return {key: _numbers(key, value) for key, value in scores.items()}

    def compute(self) -> dict[str, float]:
        """The values at temperature 1 by their names, and the temperature; :meth:`scores` has more.

        Raises InvalidValue if there are no rows.
        """
        scores = self.scores()
        values = {
            name: estimate["value"]
            for name, estimate in scores["raw"].items()
            if isinstance(estimate, dict) and "value" in estimate
        }
        if scores["temperature"] is not None:
            values["temperature"] = scores["temperature"]["value"]
        return values

    def reset(self) -> None:
        """Forgets all rows."""
        self._engine.reset()

    @property
    def classes(self) -> int:
        """K."""
        return self._engine.classes

    @property
    def rows(self) -> int:
        """The number of rows that were evaluated: neither ignored nor skipped."""
        return self._engine.rows

    @property
    def sources(self) -> dict[str, int]:
        """The number of rows that were read of each source, ignored ones included."""
        return self._engine.sources

    def to_bytes(self, *, name: str | None = None) -> bytes:
        """What ``xent eval --partial`` writes, for :meth:`from_bytes` and ``xent eval --merge``.

        name: what reports call the model. ``xent eval --merge`` takes files of different names for
            different models; without a name they merge with files of any. Default: None.
        """
        return self._engine.to_bytes(_MODEL if name is None else name, name is not None)

    @classmethod
    def from_bytes(cls, data: bytes, *, name: str | None = None) -> Evaluation:
        """What :meth:`to_bytes` or ``xent eval --partial`` wrote.

        name: which model, if there are several. Default: None.

        Raises InvalidValue if the bytes are something else, damaged, or of another version.
        """
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise InvalidType(f"data is of type {type(data).__name__}, expected bytes")
        evaluation = cls.__new__(cls)
        evaluation._engine = _xent.Evaluation.from_bytes(bytes(data), name)
        return evaluation

    def save(self, path: str | os.PathLike[str], *, name: str | None = None) -> None:
        """Writes :meth:`to_bytes` to a file."""
        Path(path).write_bytes(self.to_bytes(name=name))

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, name: str | None = None) -> Evaluation:
        """Reads a file of :meth:`save` or of ``xent eval --partial``, as :meth:`from_bytes`."""
        data = Path(path).read_bytes()
        try:
            return cls.from_bytes(data, name=name)
        except InvalidValue as error:
            raise InvalidValue(f"{os.fspath(path)}: {error}") from None

    def __reduce__(self) -> tuple[Callable[[bytes], Evaluation], tuple[bytes]]:
        return type(self).from_bytes, (self.to_bytes(),)

    def __repr__(self) -> str:
        return f"Evaluation(classes={self.classes}, rows={self.rows})"


def _numbers(key: str, value: Any) -> Any:
    """JSON with the numbers that it does not have; a source that goes by such a name keeps it."""
    if isinstance(value, dict):
        return {key: _numbers(key, entry) for key, entry in value.items()}
    if key in ("source", "first_not_finite"):
        return value
    if isinstance(value, list):
        return [_numbers(key, entry) for entry in value]
    return float(value) if value in ("Infinity", "-Infinity", "NaN") else value


def _count(name: str, value: Any) -> int:
    count = integer(name, value)
    if not 0 <= count < 1 << 64:
        raise InvalidValue(f"{name} is {count}, expected 0 ≤ {name} < 2⁶⁴")
    return count


def _threads(threads: int | None) -> int:
    if threads is None:
        return 0
    if (count := integer("threads", threads)) < 1:
        raise InvalidValue(f"threads is {count}, expected at least 1")
    return min(count, 1 << 32)


def _lent(name: str, value: Any) -> Any:
    """What the engine reads: in place if it lies in host memory."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        return value.detach().cpu()
    from xent.numpy import _array, _exported

    return _exported(_array(name, value))
