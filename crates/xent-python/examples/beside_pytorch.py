"""Time and peak memory of loss and gradient, xent's beside PyTorch's, eager, on the CPU.

    python examples/beside_pytorch.py [--elements 33554432] [--classes 32000 128256] [--dtype float32] [--rounds 7]

A step is a forward and a backward pass whose gradient is a new tensor each time, as in training: the last one is given back first. PyTorch's memory then comes from the system again, page by page. xent keeps
a gradient's memory for the next; how long it takes without (`keep_gradient_memory(False)`) is shown, too. Gradients are compared first. All take turns, so that a busy minute meets all; shown are medians, and
the medians of the rounds' ratios. Peak memory is what a step adds to the process at its highest, the gradient included (Linux counts it).
"""

import argparse
import statistics
import time

import torch
import torch.nn.functional as F

from xent.torch import keep_gradient_memory
from xent.torch.functional import cross_entropy


def step(loss, logits, targets):
    logits.grad = None
    loss(logits, targets, label_smoothing=0.1).backward()


def seconds(loss, logits, targets):
    logits.grad = None
    start = time.perf_counter()
    loss(logits, targets, label_smoothing=0.1).backward()
    return time.perf_counter() - start


def status(name):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))


def peak(loss, logits, targets):
    """Bytes beyond what is there before the step, the gradient included; None where nobody counts."""
    logits.grad = None
    try:
        with open("/proc/self/clear_refs", "w") as reset:
            reset.write("5")
        before = status("VmRSS")
        step(loss, logits, targets)
        return status("VmHWM") - before
    except OSError:
        return None


def compare(logits, targets):
    gradients = []
    for loss in (cross_entropy, F.cross_entropy):
        step(loss, logits, targets)
        gradients.append(logits.grad[:64].double())
    difference = (gradients[0] - gradients[1]).abs().max().item()
    assert difference < 1e-3 / len(targets), f"gradients differ by {difference}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--elements", type=int, default=1 << 25, help="logits in all")
    parser.add_argument("--classes", type=int, nargs="+", default=[32000, 128256])
    parser.add_argument(
        "--dtype", choices=["float32", "float64", "bfloat16", "float16"], default="float32"
    )
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {options.dtype}, loss and gradient"
    )
    print(
        f"{'logits':>14}  {'xent':>9}  {'nothing kept':>12}  {'PyTorch':>9}  {'faster by':>9}  {'nothing kept':>12}  {'xent adds':>9}  {'PyTorch adds':>12}"
    )
    for classes in options.classes:
        rows = max(options.elements // classes, 1)
        logits = torch.randn(rows, classes).to(getattr(torch, options.dtype)).requires_grad_()
        targets = torch.randint(classes, (rows,))
        compare(logits, targets)
        rounds = [one_round(logits, targets) for _ in range(options.rounds)]
        kept, fresh, theirs = (statistics.median(times) for times in zip(*rounds))
        faster, faster_fresh = (
            statistics.median(r[2] / r[0] for r in rounds),
            statistics.median(r[2] / r[1] for r in rounds),
        )
        size = logits.numel() * logits.element_size()
        keep_gradient_memory(False)
        ours, pytorchs = (
            f"{bytes_ / size:.2f}×" if (bytes_ := peak(loss, logits, targets)) is not None else "?"
            for loss in (cross_entropy, F.cross_entropy)
        )
        print(
            f"{f'[{rows}, {classes}]':>14}  {kept * 1e3:>6.1f} ms  {fresh * 1e3:>9.1f} ms  {theirs * 1e3:>6.1f} ms  {faster:>8.1f}×  {faster_fresh:>11.1f}×  {ours:>9}  {pytorchs:>12}"
        )


def one_round(logits, targets):
    keep_gradient_memory(True)
    step(cross_entropy, logits, targets)
    kept = seconds(cross_entropy, logits, targets)
    keep_gradient_memory(False)
    return kept, seconds(cross_entropy, logits, targets), seconds(F.cross_entropy, logits, targets)


if __name__ == "__main__":
    main()
