"""A worker's side of the benchmark: JSON lines on standard input and output, and the clock around the work.

`bench/README.md` describes the lines; `bench/rust/protocol` is the same in Rust.
"""

import json
import math
import os
import sys
import time
from typing import Any, Protocol

import numpy as np

DTYPES = {"f32": np.dtype("<f4"), "bf16": np.dtype("<u2")}


class Unsupported(Exception):
    """What a contender lacks for a case."""


class Prepared(Protocol):
    """A case, ready to be done again and again. `run` returns when the work is done, and nothing waits in a queue."""

    def run(self, what: str) -> None: ...

    def answer(self) -> tuple[float, np.ndarray]:
        """Loss and gradient of the work that is timed, the gradient in the logits' layout as f32, or as the bits of bf16."""
        ...


class Contender(Protocol):
    def versions(self) -> dict[str, str]: ...

    def prepare(self, case: dict[str, Any], logits: np.ndarray, targets: np.ndarray) -> Prepared: ...


def read_case(case: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Logits (f32, or the bits of bf16) and targets (int64) in memory of their own."""
    shape = case["shape"]
    rows = [size for axis, size in enumerate(shape) if axis != case["axis"]]
    logits = np.fromfile(case["logits"], DTYPES[case["dtype"]]).reshape(shape)
    return logits, np.fromfile(case["targets"], "<i8").reshape(rows)


def timed(prepared: Prepared, what: str, warmup: int, repetitions: int) -> list[int]:
    for _ in range(warmup):
        prepared.run(what)
    durations = []
    for _ in range(repetitions):
        start = time.perf_counter_ns()
        prepared.run(what)
        durations.append(time.perf_counter_ns() - start)
    return durations


def serve(contender: Contender) -> None:
    """Answers the runner's requests until it says `quit` or goes away."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a framework prints is not a reply

    def say(reply: dict[str, Any]) -> None:
        out.write(json.dumps(reply) + "\n")
        out.flush()

    prepared: Prepared | None = None
    say({"ready": True, "versions": contender.versions()})
    for line in sys.stdin:
        request = json.loads(line)
        do = request["do"]
        try:
            if do == "quit":
                return
            elif do == "release":
                prepared = None
                reply = {"released": True}
            elif do == "prepare":
                prepared = None
                prepared = contender.prepare(request["case"], *read_case(request["case"]))
                reply = {"prepared": True}
            elif prepared is None:
                reply = {"error": "nothing is prepared"}
            elif do == "answer":
                loss, grad = prepared.answer()
                grad.tofile(request["gradient"])
                dtype = next(name for name, dtype in DTYPES.items() if dtype == grad.dtype)
                reply = {"loss": loss if math.isfinite(loss) else None, "dtype": dtype}
            elif do == "time":
                reply = {"ns": timed(prepared, request["what"], request["warmup"], request["repetitions"])}
            else:
                reply = {"error": f"unknown request {do!r}"}
        except Unsupported as why:
            reply = {"unsupported": str(why)}
        except Exception as error:  # the runner reports it and goes on with the others
            reply = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
        say(reply)
