//! Images, with the classes on axis 1: [N, K, H, W], as convolutions leave them. Nothing is
//! transposed or copied, and the gradient has the layout of the logits.

use xent::{Batch, Config, Rows, RowsMut};

const SHAPE: [usize; 4] = [2, 3, 4, 5]; // 2 images of 3 classes, 4 × 5 pixels
const UNLABELLED: u8 = 255;

pub(crate) fn main() -> xent::Result<()> {
    let [images, classes, height, width] = SHAPE;
    let pixels = images * height * width;
    let logits: Vec<f32> = (0..pixels * classes).map(|i| (i * 29 % 17) as f32 / 4.0).collect();
    // One label per pixel, [N, H, W]; the first of every row of pixels is not labelled.
    let labels: Vec<u8> = (0..pixels)
        .map(|i| if i % width == 0 { UNLABELLED } else { (i % classes) as u8 })
        .collect();

    let criterion = Config::new().label_smoothing(0.05).ignore_index(UNLABELLED.into()).build()?;
    let mut gradient = vec![f32::NAN; logits.len()];
    let output = criterion.forward_backward(
        &Rows::with_axis(&logits, &SHAPE, 1)?,
        Batch::new(&labels).predictions(true),
        1.0,
        &mut RowsMut::with_axis(&mut gradient, &SHAPE, 1)?,
    )?;
    println!(
        "loss {:.4} over {} of {} pixels, {:.0} % correct",
        output.loss,
        output.rows - output.ignored,
        output.rows,
        100.0 * output.accuracy()
    );
    assert_eq!((output.rows, output.ignored), (40, 8));

    println!("predicted in the first image (-1: not labelled):");
    for line in output.predicted[..height * width].chunks_exact(width) {
        println!("{line:3?}");
    }
    assert!(output.predicted.iter().zip(&labels).all(|(p, l)| (*p == -1) == (*l == UNLABELLED)));

    // The pixel (0, 0) of the first image is not labelled; (0, 1) is, and its gradients over the
    // classes sum to 0. Classes are height · width entries apart.
    let of_classes = |pixel: usize| (0..classes).map(move |k| pixel + k * height * width);
    assert!(of_classes(0).all(|i| gradient[i] == 0.0));
    assert!(of_classes(1).map(|i| gradient[i]).sum::<f32>().abs() < 1e-7);
    assert!(of_classes(1).any(|i| gradient[i] != 0.0));
    Ok(())
}
