//! More than 2³¹ elements: offsets beyond 32 bits. Needs 4.3 GB: `cargo test --release -p xent
//! --test large -- --ignored`.

use xent::{Config, Reduction, Rows, RowsMut, bf16};

#[test]
#[ignore = "slow: 4.3 GB of logits"]
fn rows_beyond_2_to_the_31_elements_are_as_rows_alone() {
    let (rows, classes) = (8193, 262_144);
    let logit = |row: usize, class: usize| {
        bf16::from_f32(((row * 31 + class * 17) % 1009) as f32 / 64.0 - 8.0)
    };
    let mut logits: Vec<bf16> =
        (0..rows).flat_map(|row| (0..classes).map(move |class| logit(row, class))).collect();
    assert!(logits.len() > 1 << 31);
    let targets: Vec<u32> = (0..rows as u32).map(|row| (row * 31) % classes as u32).collect();
    let criterion = Config::new().label_smoothing(0.1).reduction(Reduction::None).build().unwrap();
    let output = criterion
        .forward_backward_in_place(&mut RowsMut::new(&mut logits, classes).unwrap(), &targets, 1.0)
        .unwrap();
    for row in [0, 1, 4095, rows - 2, rows - 1] {
        let alone: Vec<bf16> = (0..classes).map(|class| logit(row, class)).collect();
        let mut grad = vec![bf16::ZERO; classes];
        let mut view = RowsMut::new(&mut grad, classes).unwrap();
        let expected = criterion
            .forward_backward(
                &Rows::new(&alone, classes).unwrap(),
                &targets[row..=row],
                1.0,
                &mut view,
            )
            .unwrap();
        assert_eq!(output.loss.as_slice()[row], expected.loss.as_slice()[0], "loss of row {row}");
        assert!(logits[row * classes..][..classes] == grad, "gradient of row {row}");
        assert!(grad.iter().any(|g| g.to_f32() < -0.5), "the target's entry of row {row}");
    }
}
