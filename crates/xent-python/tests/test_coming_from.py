"""docs/coming-from.md: each line of code in its table against what the library computes, as a textbook would say it."""

import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from xent.torch import CrossEntropyLoss, linear_cross_entropy

PAGE = Path(__file__).parents[3] / "docs" / "coming-from.md"
K, PAD, EPS, LAM = 7, 3, 0.1, 0.3


def rows(name: str = "table") -> list[list[str]]:
    table = PAGE.read_text().split(f"<!-- {name}:begin -->")[1].split(f"<!-- {name}:end -->")[0]
    lines = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in table.split("\n")]
    return [(line + [""])[:4] for line in lines[3:] if len(line) > 2]


class Batch:
    """What the page calls x, y, and so on; some labels are padding unless the row says that none is."""

    def __init__(self, sequences: bool, padding: bool):
        torch.manual_seed(1)
        shape = (4, 5) if sequences else (20,)
        self.x = 3 * torch.randn(*shape, K, dtype=torch.float64)
        classes = torch.tensor([k for k in range(K) if k != PAD])
        self.y = classes[torch.randint(K - 1, shape)]
        if padding:
            self.y = torch.where(torch.rand(shape) < 0.3, PAD, self.y)
            assert (self.y == PAD).any() and (self.y != PAD).any()
        self.t = torch.rand(*shape, K, dtype=torch.float64).softmax(-1)
        self.w = torch.rand(K, dtype=torch.float64)
        self.r = torch.rand(shape, dtype=torch.float64)
        self.allowed = torch.tensor([k != PAD for k in range(K)])
        self.kept = self.y != PAD

    def one_hot(self, y: Tensor | None = None) -> Tensor:
        return F.one_hot(self.y if y is None else y, K).double()

    def names(self, x: Tensor) -> dict[str, object]:
        given = {name: getattr(self, name) for name in ("y", "t", "w", "r", "allowed")}
        return {"CrossEntropyLoss": CrossEntropyLoss, "x": x, "eps": EPS, "pad": PAD, "lam": LAM, **given}  # fmt: skip


def entropy_to(target: Tensor, z: Tensor) -> Tensor:
    """Cross-entropy to a distribution, one per row."""
    return -(target * z.log_softmax(-1)).sum(-1)


def divergence(target: Tensor, z: Tensor) -> Tensor:
    return entropy_to(target, z) + torch.special.xlogy(target, target).sum(-1)


def on_all(hot: Tensor) -> Tensor:
    return (1 - EPS) * hot + EPS / K


def on_wrong(hot: Tensor) -> Tensor:
    return (1 - EPS) * hot + EPS / (K - 1) * (1 - hot)


def on_wrong_except_padding(hot: Tensor) -> Tensor:
    wrong = 1 - hot
    wrong[..., PAD] = 0
    return (1 - EPS) * hot + EPS / (K - 2) * wrong


def kept_mean(of_rows: Tensor, b: Batch) -> Tensor:
    return of_rows[b.kept].sum() / b.kept.sum()


def mixup(b: Batch, x: Tensor) -> Tensor:
    pairs = LAM * on_all(b.one_hot()) + (1 - LAM) * on_all(b.one_hot(b.y.flip(0)))
    return entropy_to(pairs, x).mean()


def liger(b: Batch, x: Tensor) -> Tensor:
    z = 30.0 * torch.tanh(x / 30.0)
    return kept_mean(entropy_to(on_all(b.one_hot()), z) + 1e-2 * z.logsumexp(-1) ** 2, b)


def liger_weighted(b: Batch, x: Tensor) -> Tensor:
    of_rows = entropy_to(b.w * on_all(b.one_hot()), x)
    weighted = of_rows[b.kept].sum() / b.w[b.y[b.kept]].sum()
    return weighted + kept_mean(1e-2 * x.logsumexp(-1) ** 2, b)


def flash(b: Batch, x: Tensor) -> Tensor:
    z = 0.5 * x
    return kept_mean(entropy_to(on_all(b.one_hot()), z) + 1e-2 * z.logsumexp(-1) ** 2, b)


def pytorch(b: Batch, x: Tensor) -> Tensor:
    return F.cross_entropy(x, b.y, b.w, ignore_index=PAD, label_smoothing=EPS)


def optax_masked(b: Batch, x: Tensor) -> Tensor:
    z = x.masked_fill(~b.allowed, -torch.inf)
    return z.logsumexp(-1) - z.gather(-1, b.y.unsqueeze(-1)).squeeze(-1)


# In the order of the table.
TEXTBOOK = [
    pytorch,
    lambda b, x: divergence(b.t, x).mean(),
    lambda b, x: entropy_to(on_all(b.one_hot()), x).mean(),
    lambda b, x: entropy_to(b.t, x).mean(),
    mixup,
    lambda b, x: entropy_to(on_wrong(b.one_hot()), x)[b.kept].sum(),
    lambda b, x: entropy_to(on_all(b.one_hot()), x)[b.kept].sum(),
    lambda b, x: divergence(on_wrong_except_padding(b.one_hot()), x)[b.kept].sum(),
    lambda b, x: kept_mean(divergence(on_wrong(b.one_hot()), x), b),
    lambda b, x: divergence(on_wrong(b.one_hot()), x)[b.kept].sum() / len(x),
    liger,
    liger_weighted,
    flash,
    lambda b, x: entropy_to(on_all(b.one_hot()), x).mean(),
    lambda b, x: kept_mean(entropy_to(b.one_hot(), x), b),
    lambda b, x: (b.r * entropy_to(b.one_hot(), x)).mean(),
    lambda b, x: (b.r * entropy_to(b.one_hot(), x)).sum() / b.r.sum(),
    lambda b, x: (b.w[b.y] * entropy_to(b.one_hot(), x)).mean(),
    lambda b, x: entropy_to(b.one_hot(), x),
    lambda b, x: entropy_to(on_all(b.one_hot()), x),
    optax_masked,
]


def test_every_row_has_its_textbook():
    assert len(rows()) == len(TEXTBOOK)
    assert {row[0] for row in rows()} == {"PyTorch", "timm", "fairseq", "OpenNMT-py", "espnet", "Liger", "flash-attention", "Keras", "optax"}  # fmt: skip


@pytest.mark.parametrize(
    ("row", "textbook"),
    [pytest.param(row, textbook, id=f"{row[0]}-{row[1]}") for row, textbook in zip(rows(), TEXTBOOK)],
)  # fmt: skip
def test_the_same_numbers(row, textbook):
    _, theirs, ours, particular = row
    batch = Batch(sequences="`[B, T, K]`" in theirs, padding="no padding" not in particular)
    x = batch.x.clone().requires_grad_()
    [code] = re.findall("`([^`]*)`", ours)
    loss = eval(code, batch.names(x))
    expected = textbook(batch, x)
    assert_close(loss, expected, rtol=1e-12, atol=1e-13)
    upstream = torch.rand_like(loss)
    assert_close(
        torch.autograd.grad(loss, x, upstream),
        torch.autograd.grad(expected, x, upstream),
        rtol=1e-12,
        atol=1e-13,
    )


def textbook_of_head(b: Batch, h: Tensor, line: str) -> Tensor:
    """What a library of the second table computes."""
    z, y = h @ b.weight.t(), b.y
    if "y, b" in line or "bias=b" in line:
        z = z + b.bias
    if "shift" in line:
        z, y = z[:, :-1], y[:, 1:]
    if "softcap" in line:
        z = 30.0 * torch.tanh(z / 30.0)
    hot = F.one_hot(y, K).double()
    of_rows = entropy_to(on_all(hot) if "eps" in line else hot, z)
    if "lse_square" in line:
        of_rows = of_rows + 1e-2 * z.logsumexp(-1) ** 2
    if "none" in line:
        return of_rows.masked_fill(y == PAD, 0.0)
    return of_rows[y != PAD].mean()


@pytest.mark.parametrize(
    "row", [pytest.param(row, id=f"{row[0]}-{row[1]}") for row in rows("linear")]
)
def test_the_same_numbers_of_a_head(row):
    _, theirs, ours, _ = row
    batch = Batch(sequences="`[B, T, D]`" in theirs, padding=True)
    batch.weight, batch.bias = torch.randn(K, 5, dtype=torch.float64), torch.randn(K).double()
    h = torch.randn(*batch.y.shape, 5, dtype=torch.float64, requires_grad=True)
    names = {"linear_cross_entropy": linear_cross_entropy, "h": h, "W": batch.weight, "b": batch.bias}  # fmt: skip
    [code] = re.findall("`([^`]*)`", ours)
    loss = eval(code, {**names, "y": batch.y, "pad": PAD, "eps": EPS})
    expected = textbook_of_head(batch, h, theirs)
    assert_close(loss, expected, rtol=1e-12, atol=1e-13)
    upstream = torch.rand_like(loss)
    gradients = [torch.autograd.grad(each, h, upstream) for each in (loss, expected)]
    assert_close(*gradients, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_what_liger_returns_besides(reduction):
    batch = Batch(sequences=False, padding=True)
    criterion = CrossEntropyLoss(ignore_index=PAD, z_loss=1e-2, reduction=reduction, return_stats=True)  # fmt: skip
    _, stats = criterion(batch.x, batch.y)
    z_loss = 1e-2 * batch.x.logsumexp(-1) ** 2
    right = batch.x.argmax(-1) == batch.y
    if reduction == "mean":
        assert_close(stats.z_loss, kept_mean(z_loss, batch), rtol=1e-12, atol=0)
    else:
        assert_close(stats.z_loss, z_loss.masked_fill(~batch.kept, 0.0), rtol=1e-12, atol=0)
    assert_close(stats.accuracy, kept_mean(right.float(), batch))
    assert torch.equal(stats.correct_rows, right & batch.kept)
    assert torch.equal(stats.predicted, batch.x.argmax(-1).masked_fill(~batch.kept, -1))
