"""CrossEntropyLoss as a module, and where modules and functions are called from."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

import xent.torch
from xent.torch import _autograd
from xent.torch.functional import cross_entropy

X = torch.randn(6, 5, generator=torch.Generator().manual_seed(5))
Y = torch.tensor([0, 1, 2, 3, 4, -100])
WEIGHT = torch.tensor([1.0, 2.0, 0.5, 1.0, 3.0])


def test_it_is_one_of_pytorchs():
    ours, theirs = (
        xent.torch.CrossEntropyLoss(WEIGHT, label_smoothing=0.1),
        torch.nn.CrossEntropyLoss(WEIGHT, label_smoothing=0.1),
    )
    assert isinstance(ours, torch.nn.CrossEntropyLoss)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    ours.load_state_dict(theirs.state_dict())
    assert_close(ours(X, Y), theirs(X, Y))
    ours.label_smoothing = theirs.label_smoothing = 0.3
    ours.reduction = theirs.reduction = "sum"
    assert_close(ours(X, Y), theirs(X, Y))
    ours.label_smoothing = -0.1
    with pytest.raises(ValueError, match="label_smoothing is -0.1"):
        ours(X, Y)


@pytest.mark.filterwarnings("ignore:size_average and reduce args")
@pytest.mark.parametrize(
    "legacy",
    [{"size_average": False}, {"reduce": False}, {"size_average": True, "reduce": True}],
    ids=str,
)
def test_deprecated_arguments(legacy):
    assert_close(
        xent.torch.CrossEntropyLoss(**legacy)(X, Y), torch.nn.CrossEntropyLoss(**legacy)(X, Y)
    )
    assert_close(cross_entropy(X, Y, **legacy), F.cross_entropy(X, Y, **legacy))


def test_copies():
    module = xent.torch.CrossEntropyLoss(
        WEIGHT, prior=torch.full((5,), 0.2), label_smoothing=0.1, z_loss=1e-2, return_stats=True
    )
    expected = module(X, Y)
    for copied in (copy.deepcopy(module), pickle.loads(pickle.dumps(module)), module.double()):
        assert_close(copied(X, Y), expected)
    assert module.to("meta")(X.to("meta"), Y.to("meta"))[0].device.type == "meta"
    assert repr(module) == "CrossEntropyLoss(label_smoothing=0.1, z_loss=0.01, prior=[5])"


def test_what_a_batch_brings_along():
    module = xent.torch.CrossEntropyLoss(class_axis=-1, reduction="none")
    x, y = X.view(2, 3, 5), Y.view(2, 3)
    options = {
        "label_smoothing": torch.rand(2, 3),
        "row_weight": torch.rand(2, 3),
        "ignored_rows": torch.tensor([[True, False, False], [False, False, False]]),
        "allowed_classes": torch.tensor([True, True, True, True, True]),
        "target_b": torch.zeros(2, 3, dtype=torch.int64),
        "lam": 0.25,
    }
    assert_close(
        module(x, y, **options), cross_entropy(x, y, class_axis=2, reduction="none", **options)
    )
    tokens = xent.torch.CrossEntropyLoss(class_axis=-1)(x, y, denominator=torch.tensor(40))
    assert_close(tokens, F.cross_entropy(X, Y, reduction="sum") / 40)


def test_images_stay_where_they_are():
    x = torch.randn(2, 5, 4, 4).to(memory_format=torch.channels_last).requires_grad_()
    y = torch.randint(5, (2, 4, 4))
    cross_entropy(x, y).backward()
    assert x.grad.is_contiguous(memory_format=torch.channels_last)
    assert_close(x.grad, torch.autograd.grad(F.cross_entropy(x, y), x)[0])


def test_surroundings():
    expected = F.cross_entropy(X, Y)
    with torch.inference_mode():
        assert_close(cross_entropy(X, Y), expected)
        assert_close(cross_entropy(X.clone(), Y), expected)
    with torch.device("meta"):  # as set_default_device
        assert_close(cross_entropy(X, Y, lam=0.5, target_b=Y, denominator=5.0), expected)
        x = X.detach().requires_grad_()
        cross_entropy(x, Y, reduction="none").sum().backward()
        assert x.grad.device.type == "cpu"
    with torch.autograd.detect_anomaly(check_nan=False):
        cross_entropy(X.detach().requires_grad_(), Y).backward()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("classes", [5, 1000])
@pytest.mark.parametrize("by_class", [False, True])
@pytest.mark.parametrize("path", ["engine", "composed"])
def test_a_prior_in_half_precision_still_sums_to_one(dtype, classes, by_class, path, monkeypatch):
    if path == "composed":
        monkeypatch.setattr(_autograd, "sees", lambda *tensors: False)
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(6, classes, generator=generator), Y.clamp(max=classes - 1)
    prior = torch.rand(*(2 if by_class else 1) * (classes,), generator=generator).softmax(-1)
    module = xent.torch.CrossEntropyLoss(label_smoothing=0.3, prior=prior)
    expected = module(x, y)
    module.to(dtype)
    assert module.prior.dtype == dtype
    assert_close(module(x, y), expected, rtol=1e-3, atol=0)
    rounded = prior.to(dtype).double()
    exact = cross_entropy(x.double(), y, label_smoothing=0.3, prior=rounded / rounded.sum(-1, True))
    assert_close(module(x, y).double(), exact, rtol=1e-6, atol=0)


def test_a_denominator_is_not_learned():
    module = xent.torch.CrossEntropyLoss(denominator=torch.tensor(40.0))
    assert not module.state_dict()
    assert_close(module(X, Y), F.cross_entropy(X, Y, reduction="sum") / 40)
    assert module.to("meta").denominator.device.type == "meta"
    prior = xent.torch.CrossEntropyLoss(prior=torch.full((5,), 0.2))
    assert list(prior.state_dict()) == ["prior"]


def test_keywords_that_a_call_does_not_have():
    class Loss(xent.torch.CrossEntropyLoss):
        pass

    for module in (xent.torch.CrossEntropyLoss(), Loss(), xent.torch.SmoothLabelCriterion()):
        name = type(module).__name__
        for keyword in ("z_los", "z_loss", "weight"):
            with pytest.raises(
                TypeError,
                match=rf"^{name}\.forward\(\) got an unexpected keyword argument '{keyword}'",
            ):
                module(X, Y, **{keyword: 0.1})
    with pytest.raises(TypeError, match=r"^CrossEntropyLoss\(\) got an unexpected .* 'z_los'"):
        xent.torch.CrossEntropyLoss(z_los=0.1)
    with pytest.raises(TypeError, match=r"^cross_entropy\(\) got an unexpected .* 'z_los'"):
        cross_entropy(X, Y, z_los=0.1)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"label_smoothing": "0.1"}, TypeError, r"label_smoothing is '0\.1', expected a number"),
        ({"label_smoothing": torch.zeros(3)}, TypeError, "label_smoothing is of type Tensor"),
        ({"ignore_index": True}, TypeError, "ignore_index is True"),
        ({"prior": [0.2] * 5}, TypeError, "prior is of type list, expected 'uniform'"),
        ({"prior": None}, TypeError, "prior is None"),
        ({"denominator": -1.0}, ValueError, r"denominator is -1\.0, expected a finite number > 0"),
        ({"denominator": None}, TypeError, "denominator is None, expected a number"),
        ({"exclude": 1, "prior": torch.full((5,), 0.2)}, ValueError, "exclude is 1 with a prior"),
        ({"temperature": torch.nn.Parameter(torch.ones(()))}, TypeError, "to learn a temperature"),
        ({"class_axis": "last"}, TypeError, "class_axis is 'last', expected an integer"),
    ],
    ids=str,
)
def test_what_the_constructor_refuses(options, error, message):
    with pytest.raises(error, match=message):
        xent.torch.CrossEntropyLoss(**options)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_torchscript_has_pytorchs_loss_or_none():
    weighted = xent.torch.CrossEntropyLoss(WEIGHT, ignore_index=2, label_smoothing=0.1)
    assert_close(torch.jit.script(weighted)(X, Y.clamp(min=0)), weighted(X, Y.clamp(min=0)))
    for options in (
        {"z_loss": 0.1},
        {"ignore_index": [1, 2]},
        {"return_stats": True},
        {"prior": WEIGHT / 7.5},
    ):
        with pytest.raises(
            RuntimeError, match="expected options that torch.nn.CrossEntropyLoss has"
        ):
            torch.jit.script(xent.torch.CrossEntropyLoss(**options))
