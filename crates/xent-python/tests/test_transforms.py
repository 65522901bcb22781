"""Whatever else PyTorch does with functions is right, too, through PyTorch's own operations."""

import shutil

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.testing import assert_close

import xent.torch
from cases import pytorch_case, xent_case
from xent.torch import _operators
from xent.torch.functional import cross_entropy

X = torch.randn(3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
Y = torch.tensor([[0, 1, 4, -100], [2, 2, 2, 2], [3, -100, 0, 4]])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"label_smoothing": 0.1, "reduction": "none"},
        {"label_smoothing": 0.1, "reduction": "sum", "weight": torch.rand(5).double()},
    ],
)
def test_vmap_and_its_kin(options):
    def ours(x, y):
        return cross_entropy(x, y, **options)

    def theirs(x, y):
        return F.cross_entropy(x, y, **options)

    assert_close(torch.func.vmap(ours)(X, Y), torch.stack([theirs(x, y) for x, y in zip(X, Y)]))
    assert_close(
        torch.func.vmap(ours, in_dims=(0, None))(X, Y[0]), torch.stack([theirs(x, Y[0]) for x in X])
    )
    assert_close(
        torch.func.vmap(torch.func.grad(lambda x, y: ours(x, y).sum()))(X, Y),
        torch.func.vmap(torch.func.grad(lambda x, y: theirs(x, y).sum()))(X, Y),
    )
    for transform in (torch.func.jacrev, torch.func.jacfwd, torch.func.hessian):
        assert_close(
            transform(lambda x: ours(x, Y[0]))(X[0]), transform(lambda x: theirs(x, Y[0]))(X[0])
        )
    assert_close(
        torch.func.jvp(lambda x: ours(x, Y[0]), (X[0],), (X[1],)),
        torch.func.jvp(lambda x: theirs(x, Y[0]), (X[0],), (X[1],)),
    )


@pytest.mark.parametrize("vectorize", [True, False])
def test_jacobians(vectorize):
    x = X[0]
    ours = torch.autograd.functional.jacobian(
        lambda x: cross_entropy(x, Y[0], reduction="none"), x, vectorize=vectorize
    )
    assert_close(
        ours,
        torch.autograd.functional.jacobian(lambda x: F.cross_entropy(x, Y[0], reduction="none"), x),
    )
    ours = torch.autograd.functional.hessian(
        lambda x: cross_entropy(x, Y[0]), x, vectorize=vectorize
    )
    assert_close(ours, torch.autograd.functional.hessian(lambda x: F.cross_entropy(x, Y[0]), x))


@pytest.mark.parametrize(
    "backend",
    [
        "eager",
        "aot_eager",
        pytest.param(
            "inductor",
            marks=pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler"),
        ),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_compile(backend, dtype, monkeypatch):
    monkeypatch.setattr(_operators, "applies", lambda *_: False)  # see test_operators.py
    torch._dynamo.reset()
    module = xent.torch.CrossEntropyLoss(label_smoothing=0.1, weight=torch.rand(4), z_loss=1e-3)

    def step(x, y):
        return module(x * 2, y)

    compiled = torch.compile(step, backend=backend, fullgraph=True)
    x = torch.randn(3, 4, dtype=dtype, requires_grad=True)
    for y in (torch.tensor([0, -100, 3]), torch.rand(3, 4)):
        loss, expected = compiled(x, y), step(x, y)
        assert_close(loss, expected)
        assert_close(torch.autograd.grad(loss, x), torch.autograd.grad(expected, x))


@pytest.mark.parametrize("label", [4, -1])
def test_compiled_code_does_not_read_outside_either(label):
    torch._dynamo.reset()
    compiled = torch.compile(lambda x, y: cross_entropy(x, y), backend="aot_eager")
    with pytest.raises((IndexError, RuntimeError)):
        compiled(torch.randn(2, 4), torch.tensor([0, label]))


@pytest.mark.parametrize(
    "options",
    [
        {"label_smoothing": -0.1},
        {"label_smoothing": float("nan")},
        {"reduction": "average"},
        {"temperature": 0.0},
    ],
    ids=str,
)
def test_compiled_code_refuses_the_same_options(options):
    torch._dynamo.reset()
    with pytest.raises(ValueError, match="expected"):
        torch.compile(lambda x, y: cross_entropy(x, y, **options), backend="eager")(
            torch.randn(2, 4), torch.tensor([0, 1])
        )


def test_traced():
    def f(x, y):
        return cross_entropy(x, y, label_smoothing=0.1)

    x, other = torch.randn(2, 3, 4, dtype=torch.float64)
    y = torch.tensor([0, 3, 1])
    for graph in (
        make_fx(f)(x, y),
        make_fx(f, tracing_mode="fake")(x, y),
        torch.export.export(_Module(f), (x, y)).module(),
    ):
        assert_close(graph(other, y), f(other, y))


class _Module(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x, y):
        return self.function(x, y)


def test_fake_tensors():
    with FakeTensorMode():
        x = torch.randn(8, 5, 3, dtype=torch.float16, requires_grad=True)
        loss = cross_entropy(x, torch.zeros(8, 3, dtype=torch.int64))
        loss.backward()
    assert loss.dtype == torch.float16 and x.grad.shape == x.shape


def test_other_devices():
    """The meta device has shapes and no numbers: whoever looks at one fails, as whoever waits for a GPU to show one is slow."""
    for seed in range(300):
        for case in (pytorch_case(seed), xent_case(seed)):
            x = case.leaf(torch.float32).to("meta").detach().requires_grad_()
            options = {
                name: value.to("meta") if isinstance(value, torch.Tensor) else value
                for name, value in case.options.items()
            }
            loss, stats = cross_entropy(x, case.target.to("meta"), **options, return_stats=True)
            loss.sum().backward()
            here, stats_here = cross_entropy(
                case.input.float(), case.target, **case.options, return_stats=True
            )
            assert x.grad.shape == x.shape and x.grad.device.type == "meta", str(case)
            for there, expected in ((loss, here), *zip(stats, stats_here)):
                assert (there.shape, there.dtype, there.device.type) == (
                    expected.shape,
                    expected.dtype,
                    "meta",
                ), str(case)


def test_what_cannot_be_looked_at_elsewhere_is_said():
    x, y = torch.randn(2, 3, device="meta"), torch.zeros(2, dtype=torch.int64, device="meta")
    assert cross_entropy(x.half(), y).dtype == torch.float16
    with pytest.raises(ValueError, match="empty_mean='error' reads a value"):
        cross_entropy(x, y, empty_mean="error")
    with pytest.raises(ValueError, match="label_smoothing is nan"):
        cross_entropy(x, y, label_smoothing=float("nan"))
    with pytest.raises(ValueError, match=r"target has shape \[3\], expected \[2\]"):
        cross_entropy(x, torch.zeros(3, dtype=torch.int64, device="meta"))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_autocast(dtype):
    weight = torch.randn(4, 5)
    x = torch.randn(3, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = (x @ weight).to(dtype).detach().requires_grad_()
        ours, theirs = (
            loss(logits, Y[0, :3], label_smoothing=0.1) for loss in (cross_entropy, F.cross_entropy)
        )
        options = {"label_smoothing": 0.5, "prior": torch.rand(5, 5).softmax(1)}
        soft = torch.rand(3, 5)
        mapped = torch.func.vmap(lambda x: cross_entropy(x, soft, **options))(logits[None])
    assert_close(
        mapped[0],
        cross_entropy(logits, soft, **options).to(mapped.dtype),
        rtol=1e-2 if dtype is torch.bfloat16 else 1e-5,
        atol=0,
    )
    assert ours.dtype == theirs.dtype == mapped.dtype
    assert_close(ours, theirs)
    assert_close(torch.autograd.grad(ours, logits), torch.autograd.grad(theirs, logits))


def test_subclasses():
    class Logged(torch.Tensor):
        pass

    x = torch.randn(3, 5, requires_grad=True)
    loss = cross_entropy(x.as_subclass(Logged), Y[0, :3])
    assert isinstance(loss, Logged)
    assert_close(loss.as_subclass(torch.Tensor), F.cross_entropy(x, Y[0, :3]))


def test_negative_bit():
    x = torch.randn(3, 5, dtype=torch.complex64).conj().imag
    assert x.is_neg()
    assert_close(cross_entropy(x, Y[0, :3]), F.cross_entropy(x, Y[0, :3]))
