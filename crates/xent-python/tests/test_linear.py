"""A linear layer and its loss, in chunks: against PyTorch's function, and against the layer and then the loss.

XENT_CASES=1000 draws so many random configurations instead of a hundred.
"""

import os
import random
import subprocess
import sys
import tempfile

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.testing import assert_close

from cases import Case, xent_case
from xent.errors import InvalidIndex, InvalidType, InvalidValue
from xent.options import complete, criterion
from xent.torch import LinearCrossEntropyLoss, _autograd, _chunk_loss, _chunks, _linear
from xent.torch.functional import cross_entropy, linear_cross_entropy

CASES = int(os.environ.get("XENT_CASES", 100))
EXACT = {"rtol": 1e-11, "atol": 1e-12, "equal_nan": True}
H = torch.randn(7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
W = torch.randn(11, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
B = torch.randn(11, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
Y = torch.tensor([0, 10, -100, 2, 5, -100, 2])


def leaves(*tensors):
    return [None if x is None else x.detach().clone().requires_grad_() for x in tensors]


def unfused(h, w, target, /, *, linear_bias=None, **options):
    return cross_entropy(F.linear(h, w, linear_bias), target, class_axis=-1, **options)


def assert_same(ours, theirs, layer, upstream=None, **close):
    """Loss, statistics and the gradients of input, weight and bias, of two functions of these."""
    close = close or EXACT
    results = []
    for function in (ours, theirs):
        given = leaves(*layer)
        result = function(*given)
        loss, stats = result if isinstance(result, tuple) else (result, ())
        torch.manual_seed(5)
        by = (
            torch.rand_like(loss.detach()) * 3.0
            if upstream is None
            else upstream.expand(loss.shape)
        )
        gradients = torch.autograd.grad(loss, [x for x in given if x is not None], by)
        results.append((loss.detach(), list(stats), list(gradients)))
    for ours, theirs in zip(*results):
        assert_close(ours, theirs, **close)


def pytorch_case(seed):
    """Options of torch.nn.functional.linear_cross_entropy."""
    torch.manual_seed(seed)
    draw = random.Random(seed)
    rows, classes, width = draw.choice([0, 1, 3, 20]), draw.choice([1, 2, 5, 33]), draw.choice([1, 4, 9])  # fmt: skip
    further = draw.choice([(), (), (), (2,), (2, 3)])
    batch = (rows,) if further or draw.random() < 0.9 else ()
    shape = (*batch, classes, *further)
    options = {
        "reduction": draw.choice(["mean", "sum", "none"]),
        "label_smoothing": draw.choice([0.0, 0.1, 1.0]),
    }
    if draw.random() < 0.4:
        options["weight"] = torch.rand(classes, dtype=torch.float64)
    if draw.random() < 0.3:
        target = torch.rand(shape, dtype=torch.float64)
    else:
        target = torch.randint(classes, batch + further)
        if draw.random() < 0.5:
            options["ignore_index"] = draw.choice([-100, 0, classes + 3])
            target = torch.where(torch.rand(target.shape) < 0.4, options["ignore_index"], target)
    bias = torch.randn(classes, *further, dtype=torch.float64) if draw.random() < 0.5 else None
    layer = (
        torch.randn(*batch, width, dtype=torch.float64) * draw.choice([0.1, 3.0]),
        torch.randn(classes, *further, width, dtype=torch.float64),
        bias,
    )
    return layer, target, options, draw.choice([None, 1, 2, 7])


@pytest.mark.skipif(not hasattr(F, "linear_cross_entropy"), reason="PyTorch 2.15 has it")
def test_as_pytorch():
    for seed in range(CASES):
        layer, target, options, chunk_rows = pytorch_case(seed)
        assert_same(
            lambda h, w, b: linear_cross_entropy(h, w, target, linear_bias=b, chunk_rows=chunk_rows, **options),
            lambda h, w, b: F.linear_cross_entropy(h, w, target, linear_bias=b, **options),
            layer,
        )  # fmt: skip


def layer_of(case: Case):
    """A layer for a case's rows and classes; then target and options for logits with the classes last."""
    draw = random.Random(case.seed)
    options, axis = dict(case.options), case.options["class_axis"]
    del options["class_axis"]
    shape, classes = case.input.shape, case.input.shape[axis]
    moved = {
        name: options[name].movedim(axis, -1)
        for name in ("allowed_classes",)
        if name in options and options[name].shape == shape and len(shape) > 1
    }
    target = case.target.movedim(axis, -1) if case.target.shape == shape else case.target
    rows, width = shape[:axis] + shape[axis + 1 :], draw.choice([1, 3, 8])
    hidden = torch.randn(*rows, width, dtype=torch.float64) * draw.choice([0.1, 1.0, 10.0])
    weight = torch.randn(classes, width, dtype=torch.float64)
    bias = torch.randn(classes, dtype=torch.float64) if draw.random() < 0.5 else None
    if bias is not None and draw.random() < 0.3:
        bias[draw.randrange(classes)] = -torch.inf
    keeps_all = options["ignore_index"] is None and "ignored_rows" not in options
    if rows and keeps_all and draw.random() < 0.2:  # 0 times NaN is NaN in the whole product
        hidden[..., 0] = torch.where(torch.rand(rows) < 0.2, torch.nan, hidden[..., 0])
    return (hidden, weight, bias), target, {**options, **moved}, draw.choice([None, 1, 3])


def test_every_option(road):
    """Of all priors, ε by row, two labels, probabilities, row weights, masks, softcap, temperature, z-loss."""
    for seed in range(CASES):
        case = xent_case(seed)
        layer, target, options, chunk_rows = layer_of(case)
        options["return_stats"] = True

        def ours(h, w, b):
            return linear_cross_entropy(h, w, target, linear_bias=b, chunk_rows=chunk_rows, **options)  # fmt: skip

        try:
            assert_same(
                ours, lambda h, w, b: unfused(h, w, target, linear_bias=b, **options), layer
            )
        except AssertionError as error:
            raise AssertionError(f"{case}: {error}") from None


def test_every_option_by_triton(monkeypatch):
    """In chunks of logits of float32, by Triton's interpreter: against the engine."""
    pytest.importorskip("triton")
    from xent.torch._triton import coverage

    monkeypatch.setattr(coverage, "DEVICES", ("cpu",))
    calls, by_triton = [], _chunk_loss._by_triton
    monkeypatch.setattr(_chunk_loss, "_by_triton", lambda *call: calls.append(1) or by_triton(*call))  # fmt: skip
    for seed in range(CASES // 4):
        layer, target, options, chunk_rows = layer_of(xent_case(seed))
        layer = [None if x is None else x.float() for x in layer]
        options["return_stats"] = True

        def results():
            given = leaves(*layer)
            loss, stats = linear_cross_entropy(*given[:2], target, linear_bias=given[2], chunk_rows=chunk_rows, **options)  # fmt: skip
            upstream = torch.linspace(0.5, 2.0, loss.numel()).view(loss.shape)
            gradients = torch.autograd.grad(loss, [x for x in given if x is not None], upstream)
            return loss.detach(), list(stats), list(gradients)

        expected = results()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_autograd, "sees", lambda *_: False)
            assert_close(results(), expected, rtol=3e-5, atol=1e-5, equal_nan=True, msg=lambda text: f"seed {seed}: {text}")  # fmt: skip
    assert len(calls) > CASES // 8


# Chunks, and what must not be multiplied


@pytest.fixture
def products(monkeypatch):
    """The shapes that were multiplied."""
    seen, product = [], _chunks.product

    def counted(a, b, out, add=False):
        seen.append((a.shape[0], a.shape[1], b.shape[1]))
        product(a, b, out, add)

    monkeypatch.setattr(_chunks, "product", counted)
    return seen


def test_chunks_are_of_the_products_size():
    of = _chunks.rows_of_chunk
    assert of(1024, 32000, 0, "cpu", 4) == 512
    assert of(8192, 128256, 0, "cpu", 4) == 128
    assert of(8192, 262144, 0, "cpu", 4) == 128
    assert of(700, 1000, 0, "cpu", 4) == 350  # equal chunks
    assert of(100, 1000, 0, "cpu", 4) == 100
    assert of(0, 1000, 0, "cpu", 4) == 0
    assert of(8192, 128256, 0, "cuda", 6) == 2048
    assert of(8192, 262144, 0, "cuda", 6) == 1024
    assert of(8192, 32000, 0, "cuda", 6) == 4096
    assert of(1000, 32000, 300, "cuda", 6) == 250
    # Logits that are kept are those of all rows, within a chunk's memory.
    assert of(4096, 4096, 0, "cpu", 4, keeps=True) == 4096
    assert of(4097, 4096, 0, "cpu", 4, keeps=True) == of(4097, 4096, 0, "cpu", 4) < 512
    assert of(8192, 32768, 0, "cuda", 6, keeps=True) == 8192
    assert of(1000, 32000, 300, "cuda", 6, keeps=True) == 250


def test_ignored_rows_are_not_multiplied(products):
    h, w = leaves(H, W)
    linear_cross_entropy(h, w, Y).backward()
    assert products == [(5, 5, 11), (11, 5, 5), (5, 11, 5)]
    assert torch.equal(h.grad[[2, 5]], torch.zeros(2, 5, dtype=torch.float64))
    poisoned = torch.where((Y == -100).unsqueeze(1), torch.nan, H)
    assert linear_cross_entropy(poisoned, W, Y).isfinite()


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_gradients_that_nobody_wants_are_not_multiplied(products, reduction):
    for wanted, expected in (
        ((0, 0, 0), [(7, 5, 11)]),
        ((1, 0, 0), [(7, 5, 11), (7, 11, 5)]),
        ((0, 1, 0), [(7, 5, 11), (11, 7, 5)]),
        ((0, 0, 1), [(7, 5, 11)]),
    ):
        products.clear()
        layer = [x.clone().requires_grad_(bool(needs)) for x, needs in zip((H, W, B), wanted)]
        loss = linear_cross_entropy(
            *layer[:2], Y.clamp(0), linear_bias=layer[2], reduction=reduction
        )
        if any(wanted):
            loss.sum().backward()
        if reduction == "none":
            assert products.pop(0) == (7, 5, 11)
            expected = expected if any(wanted) else []
        assert products == expected
        assert [x.grad is not None for x in layer] == [bool(needs) for needs in wanted]
        if any(wanted):
            full = leaves(H, W, B)
            unfused(
                *full[:2], Y.clamp(0), linear_bias=full[2], reduction=reduction
            ).sum().backward()
            for mine, theirs in zip(layer, full):
                assert mine.grad is None or assert_close(mine.grad, theirs.grad, **EXACT) is None


def test_without_gradients_none_are_made(products):
    h, w = leaves(H, W)
    with torch.no_grad():
        linear_cross_entropy(h, w, Y)
    assert len(products) == 1


def peak(function):
    """Bytes that a call allocates at the same time."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        function()
    events = [
        event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"
    ]
    total, most = 0, 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        total += event.nbytes()
        most = max(most, total)
    return most


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_memory(dtype):
    """A chunk beside the gradients; none of them for what is frozen."""
    rows, width, classes, of_chunk = 64, 16, 20_000, 8
    h, w = torch.randn(rows, width).to(dtype), torch.randn(classes, width).to(dtype)
    y = torch.randint(classes, (rows,))
    y[::3] = -100
    chunk, of_h, of_w = (
        4 * number for number in (of_chunk * classes, rows * width, classes * width)
    )
    small = chunk // 50 + (_chunks.TILE if dtype is torch.bfloat16 else 0)
    for needs, due in (
        ((1, 1), chunk + of_h + of_w),
        ((1, 0), chunk + of_h),
        ((0, 1), chunk + of_w),
    ):
        given = [x.clone().requires_grad_(bool(need)) for x, need in zip((h, w), needs)]
        for reduction in ("mean", "none"):
            loss = lambda: linear_cross_entropy(*given, y, chunk_rows=of_chunk, reduction=reduction)  # noqa: E731
            loss()
            assert chunk / 2 < peak(lambda: loss().sum().backward()) <= due + small, (
                needs,
                reduction,
            )


def test_in_halves_tiles_are_widened(monkeypatch):
    monkeypatch.setattr(_chunks, "TILE", 3 * 5 * 4)
    monkeypatch.setattr(_chunks, "_multiplies", lambda *_: False)
    for dtype in (torch.bfloat16, torch.float16):
        h, w, b = (x.to(dtype) for x in (H, W, B))
        assert_same(
            lambda h, w, b: linear_cross_entropy(h, w, Y, linear_bias=b, chunk_rows=2),
            lambda h, w, b: unfused(h.float(), w.float(), Y, linear_bias=b.float()).to(dtype),
            (h, w, b),
            rtol=torch.finfo(dtype).eps,
            atol=1e-6,
        )


@pytest.mark.parametrize("road", ["engine", "composed", "triton"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_halves_where_products_are_float32(road, dtype, monkeypatch, float32_products):
    """As on a GPU, where G is rounded to halves: within their precision of the whole, and float16 within its range."""
    float32_products(dtype)
    if road == "engine":
        # It has one dtype for logits and gradient.
        compute = _chunk_loss.compute
        monkeypatch.setattr(_chunk_loss, "compute", lambda *call: (lambda rows, g: (rows, g.to(dtype)))(*compute(*call)))  # fmt: skip
    else:
        monkeypatch.setattr(_autograd, "sees", lambda *_: False)
    if road == "triton":
        pytest.importorskip("triton")
        from test_triton import round_bfloat16

        from xent.torch._triton import coverage

        round_bfloat16(monkeypatch)
        monkeypatch.setattr(coverage, "DEVICES", ("cpu",))
    torch.manual_seed(1)
    h, w, b = (torch.randn(*shape).to(dtype) for shape in ((150, 8), (40, 8), (40,)))
    y = torch.randint(40, (150,))
    y[::3] = -100
    weight, r = torch.rand(40) * 5.0, torch.rand(150)
    for options in (
        {"reduction": "mean"},
        {"reduction": "sum", "weight": weight},
        {"reduction": "none", "row_weight": r},
        {"reduction": "mean", "weight": weight, "row_weight": r, "z_loss": 0.1},
    ):
        for upstream in (torch.tensor(3.7),):
            layers = leaves(h, w, b), leaves(h.double(), w.double(), b.double())
            ours = linear_cross_entropy(*layers[0][:2], y, linear_bias=layers[0][2], label_smoothing=0.1, chunk_rows=64, **options)  # fmt: skip
            theirs = unfused(*layers[1][:2], y, linear_bias=layers[1][2], label_smoothing=0.1, **options)  # fmt: skip
            assert_close(ours.double(), theirs, rtol=2 * torch.finfo(dtype).eps, atol=1e-4)
            for loss in (ours, theirs):
                loss.backward(upstream.to(loss.dtype).expand(loss.shape))
            for mine, exact in zip(*layers):
                error = (mine.grad.double() - exact.grad).norm() / exact.grad.norm()
                assert error < torch.finfo(dtype).eps, (options, upstream, mine.shape)


def test_bfloat16_whatever_the_chunks():
    """torch 2.15 sums the loss of chunks, and dW, in bfloat16: 4.125 for 8.27 in 512 chunks."""
    torch.manual_seed(0)
    h, w = torch.randn(1024, 32), torch.randn(64, 32) * 2.0
    y = torch.randint(64, (1024,))
    h, w = h.bfloat16(), w.bfloat16()
    exact = leaves(h.double(), w.double())
    expected = unfused(*exact, y, label_smoothing=0.1)
    expected.backward()
    for chunks in (1, 8, 256):
        given = leaves(h, w)
        loss = linear_cross_entropy(*given, y, label_smoothing=0.1, chunk_rows=1024 // chunks)
        loss.backward()
        assert loss == expected.bfloat16()
        error = (given[1].grad.double() - exact[1].grad).norm() / exact[1].grad.norm()
        assert error < 0.0022, chunks


def test_float32_against_float64():
    torch.manual_seed(0)
    h, w, y = torch.randn(200, 256), torch.randn(1003, 256) * 0.05, torch.randint(1003, (200,))
    given, exact = leaves(h, w), leaves(h.double(), w.double())
    ours = linear_cross_entropy(*given, y, label_smoothing=0.1, chunk_rows=50)
    theirs = unfused(*exact, y, label_smoothing=0.1)
    assert_close(ours.double(), theirs, rtol=1e-6, atol=0)
    ours.backward()
    theirs.backward()
    for mine, right in zip(given, exact):
        assert (mine.grad - right.grad).abs().max() < 2e-6 * right.grad.abs().max()


THREADS = """
import torch
from xent.torch.functional import linear_cross_entropy

torch.manual_seed(0)
h, w, b = torch.randn(300, 64), torch.randn(5003, 64), torch.randn(5003)
y, results = torch.randint(5003, (300,)), []
for number in (1, 2, 3):
    torch.set_num_threads(number)
    given = [x.clone().requires_grad_() for x in (h, w, b)]
    loss = linear_cross_entropy(
        *given[:2], y, linear_bias=given[2], label_smoothing=0.1, chunk_rows=100
    )
    loss.backward()
    results.append([loss.detach(), *(x.grad for x in given)])
for other in results[1:]:
    print([torch.equal(a, b) for a, b in zip(results[0], other)])
"""


def test_bits_do_not_depend_on_threads():
    """Where those of products do not. MKL's do with AVX-512, unless it is told before it starts."""
    child = subprocess.run(
        [sys.executable, "-c", THREADS],
        env=os.environ | {"MKL_CBWR": "AUTO,STRICT"},
        capture_output=True,
        text=True,
    )
    assert child.stdout == "[True, True, True, True]\n" * 2, child.stderr


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_the_engine_writes_over_logits(dtype):
    """A chunk of logits becomes its gradient; unless something is wrong, then it is as it was."""
    engine = criterion(complete(reduction="none", label_smoothing=0.1))
    z = (torch.randn(40, 1001) * 3).to(dtype)
    y, upstream = torch.randint(1001, (40,)), torch.rand(40, dtype=torch.float64)
    gradient, over = torch.empty_like(z), z.clone()
    outputs = [
        engine.call(z, -1, y, upstream=upstream, gradient=gradient),
        engine.call(over, -1, y, upstream=upstream, in_place=True),
    ]
    assert torch.equal(over, gradient) and len({output.correct for output in outputs}) == 1
    over.copy_(z)
    with pytest.raises(IndexError, match="target 1001 in row 3"):
        engine.call(over, -1, torch.where(torch.arange(40) == 3, 1001, y), in_place=True)
    assert torch.equal(over, z)
    with pytest.raises(ValueError, match="a gradient in place has no array of its own"):
        engine.call(over, -1, y, gradient=gradient, in_place=True)
    if dtype is torch.float64:
        with pytest.raises(
            ValueError, match="the memory of logits overlaps that of the upstream gradient"
        ):
            engine.call(over, -1, y, upstream=over[:, 0], in_place=True)
    with pytest.raises(ValueError, match="read-only"):
        import numpy

        fixed = numpy.zeros((2, 3))
        fixed.flags.writeable = False
        engine.call(fixed, -1, y[:2] % 3, in_place=True)


# Upstream gradients


@pytest.mark.parametrize("upstream", [3.7, 2.0**16, 0.0, -1.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_upstream(upstream, dtype):
    close = EXACT if dtype is torch.float64 else {"rtol": 2 * torch.finfo(dtype).eps, "atol": 2e-6 * max(1.0, upstream)}  # fmt: skip
    layer = [(x / 8).to(dtype) for x in (H, W, B)]
    if dtype is torch.float16 and upstream > 100:
        layer = [x / 16 for x in layer]
        upstream = 2.0**10
    assert_same(
        lambda h, w, b: linear_cross_entropy(h, w, Y, linear_bias=b, label_smoothing=0.1).float(),
        lambda h, w, b: unfused(h.double(), w.double(), Y, linear_bias=b.double(), label_smoothing=0.1).float(),
        layer,
        torch.tensor(upstream),
        **close,
    )  # fmt: skip


def test_loss_scaling_keeps_small_gradients():
    """In float16 the gradient for an upstream gradient of 1 would be 0 in part."""
    torch.manual_seed(1)
    h, w = torch.randn(64, 8).half(), (torch.randn(5000, 8) / 100).half()
    y = torch.randint(5000, (64,))
    given, exact = leaves(h, w), leaves(h.double(), w.double())
    (linear_cross_entropy(*given, y).float() * 2.0**12).backward()
    (unfused(*exact, y) * 2.0**12).backward()
    for mine, right in zip(given, exact):
        assert_close(mine.grad.double(), right.grad, rtol=2e-3, atol=1e-4)


def test_upstream_of_rows():
    """A row of 0 and different rows; and one number for all, by a stride of 0."""
    h, w = leaves(H, W)
    loss = linear_cross_entropy(h, w, Y, reduction="none", chunk_rows=3)
    assert loss.shape == (7,) and loss[2] == 0.0
    for upstream in (
        torch.tensor([0.0, 1.0, 5.0, 2.0, -3.0, 9.0, 0.5]),
        torch.tensor(2.5).expand(7),
    ):
        assert_same(
            lambda h, w: linear_cross_entropy(h, w, Y, reduction="none", chunk_rows=3),
            lambda h, w: unfused(h, w, Y, reduction="none"),
            (H, W),
            upstream.double(),
        )


def test_infinite_upstream_leaves_ignored_rows_alone():
    h, w = leaves(H, W)
    linear_cross_entropy(h, w, Y).backward(torch.tensor(torch.inf, dtype=torch.float64))
    assert torch.equal(h.grad[[2, 5]], torch.zeros(2, 5, dtype=torch.float64))


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_a_second_backward_forms_again(reduction):
    given = leaves(H, W, B)
    loss = linear_cross_entropy(*given[:2], Y, linear_bias=given[2], reduction=reduction)
    upstream = torch.rand_like(loss)
    first = torch.autograd.grad(loss, given, upstream, retain_graph=True)
    copies = [x.clone() for x in first]
    second = torch.autograd.grad(loss, given, upstream)
    assert all(torch.equal(a, b) for a, b in zip(copies, second))
    assert all(torch.equal(a, b) for a, b in zip(copies, first))


def test_gradients_are_given_away():
    h, w = leaves(H, W)
    loss = linear_cross_entropy(h, w, Y)
    [kept] = _linear._gradients.values()
    address = kept.weight.data_ptr()
    del kept
    loss.backward()
    assert w.grad.data_ptr() == address and not _linear._gradients
    loss = linear_cross_entropy(h, w, Y)
    assert len(_linear._gradients) == 1
    del loss
    assert not _linear._gradients


# Edges


def test_all_rows_are_ignored(products):
    y = torch.full((7,), -100)
    for empty, expected in (("nan", torch.nan), ("zero", 0.0)):
        h, w, b = leaves(H, W, B)
        loss, stats = linear_cross_entropy(
            h, w, y, linear_bias=b, empty_mean=empty, return_stats=True
        )
        assert_close(loss, torch.tensor(expected, dtype=torch.float64), equal_nan=True)
        loss.backward()
        assert all(not x.grad.any() for x in (h, w, b))
        assert stats.ignored == 7 and stats.first_non_finite == -1 and (stats.predicted == -1).all()
    assert all(0 in shape for shape in products)
    with pytest.raises(InvalidValue, match="the denominator of the mean is 0"):
        linear_cross_entropy(H, W, y, empty_mean="error")


def test_no_rows():
    for reduction in ("mean", "sum", "none"):
        assert_same(
            lambda h, w: linear_cross_entropy(h, w, Y[:0], reduction=reduction, return_stats=True),
            lambda h, w: unfused(h, w, Y[:0], reduction=reduction, return_stats=True),
            (H[:0], W),
        )
    with pytest.raises(ValueError, match="weight"):
        linear_cross_entropy(H[:0], W, Y[:0], weight=torch.full((11,), torch.nan))


def test_sequences():
    h, y = torch.randn(2, 3, 5, dtype=torch.float64), torch.tensor([[1, -100, 2], [3, 4, 5]])
    for reduction in ("mean", "none"):
        assert_same(
            lambda h, w: linear_cross_entropy(h, w, y, reduction=reduction, return_stats=True),
            lambda h, w: unfused(h, w, y, reduction=reduction, return_stats=True),
            (h, W),
        )


def test_any_layout():
    h, w = H.t().contiguous().t(), W.t().contiguous().t()
    assert_same(lambda h, w: linear_cross_entropy(h, w, Y), lambda h, w: unfused(h, w, Y), (h, w))
    given = h.requires_grad_(), torch.stack([w, w], -1)[..., 0].requires_grad_()
    linear_cross_entropy(*given, Y).backward()
    exact = leaves(h, w)
    unfused(*exact, Y).backward()
    assert_close([x.grad for x in given], [x.grad for x in exact], **EXACT)


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.uint16, torch.int8])
def test_labels_of_any_integer(dtype):
    y = torch.tensor([0, 10, 7, 2, 5, 7, 2])
    loss = linear_cross_entropy(H, W, y.to(dtype), ignore_index=7)
    assert_close(loss, unfused(H, W, y, ignore_index=7))


def test_errors_name_the_row_of_the_batch():
    y = Y.clone()
    y[6] = 11
    with pytest.raises(InvalidIndex, match="target 11 in row 6 is outside 0..11"):
        linear_cross_entropy(H, W, y, chunk_rows=2)
    with pytest.raises(InvalidIndex, match="target 11 in row 6 is outside 0..11"):
        linear_cross_entropy(H, W, y, weight=torch.ones(11), chunk_rows=2)
    eps = torch.full((7,), 0.1)
    eps[4] = 1.5
    with pytest.raises(InvalidValue, match="row 4"):
        linear_cross_entropy(H, W, Y, label_smoothing=eps, chunk_rows=2)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"input": H.tolist()}, InvalidType, "input is of type list, expected a tensor"),
        ({"input": H[:, :4]}, InvalidValue, r"linear_weight has shape \[11, 5\], expected \[K, 4\]"),
        ({"linear_weight": W.t().contiguous()}, InvalidValue, "it has the classes first"),
        ({"linear_weight": W.flatten()}, InvalidValue, "where FSDP has flattened or sharded it"),
        ({"linear_weight": W.float()}, InvalidType, "linear_weight has dtype torch.float32, expected torch.float64"),
        ({"linear_bias": B[:3]}, InvalidValue, r"linear_bias has shape \[3\], expected \[11\]"),
        ({"linear_bias": B.float()}, InvalidType, "linear_bias has dtype torch.float32"),
        ({"linear_weight": W.to("meta")}, InvalidValue, "linear_weight is on meta, expected cpu"),
        ({"target": Y[:3]}, InvalidValue, r"target has shape \[3\], expected \[7\]"),
        ({"chunk_rows": 0}, InvalidValue, "chunk_rows is 0, expected at least 1"),
        ({"chunk_rows": 1.5}, InvalidType, "chunk_rows is 1.5, expected an integer"),
        ({"denominator": torch.tensor(-1.0)}, ValueError, "denominator"),
        ({"class_axis": -1}, TypeError, "unexpected keyword argument 'class_axis'"),
        ({"label_smoothing": 1.5}, InvalidValue, "label_smoothing is 1.5, expected 0 ≤ ε ≤ 1"),
    ],
)  # fmt: skip
def test_errors(change, error, message):
    given = {"input": H, "linear_weight": W, "target": Y, **change}
    with pytest.raises(error, match=message):
        linear_cross_entropy(**given)


# In PyTorch


def test_autocast():
    """Both are converted, as F.linear does it; the gradient of the weight is that of float32, unrounded."""
    h, w, b = H.bfloat16(), W.float(), B.float()
    given, exact = leaves(h, w, b), leaves(h.double(), w.bfloat16().double(), b.bfloat16().double())
    with torch.autocast("cpu", torch.bfloat16):
        loss = linear_cross_entropy(*given[:2], Y, linear_bias=given[2], label_smoothing=0.1)
    assert loss.dtype is torch.float32
    loss.backward()
    expected = unfused(*exact[:2], Y, linear_bias=exact[2], label_smoothing=0.1)
    expected.backward()
    assert_close(loss.double(), expected, rtol=1e-6, atol=0)
    assert [x.grad.dtype for x in given] == [torch.bfloat16, torch.float32, torch.float32]
    assert_close(given[1].grad.double(), exact[1].grad, rtol=1e-5, atol=1e-7)
    assert_close(given[0].grad.double(), exact[0].grad, rtol=4e-3, atol=1e-7)


BACKENDS = ["eager", "aot_eager", "inductor"]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("options", [{}, {"reduction": "none"}, {"return_stats": True, "z_loss": 0.1, "weight": B.abs()}, {"target": W.new_ones(7, 11) / 11, "exclude": [1]}], ids=str)  # fmt: skip
def test_compiled(backend, options, products):
    torch._dynamo.reset()
    options = {"target": Y, "label_smoothing": 0.1, **options}

    def function(h, w, b):
        return linear_cross_entropy(h * 2, w, linear_bias=b, chunk_rows=2, **options)

    compiled = torch.compile(function, fullgraph=True, backend=backend)
    assert_same(compiled, function, (H, W, B))
    if options.get("reduction") != "none":
        assert len(products) % 2 == 0, "compiled code multiplies as often"


def test_cuda_graphs_leave_it_out():
    for name in ("linear_cross_entropy", "linear_cross_entropy_backward"):
        assert torch.Tag.cudagraph_unsafe in getattr(torch.ops.xent, name).default.tags


def test_compiled_for_any_shape():
    torch._dynamo.reset()
    module = LinearCrossEntropyLoss(5, 11, label_smoothing=0.1, dtype=torch.float64)
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True, dynamic=True)
    for rows in (7, 4, 6):
        both = compiled(H[:rows], Y[:rows]), module(H[:rows], Y[:rows])
        assert_close(*both)
        weight = module.linear.weight
        assert_close(*(torch.autograd.grad(loss, weight) for loss in both))


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_derivatives(reduction):
    """Numerically, the second ones too."""
    options = {"reduction": reduction, "label_smoothing": 0.1, "z_loss": 0.1}

    def loss(h, w, b):
        return linear_cross_entropy(h, w, Y[:4], linear_bias=b, chunk_rows=2, **options)

    given = leaves(H[:4], W, B)
    assert torch.autograd.gradcheck(loss, given)
    assert torch.autograd.gradgradcheck(loss, given)


def test_transforms():
    def loss(h, w):
        return linear_cross_entropy(h, w, Y, label_smoothing=0.1)

    expected = torch.autograd.grad(unfused(*(given := leaves(H, W)), Y, label_smoothing=0.1), given)
    assert_close(torch.func.grad(loss, (0, 1))(H, W), expected)
    many = torch.func.vmap(loss, (0, None))(torch.stack([H, 2 * H]), W)
    assert_close(many, torch.stack([loss(H, W), loss(2 * H, W)]))
    _, tangent = torch.func.jvp(loss, (H, W), (H, W))
    assert_close(tangent, (expected[0] * H).sum() + (expected[1] * W).sum())
    h, w = leaves(H, W)
    rows = linear_cross_entropy(h, w, Y, reduction="none")
    expected_rows = torch.autograd.grad(rows.sum(), h, retain_graph=True)[0]
    ours = torch.autograd.grad(rows, h, torch.eye(7, dtype=torch.float64), is_grads_batched=True)
    assert_close(ours[0].sum(0), expected_rows)


def test_weights_that_are_learned():
    weight, prior = (torch.rand(11, dtype=torch.float64).softmax(0).requires_grad_() for _ in "wp")
    given = leaves(H, W)
    loss = linear_cross_entropy(*given, Y, weight=weight, prior=prior, label_smoothing=0.1)
    expected = unfused(*given, Y, weight=weight, prior=prior, label_smoothing=0.1)
    everything = [*given, weight, prior]
    assert_close(
        torch.autograd.grad(loss, everything), torch.autograd.grad(expected, everything), **EXACT
    )


def test_negative_weights():
    weight = torch.linspace(-1, 1, 11, dtype=torch.float64)
    assert_same(
        lambda h, w: linear_cross_entropy(h, w, Y, weight=weight, chunk_rows=2),
        lambda h, w: unfused(h, w, Y, weight=weight),
        (H, W),
    )


def test_other_devices():
    h, w = (x.to("meta").requires_grad_() for x in (H, W))
    loss = linear_cross_entropy(h, w, Y.to("meta"), label_smoothing=0.1)
    loss.backward()
    assert loss.device.type == "meta" and w.grad.shape == w.shape


# The module


def test_module_has_the_state_of_pytorchs():
    torch_nn = pytest.importorskip("torch.nn")
    if not hasattr(torch_nn, "LinearCrossEntropyLoss"):
        pytest.skip("PyTorch 2.15 has it")
    given = {"bias": True, "weight": B.abs(), "dtype": torch.float64, "label_smoothing": 0.1}
    for further in ((), (2, 3)):
        theirs = torch_nn.LinearCrossEntropyLoss(5, 11, out_features=further, **given)
        ours = LinearCrossEntropyLoss(5, 11, out_features=further, **given)
        assert list(ours.state_dict()) == list(theirs.state_dict())
        ours.load_state_dict(theirs.state_dict())
        y = torch.randint(11, (7, *further))
        losses = ours(H, y), theirs(H, y)
        assert_close(*losses)
        for loss in losses:
            loss.backward()
        assert_close(ours.linear.weight.grad, theirs.linear.weight.grad)
        assert_close(ours.linear.bias.grad, theirs.linear.bias.grad)


def test_module():
    module = LinearCrossEntropyLoss(5, 11, label_smoothing=0.1, prior=B.softmax(0), return_stats=True, dtype=torch.float64, chunk_rows=3)  # fmt: skip
    assert set(module.state_dict()) == {"prior", "linear.weight"}
    loss, stats = module(H, Y, denominator=10)
    expected = unfused(H, module.linear.weight, Y, label_smoothing=0.1, prior=B.softmax(0), denominator=10)  # fmt: skip
    assert_close(loss, expected)
    assert stats.denominator == 10
    assert "label_smoothing=0.1" in repr(module) and "chunk_rows=3" in repr(module)
    module.label_smoothing = 0.0
    assert_close(module(H, Y)[0], unfused(H, module.linear.weight, Y))
    with pytest.raises(InvalidValue, match="label_smoothing is 2.0"):
        LinearCrossEntropyLoss(5, 11, label_smoothing=2.0)
    with pytest.raises(TypeError, match="unexpected keyword argument 'class_axis'"):
        LinearCrossEntropyLoss(5, 11, class_axis=-1)
    with pytest.raises(InvalidValue, match=r"weight has shape \[3\], expected \[11\]"):
        LinearCrossEntropyLoss(5, 11, weight=torch.ones(3))


def test_options_of_pytorch():
    options_of = getattr(torch.nn, "LinearCrossEntropyOptions", None)
    if options_of is None:
        pytest.skip("PyTorch 2.15 has them")
    options = options_of(batch_chunk_size=3, chunking_method=None)
    assert_close(linear_cross_entropy(H, W, Y, options=options), unfused(H, W, Y))
    assert_close(linear_cross_entropy(H, W, Y, options=options_of()), unfused(H, W, Y))


def test_a_head_that_exists():
    head = torch.nn.Linear(5, 11, dtype=torch.float64)
    criterion = LinearCrossEntropyLoss.of(head, label_smoothing=0.1)
    assert criterion.linear is head and criterion.num_classes == 11
    criterion(H, Y).backward()
    given = leaves(head.weight, head.bias)
    unfused(H, given[0], Y, linear_bias=given[1], label_smoothing=0.1).backward()
    assert_close([head.weight.grad, head.bias.grad], [x.grad for x in given], **EXACT)
    with pytest.raises(InvalidType, match="expected a module with a weight"):
        LinearCrossEntropyLoss.of(head.weight)
    with pytest.raises(InvalidType, match="expected a module with a weight"):
        LinearCrossEntropyLoss.of(torch.nn.LayerNorm(5))


class Tied(torch.nn.Module):
    """An embedding whose weight is the head's."""

    def __init__(self, fused):
        super().__init__()
        torch.manual_seed(3)
        self.embedding = torch.nn.Embedding(11, 5, dtype=torch.float64)
        self.body = torch.nn.Linear(5, 5, dtype=torch.float64)
        self.loss = (
            LinearCrossEntropyLoss.of(self.embedding, label_smoothing=0.1) if fused else None
        )

    def forward(self, tokens, target):
        hidden = self.body(self.embedding(tokens))
        if self.loss is not None:
            return self.loss(hidden, target)
        return F.cross_entropy(hidden @ self.embedding.weight.t(), target, label_smoothing=0.1)


def test_tied_embeddings():
    tokens = torch.tensor([1, 2, 3, 1, 0, 10, 9])
    fused, plain = Tied(True), Tied(False)
    assert len(list(fused.parameters())) == len(list(plain.parameters()))
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.5) for model in (fused, plain)]
    for _ in range(3):
        for model, optimizer in zip((fused, plain), optimizers):
            optimizer.zero_grad()
            model(tokens, Y).backward()
            optimizer.step()
    assert_close(list(fused.parameters()), list(plain.parameters()), **EXACT)


def share(rank, folder, failures):
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    try:
        tokens = torch.tensor([1, 2, 3, 1, 0, 10, 9])
        model = DistributedDataParallel(Tied(True))
        rows = slice(0, 4) if rank == 0 else slice(4, 7)
        model(tokens[rows], Y[rows]).backward()
        gradients = torch.cat([x.grad.flatten() for x in model.parameters()])
        both = [torch.empty_like(gradients) for _ in range(2)]
        dist.all_gather(both, gradients)
        assert torch.equal(*both), "gradients differ between processes"
        alone = Tied(False)
        sum(alone(tokens[part], Y[part]) / 2 for part in (slice(0, 4), slice(4, 7))).backward()
        assert_close(gradients, torch.cat([x.grad.flatten() for x in alone.parameters()]), **EXACT)
        check_dtensors()
    except BaseException as error:
        with open(failures, "a") as file:
            file.write(f"process {rank}: {type(error).__name__}: {error}\n")
        raise
    dist.barrier()
    dist.destroy_process_group()
    os._exit(0)  # as in test_sharded.py


def check_dtensors():
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    mesh = dist.device_mesh.init_device_mesh("cpu", (2,))
    for dim in (0, 1):
        sharded = distribute_tensor(W, mesh, [Shard(dim)])
        with pytest.raises(
            InvalidValue, match="linear_weight is a DTensor with placements .*Shard"
        ):
            linear_cross_entropy(H, sharded, Y)
    with pytest.raises(InvalidValue, match="linear_bias is a DTensor"):
        linear_cross_entropy(H, W, Y, linear_bias=distribute_tensor(B, mesh, [Shard(0)]))
    weight = distribute_tensor(W, mesh, [Replicate()]).requires_grad_()
    expected = leaves(H, W)
    unfused(*expected, Y).backward()
    linear_cross_entropy(H, weight, Y).backward()
    assert_close(weight.grad.full_tensor(), expected[1].grad, **EXACT)
    hidden = distribute_tensor(H, mesh, [Shard(0)]).requires_grad_()
    weight.grad = None
    target = distribute_tensor(Y, mesh, [Shard(0)])
    linear_cross_entropy(hidden, weight, target).full_tensor().backward()
    assert_close(hidden.grad.full_tensor(), expected[0].grad, **EXACT)
    assert_close(weight.grad.full_tensor(), expected[1].grad, **EXACT)


def test_two_processes():
    pytest.importorskip("torch.distributed.tensor")
    with tempfile.TemporaryDirectory() as folder:
        failures = os.path.join(folder, "failures")
        try:
            mp.spawn(share, (folder, failures), nprocs=2)
        finally:
            if os.path.exists(failures):
                pytest.fail(open(failures).read())
