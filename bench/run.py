#!/usr/bin/env python3
"""Times label-smoothed cross-entropy by xent and its peers, in one interleaved run, after comparing their answers.

Run `bench/install` first. Without options it runs every case by every contender on all cores and writes a record under bench/records.
"""

import interpreter

if __name__ == "__main__":
    interpreter.enter()

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from cases import EPSILON, SETS, SMOKE_CASES, Case, with_elements, write_data
from contenders import CONTENDERS, KEEP, Contender, environment
from interpreter import FOLDER
from machine import cores, machine, record_name, versions
from rounds import Session, Settings


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/run.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ", ".join(case.name for case in SETS["usual"])
    keys = ", ".join(contender.key for contender in CONTENDERS)
    parser.add_argument("--set", choices=SETS, default="usual", help="classes: K = 2 to 4096 in small batches, f32 and bf16 (default: %(default)s)")
    parser.add_argument("--cases", metavar="NAME[,NAME…]", help=f"only these of the set; in the usual one: {names}")
    parser.add_argument("--contenders", metavar="KEY[,KEY…]", help=f"xent and only these of: {keys}")
    parser.add_argument("--memory", choices=("new", "kept"), help="only contenders whose memory is new in each step, or kept (both)")
    parser.add_argument("--threads", type=int, default=cores(), help="threads for every contender (all cores: %(default)s)")
    parser.add_argument("--rounds", type=int, default=11, help="rounds in which every contender has its turn (%(default)s)")
    parser.add_argument("--turn", type=float, default=0.4, metavar="SECONDS", help="how long a turn lasts, if a step is not longer (%(default)s)")
    parser.add_argument("--elements", type=int, metavar="N", help="cut cases down to about N logits, for a trial")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the record, instead of bench/records/DATE-CPU.json; - for none")
    parser.add_argument("--no-build", action="store_true", help="take bench-xent as it is instead of building it first")
    parser.add_argument("--smoke", action="store_true", help="tiny shapes, two rounds, no record; fails if xent's answer is wrong")
    return parser.parse_args()


def chosen(given: str | None, known: list[str], what: str) -> list[str]:
    if given is None:
        return known
    names = [name.strip() for name in given.split(",")]
    if unknown := [name for name in names if name not in known]:
        sys.exit(f"no {what} is called {', '.join(unknown)}; there are {', '.join(known)}")
    return names


def contenders(given: str | None, memory: str | None) -> tuple[list[Contender], list[Contender]]:
    """Those that take part, and those that would but are not installed."""
    keys = {"xent", *chosen(given, [contender.key for contender in CONTENDERS], "contender")}
    wanted = [each for each in CONTENDERS if each.key == "xent" or (each.key in keys and each.memory == (memory or each.memory))]
    if not wanted[0].installed:
        sys.exit("bench-xent is not built: run bench/install")
    return [each for each in wanted if each.installed], [each for each in wanted if not each.installed]


def build_xent() -> None:
    """So that what is measured is the tree that the record names."""
    command = ["cargo", "build", "--release", "--locked", "--quiet", "--package", "bench-xent"]
    try:
        subprocess.run(command, cwd=FOLDER / "rust", check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"bench-xent does not build ({error}); --no-build takes it as it is")


def as_text(record: dict[str, Any]) -> str:
    """Indented JSON, lists of numbers on a line of their own."""
    text = json.dumps(record, indent=1, ensure_ascii=False)
    return re.sub(r"\[[\d\s.,]*\]", lambda numbers: " ".join(numbers[0].split()), text) + "\n"


def main() -> None:
    args = options()
    settings = Settings(args.threads, 2 if args.smoke else args.rounds, 0.01 if args.smoke else args.turn)
    cases: list[Case] = SMOKE_CASES if args.smoke else SETS[args.set]
    names = chosen(args.cases, [case.name for case in cases], "case")
    cases = [case for case in cases if case.name in names]
    if args.elements:
        cases = [with_elements(case, args.elements) for case in cases]
    if not args.no_build:
        build_xent()
    present, absent = contenders(args.contenders, args.memory)
    for contender in absent:
        print(f"{contender.name}: not installed, left out (bench/install says why)")

    with Session(present, settings) as session:
        described = machine(settings.threads)
        results = []
        for case in cases:
            with tempfile.TemporaryDirectory(prefix="xent-bench-") as folder:
                results.append(session.run(case, write_data(case, Path(folder)), Path(folder)))
        record = {
            "format": 1,
            **described,
            "versions": versions(session.versions()),
            "settings": {
                "threads": settings.threads,
                "set": args.set,
                "rounds": settings.rounds,
                "turn_seconds": settings.turn,
                "epsilon": EPSILON,
                "environment": environment(settings.threads),
                "environment_where_memory_is_kept": KEEP,
                "trial": bool(args.elements) or args.smoke,
            },
            "contenders": {each.key: each.as_record() for each in present},
            "not_installed": [each.key for each in absent],
            "cases": results,
        }
    if not args.smoke and str(args.out) != "-":
        path = args.out or FOLDER / "records" / record_name(record)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(as_text(record))
        print(f"\nwrote {path}")
    wrong = [result["name"] for result in results if "ns" not in result["results"]["xent"].get("forward_backward", {})]
    if wrong:
        sys.exit(f"xent's own answer was wrong or missing: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
