//! The suite catches every mutant, in whichever format it is wrong. `cargo test -p xent-spec --test
//! mutants -- --nocapture` shows which check was the first to catch it.

use std::fmt::Write;

use xent_spec::{CHECKS, Dtype, MUTANTS};

fn every_mutant_is_caught(dtype: Dtype) {
    let mut table = format!("{:44} first check to catch it in {dtype:?}\n", "mutant");
    let mut passed = Vec::new();
    for mutant in MUTANTS.iter().filter(|mutant| mutant.dtypes.contains(&dtype)) {
        let candidate = mutant.candidate(dtype);
        let caught = CHECKS.iter().find(|(_, check)| check(&candidate).is_err());
        writeln!(table, "{:44} {}", mutant.name, caught.map_or("–", |(name, _)| name))
            .expect("a string takes it");
        if caught.is_none() {
            passed.push(mutant.name);
        }
    }
    println!("{table}");
    assert!(passed.is_empty(), "no check caught {passed:?}");
}

#[test]
fn f64() {
    every_mutant_is_caught(Dtype::F64);
}

#[test]
fn f32() {
    every_mutant_is_caught(Dtype::F32);
}

#[test]
fn f16() {
    every_mutant_is_caught(Dtype::F16);
}

#[test]
fn bf16() {
    every_mutant_is_caught(Dtype::Bf16);
}
