#!/usr/bin/env python3
"""A large head with its loss: time, memory and exactness of xent, of PyTorch, and of the products alone.

    python examples/linear.py                     N = D = 1024, K = 32000 on one thread, a few minutes
    python examples/linear.py --device cuda       heads of language models, about two minutes
    python examples/linear.py --device cuda --shapes 8192x4096x128256 --chunks 1024 2048 4096

A step is loss and gradients. "Products alone" are the three matrix products in chunks of xent's size,
without a loss in between. Times are medians of interleaved rounds: of CPU seconds of the process, or of
CUDA events. Memory is the peak beyond what is there before the step, gradients included. Errors are
those of the largest entry (max), or of all (norm), against the same in float64.

On a GPU this needs torch and triton, and xent's Python alone: nothing has to be compiled.
"""

import argparse
import gc
import json
import pathlib
import statistics
import sys
import time
import types
import warnings

import torch
import torch.nn.functional as F

try:
    import xent
except ImportError:
    sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "python"))
    try:
        import xent
    except ImportError:
        # The engine is not there, which GPUs do not need. It has the words of options, too.
        stand_in = types.ModuleType("xent._xent")
        Words = type("Words", (dict,), {"get": lambda self, word: word})
        names = "reduction prior weighting masked denominator empty_mean form"
        stand_in.WORDS = {name: Words() for name in names.split()}
        stand_in.Criterion = stand_in.Output = object
        stand_in.__version__ = "without the engine"
        sys.modules["xent._xent"] = stand_in
        import xent

from xent.torch import _chunks, keep_gradient_memory
from xent.torch.functional import linear_cross_entropy

SMOOTHING = 0.1
SHAPES = {
    "cpu": ["1024x1024x32000"],
    "cuda": ["8192x4096x128256", "8192x2048x50257", "4096x1024x128256", "16384x2048x32000"],
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)  # fmt: skip
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--shapes", nargs="*", help="NxDxK: rows, width, classes")
    parser.add_argument("--dtype", help="float32 on the CPU, bfloat16 on a GPU, unless given")
    parser.add_argument("--chunks", type=int, nargs="*", default=[], help="rows of a chunk, to compare")  # fmt: skip
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--threads", type=int, default=1, help="on the CPU")
    parser.add_argument("--json", help="a file for all numbers")
    arguments = parser.parse_args()
    on_gpu = arguments.device == "cuda"
    if on_gpu and not torch.cuda.is_available():
        sys.exit("no GPU that PyTorch can use")
    torch.set_num_threads(arguments.threads)
    name = torch.cuda.get_device_name() if on_gpu else f"CPU, {arguments.threads} threads"
    print(f"{name}, torch {torch.__version__}, xent {xent.__version__}")
    dtype = getattr(torch, arguments.dtype or ("bfloat16" if on_gpu else "float32"))
    records = []
    for shape in arguments.shapes or SHAPES[arguments.device]:
        work = Work(*map(int, shape.split("x")), dtype, arguments.device)
        records += measure(work, arguments)
        if work.dtype.itemsize == 2:
            by_chunks(work)
        del work
        gc.collect()
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump({"device": name, "torch": torch.__version__, "records": records}, file, indent=1)  # fmt: skip


class Work:
    """What enters the head, the head, and labels; and a second set of labels, of which 40 % are ignored."""

    def __init__(self, rows, width, classes, dtype, device):
        torch.manual_seed(0)
        self.rows, self.width, self.classes, self.dtype, self.device = rows, width, classes, dtype, device  # fmt: skip
        self.h = torch.randn(rows, width, device=device).to(dtype).requires_grad_()
        weight = torch.randn(classes, width, device=device).mul_(width**-0.5)
        self.w = weight.to(dtype).requires_grad_()
        self.y = torch.randint(classes, (rows,), device=device)
        self.ignored = self.y.clone()
        self.ignored[torch.randperm(rows, device=device)[: rows * 2 // 5]] = -100

    def step(self, loss):
        loss.backward()
        found = loss.detach(), self.h.grad, self.w.grad
        self.h.grad = self.w.grad = None
        return found

    def xent(self, labels=None, smoothing=SMOOTHING, chunk_rows=None):
        labels = self.y if labels is None else labels
        return self.step(
            linear_cross_entropy(
                self.h, self.w, labels, label_smoothing=smoothing, chunk_rows=chunk_rows
            )
        )

    def xent_frozen(self):
        self.w.requires_grad_(False)
        try:
            return self.xent()
        finally:
            self.w.requires_grad_()

    def xent_loss(self):
        with torch.no_grad():
            return linear_cross_entropy(self.h, self.w, self.y, label_smoothing=SMOOTHING)

    def unfused(self, smoothing=SMOOTHING):
        return self.step(
            F.cross_entropy(F.linear(self.h, self.w), self.y, label_smoothing=smoothing)
        )

    def chunked(self):
        options = torch.nn.LinearCrossEntropyOptions()
        return self.step(F.linear_cross_entropy(self.h, self.w, self.y, options=options))

    @torch.no_grad()
    def products(self):
        """What xent multiplies, in its chunks and dtypes."""
        layer = _chunks.layer(self.h, self.w, None, self.dtype)
        halves = 0 if layer.factors is layer.logits else layer.factors.itemsize
        step = _chunks.rows_of_chunk(self.rows, self.classes, 0, self.device, layer.logits.itemsize + halves)  # fmt: skip
        logits = _chunks.new_logits(step, self.classes, layer.logits, self.h.device)
        gradient = logits
        if halves:
            gradient = torch.zeros(logits.stride(0) * step, dtype=layer.factors, device=self.device)
            gradient = gradient.as_strided(logits.shape, logits.stride())
        sums = _chunks.Sums(layer, _chunks.Wanted(True, True, False), None)
        for start in range(0, self.rows, step):
            h = layer.rows(_chunks._cut(None, start, min(step, self.rows - start)))
            z = logits[: len(h)]
            layer.write_logits(h, z)
            sums.add(gradient[: len(h)], h, start)
        return sums.weight.to(self.dtype), sums.input.to(self.dtype)

    @torch.no_grad()
    def exact(self):
        """Loss and gradients in float64, some rows at a time."""
        h, w = self.h.double(), self.w.double()
        dw, dh, total = torch.zeros_like(w), torch.empty_like(h), 0.0
        for start in range(0, self.rows, 256):
            part = slice(start, start + 256)
            z = h[part] @ w.t()
            p = z.softmax(1)
            target = torch.full_like(z, SMOOTHING / self.classes)
            target[torch.arange(len(z)), self.y[part]] += 1.0 - SMOOTHING
            total += -(target * z.log_softmax(1)).sum() / self.rows
            p.sub_(target).div_(self.rows)
            dw.addmm_(p.t(), h[part])
            torch.mm(p, w, out=dh[part])
        return total, dh, dw


def measure(work, arguments):
    found = {
        "products alone": work.products,
        "xent": work.xent,
        "xent, ε = 0": lambda: work.xent(smoothing=0.0),
        "xent, 40 % ignored": lambda: work.xent(work.ignored),
        "xent, frozen weight": work.xent_frozen,
        "xent, loss alone": work.xent_loss,
        "PyTorch, unfused": work.unfused,
    }
    if hasattr(torch.nn, "LinearCrossEntropyOptions"):
        # Its chunks know no label smoothing.
        found["PyTorch in chunks, ε = 0"] = work.chunked
    for rows in arguments.chunks:
        found[f"xent, chunks of {rows}"] = lambda rows=rows: work.xent(chunk_rows=rows)
    logits = work.rows * work.classes * work.h.element_size()
    print(
        f"\nN {work.rows}, D {work.width}, K {work.classes}, {work.dtype}; logits {logits / 2**20:.0f} MiB"
    )
    peaks, errors = {}, {}
    for name, function in list(found.items()):
        try:
            peaks[name] = peak(work, function)
        except torch.OutOfMemoryError:
            print(f"  {name}: out of memory")
            del found[name]
    exact = work.exact()
    for name in ("xent", "PyTorch, unfused"):
        if name in found:
            errors[name] = error(found[name](), exact)
    del exact
    times = timed(work, found, arguments.rounds or (10 if work.device == "cuda" else 7))
    reference = times["products alone"]
    records = []
    for name, seconds in times.items():
        print(
            f"  {name:26} {1e3 * seconds:9.1f} ms   {seconds / reference:5.3f} × the products"
            f"   peak {peaks[name] / 2**20:8.1f} MiB   {errors.get(name, '')}"
        )
        records.append({"rows": work.rows, "width": work.width, "classes": work.classes, "dtype": str(work.dtype), "name": name, "seconds": seconds, "peak": peaks[name]})  # fmt: skip
    sys.stdout.flush()
    return records


def error(found, exact):
    loss, *gradients = found
    words = [f"loss {abs(loss.double() - exact[0]).item() / exact[0].item():.1e}"]
    for name, mine, right in zip(("dH", "dW"), gradients, exact[1:]):
        difference = mine.double() - right
        of_max = (difference.abs().max() / right.abs().max()).item()
        of_norm = (difference.norm() / right.norm()).item()
        words.append(f"{name} {of_max:.1e} max, {of_norm:.5f} norm")
    return "; ".join(words)


def by_chunks(work):
    """The error of dW, by norm, for several numbers of chunks."""
    exact = work.exact()[2]
    words = []
    for chunks in (1, 8, 64, 512) if work.rows * work.classes < 1 << 29 else (8, 64, 512):
        mine = work.xent(chunk_rows=max(1, work.rows // chunks))[2].double()
        words.append(f"{((mine - exact).norm() / exact.norm()).item():.5f} in {chunks}")
        del mine
    print(f"  error of dW by norm, by chunks: {', '.join(words)}")


def peak(work, function):
    """Bytes beyond what is there, the results included."""
    keep_gradient_memory(False)
    gc.collect()
    try:
        if work.device == "cuda":
            function()  # what is compiled and kept
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            function()
            return torch.cuda.max_memory_allocated() - before
        function()
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
        before = status("VmRSS")
        function()
        return status("VmHWM") - before
    finally:
        keep_gradient_memory(True)


def status(name):
    with open("/proc/self/status") as file:
        [line] = [line for line in file if line.startswith(name)]
    return int(line.split()[1]) * 1024


def timed(work, found, rounds):
    times = {name: [] for name in found}
    for round in range(rounds + 1):
        for name, function in found.items():
            if work.device == "cuda":
                start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                start.record()
                function()
                end.record()
                end.synchronize()
                seconds = start.elapsed_time(end) / 1e3
            else:
                start = time.process_time()
                function()
                seconds = time.process_time() - start
            if round:  # the first is for what is compiled and kept
                times[name].append(seconds)
    return {name: statistics.median(values) for name, values in times.items()}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
