//! The handwritten digits that are part of the program; `data/README.md` says where they come from and `data/make_digits.py` how they were made.

use super::dataset::Dataset;
use super::idx;
use crate::error::Result;

const IMAGES: &[u8] = include_bytes!("../../data/digits-images.idx3-ubyte.gz");
const LABELS: &[u8] = include_bytes!("../../data/digits-labels.idx1-ubyte.gz");

/// Pixels run from 0 to 16.
const FULL_SCALE: f32 = 16.0;

pub fn load() -> Result<Dataset> {
    let images = idx::decode("the built-in images", IMAGES, idx::IMAGES)?;
    let labels = idx::decode("the built-in labels", LABELS, idx::LABELS)?;
    let mut digits = idx::dataset(images, labels, FULL_SCALE)?;
    digits.about = "Handwritten digits, 8×8 pixels: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, \
                    UCI Machine Learning Repository, doi:10.24432/C50P49, CC BY 4.0."
        .to_string();
    Ok(digits)
}

#[cfg(test)]
mod tests {
    use crate::data::Features;

    #[test]
    fn the_digits_are_all_there() {
        let digits = super::load().unwrap();
        assert_eq!((digits.labels.len(), digits.width, digits.classes.len()), (1797, 64, 10));
        let mut counts = [0; 10];
        digits.labels.iter().for_each(|&label| counts[label as usize] += 1);
        assert_eq!(counts, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
        let Features::Bytes { values, .. } = digits.features else { panic!("expected bytes") };
        assert_eq!(values.iter().max(), Some(&16));
        // The first image is a zero: an empty middle in a ring.
        assert_eq!(values[16..24], [0, 3, 15, 2, 0, 11, 8, 0]);
    }
}
