"""What docs/guide/pytorch-recipes.md uses of three frameworks, for machines that do not have them.

Each does what the framework documents of the call, and nothing else.
"""

import itertools
from types import ModuleType

import torch
import torch.nn.functional as F


def modules() -> dict[str, ModuleType]:
    """For ``sys.modules``: the module that the page imports, by name."""
    timm, timm_data = ModuleType("timm"), ModuleType("timm.data")
    timm.data, timm_data.Mixup = timm_data, Mixup
    transformers, lightning = ModuleType("transformers"), ModuleType("lightning")
    transformers.Trainer = Trainer
    lightning.LightningModule, lightning.Trainer = LightningModule, LightningTrainer
    return {"transformers": transformers, "lightning": lightning, "timm": timm, "timm.data": timm_data}  # fmt: skip


class Trainer:
    """transformers: one step of gradient descent over all of the data, in micro-batches of two."""

    def __init__(self, model, args, train_dataset, compute_loss_func):
        self.model, self.args, self.data = model, args, train_dataset
        self.compute_loss_func = compute_loss_func

    def train(self):
        pairs = zip(self.data[::2], self.data[1::2])
        batches = [{k: torch.stack([a[k], b[k]]) for k in a} for a, b in pairs]
        items = sum((batch["labels"] != -100).sum() for batch in batches)
        for batch in batches:
            labels = batch.pop("labels")
            self.compute_loss_func(self.model(**batch), labels, num_items_in_batch=items).backward()
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter -= self.args.learning_rate * parameter.grad


class LightningModule(torch.nn.Module):
    """lightning: ``log_dict`` keeps weighted values, for the mean over an epoch."""

    def log_dict(self, values, batch_size=None):
        for name, value in values.items():
            self.logged.setdefault(name, []).append((float(value), batch_size or 1))


class LightningTrainer:
    """lightning: ``fit`` with ``max_epochs=1``."""

    def __init__(self, **options):
        self.callback_metrics = {}

    def fit(self, module, train, validation):
        module.logged, optimizer = {}, module.configure_optimizers()
        for number, batch in enumerate(train):
            optimizer.zero_grad()
            module.training_step(batch, number).backward()
            optimizer.step()
        with torch.no_grad():
            for number, batch in enumerate(validation):
                module.validation_step(batch, number)
        for name, values in module.logged.items():
            mean = sum(value * size for value, size in values) / sum(size for _, size in values)
            self.callback_metrics[name] = torch.tensor(mean)


class Mixup:
    """timm: mixup without CutMix. A batch is mixed with itself in reverse."""

    def __init__(self, mixup_alpha, cutmix_alpha, mode="batch", label_smoothing=0.1, num_classes=1000):  # fmt: skip
        self.mode, self.smoothing, self.classes = mode, label_smoothing, num_classes
        self.shares = (0.1 * (1 + k % 9) for k in itertools.count())

    def _mix(self, images, lam):
        images.copy_(lam * images + (1 - lam) * images.flip(0))

    def _mix_batch(self, images):
        lam = next(self.shares)
        self._mix(images, lam)
        return lam

    def _mix_elem(self, images):
        lam = torch.tensor([next(self.shares) for _ in images])
        self._mix(images, lam.view(-1, 1, 1, 1))
        return lam.unsqueeze(1)

    def _mix_pair(self, images):
        half = torch.tensor([next(self.shares) for _ in images[::2]])
        lam = torch.cat([half, half.flip(0)])
        self._mix(images, lam.view(-1, 1, 1, 1))
        return lam.unsqueeze(1)

    def __call__(self, images, targets):
        lam = {"batch": self._mix_batch, "elem": self._mix_elem, "pair": self._mix_pair}[self.mode](images)  # fmt: skip
        vectors = (1 - self.smoothing) * F.one_hot(targets, self.classes) + self.smoothing / self.classes  # fmt: skip
        return images, lam * vectors + (1 - lam) * vectors.flip(0)
