"""Bytes that loss and gradient move by PyTorch's operations, beside those of PyTorch's own loss.

    python examples/traffic.py [--rows 4096] [--classes 32000] [--operations "label smoothing"]

Operations on every logit take the time of their reads and writes, so these are counted, on the
meta device, which has shapes and no numbers: no GPU is needed, and a count is the same every
time. A dispatch mode sees every operation of a call and of its backward pass, and counts

- what an operation reads: each tensor that it is given, once; of an expanded tensor, its memory;
- what it writes: each tensor that it returns or changes;
- of gathers and scatters, only the elements that are named;
- nothing for views, and for new memory that is not filled.

"bytes" are these. "peak" is the most memory that was alive after an operation, with the gradient
and without what the caller holds: logits, targets, options. Both are in multiples of the logits'
bytes. "launches" are operations that are not views; a large batch has several times those of a
small one, because it is processed in pieces.

What a kernel does inside is not counted: a softmax reads once and writes once, though its kernel
may read a long row twice, and temporary memory of a kernel is not seen. Where the name says "by
hand", PyTorch has no such option, and its operations come before its loss.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from xent.torch.functional import cross_entropy

UNFILLED = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}


class Traffic(TorchDispatchMode):
    """Counts the bytes that operations move, by operation, and the most memory that was alive."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes: Counter[str] = Counter()
        self.launches: Counter[str] = Counter()
        self.peak = 0
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = operation(*args, **kwargs)
        name = operation._schema.name.removeprefix("aten::")
        if not operation.is_view and name not in UNFILLED:
            self.launches[name] += 1
            self.bytes[name] += moved(name, operation._schema, args, kwargs, tensors(result))
        known = {id_of(tensor) for tensor in tensors((args, kwargs))}
        for storage in (tensor.untyped_storage() for tensor in tensors(result)):
            if storage._cdata not in known:
                self._alive[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        self._alive = {key: it for key, it in self._alive.items() if not it[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self._alive.values()))
        return result


def moved(name: str, schema: Any, args: Any, kwargs: Any, returned: list[Tensor]) -> int:
    """Bytes that an operation reads and writes."""
    read: list[Tensor] = []
    written: list[Tensor] = []
    for argument, value in arguments(schema, args, kwargs):
        changes = argument.alias_info is not None and argument.alias_info.is_write
        if changes:
            written += tensors(value)
        if not (changes and argument.kwarg_only):  # not out=
            read += tensors(value)
    changed = {id_of(tensor) for tensor in written}
    written += [tensor for tensor in returned if id_of(tensor) not in changed]
    if name in ("fill_", "zero_"):
        read = read[1:]
    elif name in ("gather", "index_select", "nll_loss_forward"):
        # Of the first tensor, what is returned, or one element per row.
        elements = read[1].numel() if name == "nll_loss_forward" else returned[0].numel()
        return elements * read[0].element_size() + total(read[1:]) + total(written)
    elif name == "nll_loss_backward":
        read = [read[0], *read[2:]]  # not the logits
    elif name in ("scatter_", "index_fill_"):
        return total(read[1:]) + read[1].numel() * written[0].element_size()
    return total({id(tensor): tensor for tensor in read}.values()) + total(written)


def arguments(schema: Any, args: Any, kwargs: Any) -> Iterator[tuple[Any, Any]]:
    yield from zip(schema.arguments, args)
    yield from ((each, kwargs[each.name]) for each in schema.arguments if each.name in kwargs)


def tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def id_of(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def total(them: Any) -> int:
    """Bytes of memory: an axis that is expanded counts once."""
    return sum(
        torch.Size(
            n for n, stride in zip(tensor.shape, tensor.stride()) if stride or n == 0
        ).numel()
        * tensor.element_size()
        for tensor in them
    )


def cases(n: int, k: int) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Names, losses and options."""

    def meta(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.zeros(shape, dtype=dtype, device="meta")

    smoothing = {"label_smoothing": 0.1}
    yield "PyTorch: label smoothing", F.cross_entropy, smoothing
    yield "PyTorch: class weights", F.cross_entropy, {**smoothing, "weight": meta(k)}
    yield "PyTorch: probabilities", F.cross_entropy, {**smoothing, "target": meta(n, k)}
    yield "PyTorch: softcap by hand", by_hand, {**smoothing, "softcap": 30.0}
    yield "PyTorch: z-loss by hand", by_hand, {**smoothing, "z_loss": 1e-4}
    yield "no smoothing", cross_entropy, {}
    options = {
        "label smoothing": {},
        "nothing ignored": {"ignore_index": None},
        "reduction none": {"reduction": "none"},
        "reduction sum": {"reduction": "sum"},
        "statistics": {"return_stats": True},
        "wrong classes": {"prior": "wrong_classes"},
        "exclude": {"exclude": 0},
        "vector prior": {"prior": meta(k)},
        "matrix prior": {"prior": meta(k, k)},
        "two labels": {"target_b": meta(n, dtype=torch.int64), "lam": 0.3},
        "class weights": {"weight": meta(k)},
        "class weights per row": {"weight": meta(k), "weighting": "per_row"},
        "row weights": {"row_weight": meta(n)},
        "smoothing per row": {"label_smoothing": meta(n)},
        "ignored rows": {"ignored_rows": meta(n, dtype=torch.bool)},
        "mask [K]": {"allowed_classes": meta(k, dtype=torch.bool)},
        "mask [N, K]": {"allowed_classes": meta(n, k, dtype=torch.bool)},
        "renormalise": {"masked": "renormalise"},
        "softcap": {"softcap": 30.0},
        "temperature": {"temperature": 2.0},
        "z-loss": {"z_loss": 1e-4},
        "KL": {"form": "kl"},
        "probabilities": {"target": meta(n, k)},
    }
    for name, option in options.items():
        yield name, cross_entropy, {**smoothing, **option}


def by_hand(x: Tensor, target: Tensor, softcap: float = 0.0, z_loss: float = 0.0, **options: Any):
    if softcap:
        x = softcap * torch.tanh(x / softcap)
    loss = F.cross_entropy(x, target, **options)
    return loss + z_loss * x.logsumexp(-1).square().mean() if z_loss else loss


def count(loss: Any, options: dict[str, Any], n: int, k: int, dtype: torch.dtype) -> Traffic:
    """The traffic of a call and its backward pass; probabilities have the dtype of the logits."""
    logits = torch.zeros(n, k, dtype=dtype, device="meta", requires_grad=True)
    options = {"target": torch.zeros(n, dtype=torch.int64, device="meta"), **options}
    if options["target"].is_floating_point():
        options["target"] = options["target"].to(dtype)
    with Traffic() as traffic:
        result = loss(logits, **options)
        (result[0] if isinstance(result, tuple) else result).sum().backward()
    return traffic


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--classes", type=int, default=32000)
    parser.add_argument("--operations", metavar="NAME", help="what a row of the table consists of")
    given = parser.parse_args()
    n, k = given.rows, given.classes
    print(f"torch {torch.__version__}, loss and gradient of logits [{n}, {k}]")
    print(f"{'':26}  {'float32':>14}  {'bfloat16':>14}")
    print(f"{'':26}  {'bytes':>7} {'peak':>6}  {'bytes':>7} {'peak':>6}  {'launches':>8}")
    for name, loss, options in cases(n, k):
        if given.operations not in (None, name):
            continue
        columns = []
        for dtype in (torch.float32, torch.bfloat16):
            traffic, size = count(loss, options, n, k, dtype), n * k * dtype.itemsize
            columns.append(f"{traffic.bytes.total() / size:7.1f} {traffic.peak / size:6.2f}")
            for operation, some in traffic.bytes.most_common() if given.operations else ():
                if some > size / 100:
                    launches = traffic.launches[operation]
                    print(f"{dtype!s:>26}  {some / size:7.2f}  {operation}, {launches} times")
        print(f"{name:26}  {'  '.join(columns)}  {traffic.launches.total():8}")


if __name__ == "__main__":
    main()
