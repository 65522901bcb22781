"""Derivatives: backward once, twice, batched, of second order, forward mode; and what autograd keeps."""

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

import xent.torch
from xent.torch import _autograd
from xent.torch.functional import cross_entropy

OPTIONS = [
    {},
    {"reduction": "none", "label_smoothing": 0.1},
    {
        "reduction": "sum",
        "label_smoothing": 0.1,
        "weight": torch.tensor([0.5, 1.0, 0.0, 2.0], dtype=torch.float64),
    },
    {
        "prior": "wrong_classes",
        "label_smoothing": 0.3,
        "form": "kl",
        "z_loss": 0.1,
        "softcap": 3.0,
        "temperature": 2.0,
    },
    {
        "prior": torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64),
        "label_smoothing": 0.2,
        "row_weight": torch.tensor([1.0, 0.0, 2.0], dtype=torch.float64),
    },
    {
        "target_b": torch.tensor([3, 3, 0]),
        "lam": 0.3,
        "masked": "renormalise",
        "allowed_classes": torch.tensor([True, False, True, True]),
        "label_smoothing": 0.1,
    },
    {
        "prior": torch.rand(4, 4, generator=torch.Generator().manual_seed(3)).double().softmax(1),
        "label_smoothing": torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64),
        "weight": torch.tensor([0.5, 1.0, 0.0, 2.0], dtype=torch.float64),
        "weighting": "per_row",
        "softcap": 2.0,
    },
    {"exclude": 1, "label_smoothing": 0.3, "target_b": torch.tensor([3, 1, 0]), "lam": 0.6},
]


def logits(dtype=torch.float64):
    return torch.randn(
        3, 4, dtype=dtype, generator=torch.Generator().manual_seed(1)
    ).requires_grad_()


TARGET = torch.tensor([0, 2, -100])


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options))
def test_gradcheck(road, options):
    def loss(x):
        return cross_entropy(x, TARGET, **options)

    assert gradcheck(loss, logits(), check_forward_ad=True, check_batched_grad=True)
    assert gradgradcheck(loss, logits(), check_batched_grad=True)


def test_everything_else_can_be_differentiated_too(road):
    x, q = logits(), torch.rand(3, 4, dtype=torch.float64, requires_grad=True)
    weight, row_weight = (torch.rand(n, dtype=torch.float64, requires_grad=True) for n in (4, 3))
    eps = torch.full((3,), 0.3, dtype=torch.float64, requires_grad=True)

    def loss(x, q, weight, row_weight, eps):
        return cross_entropy(x, q, weight, label_smoothing=eps, row_weight=row_weight)

    assert gradcheck(loss, (x, q, weight, row_weight, eps))
    assert gradgradcheck(loss, (x, q, weight, row_weight, eps))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_backward_twice(road, reduction, dtype):
    x, y = logits(dtype), torch.tensor([0, 2, 1])
    loss = cross_entropy(x, y, reduction=reduction, label_smoothing=0.1)
    upstream = torch.randn_like(loss)
    loss.backward(upstream, retain_graph=True)
    first = x.grad.clone()
    loss.backward(upstream, retain_graph=True)
    assert_close(x.grad, 2 * first, rtol=0, atol=0)
    x.grad = None
    loss.backward(torch.ones_like(loss), retain_graph=True)
    expected = torch.autograd.grad(
        F.cross_entropy(x.double(), y, reduction=reduction, label_smoothing=0.1).sum(), x
    )[0]
    assert_close(x.grad, expected)
    loss.backward(upstream)
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward(upstream)


def test_the_gradient_is_given_away_without_a_copy(monkeypatch):
    made = []
    real = torch.empty_like

    def empty_like(*args):
        tensor = real(*args)
        made.append(tensor.data_ptr())
        return tensor

    monkeypatch.setattr(torch, "empty_like", empty_like)
    x = logits()
    cross_entropy(x, TARGET).backward()
    assert made == [x.grad.data_ptr()]


def test_no_gradient_without_need(monkeypatch):
    calls = []
    real = _autograd.run
    monkeypatch.setattr(
        _autograd,
        "run",
        lambda *args: calls.append(args[4] if len(args) > 4 else None) or real(*args),
    )
    x = logits()
    with torch.no_grad():
        assert not cross_entropy(x, TARGET).requires_grad
    assert not cross_entropy(x.detach(), TARGET).requires_grad
    loss = cross_entropy(
        x, TARGET, reduction="none"
    )  # forms its gradient when it knows what comes back
    assert calls == [None] * 3
    loss.sum().backward()
    assert calls[3] is not None


@pytest.mark.parametrize("road", ["engine", "composed"], indirect=True)
def test_what_was_changed_is_noticed(road):
    x, y = logits(), TARGET.clone()
    loss = cross_entropy(x, y, reduction="none")
    y[0] = 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.sum().backward()


def test_large_upstream_gradients_save_halves_from_underflow(road):
    rows = 1 << 16
    x = torch.zeros(rows, 5, dtype=torch.float16, requires_grad=True)
    (cross_entropy(x, torch.zeros(rows, dtype=torch.int64)) * 2.0**14).backward()
    # Without the factor they would be some fifty of float16's smallest steps, and lose two of their three digits.
    assert_close(
        x.grad[0].double() * 4,
        torch.tensor([-0.8, 0.2, 0.2, 0.2, 0.2], dtype=torch.float64),
        rtol=1e-3,
        atol=0,
    )


def test_infinite_upstream_leaves_ignored_rows_alone(road):
    x = logits()
    (cross_entropy(x, TARGET) * torch.inf).backward()
    assert not torch.isfinite(x.grad[:2]).any() and (x.grad[2] == 0).all()


def test_forward_mode():
    x, tangent = logits().detach(), torch.randn(3, 4, dtype=torch.float64)
    with forward_ad.dual_level():
        ours = forward_ad.unpack_dual(
            cross_entropy(forward_ad.make_dual(x, tangent), TARGET, label_smoothing=0.1)
        ).tangent
        theirs = forward_ad.unpack_dual(
            F.cross_entropy(forward_ad.make_dual(x, tangent), TARGET, label_smoothing=0.1)
        ).tangent
        with pytest.raises(IndexError, match="target 9 in row 0"):
            cross_entropy(forward_ad.make_dual(x, tangent), torch.tensor([9, 0, 0]))
    assert_close(ours, theirs)


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpoint(road, reentrant):
    x = logits()
    checkpoint(lambda x: cross_entropy(x.sin(), TARGET), x, use_reentrant=reentrant).backward()
    expected = torch.autograd.grad(F.cross_entropy(x.sin(), TARGET), x)[0]
    assert_close(x.grad, expected)


def test_threads_of_python():
    from concurrent.futures import ThreadPoolExecutor

    def step(seed):
        x = torch.randn(50, 300, generator=torch.Generator().manual_seed(seed)).requires_grad_()
        y = torch.arange(50)
        cross_entropy(x, y).backward()
        return x.grad, torch.autograd.grad(F.cross_entropy(x, y), x)[0]

    with ThreadPoolExecutor(8) as pool:
        for ours, theirs in pool.map(step, range(64)):
            assert_close(ours, theirs)


def test_memory_of_gradients_is_used_again_once_nobody_has_it(monkeypatch):
    from xent.torch import _memory

    def gradient(keep=None):
        x = torch.zeros(1024, 2048, requires_grad=True)  # 8 MiB
        cross_entropy(x, torch.arange(1024)).backward()
        return x.grad

    monkeypatch.setattr(_memory, "_kept", [])
    first = gradient()
    place, numbers = first.data_ptr(), first.clone()
    del first
    second = gradient()
    assert second.data_ptr() == place and torch.equal(second, numbers)
    for hold in (
        lambda g: g,
        lambda g: g[5:],
        lambda g: g.numpy(),
        lambda g: torch.utils.dlpack.from_dlpack(g),
        lambda g: g.storage(),
    ):
        held = hold(second)
        del second
        second = gradient()
        assert second.data_ptr() != place
        place = second.data_ptr()
        del held
    second.share_memory_()
    place = second.data_ptr()
    del second
    assert gradient().data_ptr() != place  # another process may have it
    xent.torch.keep_gradient_memory(False)
    assert not _memory._kept
    gradient()
    assert not _memory._kept
    xent.torch.keep_gradient_memory()
