#!/usr/bin/env python3
"""Times xent's GPU kernels beside a copy, PyTorch and Liger-Kernel, after comparing answers with f64.

    python examples/gpu.py                    every shape, about five minutes
    python examples/gpu.py --rows 8192 --classes 32000 --dtypes bfloat16
    python examples/gpu.py --sweep            which tiles and warps are fastest here

The work is label smoothing of 0.1 with ignore_index=-100 and the mean, loss and gradient. Each turn
writes over the second-level cache first; rounds are interleaved, times are medians of CUDA events.
"Of the copy" is what two sweeps over the logits would take at the speed of the copy, as a share of
the time. Needs a GPU with torch and triton.
"""

import argparse
import json
import statistics
import sys

import torch
import torch.nn.functional as F

from xent.torch._triton import launch
from xent.torch.functional import cross_entropy

SMOOTHING = 0.1


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="*", default=[8192])
    parser.add_argument(
        "--classes", type=int, nargs="*", default=[1000, 32000, 50257, 128256, 151936, 262144]
    )
    parser.add_argument("--dtypes", nargs="*", default=["bfloat16", "float32"])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--compiled",
        action="store_true",
        help="both losses under torch.compile, too, which takes long",
    )
    parser.add_argument("--sweep", action="store_true", help="tiles and warps")
    parser.add_argument("--json", help="a file for all numbers")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("no GPU that PyTorch can use")
    card = torch.cuda.get_device_properties(0)
    print(f"{card.name}, {card.multi_processor_count} multiprocessors, torch {torch.__version__}")
    records = []
    for dtype in options.dtypes:
        for classes in options.classes:
            for rows in options.rows:
                run = sweep if options.sweep else measure
                records += run(rows, classes, getattr(torch, dtype), options)
    if options.json:
        with open(options.json, "w") as file:
            json.dump(
                {"card": card.name, "torch": torch.__version__, "records": records}, file, indent=1
            )


class Work:
    """Logits with labels, of which a tenth is ignored."""

    def __init__(self, rows, classes, dtype):
        torch.manual_seed(0)
        self.rows, self.classes, self.dtype = rows, classes, dtype
        self.x = torch.randn(rows, classes, device="cuda").mul_(2.0).to(dtype).requires_grad_()
        self.y = torch.randint(classes, (rows,), device="cuda")
        self.y[torch.rand(rows, device="cuda") < 0.1] = -100
        self.copy = torch.empty_like(self.x.detach())

    def xent(self, scale=1.0):
        return self.both(cross_entropy(self.x, self.y, label_smoothing=SMOOTHING), scale)

    def xent_loss(self):
        with torch.no_grad():
            return cross_entropy(self.x, self.y, label_smoothing=SMOOTHING)

    def torch(self):
        return self.both(F.cross_entropy(self.x, self.y, label_smoothing=SMOOTHING))

    def both(self, loss, scale=1.0):
        (loss if scale == 1.0 else loss * scale).backward()
        gradient, self.x.grad = self.x.grad, None
        return loss.detach(), gradient


def contenders(work, options):
    found = {
        "copy": lambda: work.copy.copy_(work.x.detach()),
        "xent": work.xent,
        "xent, upstream 1/4": lambda: work.xent(0.25),
        "xent, loss alone": work.xent_loss,
        "PyTorch": work.torch,
    }
    if options.compiled:
        for name, function in (("PyTorch", F.cross_entropy), ("xent", cross_entropy)):
            compiled = torch.compile(lambda x, y, f=function: f(x, y, label_smoothing=SMOOTHING))
            found[f"{name}, compiled"] = lambda f=compiled: work.both(f(work.x, work.y))
    try:
        from liger_kernel.transformers.functional import liger_cross_entropy

        # It writes the gradient over the logits.
        found["Liger"] = lambda: work.both(
            liger_cross_entropy(work.x, work.y, label_smoothing=SMOOTHING)
        )
    except ImportError:
        pass
    return found


def measure(rows, classes, dtype, options):
    work = Work(rows, classes, dtype)
    check(work)
    found = contenders(work, options)
    times, peaks = timed(found, options.rounds)
    bytes_ = work.x.numel() * work.x.element_size()
    copy = times["copy"]
    print(
        f"\n[{rows}, {classes}] {dtype}, {bytes_ / 1e9:.2f} GB; copy {2 * bytes_ / copy / 1e9:.2f} TB/s"
    )
    records = []
    for name, time in times.items():
        print(
            f"  {name:22} {time:8.3f} ms   of the copy {copy / time:5.2f}   peak {peaks[name] / bytes_:5.2f} × the logits"
        )
        records.append(
            {
                "rows": rows,
                "classes": classes,
                "dtype": str(dtype),
                "name": name,
                "ms": time,
                "of_copy": copy / time,
                "peak": peaks[name] / bytes_,
            }
        )
    sys.stdout.flush()
    return records


def check(work):
    """Loss and gradient of the first rows against f64."""
    rows = min(work.rows, 64)
    loss, gradient = work.xent()
    x = work.x.detach()[:rows].double().requires_grad_()
    kept = (work.y != -100).sum()
    of_rows = F.cross_entropy(x, work.y[:rows], label_smoothing=SMOOTHING, reduction="sum") / kept
    of_rows.backward()
    error = (gradient[:rows].double() - x.grad).abs().max() * kept
    exact = sum(
        F.cross_entropy(part.double(), y, label_smoothing=SMOOTHING, reduction="sum")
        for part, y in zip(work.x.detach().split(256), work.y.split(256))
    )
    relative = abs(loss.item() / (exact / kept).item() - 1.0)
    print(f"  loss off by {relative:.1e}, gradient by {error:.1e} (for an upstream gradient of N)")
    assert relative < 1e-6 if work.dtype is torch.float32 else relative < 4e-3
    assert error < (1e-6 if work.dtype is torch.float32 else 4e-3)


def timed(found, rounds):
    """Milliseconds and peak memory of each."""
    flush = torch.empty(256 << 20, dtype=torch.int8, device="cuda")
    times, peaks = {name: [] for name in found}, {}
    for number in range(-2, rounds):
        for name, run in found.items():
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            # So that the host is ahead of the device.
            torch.cuda._sleep(2_000_000)
            flush.zero_()
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            run()
            end.record()
            torch.cuda.synchronize()
            peaks[name] = torch.cuda.max_memory_allocated() - before
            if number >= 0:
                times[name].append(begin.elapsed_time(end))
    return {name: statistics.median(each) for name, each in times.items()}, peaks


def sweep(rows, classes, dtype, options):
    work = Work(rows, classes, dtype)
    size = work.x.element_size()
    records, whole, tile, loop = [], launch.WHOLE, launch.TILE, dict(launch.LOOP)
    (copy,) = timed({"copy": lambda: work.copy.copy_(work.x.detach())}, options.rounds)[0].values()
    print(f"\n[{rows}, {classes}] {dtype}: copy {copy:.3f} ms")
    width = 16 // size
    for warps in (4, 8, 16, 32):
        for vectors in (1, 2, 4):
            block = 32 * warps * width * vectors
            launch.WHOLE, launch.LOOP = 0, {size: (block, warps)}
            times, _ = timed({"both": work.xent, "loss": work.xent_loss}, options.rounds)
            both, loss = times.values()
            print(
                f"  {warps:2} warps, tile {block:6}: {both:8.3f} ms, of the copy {copy / both:.2f}; "
                f"loss alone {loss:8.3f} ms",
                flush=True,
            )
            records.append(
                {"classes": classes, "dtype": str(dtype), "tile": block, "warps": warps}
                | {"ms": both, "loss": loss, "copy": copy}
            )
    launch.WHOLE, launch.TILE, launch.LOOP = whole, tile, loop
    return records


if __name__ == "__main__":
    main()
