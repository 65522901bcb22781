//! The columns of the table, which backends other than the CPU engine upload, against the
//! definition of S3 and S4.2.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::rules::{ClassTable, SharedPrior, TargetKind};
use crate::{ClassWeighting, Config, Prior, PriorMatrix};

/// A distribution over the classes.
fn distribution(classes: usize) -> impl Strategy<Value = Vec<f64>> {
    vec(0.1..1.0f64, classes).prop_map(|u| {
        let total: f64 = u.iter().sum();
        u.iter().map(|u| u / total).collect()
    })
}

/// Any prior. Excluded classes come in any order and more than once, up to all of them.
fn prior(classes: usize) -> impl Strategy<Value = Prior> {
    prop_oneof![
        Just(Prior::Uniform),
        Just(Prior::WrongClasses),
        vec(0..classes, 0..=2 * classes).prop_map(Prior::Excluding),
        distribution(classes).prop_map(Prior::Fixed),
        vec(distribution(classes), classes).prop_map(move |rows| Prior::ByTrueClass(
            PriorMatrix::new(classes, rows.concat()).unwrap()
        )),
    ]
}

/// K and a criterion for it.
fn config() -> impl Strategy<Value = (usize, Config)> {
    (1..=8usize).prop_flat_map(|classes| {
        let weights = prop::option::of(vec(0.0..3.0f64, classes));
        let weighting =
            prop::sample::select(vec![ClassWeighting::PerClass, ClassWeighting::PerRow]);
        (Just(classes), prior(classes), weights, weighting).prop_map(
            |(classes, prior, weights, weighting)| {
                let config = Config::new().prior(prior).class_weighting(weighting);
                (classes, Config { class_weights: weights, ..config })
            },
        )
    })
}

/// U(c) of S3, as a dense vector.
fn prior_of_class(prior: &Prior, classes: usize, class: usize) -> Vec<f64> {
    let evenly_without = |excluded: &[usize]| {
        let open = |k: usize| k != class && !excluded.contains(&k);
        let each = match (0..classes).filter(|&k| open(k)).count() {
            0 => return (0..classes).map(|k| f64::from(k == class)).collect(),
            open => 1.0 / open as f64,
        };
        (0..classes).map(|k| if open(k) { each } else { 0.0 }).collect()
    };
    match prior {
        Prior::Uniform => vec![1.0 / classes as f64; classes],
        Prior::WrongClasses => evenly_without(&[]),
        Prior::Excluding(excluded) => evenly_without(excluded),
        Prior::Fixed(u) => u.clone(),
        Prior::ByTrueClass(matrix) => matrix.row(class).to_vec(),
    }
}

proptest! {
    #[test]
    fn columns_are_the_definition((classes, config) in config()) {
        let criterion = config.clone().build().unwrap();
        let weights = |weighting| match &config.class_weights {
            Some(weights) if config.class_weighting == weighting => weights.clone(),
            _ => vec![1.0; classes],
        };
        let (term, whole) = (weights(ClassWeighting::PerClass), weights(ClassWeighting::PerRow));
        for kind in [TargetKind::Labels, TargetKind::Probabilities] {
            let table = ClassTable::new(&criterion, classes, kind).unwrap();
            let v = match table.prior() {
                SharedPrior::Uniform => vec![1.0; classes],
                SharedPrior::Vector(v) => v.to_vec(),
                SharedPrior::PerRow => vec![0.0; classes],
            };
            let shares_v = match config.prior {
                Prior::Uniform | Prior::Fixed(_) => true,
                Prior::WrongClasses | Prior::Excluding(_) => kind == TargetKind::Labels,
                Prior::ByTrueClass(_) => false,
            };
            prop_assert_eq!(table.prior() != &SharedPrior::PerRow, shares_v);
            for class in 0..classes {
                prop_assert_eq!(table.term().at(class), term[class]);
                prop_assert_eq!(table.whole().at(class), whole[class]);
                prop_assert_eq!(table.prior_at(class), v[class] * term[class]);
                let (sigma, pi) = (table.sigma().at(class), table.pi().at(class));
                if !shares_v {
                    prop_assert_eq!((sigma, pi), (1.0, 0.0));
                    continue;
                }
                let mut row: Vec<f64> = v.iter().map(|v| sigma * v).collect();
                row[class] += pi;
                prop_assert_eq!(row, prior_of_class(&config.prior, classes, class));
            }
            let mass: f64 = v.iter().zip(&term).map(|(v, term)| v * term).sum();
            prop_assert!((table.prior_mass() - mass).abs() <= 1e-14 * mass);
        }
    }
}
