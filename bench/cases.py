"""What is computed: shapes, and logits and targets as raw files for the workers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

EPSILON = 0.1
ELEMENTS = 2**25
FEW_ELEMENTS = 2**21
CHUNK = 2**20


@dataclass(frozen=True)
class Case:
    name: str
    dtype: str
    shape: tuple[int, ...]
    axis: int = 1

    @property
    def classes(self) -> int:
        return self.shape[self.axis]

    @property
    def elements(self) -> int:
        return int(np.prod(self.shape))

    @property
    def rows(self) -> int:
        return self.elements // self.classes

    @property
    def blocks(self) -> tuple[int, int, int]:
        """The shape as [what is before the class axis, classes, what is after it]."""
        outer = int(np.prod(self.shape[: self.axis]))
        return outer, self.classes, self.rows // outer


def table(classes: int, dtype: str = "f32", elements: int = ELEMENTS) -> Case:
    """Rows enough for so many logits."""
    return Case(f"{dtype}-{classes}", dtype, (-(-elements // classes), classes))


CASES = [
    Case("f32-10", "f32", (65536, 10)),
    *(table(classes) for classes in (1000, 4096, 32000, 128256, 262144)),
    *(table(classes, "bf16") for classes in (32000, 128256)),
    Case("f32-images", "f32", (8, 19, 512, 512)),
]

# What datasets have, and both sides of every power of two: whatever a library changes at some number of classes shows.
BY_CLASSES = sorted({10, 19, 21, 100, 1000} | {2**i + d for i in range(1, 13) for d in (-1, 0, 1)} - {1, 4097})
CLASS_CASES = [table(classes, dtype, FEW_ELEMENTS) for dtype in ("f32", "bf16") for classes in BY_CLASSES]

# Every dtype and layout, odd sizes, in a moment.
SMOKE_CASES = [
    Case("f32-10", "f32", (1031, 10)),
    Case("f32-4099", "f32", (33, 4099)),
    Case("bf16-4099", "bf16", (33, 4099)),
    Case("f32-images", "f32", (2, 19, 16, 15)),
]

SETS = {"usual": CASES, "classes": CLASS_CASES}


def with_elements(case: Case, elements: int) -> Case:
    """The case cut down for a trial: fewer rows, or smaller images."""
    if case.elements <= elements:
        return case
    if len(case.shape) == 2:
        return Case(case.name, case.dtype, (max(elements // case.classes, 1), case.classes))
    side = max(int((elements / case.classes / case.shape[0]) ** 0.5), 1)
    return Case(case.name, case.dtype, (case.shape[0], case.classes, side, side))


def to_bf16(values: np.ndarray) -> np.ndarray:
    """The bits of the nearest bf16, ties to even. Finite values only."""
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")


def to_f32(values: np.ndarray, dtype: str) -> np.ndarray:
    return (values.astype(np.uint32) << 16).view(np.float32) if dtype == "bf16" else values


def write_data(case: Case, folder: Path) -> dict[str, Any]:
    """Makes logits and targets, always the same for a case, and returns what `prepare` tells a worker.

    Logits are normal with deviation 2, and 4 higher at the target: a network that has learnt something.
    Nothing in them underflows or overflows, so that no contender meets its slow paths.
    """
    random = np.random.default_rng(20)
    outer, classes, inner = case.blocks
    targets = random.integers(classes, size=(outer, inner), dtype=np.int64)
    logits_file, targets_file = folder / "logits.bin", folder / "targets.bin"
    per_chunk = max(CHUNK // (classes * inner), 1)
    with logits_file.open("wb") as file:
        for start in range(0, outer, per_chunk):
            hot = targets[start : start + per_chunk, None, :]
            logits = 2 * random.standard_normal((len(hot), classes, inner), dtype=np.float32)
            np.put_along_axis(logits, hot, np.take_along_axis(logits, hot, 1) + 4, 1)
            file.write((to_bf16(logits) if case.dtype == "bf16" else logits.astype("<f4")).tobytes())
    targets.astype("<i8").tofile(targets_file)
    return {
        "dtype": case.dtype,
        "shape": list(case.shape),
        "axis": case.axis,
        "epsilon": EPSILON,
        "logits": str(logits_file),
        "targets": str(targets_file),
    }
