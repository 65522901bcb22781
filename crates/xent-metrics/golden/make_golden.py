"""Writes references.jsonl: what scikit-learn, torchmetrics, netcal and SciPy say of logits in float64.

    pip install scikit-learn==1.9.1 torchmetrics==1.9.0 netcal==1.4.0 torch==2.15.0 scipy numpy
    python make_golden.py

The first line names the versions. Each other line is a case: its name, the number of classes, logits, labels, and the references' answers. Logits are multiples of 1/64, so
that few digits write them exactly. `edges` is the case on which binning conventions differ; elsewhere no confidence lies on an edge. torchmetrics computes calibration errors in
float32 whatever it is given.
"""

import json
import pathlib
import warnings

import netcal
import numpy as np
import scipy
import sklearn
import torch
import torchmetrics
from netcal.metrics import ECE, MCE
from scipy.optimize import brentq
from scipy.special import log_softmax, logsumexp, softmax
from sklearn.metrics import accuracy_score, brier_score_loss, log_loss, top_k_accuracy_score
from torchmetrics.functional.classification import binary_calibration_error, multiclass_calibration_error

warnings.filterwarnings("ignore")
torch.set_default_dtype(torch.float64)
rng = np.random.default_rng(20260711)
BINS = 15


def dyadic(values):
    return np.round(np.asarray(values) * 64) / 64


def drawn(z, temperature=1.0):
    """Labels from the softmax over a temperature."""
    return np.array([rng.choice(len(row), p=softmax(row / temperature)) for row in z])


def cases():
    for classes, rows, scale in [(2, 400, 2), (3, 300, 3), (7, 400, 2), (10, 500, 4), (40, 120, 2)]:
        z = dyadic(rng.normal(0, scale, (rows, classes)))
        yield f"random {classes}", z, drawn(z, 1.7)
    z = dyadic(rng.normal(0, 1, (300, 6)))
    yield "underconfident", z, drawn(z, 0.3)
    yield "large offset", dyadic(rng.normal(0, 2, (200, 5))) + 10_000.0, rng.integers(0, 5, 200)
    z = dyadic(rng.normal(0, 1, (300, 8)))
    z[np.arange(300), rng.integers(0, 8, 300)] += 12
    yield "confident", z, np.where(rng.random(300) < 0.9, z.argmax(1), rng.integers(0, 8, 300))
    yield "few rows", dyadic(rng.normal(0, 1, (9, 6))), rng.integers(0, 6, 9)
    z = dyadic(rng.normal(0, 2, (150, 7)))
    yield "absent classes", z, rng.integers(0, 3, 150)
    z = np.zeros((90, 5))
    z[30:60, 0] = 800
    z[60:, :] = dyadic(rng.normal(0, 1, (30, 5)))
    z[60:75] = dyadic([0.2, 0, 0, 0, 0])
    z[75:, 0] = 4.5
    yield "edges", z, np.concatenate([np.arange(30) % 2, np.where(np.arange(30) % 3 == 0, 1, 0), rng.integers(0, 5, 15), np.zeros(15, int)])


def temperature(z, y):
    def slope(beta):
        return np.mean((softmax(beta * z, axis=1) * z).sum(1) - z[np.arange(len(y)), y])

    return None if slope(0.05) >= 0 or slope(20) <= 0 else 1 / brentq(slope, 0.05, 20, xtol=1e-15, rtol=1e-14)


def equal_mass(confidence, correct):
    order = np.argsort(confidence, kind="stable")
    parts = np.array_split(order, BINS)
    return sum(abs(np.sum(correct[part] - confidence[part])) for part in parts) / len(correct)


def aurc(confidence, correct):
    order = np.argsort(-confidence, kind="stable")
    return np.mean(np.cumsum(1.0 - correct[order]) / np.arange(1, len(order) + 1))


def calibration(p, y):
    preds, target = torch.tensor(p), torch.tensor(y)
    classes = p.shape[1]

    def multiclass(norm):
        return multiclass_calibration_error(preds, target, classes, BINS, norm).item()

    answers = {"torchmetrics": {"ece": multiclass("l1"), "mce": multiclass("max")}}
    each = [binary_calibration_error(preds[:, k].float(), (target == k).long(), BINS, "l1").item() for k in range(classes)]
    answers["torchmetrics"]["classwise"] = float(np.mean(each))
    # netcal reads two columns, or labels of two kinds, as a binary problem with the second as its confidence.
    if len(np.unique(y)) > 2:
        answers["netcal"] = {"ece": float(ECE(BINS).measure(p, y)), "mce": float(MCE(BINS).measure(p, y))}
    else:
        answers["netcal"] = {}
    answers["netcal"]["classwise"] = float(np.mean([ECE(BINS).measure(p[:, k], (y == k).astype(int)) for k in range(classes)]))
    return answers


def answers(z, y):
    p = softmax(z, axis=1)
    rows, classes = z.shape
    labels = list(range(classes))
    top = z.argmax(1)
    correct = (top == y).astype(float)
    confidence = p.max(1)
    log_p = log_softmax(z, axis=1)
    others = np.array([np.delete(row, k) for row, k in zip(z, top)])
    gap = z.max(1) - (logsumexp(others, axis=1) - np.log(classes - 1))
    found = {
        "accuracy": accuracy_score(y, top),
        "nll": log_loss(y, p, labels=labels) if confidence.max() < 1 else float(-log_p[np.arange(rows), y].mean()),
        "brier": brier_score_loss(y, p, labels=labels, scale_by_half=False) if classes > 2 else float(((p - np.eye(2)[y]) ** 2).sum(1).mean()),
        "uniform": float(-log_p.mean()),
        "gap": float(gap.mean()),
        "plain_gap": float((z.max(1) - others.mean(1)).mean()),
        "gap_quantiles": np.quantile(gap, [0.05, 0.25, 0.5, 0.75, 0.95], method="inverted_cdf").tolist(),
        **calibration(p, y),
    }
    if classes > 5:
        found["top5"] = top_k_accuracy_score(y, z, k=5, labels=labels)
    if len(np.unique(confidence)) == rows:
        found["ece_equal_mass"] = equal_mass(confidence, correct)
        found["aurc"] = aurc(confidence, correct)
    t = temperature(z, y)
    if t is not None:
        scaled = softmax(z / t, axis=1)
        found["temperature"] = t
        found["scaled"] = {
            "nll": float(-log_softmax(z / t, axis=1)[np.arange(rows), y].mean()),
            "brier": float(((scaled - np.eye(classes)[y]) ** 2).sum(1).mean()),
            **calibration(scaled, y),
        }
    return found



def main():
    versions = {m.__name__: m.__version__ for m in (np, scipy, sklearn, torch, torchmetrics, netcal)}
    lines = [json.dumps({"versions": versions})]
    for name, z, y in cases():
        case = {"name": name, "classes": z.shape[1], "logits": z.ravel().tolist(), "labels": y.tolist(), "answers": answers(z, y)}
        lines.append(json.dumps(case))
    path = pathlib.Path(__file__).with_name("references.jsonl")
    path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
