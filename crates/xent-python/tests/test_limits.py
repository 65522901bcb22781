"""Limits of the system: threads and memory that cannot be had, and many calls.

Each test runs an interpreter of its own, whose limits it sets.
"""

import os
import subprocess
import sys

import numpy as np
import pytest

import xent.numpy

resource = pytest.importorskip("resource")

CALLS = int(os.environ.get("XENT_CALLS", "5000"))

PRELUDE = """
import resource
import numpy as np
from xent.numpy import cross_entropy, cross_entropy_with_grad
"""


def run(code, *arguments, **environment):
    child = subprocess.run(
        [sys.executable, "-c", PRELUDE + code, *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert child.returncode == 0, child.stderr
    return child.stdout


THREADS = """
import sys
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]) << 30,) * 2)
logits, targets = np.arange(4e5).reshape(4000, 100) % 7, np.zeros(4000, np.int64)
print(cross_entropy_with_grad(logits, targets)[0].item().hex())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits are Linux's")
@pytest.mark.parametrize("stack", [1, 40], ids=["some", "none"])
def test_threads_that_cannot_be_had_are_done_without(stack):
    # Of 16 GB of addresses, stacks of 1 GB leave room for some threads, and stacks of 40 GB for none.
    usual = run(THREADS, 1 << 20)
    environment = {"RUST_MIN_STACK": str(stack << 30), "RAYON_NUM_THREADS": "100000"}
    assert run(THREADS, 16, OPENBLAS_NUM_THREADS="1", **environment) == usual


def test_a_number_of_threads_that_is_a_mistake():
    with pytest.raises(ValueError, match="threads is 20000, expected at most 1024"):
        xent.numpy.cross_entropy(np.zeros((400, 100)), np.zeros(400, np.int64), threads=20_000)


INTERRUPTED = """
import signal, sys
signal.signal(signal.SIGALRM, signal.default_int_handler)
rows, classes, threads, dense = map(int, sys.argv[1:])
logits = np.broadcast_to(np.zeros(1, np.float32), (rows, classes))
targets = logits if dense else np.zeros(rows, np.int64)
signal.setitimer(signal.ITIMER_REAL, 0.3)
try:
    cross_entropy(logits, targets, threads=threads)
except KeyboardInterrupt:
    print("interrupted")
    print(cross_entropy(np.zeros((2, 1 << 17)), np.zeros(2, np.int64), threads=threads))
"""


@pytest.mark.skipif(
    sys.platform != "linux", reason="calls of hours by arrays that share their memory"
)
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("dense", [0, 1])
@pytest.mark.parametrize("rows, classes", [(100_000, 10_000_000), (10_000_000, 100_000)])
def test_long_calls_end_with_ctrl_c(rows, classes, threads, dense):
    interrupted, after = run(INTERRUPTED, rows, classes, threads, dense).split()
    assert (interrupted, round(float(after), 4)) == ("interrupted", 11.7835)


MEMORY = """
import sys
logits, targets, options = np.zeros((200_000, 100), np.float32), np.zeros(200_000, np.int64), {}
match sys.argv[1]:
    case "indices":
        targets = targets.astype(np.uint16)
    case "rows":
        options = {"label_smoothing": np.full(200_000, 0.1), "row_weights": np.ones(200_000)}
    case "mask":
        options = {"allowed_classes": np.asfortranarray(np.ones((200_000, 100), bool))}
    case "prior":
        logits, targets = np.zeros((2000, 2000), np.float32), targets[:2000]
        options = {"prior": np.full((2000, 2000), 1 / 2000)}
    case "classes":
        logits, targets = np.zeros((20, 1_000_000), np.float32), targets[:20]
cross_entropy_with_grad(np.zeros((400, 100)), targets[:1].repeat(400))
with open("/proc/self/status") as status:
    used = next(int(line.split()[1]) << 10 for line in status if line.startswith("VmData"))
unlimited = resource.getrlimit(resource.RLIMIT_DATA)
resource.setrlimit(resource.RLIMIT_DATA, (used + (int(sys.argv[2]) << 20), unlimited[1]))
try:
    cross_entropy_with_grad(logits, targets, **options)
    outcome = "computed"
except MemoryError:
    outcome = "refused"
resource.setrlimit(resource.RLIMIT_DATA, unlimited)  # to end takes memory, too
print(outcome)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits are Linux's")
@pytest.mark.parametrize("what", ["plain", "indices", "rows", "mask", "prior", "classes"])
def test_memory_that_cannot_be_had_is_an_exception(what):
    outcomes = [run(MEMORY, what, more).strip() for more in (0, 2, 17, 30, 78, 92, 500)]
    assert (outcomes[0], outcomes[-1]) == ("refused", "computed")


MANY = """
import sys
logits, targets = np.ones((8, 10), np.float32), np.zeros(8, np.int64)
def calls(number):
    for _ in range(number):
        cross_entropy_with_grad(logits, targets, label_smoothing=0.1)
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()
before = calls(1000)
print(calls(int(sys.argv[1])) - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is Linux's")
def test_many_calls_take_no_memory():
    assert int(run(MANY, CALLS)) < 1 << 20
