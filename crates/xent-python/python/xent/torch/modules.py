"""Criteria as modules."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Annotated, Any

import torch
from torch import Tensor

from xent import options as _options
from xent.errors import InvalidType, InvalidValue
from xent.options import (
    IN_BATCH,
    Indices,
    Options,
    Reduction,
    complete,
    defaults,
    described,
    documented,
    expect_known,
    shown,
)
from xent.torch import _arguments
from xent.torch import functional as F
from xent.torch._batch import OfShardedLayer, OfShards, PerBatch, Stats

if TYPE_CHECKING:
    from typing_extensions import Unpack


class ForBatch(PerBatch, total=False):
    """Keywords of a module's call."""

    label_smoothing: Annotated[
        float | Tensor | None, None, "for this batch, in place of the module's"
    ]
    denominator: Annotated[float | Tensor | None, None, "for this batch, in place of the module's"]


class ForCall(ForBatch, OfShards, total=False):
    """Keywords of a call of CrossEntropyLoss.

    A process group comes with the call: a module that had one could be neither copied nor pickled.
    """


class ForLinearCall(ForBatch, OfShardedLayer, total=False):
    """Keywords of a call of LinearCrossEntropyLoss."""


_DEFAULTS = {
    **defaults(Options),
    **defaults(F.ModuleOptions),
    "ignore_index": -100,
}  # as in PyTorch


_OF_PYTORCH = ("ignore_index", "reduction", "label_smoothing")


class CrossEntropyLoss(torch.nn.CrossEntropyLoss):
    """Label-smoothed cross-entropy: ``torch.nn.CrossEntropyLoss`` with more options, all by keyword.

    With p = softmax(z) and the smoothed target y = (1−ε)·t + ε·u, the loss of a row is −Σ y_k ln p_k
    (Szegedy et al. 2015, arXiv 1512.00567, section 7).

    >>> import torch, xent.torch
    >>> criterion = xent.torch.CrossEntropyLoss(label_smoothing=0.1, return_stats=True)
    >>> loss, stats = criterion(torch.tensor([[2.0, -1.0, 0.5, 0.0]]), torch.tensor([0]))
    >>> loss, stats.nll  # the nll compares between runs with different ε
    (tensor(0.5048), tensor(0.3423))

    As in PyTorch:
        weight: one weight per class, finite; a buffer.
        ignore_index: a class index whose rows are ignored: loss 0, gradient exactly 0, not in the
            denominator, never read. Or several, or None. Default: -100.
        reduction: "mean", "sum" or "none"; size_average and reduce are PyTorch's deprecated spelling of
            it. Default: 'mean'.
        label_smoothing: ε in [0, 1]. One per row goes to the call. Default: 0.0.

    In addition:
        {options}
        return_stats: calls return (loss, :class:`~xent.torch.Stats`): nll, floor, predicted class,
            accuracy and more, from the same pass. Default: False.

    What is measured is given here, what comes with a batch is given to the call, whose docstring lists
    it; :func:`xent.torch.functional.cross_entropy` takes both, and says what input, target and loss
    are. Attributes may be changed, as PyTorch's may. A ``prior`` or ``denominator`` that is a tensor
    is a buffer, too, which moves with the module; the prior is part of its state.

    Raises ValueError for an option outside its range, at once.

    Differences from ``torch.nn.CrossEntropyLoss``:

    - Options are checked when the module is made, not at the first call. Exceptions are those of
      :mod:`xent.errors`; PyTorch's messages differ.
    - Labels may be of any integer dtype, and weights of another dtype than the logits. Bools are
      neither labels, weights nor numbers: ``label_smoothing=True`` is an error.
    - NaN, negative or infinite probabilities are errors where values are read (plain tensors on the
      CPU), and NaN elsewhere. PyTorch computes with them.
    - 0·∞ is 0: a class of weight or probability 0 with logit −∞ contributes nothing. PyTorch's loss is
      NaN there.
    - Half-precision logits are computed in float32 and rounded once, so that loss and gradient are
      closer to the exact ones than PyTorch's.
    - ``reduction="none"``, and any upstream gradient other than 1 in half precision, form the gradient
      in backward from the logits: these must not be changed in place in between. PyTorch keeps a copy of
      their size instead.
    - ``torch.jit.script`` gives PyTorch's own loss if only PyTorch's options are used, and is an error
      otherwise.
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
        if self.class_axis is not None:
            _options.integer("class_axis", self.class_axis)

    @documented(ForCall)
    def forward(  # type: ignore[override]
        self, input: Tensor, target: Tensor, **batch: Unpack[ForCall]
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
            expect_known(f"{type(self).__name__}.forward", batch, ForCall)
            keywords.update((name, value) for name, value in batch.items() if value is not None)
        result: Tensor | tuple[Tensor, Stats] = F.cross_entropy(  # type: ignore[call-overload]
            input, target, self.weight, return_stats=self.return_stats, **keywords
        )
        return result

    def __prepare_scriptable__(self) -> torch.nn.Module:
        """For ``torch.jit.script``, which knows neither keywords nor xent's engine."""
        further = [
            name for name in _DEFAULTS if name not in _OF_PYTORCH and not self._has_default(name)
        ]
        if further or not isinstance(self.ignore_index, int) or self.return_stats:
            raise InvalidValue(
                f"torch.jit.script of {self!r}, expected options that torch.nn.CrossEntropyLoss has, too; "
                "torch.compile and torch.export take all"
            )
        loss = torch.nn.CrossEntropyLoss(
            self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )
        return loss.train(self.training)

    def _has_default(self, name: str) -> bool:
        value = getattr(self, name)
        return not isinstance(value, Tensor) and value == _DEFAULTS[name]

    def extra_repr(self) -> str:
        """What differs from the defaults."""
        values = {name: getattr(self, name) for name in _DEFAULTS}
        words = [
            f"{name}={value!r}"
            for name, value in values.items()
            if not isinstance(value, Tensor) and not self._has_default(name)
        ]
        return ", ".join(
            words
            + [
                f"{name}={list(value.shape)}"
                for name, value in values.items()
                if isinstance(value, Tensor)
            ]
        )


CrossEntropyLoss.__doc__ = described(CrossEntropyLoss.__doc__, F.ModuleOptions)


class LinearCrossEntropyLoss(torch.nn.Module):
    """A linear layer and the cross-entropy of its logits, which never exist all at once.

    ``torch.nn.LinearCrossEntropyLoss`` with more options, all by keyword, and with the same state: the
    layer is ``linear``. :func:`xent.torch.functional.linear_cross_entropy` says what is computed.

    >>> import torch, xent.torch
    >>> criterion = xent.torch.LinearCrossEntropyLoss(64, 32_000, label_smoothing=0.1)
    >>> loss = criterion(torch.randn(8, 64), torch.randint(32_000, (8,)))

    As in PyTorch 2.15:
        in_features: D, the width of what enters the layer.
        num_classes: K.
        out_features: further axes of logits ``[N, K, …]``, which then exist all at once. Default: ().
        bias: whether the layer has one. Default: False.
        device: of the layer.
        dtype: of the layer.
        reduction: "mean", "sum" or "none". Default: 'mean'.
        weight: one weight per class, finite; a buffer. Where calls have a process_group, of all
            classes, of which the layer has some.
        ignore_index: a class index whose rows are ignored, and never multiplied. Or several, or None,
            which ignores none. Default: -100.
        label_smoothing: ε in [0, 1]. One per row goes to the call. Default: 0.0.
        options: of PyTorch's LinearCrossEntropyOptions ``batch_chunk_size`` is used, as chunk_rows.

    In addition:
        {options}
        return_stats: calls return (loss, :class:`~xent.torch.Stats`). Default: False.

    Under DistributedDataParallel and FSDP this module, or one that contains it, has to be what is
    wrapped and called: a weight that is read without a call of its module is not gathered, and its
    gradient not summed over processes. :meth:`of` makes one of a head that is there.

    Raises ValueError for an option outside its range, at once.
    """

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    @documented(F.LinearOptions)
    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        out_features: tuple[int, ...] = (),
        bias: bool = False,
        device: Any = None,
        dtype: torch.dtype | None = None,
        reduction: Reduction = "mean",
        weight: Tensor | None = None,
        ignore_index: Indices = -100,
        label_smoothing: float = 0.0,
        options: Any = None,
        return_stats: bool = False,
        **further: Unpack[F.LinearOptions],
    ) -> None:
        super().__init__()
        expect_known("LinearCrossEntropyLoss", further, F.LinearOptions)
        of_loss: Any = dict(further)
        chunk_rows = of_loss.pop("chunk_rows", None)
        _arguments.chunk_rows(chunk_rows, options)
        if weight is not None and (weight.dim() != 1 or len(weight) < num_classes):
            raise InvalidValue(f"weight has shape {list(weight.shape)}, expected [{num_classes}]")
        criterion = CrossEntropyLoss(
            weight,
            ignore_index=ignore_index,
            reduction=reduction,
            label_smoothing=label_smoothing,
            **of_loss,
        )
        for name in _OF_LINEAR:
            value = getattr(criterion, name)
            if isinstance(value, Tensor):
                self.register_buffer(name, value, persistent=name != "denominator")
            else:
                setattr(self, name, value)
        self.options, self.chunk_rows, self.return_stats = options, chunk_rows, return_stats
        self.num_classes, self.out_features = num_classes, tuple(out_features)
        self.linear: torch.nn.Module = torch.nn.Linear(
            in_features, prod(out_features, start=num_classes), bias, device, dtype
        )

    @classmethod
    def of(cls, lm_head: torch.nn.Module, **options: Any) -> LinearCrossEntropyLoss:
        """With a layer that exists: an ``nn.Linear``, or the ``nn.Embedding`` of a model that shares its weight.

        >>> import torch, xent.torch
        >>> embedding = torch.nn.Embedding(100, 8)
        >>> criterion = xent.torch.LinearCrossEntropyLoss.of(embedding, label_smoothing=0.1)
        >>> criterion.linear.weight is embedding.weight
        True

        The layer itself becomes ``linear``; it is not copied. Options are those of the class.

        Raises InvalidType for what has no weight ``[K, D]``.
        """
        weight = getattr(lm_head, "weight", None)
        if not (isinstance(lm_head, torch.nn.Module) and isinstance(weight, Tensor) and weight.dim() == 2):  # fmt: skip
            raise InvalidType(
                f"lm_head is {shown(lm_head)}, expected a module with a weight [K, D], such as nn.Linear"
            )
        classes, width = weight.shape
        has_bias = getattr(lm_head, "bias", None) is not None
        loss = cls(width, classes, bias=has_bias, device="meta", **options)
        loss.linear = lm_head
        return loss

    @documented(ForLinearCall)
    def forward(
        self, input: Tensor, target: Tensor, **batch: Unpack[ForLinearCall]
    ) -> Tensor | tuple[Tensor, Stats]:
        """The loss of a batch; ``(loss, stats)`` if the module was made with ``return_stats``.

        Keywords:
            {options}
        """
        keywords: Any = {
            name: value
            for name in _OF_LINEAR
            if (value := getattr(self, name)) is not _DEFAULTS.get(name)
        }
        if batch:
            expect_known(f"{type(self).__name__}.forward", batch, ForLinearCall)
            keywords.update((name, value) for name, value in batch.items() if value is not None)
        linear: Any = self.linear
        weight, bias = linear.weight, getattr(linear, "bias", None)
        if self.out_features:
            shape = (self.num_classes, *self.out_features)
            weight = weight.unflatten(0, shape)
            bias = None if bias is None else bias.unflatten(0, shape)
        result: Tensor | tuple[Tensor, Stats] = F.linear_cross_entropy(  # type: ignore[call-overload]
            input,
            weight,
            target,
            linear_bias=bias,
            options=self.options,
            chunk_rows=self.chunk_rows,
            return_stats=self.return_stats,
            **keywords,
        )
        return result

    def extra_repr(self) -> str:
        """What differs from the defaults."""
        values = {name: getattr(self, name) for name in (*_OF_LINEAR, "chunk_rows")}
        return ", ".join(
            f"{name}={list(value.shape) if isinstance(value, Tensor) else repr(value)}"
            for name, value in values.items()
            if isinstance(value, Tensor) or value != _DEFAULTS.get(name)
        )


_OF_LINEAR = ("weight", *Options.__annotations__)
LinearCrossEntropyLoss.__doc__ = described(LinearCrossEntropyLoss.__doc__, F.LinearOptions)


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
