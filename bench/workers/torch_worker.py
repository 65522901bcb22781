"""PyTorch in the benchmark: `torch_worker.py eager` or `torch_worker.py compile`."""

import os
import sys
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from protocol import Unsupported, serve


class Ready:
    def __init__(self, mode: str, case: dict[str, Any], logits: np.ndarray, targets: np.ndarray) -> None:
        epsilon = case["epsilon"]
        if case["dtype"] == "bf16":
            values = torch.from_numpy(logits.view(np.int16)).view(torch.bfloat16)
        else:
            values = torch.from_numpy(logits)
        self.logits = values.requires_grad_()
        self.targets = torch.from_numpy(targets)

        def loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            return F.cross_entropy(logits, targets, label_smoothing=epsilon)

        if mode == "compile":
            torch._dynamo.reset()  # a case's shapes are its own: nothing is to be generalised over cases
            loss = torch.compile(loss)
        self.loss = loss

    def forward(self) -> torch.Tensor:
        with torch.no_grad():
            return self.loss(self.logits, self.targets)

    def forward_backward(self) -> torch.Tensor:
        self.logits.grad = None
        loss = self.loss(self.logits, self.targets)
        loss.backward()
        return loss

    def run(self, what: str) -> None:
        getattr(self, what)()

    def answer(self) -> tuple[float, np.ndarray]:
        loss = self.forward_backward().item()
        grad = self.logits.grad.contiguous()
        return loss, grad.view(torch.int16).numpy().view("<u2") if grad.dtype == torch.bfloat16 else grad.numpy()


class Torch:
    def __init__(self, mode: str) -> None:
        if mode not in ("eager", "compile"):
            sys.exit("usage: torch_worker.py eager|compile")
        self.mode = mode
        torch.set_num_threads(int(os.environ["BENCH_THREADS"]))

    def versions(self) -> dict[str, str]:
        return {"torch": torch.__version__, "python": sys.version.split()[0]}

    def prepare(self, case: dict[str, Any], logits: np.ndarray, targets: np.ndarray) -> Ready:
        ready = Ready(self.mode, case, logits, targets)
        if self.mode == "compile":
            try:
                ready.forward()
                ready.forward_backward()
            except Exception as error:
                raise Unsupported(f"torch.compile failed: {type(error).__name__}: {str(error).splitlines()[0]}") from error
        return ready


if __name__ == "__main__":
    serve(Torch(sys.argv[1] if len(sys.argv) == 2 else ""))
