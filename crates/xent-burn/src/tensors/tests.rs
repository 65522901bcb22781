//! What must hold on devices: nothing is read back, and after the first call nothing is uploaded
//! except the batch.
//!
//! burn offers no count of either. What these tests cover is this crate's own code: only
//! `Table::new` and the engine call burn's functions that make tensors of host data, and a
//! criterion makes a table once. Not covered are transfers inside burn's operations; those used
//! here are kernels of burn-cubecl, to which scalars are arguments. (`arange` is not one of them:
//! burn makes it on the host.)

use std::sync::Arc;

use burn::tensor::{Bool, Device, Int, Tensor};
use xent::{Config, EmptyMean, Form, Masked, Prior, PriorMatrix};

use super::Tables;
use crate::{CrossEntropy, CrossEntropyConfig};

const SOURCES: [(&str, &str); 7] = [
    ("fold", include_str!("fold.rs")),
    ("gradient", include_str!("gradient.rs")),
    ("mod", include_str!("mod.rs")),
    ("ops", include_str!("ops.rs")),
    ("rows", include_str!("rows.rs")),
    ("statistics", include_str!("statistics.rs")),
    ("table", include_str!("table.rs")),
];

#[test]
fn only_the_table_is_made_from_host_data_and_nothing_is_read_back() {
    let uploads = [
        "TensorData",
        "from_data",
        "from_floats",
        "from_ints",
        "from_bool",
        "arange",
        "random",
        "slice_fill",
        "one_hot",
        "eye(",
    ];
    let reads = [
        "to_data",
        "into_data",
        "into_scalar",
        "to_vec_as",
        "into_vec",
        "to_vec_sync",
        "nonzero",
        "argwhere",
        "read_",
    ];
    for (name, text) in SOURCES {
        let found = |words: &[&str]| {
            words.iter().find(|word| text.contains(**word)).map(|word| word.to_string())
        };
        assert_eq!(found(&reads), None, "{name}.rs reads values back");
        if name == "table" {
            let (first, _) = text.split_once("from_data").unwrap();
            assert!(
                first.contains("fn new<")
                    && text.matches("from_data").count() == 1
                    && text.matches("arange").count() == 1
            );
        } else {
            assert_eq!(found(&uploads), None, "{name}.rs uploads");
        }
    }
}

/// Three calls with everything that a batch can carry, on logits of 2 rows and 3 classes.
fn run(criterion: &CrossEntropy, dense: bool) {
    let device = Device::flex();
    let logits = || {
        Tensor::<2>::from_floats([[1.0, 2.0, -1.0], [0.5, f32::NEG_INFINITY, 0.0]], &device)
            .autodiff()
            .require_grad()
    };
    let labels = || Tensor::<1, Int>::from_ints([2, 0], &device);
    let finish = |call: crate::Call<'_, 2>| call.forward_with_output().unwrap().loss.backward();
    for _ in 0..3 {
        if dense {
            finish(criterion.on(
                logits(),
                Tensor::<2>::from_floats([[0.5, 0.25, 0.25], [1.0, 0.0, 0.0]], &device),
            ));
            continue;
        }
        let column = || Tensor::<1>::from_floats([0.5, 0.25], &device);
        let mask = Tensor::<1, Bool>::from_bool([true, true, false], &device);
        finish(criterion.on(logits(), labels()));
        finish(
            criterion
                .on(logits(), labels())
                .mixed_with(labels(), 0.5)
                .label_smoothing_rows(column()),
        );
        finish(
            criterion
                .on(logits(), labels())
                .mixed_with(labels(), column())
                .row_weights(column())
                .allowed_classes(mask)
                .denominator(3.0),
        );
    }
}

fn tables(tables: &Tables) -> Vec<*const super::table::Table> {
    tables.0.lock().unwrap().iter().map(Arc::as_ptr).collect()
}

#[test]
fn a_table_is_made_once() {
    let matrix = PriorMatrix::new(3, vec![0.0, 0.5, 0.5, 0.5, 0.0, 0.5, 0.25, 0.75, 0.0]).unwrap();
    let fixed = Prior::Fixed(vec![0.5, 0.25, 0.25]);
    for prior in [
        Prior::Uniform,
        Prior::WrongClasses,
        Prior::Excluding(vec![1]),
        fixed,
        Prior::ByTrueClass(matrix),
    ] {
        for dense in [false, true] {
            let mut config = Config::new()
                .label_smoothing(0.1)
                .prior(prior.clone())
                .class_weights(vec![1.0, 2.0, 0.5])
                .z_loss(1e-3);
            config = config
                .softcap(30.0)
                .temperature(2.0)
                .form(Form::KlDivergence)
                .masked(Masked::Renormalise)
                .empty_mean(EmptyMean::Zero);
            config.ignore_indices = if dense { Vec::new() } else { vec![-100, 1] };
            let criterion = CrossEntropyConfig::new(config).init().composed(true);
            run(&criterion, dense);
            let first = tables(&criterion.tables);
            assert_eq!(first.len(), 1);
            run(&criterion.clone(), dense);
            assert_eq!(tables(&criterion.tables), first);
        }
    }
}

#[test]
fn a_table_for_each_number_of_classes_and_dtype_and_not_too_many() {
    let criterion =
        CrossEntropyConfig::new(Config::new().label_smoothing(0.1)).init().composed(true);
    let forward = |classes: usize| {
        let logits = Tensor::<2>::zeros([2, classes], &Device::flex());
        let labels = || Tensor::<1, Int>::zeros([2], &Device::flex());
        criterion.forward(logits.clone(), labels());
        criterion.forward(logits.cast(burn::tensor::DType::F64), labels());
    };
    forward(3);
    assert_eq!(tables(&criterion.tables).len(), 2);
    (1..20).for_each(forward);
    assert_eq!(tables(&criterion.tables).len(), super::table::KEPT);
}
