"""Cross-entropy for PyTorch.

>>> import torch, xent.torch
>>> logits = torch.tensor([[2.0, -1.0, 0.5, 0.0], [0.0, 1.0, -2.0, 3.0], [5.0, 5.0, 5.0, 5.0]], requires_grad=True)
>>> loss = xent.torch.CrossEntropyLoss(label_smoothing=0.1)(logits, torch.tensor([0, 3, -100]))
>>> loss
tensor(0.4652, grad_fn=<CrossEntropyBackward>)
>>> loss.backward()
>>> logits.grad[2]  # ignored, never read
tensor([0., 0., 0., 0.])

xent's engine reads tensors on the CPU in place and computes loss and gradient in one pass, on
``torch.get_num_threads()`` threads, also under ``torch.compile`` and ``torch.export``. On CUDA, Triton kernels compute both in one launch, for class
indices and nearly all options. On other devices, on CUDA under ``torch.compile``, under ``vmap`` and forward-mode
differentiation, for second derivatives, and where something other than the logits is differentiated,
PyTorch's own operations compute the same.

``LinearCrossEntropyLoss`` and ``linear_cross_entropy`` take what enters a linear layer in place of its
logits, and form these for some rows at a time.
"""

from xent.torch import functional
from xent.torch._batch import Stats
from xent.torch._memory import keep_gradient_memory
from xent.torch.functional import linear_cross_entropy
from xent.torch.modules import CrossEntropyLoss, LinearCrossEntropyLoss, SmoothLabelCriterion

__all__ = [
    "CrossEntropyLoss",
    "LinearCrossEntropyLoss",
    "SmoothLabelCriterion",
    "Stats",
    "functional",
    "keep_gradient_memory",
    "linear_cross_entropy",
]
