"""A linear layer and its loss, with the weight's rows in shards: as one process computes them, or an error on every rank.

Processes are threads, as in test_vocabulary.py; its four gloo processes run ``check_linear``, too.
"""

import random
import re
import traceback
from functools import partial

import pytest
import torch
import torch.distributed as dist
from processes import assert_raised_on_all
from test_linear import layer_of
from test_vocabulary import case_of, cuts, upstream_of
from torch.testing import assert_close

import xent.torch
from xent.errors import InvalidType, InvalidValue
from xent.torch import _chunks
from xent.torch.functional import cross_entropy, linear_cross_entropy

EXACT = {"rtol": 1e-12, "atol": 1e-13, "equal_nan": True}
H = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
W = torch.randn(7, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
B = torch.randn(7, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
Y = torch.tensor([0, 6, -100, 3, 3])


class Call:
    """A random call: of one process, and its part of each of several."""

    def __init__(self, seed, dtype=torch.float64):
        self.case, self.draw = case_of(seed), random.Random(seed)
        layer, self.target, self.options, self.chunk_rows = layer_of(self.case)
        self.layer = [None if x is None else x.to(dtype) for x in layer]
        self.frozen = self.draw.choice([(), (), (), ("input",), ("weight",), ("weight", "bias")])

    def whole(self):
        return self.run(*self.layer, self.options)

    def part(self, group, start, end, **more):
        options, allowed = dict(self.options), self.options.get("allowed_classes")
        if allowed is not None:
            axis = allowed.dim() - 1
            options["allowed_classes"] = allowed.narrow(axis, start, end - start)
        h, w, b = self.layer
        b = None if b is None else b[start:end]
        return self.run(h, w[start:end], b, options | more, process_group=group)

    def run(self, h, w, b, options, **more):
        """Loss, gradients, statistics."""
        given = {"input": h, "weight": w, "bias": b}
        for name, tensor in given.items():
            if tensor is not None:
                given[name] = tensor.clone().requires_grad_(name not in self.frozen)
        loss, stats = linear_cross_entropy(
            given["input"], given["weight"], self.target, linear_bias=given["bias"],
            chunk_rows=self.chunk_rows, return_stats=True, **options, **more,
        )  # fmt: skip
        if loss.requires_grad:
            loss.backward(upstream_of(self.case, loss))
        gradients = {n: None if x is None else x.grad for n, x in given.items()}
        return loss.detach(), gradients, stats

    def check(self, results, ends, tolerances=EXACT):
        """Results of all ranks, against one process."""
        where = lambda message: f"{self.case}, cut at {ends}, frozen {self.frozen}\n{message}"  # noqa: E731
        for result in results:
            if isinstance(result, Exception):
                raise AssertionError(where("".join(traceback.format_exception(result))))
        loss, gradients, stats = self.whole()
        first = results[0]
        for result in results:
            for ours, theirs in zip((result[0], *result[2]), (first[0], *first[2])):
                assert torch.equal(*(x.reshape(-1).view(torch.uint8) for x in (ours, theirs))), where("bits differ")  # fmt: skip
            assert_gradient(result[1]["input"], gradients["input"], tolerances, where)
        assert_close(first[0], loss, **tolerances, msg=where)
        for name, ours, theirs in zip(stats._fields, first[2], stats):
            assert_close(ours, theirs, **tolerances, msg=lambda m, name=name: where(f"{name}: {m}"))
        for name in ("weight", "bias"):
            parts = [result[1][name] for result in results]
            if gradients[name] is None:
                assert parts == [None] * len(parts), where(name)
            else:
                assert_gradient(torch.cat(parts), gradients[name], tolerances, where)


def assert_gradient(ours, theirs, tolerances, where):
    """To the precision of its largest entry: each is a sum of products that may cancel."""
    if theirs is None:
        assert ours is None
        return
    finite = theirs[theirs.isfinite()].abs()
    largest = max(1.0, finite.max().item() if finite.numel() else 0.0)
    atol = max(tolerances["atol"], tolerances["rtol"] * largest)
    assert_close(ours, theirs, **tolerances | {"atol": atol}, msg=where)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_agrees_with_one_process(size, processes):
    """Random configurations over cuts of all sizes, some of them empty, with frozen parts."""
    here = processes(size)
    for seed in range(25 if size == 7 else 50):
        call = Call(1000 * size + seed)
        ends = cuts(call.draw, len(call.layer[1]), size)
        call.check(here.run(lambda r, g: call.part(g, ends[r], ends[r + 1])), ends)


@pytest.mark.parametrize("dtype, rtol", [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
def test_narrower_layers(dtype, rtol, processes):
    here = processes(3)
    for seed in range(40):
        call = Call(seed, dtype)
        ends = cuts(call.draw, len(call.layer[1]), 3)
        results = here.run(lambda r, g: call.part(g, ends[r], ends[r + 1]))
        call.check(results, ends, {"rtol": rtol, "atol": rtol, "equal_nan": True})


def test_halves_are_summed_in_float32(processes):
    """Over many chunks and all ranks, and rounded once."""
    torch.manual_seed(0)
    h, w, y = torch.randn(256, 16).bfloat16(), torch.randn(40, 16).bfloat16(), torch.arange(256) % 40  # fmt: skip
    wide = [x.double().requires_grad_() for x in (h, w)]
    linear_cross_entropy(*wide, y, label_smoothing=0.1).backward()
    results = simple(processes(4), [10] * 4, (h, w, None), y, label_smoothing=0.1, chunk_rows=4)
    for _, dh, _ in results:
        assert dh.dtype is torch.bfloat16
        assert_close(dh.double(), wide[0].grad, rtol=2**-8, atol=1e-6)
    dw = torch.cat([result[2] for result in results]).double()
    assert_close(dw, wide[1].grad, rtol=2**-8, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_halves_where_products_are_float32(dtype, processes, float32_products):
    """As on a GPU, where G is rounded to halves: within their precision, and float16 within its range."""
    float32_products(dtype)
    torch.manual_seed(1)
    h, w, y = torch.randn(60, 8).to(dtype), torch.randn(40, 8).to(dtype), torch.randint(40, (60,))
    y[::3] = -100
    weight = torch.rand(40) * 5.0
    here = processes(2)
    for options in ({"reduction": "mean", "weight": weight}, {"reduction": "none", "z_loss": 0.1}):
        for upstream in (3.7, 2.0**-20 if dtype is torch.bfloat16 else 2.0**-10):
            wide = [x.double().requires_grad_() for x in (h, w)]
            exact = cross_entropy(
                torch.nn.functional.linear(*wide), y, label_smoothing=0.1, **options
            )
            exact.backward(torch.full_like(exact, upstream))

            def one(rank, group, options=options, upstream=upstream):
                leaves = [x.clone().requires_grad_() for x in (h, w.split([15, 25])[rank])]
                loss = linear_cross_entropy(*leaves, y, label_smoothing=0.1, process_group=group, chunk_rows=16, **options)  # fmt: skip
                loss.backward(torch.full_like(loss, upstream))
                return [x.grad.double() for x in leaves]

            results = here.run(one)
            for ours, theirs in (
                (results[0][0], wide[0].grad),
                (results[1][0], wide[0].grad),
                (torch.cat([dw for _, dw in results]), wide[1].grad),
            ):
                error = (ours - theirs).norm() / theirs.norm()
                assert error < 2.0 * torch.finfo(dtype).eps, (options, upstream, error)


def simple(here, sizes, layer=(H, W, B), y=Y, **options):
    """Loss, dH and dW of each rank; what is a list has one for each."""
    hs, ws, b = (x if isinstance(x, list) else [x] * len(here.groups) for x in layer)
    ws = list(layer[1].split(sizes)) if isinstance(layer[1], torch.Tensor) else ws
    bs = list(layer[2].split(sizes)) if isinstance(layer[2], torch.Tensor) else b

    def one(rank, group):
        given = {k: v[rank] if isinstance(v, list) else v for k, v in options.items()}
        leaves = [x.detach().clone().requires_grad_(x.is_floating_point()) for x in (hs[rank], ws[rank])]  # fmt: skip
        target = y[rank] if isinstance(y, list) else y
        loss = linear_cross_entropy(
            *leaves, target, linear_bias=bs[rank], process_group=group, **given
        )
        loss.sum().backward()
        return loss.detach(), *(x.grad for x in leaves)

    return here.run(one)


def test_one_exchange_forward_and_one_sum_backward(processes):
    here = processes(3)
    for chunk_rows in (None, 1):
        simple(here, [3, 0, 4])
        here.hub.exchanges = here.hub.sums = 0
        simple(here, [3, 0, 4], label_smoothing=0.1, chunk_rows=chunk_rows)
        # Another column makes all of it sent again.
        assert here.hub.exchanges == (2 if chunk_rows is None else 1)
        assert here.hub.sums == 1
        here.hub.exchanges = here.hub.sums = 0
        simple(here, [3, 0, 4], label_smoothing=0.1, chunk_rows=chunk_rows)
        assert (here.hub.exchanges, here.hub.sums) == (1, 1)


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("chunk_rows", [None, 2])
def test_what_is_frozen_costs_nothing(reduction, chunk_rows, processes, monkeypatch):
    """No product, and for hidden states no sum either; logits of one chunk are formed once."""
    shapes, product = [], _chunks.product

    def counted(a, b, out, add=False):
        shapes.append((a.shape[0], a.shape[1], b.shape[1]))
        product(a, b, out, add)

    monkeypatch.setattr(_chunks, "product", counted)
    here = processes(2)
    n = chunk_rows or 4  # of four rows that are kept
    logits, dh, dw = [(n, 4, 3)] * (4 // n), [(n, 3, 4)] * (4 // n), [(3, n, 4)] * (4 // n)
    again = logits if chunk_rows else []
    for asks_h, asks_w, expected in (
        (True, True, logits + again + dh + dw),
        (False, True, logits + again + dw),
        (True, False, logits + again + dh),
        (False, False, logits),
    ):
        here.hub.sums = 0

        def one(rank, group, asks_h=asks_h, asks_w=asks_w):
            h = H.clone().requires_grad_(asks_h)
            w = W.split([3, 4])[rank].clone().requires_grad_(asks_w)
            options = {"reduction": reduction, "chunk_rows": chunk_rows}
            loss = linear_cross_entropy(h, w, Y, process_group=group, **options)
            if loss.requires_grad:
                loss.sum().backward()
            return h.grad is not None, w.grad is not None

        here.run(one)
        shapes.clear()
        assert here.run(one) == [(asks_h, asks_w)] * 2
        # Rank 1 has shapes of 4 classes.
        of_rank_0 = sorted(shape for shape in shapes if 3 in shape)
        assert of_rank_0 == sorted(expected), shapes
        assert here.hub.sums == 2 * asks_h


def test_ignored_rows_are_not_multiplied(processes):
    h = H.clone()
    h[2] = torch.nan
    for reduction in ("mean", "none"):
        expected = simple(processes(2), [3, 4], label_smoothing=0.1, reduction=reduction)
        poisoned = simple(processes(2), [3, 4], (h, W, B), label_smoothing=0.1, reduction=reduction)
        assert_close(poisoned, expected, rtol=0, atol=0)
        assert all((result[1][2] == 0.0).all() for result in poisoned)


def test_no_rows_and_nothing_kept(processes):
    empty = (H[:0], W, B)
    for loss, dh, dw in simple(processes(2), [3, 4], empty, Y[:0], reduction="sum"):
        assert loss == 0.0 and dh.shape == (0, 4) and (dw == 0.0).all()
    none = torch.full_like(Y, -100)
    for loss, dh, dw in simple(processes(2), [7, 0], y=none, empty_mean="zero"):
        assert loss == 0.0 and (dh == 0.0).all() and (dw == 0.0).all()
    for error in simple(processes(2), [3, 4], y=none, empty_mean="error"):
        assert isinstance(error, ValueError) and "denominator of the mean is 0" in str(error)


def test_axes_ranges_and_second_backwards(processes):
    h, y, ranges = torch.stack([H, H + 1.0]), torch.stack([Y, Y.clamp(0)]), [(4, 7), (0, 4)]
    alone = h.clone().requires_grad_()
    expected = linear_cross_entropy(alone, W, y, reduction="none", return_stats=True)
    expected[0].sum().backward()

    def one(rank, group):
        leaf, (start, end) = h.clone().requires_grad_(), ranges[rank]
        loss, stats = linear_cross_entropy(
            leaf, W[start:end], y, reduction="none", return_stats=True,
            process_group=group, class_range=(start, end),
        )  # fmt: skip
        loss.sum().backward(retain_graph=True)
        once = leaf.grad.clone()
        loss.sum().backward()
        assert_close(leaf.grad, 2.0 * once, rtol=0, atol=0)
        return loss.detach(), stats, once

    for loss, stats, gradient in processes(2).run(one):
        assert_close(loss, expected[0].detach(), **EXACT)
        assert_close(tuple(stats), tuple(expected[1]), **EXACT)
        assert_close(gradient, alone.grad, **EXACT)


def test_autocast_decides_the_dtype(processes):
    h, w = H.float(), W.float()

    def one(rank, group):
        leaves = [h.clone().requires_grad_(), w.split([3, 4])[rank].bfloat16().requires_grad_()]
        with torch.autocast("cpu", torch.bfloat16):
            loss = linear_cross_entropy(*leaves, Y, process_group=group)
        loss.backward()
        return loss.detach(), *(x.grad for x in leaves)

    alone = [h.clone().requires_grad_(), w.bfloat16().requires_grad_()]
    with torch.autocast("cpu", torch.bfloat16):
        expected = linear_cross_entropy(*alone, Y)
    expected.backward()
    results = processes(2).run(one)
    for loss, dh, dw in results:
        assert (loss.dtype, dh.dtype, dw.dtype) == (torch.float32, torch.float32, torch.bfloat16)
        assert_close(loss, expected.detach(), rtol=1e-5, atol=1e-6)
        assert_close(dh, alone[0].grad, rtol=1e-2, atol=1e-4)
    assert_close(torch.cat([r[2] for r in results]), alone[1].grad, rtol=1e-2, atol=1e-4)


WS = list(W.split([3, 4]))
FAULTS = {
    "label": ({"y": [Y, Y + 1]}, IndexError, "target 7 in row 1"),
    "dtype": ({"layer": ([H, H.float()], [WS[0], WS[1].float()], None)}, InvalidType, "rank 1 .* logits of torch.float32"),
    "dtype of the weight": ({"layer": (H, [WS[0], WS[1].float()], None)}, InvalidType, "linear_weight has dtype torch.float32"),
    "features": ({"layer": ([H, H[:, :3]], [WS[0], WS[1][:, :3]], None)}, InvalidValue, "rank 1 .* an input of 3 features .* expected .* of 4 features"),
    "weight": ({"layer": (H, [WS[0], WS[1][:, :3]], None)}, InvalidValue, r"linear_weight has shape \[4, 3\], expected \[K, 4\]"),
    "bias": ({"layer": (H, WS, [B[:3], B[:3]])}, InvalidValue, r"linear_bias has shape \[3\], expected \[4\]"),
    "rows": ({"layer": ([H, H[:3]], WS, None), "y": [Y, Y[:3]]}, InvalidValue, "rank 1 .* has 3 rows, expected 5"),
    "rows of target": ({"y": [Y, Y[:3]]}, InvalidValue, "target has shape"),
    "further axes": ({"layer": (H, [WS[0], WS[1][:, None]], None)}, InvalidValue, "with process_group"),
    "no tensor": ({"layer": (H, WS, [B[:3], "b"])}, InvalidType, "linear_bias is 'b'"),
    "chunk_rows": ({"chunk_rows": [1, 0]}, InvalidValue, "chunk_rows is 0"),
    "range of one": ({"class_range": [(0, 3), None]}, InvalidValue, "rank 1 .* has no class_range"),
    "gap": ({"class_range": [(0, 3), (4, 8)]}, InvalidValue, "expected all classes once"),
    "options": ({"label_smoothing": [0.1, 0.0]}, InvalidValue, "all have the same options"),
    "weights of classes": ({"weight": [torch.ones(7), torch.ones(4)]}, InvalidValue, r"weight has shape \[4\], expected \[7\]"),
    "allowed by row": ({"allowed_classes": [torch.ones(5, 3, dtype=torch.bool), torch.ones(3, 4, dtype=torch.bool)]}, InvalidValue, r"allowed_classes has shape \[3, 4\], expected \[4\] or \[5, 4\]"),
    "allowed": ({"allowed_classes": [torch.ones(3, dtype=torch.bool), torch.ones(7, dtype=torch.bool)]}, InvalidValue, r"allowed_classes has shape \[7\], expected \[4\] or \[5, 4\]"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_an_error_on_one_rank_is_raised_on_all(fault, processes):
    given, kind, message = FAULTS[fault]
    given = {"layer": (H, WS, None), **given}
    assert_raised_on_all(partial(simple, processes(2), [3, 4]), given, kind, message)


def test_what_is_refused_is_named(processes):
    refused = {
        "probabilities": ({"y": (H @ W.t()).softmax(1)}, TypeError),
        "prior by true class": ({"prior": torch.eye(7), "label_smoothing": 0.1}, ValueError),
        "weight requires a gradient": ({"weight": torch.ones(7).requires_grad_()}, ValueError),
    }
    for message, (given, kind) in refused.items():
        for error in simple(processes(2), [3, 4], **given):
            assert isinstance(error, kind) and message in str(error)
    with pytest.raises(InvalidValue, match="class_range is .* without process_group"):
        linear_cross_entropy(H, W, Y, class_range=(0, 7))
    with pytest.raises(InvalidType, match="process_group is 'tp', expected a torch.distributed"):
        linear_cross_entropy(H, W, Y, process_group="tp")

    def twice(rank, group):
        h = H.clone().requires_grad_()
        loss = linear_cross_entropy(h, WS[rank], Y, process_group=group)
        torch.autograd.grad(loss, h, create_graph=True)

    def mapped(rank, group):
        return torch.vmap(lambda h: linear_cross_entropy(h, WS[rank], Y, process_group=group))(H[None])  # fmt: skip

    def asks_alone(rank, group):
        h = H.clone().requires_grad_(rank == 0)
        return linear_cross_entropy(h, WS[rank], Y, process_group=group)

    def dual(rank, group):
        with torch.autograd.forward_ad.dual_level():
            h = torch.autograd.forward_ad.make_dual(H, torch.ones_like(H))
            return linear_cross_entropy(h, W, Y, process_group=group)

    for size, call, message in (
        (2, twice, "second derivatives"),
        (2, mapped, "torch.func"),
        (2, asks_alone, "rank 1 .* requires no gradient, expected .* requires a gradient"),
        (1, dual, "input is no plain tensor"),
    ):
        for error in processes(size).run(call):
            assert isinstance(error, (InvalidValue, InvalidType)), error
            assert re.search(message, str(error)), error


def test_the_module_takes_the_group_with_a_call(processes):
    weight = torch.linspace(0.5, 2, 7, dtype=torch.float64)
    expected = linear_cross_entropy(H, W, Y, label_smoothing=0.1, weight=weight)

    def one(rank, group):
        head = torch.nn.Linear(4, len(WS[rank]), bias=False, dtype=torch.float64)
        head.weight.data.copy_(WS[rank])
        options = {"label_smoothing": 0.1, "weight": weight}
        criterion = xent.torch.LinearCrossEntropyLoss.of(head, **options)
        return criterion(H, Y, process_group=group, class_range=((0, 3), (3, 7))[rank])

    for loss in processes(2).run(one):
        assert_close(loss.detach(), expected, **EXACT)


# By gloo, in the processes of test_vocabulary.py.


def check_linear(rank):
    check_configurations(rank)
    check_collectives(rank)
    check_faults(rank)
    check_dtensors(rank)


def check_configurations(rank):
    for seed in range(20):
        call = Call(9000 + seed)
        ends = cuts(call.draw, len(call.layer[1]), 4)
        results = [None] * 4
        dist.all_gather_object(results, call.part(dist.group.WORLD, ends[rank], ends[rank + 1]))
        call.check(results, ends)


def check_collectives(rank):
    """Counted by PyTorch: one gathers forward, one adds up backward, whatever the chunks."""
    from torch.distributed.tensor.debug import CommDebugMode

    comms, w, y = CommDebugMode(), W[[rank]].clone().requires_grad_(), Y.clamp(max=3)
    for asks, chunk_rows in ((True, 2), (True, None), (False, 2)):
        h = H.clone().requires_grad_(asks)
        options = {"label_smoothing": 0.1, "chunk_rows": chunk_rows}
        linear_cross_entropy(h, w, y, process_group=dist.group.WORLD, **options)
        with comms:
            loss = linear_cross_entropy(h, w, y, process_group=dist.group.WORLD, **options)
        assert comms.get_total_counts() == 1, comms.get_comm_counts()
        with comms:
            loss.backward()
        assert comms.get_total_counts() == asks, comms.get_comm_counts()


def check_faults(rank):
    is_last, w, y = rank == 3, W[[rank]], Y.clamp(max=3)
    for _ in range(2):
        with pytest.raises(IndexError, match="target 4 in row 4" if is_last else "rank 3"):
            wrong = y + torch.tensor([0, 0, 0, 0, is_last])
            linear_cross_entropy(H, w, wrong, process_group=dist.group.WORLD)
        with pytest.raises(ValueError, match="linear_weight has shape" if is_last else "rank 3"):
            linear_cross_entropy(H, w[:, is_last:], y, process_group=dist.group.WORLD)
        loss = linear_cross_entropy(H, w, y, process_group=dist.group.WORLD)
        assert_close(loss, linear_cross_entropy(H, W[:4], y))


def check_dtensors(rank):
    """A weight that is one, with the classes over one dimension of the mesh."""
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    mesh = dist.device_mesh.init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
    alone = [x.clone().requires_grad_() for x in (H, W, B)]
    expected = linear_cross_entropy(*alone[:2], Y, linear_bias=alone[2], label_smoothing=0.1)
    expected.backward()
    places, h = [Replicate(), Shard(0)], H.clone().requires_grad_()
    w, b = (distribute_tensor(x, mesh, places).requires_grad_() for x in (W, B))
    options = {"label_smoothing": 0.1, "linear_bias": b}
    loss = linear_cross_entropy(h, w, Y, process_group=mesh.get_group("tp"), **options)
    loss.backward()
    assert_close(loss, expected, **EXACT)
    assert_close(h.grad, alone[0].grad, **EXACT)
    for ours, theirs in ((w, alone[1]), (b, alone[2])):
        assert ours.grad.placements == tuple(places)
        assert_close(ours.grad.full_tensor(), theirs.grad, **EXACT)
    # As FSDP leaves a weight that nobody gathered: its processes have different rows.
    with pytest.raises(InvalidValue, match="Replicate.* on every dimension of the mesh"):
        linear_cross_entropy(h, w, Y)
    with pytest.raises(InvalidValue, match=r"Shard\(0\) over the process_group"):
        linear_cross_entropy(h, w, Y, process_group=mesh.get_group("dp"), **options)
    for places in ([Replicate(), Replicate()], [Replicate(), Shard(1)], [Shard(0), Shard(0)]):
        w = distribute_tensor(W, mesh, places)
        with pytest.raises(InvalidValue, match=r"Shard\(0\) over the process_group"):
            linear_cross_entropy(h, w, Y, process_group=mesh.get_group("tp"))
