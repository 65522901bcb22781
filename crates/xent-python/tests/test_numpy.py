"""xent.numpy: dtypes, layouts, other frameworks' arrays."""

import ml_dtypes
import numpy as np
import pytest
import torch
from torch.testing import assert_close

from cases import xent_case
from xent.numpy import cross_entropy, cross_entropy_with_grad
from xent.torch.functional import cross_entropy as torch_cross_entropy

NAMES = {"weight": "class_weights", "row_weight": "row_weights", "target_b": "second_targets"}


def test_the_same_as_for_torch():
    for seed in range(300):
        case = xent_case(seed)
        options = {
            NAMES.get(name, name): value.numpy() if isinstance(value, torch.Tensor) else value
            for name, value in case.options.items()
        }
        loss, gradient, stats = cross_entropy_with_grad(
            case.input.numpy(), case.target.numpy(), **options, return_stats=True
        )
        x = case.leaf()
        expected, expected_stats = torch_cross_entropy(
            x, case.target, **case.options, return_stats=True
        )
        [expected_gradient] = torch.autograd.grad(expected.sum(), x)
        np.testing.assert_array_equal(loss, expected.detach().numpy(), strict=False)
        np.testing.assert_array_equal(gradient, expected_gradient.numpy(), strict=True)
        first = stats.first_non_finite
        stats = stats._replace(first_non_finite=-1 if first is None else first)
        for value, of_torch in zip(stats, expected_stats, strict=True):
            np.testing.assert_array_equal(value, of_torch.numpy())
        np.testing.assert_allclose(stats.accuracy, expected_stats.accuracy, rtol=1e-6)
        np.testing.assert_array_equal(
            cross_entropy(case.input.numpy(), case.target.numpy(), **options), loss
        )


@pytest.mark.parametrize(
    ("dtype", "of_loss", "tolerance"),
    [
        (np.float16, np.float32, 1e-3),
        (ml_dtypes.bfloat16, np.float32, 8e-3),
        (np.float32, np.float32, 1e-6),
        (np.float64, np.float64, 1e-14),
    ],
)
def test_dtypes(dtype, of_loss, tolerance):
    logits = np.random.default_rng(0).normal(size=(5, 7)).astype(dtype)
    loss, gradient = cross_entropy_with_grad(logits, [0, 6, 1, 2, 3], label_smoothing=0.1)
    expected, exact = cross_entropy_with_grad(
        logits.astype(np.float64), [0, 6, 1, 2, 3], label_smoothing=0.1
    )
    assert type(loss) is of_loss and gradient.dtype == dtype
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    np.testing.assert_allclose(
        gradient.astype(np.float64), exact, atol=tolerance / 10, rtol=tolerance
    )
    probabilities = np.full((5, 7), 1 / 7).astype(dtype)
    np.testing.assert_allclose(
        cross_entropy(logits, probabilities),
        cross_entropy(logits.astype(float), probabilities.astype(float)),
        rtol=1e-5,
    )


def layouts():
    logits = np.random.default_rng(1).normal(size=(4, 6))
    read_only = logits.copy()
    read_only.flags.writeable = False
    packed = np.zeros(4, dtype=[("odd", "u1"), ("logits", "f8", 6)])
    packed["logits"] = logits
    assert not packed["logits"].flags.aligned
    yield "contiguous", logits, logits
    yield "reversed", logits[::-1, ::-1], logits[::-1, ::-1].copy()
    yield "columns", np.asfortranarray(logits), logits
    yield "gaps", np.repeat(logits, 3, axis=1)[:, ::3], logits
    yield "broadcast", np.broadcast_to(logits[0], (4, 6)), np.tile(logits[0], (4, 1))
    yield "read-only", read_only, logits
    yield "unaligned", packed["logits"], logits
    yield "other byte order", logits.astype(">f8"), logits
    yield "torch", torch.from_numpy(logits), logits


@pytest.mark.parametrize(
    ("logits", "plain"), [pytest.param(*case[1:], id=case[0]) for case in layouts()]
)
def test_layouts(logits, plain):
    targets = np.array([[0, 9], [5, 9], [2, 9], [3, 9]], dtype=">i4")[:, 0]
    ours, expected = (
        cross_entropy_with_grad(logits, targets),
        cross_entropy_with_grad(plain, [0, 5, 2, 3]),
    )
    np.testing.assert_array_equal(ours[0], expected[0])
    np.testing.assert_array_equal(ours[1], expected[1])


def test_bfloat16_of_torch():
    logits = torch.randn(3, 4, dtype=torch.bfloat16)
    loss, gradient = cross_entropy_with_grad(logits, torch.tensor([0, 1, 2]))
    assert gradient.dtype == ml_dtypes.bfloat16
    assert_close(torch.tensor(loss), torch_cross_entropy(logits.float(), torch.tensor([0, 1, 2])))


def test_upstream():
    logits = np.random.default_rng(2).normal(size=(3, 4))
    _, gradient = cross_entropy_with_grad(logits, [0, 1, 2], reduction="none")
    _, scaled = cross_entropy_with_grad(
        logits, [0, 1, 2], reduction="none", upstream=[1.0, 0.0, -2.0]
    )
    np.testing.assert_allclose(scaled, gradient * [[1], [0], [-2]], rtol=1e-14)


def test_threads():
    logits = np.random.default_rng(3).normal(size=(300, 1000)).astype(np.float32)
    assert (
        len({cross_entropy(logits, np.arange(300), threads=threads) for threads in (None, 1, 2, 3)})
        == 1
    )


def test_nothing_at_all():
    assert np.isnan(cross_entropy(np.zeros((0, 3)), np.zeros(0, int)))
    assert cross_entropy(np.zeros((0, 3)), np.zeros(0, int), reduction="sum") == 0
    assert cross_entropy(np.zeros((2, 0, 3)), np.zeros((2, 0), int), reduction="none").shape == (
        2,
        0,
    )
    loss, gradient = cross_entropy_with_grad(np.zeros(3), 1)
    np.testing.assert_allclose((loss, *gradient), (np.log(3), 1 / 3, -2 / 3, 1 / 3))
