//! Random cases: every option, alone and with others.
//!
//! A case is built from a [`Recipe`]: its shape, the way its logits are drawn, a seed, and a switch
//! for each option. Each option draws from its own stream of the seed, so that shrinking a failure
//! switches off the options that do not matter and leaves the others as they were.

use proptest::prelude::*;
use proptest::sample::select;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::case::{
    Allowed, Case, ClassWeighting, Denominator, EmptyMean, Form, Masked, Prior, Reduction,
    RowValue, Targets, Upstream,
};
use crate::dtype::{Dtype, IndexDtype};
use crate::families::{FAMILIES, Family};
use crate::layout::Layout;
use crate::textbook::is_ignored;

/// What may be switched on. The order is that of the streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Switch {
    Layout,
    TwoLabels,
    Probabilities,
    NoSmoothing,
    EpsilonPerRow,
    Prior,
    ClassWeights,
    PerRowWeighting,
    RowWeights,
    IgnoreIndex,
    IgnoredRows,
    Allowed,
    Renormalise,
    Denominator,
    EmptyMean,
    KlDivergence,
    ZLoss,
    Softcap,
    Temperature,
    Upstream,
    MaskedLogits,
    NonFiniteLogits,
    Count,
}

/// All that decides a random case.
#[derive(Clone, Debug)]
struct Recipe {
    dtype: Dtype,
    outer: Vec<usize>,
    axis: usize,
    classes: usize,
    family: Family,
    reduction: Reduction,
    switches: Vec<bool>,
    seed: u64,
}

/// Random cases, most of them with a few options at other than their defaults. Nearly all have an
/// answer; the rest is refused for an empty mean.
pub fn cases() -> impl Strategy<Value = Case> {
    let classes = prop_oneof![
        6 => 1usize..=9,
        4 => select(vec![15usize, 16, 17, 31, 32, 33, 63, 64, 65]),
        1 => select(vec![1023usize, 1024, 1025, 2047, 2048, 2049]),
    ];
    let outer = prop::collection::vec(prop_oneof![1 => Just(0usize), 20 => 1usize..=4], 0..=3);
    let mut families = FAMILIES.to_vec();
    families.push(Family::Ties);
    (
        select(Dtype::ALL.to_vec()),
        outer,
        0usize..=3,
        classes,
        select(families),
        select(vec![Reduction::Mean, Reduction::Sum, Reduction::None]),
        prop::collection::vec(prop::bool::weighted(0.2), Switch::Count as usize),
        any::<u64>().no_shrink(),
    )
        .prop_map(|(dtype, mut outer, axis, classes, family, reduction, switches, seed)| {
            // Few rows of many classes.
            let most = (600 / classes).clamp(3, 24);
            while outer.iter().product::<usize>() > most {
                outer.pop();
            }
            let axis = axis.min(outer.len());
            Recipe { dtype, outer, axis, classes, family, reduction, switches, seed }.build()
        })
}

/// Multiples of 1/64 in `low..=high`: exact in f32, so that no API's choice of a type for options
/// matters.
fn dyadic(rng: &mut ChaCha8Rng, low: f64, high: f64) -> f64 {
    f64::from(rng.random_range((low * 64.0) as i32..=(high * 64.0) as i32)) / 64.0
}

/// A distribution of multiples of 2⁻¹⁶ that sums to exactly 1, some classes with nothing.
fn distribution(rng: &mut ChaCha8Rng, classes: usize) -> Vec<f64> {
    let mut left = 65536u32;
    let mut parts: Vec<u32> = (0..classes)
        .map(|_| {
            let part = if rng.random_bool(0.8) {
                rng.random_range(0..=left.min(131_072 / classes as u32))
            } else {
                0
            };
            left -= part;
            part
        })
        .collect();
    parts[rng.random_range(0..classes)] += left;
    parts.into_iter().map(|part| f64::from(part) / 65536.0).collect()
}

impl Recipe {
    /// The switch's stream, if it is on.
    fn on(&self, switch: Switch) -> Option<ChaCha8Rng> {
        self.switches[switch as usize].then(|| self.stream(switch as u64 + 1))
    }

    fn stream(&self, number: u64) -> ChaCha8Rng {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(number);
        rng
    }

    fn rows(&self) -> usize {
        self.outer.iter().product()
    }

    fn each(&self, mut value: impl FnMut() -> f64) -> Vec<f64> {
        (0..self.rows()).map(|_| value()).collect()
    }

    fn build(&self) -> Case {
        let mut shape = self.outer.clone();
        shape.insert(self.axis, self.classes);
        let mut case = Case {
            name: format!("random, seed {}, {:?}", self.seed, self.family),
            dtype: self.dtype,
            shape,
            axis: self.axis,
            layout: self.layout(),
            epsilon: self.epsilon(),
            prior: self.prior(),
            masked: if self.on(Switch::Renormalise).is_some() {
                Masked::Renormalise
            } else {
                Masked::PyTorch
            },
            reduction: self.reduction,
            denominator: self.denominator(),
            form: if self.on(Switch::KlDivergence).is_some() {
                Form::KlDivergence
            } else {
                Form::CrossEntropy
            },
            ..Case::default()
        };
        self.targets(&mut case);
        self.weights(&mut case);
        self.masks(&mut case);
        case.z_loss = self
            .on(Switch::ZLoss)
            .map_or(0.0, |mut rng| [1e-4, 0.01, 0.25][rng.random_range(0..3)]);
        case.softcap =
            self.on(Switch::Softcap).map(|mut rng| [5.0, 30.0, 50.0][rng.random_range(0..3)]);
        case.temperature =
            self.on(Switch::Temperature).map(|mut rng| [0.5, 1.7, 4.0][rng.random_range(0..3)]);
        if let Some(mut rng) = self.on(Switch::EmptyMean) {
            case.empty_mean = [EmptyMean::Zero, EmptyMean::Error][rng.random_range(0..2)];
        }
        if let Some(mut rng) = self.on(Switch::Upstream) {
            case.upstream = Upstream(match self.reduction {
                Reduction::None => RowValue::Each(self.each(|| dyadic(&mut rng, -4.0, 4.0))),
                _ => RowValue::Shared(dyadic(&mut rng, -4.0, 4.0)),
            });
        }
        self.logits(&mut case);
        case
    }

    fn layout(&self) -> Layout {
        let Some(mut rng) = self.on(Switch::Layout) else { return Layout::default() };
        let mut order: Vec<usize> = (0..=self.outer.len()).collect();
        for last in (1..order.len()).rev() {
            order.swap(last, rng.random_range(0..=last));
        }
        Layout {
            order,
            offset: rng.random_range(0..=17),
            gap: rng.random_range(0..=2),
            padding: rng.random_range(0..=5),
        }
    }

    fn epsilon(&self) -> RowValue {
        if let Some(mut rng) = self.on(Switch::EpsilonPerRow) {
            return RowValue::Each(
                self.each(|| if rng.random_bool(0.3) { 0.0 } else { dyadic(&mut rng, 0.0, 1.0) }),
            );
        }
        if self.on(Switch::NoSmoothing).is_some() {
            return RowValue::Shared(0.0);
        }
        RowValue::Shared([0.1, 0.1, 0.01, 0.001, 0.3, 1.0][self.stream(0).random_range(0..6)])
    }

    fn prior(&self) -> Prior {
        let Some(mut rng) = self.on(Switch::Prior) else { return Prior::Uniform };
        match rng.random_range(0..4) {
            0 => Prior::Excluding((0..self.classes).filter(|_| rng.random_bool(0.3)).collect()),
            1 => Prior::Fixed(distribution(&mut rng, self.classes)),
            2 if self.classes <= 65 => Prior::ByTrueClass(
                (0..self.classes).flat_map(|_| distribution(&mut rng, self.classes)).collect(),
            ),
            _ => Prior::WrongClasses,
        }
    }

    fn denominator(&self) -> Denominator {
        let Some(mut rng) = self.on(Switch::Denominator) else { return Denominator::PyTorch };
        [Denominator::KeptRows, Denominator::Rows, Denominator::Given(7.5)][rng.random_range(0..3)]
    }

    fn targets(&self, case: &mut Case) {
        let mut rng = self.stream(100);
        let formats = [IndexDtype::U8, IndexDtype::U32, IndexDtype::I32, IndexDtype::I64];
        let dtype = *formats
            .iter()
            .cycle()
            .skip(rng.random_range(0..4))
            .find(|dtype| dtype.holds(self.classes as i64))
            .expect("i64 holds it");
        let labels = |rng: &mut ChaCha8Rng| {
            (0..self.rows()).map(|_| rng.random_range(0..self.classes as i64)).collect::<Vec<_>>()
        };
        let (mut a, mut b) = (labels(&mut rng), labels(&mut rng));
        if let Some(mut rng) = self.on(Switch::Probabilities) {
            let own = rng.random_bool(0.8);
            let dtype = if own { self.dtype } else { Dtype::ALL[rng.random_range(0..4)] };
            let rows = (0..self.rows()).flat_map(|_| match rng.random_range(0..4) {
                0 => (0..self.classes).map(|_| dyadic(&mut rng, 0.0, 1.0)).collect(),
                _ => distribution(&mut rng, self.classes),
            });
            let values = rows.map(|q| dtype.round(q)).collect();
            case.targets = Targets::Probabilities { dtype, values };
            return;
        }
        if let Some(mut rng) = self.on(Switch::IgnoreIndex) {
            let index = *[-100, 255, 0, i64::MIN]
                .iter()
                .cycle()
                .skip(rng.random_range(0..4))
                .find(|&&index| dtype.holds(index))
                .expect("0 is held");
            case.ignore_index = vec![index];
            for label in a.iter_mut().chain(&mut b) {
                if rng.random_bool(0.3) {
                    *label = index;
                }
            }
        }
        // The formats that hold no more than these are chosen without a draw: a case's numbers do
        // not depend on how many formats there are.
        let other = match dtype {
            IndexDtype::U32 => IndexDtype::U16,
            IndexDtype::I64 => IndexDtype::U64,
            same => same,
        };
        let dtype = if a.first().is_some_and(|label| label % 2 == 0)
            && a.iter().chain(&b).all(|&label| other.holds(label))
        {
            other
        } else {
            dtype
        };
        case.targets = match self.on(Switch::TwoLabels) {
            None => Targets::Classes { dtype, labels: a },
            Some(mut rng) => {
                let lambda = if rng.random_bool(0.5) {
                    RowValue::Shared(0.7)
                } else {
                    RowValue::Each(self.each(|| dyadic(&mut rng, 0.0, 1.0)))
                };
                Targets::TwoLabels { dtype, a, b, lambda }
            }
        };
    }

    fn weights(&self, case: &mut Case) {
        case.class_weights = self
            .on(Switch::ClassWeights)
            .map(|mut rng| (0..self.classes).map(|_| dyadic(&mut rng, 0.0, 3.0)).collect());
        if self.on(Switch::PerRowWeighting).is_some() {
            case.class_weighting = ClassWeighting::PerRow;
        }
        case.row_weights =
            self.on(Switch::RowWeights).map(|mut rng| self.each(|| dyadic(&mut rng, 0.0, 2.0)));
    }

    fn masks(&self, case: &mut Case) {
        if let Some(mut rng) = self.on(Switch::IgnoredRows) {
            case.ignored_rows = (0..self.rows()).map(|_| rng.random_bool(0.4)).collect();
        }
        if let Some(mut rng) = self.on(Switch::Allowed) {
            let each_row = rng.random_bool(0.5);
            let count = self.classes * if each_row { self.rows() } else { 1 };
            let mask = (0..count).map(|_| rng.random_bool(0.75)).collect();
            case.allowed = if each_row { Allowed::Each(mask) } else { Allowed::Shared(mask) };
        }
    }

    /// The logits, and NaN in every ignored row's logits and probabilities.
    fn logits(&self, case: &mut Case) {
        let mut rng = self.stream(101);
        let mut masked = self.on(Switch::MaskedLogits);
        let mut bad = self.on(Switch::NonFiniteLogits);
        case.logits = vec![0.0; self.classes * self.rows()];
        for row in 0..self.rows() {
            let favourite = match &case.targets {
                Targets::Classes { labels, .. } if row % 2 == 0 => {
                    labels[row].rem_euclid(self.classes as i64) as usize
                }
                _ => rng.random_range(0..self.classes),
            };
            let mut logits = self.family.row(&mut rng, self.dtype, self.classes, favourite);
            if let Some(rng) = &mut masked {
                let share = if rng.random_bool(0.05) { 1.0 } else { 0.2 };
                logits
                    .iter_mut()
                    .filter(|_| rng.random_bool(share))
                    .for_each(|logit| *logit = f64::NEG_INFINITY);
            }
            if let Some(rng) = &mut bad
                && rng.random_bool(0.3)
            {
                logits[rng.random_range(0..self.classes)] =
                    if rng.random_bool(0.5) { f64::NAN } else { f64::INFINITY };
            }
            if is_ignored(case, row) {
                logits.fill(f64::NAN);
                if let Targets::Probabilities { values, .. } = &mut case.targets {
                    values[row * self.classes..][..self.classes].fill(f64::NAN);
                }
            }
            for (class, logit) in logits.into_iter().enumerate() {
                let position = case.position(row, class);
                case.logits[position] = logit;
            }
        }
    }
}
