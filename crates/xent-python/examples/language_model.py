#!/usr/bin/env python3
"""Trains a small language model over 50,257 tokens twice: with nn.Linear and nn.CrossEntropyLoss, and with both in one.

    python examples/language_model.py [--steps 40] [--device cuda]

The text is generated: half of the tokens follow from the one before, the others are drawn by Zipf's law.
The model reads three tokens, and shares its embedding with its head. Both trainings begin with the same
weights and see the same batches, each in a process of its own. The NLL is that of the training batches,
without smoothing; the memory is the peak beyond what the model, its gradients and Adam's moments take.
"""

import argparse
import multiprocessing
import time

import torch

from xent.torch import CrossEntropyLoss, LinearCrossEntropyLoss

VOCABULARY, WIDTH, CONTEXT = 50_257, 64, 3
OPTIONS = {"label_smoothing": 0.1, "return_stats": True}


def text(length):
    """Token indices."""
    torch.manual_seed(1)
    weights = 1.0 / (torch.arange(VOCABULARY) + 10.0)
    tokens = torch.multinomial(weights, length, replacement=True)
    follows = torch.randperm(VOCABULARY)
    is_new = (torch.rand(length) < 0.5).tolist()
    written = tokens.tolist()
    after = follows.tolist()
    for i in range(1, length):
        if not is_new[i]:
            written[i] = after[written[i - 1]]
    return torch.tensor(written)


class Model(torch.nn.Module):
    def __init__(self, is_fused):
        super().__init__()
        torch.manual_seed(2)
        self.embedding = torch.nn.Embedding(VOCABULARY, WIDTH)
        torch.nn.init.normal_(self.embedding.weight, std=0.1)
        self.body = torch.nn.Sequential(
            torch.nn.Linear(CONTEXT * WIDTH, 256), torch.nn.GELU(), torch.nn.Linear(256, WIDTH)
        )
        if is_fused:
            self.loss = LinearCrossEntropyLoss.of(self.embedding, **OPTIONS)
        else:
            self.head = torch.nn.Linear(WIDTH, VOCABULARY, bias=False)
            self.head.weight = self.embedding.weight
            self.loss = torch.nn.CrossEntropyLoss(label_smoothing=OPTIONS["label_smoothing"])
            self.report = CrossEntropyLoss(**OPTIONS)

    def forward(self, context, target):
        """Loss and NLL."""
        hidden = self.body(self.embedding(context).flatten(1))
        if isinstance(self.loss, LinearCrossEntropyLoss):
            loss, stats = self.loss(hidden, target)
            return loss, stats.nll
        logits = self.head(hidden)
        with torch.no_grad():
            nll = self.report(logits, target)[1].nll
        return self.loss(logits, target), nll


def train(is_fused, arguments):
    """NLL of each step, seconds of a step, peak memory."""
    torch.set_num_threads(arguments.threads)
    device, rows = arguments.device, arguments.rows
    tokens = text(arguments.steps * rows + CONTEXT)
    windows = tokens.unfold(0, CONTEXT + 1, 1).to(device)
    model = Model(is_fused).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for parameter in model.parameters():  # moments and gradients are there from the beginning
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    before = reset(device)
    found, start = [], time.process_time()
    for step in range(arguments.steps):
        batch = windows[step * rows : (step + 1) * rows]
        optimizer.zero_grad()
        loss, nll = model(batch[:, :-1], batch[:, -1])
        loss.backward()
        optimizer.step()
        found.append(nll)
    found = torch.stack(found).tolist()
    return found, (time.process_time() - start) / arguments.steps, peak(device) - before


def reset(device):
    """Bytes that are in use; the peak is counted from here."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    return status("VmRSS")


def peak(device):
    return torch.cuda.max_memory_allocated() if device == "cuda" else status("VmHWM")


def status(name):
    with open("/proc/self/status") as file:
        [line] = [line for line in file if line.startswith(name)]
    return int(line.split()[1]) * 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)  # fmt: skip
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rows", type=int, default=2048, help="tokens of a batch")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    names = {False: "nn.Linear and nn.CrossEntropyLoss", True: "LinearCrossEntropyLoss"}
    nlls = {}
    for is_fused, name in names.items():
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            nlls[is_fused], seconds, memory = pool.apply(train, (is_fused, arguments))
        curve = " ".join(f"{nll:.3f}" for nll in nlls[is_fused][:: max(1, arguments.steps // 6)])
        print(
            f"{name:34} {1e3 * seconds:6.0f} ms a step   peak {memory / 2**20:6.0f} MiB   NLL {curve} … {nlls[is_fused][-1]:.4f}"
        )
    apart = max(abs(a - b) for a, b in zip(*nlls.values()))
    print(f"largest difference of the NLL: {apart:.1e}")


if __name__ == "__main__":
    main()
