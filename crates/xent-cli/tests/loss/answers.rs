//! The known answers of SEMANTICS.md, by options alone.

use crate::array_folder::{ArrayFolder, close};

const NLL: [f64; 4] = [0.3423495824, 0.1755153626, 0.0, 1.6265233750];

#[test]
fn uniform() {
    let place = ArrayFolder::new();
    let rows = place.json("--ignore-index -100 --epsilon 0.1 --reduction none");
    close(&rows["nll"], &NLL);
    close(&rows["loss"], &[0.5048495824, 0.4255153626, 0.0, 1.6265233750]);
    close(
        &place.json("--ignore-index -100 --epsilon 0.1 --reduction sum")["loss"],
        &[2.5568883200],
    );
    let mean = place.json("--ignore-index -100 --epsilon 0.1 --prior uniform");
    close(&mean["loss"], &[0.8522961067]);
    close(&mean["denominator"], &[3.0]);
    assert_eq!(
        (&mean["correct"], &mean["ignored"], &mean["non_finite"]),
        (&2.into(), &1.into(), &0.into())
    );
    assert_eq!((&mean["rows"], &mean["classes"]), (&4.into(), &4.into()));
}

#[test]
fn no_smoothing_unless_asked_for() {
    let place = ArrayFolder::new();
    let rows = place.json("--ignore-index -100 --reduction none");
    close(&rows["loss"], &NLL);
    close(&rows["smoothing"], &[0.0; 4]);
    close(&place.json("--ignore-index -100 --prior uniform")["loss"], &[0.8522961067]); // a prior asks for ε = 0.1
    close(
        &place.json("--ignore-index -100 --prior uniform --epsilon 0")["loss"],
        &[NLL.iter().sum::<f64>() / 3.0],
    );
}

#[test]
fn wrong_classes() {
    let place = ArrayFolder::new();
    let options = "--ignore-index -100 --prior wrong_classes";
    close(
        &place.json(&format!("{options} --reduction none"))["loss"],
        &[0.5590162491, 0.5088486960, 0.0, 1.6265233750],
    );
    close(&place.json(&format!("{options} --reduction sum"))["loss"], &[2.6943883200]);
    close(&place.json(options)["loss"], &[0.8981294400]);
    close(
        &place.json(&format!("{options} --form kl_divergence --denominator rows"))["loss"],
        &[0.3473889283],
    );
}

#[test]
fn excluding() {
    let place = ArrayFolder::new();
    for options in [
        "--ignore-index -100 --exclude 2",
        "--ignore-index -100 --exclude 2,2 --prior wrong_classes --epsilon 0.1",
    ] {
        close(
            &place.json(&format!("{options} --reduction none"))["loss"],
            &[0.5923495824, 0.4255153626, 0.0, 1.6265233750],
        );
        close(&place.json(&format!("{options} --reduction sum"))["loss"], &[2.6443883200]);
        close(
            &place.json(&format!("{options} --reduction sum --form kl_divergence"))["loss"],
            &[1.4611952457],
        );
    }
}

#[test]
fn class_weights() {
    let place = ArrayFolder::new();
    let options = "--ignore-index -100 --epsilon 0.1 --class-weights w.npy";
    close(&place.json(&format!("{options} --reduction sum"))["loss"], &[4.6644612803]);
    let mean = place.json(&format!("{options} --class-weighting per_class"));
    close(&mean["loss"], &[0.7774102134]);
    close(&mean["denominator"], &[6.0]);
    close(&place.json(&format!("{options} --class-weighting per_row"))["loss"], &[0.8390737367]);
}

#[test]
fn probabilities() {
    let mut one_hot = [0.0; 16];
    (one_hot[0], one_hot[7], one_hot[8], one_hot[13]) = (1.0, 1.0, f64::NAN, 1.0); // the ignored row is never read
    let place = ArrayFolder::new().f64("y", &[4, 4], &one_hot).bool(
        "m",
        &[4],
        &[false, false, true, false],
    );
    let mean = place.json("--ignored-rows m.npy --epsilon 0.1 --class-weights w.npy");
    close(&mean["loss"], &[1.5548204268]);
    close(&mean["denominator"], &[3.0]);
}

#[test]
fn denominators() {
    let place = ArrayFolder::new();
    let options = "--ignore-index -100 --epsilon 0.1 --denominator";
    for (denominator, expected) in
        [("pytorch", 3.0), ("kept_rows", 3.0), ("rows", 4.0), ("12.5", 12.5)]
    {
        let mean = place.json(&format!("{options} {denominator}"));
        close(&mean["denominator"], &[expected]);
        close(&mean["loss"], &[2.5568883200 / expected]);
    }
    close(
        &place.json(&format!("{options} kept_rows --class-weights w.npy"))["loss"],
        &[4.6644612803 / 3.0],
    );
}

#[test]
fn aliases_mean_the_same() {
    let place = ArrayFolder::new().bool("a", &[4], &[true; 4]);
    for (canonical, alias) in [
        (
            "--prior wrong_classes --form kl_divergence --denominator kept_rows",
            "--prior others --form kl --denominator kept",
        ),
        (
            "--prior wrong_classes --form kl_divergence",
            "--prior wrong-classes --form kl-divergence",
        ),
        (
            "--class-weights w.npy --class-weighting per_row",
            "--class-weights w.npy --weighting row",
        ),
        (
            "--class-weights w.npy --class-weighting per_class",
            "--class-weights w.npy --weighting pytorch",
        ),
        (
            "--form cross_entropy --denominator rows --masked renormalise",
            "--form ce --denominator all --masked renormalize",
        ),
        ("--allowed-classes a.npy --epsilon 0.1", "--allowed a.npy --label-smoothing 0.1"),
    ] {
        let answer = |options: &str| place.json(&format!("--ignore-index -100 {options}"));
        assert_eq!(answer(canonical), answer(alias), "{alias}");
    }
}
