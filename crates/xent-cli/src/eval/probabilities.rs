//! Probabilities in place of logits. Their softmax is nearly uniform, so metrics of them as logits
//! are wrong without a sign of it.

use xent_arrays::Floats;

use crate::data::is_distribution;

/// Decoded numbers in double precision.
pub fn doubles(floats: &Floats) -> Vec<f64> {
    match floats {
        Floats::F64(values) => values.clone(),
        Floats::F32(values) => values.iter().map(|value| f64::from(*value)).collect(),
        Floats::Encoded(..) => Vec::new(),
    }
}

/// Whether every row is in [0, 1] and sums to 1.
pub fn are_likely(floats: &Floats, classes: usize) -> bool {
    doubles(floats).chunks(classes).all(is_distribution)
}

/// The logits of probabilities: their logarithms. An error is the first row that has none.
pub fn logits(floats: &Floats, classes: usize) -> Result<Floats, usize> {
    let mut values = doubles(floats);
    if let Some(row) = values.chunks(classes).position(|row| !is_distribution(row)) {
        return Err(row);
    }
    values.iter_mut().for_each(|p| *p = p.ln());
    Ok(Floats::F64(values))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_told_from_logits() {
        let rows = |values: &[f64]| Floats::F64(values.to_vec());
        assert!(are_likely(&rows(&[0.25, 0.75, 1.0, 0.0]), 2));
        assert!(are_likely(&Floats::F32(vec![0.3334, 0.3333, 0.3333]), 3));
        for logits in [&[0.25, 0.75, 0.5, 0.4][..], &[-0.25, 1.25], &[f64::NAN, 1.0]] {
            assert!(!are_likely(&rows(logits), 2), "{logits:?}");
            assert_eq!(super::logits(&rows(logits), 2).err(), Some(logits.len() / 2 - 1));
        }
        let Ok(Floats::F64(found)) = logits(&rows(&[0.25, 0.75, 1.0, 0.0]), 2) else { panic!() };
        assert_eq!(found, [0.25f64.ln(), 0.75f64.ln(), 0.0, f64::NEG_INFINITY]);
    }
}
