"""Logits that are a DTensor: each device computes its own rows, from what it holds of them.

Losses of rows add up, so that one number is sent between devices at most: the denominator of a mean.
Classes that are sharded, too, stay where they are (:mod:`._vocabulary`). With options that those do
not have, and where classes are sharded over several mesh dimensions, they are gathered first.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeGuard, cast

import torch
from torch import Tensor

from xent import options
from xent.errors import InvalidType, InvalidValue
from xent.torch import _arguments
from xent.torch._batch import Batch, Stats, is_differentiated, loss_dtype

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor, Placement

_PER_CLASS = ("input", "target", "allowed_classes")
_PER_ROW = ("target", "target_b", "lam", "row_weight", "ignored_rows", "label_smoothing")


def is_sharded(tensor: Any) -> TypeGuard[DTensor]:
    """Whether it is a DTensor, without importing what those need."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def cross_entropy(
    local: Callable[..., Any], logits: DTensor, *, return_stats: bool, **arguments: Any
) -> Tensor:
    """``local`` is the function for what one device has, with the same keywords."""
    from torch.distributed.tensor import DTensor, Partial, Replicate, Shard

    if return_stats:
        raise InvalidValue(
            "return_stats is True with logits that are a DTensor, expected False: the statistics are "
            "those of a batch, of which each device has a part"
        )
    axis = _arguments.class_axis(logits, arguments.pop("class_axis", None))
    _arguments.expect_valid(
        logits, axis, **{name: arguments[name] for name in _CHECKED if name in arguments}
    )
    mesh, rows = logits.device_mesh, logits.shape[:axis] + logits.shape[axis + 1 :]

    def of_rows(placement: Placement) -> bool:
        return isinstance(placement, Shard) and placement.dim % logits.dim() != axis

    def without_classes(placement: Placement) -> Placement:
        dim = placement.dim % logits.dim() if isinstance(placement, Shard) else 0
        return Shard(dim - (dim > axis)) if of_rows(placement) else Replicate()

    in_shards = _dim_of_classes(logits, axis, arguments)
    if in_shards is not None:
        arguments["process_group"] = mesh.get_group(in_shards)

    everywhere: list[Placement] = [Replicate()] * mesh.ndim
    as_logits: list[Placement] = [
        each if of_rows(each) or dim == in_shards else Replicate()
        for dim, each in enumerate(logits.placements)
    ]
    as_rows = [without_classes(each) for each in logits.placements]
    added: list[Placement] = [
        Partial() if of_rows(each) else Replicate() for each in logits.placements
    ]

    def part(name: str, tensor: Any) -> Any:
        if not isinstance(tensor, Tensor):
            return tensor
        if not isinstance(tensor, DTensor):
            raise InvalidType(f"{name} is a plain tensor, expected a DTensor as the logits are")
        placements, gradients = everywhere, added
        if name == "allowed_classes" and tensor.dim() == 1 and in_shards is not None:
            placements = [Shard(0) if dim == in_shards else Replicate() for dim in range(mesh.ndim)]
        if name in _PER_CLASS and tensor.shape == logits.shape:
            placements = gradients = as_logits
        elif name in _PER_ROW and tensor.dim() > 0:
            placements = gradients = as_rows
        return tensor.redistribute(mesh, placements).to_local(grad_placements=gradients)

    here = part("input", logits)
    arguments = {name: part(name, value) for name, value in arguments.items()}

    reduction = options.word("reduction", arguments["reduction"])
    if reduction == "none":
        loss = local(here, class_axis=axis, **arguments)
        return DTensor.from_local(
            loss, mesh, as_rows, run_check=False, shape=rows, stride=_contiguous(rows)
        )
    if reduction == "sum":
        loss = local(here, class_axis=axis, **arguments)
        return DTensor.from_local(loss, mesh, added, run_check=False)

    def summed(**changed: Any) -> tuple[Tensor, Stats]:
        keywords = {**arguments, "reduction": "sum", "class_axis": axis, **changed}
        # Under autocast a loss is float32 at least: the sum of what is a mean must not overflow.
        with torch.autocast(here.device.type, here.dtype, enabled=here.dtype.itemsize < 4):
            return cast("tuple[Tensor, Stats]", local(here, return_stats=True, **keywords))

    def over_devices(number: Tensor) -> Tensor:
        return DTensor.from_local(number, mesh, added, run_check=False).full_tensor()

    def mean(loss: Tensor, denominator: Tensor) -> Tensor:
        return _mean(
            loss, denominator, options.word("empty_mean", arguments.get("empty_mean", "nan"))
        )

    denominator = arguments.get("denominator", "pytorch")
    if not isinstance(denominator, str):
        loss = summed()[0] / denominator
    elif options.word("denominator", denominator) == "rows":
        loss, _ = summed()
        loss = mean(loss, torch.full((), rows.numel(), dtype=loss.dtype, device=loss.device))
    elif arguments.get("weight") is None or not arguments.get("z_loss"):
        loss, stats = summed()
        loss = mean(loss, over_devices(stats.denominator))
    else:
        # The z-loss is divided by another number (SEMANTICS.md S6); weights of 0 leave it alone.
        loss, stats = summed(z_loss=0.0)
        z_loss, _ = summed(weight=torch.zeros_like(arguments["weight"]))
        loss = mean(loss, over_devices(stats.denominator))
        loss = loss + mean(z_loss, over_devices(stats.lse.numel() - stats.ignored))
    loss = loss.to(loss_dtype(here, Batch(arguments["target"], weight=arguments["weight"])))
    return DTensor.from_local(loss, mesh, added, run_check=False)


_CHECKED = (
    "target",
    "weight",
    "label_smoothing",
    "prior",
    "denominator",
    "target_b",
    "lam",
    "row_weight",
    "ignored_rows",
    "allowed_classes",
)


def _mean(loss: Tensor, denominator: Tensor, empty_mean: str) -> Tensor:
    if empty_mean == "error" and denominator.item() == 0.0:
        raise InvalidValue("the denominator of the mean is 0: every row is ignored or has weight 0")
    if empty_mean == "zero":
        empty = denominator == 0.0
        return (loss / denominator.masked_fill(empty, 1.0)).masked_fill(empty, 0.0)
    return loss / denominator


def _contiguous(shape: torch.Size) -> tuple[int, ...]:
    return torch.empty(shape, device="meta").stride()


def _dim_of_classes(logits: DTensor, axis: int, arguments: dict[str, Any]) -> int | None:
    """The one mesh dimension over which classes are sharded, where they need not be gathered."""
    from torch.distributed.tensor import Shard

    dims = [
        dim
        for dim, each in enumerate(logits.placements)
        if isinstance(each, Shard) and each.dim % logits.dim() == axis
    ]
    target, prior = arguments["target"], arguments.get("prior")
    with_own_rows = isinstance(prior, Tensor) and prior.dim() == 2
    if len(dims) != 1 or target.dtype.is_floating_point or with_own_rows:
        return None
    if any(
        is_differentiated(arguments.get(name))
        for name in _CHECKED
        if isinstance(arguments.get(name), Tensor)
    ):
        return None
    return dims[0]
