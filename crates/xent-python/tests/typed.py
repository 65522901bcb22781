"""Calls as type checkers see them: `mypy --strict` passes, and needs every `type: ignore` in here."""

import torch

from xent.torch import CrossEntropyLoss, LinearCrossEntropyLoss, Stats
from xent.torch.functional import cross_entropy, linear_cross_entropy

x, y = torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64)
loss: torch.Tensor = cross_entropy(
    x, y, label_smoothing=torch.zeros(1), form="kl", prior=torch.zeros(2), denominator=3.0
)
pair: tuple[torch.Tensor, Stats] = cross_entropy(x, y, return_stats=True, softcap=30.0)
module = CrossEntropyLoss(z_loss=1e-4, prior="wrong_classes")
module.z_loss = 1e-3
module.forward(x, y, lam=0.5, target_b=y)

fused: torch.Tensor = linear_cross_entropy(x, x, y, linear_bias=None, form="kl", chunk_rows=8)
both: tuple[torch.Tensor, Stats] = linear_cross_entropy(x, x, y, return_stats=True, softcap=30.0)
head = LinearCrossEntropyLoss(2, 3, z_loss=1e-4, chunk_rows=8)
head = LinearCrossEntropyLoss.of(torch.nn.Linear(2, 3), label_smoothing=0.1)
head.forward(x, y, row_weight=x)

linear_cross_entropy(x, x, y, z_los=1e-4)  # type: ignore[call-overload]
LinearCrossEntropyLoss(2, 3, form="kld")  # type: ignore[arg-type]
head.forward(x, y, lamb=0.5)  # type: ignore[call-arg]
cross_entropy(x, y, z_los=1e-4)  # type: ignore[call-overload]
cross_entropy(x, y, form="kld")  # type: ignore[call-overload]
cross_entropy(x, y, softcap="30")  # type: ignore[call-overload]
CrossEntropyLoss(z_los=1e-4)  # type: ignore[call-arg]
CrossEntropyLoss(z_loss="a")  # type: ignore[arg-type]
module.forward(x, y, lamb=0.5)  # type: ignore[call-arg]
