"""Every option of xent, by the engine and by PyTorch's operations, which share no arithmetic."""

import pytest
import torch
from torch import nan
from torch.testing import assert_close

import xent.torch
from cases import take, xent_case
from xent.torch.functional import cross_entropy

# SEMANTICS.md, known answers.
LOGITS = torch.tensor(
    [[2, -1, 0.5, 0], [0, 1, -2, 3], [5, 5, 5, 5], [1, 0, 0, -1]], dtype=torch.float64
)
TARGETS = torch.tensor([0, 3, -100, 1])
WEIGHT = torch.tensor([1, 2, 0.5, 3], dtype=torch.float64)
ONE_HOT = torch.tensor(
    [[1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0], [0, 1, 0, 0]], dtype=torch.float64
)
IGNORED = torch.tensor([False, False, True, False])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            {"reduction": "none", "label_smoothing": 0.0},
            [0.3423495824, 0.1755153626, 0, 1.6265233750],
        ),
        ({"reduction": "none"}, [0.5048495824, 0.4255153626, 0, 1.6265233750]),
        ({"reduction": "sum"}, 2.5568883200),
        ({}, 0.8522961067),
        (
            {"prior": "wrong_classes", "reduction": "none"},
            [0.5590162491, 0.5088486960, 0, 1.6265233750],
        ),
        ({"prior": "wrong_classes", "form": "kl", "denominator": "rows"}, 0.3473889283),
        ({"exclude": 2, "reduction": "none"}, [0.5923495824, 0.4255153626, 0, 1.6265233750]),
        ({"exclude": [2], "form": "kl", "reduction": "sum"}, 1.4611952457),
        ({"weight": WEIGHT, "reduction": "sum"}, 4.6644612803),
        ({"weight": WEIGHT}, 0.7774102134),
        ({"weight": WEIGHT, "target": ONE_HOT, "ignored_rows": IGNORED}, 1.5548204268),
        ({"weight": WEIGHT, "weighting": "per_row"}, 0.8390737367),
    ],
)
def test_known_answers(road, options, expected):
    options = {"target": TARGETS, "label_smoothing": 0.1, **options}
    assert_close(
        cross_entropy(LOGITS, **options),
        torch.tensor(expected, dtype=torch.float64),
        rtol=0,
        atol=5e-11,
    )


def test_the_pasted_criterion():
    criterion = xent.torch.SmoothLabelCriterion(label_smoothing=0.1, ignore_index=-100)
    assert_close(criterion(LOGITS, TARGETS).item(), 0.3473889283, rtol=0, atol=5e-11)
    pasted = torch.nn.KLDivLoss(reduction="batchmean")
    logits, targets = torch.randn(7, 9, dtype=torch.float64), torch.randint(9, (7,))
    smoothed = torch.full((7, 9), 0.1 / 8, dtype=torch.float64).scatter(1, targets[:, None], 0.9)
    assert_close(
        xent.torch.SmoothLabelCriterion()(logits, targets), pasted(logits.log_softmax(1), smoothed)
    )
    assert_close(
        xent.torch.SmoothLabelCriterion(0.0)(logits, targets),
        torch.nn.functional.nll_loss(logits.log_softmax(1), targets),
    )


@pytest.mark.parametrize("block", range(20))
def test_roads_agree(block, monkeypatch):
    for seed in range(block * 100, block * 100 + 100):
        case = xent_case(seed)
        generator = torch.Generator()

        def run(want_stats, case=case, generator=generator):
            leaf = case.leaf()
            loss = cross_entropy(leaf, case.target, **case.options, return_stats=want_stats)
            loss, stats = loss if want_stats else (loss, None)
            upstream = torch.randn(
                loss.shape, dtype=loss.dtype, generator=generator.manual_seed(case.seed)
            )
            return loss.detach(), torch.autograd.grad(loss, leaf, upstream)[0], stats

        loss, gradient, stats = run(True)
        for road in ("composed", "differentiated"):
            with monkeypatch.context() as patch:
                take(road, patch)
                other, plain = run(True), run(False)
            where = lambda message, case=case, road=road: f"{road}: {case}\n{message}"  # noqa: E731
            options = {"rtol": 1e-11, "atol": 1e-12, "equal_nan": True, "msg": where}
            for name, theirs, ours in (
                ("loss", other[0], loss),
                ("loss", plain[0], loss),
                ("gradient", other[1], gradient),
                ("gradient", plain[1], gradient),
                *zip(stats._fields, other[2], stats),
            ):
                options["msg"] = lambda message, name=name, where=where: f"{name} {where(message)}"
                assert_close(theirs, ours, **options)


def test_what_is_ignored_is_never_read(road):
    logits = torch.tensor([[nan, nan], [1.0, 2.0]], requires_grad=True)
    cross_entropy(logits, torch.tensor([-100, 1])).backward()
    assert logits.grad is not None
    assert_close(logits.grad, torch.tensor([[0.0, 0.0], [0.2689414, -0.2689414]]))


def test_lists_of_options(road):
    logits = torch.zeros(4, 3)
    targets = torch.tensor([0, 7, -1, 2])
    loss, stats = cross_entropy(
        logits,
        targets,
        ignore_index=[7, -1],
        label_smoothing=torch.tensor(0.1),
        denominator=torch.tensor(4.0),
        return_stats=True,
    )
    assert_close(loss, torch.tensor(3.0).log() / 2)
    assert (stats.ignored, stats.denominator, stats.correct) == (2, 4, 1)


def test_other_integers(road):
    logits = torch.randn(3, 4)
    expected = cross_entropy(logits, torch.tensor([0, 3, 1]))
    for dtype in (
        torch.uint8,
        torch.int8,
        torch.int16,
        torch.int32,
        torch.uint16,
        torch.uint32,
        torch.uint64,
    ):
        assert_close(
            cross_entropy(logits, torch.tensor([0, 3, 1]).to(dtype), ignore_index=None), expected
        )


EMPTY = [
    {"weight": torch.zeros(3)},
    {"weight": torch.tensor([0.0, 0.0, 1.0]), "label_smoothing": 0.1},
    {"weight": torch.tensor([0.0, 0.0, 1.0]), "z_loss": 0.1},
    {"ignored_rows": torch.ones(4, dtype=torch.bool)},
]


@pytest.mark.parametrize("options", EMPTY, ids=lambda options: "-".join(options))
def test_a_mean_over_nothing_has_no_gradient(road, options):
    """Whatever the logits are."""
    bad = [[1.0, 2.0, 3.0], [nan, 1.0, 2.0], [torch.inf, 0.0, 0.0], [-torch.inf] * 3]
    logits = torch.tensor(bad, requires_grad=True)
    loss = cross_entropy(logits, torch.tensor([0, 1, 0, 1]), empty_mean="zero", **options)
    loss.backward()
    assert loss == 0.0 and (logits.grad == 0.0).all()


@pytest.mark.parametrize("gap", [1.0, 10.0, 60.0])
def test_confident_rows_keep_their_digits(road, gap):
    """The probability of the other classes is far less than a unit in the last place of 1."""
    offset = 100.0
    logits = torch.tensor([[offset, offset - gap, offset - 2 * gap]])
    exact = torch.tensor([-gap, -2 * gap], dtype=torch.float64).exp().sum().log1p()
    loss, stats = cross_entropy(logits, torch.tensor([0]), return_stats=True)
    assert_close(loss, exact.float(), rtol=1e-6, atol=0)
    assert_close(stats.nll, exact.float(), rtol=1e-6, atol=0)


def test_accuracy_and_predictions(road):
    logits = torch.tensor([[0.0, 2.0, 2.0], [3.0, nan, 0.0], [0.0, 0.0, 1.0], [9.0, 0.0, 0.0]])
    targets = torch.tensor([1, 0, 1, -100])
    _, stats = cross_entropy(logits, targets, return_stats=True)
    assert stats.predicted.tolist() == [1, -1, 2, -1]
    assert stats.correct_rows.tolist() == [True, False, False, False]
    assert stats.accuracy.item() == pytest.approx(1 / 3) and stats.correct == 1
    none = cross_entropy(logits, torch.full((4,), -100), return_stats=True)[1]
    assert none.accuracy.isnan() and (none.predicted == -1).all() and not none.correct_rows.any()
    allowed = torch.tensor([True, False, True])
    _, stats = cross_entropy(
        logits[:1], targets[:1] + 1, allowed_classes=allowed, return_stats=True
    )
    assert stats.predicted.tolist() == [2] and stats.accuracy == 1
