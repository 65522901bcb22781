#!/usr/bin/env python3
"""Breaks the engine's source, one defect at a time, and shows which test notices.

    python3 crates/xent/mutants.py            all mutants (some two minutes each)
    python3 crates/xent/mutants.py softcap    those whose names contain one of the words

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
    ("mean over all rows", "plan/check_rows.rs", "(None, Denominator::PyTorch | Denominator::KeptRows) => kept as f64,", "(None, Denominator::PyTorch | Denominator::KeptRows) => self.rows as f64,"),
    ("mean over rows, not weights", "plan/check_rows.rs", "(None, Denominator::PyTorch) if weighted => self.kept_weight(),", "(None, Denominator::PyTorch) if weighted => kept as f64,"),
    ("ε and 1−ε swapped", "plan/fold.rs", "let epsilon = row.epsilon;", "let epsilon = 1.0 - row.epsilon;"),
    ("K instead of K−1", "plan/prior.rs", "if excluded { open } else { open.saturating_sub(1) }", "if excluded { open } else { open }"),
    ("true class left in the prior", "plan/prior.rs", "hot.prior = if excluded { 0.0 } else { -each };", "hot.prior = 0.0;"),
    ("prior not renormalised", "plan/fold.rs", "then(|| all / open)", "then_some(1.0)"),
    ("z-loss gradient halved", "plan/fold.rs", "mass + 2.0 * z_weight * lse", "mass + z_weight * lse"),
    ("KL without entropy", "plan/fold.rs", "if self.form == Form::KlDivergence { floor } else { 0.0 }", "if self.form == Form::KlDivergence { 0.0 } else { 0.0 }"),
    ("upstream of row 0 for all", "plan/mod.rs", "Upstream::Rows(rows) => rows[row],", "Upstream::Rows(rows) => rows[row * 0],"),
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
    # One row at a time.
    ("row: gradient 0 off the target", "cpu/row/gradient.rs", "let on_block = narrow(if below == 0.0 { on_exp } else", "let on_block = narrow(if below == 0.0 { 0.0 } else"),
    ("row: blocks' references not reconciled", "cpu/row/gradient.rs", "else { on_exp * below.exp() }", "else { on_exp }"),
    ("row: mask dropped", "cpu/row/load.rs", "    overwrite_masked(&mut z[..len], call.plan.allowed(claim.row()), start, T::Real::NEG_INFINITY);\n", ""),
    ("row: mask's gradient kept", "cpu/row/gradient.rs", "if !renormalises {\n                overwrite_masked(", "if false {\n                overwrite_masked("),
    ("row: a row's own prior unweighted", "cpu/row/load.rs", "narrow(&mut self.v, &|k| wide[k] * weights[start + k])", "narrow(&mut self.v, &|k| wide[k] * weights[start + k].powi(0))"),
    ("row: shared prior unweighted", "cpu/call.rs", "vector(&|class| v(class) * weights[class])", "vector(&|class| v(class) * weights[class].powi(0))"),
    ("row: ignored rows keep their gradient", "cpu/row/mod.rs", "            self.fill(row, 0.0, None);\n", ""),
    ("row: a dense target unweighted", "cpu/row/load.rs", "    if let Some(weights) = &call.weights {\n        block::multiply(simd, room, &weights[start..][..room.len()]);\n    }\n", ""),
    ("row: saved logits of another block", "cpu/row/statistics.rs", "saved.z.get_mut(block * BLOCK..)", "saved.z.get_mut(0..)"),
    ("row: softcap without slope off the target", "cpu/kernels/block.rs", "g * ((one - tanh) * (one + tanh))", "g"),
    ("row: last index on ties", "cpu/kernels/block.rs", "z.chunks_exact(lanes).position(", "z.chunks_exact(lanes).rposition("),
    ("row: largest term counted among the rest", "cpu/kernels/block.rs", "select(zero, exp),\n            None => exp,", "select(exp, exp),\n            None => exp,"),
    ("row: the overlap of the last vector counted twice", "cpu/kernels/block.rs", "exp_special(simd, z, reference, &mut e[start..], peak, whole - start, &mut sums);", "exp_special(simd, z, reference, &mut e[start..], peak, 0, &mut sums);"),
    ("row: masked classes are far below, not masked", "cpu/kernels/block.rs", "below -= masked.select(zero, x);", "below -= x;"),
    ("row: share of the total by a rounded reciprocal", "cpu/kernels/block.rs", "y.mul_add(first, y * second)", "y.mul_add(first, y * second * R::ZERO)"),
    ("maximum of an earlier block forgotten", "cpu/statistics.rs", "self.rest = (self.rest + 1.0) * (-by).exp();", "self.rest *= (-by).exp();"),
    ("blocks' maxima not reconciled", "cpu/statistics.rs", "self.rest = (self.rest + 1.0) * (-by).exp();", "self.rest += 1.0 + 0.0 * by;"),
    ("pieces' maxima not reconciled", "cpu/statistics.rs", "Some(_) => next.rise(self.max(), 0),", "Some(_) => next.rest += 1.0,"),
    ("last of a dense target's largest", "cpu/statistics.rs", "is_none_or(|(peak, _)| value > peak)", "is_none_or(|(peak, _)| value >= peak)"),
    ("softcap without slope at the target", "cpu/gradient.rs", "(1.0 - z / cap) * (1.0 + z / cap)", "1.0"),
    ("temperature without slope", "cpu/gradient.rs", "folded.scale() / transform.temperature", "folded.scale()"),
    ("row weight dropped from the gradient", "cpu/gradient.rs", "factor * folded.scale() /", "factor /"),
    # Rows in lanes.
    ("tile: last index on ties", "cpu/kernels/columns.rs", "let larger = z.simd_gt(max);", "let larger = z.simd_ge(max);"),
    ("tile: largest term counted among the rest", "cpu/kernels/columns.rs", "exps += class.simd_eq(argmax).select(zero, exp);", "exps += class.simd_eq(argmax).select(exp, exp);"),
    ("tile: gradient at the class as anywhere", "cpu/kernels/columns.rs", "class.simd_eq(asked).select(at_class, entry)", "class.simd_eq(asked).select(entry, entry)"),
    ("tile: masked classes are far below, not masked", "cpu/kernels/columns.rs", "masked.select(zero, -x)", "-x"),
    ("tile: temperature without slope", "cpu/tile.rs", "factor / call.transform.temperature", "factor"),
    ("tile: ignored rows keep their gradient", "cpu/tile.rs", "            self.constant.push((lane, T::Real::ZERO));\n            return", "            return"),
    ("tile: ignored rows counted", "cpu/tile.rs", "for_each(|lane| rows.ignore(lane));", "for_each(drop);"),
    ("tile: mask dropped", "cpu/tile.rs", "        overwrite_masked(call, &mut self.z, self.width, start, len, T::Real::NEG_INFINITY);\n", ""),
    ("tile: rows of other classes stay asked for", "cpu/tile.rs", "                self.classes.fill(-1);\n", ""),
    ("alike: class weight left out", "plan/alike.rs", "weight[i] * r + weight[i] * below[i]", "r + below[i]"),
    ("alike: first class's terms for all", "plan/alike.rs", "self.terms[(*class).max(0) as usize]", "self.terms[(*class).min(0).max(0) as usize]"),
    # Numbers and memory.
    ("a worse exponential", "cpu/kernels/lanes.rs", "1.987_569_1e-4", "2.087_569_1e-4"),
    ("NaN lost in the exponential", "cpu/kernels/lanes.rs", "{ end.max(self) }", "{ self.max(end) }"),
    ("bf16 rounds ties up", "cpu/kernels/halves.rs", "(bits + ((bits >> 16) & 1) + 0x7fff) >> 16", "(bits + 0x8000) >> 16"),
    ("the end of a row not written", "cpu/memory/stream.rs", "[(0, head), (body, out.len())]", "[(0, head), (body, body)]"),
    ("a claim reads its neighbour's classes", "cpu/memory/claim.rs", "assert!(self.classes.start <= start && start <= self.classes.end && len <= self.classes.end - start);", "assert!(start <= self.memory.classes() && len <= self.memory.classes() - start);"),
    ("rows that were split off stay", "cpu/memory/claim.rs", "Self { memory: self.memory, rows: self.take_front(rows), _fence", "Self { memory: self.memory, rows: self.rows.start..self.rows.start + rows.min(self.rows.len()), _fence"),
]


def main():
    root = pathlib.Path(__file__).resolve().parents[2]
    words = sys.argv[1:]
    chosen = [mutant for mutant in MUTANTS if not words or any(word in mutant[0] for word in words)]
    survivors = 0
    for name, file, old, _ in MUTANTS:
        found = (root / "crates/xent/src" / file).read_text().count(old)
        if found != 1:
            sys.exit(f"{name}: its text is in {file} {found} times, expected once")
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder) / "xent"
        shutil.copytree(root, copy, ignore=shutil.ignore_patterns("target", ".git", ".venv", "xent-out"))
        if test(copy):
            sys.exit("the tests fail without any mutant")
        for name, file, old, new in chosen:
            path = copy / "crates/xent/src" / file
            text = path.read_text()
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
