#!/usr/bin/env python3
"""Breaks the rules and the engine, one defect at a time, and shows which test notices.

    python3 crates/xent/mutants.py            all mutants
    python3 crates/xent/mutants.py softcap    those whose names contain one of the words
    python3 crates/xent/mutants.py --jobs 2   so many at a time, by default as many as there are cores

All mutants are compiled at once: in a copy of the repository each expression that is to be broken
becomes `if crate::mutants::is(NUMBER) { broken } else { as it was }`, and the environment variable
XENT_MUTANT chooses one when a test runs. So the tests are built once, some minutes, and a mutant costs
what its tests take until the first fails: those first that are quick and have caught others.

Exits with 1 if a mutant survives, if an expression is not found exactly once, or if the tests fail
without any mutant. CARGO_TARGET_DIR keeps what was compiled for the next time.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time

# name, file below crates/xent/src, the expression between « and » in enough text to be found once, and
# what stands in its place. Nothing in the place of a statement drops it.
MUTANTS = [
    # The table by class.
    ("table: uniform over K−1", "rules/table.rs", "Spread { sigma: «1.0 / self.classes as f64», pi: 0.0 }", "1.0 / (self.classes - 1).max(1) as f64"),
    ("table: K instead of K−1", "rules/table.rs", "if excluded { open } else { «open.saturating_sub(1)» }", "open"),
    ("table: true class left in the prior", "rules/table.rs", "(_, false) => Self { sigma: each, pi: «-each» }", "0.0"),
    ("table: an excluded class taken off the prior", "rules/table.rs", "(_, true) => Self { sigma: each, pi: «0.0» }", "-each"),
    ("table: nowhere to go, nothing there", "rules/table.rs", "(0, _) => Self { sigma: 0.0, pi: «1.0» }", "0.0"),
    ("table: excluded classes as the others", "rules/table.rs", "self.spread[usize::from(«self.is_excluded(class)»)]", "false"),
    ("table: v on excluded classes", "rules/table.rs", "self.excluded.iter().for_each(|&class| open[class] = «0.0»);", "1.0"),
    ("table: classes excluded twice", "rules/table.rs", "            «excluded.dedup();»\n", ""),
    ("table: terms weighted by rows' weights", "rules/table.rs", "filter(|_| «self.config.class_weighting == ClassWeighting::PerClass»)", "true"),
    ("table: rows weighted by terms' weights", "rules/table.rs", "filter(|_| «self.config.class_weighting == ClassWeighting::PerRow»)", "true"),
    ("table: column term is 1", "rules/table.rs", "self.class_weights().map_or(Column::Same(1.0), |weights| «Column::Each(weights.into())»)", "Column::Same(1.0)"),
    ("table: column whole is 1", "rules/table.rs", "self.row_class_weights().map_or(Column::Same(1.0), |weights| «Column::Each(weights.into())»)", "Column::Same(1.0)"),
    ("table: columns as if nothing were excluded", "rules/table.rs", "self.excluded.iter().for_each(|&class| column[class] = «excluded»);", "open"),
    ("table: v unweighted", "rules/table.rs", "v * «self.class_weights().map_or(1.0, |weights| weights[class])»", "1.0"),
    ("table: uniform with weights", "rules/table.rs", "matches!(table.prior, SharedPrior::Uniform) && «table.class_weights().is_none()»", "true"),
    ("table: Σ v is K", "rules/table.rs", "if self.is_uniform() { self.classes as f64 } else { «self.mass» }", "self.classes as f64"),
    ("table: Σ v ln v is 0", "rules/table.rs", "xlogx.add(if v > 0.0 { «v * v.ln()» } else { 0.0 });", "0.0"),
    ("table: dense targets share v", "rules/table.rs", "Prior::WrongClasses | Prior::Excluding(_) if «dense» =>", "false"),
    ("table: σ of wrong classes without shares", "rules/table.rs", "Prior::WrongClasses | Prior::Excluding(_) => «None»,", "Some(self.spread[0].sigma)"),
    ("table: closed floors where masks renormalise", "rules/table.rs", "!(«self.renormalises()» || matches!(self.prior, SharedPrior::PerRow))", "false"),
    # A row's coefficients.
    ("row plan: σ without the label's share", "rules/row.rs", "scale += «hot.share * spread.sigma»;", "spread.sigma"),
    ("row plan: π without the label's share", "rules/row.rs", "hot.prior = «hot.share * spread.pi»;", "spread.pi"),
    ("row plan: ε of the criterion for a row's prior", "rules/row.rs", "if «plan.epsilon == 0.0» {\n            (plan.prior_scale", "self.table.config().label_smoothing == 0.0"),
    ("row plan: ε of row 0 for all", "rules/row.rs", "plan.epsilon = «epsilon[plan.row]»;", "epsilon[0]"),
    ("row plan: row weight 1", "rules/row.rs", "plan.scale = «weights[plan.row]»;", "1.0"),
    ("row plan: weight of the class before", "rules/row.rs", "plan.hot[0].weight = «weights[class]»;", "weights[class.saturating_sub(1)]"),
    ("row plan: whole weight of the class before", "rules/row.rs", "plan.class_scale = «weights[class]»;", "weights[class.saturating_sub(1)]"),
    ("row plan: second label weighted as the first", "rules/row.rs", "map_or(1.0, |weights| «weights[class]»);\n            plan.hot[plan.hot_len]", "weights[if plan.hot_len > 0 { plan.hot[0].class } else { class }]"),
    ("row plan: dense target's excluded mass unknown", "rules/row.rs", "mass[usize::from(«table.is_excluded(class)»)] += probability", "false"),
    ("row plan: options of single labels passed over", "rules/row.rs", "let rows_differ = «given»\n", "false"),
    ("row plan: W of a mix without shares", "rules/labels.rs", "map(|&(class, share)| «share * weights[class]»)", "weights[class]"),
    ("labels: λ and 1−λ swapped", "rules/labels.rs", "_ => «[Some((a, lambda)), Some((b, 1.0 - lambda))]»,", "[Some((a, 1.0 - lambda)), Some((b, lambda))]"),
    ("labels: the same class twice", "rules/labels.rs", "_ if «a == b» =>", "false"),
    ("labels: a class that is an ignore index kept", "rules/labels.rs", "(self.ignored_classes.is_empty() || «!self.ignored_classes.contains(&class)»)", "true"),
    ("row's own prior: the true class's mass not left out", "rules/row_prior.rs", "«(open - target).max(0.0)» / for_open as f64", "open"),
    ("row's own prior: excluded mass dropped", "rules/row_prior.rs", "«if excluded > 0.0 { excluded / for_excluded as f64 } else { 0.0 }»", "0.0"),
    ("row's own prior: without shares", "rules/row_prior.rs", "*v += «share * u»", "*u"),
    # Denominators.
    ("mean over all rows", "rules/denominator.rs", "(None, Denominator::PyTorch | Denominator::KeptRows, _) => same(«kept»),", "labels.rows as f64"),
    ("mean over rows, not weights", "rules/denominator.rs", "Self { loss: «kept_weight(labels, weights)», z_loss: kept }", "kept"),
    ("mean over weights of ignored rows", "rules/denominator.rs", "filter(|&row| «!labels.is_ignored(row)»)", "true"),
    ("weights in the mean of probabilities", "rules/denominator.rs", "filter(|_| «!dense || config.class_weighting == ClassWeighting::PerRow»)", "true"),
    ("z-loss averaged by class weights", "rules/denominator.rs", "loss: kept_weight(labels, weights), z_loss: «kept» }", "kept_weight(labels, weights)"),
    ("z-loss averaged over all rows", "rules/denominator.rs", "loss: kept_weight(labels, weights), z_loss: «kept» }", "labels.rows as f64"),
    ("z-loss divided by the kept rows where a number is given", "rules/denominator.rs", "(Some(given), _, _) => «same(given)»,", "Self { loss: given, z_loss: kept }"),
    ("z-loss's denominators swapped", "rules/denominator.rs", "if apart { «lambda * (self.loss / self.z_loss)» } else", "lambda * (self.z_loss / self.loss)"),
    ("z-loss's denominator without a mean", "rules/denominator.rs", "let apart = «reduction == Reduction::Mean» &&", "true"),
    # Statistics and how they merge.
    ("merge: the old peak forgotten", "rules/stats.rs", "self.rest = «(self.rest + 1.0) * (-by).exp()»;", "self.rest * (-by).exp()"),
    ("merge: rest not brought to the new peak", "rules/stats.rs", "self.rest = «(self.rest + 1.0) * (-by).exp()»;", "self.rest + 1.0"),
    ("merge: the lower piece not brought to the peak", "rules/stats.rs", "«next.raise(self.max, 0);»", "next.rest += 1.0;"),
    ("merge: sums against v not brought to the peak", "rules/stats.rs", "            «self.prior.raise(by);»", ""),
    ("merge: sums against t not brought to the peak", "rules/stats.rs", "            «self.target.raise(by);»", ""),
    ("merge: shifted by the peak alone", "rules/stats.rs", "self.shifted += «self.mass * by»;", "by"),
    ("merge: v of the next piece dropped", "rules/stats.rs", "        «self.prior.add(next.prior);»", ""),
    ("merge: t of the next piece dropped", "rules/stats.rs", "        «self.target.add(next.target);»", ""),
    ("merge: open classes of the next piece dropped", "rules/stats.rs", "self.open_prior += «next.open_prior»;", "0.0"),
    ("merge: masked classes of the next piece dropped", "rules/stats.rs", "self.closed_prior += «next.closed_prior»;", "0.0"),
    ("merge: masked mass dropped", "rules/stats.rs", "self.masked_mass += «part.masked_mass»;", "0.0"),
    ("merge: last of a dense target's largest", "rules/stats.rs", "if «value > self.target_max» {", "value >= self.target_max"),
    ("merge: a hot class taken from a piece without it", "rules/stats.rs", "if «next.has_hot[j]» {", "true"),
    ("merge: classes of a piece not offset", "rules/stats.rs", "Self { argmax: «self.argmax + first»,", "self.argmax"),
    ("merge: target's class of a piece not offset", "rules/stats.rs", "target_argmax: «self.target_argmax + first»", "self.target_argmax"),
    # The fold, the floor, the reduction.
    ("fold: ε and 1−ε swapped", "rules/fold.rs", "let epsilon = «row.epsilon»;", "1.0 - row.epsilon"),
    ("fold: prior not renormalised", "rules/fold.rs", "(open > 0.0).then(|| «all / open»)", "1.0"),
    ("fold: prior renormalised over nothing", "rules/fold.rs", "    («open > 0.0»).then(", "open >= 0.0"),
    ("fold: a masked hot class is open", "rules/fold.rs", "open += «if z == f64::NEG_INFINITY { 0.0 } else { hot.prior }»;", "hot.prior"),
    ("fold: a masked hot class keeps its prior", "rules/fold.rs", "if «masked && self.table.renormalises()» {\n                continue;", "false"),
    ("fold: correction on a masked class not seen", "rules/fold.rs", "if v > 0.0 && «scale * v + prior == 0.0» {", "false"),
    ("fold: prior at the hot class unweighted", "rules/fold.rs", "let prior = hot.prior * «hot.weight»;\n            mass += prior;", "1.0"),
    ("fold: hot class without its share", "rules/fold.rs", "tau * «hot.share» * hot.weight + epsilon * prior", "1.0"),
    ("fold: smoothing without the row's class weight", "rules/fold.rs", "let smoothing = «class_scale» * times(", "1.0"),
    ("fold: gradient without the row's class weight", "rules/fold.rs", "let mass = «class_scale» * ((1.0 - epsilon)", "1.0"),
    ("fold: z-loss gradient halved", "rules/fold.rs", "alpha: mass + «2.0 * self.z_loss * lse»,", "self.z_loss * lse"),
    ("fold: KL without entropy", "rules/fold.rs", "if self.form == Form::KlDivergence { «floor» } else { 0.0 }", "0.0"),
    ("fold: z-loss without the row weight", "rules/fold.rs", "z_loss: «self.scale» * part.z_loss,", "1.0"),
    ("fold: second of two labels with the same share", "rules/fold.rs", "if «b.share > a.share» { b } else { a }", "b.share >= a.share"),
    ("fold: 0·∞ is NaN", "rules/fold.rs", "«if a == 0.0 { 0.0 } else { a * b }»", "a * b"),
    ("floor: remembered for another share of v", "rules/floor.rs", "«differ(self.prior[j], other.prior[j])» |", "0"),
    ("floor: remembered for another share", "rules/floor.rs", "| «differ(self.beta[j], other.beta[j])»;", "0"),
    ("floor: without Σ v ln v", "rules/floor.rs", "let mut sum = «self.gamma * self.xlogx» +", "0.0"),
    ("floor: a hot class beside itself", "rules/floor.rs", "sum += «term(v + beta) - of_v»;", "term(beta)"),
    ("class fold: class weight left out", "rules/class_fold.rs", "nll[i] = class_scale[i] * «(weight[i] * r + weight[i] * below[i])»;", "(r + below[i])"),
    ("class fold: first class's terms for all", "rules/class_fold.rs", "self.terms[«(*class).max(0) as usize»]", "0"),
    ("class fold: λ of the criterion", "rules/class_fold.rs", "epsilon: config.label_smoothing,\n            z_loss: «self.z_loss»,", "config.z_loss"),
    ("class fold: z-loss gradient halved", "rules/class_fold.rs", "alpha[i] = alpha_without[i] + «2.0 * self.z_loss * lse[i]»;", "self.z_loss * lse[i]"),
    ("reduce: an empty mean of 0 is NaN", "rules/reduce.rs", "(Reduction::Mean, true, EmptyMean::Zero) => «0.0»,", "f64::NAN"),
    ("reduce: groups split between chunks", "rules/parts.rs", "let rows = «groups.saturating_mul(self.group)»;", "rows.max(1)"),
    ("reduce: last row that is not finite", "rules/parts.rs", "if «group.non_finite == 0» {", "true"),
    # The gradient.
    ("gradient: upstream of row 0 for all", "rules/gradient.rs", "self.rows.map_or(self.scalar, |rows| «rows[row]»)", "rows[0]"),
    ("gradient: of an empty mean", "rules/gradient.rs", "zero: «empty && config.empty_mean == EmptyMean::Zero»", "false"),
    ("gradient: softcap without slope at the target", "rules/gradient.rs", "{ 0.0 } else { «(1.0 - z / cap) * (1.0 + z / cap)» }", "1.0"),
    ("gradient: softcap's slope at −∞", "rules/gradient.rs", "if z == f64::NEG_INFINITY { «0.0» } else { (1.0 - z / cap)", "1.0"),
    ("gradient: temperature without slope", "rules/gradient.rs", "factor: «factor * folded.scale() / transform.temperature»", "factor * folded.scale()"),
    ("gradient: without the row weight", "rules/gradient.rs", "factor: «factor * folded.scale() / transform.temperature»", "factor / transform.temperature"),
    ("gradient: masked hot class kept", "rules/gradient.rs", "|| («plan.table.renormalises() && z == f64::NEG_INFINITY»)\n", "false"),
    ("gradient: v at the hot class unweighted", "rules/gradient.rs", "self.folded.coefficients.gamma * v[0] * «hot.weight»;", "1.0"),
    ("entry: masked class kept", "rules/gradient.rs", "|| («masked && plan.table.renormalises()») {\n            return 0.0;", "false"),
    ("entry: v unweighted", "rules/gradient.rs", "gamma * at.prior * «weight» + of.tau", "1.0"),
    ("entry: masked classes keep their prior", "rules/gradient.rs", "if at.z == f64::NEG_INFINITY && self.table.renormalises() { «0.0» } else { of.gamma }", "of.gamma"),
    # Checks.
    ("check: label K refused only from K+1 on", "rules/check_rows.rs", "is_ok_and(|class| «class < self.classes»)", "class <= self.classes"),
    ("check: label K passed over", "targets.rs", "try_from(«classes.saturating_sub(1)»)", "classes"),
    ("check: a bad label beside an ignored one", "rules/check_rows.rs", "unknown |= «(label as u64 >= self.classes as u64) & !ignore & !masked»;", "(label as u64 >= self.classes as u64) & !ignore & !masked & !*out"),
    # One row at a time.
    ("row: gradient 0 off the target", "cpu/row/gradient.rs", "let on_block = narrow(if below == 0.0 { «on_exp» } else", "0.0"),
    ("row: blocks' references not reconciled", "cpu/row/gradient.rs", "else { «on_exp * below.exp()» }", "on_exp"),
    ("row: mask dropped", "cpu/row/load.rs", "    «overwrite_masked(&mut z[..len], call.plan.allowed(claim.row()), start, T::Real::NEG_INFINITY);»\n", ""),
    ("row: mask's gradient kept", "cpu/row/gradient.rs", "            if «!renormalises» {\n                overwrite_masked(", "false"),
    ("row: a row's own prior unweighted", "cpu/row/load.rs", "narrow(&mut self.v, &|k| «wide[k] * weights[start + k]»)", "wide[k]"),
    ("row: shared prior unweighted", "cpu/call.rs", "vector(&|class| «v(class) * weights[class]»)", "v(class)"),
    ("row: ignored rows keep their gradient", "cpu/row/mod.rs", "            «self.fill(row, 0.0, None);»\n", ""),
    ("row: a dense target unweighted", "cpu/row/load.rs", "        «block::multiply(simd, room, &weights[start..][..room.len()]);»\n", ""),
    ("row: saved logits of another block", "cpu/row/gradient.rs", "let z = match saved.z.get(«block» * BLOCK..)", "0"),
    ("row: softcap without slope off the target", "cpu/kernels/block.rs", "select(zero, «g * ((one - tanh) * (one + tanh))»)", "g"),
    ("row: last index on ties", "cpu/kernels/block.rs", "«z.chunks_exact(lanes)\n                .position(|z| V::<S, R>::from_slice(simd, z).simd_eq(value).any_true())»", "z.chunks_exact(lanes).rposition(|z| V::<S, R>::from_slice(simd, z).simd_eq(value).any_true())"),
    ("row: largest term counted among the rest", "cpu/kernels/block.rs", "Some(peak) => «lane.simd_eq(R::from_f64(peak as f64)).select(zero, exp)»,", "exp"),
    ("row: the overlap of the last vector counted twice", "cpu/kernels/block.rs", "peak,\n                        «whole - start»,\n", "0"),
    ("row: masked classes count as open", "cpu/kernels/block.rs", "open += «masked.select(zero, one)»;", "one"),
    ("row: share of the total by a rounded reciprocal", "cpu/kernels/block.rs", "let share = «y.mul_add_precise(first, y * second)»;", "y * first"),
    ("row: masks that renormalise count in the prior", "cpu/statistics.rs", "if «renormalises» { (0.0, 0) } else", "false"),
    # Rows in lanes.
    ("tile: last index on ties", "cpu/kernels/columns.rs", "let larger = «z.simd_gt(max)»;", "z.simd_ge(max)"),
    ("tile: largest term counted among the rest", "cpu/kernels/columns.rs", "exps += «class.simd_eq(argmax).select(zero, exp)»;", "exp"),
    ("tile: gradient at the class as anywhere", "cpu/kernels/columns.rs", "«class.simd_eq(asked).select(at_class, entry)»", "entry"),
    ("tile: masked classes count as open", "cpu/kernels/columns.rs", "let open = «masked.select(zero, weight)»;\n                let closed", "weight"),
    ("tile: temperature without slope", "cpu/tile.rs", "(class_fold, «factor / call.transform.temperature»)", "factor"),
    ("tile: ignored rows keep their gradient", "cpu/tile.rs", "            «self.constant.push((lane, T::Real::ZERO));»\n            return", ""),
    ("tile: ignored rows counted", "cpu/tile.rs", "for_each(|lane| «rows.ignore(lane)»);", "()"),
    ("tile: mask dropped", "cpu/tile.rs", "        «overwrite_masked(call, &mut self.z, self.width, start, len, T::Real::NEG_INFINITY);»\n", ""),
    ("tile: hot classes of rows folded alone as anywhere", "cpu/tile.rs", "            «self.e[entry] = value;»\n", ""),
    # Numbers and memory.
    ("a worse exponential", "cpu/kernels/lanes.rs", "let mut p = «of(Self::EXP_SERIES[0])»;", "of(Self::EXP_SERIES[0]) * (of(Self::ONE) + of(Self::EXP_SERIES[3]))"),
    ("NaN lost in the exponential", "cpu/kernels/lanes.rs", "        } else {\n            «end.max(self)»\n", "self.max(end)"),
    ("bf16 rounds ties up", "cpu/kernels/halves.rs", "«(bits + ((bits >> 16) & 1) + 0x7fff) >> 16»", "(bits + 0x8000) >> 16"),
    ("the end of a row not written", "cpu/memory/stream.rs", "[(0, head), (body, «out.len()»)]", "body"),
    ("a hot class at the end of a row not written", "cpu/memory/stream.rs", "if class < head || «class >= body» {", "false"),
]

SWITCH = """
pub(crate) mod mutants {
    static ACTIVE: std::sync::LazyLock<Option<usize>> =
        std::sync::LazyLock::new(|| std::env::var("XENT_MUTANT").ok()?.parse().ok());

    #[inline(always)]
    pub(crate) fn is(number: usize) -> bool {
        *ACTIVE == Some(number)
    }
}
"""


def main():
    root = pathlib.Path(__file__).resolve().parents[2]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="of the mutants' names; default: all mutants")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="mutants at a time; default: the number of cores")
    options = parser.parse_args()
    chosen = [
        number
        for number, (name, *_) in enumerate(MUTANTS)
        if not options.words or any(word in name for word in options.words)
    ]
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder) / "xent"
        shutil.copytree(root, copy, ignore=shutil.ignore_patterns("target", ".git", ".venv", "xent-out"))
        put_switches(copy / "crates/xent/src")
        tests = Tests(build(copy), copy / "crates/xent")
        print(f"{len(chosen)} mutants, {len(tests.seconds)} tests of {sum(tests.seconds.values()):.0f} seconds", flush=True)
        with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
            results = pool.map(lambda number: (MUTANTS[number][0], tests.first_to_fail(number)), chosen)
            survivors = 0
            for name, test in results:
                survivors += test is None
                print(f"| {name} | {test or 'SURVIVED'} |", flush=True)
    print(f"{len(chosen) - survivors} of {len(chosen)} caught")
    sys.exit(1 if survivors else 0)


def put_switches(src):
    """Puts every mutant into the copy's source."""
    spots = {}
    for number, (name, file, text, new) in enumerate(MUTANTS):
        before, old, after = re.fullmatch("(.*)«(.*)»(.*)", text, re.DOTALL).groups()
        source = (src / file).read_text()
        found = source.count(before + old + after)
        if found != 1:
            sys.exit(f"{name}: its text is in {file} {found} times, expected once")
        start = source.index(before + old + after) + len(before)
        spots.setdefault((file, start, start + len(old)), []).append((number, new))
    # From the end, so that what is before stays where it is.
    for (file, start, end), mutants in sorted(spots.items(), reverse=True):
        source = (src / file).read_text()
        old = source[start:end]
        switch = " else ".join(f"if crate::mutants::is({number}) {{ {new} }}" for number, new in mutants) + f" else {{ {old} }}"
        (src / file).write_text(source[:start] + (switch if old.endswith(";") else f"({switch})") + source[end:])
    with open(src / "lib.rs", "a") as lib:
        lib.write(SWITCH)


def build(copy):
    """The test programs."""
    command = ["cargo", "test", "-p", "xent", "--lib", "--tests", "--no-run", "--message-format", "json"]
    done = subprocess.run(command, cwd=copy, stdout=subprocess.PIPE, text=True, check=False)
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    if done.returncode:
        sys.exit("".join(message["message"]["rendered"] for message in messages if message.get("message", {}).get("level") == "error"))
    return [message["executable"] for message in messages if message.get("executable") and message["profile"]["test"]]


class Tests:
    """The tests, each with the seconds that it takes when all is well and the mutants that it caught."""

    def __init__(self, programs, folder):
        self.folder, self.lock = folder, threading.Lock()
        self.seconds, self.caught = {}, {}
        for program in programs:
            listed = subprocess.run([program, "--list"], capture_output=True, text=True, check=True).stdout
            for test in re.findall("^(.*): test$", listed, re.MULTILINE):
                started = time.monotonic()
                if not self.passes((program, test), None, None):
                    sys.exit(f"{test} fails without any mutant")
                self.seconds[program, test] = time.monotonic() - started

    def passes(self, test, mutant, timeout):
        program, name = test
        environment = os.environ if mutant is None else os.environ | {"XENT_MUTANT": str(mutant)}
        try:
            done = subprocess.run([program, "--exact", name], cwd=self.folder, env=environment, capture_output=True, timeout=timeout, check=False)
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0

    def first_to_fail(self, mutant):
        with self.lock:
            order = sorted(self.seconds, key=lambda test: self.seconds[test] / (1 + self.caught.get(test, 0)))
        for test in order:
            if not self.passes(test, mutant, 60 + 20 * self.seconds[test]):
                with self.lock:
                    self.caught[test] = self.caught.get(test, 0) + 1
                return test[1]
        return None


if __name__ == "__main__":
    main()
