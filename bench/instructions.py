#!/usr/bin/env python3
"""Counts what the kernels execute: instructions per logit, by valgrind's callgrind.

    bench/instructions.py               prints the table, and what has changed since the last record
    bench/instructions.py --record      writes bench/records/instructions.json

Counts do not depend on how busy the machine is and hardly on which machine it is, so that a kernel that became slower shows anywhere. A count is the difference of two runs that
differ in the number of calls, over the logits of a call. Valgrind has no AVX-512: those kernels are the same source, with wider registers.
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys

BENCH = pathlib.Path(__file__).resolve().parent
RECORD = BENCH / "records" / "instructions.json"
PROGRAM = BENCH / "rust" / "target" / "release" / "bench-instructions"
# dtype, layout, rows, classes
CASES = [
    ("f32", "last", 64, 1000),
    ("f32", "last", 4, 32000),
    ("bf16", "last", 4, 32000),
    ("f16", "last", 4, 32000),
    ("f64", "last", 4, 32000),
    ("f32", "last", 4096, 10),
    ("f32", "middle", 4096, 19),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true", help="write the record")
    record = parser.parse_args().record
    build = ["cargo", "build", "--release", "--locked", "--manifest-path", BENCH / "rust" / "Cargo.toml", "-p", "bench-instructions"]
    if subprocess.run(build, check=False).returncode:
        sys.exit("bench-instructions does not build")
    known = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    counts = {}
    for instructions in ("avx2", "portable"):
        for case in CASES:
            for what in ("forward", "forward_backward"):
                name = " ".join(map(str, (instructions, *case, what)))
                counts[name] = round(count(instructions, case, what), 3)
                before = known.get(name)
                change = f"  {counts[name] / before - 1:+.1%}" if before else ""
                print(f"{name:55} {counts[name]:8.3f} per logit{change}", flush=True)
    if record:
        RECORD.parent.mkdir(exist_ok=True)
        RECORD.write_text(json.dumps(counts, indent=1) + "\n")


def count(instructions: str, case: tuple, what: str) -> float:
    few, many = (run(instructions, case, what, calls) for calls in (1, 3))
    _, _, rows, classes = case
    return (many - few) / (2 * rows * classes)


def run(instructions: str, case: tuple, what: str, calls: int) -> int:
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", PROGRAM, instructions, *map(str, case), what, str(calls)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        sys.exit("valgrind is not installed, expected it on the path")
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or not found:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stderr}")
    return int(found[1])


if __name__ == "__main__":
    main()
