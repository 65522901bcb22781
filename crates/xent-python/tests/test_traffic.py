"""The bytes that PyTorch's operations move, as ``examples/traffic.py`` counts them."""

import importlib.util
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from xent.torch import _passes

spec = importlib.util.spec_from_file_location(
    "traffic", Path(__file__).parents[1] / "examples" / "traffic.py"
)
traffic = importlib.util.module_from_spec(spec)
spec.loader.exec_module(traffic)

N, K = 4096, 32000
S = N * K * 4
# At most, of float32 and bfloat16, in multiples of the logits' bytes.
BYTES = {
    "no smoothing": (12, 22),
    "label smoothing": (13, 24),
    "nothing ignored": (11, 22),
    "reduction none": (13, 24),
    "reduction sum": (13, 24),
    "statistics": (13, 24),
    "wrong classes": (13, 24),
    "exclude": (17, 32),
    "vector prior": (17, 32),
    "matrix prior": (25, 48),
    "two labels": (13, 24),
    "class weights": (17, 32),
    "class weights per row": (13, 24),
    "row weights": (13, 24),
    "smoothing per row": (13, 24),
    "ignored rows": (13, 24),
    "mask [K]": (17.5, 27),
    "mask [N, K]": (18, 28),
    "renormalise": (18.75, 33.5),
    "softcap": (29.5, 58),
    "temperature": (15, 24),
    "z-loss": (13, 24),
    "KL": (13, 24),
    "probabilities": (20, 36),
}
# Peak memory, where it is more than that of most.
MORE = {
    "matrix prior": (1.25, 2.5),
    "mask [K]": (1.25, 1.3),
    "mask [N, K]": (1.25, 1.3),
    "renormalise": (1.5, 1.3),
    "softcap": (1.2, 1.5),
}


def x(*shape, **options):
    return torch.zeros(*shape or (N, K), device="meta", **options)


@pytest.mark.parametrize(
    ("operations", "times"),
    [
        (lambda: x().exp(), 2),
        (lambda: x().exp_(), 2),
        (lambda: x().softmax(1), 2),
        (lambda: x().view(-1)[5:].unsqueeze(0), 0),
        (lambda: torch.empty_like(x()), 0),
        (lambda: x().sum(1), 1),
        (lambda: x() + x(), 3),
        (lambda: x() + x(N, 1), 2),
        (lambda: x() + x(N, 1).expand(N, K), 2),
        (lambda: torch.add(x(), x(N, 1), out=x()), 2),
        (lambda: torch.add(x(), x(N, 1), out=x(dtype=torch.bfloat16)), 1.5),
        (lambda: x().masked_fill_(x(N, 1, dtype=torch.bool), 0.0), 2),
        (lambda: x().gather(1, x(N, 1, dtype=torch.int64)), 0),
        (lambda: x().scatter_(1, x(N, 1, dtype=torch.int64), 1.0), 0),
        (lambda: x().scatter(1, x(N, 1, dtype=torch.int64), 1.0), 2),
    ],
)
def test_counts(operations, times):
    with traffic.Traffic() as counted:
        operations()
    made = counted.bytes["zeros"] + counted.bytes["zeros_like"]
    assert (counted.bytes.total() - made) / S == pytest.approx(times, abs=1e-3)


def test_peak():
    with traffic.Traffic() as counted:
        a = x().exp()  # beside the zeros
        b = a.view(-1).exp_()
        del a, b
        x()
    assert counted.peak == 2 * S


def test_what_pytorch_moves():
    counted = traffic.count(F.cross_entropy, {"label_smoothing": 0.1}, N, K, torch.float32)
    assert counted.bytes.total() / S == pytest.approx(9, abs=1e-2) and counted.peak < 3.01 * S


OURS = [case for case in traffic.cases(N, K) if case[1] is traffic.cross_entropy]


@pytest.mark.parametrize("case", OURS, ids=lambda case: case[0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_an_option_costs(case, dtype):
    name, loss, options = case
    counted = traffic.count(loss, options, N, K, dtype)
    size = N * K * dtype.itemsize
    assert counted.bytes.total() / size < BYTES[name][dtype.itemsize == 2] + 0.05
    assert counted.peak / size < MORE.get(name, (1.2, 1.3))[dtype.itemsize == 2] + 0.05


def test_peak_of_batches_in_one_piece(monkeypatch):
    monkeypatch.setattr(_passes, "PIECE", N * K)
    counted = [
        traffic.count(traffic.cross_entropy, {"label_smoothing": 0.1}, N, K, dtype).peak
        for dtype in (torch.float32, torch.bfloat16)
    ]
    assert counted[0] < 1.01 * S and counted[1] < 3.01 * S / 2


def test_probabilities_are_narrowed_once():
    options = {"label_smoothing": 0.1, "target": x(dtype=torch.float64)}
    size = N * K * 4
    kept = [x(dtype=torch.float64)]  # no dtype is given to those that are float64

    def loss(logits, target, **options):
        return traffic.cross_entropy(logits, kept[0], **options)

    counted = traffic.count(loss, options, N, K, torch.float32)
    assert counted.bytes.total() / size < BYTES["probabilities"][0] + 2 * 3 + 0.05
