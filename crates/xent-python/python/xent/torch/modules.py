"""Criteria as modules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from xent._options import Options, criterion, integers
from xent.torch import functional as F
from xent.torch._batch import Stats


class CrossEntropyLoss(torch.nn.CrossEntropyLoss):
    """Label-smoothed cross-entropy: ``torch.nn.CrossEntropyLoss`` with further options, all by keyword.

    What is measured is given here, what comes with a batch is given to ``forward``; :func:`xent.torch.functional.cross_entropy` says what each is. Attributes may be changed, as PyTorch's
    may. ``weight`` and a ``prior`` that is a tensor are buffers: they move with the module, and are part of its state.

    >>> import torch, xent.torch
    >>> criterion = xent.torch.CrossEntropyLoss(label_smoothing=0.1, return_stats=True)
    >>> loss, stats = criterion(torch.tensor([[2.0, -1.0, 0.5, 0.0]]), torch.tensor([0]))
    >>> loss, stats.nll  # the nll compares between runs with different ε
    (tensor(0.5048), tensor(0.3423))

    Raises ValueError for an option outside its range, −0.1 or NaN for ε among them.
    """

    __constants__ = ["ignore_index", "reduction", "label_smoothing"]

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        ignore_index: int | Sequence[int] | None = -100,
        reduce: bool | None = None,
        reduction: F.Reduction = "mean",
        label_smoothing: float = 0.0,
        *,
        class_axis: int | None = None,
        prior: F.Prior | Tensor = "uniform",
        exclude: int | Sequence[int] | None = None,
        weighting: F.Weighting = "per_class",
        masked: F.Masked = "pytorch",
        denominator: F.Denominator = "pytorch",
        empty_mean: F.EmptyMean = "nan",
        form: F.Form = "cross_entropy",
        z_loss: float = 0.0,
        softcap: float | None = None,
        temperature: float = 1.0,
        return_stats: bool = False,
    ) -> None:
        super().__init__(weight, size_average, ignore_index, reduce, reduction, label_smoothing)  # type: ignore[arg-type]
        if isinstance(prior, Tensor):
            self.register_buffer("prior", prior)
        else:
            self.prior = prior
        self.class_axis = class_axis
        self.exclude = exclude
        self.weighting = weighting
        self.masked = masked
        self.denominator = denominator
        self.empty_mean = empty_mean
        self.form = form
        self.z_loss = z_loss
        self.softcap = softcap
        self.temperature = temperature
        self.return_stats = return_stats
        criterion(
            Options(
                self.reduction,
                label_smoothing,
                "uniform" if isinstance(prior, Tensor) else prior,
                None if exclude is None else integers("exclude", exclude, 0),
                integers("ignore_index", ignore_index),
                weighting,
                masked,
                denominator,
                empty_mean,
                form,
                z_loss,
                softcap,
                temperature,
            )
        )

    def forward(  # type: ignore[override]
        self,
        input: Tensor,
        target: Tensor,
        *,
        target_b: Tensor | None = None,
        lam: float | Tensor | None = None,
        label_smoothing: float | Tensor | None = None,
        row_weight: Tensor | None = None,
        ignored_rows: Tensor | None = None,
        allowed_classes: Tensor | None = None,
        denominator: float | Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Stats]:
        """The loss of a batch; ``(loss, stats)`` if the module was made with ``return_stats``. ``label_smoothing`` and ``denominator`` stand in for the module's."""
        result: Tensor | tuple[Tensor, Stats] = F.cross_entropy(  # type: ignore[call-overload,misc]
            input,
            target,
            self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing if label_smoothing is None else label_smoothing,
            class_axis=self.class_axis,
            target_b=target_b,
            lam=lam,
            prior=self.prior,
            exclude=self.exclude,
            weighting=self.weighting,
            row_weight=row_weight,
            ignored_rows=ignored_rows,
            allowed_classes=allowed_classes,
            masked=self.masked,
            denominator=self.denominator if denominator is None else denominator,
            empty_mean=self.empty_mean,
            form=self.form,
            z_loss=self.z_loss,
            softcap=self.softcap,
            temperature=self.temperature,
            return_stats=self.return_stats,
        )
        return result

    def extra_repr(self) -> str:
        """What differs from PyTorch's defaults."""
        said: dict[str, Any] = {
            "reduction": (self.reduction, "mean"),
            "ignore_index": (self.ignore_index, -100),
            "label_smoothing": (self.label_smoothing, 0.0),
            "class_axis": (self.class_axis, None),
            "exclude": (self.exclude, None),
            "weighting": (self.weighting, "per_class"),
            "masked": (self.masked, "pytorch"),
            "denominator": (self.denominator, "pytorch"),
            "empty_mean": (self.empty_mean, "nan"),
            "form": (self.form, "cross_entropy"),
            "z_loss": (self.z_loss, 0.0),
            "softcap": (self.softcap, None),
            "temperature": (self.temperature, 1.0),
        }
        words = [f"{name}={value!r}" for name, (value, default) in said.items() if value != default]
        if isinstance(self.prior, Tensor):
            words.append(f"prior={list(self.prior.shape)}")
        elif self.prior != "uniform":
            words.append(f"prior={self.prior!r}")
        return ", ".join(words)


class SmoothLabelCriterion(CrossEntropyLoss):
    """The criterion that people paste: ``KLDivLoss(reduction="batchmean")`` between log-softmax and a target of 1−ε on the true class and ε/(K−1) on each other.

    It takes logits ``[N, K]`` and class indices ``[N]``. With ε = 0 it is the mean NLL. Rows of ``ignore_index``, padding say, count in the mean's N, as they do there; None for none.

    >>> import torch, xent.torch
    >>> criterion = xent.torch.SmoothLabelCriterion(label_smoothing=0.1)
    >>> criterion(torch.tensor([[2.0, -1.0, 0.5, 0.0], [0.0, 1.0, -2.0, 3.0]], dtype=torch.float64), torch.tensor([0, 3]))
    tensor(0.0990, dtype=torch.float64)
    """

    def __init__(self, label_smoothing: float = 0.1, ignore_index: int | Sequence[int] | None = None) -> None:
        super().__init__(label_smoothing=label_smoothing, ignore_index=ignore_index, prior="wrong_classes", form="kl", denominator="rows")
