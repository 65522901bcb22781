"""Logits whose rows are sharded over two processes: as one process computes them."""

import os
import tempfile

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.testing import assert_close

from xent.torch.functional import cross_entropy

distributed = pytest.importorskip("torch.distributed.tensor")

X = torch.randn(5, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
Y = torch.tensor([[0, 1, 2], [3, -100, 0], [1, 1, 1], [-100, 2, 3], [0, 3, 2]])
WEIGHT = torch.tensor([0.5, 1.0, 0.0, 2.0], dtype=torch.float64)
R = torch.rand(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
OPTIONS = [
    {},
    {"label_smoothing": 0.1, "reduction": "sum"},
    {"label_smoothing": 0.1, "reduction": "none"},
    {"label_smoothing": 0.1, "weight": WEIGHT},
    {"label_smoothing": 0.1, "weight": WEIGHT, "z_loss": 0.1},
    {"label_smoothing": 0.1, "weight": WEIGHT, "z_loss": 0.1, "denominator": "kept_rows"},
    {"label_smoothing": R, "prior": "wrong_classes", "form": "kl", "denominator": "rows"},
    {"row_weight": R, "ignored_rows": R > 0.5, "denominator": 7.0, "z_loss": 0.1},
    {"target_b": Y.flip(0), "lam": 0.3, "exclude": 1, "label_smoothing": 0.1},
    {"target": X.softmax(1), "weight": WEIGHT, "ignore_index": None},
    {"allowed_classes": torch.tensor([True, True, True, False]), "masked": "renormalise", "prior": WEIGHT / 3.5, "label_smoothing": 0.2},
    {"target": torch.full_like(Y, -100), "empty_mean": "zero"},
]  # fmt: skip
PER_ROW = ("target_b", "label_smoothing", "row_weight", "ignored_rows")


def shares(rank, folder, failures):
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    try:
        mesh = dist.device_mesh.init_device_mesh("cpu", (2,))
        for options in OPTIONS:
            for dim in (0, 2, 1):
                check(mesh, dim, {"target": Y, **options})
        for dtype in (torch.float16, torch.bfloat16):
            check_halves(mesh, dtype)
        with pytest.raises(TypeError, match="target is a plain tensor, expected a DTensor"):
            cross_entropy(distributed.distribute_tensor(X, mesh, [distributed.Shard(0)]), Y)
    except BaseException as error:
        with open(failures, "a") as file:
            file.write(f"process {rank}: {type(error).__name__}: {error}\n")
        raise
    dist.barrier()
    dist.destroy_process_group()
    # Gloo's threads may let go of tensors while the interpreter ends, which aborts the process
    # (github.com/pytorch/pytorch/pull/179291). Nothing is left to do, so the interpreter does not end.
    os._exit(0)


def check(mesh, dim, options):
    Shard, Replicate = distributed.Shard, distributed.Replicate

    def placed(name, value):
        if not isinstance(value, torch.Tensor):
            return value
        placement = Replicate()
        if name in PER_ROW or (name == "target" and value.dim() == 2):
            placement = {0: Shard(0), 1: Replicate(), 2: Shard(1)}[dim]
        elif name == "target":
            placement = Shard(dim)
        return distributed.distribute_tensor(value, mesh, [placement])

    x = distributed.distribute_tensor(X, mesh, [Shard(dim)]).requires_grad_()
    loss = cross_entropy(x, **{name: placed(name, value) for name, value in options.items()})
    alone = X.clone().requires_grad_()
    expected = cross_entropy(alone, **options)
    where = lambda message: f"{list(options)}, sharded on {dim}: {message}"  # noqa: E731
    given = {"rtol": 1e-12, "atol": 1e-14, "msg": where}
    assert_close(loss.full_tensor(), expected, **given)
    (loss.full_tensor() * torch.linspace(1, 2, loss.numel()).view(loss.shape)).sum().backward()
    (expected * torch.linspace(1, 2, loss.numel()).view(loss.shape)).sum().backward()
    assert_close(x.grad.full_tensor(), alone.grad, **given)


def check_halves(mesh, dtype):
    """The sum is more than float16 has; the mean is not."""
    x = torch.tensor([0.0, 6e4]).to(dtype).expand(6, 2)
    y = torch.zeros(6, dtype=torch.int64)
    parts = [distributed.distribute_tensor(part, mesh, [distributed.Shard(0)]) for part in (x, y)]
    logits = parts[0].requires_grad_()
    loss = cross_entropy(logits, parts[1])
    assert loss.dtype == dtype and loss.full_tensor() == x[0, 1]
    loss.full_tensor().backward()
    assert_close(logits.grad.full_tensor(), torch.tensor([-1 / 6, 1 / 6]).to(dtype).expand(6, 2))


def test_rows_on_two_processes():
    with tempfile.TemporaryDirectory() as folder:
        failures = os.path.join(folder, "failures")
        try:
            mp.spawn(shares, (folder, failures), nprocs=2)
        finally:
            if os.path.exists(failures):
                pytest.fail(open(failures).read())
