"""What PyTorch's own tests ask of its cross-entropy, asked of xent's: shapes, weights, ε, and which exceptions can be caught as what.

Left out are those whose "probabilities" are negative.
"""

import itertools
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

import xent.torch
from xent.torch.functional import cross_entropy

N, C = 5, 4
REDUCTIONS = ["none", "mean", "sum"]
EPSILONS = [0.0, 0.05, 0.1, 0.2, 1.0]
both = pytest.mark.parametrize("loss", [cross_entropy, F.cross_entropy], ids=["xent", "PyTorch"])


def batch(axes, probabilities=False):
    torch.manual_seed(axes)
    rest = torch.randint(1, 5, (axes,)).tolist()
    x = torch.randn(N, C, *rest, dtype=torch.float64, requires_grad=True)
    if probabilities:
        return x, torch.rand(N, C, *rest, dtype=torch.float64).softmax(1)
    return x, torch.randint(C, (N, *rest))


def reference(x, t, weight=None, reduction="mean", label_smoothing=0.0):
    """Over probabilities [N, C, …], the mean over rows."""
    weight = torch.ones(C, dtype=x.dtype) if weight is None else weight
    t = t * (1 - label_smoothing) + label_smoothing / C
    shape = [1, C] + [1] * (x.dim() - 2)
    rows = -(weight.view(shape) * t * x.log_softmax(1)).sum(1)
    return {"none": rows, "sum": rows.sum(), "mean": rows.mean()}[reduction]


def one_hot(y):
    return F.one_hot(y, C).movedim(-1, 1).double()


@pytest.mark.parametrize("axes", range(4))
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_probabilities_with_all_reductions(axes, reduction):
    x, t = batch(axes, probabilities=True)
    for weight, epsilon in itertools.product([None, torch.rand(C).double()], EPSILONS):
        given = {"weight": weight, "reduction": reduction, "label_smoothing": epsilon}
        ours, expected = cross_entropy(x, t, **given), reference(x, t, **given)
        assert_close(ours, expected)
        [gradient] = torch.autograd.grad(ours.sum(), x)
        assert_close(gradient, torch.autograd.grad(expected.sum(), x)[0])


@pytest.mark.parametrize("axes", range(4))
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("probabilities", [False, True])
def test_weights_of_one_are_no_weights(axes, reduction, probabilities):
    x, target = batch(axes, probabilities)
    plain = cross_entropy(x, target, reduction=reduction)
    weight = torch.ones(C, dtype=torch.float64)
    assert_close(cross_entropy(x, target, weight, reduction=reduction), plain)


@pytest.mark.parametrize("axes", range(4))
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("epsilon", EPSILONS)
def test_indices_and_one_hot_probabilities(axes, reduction, epsilon):
    x, y = batch(axes)
    given = {"reduction": reduction, "label_smoothing": epsilon}
    assert_close(cross_entropy(x, y, **given), cross_entropy(x, one_hot(y), **given))
    weight = torch.rand(C, dtype=torch.float64)
    by_index, by_vector = (cross_entropy(x, target, weight, **given) for target in (y, one_hot(y)))
    if reduction == "mean":  # divided by weights, and by rows
        by_vector = by_vector * y.numel() / weight[y].sum()
    assert_close(by_index, by_vector)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("epsilon", EPSILONS)
@pytest.mark.parametrize("weighted", [False, True])
def test_smoothing_and_ignored_rows_are_apart(reduction, epsilon, weighted):
    x = torch.randn(4, C, dtype=torch.float64)
    y = torch.tensor([0, 1, 2, 2])
    weight = torch.tensor([0.3, 0.6, 0.2, 0.7], dtype=torch.float64) if weighted else None
    given = {"reduction": reduction, "label_smoothing": epsilon, "ignore_index": 1}
    with_rows = cross_entropy(x, y, weight, **given)
    without = cross_entropy(x[[0, 2, 3]], y[[0, 2, 3]], weight, **given)
    assert_close(with_rows[[0, 2, 3]] if reduction == "none" else with_rows, without)
    assert_close(with_rows, F.cross_entropy(x, y, weight, **given))


@pytest.mark.parametrize("probabilities", [False, True])
@pytest.mark.parametrize("epsilon", [0.0, 0.1])
def test_one_row_without_a_batch_axis(probabilities, epsilon):
    x, target = batch(0, probabilities)
    alone = [cross_entropy(z, t, label_smoothing=epsilon) for z, t in zip(x, target)]
    together = cross_entropy(x, target, label_smoothing=epsilon, reduction="none")
    assert_close(torch.stack(alone), together)


def test_a_mean_over_many_rows_keeps_its_digits():
    x = torch.randn(16, 2, 256, 256)
    y = torch.randint(2, (16, 256, 256))
    assert_close(cross_entropy(x, y).double(), F.cross_entropy(x.double(), y), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("axes", range(3))
def test_no_rows_and_no_weight(axes):
    shape = [2] * axes
    x, y = torch.randn(0, C, *shape), torch.zeros(0, *shape, dtype=torch.int64)
    assert cross_entropy(x, y, reduction="none").shape == y.shape
    assert cross_entropy(x, y, reduction="sum") == 0 and cross_entropy(x, y).isnan()
    x, y = torch.randn(3, C, *shape), torch.zeros(3, *shape, dtype=torch.int64)
    nothing = torch.zeros(C)
    assert (
        cross_entropy(x, y, nothing, reduction="sum") == 0 and cross_entropy(x, y, nothing).isnan()
    )
    assert cross_entropy(x, y, ignore_index=0, reduction="sum") == 0
    assert cross_entropy(x, y, ignore_index=0).isnan()
    assert (cross_entropy(x, y, ignore_index=0, reduction="none") == 0).all()


def test_bytes_are_labels_too():
    x, y = batch(2)
    for reduction in REDUCTIONS:
        as_bytes, as_longs = (
            cross_entropy(x, target, reduction=reduction) for target in (y.byte(), y)
        )
        assert torch.equal(as_bytes, as_longs)
        gradients = [
            torch.autograd.grad(loss.sum(), x, retain_graph=True)[0]
            for loss in (as_bytes, as_longs)
        ]
        assert torch.equal(*gradients)


X, Y = torch.randn(N, C), torch.zeros(N, dtype=torch.int64)
# With what each raises in PyTorch.
MISTAKES = [
    ("ε above 1", (X, Y), {"label_smoothing": 1.2}, RuntimeError),
    ("ε above 1 with probabilities", (X, X.softmax(1)), {"label_smoothing": 1.2}, RuntimeError),
    ("ε is a word", (X, Y), {"label_smoothing": "0.1"}, TypeError),
    ("another number of rows", (X, Y[:2]), {}, ValueError),
    ("labels of too many axes", (X, torch.zeros(N, C, dtype=torch.int64)), {}, RuntimeError),
    ("classes last", (torch.randn(2, 3, C), torch.zeros(2, 3, dtype=torch.int64)), {}, RuntimeError),
    ("another number of columns", (X[..., None], Y[..., None].expand(N, 2)), {}, RuntimeError),
    ("another number of probabilities", (X, torch.rand(N, C + 1)), {}, RuntimeError),
    ("labels of floats", (X, Y.float()), {}, RuntimeError),
    ("labels of bools", (X, Y.bool()), {}, RuntimeError),
    ("logits of integers", (X.long(), Y), {}, RuntimeError),
    ("sparse logits", (X.to_sparse(), Y), {}, RuntimeError),
    ("too few weights", (X, Y), {"weight": torch.ones(C - 1)}, RuntimeError),
    ("too many weights", (X, Y), {"weight": torch.ones(C + 1)}, RuntimeError),
    ("weights of two axes", (X, Y), {"weight": torch.ones(1, C)}, RuntimeError),
    ("weights of probabilities", (X, X.softmax(1)), {"weight": torch.ones(C - 1)}, RuntimeError),
    ("weights of bools", (X, Y), {"weight": torch.ones(C, dtype=torch.bool)}, RuntimeError),
    ("weights in a list", (X, Y), {"weight": [1.0] * C}, TypeError),
    ("an ignored probability", (X, X.softmax(1)), {"ignore_index": 1}, RuntimeError),
    ("a bool as ignore_index", (X, Y), {"ignore_index": True}, TypeError),
    ("a float as ignore_index", (X, Y), {"ignore_index": 1.0}, TypeError),
    ("a class beyond the last", (X, Y + C), {}, IndexError),
    ("a negative class", (X, Y - 1), {}, IndexError),
    ("labels elsewhere", (X, Y.to("meta")), {}, RuntimeError),
    ("weights elsewhere", (X, Y), {"weight": torch.ones(C, device="meta")}, RuntimeError),
    ("a list", (X, [0] * N), {}, TypeError),
    ("no target", (X, None), {}, TypeError),
    ("a reduction that is none", (X, Y), {"reduction": "average"}, ValueError),
    ("no reduction", (X, Y), {"reduction": None}, ValueError),
]  # fmt: skip


@both
@pytest.mark.parametrize(
    ("arguments", "keywords", "error"),
    [pytest.param(*mistake[1:], id=mistake[0]) for mistake in MISTAKES],
)
def test_mistakes_can_be_caught_as_pytorchs(loss, arguments, keywords, error):
    with pytest.raises(error):
        loss(*arguments, **keywords)


def test_a_module_refuses_a_wrong_epsilon_when_it_is_made():
    with pytest.raises(RuntimeError, match=r"label_smoothing is 1\.2, expected 0 ≤ ε ≤ 1"):
        xent.torch.CrossEntropyLoss(label_smoothing=1.2)


def test_exceptions_are_exceptions_of_python_and_can_be_sent():
    from xent import errors

    for name, base in (("Value", ValueError), ("Type", TypeError), ("Index", IndexError)):
        error = getattr(errors, f"Invalid{name}")
        assert issubclass(error, base) and issubclass(error, RuntimeError)
        sent = pickle.loads(pickle.dumps(error("what came")))
        assert type(sent) is error and str(sent) == "what came"


@both
def test_an_ignore_index_in_a_tensor(loss):
    y = torch.tensor([1, 0, 1, 2, 3])
    expected = F.cross_entropy(X, y, ignore_index=1)
    assert_close(loss(X, y, ignore_index=torch.tensor(1)), expected)


@both
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize(
    ("dtype", "factor"),
    [(torch.float32, 1.0), (torch.float32, 3.0), (torch.bfloat16, 1.0)],
    ids=str,
)
def test_logits_may_change_after_the_loss(loss, reduction, dtype, factor):
    leaf = X.to(dtype).requires_grad_()
    logits = leaf * 1.0
    value = loss(logits, Y, reduction=reduction, label_smoothing=0.1) * factor
    logits.zero_()
    value.backward()
    unchanged = X.to(dtype).requires_grad_()
    (loss(unchanged, Y, reduction=reduction, label_smoothing=0.1) * factor).backward()
    assert_close(leaf.grad, unchanged.grad)


def test_logits_that_are_needed_in_backward_may_not():
    """As the documentation says, and noticed rather than wrong."""
    for dtype, given, factor in (
        (torch.float32, {"reduction": "none"}, 1.0),
        (torch.bfloat16, {}, 2.0),
    ):
        logits = X.to(dtype).requires_grad_() * 1.0
        value = cross_entropy(logits, Y, **given).sum() * factor
        logits.zero_()
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            value.backward()
