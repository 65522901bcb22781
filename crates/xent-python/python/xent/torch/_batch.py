"""The tensors of a call, and what it returns in addition to the loss."""

from typing import Annotated, Any, NamedTuple, TypedDict

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from xent._stats import describe

VMAP_MODE = torch._C._parse_dispatch_key("VmapMode") or "VmapMode"
"""Of ``is_grads_batched``. As a string it would be parsed each time."""
PLAIN = (Tensor, torch.nn.Parameter, torch.nn.Buffer)


class OfShards(TypedDict, total=False):
    """Keywords for a vocabulary in shards; annotated as those of :mod:`xent.options`."""

    process_group: Annotated[
        Any,
        None,
        """a torch.distributed.ProcessGroup whose ranks have some classes of every row each: input
        and allowed_classes are those of this rank, ``[N, C_here]``. All else is the same on every
        rank and of all classes: target, weight, prior, options, and the upstream gradient. The loss
        has the same bits on every rank. Not with probabilities or a prior [K, K]""",
    ]
    class_range: Annotated[
        tuple[int, int] | None,
        None,
        """(start, end) of this rank's classes, with process_group; if None, they follow each other in
        the order of ranks""",
    ]


class OfShardedLayer(TypedDict, total=False):
    """The same for a linear layer with its loss."""

    process_group: Annotated[
        Any,
        None,
        """a torch.distributed.ProcessGroup whose ranks have some classes each: the weight
        ``[C_here, D]`` (or a DTensor that is Shard(0) over the group), the bias and allowed_classes
        are those of this rank. All else is the same on every rank and of all classes: what enters
        the layer, target, class weights, prior, options, and the upstream gradient. The loss has the
        same bits on every rank, and the gradient of what enters the layer is summed over the ranks.
        Not with probabilities or a prior [K, K]""",
    ]
    class_range: Annotated[
        tuple[int, int] | None,
        None,
        """(start, end) of this rank's classes, with process_group; if None, they follow each other in
        the order of ranks""",
    ]


class PerBatch(TypedDict, total=False):
    """Keywords that change with every batch; annotated as those of :mod:`xent.options`."""

    target_b: Annotated[
        Tensor | None, None, "second class indices, for two-label mixes as in mixup and cutmix"
    ]
    lam: Annotated[
        float | Tensor | None,
        None,
        """λ in [0, 1], the share of the first label: a number or one per row. With class weights a
        mean divides by the sum of λ·weight[target] + (1−λ)·weight[target_b]""",
    ]
    row_weight: Annotated[
        Tensor | None, None, "one weight per row, finite and ≥ 0; not in the denominator"
    ]
    ignored_rows: Annotated[
        Tensor | None,
        None,
        "bools, one per row: rows to ignore in addition to those of ignore_index",
    ]
    allowed_classes: Annotated[
        Tensor | None,
        None,
        """bools [K] or in the logits' shape: the other classes count as masked, with gradients of exactly 0""",
    ]


class Batch(NamedTuple):
    """What comes with the logits. All tensors, so that autograd can save them and notice changes."""

    target: Tensor
    target_b: Tensor | None = None
    lam: Tensor | None = None
    label_smoothing: Tensor | None = None
    row_weight: Tensor | None = None
    ignored_rows: Tensor | None = None
    allowed_classes: Tensor | None = None
    denominator: Tensor | None = None
    weight: Tensor | None = None
    prior: Tensor | None = None

    def has_probabilities(self) -> bool:
        return self.target_b is None and self.target.dtype.is_floating_point

    def flat(self, logits: Tensor) -> "Batch":
        """For the same logits as ``[N, K]``; they have their classes on the last axis."""
        rows, classes = logits.shape[:-1], logits.shape[-1]
        of_rows = ("target", "target_b", "lam", "label_smoothing", "row_weight", "ignored_rows")
        found = {name: getattr(self, name) for name in of_rows}
        flat = {
            name: tensor.reshape(-1, classes)
            if tensor.shape == logits.shape
            else tensor.reshape(-1)
            for name, tensor in found.items()
            if tensor is not None
        }
        allowed = self.allowed_classes
        if allowed is not None and (allowed.dim() > 1 or not rows):
            allowed = allowed.reshape(-1, classes)
        return self._replace(allowed_classes=allowed, **flat)


@describe(none="−1")
class Stats(NamedTuple):
    """What the same pass computes in addition to the loss; SEMANTICS.md S4, S6 and S10.

    ``loss = (1−ε)·nll + smoothing + z_loss``, less ``floor`` in the KL form. Tensors without a
    gradient, on the logits' device; logarithms are natural.

    Fields:
        {fields}
    """

    nll: Tensor
    smoothing: Tensor
    z_loss: Tensor
    floor: Tensor
    lse: Tensor
    correct: Tensor
    denominator: Tensor
    ignored: Tensor
    non_finite: Tensor
    first_non_finite: Tensor
    predicted: Tensor
    correct_rows: Tensor

    @property
    def accuracy(self) -> Tensor:
        """``correct / (rows − ignored)``: the share of kept rows that are correct; NaN if no row is kept.

        Over several batches, divide the sum of ``correct`` by that of the kept rows instead.
        """
        return self.correct / (self.lse.numel() - self.ignored)


def compute_dtype(logits: Tensor) -> torch.dtype:
    return torch.float64 if logits.dtype is torch.float64 else torch.float32


def loss_dtype(logits: Tensor, batch: Batch) -> torch.dtype:
    """PyTorch's: probabilities and their class weights promote, indices do not; autocast has float32 at least."""
    dtype = logits.dtype
    if dtype in (torch.float16, torch.bfloat16) and is_autocast(logits):
        dtype = torch.float32
    for tensor in (batch.target, batch.weight) if batch.has_probabilities() else ():
        dtype = dtype if tensor is None else torch.promote_types(dtype, tensor.dtype)
    return dtype


def row_shape(logits: Tensor, axis: int) -> torch.Size:
    return logits.shape[:axis] + logits.shape[axis + 1 :]


def is_transformed() -> bool:
    """Whether operations on tensors are traced, batched or differentiated from outside, so that no value may be read."""
    return (
        torch.compiler.is_compiling()
        or torch._C._functorch.peek_interpreter_stack() is not None  # torch.func
        or is_in_torch_dispatch_mode()  # fake tensors, torch.fx
        or torch._C._dispatch_tls_is_dispatch_key_included(VMAP_MODE)
        or torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]
    )


def is_differentiated(tensor: Tensor | None) -> bool:
    """Whether somebody may ask for derivatives with respect to a tensor, backward or forward."""
    if tensor is None:
        return False
    return (torch.is_grad_enabled() and tensor.requires_grad) or has_tangent(tensor)


def has_tangent(tensor: Tensor) -> bool:
    return forward_ad._current_level >= 0 and forward_ad.unpack_dual(tensor).tangent is not None  # type: ignore[no-untyped-call]


def is_autocast(logits: Tensor) -> bool:
    # The meta device has no autocast, not even one to ask about.
    return logits.device.type != "meta" and torch.is_autocast_enabled(logits.device.type)
