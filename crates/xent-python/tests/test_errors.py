"""Every mistake is a ValueError, TypeError or IndexError that says what came and what was expected."""

import numpy as np
import pytest
import torch

import xent.numpy
import xent.torch
from xent.torch import _autograd
from xent.torch.functional import cross_entropy

X = torch.zeros(3, 4)
Y = torch.tensor([0, 1, 2])
NAN = float("nan")


# What is wrong with a type, a dtype, a shape, a device or an option, every road says in the same words.
MISTAKES = [
    ({"label_smoothing": -0.1}, ValueError, r"label_smoothing is -0\.1, expected 0 ≤ ε ≤ 1"),
    ({"label_smoothing": NAN}, ValueError, "label_smoothing is nan, expected 0 ≤ ε ≤ 1"),
    ({"label_smoothing": 1.5}, ValueError, r"label_smoothing is 1\.5"),
    ({"label_smoothing": "0.1"}, TypeError, r"label_smoothing is '0\.1', expected a number"),
    ({"label_smoothing": True}, TypeError, "label_smoothing is True, expected a number"),
    ({"label_smoothing": None}, TypeError, "label_smoothing is None, expected a number"),
    ({"label_smoothing": [0.1]}, TypeError, "label_smoothing is of type list, expected a number"),
    ({"label_smoothing": torch.zeros(4)}, ValueError, r"label_smoothing has shape \[4\], expected \[3\] or \[\]"),
    ({"label_smoothing": torch.zeros(3, dtype=torch.bool)}, TypeError, "label_smoothing has dtype torch.bool"),
    ({"target": torch.zeros(1, dtype=torch.int64).expand(1 << 50)}, ValueError, "target has shape"),
    ({"weight": torch.zeros(1).expand(1 << 50)}, ValueError, "weight has shape"),
    ({"prior": torch.zeros(1, 1).expand(1 << 25, 1 << 25)}, ValueError, "prior has shape"),
    ({"target": torch.tensor([0, 1])}, ValueError, r"target has shape \[2\], expected \[3\], for logits of shape \[3, 4\]"),
    ({"target": torch.zeros(3, 4, dtype=torch.int64)}, ValueError, r"target has shape \[3, 4\], expected \[3\], .*target\.float\(\)"),
    ({"target": torch.zeros(3)}, ValueError, r"target has shape \[3\], expected \[3, 4\], .*target\.long\(\)"),
    ({"target": torch.zeros(3, 5)}, ValueError, r"target has shape \[3, 5\], expected \[3, 4\], [^;]*$"),
    ({"input": torch.zeros(3, 5, 4), "target": torch.zeros(3, 5, dtype=torch.int64)}, ValueError, r"target has shape \[3, 5\], expected \[3, 4\], .*class_axis=-1"),
    ({"target": torch.zeros(3, dtype=torch.bool)}, TypeError, "target has dtype torch.bool, expected an integer dtype"),
    ({"target": torch.zeros(3, dtype=torch.complex64)}, TypeError, "target has dtype torch.complex64"),
    ({"target": [0, 1, 2]}, TypeError, "target is of type list, expected a tensor"),
    ({"target": None}, TypeError, "target is None, expected a tensor"),
    ({"target": Y.to("meta")}, ValueError, "target is on meta, expected cpu"),
    ({"target": Y.to_sparse()}, TypeError, "target has layout torch.sparse_coo"),
    ({"target": torch.zeros(3, 4), "ignore_index": 1}, ValueError, "ignore_index is 1 with target probabilities"),
    ({"target": torch.zeros(3, 4), "target_b": Y, "lam": 0.5}, TypeError, r"target has dtype torch.float32 beside target_b, expected class indices: target\.long\(\)"),
    ({"input": [[0.0, 1.0]]}, TypeError, "input is of type list, expected a tensor"),
    ({"input": None}, TypeError, "input is None, expected a tensor"),
    ({"input": torch.zeros(3, 4, dtype=torch.int64)}, TypeError, "input has dtype torch.int64, expected float32"),
    ({"input": torch.zeros(3, 4, dtype=torch.complex64)}, TypeError, "input has dtype torch.complex64"),
    ({"input": X.to(torch.float8_e5m2)}, TypeError, "input has dtype torch.float8_e5m2"),
    ({"input": X.to_sparse()}, TypeError, "input has layout torch.sparse_coo, expected torch.strided"),
    ({"input": torch.zeros(3, 0)}, ValueError, r"input has shape \[3, 0\], expected at least 1 class on axis 1"),
    ({"input": torch.tensor(1.0)}, ValueError, r"input has shape \[\], expected one with the class axis 1"),
    ({"class_axis": 2}, ValueError, "class axis 2"),
    ({"class_axis": 1.0}, TypeError, r"class_axis is 1\.0, expected an integer"),
    ({"class_axis": True}, TypeError, "class_axis is True, expected an integer"),
    ({"weight": torch.ones(3)}, ValueError, r"weight has shape \[3\], expected \[4\]"),
    ({"weight": torch.ones(4, dtype=torch.bool)}, TypeError, "weight has dtype torch.bool"),
    ({"weight": [1.0, 1.0, 1.0, 1.0]}, TypeError, "weight is of type list, expected a tensor"),
    ({"weight": torch.ones(4, device="meta")}, ValueError, "weight is on meta, expected cpu, the device of the logits"),
    ({"row_weight": torch.ones(4)}, ValueError, r"row_weight has shape \[4\], expected \[3\]"),
    ({"row_weight": torch.ones(3, dtype=torch.bool)}, TypeError, "row_weight has dtype torch.bool, expected a floating-point or integer dtype"),
    ({"row_weight": [1.0, 1.0, 1.0]}, TypeError, "row_weight is of type list, expected a tensor"),
    ({"row_weight": torch.ones(3, device="meta")}, ValueError, "row_weight is on meta"),
    ({"ignored_rows": torch.zeros(3)}, TypeError, "ignored_rows has dtype torch.float32, expected torch.bool"),
    ({"ignored_rows": torch.tensor([1, 1, 0])}, TypeError, r"ignored_rows has dtype torch.int64, expected torch.bool, True where a row is ignored \(attention_mask == 0\)"),
    ({"ignored_rows": torch.tensor([1, 1, 0], dtype=torch.uint8)}, TypeError, "ignored_rows has dtype torch.uint8"),
    ({"ignored_rows": torch.ones(4, dtype=torch.bool)}, ValueError, r"ignored_rows has shape \[4\], expected \[3\]"),
    ({"ignored_rows": [True, True, False]}, TypeError, "ignored_rows is of type list"),
    ({"ignored_rows": torch.ones(3, dtype=torch.bool, device="meta")}, ValueError, "ignored_rows is on meta"),
    ({"allowed_classes": torch.ones(4)}, TypeError, "allowed_classes has dtype torch.float32, expected torch.bool"),
    ({"allowed_classes": torch.ones(4, dtype=torch.uint8)}, TypeError, "allowed_classes has dtype torch.uint8"),
    ({"allowed_classes": torch.ones(3, dtype=torch.bool)}, ValueError, r"allowed_classes has shape \[3\], expected \[4\] or \[3, 4\]"),
    ({"allowed_classes": [True] * 4}, TypeError, "allowed_classes is of type list"),
    ({"allowed_classes": torch.ones(4, dtype=torch.bool, device="meta")}, ValueError, "allowed_classes is on meta"),
    ({"prior": "unigram"}, ValueError, "prior is 'unigram', expected 'uniform', 'wrong_classes'"),
    ({"prior": 0.5}, TypeError, r"prior is 0\.5, expected 'uniform', 'wrong_classes' or a tensor"),
    ({"prior": None}, TypeError, "prior is None, expected 'uniform'"),
    ({"prior": [0.25] * 4}, TypeError, "prior is of type list, expected 'uniform'"),
    ({"prior": torch.ones(2, 3, 4)}, ValueError, r"prior has shape \[2, 3, 4\], expected \[4\] or \[4, 4\]"),
    ({"prior": torch.ones(4, dtype=torch.bool)}, TypeError, "prior has dtype torch.bool"),
    ({"prior": torch.full((4,), 0.25, device="meta")}, ValueError, "prior is on meta"),
    ({"exclude": -1}, ValueError, "exclude is -1, expected at least 0"),
    ({"exclude": 1, "prior": torch.full((4,), 0.25)}, ValueError, "exclude is 1 with a prior"),
    ({"exclude": 1.5}, TypeError, "exclude is 1.5, expected an integer"),
    ({"ignore_index": 2**63}, ValueError, "ignore_index is 9223372036854775808"),
    ({"ignore_index": True}, TypeError, "ignore_index is True, expected an integer, several or None"),
    ({"ignore_index": [1, True]}, TypeError, "ignore_index is .*True.*, expected an integer"),
    ({"ignore_index": 1.0}, TypeError, r"ignore_index is 1\.0, expected an integer"),
    ({"ignore_index": "1"}, TypeError, "ignore_index is '1', expected an integer"),
    ({"ignore_index": torch.tensor(True)}, TypeError, "ignore_index is .*True.*, expected an integer"),
    ({"reduction": "average"}, ValueError, "reduction is 'average', expected 'none', 'sum', 'mean'"),
    ({"reduction": None}, ValueError, "reduction is None, expected 'none', 'sum', 'mean'"),
    ({"reduction": ["mean"]}, ValueError, "reduction is of type list, expected 'none', 'sum', 'mean'"),
    ({"form": 1}, ValueError, "form is 1, expected 'cross_entropy'"),
    ({"denominator": 0.0}, ValueError, r"denominator is 0\.0, expected a finite number > 0"),
    ({"denominator": "tokens"}, ValueError, "denominator is 'tokens', expected 'pytorch'"),
    ({"denominator": None}, TypeError, "denominator is None, expected a number"),
    ({"denominator": [4.0]}, TypeError, "denominator is of type list, expected a number"),
    ({"denominator": torch.ones(2)}, ValueError, r"denominator has shape \[2\], expected \[\] or \[1\]"),
    ({"denominator": torch.tensor(True)}, TypeError, "denominator has dtype torch.bool"),
    ({"denominator": torch.tensor(4.0, device="meta")}, ValueError, "denominator is on meta"),
    ({"lam": 0.5}, TypeError, "one of them is missing"),
    ({"target_b": Y}, TypeError, "one of them is missing"),
    ({"target_b": Y, "lam": 1.5}, ValueError, r"lam is 1\.5, expected 0 ≤ λ ≤ 1"),
    ({"target_b": Y, "lam": "0.5"}, TypeError, r"lam is '0\.5', expected a number"),
    ({"target_b": Y, "lam": [0.5] * 3}, TypeError, "lam is of type list, expected a number"),
    ({"target_b": Y, "lam": torch.ones(4)}, ValueError, r"lam has shape \[4\], expected \[3\] or \[\]"),
    ({"target_b": Y, "lam": torch.ones(3, dtype=torch.bool)}, TypeError, "lam has dtype torch.bool"),
    ({"target_b": Y, "lam": torch.ones(3, device="meta")}, ValueError, "lam is on meta"),
    ({"target_b": [0, 1, 2], "lam": 0.5}, TypeError, "target_b is of type list, expected a tensor"),
    ({"target_b": Y.float(), "lam": 0.5}, TypeError, "target_b has dtype torch.float32, expected an integer dtype"),
    ({"target_b": Y[:2], "lam": 0.5}, ValueError, r"target_b has shape \[2\], expected \[3\]"),
    ({"target_b": Y.to("meta"), "lam": 0.5}, ValueError, "target_b is on meta"),
    ({"softcap": 0.0}, ValueError, r"softcap is 0\.0, expected a finite number > 0"),
    ({"softcap": "30"}, TypeError, "softcap is '30', expected a number"),
    ({"softcap": torch.tensor(30.0)}, TypeError, "softcap is of type Tensor, expected a number, as a tensor would not be differentiated: to learn"),
    ({"temperature": float("inf")}, ValueError, "temperature is inf, expected a finite number > 0"),
    ({"temperature": None}, TypeError, "temperature is None, expected a number"),
    ({"temperature": torch.nn.Parameter(torch.tensor(1.0))}, TypeError, "temperature is of type Parameter, .*to learn a temperature, divide the logits by it"),
    ({"z_loss": -1.0}, ValueError, r"z_loss is -1\.0, expected a finite number ≥ 0"),
    ({"z_loss": torch.tensor(1e-4, requires_grad=True)}, TypeError, "z_loss is of type Tensor, expected a number"),
]  # fmt: skip

# A value in a tensor is read by the engine alone.
BAD_VALUES = [
    ({"label_smoothing": torch.tensor([0.1, 2.0, 0.1])}, ValueError, "label_smoothing of row 1 is 2"),
    ({"target": torch.tensor([0, 4, 1])}, IndexError, r"target 4 in row 1 is outside 0\.\.4"),
    ({"target": torch.tensor([0, -1, 1])}, IndexError, "target -1 in row 1 .*if it marks padding"),
    ({"target": torch.tensor([0, 1, 2**63 - 1])}, IndexError, "target 9223372036854775807 in row 2"),
    ({"target": torch.full((3, 4), -0.5)}, ValueError, "probability of class 0 in row 0 is -0.5"),
    ({"target": torch.full((3, 4), NAN)}, ValueError, "probability of class 0 in row 0 is NaN"),
    ({"weight": torch.tensor([1, NAN, 1, 1])}, ValueError, "the weight of class 1 is NaN"),
    ({"row_weight": torch.tensor([1.0, -1, 1])}, ValueError, "the weight of row 1 is -1"),
    ({"prior": torch.ones(4)}, ValueError, "the prior sums to 4, expected 1"),
    ({"prior": torch.ones(4).half()}, ValueError, "the prior sums to 4, expected 1"),
    ({"denominator": torch.tensor(-1.0)}, ValueError, "denominator is -1"),
    ({"target_b": Y, "lam": torch.tensor(1.5)}, ValueError, "lam of row 0 is 1.5"),
    ({"empty_mean": "error", "ignored_rows": torch.ones(3, dtype=torch.bool)}, ValueError, "denominator is 0: 3 of 3 rows are ignored"),
]  # fmt: skip


def call(options, **further):
    options = {"input": X, "target": Y, **options, **further}
    return cross_entropy(**options)


def needs_gradient(options):
    logits = options.get("input", X)
    if isinstance(logits, torch.Tensor) and logits.is_floating_point():
        options = {**options, "input": logits.detach().requires_grad_()}
    return options


@pytest.fixture(params=["engine", "autograd", "composed", "compiled"])
def road(request, monkeypatch):
    if request.param == "composed":
        monkeypatch.setattr(_autograd, "sees", lambda *tensors: False)
    if request.param == "autograd":
        return lambda options: call(needs_gradient(options))
    if request.param == "compiled":
        torch._dynamo.reset()
        return torch.compile(call, backend="eager")
    return call


@pytest.mark.parametrize(("options", "error", "message"), MISTAKES, ids=str)
def test_mistakes_on_every_road(road, options, error, message):
    with pytest.raises(error, match=message) as caught:
        road(options)
    assert isinstance(caught.value, RuntimeError)


@pytest.mark.parametrize(("options", "error", "message"), BAD_VALUES, ids=str)
@pytest.mark.parametrize(
    "prepare", [lambda options: options, needs_gradient], ids=["engine", "autograd"]
)
def test_values_that_the_engine_reads(prepare, options, error, message):
    with pytest.raises(error, match=message) as caught:
        call(prepare(options))
    assert isinstance(caught.value, RuntimeError)


def test_a_class_that_the_logits_do_not_have(road):
    with pytest.raises(IndexError, match="names class 4, but the logits have 4 classes"):
        road({"exclude": 4, "label_smoothing": 0.1})


LOGITS = np.zeros((3, 4))


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((np.zeros((3, 4), int), [0, 1, 2]), {}, TypeError, "logits has dtype int64"),
        ((np.zeros((3, 4), complex), [0, 1, 2]), {}, TypeError, "logits has dtype complex128, expected numbers"),
        ((np.array([["a"]]), [0]), {}, TypeError, "logits has dtype <U1, expected numbers"),
        ((None, [0]), {}, TypeError, "logits has dtype object, expected numbers"),
        ((LOGITS, None), {}, TypeError, "targets has dtype object, expected numbers"),
        ((LOGITS, [0.5, 1, 2]), {}, ValueError, r"targets has dtype float64 and the shape of the rows, expected an integer dtype for class indices, or probabilities of shape \[3, 4\]"),
        ((LOGITS, np.zeros((3, 5))), {}, ValueError, r"targets has shape \[3, 5\], expected \[3, 4\]"),
        ((LOGITS, [0, 1]), {}, ValueError, r"targets has shape \[2\], expected \[3\]"),
        ((LOGITS, [True, False, True]), {}, TypeError, "targets has dtype bool, expected an integer dtype"),
        ((LOGITS, [0, 1, 4]), {}, IndexError, "target 4 in row 2"),
        ((LOGITS, np.array([0, 1, 2**64 - 1], np.uint64)), {}, IndexError, "in row 2"),
        ((torch.zeros(3, 4, device="meta"), [0, 1, 2]), {}, TypeError, "does not export DLPack: Cannot pack tensors on meta"),
        ((LOGITS, [0, 1, 2]), {"label_smoothing": "0.1"}, TypeError, r"label_smoothing is '0\.1', expected a number"),
        ((LOGITS, [0, 1, 2]), {"label_smoothing": np.array("0.1")}, TypeError, r"label_smoothing is '0\.1', expected a number"),
        ((LOGITS, [0, 1, 2]), {"label_smoothing": True}, TypeError, "label_smoothing is True, expected a number"),
        ((LOGITS, [0, 1, 2]), {"label_smoothing": None}, TypeError, "label_smoothing is None, expected a number"),
        ((LOGITS, [0, 1, 2]), {"label_smoothing": -0.1}, ValueError, r"label_smoothing is -0\.1, expected 0 ≤ ε ≤ 1"),
        ((LOGITS, [0, 1, 2]), {"label_smoothing": [0.1, 2.0, 0.1]}, ValueError, "label_smoothing of row 1 is 2"),
        ((LOGITS, [0, 1, 2]), {"label_smoothing": [0.1, 0.2]}, ValueError, r"label_smoothing has shape \[2\], expected \[3\]"),
        ((LOGITS, [0, 1, 2]), {"label_smoothing": [True, True, False]}, TypeError, "label_smoothing has dtype bool, expected numbers"),
        ((LOGITS, [0, 1, 2]), {"class_weights": [1.0, 1.0]}, ValueError, r"class_weights has shape \[2\], expected \[4\]"),
        ((LOGITS, [0, 1, 2]), {"class_weights": [True] * 4}, TypeError, "class_weights has dtype bool, expected numbers"),
        ((LOGITS, [0, 1, 2]), {"class_weights": [1.0, NAN, 1.0, 1.0]}, ValueError, "the weight of class 1 is NaN"),
        ((LOGITS, [0, 1, 2]), {"row_weights": [True] * 3}, TypeError, "row_weights has dtype bool, expected numbers"),
        ((LOGITS, [0, 1, 2]), {"row_weights": [1.0]}, ValueError, r"row_weights has shape \[1\], expected \[3\]"),
        ((LOGITS, [0, 1, 2]), {"row_weights": [1.0, -1.0, 1.0]}, ValueError, "the weight of row 1 is -1"),
        ((LOGITS, [0, 1, 2]), {"ignored_rows": [1, 1, 0]}, TypeError, "ignored_rows has dtype int64, expected bool"),
        ((LOGITS, [0, 1, 2]), {"ignored_rows": np.array([1, 1, 0], np.uint8)}, TypeError, "ignored_rows has dtype uint8, expected bool"),
        ((LOGITS, [0, 1, 2]), {"ignored_rows": [True]}, ValueError, r"ignored_rows has shape \[1\], expected \[3\]"),
        ((LOGITS, [0, 1, 2]), {"allowed_classes": np.ones(4, np.uint8)}, TypeError, "allowed_classes has dtype uint8, expected bool"),
        ((LOGITS, [0, 1, 2]), {"allowed_classes": [True]}, ValueError, r"allowed_classes has shape \[1\], expected \[4\]"),
        ((LOGITS, [0, 1, 2]), {"prior": 0.5}, TypeError, r"prior is 0\.5, expected 'uniform', 'wrong_classes' or an array"),
        ((LOGITS, [0, 1, 2]), {"prior": [0.5, 0.5]}, ValueError, r"prior has shape \[2\], expected \[4\]"),
        ((LOGITS, [0, 1, 2]), {"prior": [True, False, False, False]}, TypeError, "prior has dtype bool, expected numbers"),
        ((LOGITS, [0, 1, 2]), {"denominator": [4.0, 5.0]}, TypeError, "denominator is of type list, expected a number"),
        ((LOGITS, [0, 1, 2]), {"denominator": None}, TypeError, "denominator is None, expected a number"),
        ((LOGITS, [0, 1, 2]), {"denominator": 0}, ValueError, r"denominator is 0\.0, expected a finite number > 0"),
        ((LOGITS, [0, 1, 2]), {"lam": 0.5}, TypeError, "both second_targets and lam"),
        ((LOGITS, [0, 1, 2]), {"lam": "0.5", "second_targets": [0, 1, 2]}, TypeError, r"lam is '0\.5', expected a number"),
        ((LOGITS, [0, 1, 2]), {"lam": 1.5, "second_targets": [0, 1, 2]}, ValueError, r"lam is 1\.5, expected 0 ≤ λ ≤ 1"),
        ((LOGITS, [0, 1, 2]), {"lam": 0.5, "second_targets": [0.0, 1.0, 2.0]}, TypeError, "second_targets has dtype float64, expected an integer dtype"),
        ((LOGITS, [0, 1, 2]), {"upstream": "2"}, TypeError, "upstream is '2', expected a number"),
        ((LOGITS, [0, 1, 2]), {"ignore_index": True}, TypeError, "ignore_index is True, expected an integer"),
        ((LOGITS, [0, 1, 2]), {"temperature": "1"}, TypeError, "temperature is '1', expected a number"),
        ((LOGITS, [0, 1, 2]), {"class_axis": 1.0}, TypeError, r"class_axis is 1\.0, expected an integer"),
        ((LOGITS, [0, 1, 2]), {"class_axis": 2}, ValueError, "class axis 2 of a shape with 2 axes"),
        ((LOGITS, [0, 1, 2]), {"threads": 0}, ValueError, "threads is 0, expected at least 1"),
        ((LOGITS, [0, 1, 2]), {"threads": "2"}, TypeError, "threads is '2', expected an integer"),
        ((LOGITS, [0, 1, 2]), {"thread": 1}, TypeError, "unexpected keyword argument 'thread'"),
    ],
    ids=str,
)  # fmt: skip
def test_mistakes_with_numpy(arguments, options, error, message):
    with pytest.raises(error, match=message) as caught:
        xent.numpy.cross_entropy_with_grad(*arguments, **options)
    assert isinstance(caught.value, RuntimeError)


def test_what_is_read_is_not_written():
    from xent._xent import Criterion

    x = np.zeros((3, 4))
    with pytest.raises(ValueError, match="overlaps"):
        Criterion().call(x, 1, np.array([0, 1, 2]), gradient=x)
    memory = np.zeros((3, 4))
    columns = {dtype: memory.view(dtype).reshape(3, -1)[:, 0] for dtype in (float, np.int64, bool)}
    for name, array in {
        "targets": columns[np.int64],
        "second_targets": columns[np.int64],
        "lam": columns[float],
        "label_smoothing": columns[float],
        "row_weights": columns[float],
        "ignored_rows": columns[bool],
        "allowed_classes": memory.view(bool).reshape(3, -1)[0, :4],
        "the upstream gradient": columns[float],
    }.items():
        given = {"targets": np.array([0, 1, 2])}
        if name in ("second_targets", "lam"):
            given |= {"second_targets": np.array([0, 1, 2]), "lam": 0.5}
        given["upstream" if "upstream" in name else name] = array
        with pytest.raises(ValueError, match=f"overlaps that of {name}"):
            Criterion().call(x, 1, **given, gradient=memory)
    read_only = np.zeros((3, 4))
    read_only.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        Criterion().call(x, 1, np.array([0, 1, 2]), gradient=read_only)
    with pytest.raises(
        TypeError, match="the gradient has dtype float32, expected the logits' float64"
    ):
        Criterion().call(x, 1, np.array([0, 1, 2]), gradient=np.zeros((3, 4), np.float32))
    with pytest.raises(ValueError, match="write an element twice"):
        Criterion().call(
            x,
            1,
            np.array([0, 1, 2]),
            gradient=np.lib.stride_tricks.as_strided(np.zeros(4), (3, 4), (0, 8)),
        )
    with pytest.raises(TypeError, match="an array with __dlpack__"):
        Criterion().call([1.0], 0, np.array(0))
