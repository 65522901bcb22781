"""Who takes part, and the processes they run in."""

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from interpreter import FOLDER, PYTHON

XENT = str(FOLDER / "rust/target/release/bench-xent")
NATIVE = FOLDER / "rust/target/native/release"
WORKERS = FOLDER / "workers"
OURS = "xent"  # the family


# Makes glibc keep what is freed, in one heap for all threads, instead of giving it back to the system, which hands it out again page by page, zeroed.
# Users get the like from jemalloc or tcmalloc.
KEEP = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40), "MALLOC_ARENA_MAX": "1"}


@dataclass(frozen=True)
class Contender:
    key: str
    name: str
    how: str
    command: tuple[str, ...]
    family: str
    memory: str  # of gradients and intermediates: "new" in each step, as the system's allocator has it, or "kept"
    works: tuple[str, ...] = ("forward", "forward_backward")
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def installed(self) -> bool:
        return all(Path(part).exists() for part in self.command if part.startswith("/"))

    def as_record(self) -> dict[str, str]:
        return {"name": self.name, "how": self.how, "family": self.family, "memory": self.memory}


def python(script: str, mode: str) -> tuple[str, ...]:
    return str(PYTHON), str(WORKERS / script), mode


# Family, name, how, command.
PEERS = [
    ("torch-eager", "PyTorch, eager", "F.cross_entropy(label_smoothing=0.1), backward(), logits.grad = None in each step", python("torch_worker.py", "eager")),
    ("torch-compile", "PyTorch, torch.compile", "the same function under torch.compile", python("torch_worker.py", "compile")),
    ("jax-optax", "JAX, optax", "jit(value_and_grad) of smooth_labels(one_hot) and softmax_cross_entropy", python("jax_worker.py", "optax")),
    ("jax-logsumexp", "JAX, by hand", "jit(value_and_grad) of logsumexp, the target's logit and the mean logit", python("jax_worker.py", "logsumexp")),
    ("burn", "burn", "CrossEntropyLossConfig with smoothing, on burn-flex with autodiff", (str(NATIVE / "bench-burn"),)),
    ("candle", "candle", "composed of log_softmax, gather and means, backward()", (str(NATIVE / "bench-candle"),)),
]

CONTENDERS = [
    Contender(
        "xent",
        "xent",
        "Criterion::forward_backward into gradient memory that is used again; the worker also times the yardsticks",
        (XENT, "reused"),
        "xent",
        "kept",
        ("copy", "sum", "forward", "forward_backward"),
    ),
    Contender("xent-new", "xent (new memory)", "the same into memory that is new in each step", (XENT, "new"), "xent", "new", ("forward_backward",)),
    *(Contender(family, name, how, command, family, "new") for family, name, how, command in PEERS),
    *(
        Contender(f"{family}-kept", f"{name} (memory kept)", f"{how}; freed memory is kept for the next step", command, family, "kept", environment=KEEP)
        for family, name, how, command in PEERS
    ),
]


class WorkerError(Exception):
    """A worker that said no, or nothing."""


class Unsupported(Exception):
    """What a contender lacks for a case."""


def environment(threads: int) -> dict[str, str]:
    """The thread counts that the runtimes behind the contenders read. Their ways of waiting are left as they come: see bench/README.md."""
    count = str(threads)
    names = ("BENCH_THREADS", "RAYON_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NPROC")
    return {**dict.fromkeys(names, count), "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}


class Worker:
    """A contender's process. It works when asked and sleeps in between."""

    def __init__(self, contender: Contender, threads: int) -> None:
        self.contender = contender
        self.stderr = tempfile.TemporaryFile()
        cores = sorted(os.sched_getaffinity(0))[:threads] if hasattr(os, "sched_getaffinity") else None
        self.process = subprocess.Popen(
            contender.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.stderr,
            text=True,
            env={**os.environ, **environment(threads), **contender.environment},
            preexec_fn=(lambda: os.sched_setaffinity(0, cores)) if cores else None,  # JAX takes its thread count from here
        )
        self.versions: dict[str, str] = self.reply().get("versions", {})

    def ask(self, do: str, **fields: Any) -> dict[str, Any]:
        assert self.process.stdin
        try:
            self.process.stdin.write(json.dumps({"do": do, **fields}) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # reply() says how it ended
        return self.reply()

    def reply(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            self.stderr.seek(0)
            last = self.stderr.read().decode(errors="replace").strip().splitlines()[-1:]
            raise WorkerError(f"the worker ended with {self.process.wait()}: {last[0] if last else 'without a word'}")
        reply = json.loads(line)
        if "unsupported" in reply:
            raise Unsupported(reply["unsupported"])
        if "error" in reply:
            raise WorkerError(reply["error"])
        return reply

    def time(self, what: str, repetitions: int, warmup: int = 1) -> list[int]:
        return self.ask("time", what=what, warmup=warmup, repetitions=repetitions)["ns"]

    def cpu_seconds(self) -> float | None:
        """Processor time so far, on Linux."""
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            return None
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def quit(self) -> None:
        if self.alive:
            assert self.process.stdin
            self.process.stdin.close()
            try:
                self.process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()
