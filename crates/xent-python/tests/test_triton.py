"""The Triton kernels against the engine: on a GPU if there is one, else by Triton's interpreter on CPU tensors.

The interpreter runs programs one after another and rounds each operation as numpy does. So it shows
formulas, masks and addresses, and neither races nor the accuracy of a GPU's exponential.

XENT_CASES=2000 draws so many random cases instead of a few hundred.
"""

import os
import pathlib
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from cases import pytorch_case, xent_case
from xent.torch import _autograd
from xent.torch.functional import cross_entropy

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
triton = pytest.importorskip(
    "triton", reason="SKIPPED: the Triton kernels: triton is not installed"
)

import triton.language as tl  # noqa: E402

from xent.torch._triton import autograd, coverage, launch  # noqa: E402
from xent.torch._triton.arithmetic import exponential, tanh  # noqa: E402


@pytest.fixture
def kernels(monkeypatch):
    """Loss, gradient and statistics by the kernels; None if they do not cover a call."""
    if DEVICE == "cpu":
        round_bfloat16(monkeypatch)
        monkeypatch.setattr(coverage, "DEVICES", ("cpu",))
    calls = []
    original = autograd.cross_entropy
    monkeypatch.setattr(autograd, "cross_entropy", lambda *a: calls.append(a) or original(*a))

    def run(input, target, options, upstream, **keywords):
        calls.clear()
        options = {name: there(value) for name, value in options.items()}
        leaf = there(input).requires_grad_()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_autograd, "sees", lambda *tensors: False)
            loss, stats = cross_entropy(leaf, there(target), **options, return_stats=True)
            (gradient,) = torch.autograd.grad(loss, leaf, there(upstream))
        return (
            (loss.detach().cpu(), gradient.cpu(), [part.cpu() for part in stats]) if calls else None
        )

    return run


def there(value):
    return value.detach().to(DEVICE) if isinstance(value, torch.Tensor) else value


def round_bfloat16(monkeypatch):
    """The interpreter cuts bfloat16 off, where GPUs round to nearest."""
    from triton.runtime import interpreter

    original = interpreter._convert_float

    def convert(values, source, target, rounding):
        if {source, target} != {triton.language.float32, triton.language.bfloat16}:
            return original(values, source, target, rounding)
        bits = torch.from_numpy(np.ascontiguousarray(values).view(f"int{8 * values.itemsize}"))
        floats = bits.view(torch.bfloat16 if source.is_bf16() else torch.float32)
        floats = floats.to(torch.bfloat16 if target.is_bf16() else torch.float32)
        return (
            floats.view(getattr(torch, f"int{target.primitive_bitwidth}"))
            .numpy()
            .view(f"uint{target.primitive_bitwidth}")
        )

    monkeypatch.setattr(interpreter, "_convert_float", convert)


def small_tiles(monkeypatch, draw):
    """Tiles so small that short rows take each road."""
    monkeypatch.setattr(launch, "WHOLE", draw.choice([8192, 16, 0]))
    monkeypatch.setattr(launch, "TILE", draw.choice([4096, 64]))
    tiles = {2: (draw.choice([256, 512]), 1), 4: (draw.choice([128, 256]), 1)}
    monkeypatch.setattr(launch, "LOOP", tiles)


CLOSE = {  # of a gradient: one rounding of its dtype, and what f32 may be off near p = y
    torch.float32: (3e-6, 1e-6),
    torch.bfloat16: (8e-3, 1e-6),
    torch.float16: (1e-3, 1e-6),
}


def compare(case, run):
    """Whether the kernels cover a case, and if so, that they agree with the engine."""
    dtype = random.Random(case.seed).choice(list(CLOSE))
    leaf = case.input.detach().to(dtype).requires_grad_()
    loss, stats = cross_entropy(leaf, case.target, **case.options, return_stats=True)
    upstream = torch.ones_like(loss)
    if case.seed % 3:
        upstream = (torch.rand(loss.shape) * 3.0 + 0.5).to(loss.dtype)
    (gradient,) = torch.autograd.grad(loss, leaf, upstream)
    got = run(leaf, case.target, case.options, upstream)
    if got is None:
        return False
    in_float32 = {"rtol": 3e-6, "atol": 1e-6, "equal_nan": True}
    in_dtype = in_float32 if dtype is torch.float32 else {**in_float32, "rtol": CLOSE[dtype][0]}

    def expect(name, mine, theirs, **tolerances):
        assert_close(
            mine, theirs, **tolerances, msg=lambda text: f"{case} as {dtype}: {name}: {text}"
        )

    expect("loss", got[0], loss, **in_dtype)
    mine_of = dict(zip(stats._fields, got[2]))
    if case.options.get("softcap") and not torch.equal(mine_of["predicted"], stats.predicted):
        # Which of two logits is larger may depend on the rounding of the softcap.
        values = [
            leaf.detach()
            .movedim(case.options.get("class_axis", 1), -1)
            .float()
            .gather(-1, predicted.clamp(min=0).unsqueeze(-1))
            for predicted in (mine_of["predicted"], stats.predicted)
        ]
        expect("predicted", *values, rtol=1e-6, atol=1e-5)
        mine_of |= {name: getattr(stats, name) for name in ("predicted", "correct", "correct_rows")}
    for name, theirs in stats._asdict().items():
        expect(name, mine_of[name], theirs, **in_float32)
    rtol, atol = CLOSE[dtype]
    expect(
        "gradient", got[1], gradient, rtol=rtol, atol=atol * float(upstream.max()), equal_nan=True
    )
    return True


CASES = int(os.environ.get("XENT_CASES", "240"))


@pytest.mark.parametrize("part", range(12))
def test_agrees_with_the_engine(kernels, monkeypatch, part):
    covered = 0
    for seed in range(part, CASES // 2, 12):
        small_tiles(monkeypatch, random.Random(seed))
        for case in (pytorch_case(seed, torch.float32), xent_case(seed, torch.float32)):
            covered += compare(case, kernels)
    assert covered > CASES // 12 // 3


@pytest.fixture
def canaries(monkeypatch):
    """Gradients are made of NaN, between canaries; returns a look at these."""
    buffers = []

    def gradient_like(logits):
        room = torch.full((logits.numel() + 64,), torch.nan, dtype=logits.dtype, device=DEVICE)
        room[:32] = room[-32:] = 77.0
        buffers.append(room)
        return room[32:-32].view(logits.shape)

    monkeypatch.setattr(autograd, "gradient_like", gradient_like)

    def are_alive():
        ends = torch.cat([torch.cat([room[:32], room[-32:]]) for room in buffers])
        return len(buffers) > 0 and bool((ends == 77.0).all())

    return are_alive


def amid_nan(values):
    """The same numbers in memory that is NaN on both sides."""
    room = torch.full((values.numel() + 64,), torch.nan, dtype=values.dtype, device=values.device)
    room[32:-32] = values.flatten()
    return room[32:-32].view(values.shape)


@pytest.mark.parametrize("dtype", list(CLOSE))
@pytest.mark.parametrize("classes", [1, 2, 8191, 8192, 8193, 12288, 50257, 262144])
def test_every_length_of_rows(kernels, canaries, classes, dtype):
    """And: memory around logits is not read, memory around the gradient not written, ignored rows neither."""
    torch.manual_seed(classes)
    logits = torch.randn(3, classes).to(dtype)
    logits[0, classes // 2] += 30.0  # a confident row, whose other terms are most of its digits
    logits[1] = torch.nan
    target = torch.tensor([classes // 2, -100, classes - 1])
    for reduction in ("none", "sum"):  # gradients of their own launch, and of the loss's
        leaf = logits.clone().requires_grad_()
        options = {"label_smoothing": 0.1, "reduction": reduction}
        loss, stats = cross_entropy(leaf, target, **options, return_stats=True)
        loss.sum().backward()
        got = kernels(amid_nan(logits), target, options, torch.ones_like(loss))
        close = {"rtol": 1e-6, "atol": 0.0} if dtype is torch.float32 else {}
        assert_close(got[0], loss.detach(), **close)
        assert_close(got[2][0], stats.nll, rtol=1e-6, atol=0.0)
        rtol, atol = CLOSE[dtype]
        assert_close(got[1], leaf.grad, rtol=rtol, atol=atol)
        assert bool((got[1][1] == 0.0).all())
    assert canaries()


SHAPES = {
    "a slice of [B, T, K]": lambda: (torch.randn(4, 6, 70)[:, :-1], 2),
    "every second class": lambda: (torch.randn(5, 140)[:, ::2], 1),
    "classes in the middle of four axes": lambda: (torch.randn(2, 7, 3, 5), 1),
    "classes first": lambda: (torch.randn(9, 4), 0),
    "broadcast rows": lambda: (torch.randn(1, 33).expand(4, 33), 1),
    "three axes of rows that do not merge": lambda: (torch.randn(4, 6, 8, 9)[::2, ::2, ::2], 3),
    "a row that begins anywhere": lambda: (torch.randn(3 * 9001 + 1)[1:].view(3, 9001), 1),
    "one row": lambda: (torch.randn(9001), 0),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_layout(kernels, shape):
    torch.manual_seed(0)
    logits, axis = SHAPES[shape]()
    rows = logits.shape[:axis] + logits.shape[axis + 1 :]
    target = torch.randint(logits.shape[axis], rows)
    options = {"label_smoothing": 0.1, "class_axis": axis, "reduction": "none"}
    leaf = logits.clone(memory_format=torch.contiguous_format).requires_grad_()
    loss = cross_entropy(leaf, target, **options)
    upstream = torch.rand(rows)
    (gradient,) = torch.autograd.grad(loss, leaf, upstream)
    got = kernels(logits, target, options, upstream)
    assert_close(got[0], loss.detach())
    assert_close(got[1], gradient, rtol=3e-6, atol=1e-6)


def test_what_no_kernel_covers(kernels):
    """Is computed by PyTorch's operations."""
    logits, target = torch.randn(3, 5), torch.tensor([0, 1, 2])
    weight, matrix = torch.rand(5), torch.rand(5, 5).softmax(1)
    for options in (
        {"weight": weight, "masked": "renormalise", "label_smoothing": 0.1},
        {"weight": weight, "prior": matrix},
        {"prior": matrix, "target_b": target, "lam": 0.3},
        {"empty_mean": "error"},
    ):
        assert kernels(logits, target, options, torch.ones(())) is None
    assert kernels(logits, torch.rand(3, 5), {}, torch.ones(())) is None
    assert kernels(logits.double(), target, {}, torch.ones(())) is None
    assert kernels(logits, target, {"weight": weight, "prior": "wrong_classes"}, torch.ones(()))


def test_backward_twice_and_after_a_change(kernels, monkeypatch):
    monkeypatch.setattr(_autograd, "sees", lambda *tensors: False)
    leaf = there(torch.randn(3, 9)).requires_grad_()
    target = there(torch.tensor([0, 1, 2]))
    logits = leaf * 1.0
    loss = cross_entropy(logits, target, label_smoothing=0.1)
    (want,) = torch.autograd.grad(loss, logits, retain_graph=True)
    (again,) = torch.autograd.grad(loss, logits, there(torch.tensor(2.0)), retain_graph=True)
    assert_close(again, 2.0 * want)
    loss = cross_entropy(logits, target, label_smoothing=0.1)
    with torch.no_grad():
        logits += 1.0  # as PyTorch's loss allows
    (changed,) = torch.autograd.grad(loss, logits, there(torch.tensor(2.0)))
    assert_close(changed, 2.0 * want)


def test_second_derivatives(kernels, monkeypatch):
    monkeypatch.setattr(_autograd, "sees", lambda *tensors: False)
    leaf = there(torch.randn(2, 5)).requires_grad_()
    target = there(torch.tensor([0, 4]))
    loss = cross_entropy(leaf, target, label_smoothing=0.1)
    (first,) = torch.autograd.grad(loss, leaf, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), leaf)
    x = leaf.detach().double().requires_grad_()
    loss = torch.nn.functional.cross_entropy(x, target, label_smoothing=0.1)
    (first,) = torch.autograd.grad(loss, x, create_graph=True)
    (want,) = torch.autograd.grad(first.square().sum(), x)
    assert_close(second.double(), want, rtol=1e-5, atol=1e-6)


def test_a_label_that_is_no_class_makes_its_row_nan(kernels):
    """A value is not read back, so that nothing can be raised; nothing is read out of bounds either."""
    logits = torch.randn(3, 5)
    got = kernels(logits, torch.tensor([0, 5, -1]), {"reduction": "none"}, torch.ones(3))
    assert got[0].isnan().tolist() == [False, True, True]
    assert got[1].isnan().any(1).tolist() == [False, True, True]


def test_compiled_for_gpus_that_are_not_there():
    """No spills, wide loads, few instructions per logit: see triton_compiled.py."""
    if not (pathlib.Path(triton.__file__).parent / "backends/nvidia/bin/nvdisasm").exists():
        pytest.skip("NOT TESTED: what the kernels compile to: this triton has no nvdisasm")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    program = pathlib.Path(__file__).with_name("triton_compiled.py")
    done = subprocess.run(
        [sys.executable, program], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@triton.jit
def _exponentials(x, out, EXP: tl.constexpr, N: tl.constexpr):
    at = tl.arange(0, N)
    value = tl.load(x + at)
    tl.store(out + at, exponential(value, EXP))


@triton.jit
def _tangents(x, out, N: tl.constexpr):
    at = tl.arange(0, N)
    tl.store(out + at, tanh(tl.load(x + at)))


def test_arithmetic_is_accurate():
    u = 2.0**-24
    x = there(torch.linspace(-87.0, 0.0, 1 << 14))
    out = torch.empty_like(x)
    _exponentials[(1,)](x, out, 1, x.numel())
    assert (out.double() / x.double().exp() - 1.0).abs().max() <= 4.0 * u
    x = there(torch.linspace(-6.0, 6.0, 1 << 14))
    _tangents[(1,)](x, out, x.numel())
    assert (out.double() / x.double().tanh() - 1.0).abs().nan_to_num().max() <= 8.0 * u


@pytest.mark.parametrize("classes", [5, 9001])
def test_a_mean_over_weights_of_0(kernels, classes):
    logits, target = torch.randn(3, classes), torch.tensor([0, 1, 0])
    options = {"weight": torch.zeros(classes), "label_smoothing": 0.1, "empty_mean": "zero"}
    got = kernels(logits, target, options, torch.ones(()))
    assert got[0] == 0.0 and bool((got[1] == 0.0).all())
    got = kernels(logits, target, options | {"empty_mean": "nan"}, torch.ones(()))
    assert got[0].isnan() and bool(got[1].isnan().all())
    assert got[2][8] == 0  # a row's loss is finite, though the mean is not


def test_without_statistics(kernels, monkeypatch):
    """The same loss and gradient: the kernel computes less, and the mean is divided elsewhere."""
    monkeypatch.setattr(_autograd, "sees", lambda *tensors: False)
    logits, target = there(torch.randn(4, 6)), there(torch.tensor([0, 1, 2, -100]))
    options = {"label_smoothing": 0.1, "z_loss": 0.01, "form": "kl"}
    for more in ({}, {"weight": there(torch.rand(6))}, {"weight": there(torch.zeros(6))}):
        for empty in ("nan", "zero"):
            leaf = logits.clone().requires_grad_()
            call = {**options, **more, "empty_mean": empty}
            loss = cross_entropy(leaf, target, **call)
            (gradient,) = torch.autograd.grad(loss, leaf)
            with_stats, _ = cross_entropy(leaf, target, **call, return_stats=True)
            (other,) = torch.autograd.grad(with_stats, leaf)
            assert_close(loss, with_stats, equal_nan=True)
            assert_close(gradient, other, equal_nan=True)
