"""Writes pytorch.jsonl: random calls of PyTorch's losses in float64, with loss and gradient.

    pip install torch==2.15.0 numpy
    python make_golden.py

Each line is {"case": ..., "loss": [...], "grad": [...]}, with the fields of `Case` in ../src/case.rs; the first line names the PyTorch
version. Whatever PyTorch offers itself is called as such: CrossEntropyLoss with class weights, smoothing, ignored rows, reductions and
probabilities, and KLDivLoss. The rest is composed from its differentiable operations: dense targets for other priors, masked_fill, tanh, logsumexp,
and sums of two losses for two labels.
"""

import itertools
import json
import math
import pathlib

import numpy as np
import torch
import torch.nn.functional as F

SEED = 20151202
torch.set_default_dtype(torch.float64)
rng = np.random.default_rng(SEED)

IGNORE = -100


def dyadic(shape, low, high, steps=64):
    """Numbers with few digits, exact in float32 too."""
    return rng.integers(round(low * steps), round(high * steps), size=shape, endpoint=True) / steps


def distribution(*shape):
    """Positive multiples of 1/4096 that sum to exactly 1 over the last axis."""
    parts = rng.integers(1, 4096 // (2 * shape[-1]), size=shape, endpoint=True)
    parts[..., 0] += 4096 - parts.sum(axis=-1)
    return parts / 4096


def number(value):
    value = float(value)
    if math.isnan(value):
        return "nan"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return int(value) if value.is_integer() and abs(value) < 2**53 and value != 0 else value


def numbers(values):
    return [number(value) for value in np.asarray(values, dtype=np.float64).reshape(-1)]


class Problem:
    """Logits of some shape with the class axis anywhere, and what is asked of them."""

    def __init__(self, name, rank=None, classes=None):
        rank = rank or int(rng.integers(2, 4, endpoint=True))
        self.classes = classes or int(rng.choice([1, 2, 2, 3, 4, 5, 7, 8, 9, 10, 17, 33, 40]))
        outer = [int(n) for n in rng.integers(1, 4 if rank == 2 else 3, size=rank - 1, endpoint=True)]
        # PyTorch's own class axis is 1; other axes go through movedim.
        self.axis = 1 if rng.random() < 0.6 else int(rng.integers(0, rank - 1, endpoint=True))
        self.shape = outer[: self.axis] + [self.classes] + outer[self.axis :]
        self.rows = int(np.prod(outer))
        scale = rng.choice([1.0, 4.0, 12.0])
        self.logits = np.round(rng.normal(size=self.shape) * scale * 1024) / 1024 + rng.choice([0, 0, 0, 100, -20])
        self.case = {"name": name, "shape": self.shape, "axis": self.axis}

    def leaf(self):
        """The logits as a leaf, and as [N, K] rows in C order of the other axes."""
        leaf = torch.tensor(self.logits, requires_grad=True)
        return leaf, leaf.movedim(self.axis, -1).reshape(-1, self.classes)

    def torch_layout(self, leaf):
        """The same with the class axis where PyTorch wants it, with the extents that follow it."""
        moved = leaf.movedim(self.axis, 1)
        return moved, [moved.shape[0], *moved.shape[2:]]

    def labels(self):
        return rng.integers(0, self.classes, size=self.rows)

    def class_weights(self):
        weights = dyadic(self.classes, 0.125, 3)
        self.case["class_weights"] = numbers(weights)
        return torch.tensor(weights)

    def epsilon(self, choices=(0.0, 0.1, 0.01, 0.3, 0.5, 1.0)):
        epsilon = float(rng.choice(choices))
        self.case["epsilon"] = epsilon
        return epsilon

    def reduction(self):
        reduction = str(rng.choice(["none", "sum", "mean"]))
        self.case["reduction"] = reduction
        return reduction

    def finish(self, leaf, loss):
        """Back-propagates an upstream gradient, which differs a row under `none`, and returns the line to write."""
        if self.case["reduction"] == "none":
            upstream = dyadic(loss.numel(), -2, 2)
            self.case["upstream"] = numbers(upstream)
        else:
            upstream = dyadic(1, -2, 2) if rng.random() < 0.5 else np.ones(1)
            self.case["upstream"] = number(upstream[0])
        loss.reshape(-1).backward(torch.tensor(upstream))
        self.case["logits"] = numbers(self.logits)
        return {"case": self.case, "loss": numbers(loss.detach()), "grad": numbers(leaf.grad)}


def reduce(losses, reduction, denominator):
    return {"none": losses, "sum": losses.sum(), "mean": losses.sum() / denominator}[reduction]


def cross_entropy(weighted, smoothed, ignoring, reduction):
    """nn.CrossEntropyLoss over class indices."""
    problem = Problem("cross entropy")
    leaf, _ = problem.leaf()
    moved, outer = problem.torch_layout(leaf)
    labels = problem.labels()
    if ignoring:
        labels[rng.random(problem.rows) < 0.3] = IGNORE
        problem.case["ignore_index"] = [IGNORE]
    weight = problem.class_weights() if weighted else None
    epsilon = problem.epsilon((0.1, 0.01, 0.3, 0.5, 1.0)) if smoothed else 0.0
    problem.case["reduction"] = reduction
    problem.case["targets"] = {"classes": {"dtype": "i64", "labels": labels.tolist()}}
    # Rows are numbered in C order of the axes without the classes, which movedim leaves alone.
    target = torch.tensor(labels).reshape(outer)
    criterion = torch.nn.CrossEntropyLoss(weight=weight, ignore_index=IGNORE, reduction=reduction, label_smoothing=epsilon)
    return problem.finish(leaf, criterion(moved, target))


def cross_entropy_of_probabilities(weighted, smoothed, reduction):
    """The same with probabilities, whose sum need not be 1. PyTorch's mean divides by the number of rows."""
    problem = Problem("probabilities")
    leaf, _ = problem.leaf()
    moved, outer = problem.torch_layout(leaf)
    values = distribution(problem.rows, problem.classes) if rng.random() < 0.6 else dyadic((problem.rows, problem.classes), 0, 1)
    weight = problem.class_weights() if weighted else None
    epsilon = problem.epsilon((0.1, 0.01, 0.3, 0.5, 1.0)) if smoothed else 0.0
    problem.case["reduction"] = reduction
    problem.case["targets"] = {"probabilities": {"dtype": "f64", "values": numbers(values)}}
    target = torch.tensor(values).reshape([*outer, problem.classes]).movedim(-1, 1)
    criterion = torch.nn.CrossEntropyLoss(weight=weight, reduction=reduction, label_smoothing=epsilon)
    return problem.finish(leaf, criterion(moved, target))


def masked_logits():
    """Some logits are −∞, not the label's; with smoothing the loss is +∞ and the gradient still defined."""
    problem = Problem("masked logits", classes=int(rng.integers(3, 9)))
    labels = problem.labels()
    rows = np.moveaxis(problem.logits, problem.axis, -1).reshape(-1, problem.classes)
    gone = rng.random(rows.shape) < 0.3
    gone[np.arange(problem.rows), labels] = False
    rows[gone] = -np.inf
    outer = [extent for axis, extent in enumerate(problem.shape) if axis != problem.axis]
    problem.logits = np.moveaxis(rows.reshape([*outer, problem.classes]), -1, problem.axis).copy()
    leaf, flat = problem.leaf()
    epsilon = problem.epsilon((0.0, 0.0, 0.1))
    reduction = problem.reduction()
    weight = problem.class_weights() if rng.random() < 0.5 else None
    problem.case["targets"] = {"classes": {"dtype": "i64", "labels": labels.tolist()}}
    return problem.finish(leaf, F.cross_entropy(flat, torch.tensor(labels), weight=weight, reduction=reduction, label_smoothing=epsilon))


def kl_divergence():
    """nn.KLDivLoss against a target smoothed over the wrong classes; batchmean divides by the number of rows."""
    problem = Problem("KL divergence", rank=2, classes=int(rng.choice([2, 3, 5, 10, 40])))
    leaf, flat = problem.leaf()
    labels = problem.labels()
    epsilon = problem.epsilon((0.0, 0.1, 0.3, 0.9))
    target = torch.full((problem.rows, problem.classes), epsilon / (problem.classes - 1))
    target[torch.arange(problem.rows), torch.tensor(labels)] = 1 - epsilon
    reduction = problem.reduction()
    log_p = F.log_softmax(flat, dim=-1)
    if reduction == "none":
        loss = torch.nn.KLDivLoss(reduction="none")(log_p, target).sum(dim=-1)
    else:
        loss = torch.nn.KLDivLoss(reduction={"mean": "batchmean", "sum": "sum"}[reduction])(log_p, target)
    problem.case |= {
        "form": "kl_divergence",
        "prior": "wrong_classes",
        "denominator": "rows",
        "targets": {"classes": {"dtype": "i64", "labels": labels.tolist()}},
    }
    return problem.finish(leaf, loss)


def prior_rows(problem):
    """A prior that is not PyTorch's, as [K, K]: a row a true class."""
    classes = problem.classes
    kind = str(rng.choice(["wrong_classes", "excluding", "fixed", "by_true_class"]))
    if kind == "fixed":
        prior = distribution(classes)
        problem.case["prior"] = {"fixed": numbers(prior)}
        return np.tile(prior, (classes, 1)), True
    if kind == "by_true_class":
        prior = distribution(classes, classes)
        problem.case["prior"] = {"by_true_class": numbers(prior)}
        return prior, False
    excluded = []
    if kind == "excluding":
        excluded = sorted(int(c) for c in rng.choice(classes, size=int(rng.integers(1, classes)), replace=False))
        problem.case["prior"] = {"excluding": excluded}
    else:
        problem.case["prior"] = "wrong_classes"
    prior = np.zeros((classes, classes))
    for true in range(classes):
        open_classes = [c for c in range(classes) if c != true and c not in excluded]
        if open_classes:
            prior[true, open_classes] = 1 / len(open_classes)
        else:
            prior[true, true] = 1
    return prior, False


def dense_target():
    """Any prior, ε a row, one label, two or probabilities: the dense target goes in as probabilities."""
    problem = Problem("prior", classes=int(rng.choice([2, 3, 5, 9, 17])))
    leaf, flat = problem.leaf()
    kind = str(rng.choice(["classes", "two_labels", "probabilities"]))
    eye = np.eye(problem.classes)
    if kind == "classes":
        labels = problem.labels()
        before = eye[labels]
        targets = {"dtype": "i64", "labels": labels.tolist()}
    elif kind == "two_labels":
        a, b = problem.labels(), problem.labels()
        share = dyadic(problem.rows, 0, 1)
        before = share[:, None] * eye[a] + (1 - share[:, None]) * eye[b]
        targets = {"dtype": "i64", "a": a.tolist(), "b": b.tolist(), "lambda": numbers(share)}
    else:
        before = distribution(problem.rows, problem.classes)
        targets = {"dtype": "f64", "values": numbers(before)}
    problem.case["targets"] = {kind: targets}
    epsilon = dyadic(problem.rows, 0, 1)
    problem.case["epsilon"] = numbers(epsilon)
    prior, added_once = prior_rows(problem)
    smoothing = prior[:1] if added_once else before @ prior
    target = torch.tensor((1 - epsilon[:, None]) * before + epsilon[:, None] * smoothing)
    reduction = problem.reduction()
    return problem.finish(leaf, F.cross_entropy(flat, target, reduction=reduction))


def two_labels():
    """λ·CE(a) + (1−λ)·CE(b), with weights and smoothing as PyTorch has them; the mean divides by λ·w_a + (1−λ)·w_b."""
    problem = Problem("two labels")
    leaf, flat = problem.leaf()
    a, b = problem.labels(), problem.labels()
    share = float(dyadic((), 0, 1))
    weight = problem.class_weights() if rng.random() < 0.5 else torch.ones(problem.classes)
    epsilon = problem.epsilon()
    problem.case["targets"] = {"two_labels": {"dtype": "i64", "a": a.tolist(), "b": b.tolist(), "lambda": share}}

    def one(labels):
        return F.cross_entropy(flat, torch.tensor(labels), weight=weight, reduction="none", label_smoothing=epsilon)

    losses = share * one(a) + (1 - share) * one(b)
    denominator = (share * weight[a] + (1 - share) * weight[b]).sum()
    return problem.finish(leaf, reduce(losses, problem.reduction(), denominator))


def transformed():
    """Temperature, softcap, allowed classes, z-loss, row weights and whole-row class weights, composed in PyTorch."""
    problem = Problem("transformed", classes=int(rng.choice([3, 4, 9, 33])))
    leaf, z = problem.leaf()
    labels = problem.labels()
    case = problem.case
    case["targets"] = {"classes": {"dtype": "i64", "labels": labels.tolist()}}
    if rng.random() < 0.5:
        case["temperature"] = float(rng.choice([0.5, 1.5, 3.0]))
        z = z / case["temperature"]
    if rng.random() < 0.5:
        case["softcap"] = float(rng.choice([5.0, 30.0]))
        z = case["softcap"] * torch.tanh(z / case["softcap"])
    epsilon = problem.epsilon((0.0, 0.1, 0.3))
    if epsilon == 0.0 and rng.random() < 0.5:
        allowed = rng.random(problem.classes) < 0.6
        allowed[labels] = True
        case["allowed"] = {"shared": allowed.tolist()}
        z = z.masked_fill(~torch.tensor(allowed), -math.inf)
    losses = F.cross_entropy(z, torch.tensor(labels), reduction="none", label_smoothing=epsilon)
    denominator, z_losses = problem.rows, torch.zeros(problem.rows)
    if rng.random() < 0.4:
        weight = problem.class_weights()[labels]
        case["class_weighting"] = "per_row"
        losses, denominator = losses * weight, weight.sum()
    if rng.random() < 0.5:
        case["z_loss"] = float(rng.choice([1e-4, 0.125]))
        z_losses = case["z_loss"] * torch.logsumexp(z, dim=-1) ** 2
    row_weights = torch.ones(problem.rows)
    if rng.random() < 0.4:
        row_weights = torch.tensor(dyadic(problem.rows, 0, 2))
        case["row_weights"] = numbers(row_weights)
    reduction = problem.reduction()
    # Class weights do not enter z-loss, and so neither its mean.
    loss = reduce(losses * row_weights, reduction, denominator) + reduce(z_losses * row_weights, reduction, problem.rows)
    return problem.finish(leaf, loss)


def lines():
    yes_or_no = [False, True]
    for weighted, smoothed, ignoring, reduction in itertools.product(yes_or_no, yes_or_no, yes_or_no, ["none", "sum", "mean"]):
        for _ in range(9):
            yield cross_entropy(weighted, smoothed, ignoring, reduction)
    for weighted, smoothed, reduction in itertools.product(yes_or_no, yes_or_no, ["none", "sum", "mean"]):
        for _ in range(10):
            yield cross_entropy_of_probabilities(weighted, smoothed, reduction)
    for make, count in [(masked_logits, 50), (kl_divergence, 60), (dense_target, 120), (two_labels, 60), (transformed, 120)]:
        for _ in range(count):
            yield make()


def main():
    path = pathlib.Path(__file__).with_name("pytorch.jsonl")
    with path.open("w") as out:
        out.write(json.dumps({"torch": torch.__version__.split("+")[0], "seed": SEED}) + "\n")
        for index, line in enumerate(lines()):
            line["case"]["name"] = f"{index} {line['case']['name']}"
            out.write(json.dumps(line, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
