//! What the numbers say about the files: that labels and logits may not belong together.

use xent_metrics::Scored;

/// Standard deviations that are more than chance.
const FAR: f64 = 2.5;

/// What should be looked at before the numbers are believed.
pub fn remarks(scored: &Scored) -> Vec<String> {
    shifted(scored).or_else(|| worse_than_chance(scored)).into_iter().collect()
}

/// Whether labels that are all one less, or one more, would fit far better.
fn shifted(scored: &Scored) -> Option<String> {
    let (rows, accuracy) = (scored.rows as f64, scored.accuracy.value);
    let fits = |share: &f64| {
        let chance = FAR * (share / rows).sqrt();
        share - accuracy > accuracy.max(0.1).max(chance)
    };
    let better = |(shift, share): (&str, Option<f64>)| {
        share.filter(fits).map(|share| {
            format!(
                "The labels seem to be shifted by one: {:.2} % of the rows would be right if every label were one {shift}, {:.2} % are.",
                100.0 * share,
                100.0 * accuracy
            )
        })
    };
    ["less", "more"].into_iter().zip(scored.shifted).find_map(better)
}

/// Whether fewer rows are right than if labels and predictions had nothing to do with one another.
fn worse_than_chance(scored: &Scored) -> Option<String> {
    let (rows, accuracy) = (scored.rows as f64, scored.accuracy.value);
    let pairs = scored.classes.iter().map(|class| class.rows as f64 * class.predicted as f64);
    let chance = pairs.sum::<f64>() / (rows * rows);
    let deviation = (chance * (1.0 - chance) / rows).sqrt();
    (accuracy < chance / 2.0 && accuracy + FAR * deviation < chance).then(|| {
        format!(
            "The accuracy is {:.2} %, far below the {:.2} % of labels in random order: the labels may be in another order than the rows, the classes in another order than the labels, or the numbers may be distances, of which the smallest is the best.",
            100.0 * accuracy,
            100.0 * chance
        )
    })
}
