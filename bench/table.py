#!/usr/bin/env python3
"""Prints a record as a table; `--write` puts it between the markers of bench/README.md."""

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
QUIET = 0.05  # cores that other programs may keep busy
NAMES = {"forward_backward": "loss and gradient", "forward": "loss alone"}


def times_as_long(theirs: dict[str, Any], ours: dict[str, Any]) -> float:
    """The median over the rounds, in each of which both had their turn."""
    pairs = zip(theirs["round_medians_ns"], ours["round_medians_ns"], strict=True)
    return statistics.median(their / our for their, our in pairs)


def significant(value: float) -> str:
    return f"{value:.0f}" if value >= 9.95 else f"{value:.1f}" if value >= 0.995 else f"{value:.2f}"


def peer_cell(results: dict[str, Any], peer: str, what: str) -> str:
    """Both with memory that is new in each step, and in brackets both with memory that is kept."""
    kept = results["xent"].get(what)
    new = results.get("xent-new", {}).get(what, kept)
    cells = [cell for key, ours in ((peer, new), (f"{peer}-kept", kept)) if (cell := one_cell(results.get(key), what, ours))]
    return " ".join([cells[0], *(f"({cell})" for cell in cells[1:] if cell != cells[0])]) if cells else "–"


def one_cell(result: dict[str, Any] | None, what: str, ours: dict[str, Any] | None) -> str | None:
    if result is None:
        return None
    if "unsupported" in result:
        return "–"
    if "objection" in result.get("agreement", {}):
        return "wrong"
    if what not in result or ours is None:
        return "failed"
    return f"{significant(times_as_long(result[what], ours))}×"


def label(case: dict[str, Any]) -> str:
    if len(case["shape"]) == 2:
        return f"{case['dtype']}, {case['classes']:,} classes"
    return f"{case['dtype']}, {case['classes']} classes, [{', '.join(map(str, case['shape']))}]"


def row(case: dict[str, Any], what: str, peers: list[str]) -> list[str]:
    results = case["results"]
    shown = [f"{ours['ns_per_element']:.2f}", f"{ours.get('copies', float('nan')):.1f}"] if (ours := results["xent"].get(what)) else ["failed", "–"]
    return [label(case), *shown, *(peer_cell(results, peer, what) for peer in peers)]


def table(record: dict[str, Any], what: str) -> str:
    contenders = record["contenders"]
    peers = list(dict.fromkeys(each["family"] for each in contenders.values() if each["family"] != "xent"))
    names = [next(each["name"] for each in contenders.values() if each["family"] == peer).removesuffix(" (memory kept)") for peer in peers]
    lines = [
        [NAMES[what], "xent: ns per logit", "xent: copies", *names],
        ["---", *["---:"] * (2 + len(peers))],
        *(row(case, what, peers) for case in record["cases"]),
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def worst(record: dict[str, Any], what: str) -> str:
    """Of each peer the case in which it comes nearest to xent, or passes it."""
    found = []
    for key, contender in record["contenders"].items():
        if contender["family"] == "xent":
            continue
        ours = "xent" if contender["memory"] == "kept" else "xent-new"
        pairs = [(case, case["results"].get(key, {}), case["results"].get(ours) or case["results"]["xent"]) for case in record["cases"]]
        ratios = [(times_as_long(theirs[what], our[what]), label(case)) for case, theirs, our in pairs if what in theirs and what in our]
        if ratios:
            ratio, where = min(ratios)
            found.append(f"{contender['name']} {ratio:.2f}× ({where})")
    return f"The worst of each peer: {'; '.join(found)}." if found else "No peer took part."


def explanation(record: dict[str, Any], source: str) -> str:
    machine, versions = record["machine"], record["versions"]
    named = {"torch": "PyTorch", "jax": "JAX", "optax": "optax", "burn": "burn", "candle-core": "candle"}
    against = ", ".join(f"{name} {versions[key].split('+')[0]}" for key, name in named.items() if key in versions)
    return (
        f"{record['date']}, {machine['cpu']}, {machine['threads']} threads, {record['settings']['rounds']} interleaved rounds; {against}. "
        "One copy is the time that the same threads take to copy the logits. The columns of the peers are their time divided by xent's: "
        "both with new memory in each step, and (in brackets) both with memory that is kept from step to step. "
        f"Every answer was first compared with f64. [The record]({source})."
    )


def write(readme: Path, block: str) -> None:
    text = readme.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        sys.exit(f"{readme}: needs the lines {BEGIN} and {END}, once each and in this order")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    readme.write_text(f"{before}{BEGIN}\n{block}\n{END}{after}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench/table.py", description=__doc__)
    parser.add_argument("record", type=Path)
    parser.add_argument("--what", choices=NAMES, default="forward_backward", help="(default: %(default)s)")
    parser.add_argument("--write", action="store_true", help="put it between the markers of bench/README.md")
    args = parser.parse_args()
    record = json.loads(args.record.read_text())
    block = f"{table(record, args.what)}\n\n{worst(record, args.what)}\n\n{explanation(record, f'records/{args.record.name}')}"
    busy = max(case["strangers_busy_cores"] or 0.0 for case in record["cases"])
    if record["settings"]["trial"] or busy > QUIET:
        block = f"**Not a measurement: {'cut-down cases' if record['settings']['trial'] else f'other programs kept {busy:.2f} cores busy'}.**\n\n{block}"
    if args.write:
        write(Path(__file__).with_name("README.md"), block)
    else:
        print(block)


if __name__ == "__main__":
    main()
