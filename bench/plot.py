#!/usr/bin/env python3
"""Draws a record: nanoseconds per logit by number of classes. `bench/plot.py RECORD docs/bench.svg`"""

import interpreter

if __name__ == "__main__":
    interpreter.enter()

import argparse
import json
import re
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

# Colours that both grounds bear, and markers for those who do not see them apart.
STYLES = {
    "xent": ("#e4572e", "o"),
    "torch-eager": ("#3d85c6", "s"),
    "torch-compile": ("#3d85c6", "D"),
    "jax-optax": ("#2a9d6f", "^"),
    "jax-logsumexp": ("#2a9d6f", "v"),
    "burn": ("#b07aa1", "P"),
    "candle": ("#a8871f", "X"),
}
DASHED = {"torch-compile", "jax-logsumexp"}
MEMORY = {"kept": "kept from step to step", "new": "new in each step"}
# Ink, paper and grid are replaced by what the reader's theme asks for.
INK, PAPER, GRID = "#010203", "#fdfcfb", "#a1a2a3"
THEME = """<style>
:root { --ink: #24292f; --paper: #ffffff; --grid: #d8dee4; }
@media (prefers-color-scheme: dark) { :root { --ink: #d1d7e0; --paper: #0d1117; --grid: #30363d; } }
</style>"""


def points(cases: list[dict[str, Any]], key: str, what: str) -> tuple[list[int], list[float], list[list[float]]]:
    """Classes, medians and the distances of the quartiles from them, of the cases that have them."""
    found = [(case, case["results"][key][what]) for case in cases if what in case["results"].get(key, {})]
    medians = [each["ns"]["median"] / case["elements"] for case, each in found]
    lower = [(each["ns"]["median"] - each["ns"]["lower_quartile"]) / case["elements"] for case, each in found]
    upper = [(each["ns"]["upper_quartile"] - each["ns"]["median"]) / case["elements"] for case, each in found]
    return [case["classes"] for case, _ in found], medians, [lower, upper]


def panel(axes: Axes, record: dict[str, Any], dtype: str, memory: str) -> None:
    cases = [case for case in record["cases"] if case["dtype"] == dtype and len(case["shape"]) == 2]
    for key, contender in record["contenders"].items():
        if contender["memory"] != memory:
            continue
        family = contender["family"]
        classes, medians, quartiles = points(cases, key, "forward_backward")
        color, marker = STYLES[family]
        axes.errorbar(
            classes,
            medians,
            yerr=quartiles,
            label=contender["name"].split(" (")[0],
            color=color,
            marker=marker,
            markersize=5.5,
            markerfacecolor=PAPER if family in DASHED else color,
            linestyle="--" if family in DASHED else "-",
            linewidth=2.4 if family == "xent" else 1.3,
            elinewidth=1,
            zorder=3 if family == "xent" else 2,
        )
    classes, medians, _ = points(cases, "xent", "copy")
    axes.errorbar(classes, medians, label="copying the logits", color=INK, linestyle=":", linewidth=1.8)
    axes.set(xscale="log", yscale="log", title=dtype, xlabel="classes")
    axes.set_xticks(sorted({case["classes"] for case in cases}))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 1000:.0f}k" if value >= 1000 else f"{value:.0f}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.minorticks_off()
    axes.tick_params(axis="x", labelsize=8.5)
    axes.margins(x=0.05 if len(cases) > 2 else 0.3)
    axes.grid(axis="y", color=GRID, linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)


def draw(record: dict[str, Any], path: Path, memory: str) -> None:
    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "xent", "font.family": "sans-serif", "font.size": 10, "axes.axisbelow": True})
    plt.rcParams.update(dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK))
    dtypes = [dtype for dtype in ("f32", "bf16") if any(case["dtype"] == dtype and len(case["shape"]) == 2 for case in record["cases"])]
    figure, all_axes = plt.subplots(
        1, len(dtypes), figsize=(9, 5), sharey=True, squeeze=False, width_ratios=[4, 1][: len(dtypes)], facecolor=PAPER, layout="constrained"
    )
    for axes, dtype in zip(all_axes[0], dtypes):
        axes.set_facecolor(PAPER)
        panel(axes, record, dtype, memory)
    machine = record["machine"]
    all_axes[0][0].set_ylabel("nanoseconds per logit, loss and gradient")
    note = ", a trial" if record["settings"]["trial"] else ""
    where = f"{machine['threads']} threads of {machine['cpu']}, {record['date']}{note}"
    figure.suptitle(f"Label-smoothed cross-entropy, memory {MEMORY[memory]}\n{where}", fontsize=10.5)
    handles, labels = all_axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    if path.suffix == ".svg":
        figure.savefig(path, facecolor=PAPER, metadata={"Date": None, "Creator": None})
        path.write_text(themed(path.read_text()))
    else:
        figure.savefig(path, facecolor=PAPER, dpi=110)


def themed(svg: str) -> str:
    for color, variable in ((INK, "ink"), (PAPER, "paper"), (GRID, "grid")):
        svg = svg.replace(color, f"var(--{variable})")
    svg = re.sub(r"(<svg [^>]*>)", lambda match: f"{match[1]}\n {THEME}", svg, count=1)
    return "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench/plot.py", description=__doc__)
    parser.add_argument("record", type=Path)
    parser.add_argument("picture", type=Path, help=".svg (follows the reader's light or dark theme) or .png")
    parser.add_argument("--memory", choices=MEMORY, default="kept", help="of gradients and intermediates, for all alike (%(default)s)")
    args = parser.parse_args()
    draw(json.loads(args.record.read_text()), args.picture, args.memory)


if __name__ == "__main__":
    main()
