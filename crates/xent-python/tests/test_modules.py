"""CrossEntropyLoss as a module, and where modules and functions are called from."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

import xent.torch
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
