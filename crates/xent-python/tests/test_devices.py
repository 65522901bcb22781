"""PyTorch's operations copy nothing to a device but the batch, and read nothing back.

Only a criterion's first call may copy more.
"""

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cases import pytorch_case, take, xent_case
from xent.torch import _rules
from xent.torch.functional import cross_entropy

READS = {
    "aten::_local_scalar_dense",
    "aten::item",
    "aten::is_nonzero",
    "aten::equal",
    "aten::nonzero",
    "aten::masked_select",
    "aten::_unique2",
}
CONSTANTS = {"aten::lift", "aten::lift_fresh", "aten::lift_fresh_copy"}


class Traffic(TorchDispatchMode):
    """Collects operations that read values, or that have tensors on another device.

    Those include what is made of Python's numbers in host memory.
    """

    def __init__(self, device):
        super().__init__()
        self.device, self.found, self.operations = device, [], 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        self.operations += 1
        elsewhere = [
            leaf
            for leaf in tree_leaves((args, kwargs, result))
            if isinstance(leaf, torch.Tensor) and leaf.device.type != self.device
        ]
        if operation._schema.name in READS | CONSTANTS or elsewhere:
            self.found.append(str(operation))
        return result


@pytest.fixture(params=["composed", "differentiated"])
def count(request, monkeypatch):
    take(request.param, monkeypatch)
    monkeypatch.setattr(
        _rules, "is_transformed", lambda: False
    )  # a mode that counts is none that traces
    _rules._kept_excluding.cache_clear()

    def count(device, input, target, options):
        x, target = input.detach().to(device).requires_grad_(), target.to(device)
        options = {
            name: value.to(device) if isinstance(value, torch.Tensor) else value
            for name, value in options.items()
        }
        cross_entropy(x, target, **options)
        with Traffic(device) as traffic:
            cross_entropy(x, target, **options, return_stats=True)[0].sum().backward()
        assert traffic.operations > 20
        return traffic.found

    return count


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_no_traffic_after_the_first_call(count, device):
    for seed in range(50):
        for case in (pytorch_case(seed), xent_case(seed, torch.float32)):
            assert not count(device, case.input, case.target, case.options), str(case)


def test_traffic_is_noticed(count, monkeypatch):
    """What the first call may do, at every call."""
    case = (torch.randn(2, 4), torch.tensor([0, 1]), {"label_smoothing": 0.1, "exclude": 3})
    assert not count("meta", *case)
    monkeypatch.setattr(_rules, "is_transformed", lambda: True)
    assert count("meta", *case) and count("cpu", *case)


@pytest.mark.parametrize("road", ["composed", "differentiated"])
def test_what_was_made_in_inference_mode_can_be_saved_for_backward(road, monkeypatch):
    take(road, monkeypatch)
    _rules._kept_excluding.cache_clear()
    x, y = torch.randn(2, 4, requires_grad=True), torch.tensor([0, 1])
    with torch.inference_mode():
        cross_entropy(x, y, label_smoothing=0.1, exclude=3)
    weight = torch.rand(4, requires_grad=road == "differentiated")
    cross_entropy(x, y, weight, label_smoothing=0.1, exclude=3).backward()


@pytest.mark.parametrize("road", ["composed", "differentiated"])
def test_changed_weights_are_noticed(road, monkeypatch):
    take(road, monkeypatch)
    x, y, weight = torch.randn(2, 4), torch.tensor([0, 1]), torch.rand(4)
    for _ in range(2):
        assert_close(cross_entropy(x, y, weight), F.cross_entropy(x, y, weight))
        weight.data[0] += 1.0  # of which autograd knows nothing
