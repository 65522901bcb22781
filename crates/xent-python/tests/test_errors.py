"""Every mistake is a ValueError, TypeError or IndexError that says what came and what was expected."""

import numpy as np
import pytest
import torch

import xent.numpy
import xent.torch
from xent.torch.functional import cross_entropy

X = torch.zeros(3, 4)
Y = torch.tensor([0, 1, 2])
NAN = float("nan")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"label_smoothing": -0.1}, ValueError, "label smoothing is -0.1, expected 0 ≤ ε ≤ 1"),
        ({"label_smoothing": NAN}, ValueError, "label smoothing is NaN"),
        ({"label_smoothing": 1.5}, ValueError, "label smoothing is 1.5"),
        ({"label_smoothing": torch.tensor([0.1, 2.0, 0.1])}, ValueError, "ε of row 1 is 2"),
        (
            {"target": torch.zeros(1, dtype=torch.int64).expand(1 << 50)},
            ValueError,
            "the array of targets has shape",
        ),
        (
            {"weight": torch.zeros(1).expand(1 << 50)},
            ValueError,
            "the array of class weights has shape",
        ),
        ({"prior": torch.zeros(1, 1).expand(1 << 25, 1 << 25)}, ValueError, "prior has shape"),
        (
            {"label_smoothing": torch.zeros(4)},
            ValueError,
            r"label_smoothing has shape \[4\], expected \[3\]",
        ),
        ({"target": torch.tensor([0, 4, 1])}, IndexError, r"target 4 in row 1 is outside 0\.\.4"),
        (
            {"target": torch.tensor([0, -1, 1])},
            IndexError,
            "target -1 in row 1 .*if it marks padding",
        ),
        (
            {"target": torch.tensor([0, 1, 2**63 - 1])},
            IndexError,
            "target 9223372036854775807 in row 2",
        ),
        (
            {"target": torch.tensor([0, 1])},
            ValueError,
            r"the array of targets has shape \[2\], expected \[3\]",
        ),
        (
            {"target": torch.zeros(3, 4, dtype=torch.int64)},
            ValueError,
            r"the array of targets has shape \[3, 4\]",
        ),
        (
            {"target": torch.zeros(3)},
            ValueError,
            r"the array of target probabilities has shape \[3\], expected \[3, 4\]",
        ),
        (
            {"target": torch.zeros(3, dtype=torch.bool)},
            TypeError,
            "the array of targets has dtype bool",
        ),
        (
            {"target": torch.full((3, 4), -0.5)},
            ValueError,
            "probability of class 0 in row 0 is -0.5",
        ),
        ({"target": torch.full((3, 4), NAN)}, ValueError, "probability of class 0 in row 0 is NaN"),
        (
            {"target": torch.zeros(3, 4), "ignore_index": 1},
            ValueError,
            "ignore_index is 1 with target probabilities",
        ),
        ({"target": [0, 1, 2]}, TypeError, "target is list, expected a tensor"),
        ({"prior": 0.5}, TypeError, "prior is float, expected a tensor"),
        ({"row_weight": [1.0, 1.0, 1.0]}, TypeError, "row_weight is list, expected a tensor"),
        ({"input": [[0.0, 1.0]]}, TypeError, "input is list, expected a tensor"),
        ({"input": torch.zeros(3, 4, dtype=torch.int64)}, TypeError, "input has dtype torch.int64"),
        (
            {"input": torch.zeros(3, 4, dtype=torch.complex64)},
            TypeError,
            "input has dtype torch.complex64",
        ),
        ({"input": torch.zeros(3, 0)}, ValueError, "class axis has length 0"),
        ({"input": torch.tensor(1.0)}, ValueError, "an axis that it has"),
        ({"class_axis": 2}, ValueError, "class axis 2"),
        (
            {"weight": torch.ones(3)},
            ValueError,
            r"the array of class weights has shape \[3\], expected \[4\]",
        ),
        ({"weight": torch.tensor([1, NAN, 1, 1])}, ValueError, r"class weights\[1\] is NaN"),
        ({"row_weight": torch.tensor([1.0, -1, 1])}, ValueError, "the weight of row 1 is -1"),
        (
            {"ignored_rows": torch.zeros(3)},
            TypeError,
            "the mask of ignored rows has dtype float32, expected bool",
        ),
        (
            {"allowed_classes": torch.ones(3, dtype=torch.bool)},
            ValueError,
            "the mask of allowed classes has shape",
        ),
        (
            {"prior": "unigram"},
            ValueError,
            "prior is 'unigram', expected 'uniform', 'wrong_classes'",
        ),
        ({"prior": torch.ones(4)}, ValueError, "the prior sums to 4, expected 1"),
        ({"prior": torch.ones(2, 3, 4)}, ValueError, r"prior has shape \[2, 3, 4\]"),
        ({"exclude": 4}, IndexError, "names class 4, but the logits have 4 classes"),
        ({"exclude": -1}, ValueError, "exclude is -1, expected at least 0"),
        ({"exclude": 1, "prior": torch.full((4,), 0.25)}, ValueError, "exclude is 1 with a prior"),
        ({"exclude": 1.5}, TypeError, "exclude is 1.5, expected an integer"),
        ({"ignore_index": 2**63}, ValueError, "ignore_index is 9223372036854775808"),
        (
            {"reduction": "average"},
            ValueError,
            "reduction is 'average', expected 'none', 'sum', 'mean'",
        ),
        ({"denominator": 0.0}, ValueError, "denominator is 0"),
        ({"denominator": "tokens"}, ValueError, "denominator is 'tokens'"),
        (
            {"empty_mean": "error", "ignored_rows": torch.ones(3, dtype=torch.bool)},
            ValueError,
            "denominator is 0: 3 of 3 rows are ignored",
        ),
        ({"lam": 0.5}, TypeError, "one of them is missing"),
        ({"target_b": Y, "lam": 1.5}, ValueError, "λ of row 0 is 1.5"),
        ({"softcap": 0.0}, ValueError, "softcap is 0"),
        ({"temperature": float("inf")}, ValueError, "temperature is inf"),
        ({"z_loss": -1.0}, ValueError, "z-loss is -1"),
    ],
    ids=str,
)
@pytest.mark.parametrize("needs_gradient", [False, True])
def test_mistakes(options, error, message, needs_gradient):
    options = {"input": X, "target": Y, **options}
    if (
        needs_gradient
        and isinstance(options["input"], torch.Tensor)
        and options["input"].is_floating_point()
    ):
        options["input"] = options["input"].clone().requires_grad_()
    with pytest.raises(error, match=message):
        cross_entropy(**options)


def test_modules_refuse_at_once():
    with pytest.raises(ValueError, match="label smoothing is -0.1"):
        xent.torch.CrossEntropyLoss(label_smoothing=-0.1)
    with pytest.raises(ValueError, match="label smoothing is NaN"):
        xent.torch.SmoothLabelCriterion(NAN)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((np.zeros((3, 4), int), [0, 1, 2]), TypeError, "the array of logits has dtype int64"),
        ((np.zeros((3, 4), complex), [0, 1, 2]), TypeError, "DLPack dtype|complex"),
        ((np.array([["a"]]), [0]), TypeError, "does not export DLPack"),
        (
            (np.zeros((3, 4)), [0.5, 1, 2]),
            ValueError,
            "the array of target probabilities has shape",
        ),
        ((np.zeros((3, 4)), [0, 1, 4]), IndexError, "target 4 in row 2"),
        ((np.zeros((3, 4)), np.array([0, 1, 2**64 - 1], np.uint64)), IndexError, "in row 2"),
        (
            (torch.zeros(3, 4, device="meta"), [0, 1, 2]),
            TypeError,
            "does not export DLPack: Cannot pack tensors on meta",
        ),
    ],
    ids=str,
)
def test_mistakes_with_numpy(arguments, error, message):
    with pytest.raises(error, match=message):
        xent.numpy.cross_entropy_with_grad(*arguments)


def test_threads_have_to_be_there():
    with pytest.raises(ValueError, match="threads is 0, expected at least 1"):
        xent.numpy.cross_entropy(np.zeros((1, 2)), [0], threads=0)
    with pytest.raises(TypeError):
        xent.numpy.cross_entropy(np.zeros((1, 2)), [0], thread=1)


def test_what_is_read_is_not_written():
    from xent._xent import Criterion

    x = np.zeros((3, 4))
    with pytest.raises(ValueError, match="overlaps"):
        Criterion().call(x, 1, np.array([0, 1, 2]), gradient=x)
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
