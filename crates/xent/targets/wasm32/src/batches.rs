//! Fixed batches whose worst errors are reported: every dtype and number of classes, with classes
//! last and in the middle, and each option.

use xent_spec::{Allowed, Case, Dtype, Family, Layout, Subject, Targets, compare, evaluate, sweep_case};

use super::Cpu;

const CLASSES: [usize; 10] = [1, 2, 3, 10, 31, 33, 100, 1000, 4097, 70_000];
const OPTIONS: [&str; 6] = ["plain", "classes in the middle", "mask", "class weights", "dense targets", "softcap"];

/// The worst errors of one dtype: of a loss relative to it, of a gradient entry relative to its
/// batch's largest.
#[derive(Default)]
struct Worst {
    loss: f64,
    grad: f64,
}

pub(crate) fn run(say: impl Fn(&str)) -> usize {
    let mut failures = 0;
    for dtype in Dtype::ALL {
        let (mut worst, mut batches) = (Worst::default(), 0);
        for classes in CLASSES {
            for option in OPTIONS {
                for scale in [1.0, 4.0] {
                    batches += 1;
                    if let Err(why) = judge(&case(dtype, classes, option, scale), &mut worst) {
                        failures += 1;
                        say(&why);
                    }
                }
            }
        }
        say(&format!("{dtype:?}: {batches} batches, worst relative error of a loss {:.1e}, of a gradient {:.1e}", worst.loss, worst.grad));
    }
    failures
}

/// Two rows, each with its own loss.
fn case(dtype: Dtype, classes: usize, option: &str, scale: f64) -> Case {
    let mut case = sweep_case(dtype, classes, Family::Normal { scale, offset: 0.0 }, 0.1);
    case.name = format!("{}, {option}", case.name);
    match option {
        "classes in the middle" => {
            case.shape = vec![1, classes, 2];
            case.logits = (0..2 * classes).map(|i| case.logits[i % 2 * classes + i / 2]).collect();
            case.axis = 1;
            case.layout = Layout { offset: 3, padding: 1, ..Layout::default() };
        }
        "mask" => {
            let Targets::Classes { labels, .. } = &case.targets else { return case };
            case.allowed = Allowed::Shared((0..classes).map(|class| class % 5 != 2 || labels.contains(&(class as i64))).collect());
            case.masked = xent_spec::Masked::Renormalise;
        }
        "class weights" => case.class_weights = Some((0..classes).map(|class| 0.25 + (class % 7) as f64 / 4.0).collect()),
        "dense targets" => {
            let total = (classes * (classes + 1) / 2) as f64;
            let row = (0..classes).map(|class| dtype.round((class + 1) as f64 / total));
            // f16 has no shares as small as many classes need: one class each then.
            let row: Vec<f64> = if dtype.is_half() { (0..classes).map(|class| f64::from(class == classes / 2)).collect() } else { row.collect() };
            case.targets = Targets::Probabilities { dtype, values: row.repeat(2) };
        }
        "softcap" => case.softcap = Some(5.0),
        _ => {}
    }
    case
}

fn judge(case: &Case, worst: &mut Worst) -> Result<(), String> {
    let expected = evaluate(case).map_err(|refusal| format!("{}: {refusal}", case.name))?;
    let got = Cpu::run(case).map_err(|why| format!("{}: {why}", case.name))?;
    let largest = expected.grad.iter().fold(0.0f64, |largest, g| largest.max(g.abs()));
    for (got, expected) in got.loss.iter().zip(&expected.loss).filter(|(_, expected)| **expected != 0.0) {
        worst.loss = worst.loss.max((got - expected).abs() / expected);
    }
    for (got, expected) in got.grad.iter().zip(&expected.grad).filter(|_| largest != 0.0) {
        worst.grad = worst.grad.max((got - expected).abs() / largest);
    }
    compare(case, &expected, &got).map_err(|mismatch| mismatch.to_string())
}
