//! Where logits lie in memory.

use serde::{Deserialize, Serialize};

/// How the backend is to find the logits in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Layout {
    /// The axes of `shape` from the outermost in memory to the innermost; empty: C order.
    pub order: Vec<usize>,
    /// Unused elements before the first logit.
    pub offset: usize,
    /// Unused elements after each one of the innermost axis.
    pub gap: usize,
    /// Unused elements after each run over the innermost axis.
    pub padding: usize,
}

impl Layout {
    /// The distance in elements between neighbours along each axis of `shape`.
    pub fn strides(&self, shape: &[usize]) -> Vec<usize> {
        let mut strides = vec![0; shape.len()];
        let mut stride = 1 + self.gap;
        for (inner, &axis) in self.axes(shape.len()).iter().rev().enumerate() {
            strides[axis] = stride;
            stride *= shape[axis].max(1);
            if inner == 0 {
                stride += self.padding;
            }
        }
        strides
    }

    /// Elements that a buffer needs so that every logit lies in it, unused ones included.
    pub fn buffer_len(&self, shape: &[usize]) -> usize {
        if shape.contains(&0) {
            return self.offset;
        }
        let last: usize = shape
            .iter()
            .zip(self.strides(shape))
            .map(|(&extent, stride)| (extent - 1) * stride)
            .sum();
        self.offset + last + 1
    }

    /// Where in the buffer the element number `position` (in C order of `shape`) lies.
    pub fn place(&self, shape: &[usize], mut position: usize) -> usize {
        let mut place = self.offset;
        for (&extent, stride) in shape.iter().zip(self.strides(shape)).rev() {
            place += position % extent * stride;
            position /= extent;
        }
        place
    }

    fn axes(&self, rank: usize) -> Vec<usize> {
        if self.order.is_empty() { (0..rank).collect() } else { self.order.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Case;

    #[test]
    fn layout_places_each_logit_once() {
        let layout = Layout { order: vec![2, 0, 1], offset: 3, gap: 1, padding: 2 };
        let shape = [2, 3, 2];
        assert_eq!(layout.strides(&shape), [8, 2, 16]);
        let case = Case {
            shape: shape.to_vec(),
            axis: 1,
            logits: (0..12).map(f64::from).collect(),
            layout,
            ..Case::default()
        };
        let buffer = case.buffer(f64::NAN);
        assert_eq!(buffer.len(), 3 + 8 + 4 + 16 + 1);
        let mut found: Vec<f64> = buffer.iter().copied().filter(|value| !value.is_nan()).collect();
        found.sort_by(f64::total_cmp);
        assert_eq!(found, case.logits);
        assert_eq!(buffer[3 + 8 + 2 * 2], 10.0);
        assert!(buffer[..3].iter().all(|value| value.is_nan()));
    }

    #[test]
    fn an_empty_batch_needs_no_buffer() {
        let layout = Layout { offset: 5, ..Layout::default() };
        assert_eq!(layout.buffer_len(&[0, 4]), 5);
        assert_eq!(Case { shape: vec![0, 4], axis: 1, ..Case::default() }.row_count(), 0);
    }
}
