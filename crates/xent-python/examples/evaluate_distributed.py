"""A validation loop on several processes of torch.distributed: each evaluates its rows, rank 0 merges.

    python evaluate_distributed.py

Two processes on the CPU (gloo). In a job of torchrun, ``evaluate`` is all that is needed.

torch.utils.data.DistributedSampler repeats rows until all ranks have equally many, and these would
count twice: give each rank its own rows, as here. Ranks may have different numbers of rows.
"""

import tempfile

import torch
import torch.distributed as dist
from torch.utils.data import DataLoader, TensorDataset

from xent.metrics import Evaluation


@torch.no_grad()
def evaluate(model, inputs, labels, classes, batch=64):
    """The evaluation of all rows on rank 0, None on the others."""
    rank, ranks = dist.get_rank(), dist.get_world_size()
    mine = slice(len(inputs) * rank // ranks, len(inputs) * (rank + 1) // ranks)
    evaluation = Evaluation(classes)
    first = mine.start
    for x, y in DataLoader(TensorDataset(inputs[mine], labels[mine]), batch_size=batch):
        evaluation.update(model(x), y, source="validation", first_row=first)
        first += len(x)
    parts = [None] * ranks if rank == 0 else None
    dist.gather_object(evaluation, parts)  # pickled: the bytes of to_bytes()
    if parts is None:
        return None
    whole, *rest = reversed(parts)  # in any order
    for part in rest:
        whole.merge(part)
    return whole


def data():
    """A model, inputs and labels that every process has."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(1001, 8, generator=generator)
    weight = torch.randn(10, 8, generator=generator)
    labels = (inputs @ weight.T).argmax(1)
    # Some labels are wrong, so that there is something to measure.
    labels[::7] = torch.randint(10, labels[::7].shape, generator=generator)
    return lambda x: 1.5 * x @ weight.T, inputs, labels


def worker(rank, ranks, rendezvous, result):
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=ranks)
    evaluation = evaluate(*data(), classes=10)
    if evaluation is not None:
        evaluation.save(result)
    dist.barrier()
    dist.destroy_process_group()


def run(ranks=2):
    """The merged evaluation."""
    with tempfile.TemporaryDirectory() as folder:
        result = f"{folder}/evaluation.json"
        arguments = (ranks, f"{folder}/rendezvous", result)
        torch.multiprocessing.spawn(worker, arguments, nprocs=ranks)
        return Evaluation.load(result)


if __name__ == "__main__":
    evaluation = run()
    print(evaluation)
    for name, value in evaluation.compute().items():
        print(f"{name:>16} {value:.4f}")
