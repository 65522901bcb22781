"""What a call may be given. Checked once, before a road is chosen, so that no road differs.

Types, dtypes, shapes and devices are compared here, and options in :mod:`xent.options`. No value of a
tensor is read: those are for the engine to judge, and NaN elsewhere (SEMANTICS.md S5).
"""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch import Tensor

from xent import options
from xent.errors import InvalidType, InvalidValue
from xent.options import shown
from xent.torch._batch import is_autocast

FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
INTEGERS = (
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.uint16,
    torch.uint32,
    torch.uint64,
)
NUMBERS = FLOATS + INTEGERS
BOOLS = (torch.bool,)
_WORDS = {
    FLOATS: "float32, float64, float16 or bfloat16",
    INTEGERS: "an integer dtype",
    NUMBERS: "a floating-point or integer dtype",
    BOOLS: "torch.bool",
}
# An attention mask, which is 1 where a row counts, is not taken for a mask of ignored rows.
_MASKS = {
    "ignored_rows": ", True where a row is ignored (attention_mask == 0)",
    "allowed_classes": ", True where a class is allowed",
}

Shape = tuple[int, ...]


def class_axis(logits: Any, given: Any, fewest: int = 1) -> int:
    """The axis of the classes, from the front; there are so many of them at least."""
    _expect_tensor("input", logits)
    if logits.dtype not in FLOATS:
        _wrong_dtype("input", logits, FLOATS)
    rank: int = logits.dim()
    if given is None:
        axis = 0 if rank == 1 else 1
    else:
        axis = options.integer("class_axis", given)
    if not -rank <= axis < rank:
        raise InvalidValue(
            f"input has shape {list(logits.shape)}, expected one with the class axis {axis}"
        )
    if logits.shape[axis] < fewest:
        raise InvalidValue(
            f"input has shape {list(logits.shape)}, expected at least 1 class on axis {axis}"
        )
    return axis % rank


def expect_valid(
    logits: Tensor,
    axis: int,
    target: Any,
    *,
    weight: Any = None,
    label_smoothing: Any = 0.0,
    prior: Any = "uniform",
    denominator: Any = "pytorch",
    target_b: Any = None,
    lam: Any = None,
    row_weight: Any = None,
    ignored_rows: Any = None,
    allowed_classes: Any = None,
) -> None:
    """Raises InvalidType or InvalidValue for whatever does not fit the logits; what is in options is left to them."""
    shape = logits.shape
    rows, classes = shape[:axis] + shape[axis + 1 :], shape[axis]
    _expect_tensor("target", target)
    if target.dtype in INTEGERS:
        if target.shape != rows:
            _wrong_target(target, logits, axis, rows)
    elif target.dtype not in FLOATS:
        raise InvalidType(
            f"target has dtype {target.dtype}, expected an integer dtype for class indices, or "
            f"{_WORDS[FLOATS]} for probabilities"
        )
    elif target_b is not None:
        raise InvalidType(
            f"target has dtype {target.dtype} beside target_b, expected class indices: target.long()"
        )
    elif target.shape != shape:
        _wrong_target(target, logits, axis, rows)
    if target.device != logits.device:
        _wrong_device("target", target, logits)
    if (target_b is None) != (lam is None):
        raise InvalidType(
            "a two-label mix needs both target_b and lam, the share of the first label; one of them is missing"
        )
    if target_b is not None:
        _expect("target_b", target_b, logits, axis, INTEGERS, rows)
        if isinstance(lam, Tensor):
            _expect("lam", lam, logits, axis, NUMBERS, rows, ())
        else:
            options.share(lam)
    if weight is not None:
        _expect("weight", weight, logits, axis, NUMBERS, (classes,))
    if isinstance(label_smoothing, Tensor):
        _expect("label_smoothing", label_smoothing, logits, axis, NUMBERS, rows, ())
    if isinstance(prior, Tensor):
        _expect("prior", prior, logits, axis, NUMBERS, (classes,), (classes, classes))
    elif not isinstance(prior, str):
        raise InvalidType(
            f"prior is {shown(prior)}, expected 'uniform', 'wrong_classes' or a tensor"
        )
    if isinstance(denominator, Tensor):
        _expect("denominator", denominator, logits, axis, NUMBERS, (), (1,))
    elif not isinstance(denominator, str):
        options.denominator(denominator)
    if row_weight is not None:
        _expect("row_weight", row_weight, logits, axis, NUMBERS, rows)
    if ignored_rows is not None:
        _expect("ignored_rows", ignored_rows, logits, axis, BOOLS, rows)
    if allowed_classes is not None:
        expect_allowed(logits, axis, allowed_classes)


def expect_allowed(logits: Tensor, axis: int, allowed: Any) -> None:
    _expect(
        "allowed_classes", allowed, logits, axis, BOOLS, (logits.shape[axis],), tuple(logits.shape)
    )


def chunk_rows(given: Any, of_pytorch: Any) -> int:
    """The rows of a chunk that a linear layer was given, 0 for none; PyTorch's options have another name for them."""
    if given is None:
        given = getattr(of_pytorch, "batch_chunk_size", None)
    if given is None:
        return 0
    rows = options.integer("chunk_rows", given)
    if rows < 1:
        raise InvalidValue(f"chunk_rows is {rows}, expected at least 1")
    return rows


def expect_layer(input: Any, weight: Any, bias: Any, fewest: int = 1) -> None:
    """Raises InvalidType or InvalidValue for what is no linear layer with its input; of so many classes at least."""
    given = {"input": input, "linear_weight": weight, "linear_bias": bias}
    for name, tensor in given.items():
        if name == "linear_bias" and tensor is None:
            continue
        _expect_tensor(name, tensor)
        if tensor.dtype not in FLOATS:
            _wrong_dtype(name, tensor, FLOATS)
        if tensor.device != input.device:
            raise InvalidValue(
                f"{name} is on {tensor.device}, expected {input.device}, the device of the input"
            )
        if tensor.dtype is not input.dtype and not is_autocast(input):
            raise InvalidType(
                f"{name} has dtype {tensor.dtype}, expected {input.dtype}, the dtype of the input; "
                "under torch.autocast they may differ"
            )
    if input.dim() == 0:
        raise InvalidValue("input has shape [], expected [..., D]")
    width = input.shape[-1]
    if weight.dim() < 2 or weight.shape[-1] != width or weight.shape[0] < fewest:
        hint = ""
        if weight.dim() == 1:
            hint = "; where FSDP has flattened or sharded it, call a module that owns it"
        elif weight.shape[0] == width:
            hint = "; it has the classes first, as nn.Linear has it"
        raise InvalidValue(
            f"linear_weight has shape {list(weight.shape)}, expected [K, {width}], for input of shape "
            f"{list(input.shape)}{hint}"
        )
    if bias is not None and bias.shape != weight.shape[:-1]:
        raise InvalidValue(
            f"linear_bias has shape {list(bias.shape)}, expected {list(weight.shape[:-1])}, for "
            f"linear_weight of shape {list(weight.shape)}"
        )
    if weight.dim() > 2 and input.dim() > 2:
        raise InvalidValue(
            f"input has shape {list(input.shape)}, expected [N, {width}], for linear_weight of shape "
            f"{list(weight.shape)}"
        )


def _expect(
    name: str,
    tensor: Any,
    logits: Tensor,
    axis: int,
    dtypes: tuple[torch.dtype, ...],
    *shapes: Shape,
) -> None:
    _expect_tensor(name, tensor)
    if tensor.dtype not in dtypes:
        _wrong_dtype(name, tensor, dtypes)
    if tensor.shape not in shapes:
        _wrong_shape(name, tensor, logits, axis, *shapes)
    if tensor.device != logits.device:
        _wrong_device(name, tensor, logits)


def _expect_tensor(name: str, value: Any) -> None:
    if not isinstance(value, Tensor):
        raise InvalidType(f"{name} is {shown(value)}, expected a tensor")
    if value.layout is not torch.strided:
        raise InvalidType(f"{name} has layout {value.layout}, expected torch.strided")


def _wrong_target(target: Tensor, logits: Tensor, axis: int, rows: Shape) -> NoReturn:
    """The mistakes that are made often are told apart."""
    shape, dtype = logits.shape, f" (dtype {target.dtype})"
    if target.dtype in FLOATS:
        hint = f"{dtype}; class indices have an integer dtype: target.long()"
        _wrong_shape(
            "target", target, logits, axis, shape, hint=hint if target.shape == rows else ""
        )
    hint = ""
    if target.shape == shape:
        hint = (
            f"{dtype}; one-hot vectors are probabilities, of a floating-point dtype: target.float()"
        )
    elif len(shape) > 2 and target.shape == shape[:-1]:
        hint = "; where the classes are on the last axis, give class_axis=-1"
    _wrong_shape("target", target, logits, axis, rows, hint=hint)


def _wrong_shape(
    name: str, tensor: Tensor, logits: Tensor, axis: int, *shapes: Shape, hint: str = ""
) -> NoReturn:
    expected = " or ".join(str(list(shape)) for shape in shapes)
    raise InvalidValue(
        f"{name} has shape {list(tensor.shape)}, expected {expected}, for logits of shape "
        f"{list(logits.shape)} with the classes on axis {axis}{hint}"
    )


def _wrong_dtype(name: str, tensor: Tensor, dtypes: tuple[torch.dtype, ...]) -> NoReturn:
    raise InvalidType(
        f"{name} has dtype {tensor.dtype}, expected {_WORDS[dtypes]}{_MASKS.get(name, '')}"
    )


def _wrong_device(name: str, tensor: Tensor, logits: Tensor) -> NoReturn:
    raise InvalidValue(
        f"{name} is on {tensor.device}, expected {logits.device}, the device of the logits"
    )
