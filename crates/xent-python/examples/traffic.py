"""Bytes that loss and gradient move by PyTorch's own operations, option by option, beside PyTorch's own loss.

    python examples/traffic.py [--rows 4096] [--classes 32000] [--operations "label smoothing"]

Elementwise operations on a GPU take the time of their reads and writes, so these are counted, on the
meta device, which has shapes and no numbers: no GPU is needed, and the counts are exact. A dispatch mode
sees every operation of a call and of its backward pass, and counts

- what an operation reads: each tensor that it is given, once, of an expanded tensor only the memory it has;
- what it writes: each tensor that it returns or changes;
- of gathers and scatters, only the elements that are named;
- views and new memory that is not filled: nothing.

What a kernel does inside is not counted: a softmax is one read and one write. "peak" is the most memory
that was alive at a time beyond what the caller holds, the gradient included. Both are in multiples of the
logits' bytes. "launches" are operations other than views.

Rows whose name ends in "by hand" are PyTorch's loss on what PyTorch has no option for.
"""

from __future__ import annotations

import argparse
from collections import Counter

import torch
import torch.nn.functional as F
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from xent.torch.functional import cross_entropy

UNFILLED = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}
FILLS = {"fill_", "zero_"}  # write without reading
NAMED_READS = {
    "gather",
    "index_select",
    "nll_loss_forward",
}  # of their first tensor as many as they return, or as rows
NAMED_WRITES = {"scatter_", "scatter_add_", "index_fill_"}
UNREAD = {"nll_loss_backward"}  # their logits


class Traffic(TorchDispatchMode):
    """Counts the bytes that operations read and write, and the most memory alive at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes: Counter[str] = Counter()
        self.launches: Counter[str] = Counter()
        self.alive: dict[int, StorageWeakRef] = {}
        self.sizes: dict[int, int] = {}
        self.peak = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        name = operation._schema.name.removeprefix("aten::")
        given, returned = tensors((args, kwargs)), tensors(result)
        if not operation.is_view and name not in UNFILLED:
            self.launches[name] += 1
            self.bytes[name] += moved(operation, name, args, kwargs or {}, returned)
        known = {id_of(tensor) for tensor in given}
        for tensor in returned:
            if id_of(tensor) not in known:
                storage = tensor.untyped_storage()
                self.alive[id_of(tensor)] = StorageWeakRef(storage)
                self.sizes[id_of(tensor)] = storage.nbytes()
        self.alive = {key: ref for key, ref in self.alive.items() if not ref.expired()}
        self.peak = max(self.peak, sum(self.sizes[key] for key in self.alive))
        return result


def tensors(tree):
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def id_of(tensor):
    return tensor.untyped_storage()._cdata


def memory(tensor):
    """Bytes of the memory that a tensor has: an expanded axis counts once."""
    elements = 1
    for size, stride in zip(tensor.shape, tensor.stride()):
        elements *= size if stride else min(size, 1)
    return elements * tensor.element_size()


def moved(operation, name, args, kwargs, returned):
    changed = [
        value
        for argument, value in arguments(operation, args, kwargs)
        if argument.alias_info is not None and argument.alias_info.is_write
    ]
    changed = tensors(changed)
    places = {(id_of(tensor), tensor.storage_offset()) for tensor in changed}
    read = [
        value
        for argument, value in arguments(operation, args, kwargs)
        if not argument.kwarg_only or argument.alias_info is None
    ]
    read = tensors(read)
    if name in FILLS:
        read = read[1:]
    if name in UNREAD:
        return sum(map(memory, [read[0], *read[2:], *returned]))
    if name in NAMED_READS:
        rows = returned[0].numel() if name != "nll_loss_forward" else read[1].numel()
        return rows * read[0].element_size() + sum(map(memory, [*read[1:], *returned]))
    if name in NAMED_WRITES:
        index = next(tensor for tensor in read if tensor.dtype is torch.int64)
        return 2 * memory(index) // 8 * changed[0].element_size() + memory(index)
    new = [tensor for tensor in returned if (id_of(tensor), tensor.storage_offset()) not in places]
    unique = {id(tensor): tensor for tensor in read}.values()
    return sum(map(memory, [*unique, *changed, *new]))


def arguments(operation, args, kwargs):
    schema = operation._schema.arguments
    yield from zip(schema, args)
    for argument in schema:
        if argument.name in kwargs:
            yield argument, kwargs[argument.name]


def cases(n, k):
    """Names, options, and whether PyTorch's own loss is meant."""

    def meta(*shape, dtype=torch.float32):
        return torch.zeros(shape, dtype=dtype, device="meta")

    smoothing = {"label_smoothing": 0.1}
    bools = {"dtype": torch.bool}
    yield "PyTorch: label smoothing", smoothing, F.cross_entropy
    yield "PyTorch: class weights", {**smoothing, "weight": meta(k)}, F.cross_entropy
    yield "PyTorch: probabilities", {**smoothing, "target": meta(n, k)}, F.cross_entropy
    yield "PyTorch: softcap by hand", {**smoothing, "softcap": 30.0}, by_hand
    yield "PyTorch: z-loss by hand", {**smoothing, "z_loss": 1e-4}, by_hand
    yield "no smoothing", {}, cross_entropy
    options = {
        "label smoothing": {},
        "reduction none": {"reduction": "none"},
        "reduction sum": {"reduction": "sum"},
        "nothing ignored": {"ignore_index": None},
        "statistics": {"return_stats": True},
        "wrong classes": {"prior": "wrong_classes"},
        "exclude": {"exclude": 0},
        "vector prior": {"prior": meta(k)},
        "matrix prior": {"prior": meta(k, k)},
        "two labels": {"target_b": meta(n, dtype=torch.int64), "lam": 0.3},
        "class weights": {"weight": meta(k)},
        "class weights per row": {"weight": meta(k), "weighting": "per_row"},
        "row weights": {"row_weight": meta(n)},
        "epsilon per row": {"label_smoothing": meta(n)},
        "ignored rows": {"ignored_rows": meta(n, **bools)},
        "mask [K]": {"allowed_classes": meta(k, **bools)},
        "mask [N, K]": {"allowed_classes": meta(n, k, **bools)},
        "renormalise": {"masked": "renormalise"},
        "softcap": {"softcap": 30.0},
        "temperature": {"temperature": 2.0},
        "z-loss": {"z_loss": 1e-4},
        "KL": {"form": "kl"},
        "probabilities": {"target": meta(n, k)},
    }
    for name, more in options.items():
        yield name, {**smoothing, **more}, cross_entropy


def by_hand(x, target, softcap=None, z_loss=0.0, **options):
    if softcap is not None:
        x = softcap * torch.tanh(x / softcap)
    loss = F.cross_entropy(x, target, **options)
    return loss + z_loss * x.logsumexp(-1).square().mean() if z_loss else loss


def count(loss, n, k, dtype, options):
    logits = torch.zeros(n, k, dtype=dtype, device="meta", requires_grad=True)
    options = {"target": torch.zeros(n, dtype=torch.int64, device="meta"), **options}
    if options["target"].is_floating_point():
        options["target"] = options["target"].to(dtype)
    for _ in range(2):  # the first call of a criterion makes what is kept
        logits.grad = None
        with Traffic() as traffic:
            result = loss(logits, **options)
            (result[0] if isinstance(result, tuple) else result).sum().backward()
            del result
    size = logits.numel() * logits.element_size()
    return traffic, size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--classes", type=int, default=32000)
    parser.add_argument(
        "--operations", metavar="NAME", help="list the operations of one row of the table"
    )
    given = parser.parse_args()
    n, k = given.rows, given.classes
    print(
        f"torch {torch.__version__}, logits [{n}, {k}], loss + backward, in multiples of the logits' bytes"
    )
    print(f"{'':>26}  {'float32':>14}  {'bfloat16':>14}")
    print(f"{'':>26}  {'bytes':>7} {'peak':>6}  {'bytes':>7} {'peak':>6}  {'launches':>8}")
    for name, options, loss in cases(n, k):
        if given.operations not in (None, name):
            continue
        columns = []
        for dtype in (torch.float32, torch.bfloat16):
            traffic, size = count(loss, n, k, dtype, options)
            columns.append(f"{traffic.bytes.total() / size:7.1f} {traffic.peak / size:6.2f}")
            if given.operations:
                for operation, moved_bytes in traffic.bytes.most_common():
                    if moved_bytes > size / 1000:
                        print(
                            f"{operation:>26}  {moved_bytes / size:7.2f}  ×{traffic.launches[operation]}"
                        )
        print(f"{name:>26}  {'  '.join(columns)}  {traffic.launches.total():>8}")


if __name__ == "__main__":
    main()
