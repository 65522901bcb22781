"""Time of loss and gradient under torch.compile and of small eager steps, xent's beside PyTorch's, on the CPU.

    python examples/compiled.py [--rounds 21] [--seconds 0.02] [--threads 2]

All take turns, so that a busy minute meets all. Shown are medians over the rounds, and the medians of the rounds'
ratios. Smoothing is 0.1 where nothing else is said; compiled code is fullgraph, and its gradients are compared first.
"""

import argparse
import statistics
import time

import torch
import torch.nn.functional as F

from xent.torch.functional import cross_entropy

COMPILED = [(512, 32000), (128, 128256), (256, 1000), (8, 19, 256, 256)]
SMALL = [(8, 10), (64, 10), (256, 100), (256, 1000)]


def tensors(shape, dtype):
    rows = shape[:1] + shape[2:]
    return torch.randn(shape).to(dtype).requires_grad_(), torch.randint(shape[1], rows)


def step(loss, logits, targets):
    logits.grad = None
    loss(logits, targets).backward()


def turns(losses, logits, targets, rounds, seconds):
    """The seconds of a step in each round, one list per loss."""
    start = time.perf_counter()
    for loss in losses:
        step(loss, logits, targets)
    steps = max(1, round(seconds * len(losses) / (time.perf_counter() - start)))
    times = [[] for _ in losses]
    for _ in range(rounds):
        for loss, of_loss in zip(losses, times):
            step(loss, logits, targets)  # what others left in the caches
            start = time.perf_counter()
            for _ in range(steps):
                step(loss, logits, targets)
            of_loss.append((time.perf_counter() - start) / steps)
    return times


def ratio(ours, theirs):
    return statistics.median(a / b for a, b in zip(ours, theirs))


def smoothed(loss, epsilon=0.1):
    return lambda logits, targets: loss(logits, targets, label_smoothing=epsilon)


def compile_and_compare(loss, logits, targets):
    torch._dynamo.reset()
    compiled = torch.compile(smoothed(loss), fullgraph=True)
    gradients = []
    for function in (compiled, smoothed(cross_entropy)):
        step(function, logits, targets)
        gradients.append(logits.grad)
    torch.testing.assert_close(*gradients, rtol=2e-2, atol=1e-3 / targets.numel())
    return compiled


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--seconds", type=float, default=0.02, help="per loss and round, about")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, ms for loss and gradient")

    names = ("xent", "compiled", "PyTorch's", "of eager", "of PyTorch's")
    print(f"\n{'compiled':>18}          " + "".join(f"{name:>14}" for name in names))
    for shape in COMPILED:
        for dtype in (torch.float32, torch.bfloat16):
            logits, targets = tensors(shape, dtype)
            losses = [smoothed(cross_entropy)] + [
                compile_and_compare(loss, logits, targets)
                for loss in (cross_entropy, F.cross_entropy)
            ]
            eager, ours, theirs = turns(losses, logits, targets, options.rounds, options.seconds)
            times = "".join(f"{statistics.median(t) * 1e3:14.3f}" for t in (eager, ours, theirs))
            print(
                f"{list(shape)!s:>18} {str(dtype)[6:]:>8} {times}"
                f"{ratio(ours, eager):13.2f}×{ratio(ours, theirs):13.2f}×"
            )

    names = ("ε", "xent", "PyTorch's", "of PyTorch's")
    print(f"\n{'eager':>18}          " + "".join(f"{name:>14}" for name in names))
    for shape in SMALL:
        for dtype in (torch.float32, torch.bfloat16):
            logits, targets = tensors(shape, dtype)
            for epsilon in (0.0, 0.1):
                losses = [smoothed(loss, epsilon) for loss in (cross_entropy, F.cross_entropy)]
                ours, theirs = turns(losses, logits, targets, options.rounds, options.seconds)
                times = "".join(f"{statistics.median(t) * 1e3:14.3f}" for t in (ours, theirs))
                print(
                    f"{list(shape)!s:>18} {str(dtype)[6:]:>8} {epsilon:14}{times}"
                    f"{ratio(ours, theirs):13.2f}×"
                )


if __name__ == "__main__":
    main()
