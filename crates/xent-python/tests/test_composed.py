"""The gradient by PyTorch's own operations: against the engine, and where it is taken."""

import shutil

import pytest
import torch
from torch.testing import assert_close

import xent.torch
from cases import FLOATS, pytorch_case, take, xent_case
from xent.torch import _composed, _passes
from xent.torch.functional import cross_entropy

# Of float32 and halves a few units of what is computed in, and of the gradient's type.
TOLERANCES = {
    torch.float64: (1e-11, 1e-12),
    torch.float32: (1e-5, 1e-6),
    torch.float16: (2e-3, 1e-6),
    torch.bfloat16: (1e-2, 1e-6),
}


def run(case, **more):
    """Loss, gradient for a random upstream gradient, and statistics."""
    leaf = case.leaf()
    loss, stats = cross_entropy(leaf, case.target, **case.options | more, return_stats=True)
    generator = torch.Generator().manual_seed(case.seed)
    upstream = torch.randn(loss.shape, dtype=torch.float64, generator=generator).to(loss.dtype)
    return loss.detach(), torch.autograd.grad(loss, leaf, upstream)[0], stats


@pytest.mark.parametrize("block", range(15))
def test_agrees_with_the_engine(block, monkeypatch):
    """3,000 configurations, a quarter in each dtype, half of them in pieces of few logits."""
    for seed in range(block * 100, block * 100 + 100):
        for make in (pytorch_case, xent_case):
            case = make(seed, FLOATS[seed % 4])
            expected = run(case)
            with monkeypatch.context() as patch:
                take("composed", patch)
                if seed // 4 % 2:
                    patch.setattr(_passes, "PIECE", 7)
                result = run(case)
            rtol, atol = TOLERANCES[case.input.dtype]
            names = ("loss", "gradient", *expected[2]._fields)
            for name, ours, theirs in zip(
                names, (*result[:2], *result[2]), (*expected[:2], *expected[2])
            ):
                assert_close(
                    ours,
                    theirs,
                    rtol=rtol,
                    atol=atol if name == "gradient" else 10 * atol,
                    equal_nan=True,
                    msg=lambda message, name=name, case=case: f"{name}, {case}\n{message}",
                )


@pytest.mark.parametrize("dtype", FLOATS)
def test_what_is_not_read_changes_nothing(dtype, monkeypatch):
    """Whatever is in ignored rows and in classes that are not allowed; their gradient is 0."""
    take("composed", monkeypatch)
    found = 0
    for seed in range(300):
        case = xent_case(seed, dtype)
        options, axis = case.options, case.options["class_axis"]
        if not {"ignored_rows", "allowed_classes"} & set(options):
            continue
        unread = torch.zeros(case.input.shape, dtype=torch.bool).movedim(axis, -1)
        if "ignored_rows" in options:
            unread = unread | options["ignored_rows"].unsqueeze(-1)
        if "allowed_classes" in options:
            allowed = options["allowed_classes"]
            unread = unread | ~(allowed if allowed.dim() == 1 else allowed.movedim(axis, -1))
        unread = unread.movedim(-1, axis)
        expected = run(case)
        for poison in (torch.nan, torch.inf, -torch.inf, 3.0):
            case.input = case.input.masked_fill(unread, poison)
            result = run(case)
            assert_close(result, expected, rtol=0, atol=0, equal_nan=True, msg=str(case))
            assert (result[1][unread] == 0.0).all(), str(case)
        found += int(unread.any())
    assert found > 50


def test_keeps_nothing_of_the_size_of_the_logits_but_these(monkeypatch):
    take("composed", monkeypatch)
    for seed in range(100):
        case = xent_case(seed, FLOATS[seed % 4])
        given = {case.target.data_ptr()} | {
            value.data_ptr() for value in case.options.values() if isinstance(value, torch.Tensor)
        }
        leaf = case.leaf()
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
            cross_entropy(leaf, case.target, **case.options)
        classes = leaf.shape[case.options["class_axis"]]
        rows = leaf.numel() // classes
        for tensor in kept:
            if tensor.data_ptr() not in given and tensor.data_ptr() != leaf.data_ptr():
                assert tensor.numel() in (1, rows, classes), str(case)


X = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
Y = torch.tensor([0, 3, -100])


def taken(x=X, y=Y, **options):
    loss = cross_entropy(x.clone().requires_grad_(), y, **options)
    name = loss.grad_fn.name()
    return "composed" if name == "ComposedCrossEntropyBackward" else name


def test_where_it_is_taken(monkeypatch):
    assert taken() == "CrossEntropyBackward"
    meta = {"x": X.to("meta"), "y": Y.to("meta")}
    assert taken(**meta) == taken(**meta, label_smoothing=0.1, prior="wrong_classes") == "composed"
    weight = torch.rand(4, device="meta")
    assert taken(**meta, weight=weight) == "composed"
    assert taken(**meta, weight=weight.clone().requires_grad_()) != "composed"
    probabilities = torch.rand(3, 4, device="meta")
    assert taken(meta["x"], probabilities) == "composed"
    assert taken(meta["x"], probabilities.clone().requires_grad_()) != "composed"
    take("composed", monkeypatch)
    assert taken() == "composed"
    assert taken(X.as_subclass(type("Own", (torch.Tensor,), {}))) != "composed"
    tangent = torch.ones(4)
    with torch.autograd.forward_ad.dual_level():
        assert (
            taken(weight=torch.autograd.forward_ad.make_dual(torch.rand(4), tangent)) != "composed"
        )


def test_second_derivatives_are_those_of_the_other_road(monkeypatch):
    take("composed", monkeypatch)
    calls = []
    real = _composed._tensors.gradient
    monkeypatch.setattr(
        _composed._tensors, "gradient", lambda *args: calls.append(args) or real(*args)
    )
    x = X.double().requires_grad_()
    loss = cross_entropy(x, Y, label_smoothing=0.1)
    torch.autograd.grad(loss, x, retain_graph=True)
    assert not calls
    [gradient] = torch.autograd.grad(loss, x, create_graph=True)
    assert calls
    [second] = torch.autograd.grad(gradient[0, 0], x)
    p = X[0].double().softmax(0)
    expected = -p[0] * p / 2  # two rows are kept
    expected[0] += p[0] / 2
    assert_close(second[0], expected)


OPTIONS = [
    {"class_axis": -1},
    {"label_smoothing": 0.1, "prior": "wrong_classes", "form": "kl"},
    {"label_smoothing": 0.1, "softcap": 2.0, "temperature": 0.5, "z_loss": 0.1},
    {
        "label_smoothing": 0.1,
        "exclude": 1,
        "masked": "renormalise",
        "allowed_classes": torch.tensor([True, True, False, True]),
        "reduction": "sum",
    },
    {
        "label_smoothing": torch.tensor([[0.1], [0.2], [0.3]]),
        "prior": torch.rand(4, 4, generator=torch.Generator().manual_seed(1)).softmax(1),
        "target_b": torch.tensor([[1], [1], [2]]),
        "lam": 0.3,
        "weight": torch.tensor([1.0, 2.0, 0.5, 0.0]),
        "reduction": "none",
    },
    {"target": torch.rand(3, 1, 4, generator=torch.Generator().manual_seed(2))},
]
INDUCTOR = pytest.param(
    "inductor",
    marks=pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler"),
)


@pytest.mark.parametrize("backend", ["eager", "aot_eager", INDUCTOR])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_compiled(backend, dtype, monkeypatch):
    """In one graph, statistics included."""
    take("composed", monkeypatch)
    for options in OPTIONS if backend != "inductor" else OPTIONS[2:4]:
        torch._dynamo.reset()
        options = {"target": Y[:, None], "class_axis": -1} | options

        def loss(x, options=options):
            return cross_entropy(x * 2, **options, return_stats=True)

        x = X[:, None].to(dtype).requires_grad_()
        compiled, expected = torch.compile(loss, backend=backend, fullgraph=True)(x), loss(x)
        rtol = 1e-2 if dtype is torch.bfloat16 else 1e-5
        close = {"rtol": rtol, "atol": 1e-5, "equal_nan": True}
        assert_close(compiled, expected, **close)
        gradients = [torch.autograd.grad(result[0].sum(), x) for result in (compiled, expected)]
        assert_close(*gradients, **close)


@pytest.mark.parametrize(
    "options", [{}, {"prior": "wrong_classes"}, {"exclude": 1}, {"form": "kl", "z_loss": 0.1}]
)
def test_compiled_for_any_shape(options, monkeypatch):
    take("composed", monkeypatch)
    torch._dynamo.reset()

    loss = xent.torch.CrossEntropyLoss(label_smoothing=0.1, **options)
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True, dynamic=True)
    for rows, classes in ((5, 7), (6, 9), (3, 4)):
        x, y = torch.randn(rows, classes, requires_grad=True), torch.randint(classes, (rows,))
        both = compiled(x, y), loss(x, y)
        assert_close(*both)
        assert_close(*(torch.autograd.grad(result, x) for result in both))


def test_compiled_with_transforms(monkeypatch):
    take("composed", monkeypatch)
    x = torch.randn(2, 3, 4)
    for function in (
        torch.func.vmap(lambda x: cross_entropy(x, Y)),
        torch.func.grad(lambda x: cross_entropy(x[0], Y)),
    ):
        torch._dynamo.reset()
        compiled = torch.compile(function, backend="aot_eager", fullgraph=True)
        assert_close(compiled(x), function(x))


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_for_another_device(backend):
    torch._dynamo.reset()
    compiled = torch.compile(
        lambda x, y: cross_entropy(x, y, label_smoothing=0.1), backend=backend, fullgraph=True
    )
    x = torch.randn(3, 4, 5, device="meta", dtype=torch.bfloat16, requires_grad=True)
    loss = compiled(x, torch.zeros(3, 5, dtype=torch.int64, device="meta"))
    loss.backward()
    assert loss.dtype is x.grad.dtype is torch.bfloat16 and x.grad.shape == x.shape
