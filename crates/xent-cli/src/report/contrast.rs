//! Differences to a baseline with their intervals: a dot plot that is read from left to right, and
//! one line that says what they amount to.

use maud::{Markup, html};

/// The most names in a sentence.
const NAMED: usize = 3;

/// What a difference amounts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// A difference for the better, beyond the noise.
    Better,
    /// One for the worse.
    Worse,
    /// None that can be told from noise.
    Unclear,
}

impl Judgement {
    fn new(difference: f64, higher_is_better: bool, beyond_noise: bool) -> Self {
        match beyond_noise && difference != 0.0 {
            false => Self::Unclear,
            true if (difference > 0.0) == higher_is_better => Self::Better,
            true => Self::Worse,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::Unclear => "unclear",
        }
    }
}

/// How one of several things differs from the baseline.
#[derive(Debug, Clone)]
pub struct Contrast {
    /// What it is.
    pub name: String,
    /// The difference.
    pub difference: f64,
    /// Its 95 % interval.
    pub interval: Option<(f64, f64)>,
    /// Whether the difference is more than noise.
    pub beyond_noise: bool,
}

/// The differences of one measure.
#[derive(Debug, Clone)]
pub struct Contrasts {
    /// The measure.
    pub measure: &'static str,
    /// What the others are compared with.
    pub baseline: String,
    /// Whether more of it is better.
    pub higher_is_better: bool,
    /// What the plot multiplies it by.
    pub factor: f64,
    /// Its unit after that, with a space before it.
    pub unit: &'static str,
    /// Its decimals.
    pub decimals: usize,
    /// The things that are compared with the baseline.
    pub rows: Vec<Contrast>,
}

impl Contrasts {
    /// One line: which differ for the better or for the worse, and by how much.
    pub fn sentence(&self) -> String {
        let mut parts = Vec::new();
        let mut unclear = self.rows.len();
        for judgement in [Judgement::Better, Judgement::Worse] {
            let mut rows: Vec<&Contrast> =
                self.rows.iter().filter(|row| self.judgement(row) == judgement).collect();
            unclear -= rows.len();
            let say = |row: &Contrast| {
                format!("{} ({}{})", row.name, self.signed(row.difference), self.unit)
            };
            let names: Vec<String> = rows.iter().map(|row| say(row)).collect();
            rows.sort_by(|a, b| b.difference.abs().total_cmp(&a.difference.abs()));
            match (rows.first(), rows.len()) {
                (None, _) => {}
                (Some(_), ..=NAMED) => {
                    parts.push(format!("{} with {}", judgement.word(), names.join(", ")));
                }
                (Some(most), count) => {
                    parts.push(format!(
                        "{} with {count}, most with {}",
                        judgement.word(),
                        say(most)
                    ));
                }
            }
        }
        match (parts.is_empty(), unclear) {
            (true, _) => parts.push("no difference beyond the noise".to_string()),
            (false, 0) => {}
            (false, _) => parts.push("the rest is within the noise".to_string()),
        }
        format!("{} against {}: {}.", self.measure, self.baseline, parts.join("; "))
    }

    fn judgement(&self, row: &Contrast) -> Judgement {
        Judgement::new(row.difference, self.higher_is_better, row.beyond_noise)
    }

    fn signed(&self, value: f64) -> String {
        let text = format!("{:+.*}", self.decimals, self.factor * value);
        let nothing = text[1..].bytes().all(|byte| matches!(byte, b'0' | b'.'));
        if nothing { text[1..].to_string() } else { text.replace('-', "−") }
    }

    /// The plot: a strip per thing, all on one scale that has 0.
    pub fn to_html(&self) -> Markup {
        let ends = self.rows.iter().flat_map(|row| {
            let (low, high) = row.interval.unwrap_or((row.difference, row.difference));
            [low, high, row.difference]
        });
        let ends = ends.filter(|end| end.is_finite());
        let (low, high) = ends.fold((0f64, 0f64), |(low, high), end| (low.min(end), high.max(end)));
        // At least what the numbers show, so that rounding errors do not fill the plot.
        let width = (high - low).max(10f64.powi(-(self.decimals as i32)) / self.factor);
        // A margin, so that dots at the ends are whole.
        let place = |value: f64| format!("{:.2}%", 4.0 + 92.0 * (value - low) / width);
        let direction = if self.higher_is_better { "higher" } else { "lower" };
        html! {
            figure.contrasts {
                figcaption { (self.measure) " " small { "(" (direction) " is better)" } }
                @for row in &self.rows {
                    @let word = self.judgement(row).word();
                    div.contrast {
                        span.name { (row.name) }
                        svg class=(word) aria-hidden="true" {
                            line.zero x1=(place(0.0)) x2=(place(0.0)) y1="0" y2="100%" {}
                            @if let Some((from, to)) = row.interval {
                                line x1=(place(from)) x2=(place(to)) y1="50%" y2="50%" {}
                            }
                            @if row.difference.is_finite() {
                                circle cx=(place(row.difference)) cy="50%" r="5" {}
                            }
                        }
                        span.value {
                            (self.signed(row.difference)) (self.unit)
                            @if let Some((from, to)) = row.interval {
                                " " small { "[" (self.signed(from)) ", " (self.signed(to)) "]" }
                            }
                            " " span class=(word) { (word) }
                        }
                    }
                }
            }
        }
    }
}

/// The plots of all measures, side by side as far as the page's width allows.
pub fn dot_plots(contrasts: &[Contrasts]) -> Markup {
    html! { div.plots { @for contrasts in contrasts { (contrasts.to_html()) } } }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contrasts(differences: &[(f64, bool)]) -> Contrasts {
        let row = |(index, (difference, beyond_noise)): (usize, &(f64, bool))| Contrast {
            name: format!("m{index}"),
            difference: *difference,
            interval: difference.is_finite().then_some((difference - 0.1, difference + 0.1)),
            beyond_noise: *beyond_noise,
        };
        Contrasts {
            measure: "NLL",
            baseline: "b".into(),
            higher_is_better: false,
            factor: 1.0,
            unit: "",
            decimals: 2,
            rows: differences.iter().enumerate().map(row).collect(),
        }
    }

    #[test]
    fn the_sentence_says_what_is_beyond_the_noise() {
        let say = |differences: &[(f64, bool)]| contrasts(differences).sentence();
        assert_eq!(
            say(&[(-0.5, false), (0.1, false)]),
            "NLL against b: no difference beyond the noise."
        );
        assert_eq!(
            say(&[(-0.5, true), (0.25, true), (0.0, true)]),
            "NLL against b: better with m0 (−0.50); worse with m1 (+0.25); the rest is within the noise."
        );
        assert_eq!(
            say(&[(-0.1, true), (-0.2, true), (-0.4, true), (-0.3, true)]),
            "NLL against b: better with 4, most with m2 (−0.40)."
        );
        let accuracy = Contrasts {
            factor: 100.0,
            unit: " points",
            higher_is_better: true,
            ..contrasts(&[(-0.5, true)])
        };
        assert_eq!(accuracy.sentence(), "NLL against b: worse with m0 (−50.00 points).");
    }

    #[test]
    fn the_plot_has_every_difference_on_one_scale() {
        let html = contrasts(&[(-0.3, true), (0.4, false)]).to_html().into_string();
        // From −0.4 to 0.5: 0 is at 4 + 92·4/9 %.
        assert_eq!(html.matches("x1=\"44.89%\"").count(), 2, "{html}");
        assert!(html.contains("cx=\"14.22%\"") && html.contains("cx=\"85.78%\""), "{html}");
        assert!(html.contains("−0.30 <small>[−0.40, −0.20]</small>"), "{html}");
        // What the numbers do not show is no picture either.
        let small = contrasts(&[(1e-9, false)]);
        let rows = vec![Contrast { interval: None, ..small.rows[0].clone() }];
        let html = Contrasts { rows, ..small }.to_html().into_string();
        assert!(html.contains("cx=\"4.00%\"") && html.contains("x1=\"4.00%\""), "{html}");
        for bad in [f64::NAN, f64::INFINITY] {
            let html = contrasts(&[(bad, false), (0.5, true)]).to_html().into_string();
            assert!(!html.contains("NaN%") && !html.contains("inf%"), "{html}");
        }
    }
}
