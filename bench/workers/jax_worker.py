"""JAX in the benchmark: `jax_worker.py optax` or `jax_worker.py logsumexp`."""

import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from protocol import serve


def by_optax(logits: jax.Array, targets: jax.Array, axis: int, epsilon: float) -> jax.Array:
    """As optax documents it: one-hot labels, smoothed, against the logits."""
    labels = optax.smooth_labels(jax.nn.one_hot(targets, logits.shape[axis], axis=axis), epsilon, axis=axis)
    return optax.softmax_cross_entropy(logits, labels, axis=axis).mean()


def by_logsumexp(logits: jax.Array, targets: jax.Array, axis: int, epsilon: float) -> jax.Array:
    """As one writes it who thinks of the memory that one-hot labels take."""
    lse = jax.nn.logsumexp(logits, axis=axis)
    at_target = jnp.take_along_axis(logits, jnp.expand_dims(targets, axis), axis=axis).squeeze(axis)
    return (lse - (1 - epsilon) * at_target - epsilon * logits.mean(axis=axis)).mean()


LOSSES = {"optax": by_optax, "logsumexp": by_logsumexp}


class Ready:
    def __init__(self, loss: Any, case: dict[str, Any], logits: np.ndarray, targets: np.ndarray) -> None:
        axis, epsilon = case["axis"], case["epsilon"]

        def smoothed(logits: jax.Array, targets: jax.Array) -> jax.Array:
            return loss(logits.astype(jnp.float32), targets, axis, epsilon)  # halves are widened, inside of what XLA fuses

        values = logits.view(jnp.bfloat16) if case["dtype"] == "bf16" else logits
        self.logits = jax.block_until_ready(jax.device_put(values))
        self.targets = jax.block_until_ready(jax.device_put(targets.astype(np.int32)))
        self.loss = jax.jit(smoothed)
        self.loss_and_grad = jax.jit(jax.value_and_grad(smoothed))
        self.last: Any = None

    def run(self, what: str) -> None:
        self.last = None
        work = self.loss if what == "forward" else self.loss_and_grad
        self.last = jax.block_until_ready(work(self.logits, self.targets))

    def answer(self) -> tuple[float, np.ndarray]:
        self.run("forward_backward")
        loss, grad = self.last
        grad = np.asarray(grad)
        return float(loss), grad.view("<u2") if grad.dtype == jnp.bfloat16 else grad


class Jax:
    def __init__(self, loss: str) -> None:
        if loss not in LOSSES:
            sys.exit("usage: jax_worker.py optax|logsumexp")
        self.loss = LOSSES[loss]

    def versions(self) -> dict[str, str]:
        return {"jax": jax.__version__, "optax": optax.__version__, "python": sys.version.split()[0]}

    def prepare(self, case: dict[str, Any], logits: np.ndarray, targets: np.ndarray) -> Ready:
        return Ready(self.loss, case, logits, targets)


if __name__ == "__main__":
    serve(Jax(sys.argv[1] if len(sys.argv) == 2 else ""))
