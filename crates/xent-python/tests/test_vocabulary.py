"""A vocabulary in shards: as one process computes it, from one exchange, or an error on every rank."""

import contextlib
import os
import random
import tempfile
import traceback
from functools import partial

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from processes import assert_raised_on_all
from torch.testing import assert_close

import xent.torch
from cases import Case, xent_case
from pages import ROOT, blocks, run
from xent.errors import InvalidIndex, InvalidType, InvalidValue
from xent.torch import _vocabulary
from xent.torch.functional import cross_entropy

distributed = pytest.importorskip("torch.distributed.tensor")

EXACT = {"rtol": 1e-12, "atol": 1e-14, "equal_nan": True}
X = torch.randn(5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
Y = torch.tensor([0, 6, -100, 3, 3])


def case_of(seed, dtype=torch.float64):
    """A random call that shards have, with what matters to them more often."""
    while True:
        case = xent_case(seed, dtype)
        prior = case.options["prior"]
        if case.target.dtype is torch.int64 and not (
            isinstance(prior, torch.Tensor) and prior.dim() == 2
        ):
            break
        seed += 100_000
    draw, axis = random.Random(seed), case.options["class_axis"]
    kind = draw.choice(["as it is", "as it is", "offset", "ties", "hole"])
    z = case.input.movedim(axis, -1).contiguous()
    if kind == "offset":
        z += 1e4 * draw.choice([-1, 1])
    elif kind == "ties":
        z = z.round()
    elif kind == "hole":
        z[..., : draw.randint(0, z.shape[-1])] = -torch.inf
    case.input = z.movedim(-1, axis)
    return case


def cuts(draw, classes, size):
    """Ends of shards, of any sizes: half of the time one has nothing."""
    inner = sorted(draw.choices(range(classes + 1), k=size - 1))
    return [0, *inner, classes]


def shard(case, start, end):
    """Logits and keywords of one rank."""
    axis, options = case.options["class_axis"], dict(case.options)
    allowed = options.get("allowed_classes")
    if allowed is not None:
        along = axis if allowed.dim() > 1 or case.input.dim() == 1 else 0
        options["allowed_classes"] = allowed.narrow(along, start, end - start)
    return case.input.narrow(axis, start, end - start), options


def upstream_of(case, loss):
    generator = torch.Generator().manual_seed(case.seed)
    return torch.randn(loss.shape, dtype=torch.float64, generator=generator).to(loss.dtype)


def whole(case):
    leaf = case.leaf()
    loss, stats = cross_entropy(leaf, case.target, **case.options, return_stats=True)
    loss.backward(upstream_of(case, loss))
    return loss.detach(), leaf.grad, stats


def part(case, group, start, end, **more):
    logits, options = shard(case, start, end)
    leaf = logits.clone().requires_grad_()
    loss, stats = cross_entropy(
        leaf, case.target, **options | more, return_stats=True, process_group=group
    )
    loss.backward(upstream_of(case, loss))
    return loss.detach(), leaf.grad, stats


def check(case, results, ends, tolerances=EXACT):
    """Results of all ranks, against one process."""
    loss, gradient, stats = whole(case)
    if case.options.get("temperature", 1.0) != 1.0 or case.options.get("softcap"):
        # Transformed logits are rounded, to more where they are large.
        largest = case.input[case.input.isfinite()].abs().flatten().tolist()
        tolerances = {
            **tolerances,
            "atol": tolerances["atol"] + 2.0**-53 * max(largest, default=0.0),
        }
    where = lambda message: f"{case}, cut at {ends}\n{message}"  # noqa: E731
    for result in results:
        if isinstance(result, Exception):
            raise AssertionError(where(traceback.format_exception(result)))
        for ours, first in zip((result[0], *result[2]), (results[0][0], *results[0][2])):
            assert torch.equal(*(x.reshape(-1).view(torch.uint8) for x in (ours, first))), where("bits differ")  # fmt: skip
    assert_close(results[0][0], loss, **tolerances, msg=where)
    for name, ours, theirs in zip(stats._fields, results[0][2], stats):
        assert_close(ours, theirs, **tolerances, msg=lambda m, name=name: where(f"{name}: {m}"))
    merged = torch.cat([result[1] for result in results], case.options["class_axis"])
    assert_close(merged, gradient, **tolerances, msg=lambda m: where(f"gradient: {m}"))


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_agrees_with_one_process(size, processes):
    """500 configurations over cuts of all sizes, on one group, whose lengths and ranges change."""
    here = processes(size)
    for seed in range(125):
        case, draw = case_of(1000 * size + seed), random.Random(seed)
        ends = cuts(draw, case.input.shape[case.options["class_axis"]], size)
        results = here.run(lambda rank, group: part(case, group, ends[rank], ends[rank + 1]))
        check(case, results, ends)


@pytest.mark.parametrize("label", [0, 1])
def test_the_only_class_that_the_prior_has_in_a_shard(label, processes):
    """Once it is the label's, and what is left of the prior there, times ∞, is 0; once it is not."""
    weight = torch.tensor([0.3, 0.0, 1.0, 1.0], dtype=torch.float64)
    x = torch.tensor([[-torch.inf, -torch.inf, 0.5, 1.0]])
    if label == 1:
        x = torch.tensor([[-2.0, -3.0, 0.5, 1.0]])
    options = {"class_axis": 1, "prior": "wrong_classes", "label_smoothing": 1.0, "weight": weight}
    options["reduction"] = "sum"
    case = Case(0, x, torch.tensor([label]), options)
    ends = (0, 2, 4)
    results = processes(2).run(lambda r, g: part(case, g, ends[r], ends[r + 1]))
    assert results[0][0].isfinite()
    check(case, results, ends, {"rtol": 1e-6, "atol": 1e-7})


def test_what_is_sent_shrinks_again(processes):
    here, x, y = processes(2), X.repeat(40, 1), Y.repeat(40)
    simple(here, [3, 4], x, y)
    simple(here, [3, 4])
    simple(here, [3, 4])
    assert len(here.hub.lines[0]) == _vocabulary.HEADER + 3 * len(Y)


@pytest.mark.parametrize(
    "dtype, rtol, atol",
    [(torch.float32, 1e-5, 1e-6), (torch.float16, 2e-3, 1e-6), (torch.bfloat16, 1e-2, 1e-6)],
)
def test_narrower_logits(dtype, rtol, atol, processes):
    here = processes(3)
    for seed in range(60):
        case, draw = case_of(seed, dtype), random.Random(seed)
        if case.input.isfinite().any() and case.input[case.input.isfinite()].abs().max() > 1e3:
            continue  # rounded to multiples of 8, in bfloat16 of 64
        ends = cuts(draw, case.input.shape[case.options["class_axis"]], 3)
        results = here.run(lambda rank, group: part(case, group, ends[rank], ends[rank + 1]))
        check(case, results, ends, {"rtol": rtol, "atol": 10 * atol, "equal_nan": True})


def test_ignored_rows_and_forbidden_classes_are_not_read(processes):
    here, ends = processes(2), (0, 3, 7)
    allowed = torch.tensor([True, True, False, True, True, True, False])
    options = {"class_axis": 1, "label_smoothing": 0.1, "allowed_classes": allowed}
    options |= {"masked": "renormalise", "z_loss": 0.1, "reduction": "none"}
    target = Y.clamp(max=5)
    run = lambda case: here.run(lambda r, g: part(case, g, ends[r], ends[r + 1]))  # noqa: E731
    expected = run(Case(0, X, target, options))
    for poison in (torch.nan, torch.inf, -torch.inf):
        x = X.masked_fill(~allowed, poison)
        x[2] = poison
        for ours, theirs in zip(run(Case(0, x, target, options)), expected):
            assert_close(ours, theirs, rtol=0, atol=0)
            assert (ours[1][2] == 0.0).all()


def simple(here, sizes, x=X, y=Y, **options):
    """Loss and gradient of each rank; an option that is a list has one for each."""
    xs = x if isinstance(x, list) else list(x.split(sizes, 1))

    def one(rank, group):
        given = {k: v[rank] if isinstance(v, list) else v for k, v in options.items()}
        leaf, target = xs[rank].clone(), y[rank] if isinstance(y, list) else y
        leaf = leaf.requires_grad_() if leaf.is_floating_point() else leaf
        loss = cross_entropy(leaf, target, process_group=group, **given)
        loss.sum().backward()
        return loss, leaf.grad

    return here.run(one)


def test_one_exchange_forward_and_none_backward(processes):
    here = processes(3)
    counts = []
    for rows in (5, 5, 4, 3, 5, 1, 1, 5, 5):
        simple(here, [3, 0, 4], X[:rows], Y[:rows], label_smoothing=0.1)
        counts.append(here.hub.exchanges)
        here.hub.exchanges = 0
    # The first call learns the ranges, then the length; after few rows, many are sent again.
    assert counts == [3, 1, 1, 1, 1, 1, 1, 2, 1]


def test_no_rows(processes):
    for loss, gradient in simple(processes(2), [3, 4], X[:0], Y[:0], reduction="sum"):
        assert loss == 0.0 and gradient.shape[0] == 0
    for loss, _ in simple(processes(2), [3, 4], X[:0], Y[:0]):
        assert loss.isnan()
    for error in simple(processes(2), [3, 4], X[:0], Y[:0], empty_mean="error"):
        assert isinstance(error, ValueError) and "denominator of the mean is 0" in str(error)


def test_ties_go_to_the_first_class(processes):
    ranges = [(4, 7), (0, 4)]
    for x in (torch.zeros(5, 7, dtype=torch.float64), X.round()):
        case = Case(0, x, Y, {"class_axis": 1})
        expected = cross_entropy(x, Y, return_stats=True)[1].predicted
        for ends in ((0, 0, 7), (0, 3, 7), (0, 6, 7)):
            for result in processes(2).run(lambda r, g: part(case, g, ends[r], ends[r + 1])):
                assert torch.equal(result[2].predicted, expected)
        # Ranks need not be in the order of classes.
        for result in processes(2).run(lambda r, g: part(case, g, *ranges[r], class_range=ranges[r])):  # fmt: skip
            assert torch.equal(result[2].predicted, expected)


def test_ranges_that_are_given(processes):
    ends, alone = [(4, 7), (0, 0), (0, 4)], X.clone().requires_grad_()
    expected = cross_entropy(alone, Y, label_smoothing=0.1)
    expected.backward()
    xs = [X[:, start:end] for start, end in ends]
    results = simple(processes(3), None, xs, class_range=ends, label_smoothing=0.1)
    for (start, end), (loss, gradient) in zip(ends, results):
        assert_close(loss, expected, **EXACT)
        assert_close(gradient, alone.grad[:, start:end], **EXACT)


PIECES = list(X.split([3, 4], 1))
FAULTS = {
    "label": ({"y": [Y, Y + 1]}, InvalidIndex, "target 7 in row 1"),
    "dtype": ({"x": [PIECES[0], PIECES[1].float()]}, InvalidType, "rank 1 .* logits of torch.float32"),
    "integers": ({"x": [PIECES[0], PIECES[1].long()]}, InvalidType, "input has dtype torch.int64"),
    "rows": ({"x": [PIECES[0], PIECES[1][:3]], "y": [Y, Y[:3]]}, InvalidValue, "rank 1 .* has 3 rows, expected 5"),
    "rows of target": ({"y": [Y, Y[:3]]}, InvalidValue, "target has shape"),
    "range of one": ({"class_range": [(0, 3), None]}, InvalidValue, "rank 1 .* has no class_range"),
    "overlap": ({"class_range": [(0, 3), (2, 6)]}, InvalidValue, "expected all classes once"),
    "gap": ({"class_range": [(0, 3), (4, 8)]}, InvalidValue, "expected all classes once"),
    "size": ({"class_range": [(0, 3), (3, 8)]}, InvalidValue, "end − start = 4"),
    "options": ({"label_smoothing": [0.1, 0.0]}, InvalidValue, "all have the same options"),
    "smoothing": ({"label_smoothing": [0.1, 2.0]}, InvalidValue, "label_smoothing is 2.0"),
    "weight": ({"weight": [torch.ones(7), torch.ones(4)]}, InvalidValue, r"weight has shape \[4\], expected \[7\]"),
    "weight's value": ({"weight": [torch.ones(7), torch.full((7,), torch.inf)]}, InvalidValue, "weight of class 0 is inf"),
    "row weight": ({"row_weight": [torch.ones(5), -torch.ones(5)]}, InvalidValue, "weight of row 0 is -1"),
    "prior": ({"prior": [torch.ones(7) / 7, torch.ones(7)], "label_smoothing": 0.1}, InvalidValue, "prior sums to 7"),
    "denominator": ({"denominator": [torch.tensor(1.0), torch.tensor(0.0)]}, InvalidValue, "denominator is 0"),
    "epsilon of a row": ({"label_smoothing": [torch.ones(5), 2 * torch.ones(5)]}, InvalidValue, "label_smoothing of row 0 is 2"),
    "allowed": ({"allowed_classes": [torch.ones(3, dtype=torch.bool), torch.ones(7, dtype=torch.bool)]}, InvalidValue, "allowed_classes has shape"),
    "exclude": ({"exclude": [(0,), (9,)], "label_smoothing": 0.1}, IndexError, "exclude names class 9"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_an_error_on_one_rank_is_raised_on_all(fault, processes):
    given, kind, message = FAULTS[fault]
    given = {"x": PIECES, **given}
    assert_raised_on_all(partial(simple, processes(2), [3, 4]), given, kind, message)


def test_what_is_refused_is_named(processes):
    refused = {
        "probabilities": ({"y": X.softmax(1)}, TypeError),
        "prior by true class": ({"prior": torch.eye(7), "label_smoothing": 0.1}, ValueError),
        "weight requires a gradient": ({"weight": torch.ones(7).requires_grad_()}, ValueError),
    }
    for message, (given, kind) in refused.items():
        for error in simple(processes(2), [3, 4], **given):
            assert isinstance(error, kind) and message in str(error)
    with pytest.raises(InvalidValue, match="class_range is .* without process_group"):
        cross_entropy(X, Y, class_range=(0, 7))
    with pytest.raises(InvalidType, match="process_group is 'tp', expected a torch.distributed"):
        cross_entropy(X, Y, process_group="tp")

    def twice(rank, group):
        x = PIECES[rank].clone().requires_grad_()
        loss = cross_entropy(x, Y, process_group=group)
        torch.autograd.grad(loss, x, create_graph=True)

    def forward(rank, group):
        with torch.autograd.forward_ad.dual_level():
            x = torch.autograd.forward_ad.make_dual(PIECES[rank], torch.ones_like(PIECES[rank]))
            return cross_entropy(x, Y.clamp(max=2), process_group=group)

    for error in processes(1).run(forward):  # a dual level is that of all threads
        assert isinstance(error, InvalidType) and "forward mode" in str(error)

    def mapped(rank, group):
        return torch.vmap(lambda y: cross_entropy(PIECES[rank], y, process_group=group))(Y[None])

    for error in processes(2).run(mapped):
        assert isinstance(error, InvalidValue) and "torch.func" in str(error)

    for error in processes(2).run(twice):
        assert isinstance(error, InvalidValue) and "second derivatives" in str(error)


def test_the_module_takes_the_group_with_a_call(processes):
    weight = torch.linspace(0.5, 2, 7, dtype=torch.float64)
    criterion = xent.torch.CrossEntropyLoss(weight, label_smoothing=0.1)
    expected = criterion(X, Y)
    for loss in processes(2).run(lambda r, g: criterion(PIECES[r], Y, process_group=g)):
        assert_close(loss, expected, **EXACT)


# The same by gloo: few processes, which take long to start.


def ranks(rank, folder, failures):
    from test_linear_shards import check_linear

    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=4)
    try:
        check_configurations(rank)
        check_faults(rank)
        check_collectives(rank)
        check_dtensors(rank)
        check_page(rank)
        check_linear(rank)
    except BaseException as error:
        with open(failures, "a") as file:
            file.write(f"process {rank}: {type(error).__name__}: {error}\n")
        raise
    dist.barrier()
    dist.destroy_process_group()
    os._exit(0)  # as in test_sharded.py


def check_configurations(rank):
    for seed in range(40):
        case, draw = case_of(9000 + seed), random.Random(seed)
        ends = cuts(draw, case.input.shape[case.options["class_axis"]], 4)
        result = part(case, dist.group.WORLD, ends[rank], ends[rank + 1])
        results = [None] * 4
        dist.all_gather_object(results, result)
        check(case, results, ends)


def check_faults(rank):
    group = dist.group.WORLD
    x, y, is_last = X[:, [rank]], Y.clamp(max=3), rank == 3
    for _ in range(2):
        with pytest.raises(IndexError, match="target 4 in row 4" if is_last else "rank 3"):
            cross_entropy(x, y + torch.tensor([0, 0, 0, 0, is_last]), process_group=group)
        with pytest.raises(TypeError, match="rank 3"):
            cross_entropy(x.float() if is_last else x, y, process_group=group)
        with pytest.raises(ValueError, match="rank 3 .* has 4 rows, expected 5"):
            rows = 4 if is_last else 5
            cross_entropy(x[:rows], y[:rows], process_group=group)
        assert_close(cross_entropy(x, y, process_group=group), cross_entropy(X[:, :4], y))


def check_collectives(rank):
    """Counted by PyTorch: one forward, none backward."""
    from torch.distributed.tensor.debug import CommDebugMode

    comms = CommDebugMode()
    x, options = X[:, [rank]].clone().requires_grad_(), {"label_smoothing": 0.1}
    y = Y.clamp(max=3)
    cross_entropy(x, y, process_group=dist.group.WORLD, **options)
    with comms:
        loss = cross_entropy(x, y, process_group=dist.group.WORLD, **options)
    assert comms.get_total_counts() == 1, comms.get_comm_counts()
    with comms:
        loss.backward()
    assert comms.get_total_counts() == 0, comms.get_comm_counts()


@contextlib.contextmanager
def exchanges():
    real, count = _vocabulary.all_gathered, [0]

    def counted(*arguments):
        count[0] += 1
        return real(*arguments)

    _vocabulary.all_gathered = counted
    try:
        yield count
    finally:
        _vocabulary.all_gathered = real


def check_dtensors(rank):
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    mesh = dist.device_mesh.init_device_mesh("cpu", (2, 2))
    x, y = X[:, :5], Y.clamp(max=4)
    row_weight = torch.linspace(0, 1, 5, dtype=torch.float64)
    weight = torch.linspace(0.5, 2, 5, dtype=torch.float64)
    allowed = torch.tensor([True, True, False, True, True])
    calls = [
        {"label_smoothing": 0.1, "weight": weight},
        {"label_smoothing": 0.1, "reduction": "none", "row_weight": row_weight},
        {"label_smoothing": 0.1, "allowed_classes": allowed, "masked": "renormalise", "reduction": "sum"},
        {"label_smoothing": 0.1, "weight": weight, "z_loss": 0.1, "prior": weight / weight.sum()},
        {"target": x.softmax(1)},
    ]  # fmt: skip
    for places in ([Replicate(), Shard(1)], [Shard(0), Shard(1)], [Shard(1), Replicate()]):
        rows = [place if place == Shard(0) else Replicate() for place in places]
        for call in calls:
            options = {
                name: distribute_tensor(
                    value, mesh, rows if name == "row_weight" else [Replicate()] * 2
                )
                if isinstance(value, torch.Tensor)
                else value
                for name, value in call.items()
            }
            options.setdefault("target", distribute_tensor(y, mesh, rows))
            leaf = distribute_tensor(x, mesh, places).requires_grad_()
            alone = x.clone().requires_grad_()
            with exchanges() as count:
                loss = cross_entropy(leaf, **options)
            # Probabilities are gathered, as before.
            assert (count[0] > 0) == ("target" not in call)
            expected = cross_entropy(alone, call.get("target", y), **{k: v for k, v in call.items() if k != "target"})  # fmt: skip
            assert_close(loss.full_tensor(), expected, **EXACT)
            loss.full_tensor().sum().backward()
            expected.sum().backward()
            assert leaf.grad.placements == tuple(places) or "target" in call
            assert_close(leaf.grad.full_tensor(), alone.grad, **EXACT)


def check_page(rank):
    """The functions of the guide's page."""
    names = {"criterion": xent.torch.CrossEntropyLoss(label_smoothing=0.1)}
    page = ROOT / "docs/guide/large-vocabularies.md"
    for _, line, code in blocks(page):
        if "process_group" in code:
            run(page, line, code, names)
    y = Y.clamp(max=3)
    loss = names["sharded_loss"](X[:, [rank]], y, dist.group.WORLD)
    assert_close(loss, names["criterion"](X[:, :4], y))
    loss = names["sharded_head_loss"](X, torch.eye(7, dtype=torch.float64)[[rank]], y, dist.group.WORLD)  # fmt: skip
    assert_close(loss, names["criterion"](X[:, :4], y))


def test_four_processes():
    with tempfile.TemporaryDirectory() as folder:
        failures = os.path.join(folder, "failures")
        try:
            mp.spawn(ranks, (folder, failures), nprocs=4)
        finally:
            if os.path.exists(failures):
                pytest.fail(open(failures).read())
