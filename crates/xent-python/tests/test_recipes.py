"""docs/guide/pytorch-recipes.md: with stand-ins for the frameworks, and with those that are installed.

Each recipe is compared with PyTorch's loss over all of its data at once.
"""

import copy
import importlib
import os
import sys
import tempfile
import warnings
from types import SimpleNamespace

import numpy
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.testing import assert_close
from torch.utils.data import DataLoader, TensorDataset

import stand_ins
from pages import PADDING, RECIPES, blocks, run

TITLES = ["Hugging Face's `Trainer`", "Lightning", "timm with mixup", "A distributed loop"]


def recipe(title: str, names: dict[str, object]) -> dict[str, object]:
    """Runs the blocks of the page's introduction and of one section."""
    lines = RECIPES.read_text(encoding="utf-8").splitlines()
    for language, line, code in blocks(RECIPES):
        headings = [text[3:] for text in lines[:line] if text.startswith("## ")]
        if language == "python" and (not headings or headings[-1] == title):
            run(RECIPES, line, code, names)
    return names


def test_every_recipe_is_tested():
    lines = RECIPES.read_text(encoding="utf-8").splitlines()
    assert [line[3:] for line in lines if line.startswith("## ")] == TITLES


@pytest.fixture(params=["stand-in", "installed"])
def framework(request, monkeypatch):
    """Imports a framework, or the stand-in for it. Says so where it is not installed."""

    def take(name):
        if request.param == "stand-in":
            for module, stand_in in stand_ins.modules().items():
                monkeypatch.setitem(sys.modules, module, stand_in)
            return importlib.import_module(name)
        try:
            return importlib.import_module(name)
        except ImportError as error:
            warnings.warn(f"{name} is tested by its stand-in alone: {error}", stacklevel=2)
            pytest.skip(f"no {name}: {error}")

    return take


def test_trainer(framework, tmp_path):
    transformers = framework("transformers")
    torch.manual_seed(1)
    inputs = torch.randint(19, (4, 7))
    labels = inputs.clone()
    labels[:, 0] = labels[0, 2:] = labels[3, 5:] = -100
    dataset = [{"input_ids": x, "labels": y} for x, y in zip(inputs, labels)]
    if hasattr(transformers, "GPT2Config"):
        sizes = {"vocab_size": 19, "n_positions": 7, "n_embd": 8, "n_layer": 1, "n_head": 1}
        dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
        model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, **dropout))
        args = transformers.TrainingArguments(
            tmp_path,
            per_device_train_batch_size=2,
            gradient_accumulation_steps=2,
            max_steps=1,
            learning_rate=0.5,
            optim="sgd",
            lr_scheduler_type="constant",
            max_grad_norm=0.0,
            use_cpu=True,
            report_to=[],
            save_strategy="no",
        )
    else:
        model, args = LanguageModel(), SimpleNamespace(learning_rate=0.5)
    before = copy.deepcopy(model)

    names = recipe(TITLES[0], {"model": model, "args": args, "dataset": dataset})

    outputs = before(input_ids=inputs)
    logits, expected = outputs.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
    loss = F.cross_entropy(logits, expected, label_smoothing=0.1)
    assert_close(names["compute_loss"](outputs, labels), loss)
    loss.backward()
    for name, parameter in before.named_parameters():
        if parameter.grad is not None:
            parameter.data -= 0.5 * parameter.grad
        assert_close(dict(model.named_parameters())[name], parameter, rtol=1e-5, atol=1e-6)


class LanguageModel(torch.nn.Module):
    """Predicts the next token from this one."""

    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(19, 19)

    def forward(self, input_ids):
        return SimpleNamespace(logits=self.table(input_ids))


def test_lightning(framework):
    lightning = framework("lightning")
    torch.manual_seed(1)
    inputs, targets = torch.randn(20, 4), torch.randint(3, (20,))
    targets[5:9] = targets[16] = -100
    batches = DataLoader(TensorDataset(inputs, targets), batch_size=6)  # the last is shorter
    model = torch.nn.Linear(4, 3)
    before = copy.deepcopy(model)

    module = recipe(TITLES[1], {})["Classifier"](model)
    quiet = ["logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"]
    trainer = lightning.Trainer(max_epochs=1, accelerator="cpu", **dict.fromkeys(quiet, False))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there are few workers
        trainer.fit(module, batches, batches)

    for x, y in batches:
        F.cross_entropy(before(x), y, label_smoothing=0.1).backward()
        for parameter in before.parameters():
            parameter.data -= 0.1 * parameter.grad
            parameter.grad = None
    assert_close(dict(model.named_parameters()), dict(before.named_parameters()))
    logits, kept = before(inputs), targets != -100
    right = (logits.argmax(1) == targets)[kept].float().mean()
    assert_close(trainer.callback_metrics["val/nll"], F.cross_entropy(logits, targets))
    assert_close(trainer.callback_metrics["val/accuracy"], right)


@pytest.mark.parametrize("mode", ["batch", "pair", "elem"])
def test_timm(framework, mode):
    framework("timm")
    torch.manual_seed(1)
    images, targets = torch.randn(8, 3, 6, 6), torch.randint(10, (8,))
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(108, 10))
    names = recipe(TITLES[2], {"model": model, "images": images, "targets": targets})
    assert names["loss"].isfinite()

    Mixup, LabelMixup = names["Mixup"], names["LabelMixup"]
    options = {"mixup_alpha": 0.8, "cutmix_alpha": 1.0, "num_classes": 10, "mode": mode}
    numpy.random.seed(3)
    mixed, vectors = Mixup(**options, label_smoothing=0.1)(images.clone(), targets)
    numpy.random.seed(3)
    same, first, second, lam = LabelMixup(**options)(images.clone(), targets)
    assert_close(same, mixed)
    loss = names["criterion"](model(mixed), first, target_b=second, lam=lam)
    assert_close(loss, F.cross_entropy(model(mixed), vectors))


def sequences(rank):
    """Two micro-batches of a process, with other numbers of tokens in each."""
    generator = torch.Generator().manual_seed(rank)
    for number in range(2):
        inputs = torch.randn(2, 5, 4, generator=generator)
        labels = torch.randint(3, (2, 5), generator=generator)
        labels[0, : 1 + 2 * rank + number] = -100
        yield inputs, labels


def new_model():
    torch.manual_seed(1)
    return torch.nn.Linear(4, 3)


def on_a_process(rank, processes, folder):
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=processes)
    step = recipe(TITLES[3], {})["train_step"]
    model = new_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    loss = step(DistributedDataParallel(model), optimizer, list(sequences(rank)))

    # The function on the page on denominators, for the first micro-batch.
    names = {}
    for language, line, code in blocks(PADDING):
        if language == "python":
            run(PADDING, line, code, names)
    other = new_model()
    inputs, labels = (tensor.flatten(0, 1) for tensor in next(sequences(rank)))
    replica = DistributedDataParallel(other)  # it averages gradients for as long as it lives
    names["data_parallel_loss"](replica(inputs), labels).backward()

    torch.save((loss, model.state_dict(), other.weight.grad), f"{folder}/{rank}")
    dist.barrier()
    dist.destroy_process_group()
    os._exit(0)  # as in test_sharded.py


def test_two_processes():
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(on_a_process, (2, folder), nprocs=2)
        found = [torch.load(f"{folder}/{rank}") for rank in range(2)]
    model = new_model()
    loss = mean(model, [batch for rank in range(2) for batch in sequences(rank)])
    first = torch.autograd.grad(mean(model, [next(sequences(rank)) for rank in range(2)]), model.weight)  # fmt: skip
    loss.backward()
    for parameter in model.parameters():
        parameter.data -= 0.5 * parameter.grad
    for result, state, gradient in found:
        assert_close(result, loss.detach())
        assert_close(state, model.state_dict())
        assert_close(gradient, first[0])


def mean(model, batches):
    """The loss over all tokens, as one process computes it."""
    inputs, labels = (torch.cat(parts).flatten(0, 1) for parts in zip(*batches))
    return F.cross_entropy(model(inputs), labels, label_smoothing=0.1)
