//! The chart that compares confidences with the share of right rows.

use xent_metrics::{Bin, Reliability};

use super::chart::{Axis, Chart, Ink, Mark, Stroke};

/// The share of right rows against the mean confidence: one dot per bin, with 95 % intervals.
pub fn reliability_chart(title: String, alt: String, kinds: &[(Ink, Reliability)]) -> Chart {
    let mut marks = vec![Mark::Line(Ink::Reference, Stroke::Dashed, vec![(0.0, 0.0), (1.0, 1.0)])];
    for (ink, reliability) in kinds {
        let filled = || reliability.bins.iter().filter(|bin| bin.rows > 0);
        let interval = |bin: &Bin| {
            (bin.mean_confidence(), bin.accuracy_interval().0, bin.accuracy_interval().1)
        };
        marks.push(Mark::Whiskers(*ink, filled().map(interval).collect()));
        // Area by number of rows, so that a bin with two rows in it does not look like one with a
        // thousand.
        let radius = |bin: &Bin| 2.0 + 6.0 * (bin.rows as f64 / reliability.rows() as f64).sqrt();
        marks.push(Mark::Dots(
            *ink,
            filled().map(|bin| (bin.mean_confidence(), bin.accuracy(), radius(bin))).collect(),
        ));
    }
    Chart {
        title,
        alt,
        x: Axis::linear("confidence", 0.0..1.0),
        y: Axis::linear("share right", 0.0..1.0),
        marks,
    }
}
