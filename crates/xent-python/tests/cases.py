"""Random calls of the loss, drawn from a seed, and the roads by which they are computed."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from xent.torch import _autograd, _composed, _operators

ROADS = ("engine", "composed", "differentiated")


def take(road: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on, calls take this road: plain tensors in host memory could take all three."""
    if road != "engine":
        monkeypatch.setattr(_autograd, "sees", lambda *tensors: False)
        monkeypatch.setattr(_operators, "applies", lambda *arguments: False)
    if road == "differentiated":
        monkeypatch.setattr(_composed, "applies", lambda *arguments: False)


FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


@dataclass
class Case:
    seed: int
    input: Tensor
    target: Tensor
    options: dict[str, Any] = field(default_factory=dict)

    def leaf(self, dtype: torch.dtype | None = None) -> Tensor:
        return self.input.detach().to(dtype or self.input.dtype).requires_grad_()

    def __str__(self) -> str:
        shown = {
            name: list(value.shape) if isinstance(value, Tensor) else value
            for name, value in self.options.items()
        }
        return f"seed {self.seed}: {self.input.dtype} {list(self.input.shape)} strides {self.input.stride()}, target {self.target.dtype} {list(self.target.shape)}, {shown}"


def pytorch_case(seed: int, dtype: torch.dtype | None = None) -> Case:
    """Options that PyTorch has, too."""
    torch.manual_seed(seed)
    draw = random.Random(seed)
    rank = draw.choice([1, 2, 2, 2, 3, 4])
    classes = draw.choice([1, 2, 3, 5, 10, 33, 65, 130, 1000])
    shape = (
        [classes]
        if rank == 1
        else [
            draw.choice([0, 1, 2, 5, 17]),
            classes,
            *(draw.choice([1, 2, 3]) for _ in range(rank - 2)),
        ]
    )
    logits = layout(
        draw,
        torch.randn(shape, dtype=torch.float64) * draw.choice([0.1, 1.0, 10.0])
        + draw.choice([0.0, 0.0, 100.0]),
    )
    logits = logits.to(dtype or torch.float64)
    axis = 0 if rank == 1 else 1
    rows = shape[:axis] + shape[axis + 1 :]
    options: dict[str, Any] = {
        "reduction": draw.choice(["mean", "sum", "none"]),
        "label_smoothing": draw.choice([0.0, 0.1, 0.5, 1.0]),
    }
    if draw.random() < 0.4:
        options["weight"] = torch.rand(classes, dtype=logits.dtype) * draw.choice([1.0, 5.0])
    if draw.random() < 0.3:
        target = layout(draw, torch.rand(shape, dtype=logits.dtype))
    else:
        target = layout(draw, torch.randint(classes, rows))
        if draw.random() < 0.4:
            options["ignore_index"] = draw.choice([-100, -1, 0, classes - 1, classes + 7])
            target = torch.where(torch.rand(target.shape) < 0.3, options["ignore_index"], target)
    return Case(seed, logits, target, options)


def xent_case(seed: int, dtype: torch.dtype = torch.float64) -> Case:
    """Any options at all."""
    torch.manual_seed(seed)
    draw = random.Random(seed)
    shape = [draw.choice([1, 2, 5]) for _ in range(draw.choice([0, 1, 1, 2]))]
    classes = draw.choice([1, 2, 3, 5, 10, 70])
    axis = draw.randint(0, len(shape))
    rows = list(shape)
    shape.insert(axis, classes)
    logits = torch.randn(shape, dtype=torch.float64) * draw.choice([0.1, 1.0, 10.0])
    if draw.random() < 0.3:
        value = draw.choice([-torch.inf, -torch.inf, torch.inf, torch.nan])
        logits = torch.where(torch.rand(shape) < 0.1, value, logits)
    options: dict[str, Any] = {
        "class_axis": axis,
        "reduction": draw.choice(["mean", "sum", "none"]),
        "label_smoothing": draw.choice([0.0, 0.1, 0.5, 1.0]),
        "prior": draw.choice(["uniform", "wrong_classes", "vector", "matrix"]),
        "weighting": draw.choice(["per_class", "per_row"]),
        "masked": draw.choice(["pytorch", "renormalise"]),
        "denominator": draw.choice(["pytorch", "kept_rows", "rows", 7.5]),
        "empty_mean": draw.choice(["nan", "zero"]),
        "form": draw.choice(["cross_entropy", "kl"]),
        "z_loss": draw.choice([0.0, 1e-2]),
        "softcap": draw.choice([None, 20.0]),
        "temperature": draw.choice([1.0, 2.5]),
        "ignore_index": None,
    }
    if options["prior"] == "vector":
        options["prior"] = torch.rand(classes, dtype=torch.float64).softmax(0)
    elif options["prior"] == "matrix":
        options["prior"] = torch.rand(classes, classes, dtype=torch.float64).softmax(1)
    elif draw.random() < 0.3:
        options["exclude"] = tuple(draw.sample(range(classes), draw.randint(1, classes)))
    if draw.random() < 0.2:
        options["label_smoothing"] = torch.rand(rows, dtype=torch.float64)
    if draw.random() < 0.4:
        weight = torch.rand(classes, dtype=torch.float64)
        options["weight"] = torch.where(torch.rand(classes) < 0.2, 0.0, weight)
    if draw.random() < 0.3:
        options["row_weight"] = torch.where(
            torch.rand(rows) < 0.2, 0.0, torch.rand(rows, dtype=torch.float64)
        )
    if draw.random() < 0.3:
        options["ignored_rows"] = torch.rand(rows) < 0.3
    if draw.random() < 0.3:
        allowed_shape = draw.choice([[classes], shape])
        options["allowed_classes"] = torch.rand(allowed_shape) < 0.8
    kind = draw.choice(["index", "index", "mix", "probabilities"])
    if kind == "probabilities":
        target = torch.rand(shape, dtype=torch.float64)
        target = torch.where(torch.rand(shape) < 0.3, 0.0, target)
    else:
        target = torch.randint(classes, rows)
        if kind == "mix":
            options["target_b"] = torch.randint(classes, rows)
            options["lam"] = draw.choice([0.3, 0.5, torch.rand(rows, dtype=torch.float64)])
        if draw.random() < 0.4:
            options["ignore_index"] = draw.choice([-100, 0, (-1, classes - 1)])
            ignored = options["ignore_index"] if isinstance(options["ignore_index"], int) else -1
            target = torch.where(torch.rand(target.shape) < 0.3, ignored, target)
    return Case(seed, logits.to(dtype), target, options)


def layout(draw: random.Random, tensor: Tensor) -> Tensor:
    """The same numbers, perhaps in another place: transposed, with gaps, or broadcast."""
    kind = draw.choice(["contiguous", "contiguous", "transposed", "gaps", "offset", "broadcast"])
    if tensor.dim() == 0 or kind == "contiguous":
        return tensor
    if kind == "transposed":
        return tensor.transpose(0, -1).contiguous().transpose(0, -1)
    if kind == "gaps":
        return torch.stack(
            [tensor, torch.full_like(tensor, 77 if tensor.dtype is torch.int64 else torch.nan)], -1
        )[..., 0]
    if kind == "offset":
        return (
            torch.cat([tensor.flatten()[:1], tensor.flatten()])[1:].view(tensor.shape)
            if tensor.numel()
            else tensor
        )
    return tensor[:1].expand(tensor.shape) if tensor.numel() else tensor
