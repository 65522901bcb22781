"""Breaks the Triton kernels, one defect at a time, and shows that tests/test_triton.py notices.

    python tests/triton_mutants.py            exits with 1 if a mutant survives
    python tests/triton_mutants.py softcap    those whose file or text contains one of the words

Each mutant is a copy of the package with one piece of text replaced; the tests run against it in
Triton's interpreter.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import xent

TESTS = pathlib.Path(__file__).parent
# A file of xent/torch/_triton, a text that is there once, and what takes its place.
MUTANTS = [
    ("arithmetic", "tl.log(y) + tl.where", "tl.log(y) + 0.0 * tl.where"),
    ("arithmetic", "(1.0 + low * LN2)", "(1.0 + low)"),
    ("arithmetic", "tl.where(x < 0.0, -far, far)", "far"),
    ("long_rows", "(lane >= 2 * V) | ((lane < V) & (lane >= head))", "lane >= 2 * V"),
    ("addresses", "(base + (V - 1)) // V * V", "base // V * V"),
    ("logits", 'tl.where(k[None, :] < end, z, float("-inf"))', "z"),
    ("logits", 'z = tl.where(is_allowed, z, float("-inf"))', "z = z"),
    ("logits", "z = z / temperature", "z = z * temperature"),
    ("gradient", "g = tl.where(live[:, None], g, 0.0)", "g = g"),
    ("short_rows", "tl.where(largest, 0.0, e)", "e"),
    ("short_rows", "rest = others + (number - 1)", "rest = others"),
    ("short_rows", "tl.where(is_new, here, first)", "here"),
    ("short_rows", "s += mass * up", "s += up"),
    ("long_rows", "(others + of_peak) * scale, others + sum_of_tile", "others * scale, others + sum_of_tile"),
    ("long_rows", "is_new = of_tile > m\n", "is_new = of_tile >= m\n"),
    ("long_rows", "s += mass * tl.where", "s += 0.0 * tl.where"),
    ("long_rows", "tl.where(mass == 0.0, 0.0, mass * up)", "0.0 * mass"),
    ("long_rows", "(others * down).to", "others.to"),
    ("long_rows", "if STATS or rest + rest_of_peak < 1.0", "if STATS and rest < -1.0"),
    ("long_rows", "+ (tl.sum(number, 0) - 1)", "+ tl.sum(number, 0)"),
    ("long_rows", "tl.where(has_peak, e, of_peak * down)", "e"),
    ("gradient", "    else:\n        g = tl.where(k[None, :] == hot0[:, None], of_p - b0", "    else:\n        g = tl.where(k[None, :] == hot0[:, None], of_p + b0"),
    ("gradient", "(1.0 - share) * (1.0 + share)", "1.0"),
    ("gradient", "g = tl.where(allowed, g, 0.0)", "g = g"),
    ("gradient", "g -= c[:, None] * v", "g -= c[:, None]"),
    ("gradient", "start = full - B - done", "start = done"),
    ("gradient", "(hot0 >= k0) & (hot0 < k0 + B)", "(hot0 > k0) & (hot0 < k0 + B)"),
    ("fold", "own1 = tl.where(hot1 >= 0, own1, 0.0)", "own1 = own1"),
    ("fold", "before / tl.where(nothing, 1.0, after)", "after / tl.where(nothing, 1.0, before)"),
    ("fold", "y0 += gamma * of_v0", "y0 += 0.0"),
    ("fold", "floor -= xlogx(gamma) * of_v", "floor -= 0.0"),
    ("kernels", "share1 = tl.where(same, 0.0, 1.0 - share0)", "share1 = 1.0 - share0"),
    ("kernels", "of_z = 2.0 * lambda_z * lse", "of_z = lambda_z * lse"),
    ("kernels", "live & (divisor != 0.0)", "live"),
    ("kernels", "u = tl.load(upstream + row, mask=live, other=0.0)", "u = tl.load(upstream + 0 * row, mask=live, other=0.0)"),
    ("kernels", "if u == 1.0:", "if u != 0.0:"),
    ("launch", "SCALES\": options[\"temperature\"] != 1.0", "SCALES\": False"),
    ("launch", "(others - 1, others)", "(others, others)"),
    ("autograd", "return gradient.mul_(upstream)", "return gradient"),
    ("autograd", "denominators if is_mean else None,", "None,"),
]  # fmt: skip


def main():
    words = sys.argv[1:]
    survivors = 0
    for name, old, new in MUTANTS:
        if words and not any(word in name + old for word in words):
            continue
        with tempfile.TemporaryDirectory() as folder:
            package = pathlib.Path(folder) / "xent"
            shutil.copytree(pathlib.Path(xent.__file__).parent, package)
            file = package / "torch/_triton" / f"{name}.py"
            text = file.read_text()
            if text.count(old) != 1:
                sys.exit(f"{name}.py has {old!r} {text.count(old)} times, expected once")
            file.write_text(text.replace(old, new))
            command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
            command += ["-W", "ignore", TESTS / "test_triton.py", "-k", "not compiled"]
            environment = os.environ | {"PYTHONPATH": folder}
            done = subprocess.run(command, env=environment, capture_output=True, text=True)
        failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
        survivors += not failed
        print(
            f"| {name} | {old[:60]!r} | {failed[0].split(' - ')[0] if failed else 'SURVIVED'} |",
            flush=True,
        )
    sys.exit(bool(survivors))


if __name__ == "__main__":
    main()
