//! Which axis of an array has the classes.

use crate::error::Problem;
use crate::npy::Shape;

/// The axis of logits that has the classes: the one that is wanted, or the one that their labels
/// lack, or the last.
pub fn class_axis(
    logits: &[usize],
    labels: Option<&[usize]>,
    wanted: Option<isize>,
) -> Result<usize, Problem> {
    let axes = logits.len();
    let wanted = match wanted {
        None => None,
        Some(axis) => {
            let front = if axis < 0 { axis.checked_add_unsigned(axes) } else { Some(axis) };
            let front = front.and_then(|axis| usize::try_from(axis).ok());
            Some(
                front
                    .filter(|axis| *axis < axes)
                    .ok_or_else(|| Problem(format!("shape {}: no axis {axis}", Shape(logits))))?,
            )
        }
    };
    let last = axes.saturating_sub(1);
    // Labels of fewer axes are in the order of the rows.
    let Some(labels) = labels.filter(|labels| axes > 2 && labels.len() == last) else {
        return Ok(wanted.unwrap_or(last));
    };
    let lacked = |axis: usize, from: usize| {
        logits[from..axis] == labels[from..axis] && logits[axis + 1..] == labels[axis..]
    };
    let possible = |from: usize| -> Vec<usize> {
        let wanted = |axis: &usize| wanted.is_none_or(|wanted| *axis == wanted);
        (from..axes).filter(wanted).filter(|axis| lacked(*axis, from)).collect()
    };
    let mut fitting = possible(0);
    if fitting.is_empty() {
        // Labels that continue from file to file are longer on their first axis.
        fitting = possible(1);
    }
    match fitting[..] {
        [only] => Ok(only),
        [] => {
            let axis = wanted.map_or("any of its axes".to_string(), |axis| format!("axis {axis}"));
            Err(Problem(format!(
                "shape {} without {axis} is not that of the labels, {}",
                Shape(logits),
                Shape(labels)
            )))
        }
        [.., last] => {
            let others: Vec<String> =
                fitting[..fitting.len() - 1].iter().map(usize::to_string).collect();
            Err(Problem(format!(
                "shape {}, with labels of shape {}: the classes may be on axis {} or {last}; --axis says which",
                Shape(logits),
                Shape(labels),
                others.join(", ")
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_on_the_axis_that_labels_lack() {
        let axis = |logits: &[usize], labels: Option<&[usize]>, wanted| {
            class_axis(logits, labels, wanted).map_err(|problem| problem.to_string())
        };
        assert_eq!(axis(&[8, 5], Some(&[8]), None), Ok(1));
        assert_eq!(axis(&[5, 5], Some(&[5]), None), Ok(1));
        assert_eq!(axis(&[5, 8], Some(&[8]), Some(0)), Ok(0));
        assert_eq!(axis(&[2, 3, 4, 5], Some(&[2, 4, 5]), None), Ok(1));
        assert_eq!(axis(&[2, 3, 4, 5], Some(&[2, 3, 4]), None), Ok(3));
        assert_eq!(axis(&[2, 3, 4, 5], Some(&[24]), None), Ok(3));
        assert_eq!(axis(&[2, 3, 4, 5], Some(&[6, 4, 5]), None), Ok(1));
        assert_eq!(axis(&[2, 3, 4, 5], None, Some(-3)), Ok(1));
        assert_eq!(
            axis(&[2, 4, 4, 4], Some(&[2, 4, 4]), None),
            Err("shape (2, 4, 4, 4), with labels of shape (2, 4, 4): the classes may be on axis 1, 2 or 3; --axis says which".to_string())
        );
        assert_eq!(axis(&[2, 4, 4, 4], Some(&[2, 4, 4]), Some(1)), Ok(1));
        for (labels, wanted, says) in [
            (&[2, 4, 3][..], None, "without any of its axes"),
            (&[2, 4, 5], Some(3), "without axis 3 is not that of the labels, (2, 4, 5)"),
            (&[2, 4, 5], Some(4), "no axis 4"),
            (&[2, 4, 5], Some(-5), "no axis -5"),
            (&[2, 4, 5], Some(isize::MIN), "no axis"),
        ] {
            let said = axis(&[2, 3, 4, 5], Some(labels), wanted).unwrap_err();
            assert!(said.contains(says), "{said}");
        }
        assert!(axis(&[], None, Some(0)).is_err());
    }
}
