"""Handwritten digits, trained with and without label smoothing in PyTorch: what smoothing does and does not do, in half a minute.

    pip install ./crates/xent-python[torch,numpy]
    python crates/xent-python/examples/pytorch_mnist.py

The one line that differs from plain PyTorch is the criterion's. The digits are the repository's: 1797 images of 8×8 pixels (E. Alpaydin, C. Kaynak, CC BY 4.0; see their README).
"""

import gzip
import pathlib
import time

import numpy as np
import torch

import xent.torch

torch.set_num_threads(1)  # a network this small is quicker so

DIGITS = pathlib.Path(__file__).resolve().parents[2] / "xent-cli" / "data"


# %% The data: IDX files, as MNIST's; two thirds to learn from, one third to be judged by.


def idx(name, header):
    return np.frombuffer(gzip.decompress((DIGITS / name).read_bytes()), np.uint8, offset=header)


labels = torch.from_numpy(
    idx("digits-labels.idx1-ubyte.gz", 8).copy()
)  # uint8 is good enough for class indices
images = torch.from_numpy(
    idx("digits-images.idx3-ubyte.gz", 16).reshape(len(labels), 1, 8, 8) / np.float32(16)
)
order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
train, test = order[:1200], order[1200:]


# %% A network, and how it is trained.


def network():
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 24, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(24, 48, 3, padding=1, stride=2),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(48 * 16, 64),
        torch.nn.ReLU(),
        torch.nn.Linear(64, 10),
    )


def fit(label_smoothing, seed, epochs=15, batch=50):
    torch.manual_seed(seed)
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    criterion = xent.torch.CrossEntropyLoss(label_smoothing=label_smoothing)  # the one line
    for _ in range(epochs):
        for rows in train[torch.randperm(len(train))].split(batch):
            optimizer.zero_grad()
            criterion(model(images[rows]), labels[rows]).backward()
            optimizer.step()
    return model


# %% What to look at. The nll compares between different ε; the loss does not.


def judge(model):
    judged = xent.torch.CrossEntropyLoss(return_stats=True)
    with torch.no_grad():
        logits = model(images[test])
        _, stats = judged(logits, labels[test])
    probability, predicted = logits.softmax(1).max(1)
    correct = predicted == labels[test]
    bins = (probability * 15).long().clamp(max=14)
    calibration = sum(
        abs((correct[bins == b].float() - probability[bins == b]).sum().item()) for b in range(15)
    ) / len(test)
    true = logits.gather(1, labels[test, None].long()).squeeze(1)
    others = logits.scatter(1, labels[test, None].long(), 0.0).sum(1) / 9
    return (
        1 - stats.correct.item() / len(test),
        stats.nll.item(),
        calibration,
        (true - others).mean().item(),
    )


def main():
    start = time.perf_counter()
    print(
        f"{'ε':>5}  {'test error':>10}  {'test nll':>8}  {'calibration error':>17}  {'logit gap':>9}  {'the gap ε aims at':>17}"
    )
    for eps in (0.0, 0.05, 0.1, 0.2):
        error, nll, calibration, gap = (
            sum(values) / len(values)
            for values in zip(*(judge(fit(eps, seed)) for seed in range(2)))
        )
        aim = f"{np.log(1 + (1 - eps) * 10 / eps):.2f}" if eps else "∞"
        print(
            f"{eps:>5}  {error:>10.2%}  {nll:>8.4f}  {calibration:>17.4f}  {gap:>9.2f}  {aim:>17}"
        )
    print(f"{time.perf_counter() - start:.0f} seconds")


if __name__ == "__main__":
    main()
