"""The tensors of a call, and what comes back beside the loss."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_in_torch_dispatch_mode


class Batch(NamedTuple):
    """What comes with the logits. All tensors, so that autograd can keep them and notice when one of them is changed."""

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


class Stats(NamedTuple):
    """What the same pass found beside the loss; SEMANTICS.md S4, S6 and S10. Tensors without a gradient, natural logarithms.

    ``nll`` to ``floor`` are reduced as the loss is: ``loss = (1−ε)·nll + smoothing + z_loss``, less ``floor`` in the KL form.
    """

    nll: Tensor
    """What the loss would be with ε = 0 and without z-loss: comparable between runs with different ε."""
    smoothing: Tensor
    """ε times the cross-entropy to the prior."""
    z_loss: Tensor
    """λ·lse²."""
    floor: Tensor
    """The lowest value that the cross-entropy can reach: the entropy of the smoothed target."""
    lse: Tensor
    """ln Σ e^z, one a row; 0 for ignored rows."""
    correct: Tensor
    """Kept rows whose largest logit (the first on ties) is the target's largest class."""
    denominator: Tensor
    """What a mean divides by, whatever the reduction."""
    ignored: Tensor
    """Rows that were ignored."""
    non_finite: Tensor
    """Kept rows whose loss is NaN or infinite."""
    first_non_finite: Tensor
    """The first of them, −1 if there is none."""


def compute_dtype(logits: Tensor) -> torch.dtype:
    return torch.float64 if logits.dtype is torch.float64 else torch.float32


def row_shape(logits: Tensor, axis: int) -> torch.Size:
    return logits.shape[:axis] + logits.shape[axis + 1 :]


def is_transformed() -> bool:
    """Whether what is done with tensors is traced, batched or differentiated by somebody, so that their numbers are not to be looked at."""
    return (
        torch.compiler.is_compiling()
        or torch._C._functorch.peek_interpreter_stack() is not None  # torch.func
        or is_in_torch_dispatch_mode()  # fake tensors, torch.fx
        or torch._C._dispatch_tls_is_dispatch_key_included("VmapMode")  # is_grads_batched
        or torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]
    )


def is_autocast(logits: Tensor) -> bool:
    # The meta device has no autocast, not even one to ask about.
    return logits.device.type != "meta" and torch.is_autocast_enabled(logits.device.type)
