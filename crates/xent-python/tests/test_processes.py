"""Forks, other processes, threads, and what is imported when."""

import multiprocessing
import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close
from torch.utils.data import DataLoader, Dataset

from xent.torch.functional import cross_entropy

# Rows enough that the engine shares them out.
X = torch.randn(512, 1000, generator=torch.Generator().manual_seed(0))
Y = torch.arange(512)


def step(queue=None):
    """A forked child waits for ever in torch's own OpenMP, so that nothing large is done here by any operation of torch's."""
    torch.set_num_threads(2)
    x = X.detach().requires_grad_()
    loss = cross_entropy(x, Y, label_smoothing=0.1)
    loss.backward()
    result = loss.item(), x.grad.numpy().sum(0)[:3].tolist()
    if queue is not None:
        queue.put(result)
    return result


def alone(function, *arguments):
    """In an interpreter of its own: where anything was compiled, PyTorch refuses a backward pass in forked children."""
    program = f"import test_processes; test_processes.{function.__name__}(*{arguments!r})"
    subprocess.run(
        [sys.executable, "-c", program], cwd=os.path.dirname(__file__), check=True, timeout=300
    )


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_children(method):
    alone(run_children, method)


def run_children(method):
    expected = step()  # the parent's threads exist, and do not come along
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    children = [context.Process(target=step, args=(queue,), daemon=True) for _ in range(2)]
    for process in children:
        process.start()
    results = [queue.get(timeout=60) for _ in children]
    for process in children:
        process.join(timeout=60)
        assert process.exitcode == 0
    assert results == [expected] * 2
    assert step() == expected


def test_fork_of_a_fork():
    alone(fork_twice)


def fork_twice():
    expected = step()
    if not (outer := os.fork()):
        ok = step() == expected
        if not (inner := os.fork()):
            os._exit(0 if step() == expected else 1)
        _, status = os.waitpid(inner, 0)
        os._exit(0 if ok and status == 0 else 1)
    assert os.waitpid(outer, 0)[1] == 0


class Losses(Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        return cross_entropy(X[index:], Y[index:], label_smoothing=0.1)


def test_workers_of_a_data_loader():
    alone(load_data)


def load_data():
    step()
    losses = torch.cat(list(DataLoader(Losses(), batch_size=2, num_workers=2, timeout=60)))
    assert_close(
        losses,
        torch.stack(
            [F.cross_entropy(X[index:], Y[index:], label_smoothing=0.1) for index in range(8)]
        ),
    )


def threads_named_xent():
    return sum(
        open(f"/proc/self/task/{task}/comm").read().startswith("xent-")
        for task in os.listdir("/proc/self/task")
    )


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="counts threads in /proc")
def test_as_many_threads_as_torch_says():
    program = """
import os, time, torch
from test_processes import X, Y, cross_entropy, threads_named_xent
torch.set_num_threads(3)
cross_entropy(X[:32], Y[:32])  # small: the calling thread does it
print(threads_named_xent())
results = []
for threads in (1, 3):
    torch.set_num_threads(threads)
    results.append(cross_entropy(X, Y).item())
    for _ in range(100):  # threads name themselves once they run
        if threads_named_xent() < threads - 1:  # the caller is one, too
            time.sleep(0.05)
    print(threads_named_xent())
assert results[0] == results[1]
"""
    printed = subprocess.run(
        [sys.executable, "-c", program],
        cwd=os.path.dirname(__file__),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert [int(number) for number in printed.split()] == [0, 0, 2]


def test_the_interpreter_is_free_meanwhile():
    import threading
    import time

    x, y = torch.randn(2048, 32000), torch.zeros(2048, dtype=torch.int64)
    ticks, stop = [], threading.Event()

    def tick():
        while not stop.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0.0005)

    thread = threading.Thread(target=tick)
    thread.start()
    start = time.perf_counter()
    cross_entropy(x, y)
    end = time.perf_counter()
    stop.set()
    thread.join()
    # Held all the while, at most two ticks fall into the call.
    assert len([t for t in ticks if start < t < end]) > 3


@pytest.mark.parametrize(
    ("module", "absent"), [("xent", ["torch", "numpy"]), ("xent.numpy", ["torch"])]
)
def test_nothing_is_imported_that_is_not_asked_for(module, absent):
    program = f"import sys, {module}; print([name for name in {absent} if name in sys.modules])"
    assert (
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )


def test_builds_without_the_gil_are_told_so():
    program = """
import sysconfig
real = sysconfig.get_config_var
sysconfig.get_config_var = lambda name: 1 if name == "Py_GIL_DISABLED" else real(name)
import xent
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (
        result.returncode == 1
        and "ImportError: xent has not been tested on free-threaded builds" in result.stderr
    )


def test_a_network_learns_the_same():
    """100 steps of SGD with momentum, float64, under either loss."""
    data = torch.Generator().manual_seed(3)
    x, y = (
        torch.randn(256, 20, dtype=torch.float64, generator=data),
        torch.randint(7, (256,), generator=data),
    )
    y[::10] = -100
    weights = []
    for loss in (cross_entropy, F.cross_entropy):
        torch.manual_seed(4)
        network = torch.nn.Sequential(
            torch.nn.Linear(20, 32), torch.nn.Tanh(), torch.nn.Linear(32, 7)
        ).double()
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
        for step in range(100):
            rows = slice(step % 4 * 64, step % 4 * 64 + 64)
            optimizer.zero_grad()
            loss(network(x[rows]), y[rows], label_smoothing=0.1).backward()
            optimizer.step()
        weights.append(
            torch.cat([parameter.detach().flatten() for parameter in network.parameters()])
        )
    assert (weights[0] - weights[1]).abs().max() < 1e-10
