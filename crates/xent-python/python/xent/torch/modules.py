"""Criteria as modules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import torch
from torch import Tensor

from xent import options as _options
from xent.options import (
    IN_BATCH,
    Indices,
    Options,
    Reduction,
    complete,
    defaults,
    documented,
    expect_known,
)
from xent.torch import functional as F
from xent.torch._batch import PerBatch, Stats

if TYPE_CHECKING:
    from typing_extensions import Unpack


class ForBatch(PerBatch, total=False):
    """Keywords of a module's call."""

    label_smoothing: Annotated[
        float | Tensor | None, None, "for this batch, in place of the module's"
    ]
    denominator: Annotated[float | Tensor | None, None, "for this batch, in place of the module's"]


_DEFAULTS = {
    **defaults(Options),
    **defaults(F.ModuleOptions),
    "ignore_index": -100,
}  # as in PyTorch


class CrossEntropyLoss(torch.nn.CrossEntropyLoss):
    """Label-smoothed cross-entropy: ``torch.nn.CrossEntropyLoss`` with more options, all by keyword.

    What is measured is given here, what comes with a batch is given to the call;
    :func:`xent.torch.functional.cross_entropy` documents both. Attributes may be changed, as PyTorch's
    may. ``weight`` and a ``prior`` that is a tensor are buffers: they move with the module, and are
    part of its state.

    >>> import torch, xent.torch
    >>> criterion = xent.torch.CrossEntropyLoss(label_smoothing=0.1, return_stats=True)
    >>> loss, stats = criterion(torch.tensor([[2.0, -1.0, 0.5, 0.0]]), torch.tensor([0]))
    >>> loss, stats.nll  # the nll compares between runs with different ε
    (tensor(0.5048), tensor(0.3423))

    Raises ValueError for an option outside its range.
    """

    __constants__ = ["ignore_index", "reduction", "label_smoothing"]

    if TYPE_CHECKING:  # the options, as attributes

        def __getattr__(self, name: str) -> Any: ...
        def __setattr__(self, name: str, value: Any) -> None: ...

    @documented(F.ModuleOptions)
    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        ignore_index: Indices = -100,
        reduce: bool | None = None,
        reduction: Reduction = "mean",
        label_smoothing: float = 0.0,
        *,
        return_stats: bool = False,
        **options: Unpack[F.ModuleOptions],
    ) -> None:
        super().__init__(weight, size_average, ignore_index, reduce, reduction, label_smoothing)  # type: ignore[arg-type]
        expect_known("CrossEntropyLoss", options, F.ModuleOptions)
        for name in F.ModuleOptions.__annotations__:
            value = options.get(name, _DEFAULTS[name])
            if isinstance(value, Tensor):
                # A denominator belongs to a batch size, not to what was learned.
                self.register_buffer(name, value, persistent=name == "prior")
            else:
                setattr(self, name, value)
        self.return_stats = return_stats
        words = {name: getattr(self, name) for name in Options.__annotations__}
        if isinstance(self.prior, Tensor):
            words["prior"] = IN_BATCH
        if not isinstance(self.denominator, str):
            words["denominator"] = IN_BATCH
            if not isinstance(self.denominator, Tensor):
                _options.denominator(self.denominator)
        complete(**words)

    @documented(ForBatch)
    def forward(  # type: ignore[override]
        self, input: Tensor, target: Tensor, **batch: Unpack[ForBatch]
    ) -> Tensor | tuple[Tensor, Stats]:
        """The loss of a batch; ``(loss, stats)`` if the module was made with ``return_stats``.

        Keywords:
            {options}
        """
        keywords: Any = {
            name: value
            for name, default in _DEFAULTS.items()
            if (value := getattr(self, name)) is not default
        }
        if batch:
            expect_known(f"{type(self).__name__}.forward", batch, ForBatch)
            keywords.update((name, value) for name, value in batch.items() if value is not None)
        result: Tensor | tuple[Tensor, Stats] = F.cross_entropy(  # type: ignore[call-overload]
            input, target, self.weight, return_stats=self.return_stats, **keywords
        )
        return result

    def extra_repr(self) -> str:
        """What differs from the defaults."""
        values = {name: getattr(self, name) for name in _DEFAULTS}
        words = [
            f"{name}={value!r}"
            for name, value in values.items()
            if not isinstance(value, Tensor) and value != _DEFAULTS[name]
        ]
        return ", ".join(
            words
            + [
                f"{name}={list(value.shape)}"
                for name, value in values.items()
                if isinstance(value, Tensor)
            ]
        )


class SmoothLabelCriterion(CrossEntropyLoss):
    """The common hand-written criterion: ``KLDivLoss(reduction="batchmean")`` to a target of 1−ε on the true class and ε/(K−1) on each other.

    It takes logits ``[N, K]`` and class indices ``[N]``. With ε = 0 it is the mean NLL. Rows of
    ``ignore_index``, such as padding, count in the mean's N, as they do there; None ignores none.

    >>> import torch, xent.torch
    >>> criterion = xent.torch.SmoothLabelCriterion(label_smoothing=0.1)
    >>> criterion(torch.tensor([[2.0, -1.0, 0.5, 0.0], [0.0, 1.0, -2.0, 3.0]], dtype=torch.float64), torch.tensor([0, 3]))
    tensor(0.0990, dtype=torch.float64)
    """

    def __init__(self, label_smoothing: float = 0.1, ignore_index: Indices = None) -> None:
        super().__init__(
            label_smoothing=label_smoothing,
            ignore_index=ignore_index,
            prior="wrong_classes",
            form="kl_divergence",
            denominator="rows",
        )
