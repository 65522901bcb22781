#!/usr/bin/env python3
"""Breaks the engine's source, one defect at a time, and shows which test notices.

    python3 crates/xent/mutants.py            all mutants (some minutes)
    python3 crates/xent/mutants.py softcap    those whose name contains a word

Works on a copy of the repository in a temporary folder. Exits with 1 if a mutant survives, or if the text that it replaces is not found exactly once.
"""

import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

MUTANTS = [
    # name, file below crates/xent/src, text, replacement
    ("gradient 0 off the target", "cpu/row.rs", "kernels::scaled_exp(&mut self.z[..len], max, narrow(on_exp));", "kernels::scaled_exp(&mut self.z[..len], max, narrow(on_exp * 0.0));"),
    ("mean over all rows", "plan/check_rows.rs", "(None, Denominator::PyTorch | Denominator::KeptRows) => kept as f64,", "(None, Denominator::PyTorch | Denominator::KeptRows) => self.rows as f64,"),
    ("mean over rows, not weights", "plan/check_rows.rs", "(None, Denominator::PyTorch) if weighted => self.kept_weight(),", "(None, Denominator::PyTorch) if weighted => kept as f64,"),
    ("mask dropped", "cpu/row.rs", "forbid(z, self.plan.allowed(row), start, T::Real::NEG_INFINITY);", ""),
    ("mask's gradient kept", "cpu/row.rs", "forbid(g, allowed, start, T::Real::ZERO);\n            // SAFETY: the row and block", "// SAFETY: the row and block"),
    ("ε and 1−ε swapped", "plan/fold.rs", "let epsilon = row.epsilon;", "let epsilon = 1.0 - row.epsilon;"),
    ("K instead of K−1", "plan/prior.rs", "if excluded { open } else { open.saturating_sub(1) }", "if excluded { open } else { open }"),
    ("true class left in the prior", "plan/prior.rs", "hot.prior = if excluded { 0.0 } else { -each };", "hot.prior = 0.0;"),
    ("prior unweighted", "cpu/row.rs", "weigh(self.plan.class_weights(), start, wide, &mut self.prior);", "weigh(None, start, wide, &mut self.prior);"),
    ("ignored rows keep their gradient", "cpu/row.rs", "            self.fill(row, T::Real::ZERO, None, sink);\n            return None;", "            return None;"),
    ("prior not renormalised", "plan/fold.rs", "then(|| all / open)", "then_some(1.0)"),
    ("z-loss gradient halved", "plan/fold.rs", "mass + 2.0 * z_weight * lse", "mass + z_weight * lse"),
    ("softcap without slope", "cpu/row.rs", "(1.0 - z / cap) * (1.0 + z / cap)", "1.0"),
    ("temperature without slope", "cpu/row.rs", "let factor = factor / self.transform.temperature;", "let factor = factor * 1.0;"),
    ("KL without entropy", "plan/fold.rs", "if self.form == Form::KlDivergence { floor } else { 0.0 }", "if self.form == Form::KlDivergence { 0.0 } else { 0.0 }"),
    ("row weight dropped from the gradient", "cpu/row.rs", "factor * folded.scale(), sink", "factor, sink"),
    ("upstream of row 0 for all", "plan/mod.rs", "Upstream::Rows(rows) => rows[row],", "Upstream::Rows(rows) => rows[row * 0],"),
    ("last index on ties", "cpu/kernels/mod.rs", "z.iter().position(|&z| z == max).unwrap_or(0)", "z.iter().rposition(|&z| z == max).unwrap_or(0)"),
    ("blocks' maxima not reconciled", "cpu/row.rs", "self.rest.scale((self.max - max).exp());", "self.rest.scale(1.0);"),
    ("maximum of an earlier block forgotten", "cpu/row.rs", "                self.rest.add(1.0);\n", ""),
    ("largest term counted among the rest", "cpu/row.rs", "self.z[argmax] = if self.z[argmax].to_f64().is_nan() { self.z[argmax] } else { T::Real::NEG_INFINITY };", ""),
    ("label K refused only from K+1 on", "plan/check_rows.rs", "is_ok_and(|class| class < self.classes)", "is_ok_and(|class| class <= self.classes)"),
    ("label K passed over", "targets.rs", "try_from(classes.saturating_sub(1))", "try_from(classes)"),
    ("a bad label beside an ignored one", "plan/check_rows.rs", "& !ignore & !masked;", "& !ignore & !masked & !*out;"),
    ("rows of an excluded class planned as the others", "plan/row.rs", "if self.is_excluded(class) {", "if false {"),
    ("ε of the criterion for a row's prior", "plan/row.rs", "if plan.epsilon == 0.0 {", "if self.criterion.config.epsilon == 0.0 {"),
    ("a floor remembered for another weight", "plan/floor.rs", "differ(self.prior[j], other.prior[j]) | ", ""),
    ("a floor remembered for another share", "plan/floor.rs", " | differ(self.beta[j], other.beta[j])", ""),
    ("groups split between chunks", "plan/parts.rs", "let rows = groups.saturating_mul(self.group);", "let rows = rows.max(1);"),
    ("0·∞ is NaN", "plan/fold.rs", "if a == 0.0 { 0.0 } else { a * b }", "a * b"),
    ("λ and 1−λ swapped", "plan/row.rs", "_ => [Some((a, lambda)), Some((b, 1.0 - lambda))],", "_ => [Some((a, 1.0 - lambda)), Some((b, lambda))],"),
    ("a worse exponential", "cpu/kernels/exp.rs", "1.987_569_1e-4_f32", "2.087_569_1e-4_f32"),
]


def main():
    root = pathlib.Path(__file__).resolve().parents[2]
    words = sys.argv[1:]
    chosen = [mutant for mutant in MUTANTS if all(word in mutant[0] for word in words)]
    survivors = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder) / "xent"
        shutil.copytree(root, copy, ignore=shutil.ignore_patterns("target", ".git", "xent-out"))
        if test(copy):
            sys.exit("the tests fail without any mutant")
        for name, file, old, new in chosen:
            path = copy / "crates/xent/src" / file
            text = path.read_text()
            if text.count(old) != 1:
                sys.exit(f"{name}: its text is in {file} {text.count(old)} times, expected once")
            path.write_text(text.replace(old, new))
            failed = test(copy)
            path.write_text(text)
            survivors += not failed
            print(f"| {name} | {', '.join(failed) or 'SURVIVED'} |", flush=True)
    sys.exit(1 if survivors else 0)


def test(copy):
    """The tests that fail, as far as the first failing test program."""
    command = ["cargo", "test", "-p", "xent", "--lib", "--tests"]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    failed = re.findall(r"^test (\S+) \.\.\. FAILED", done.stdout, re.MULTILINE)
    if "could not compile" in done.stderr:
        sys.exit(done.stderr)
    return failed or (["the test program died"] if done.returncode else [])


if __name__ == "__main__":
    main()
