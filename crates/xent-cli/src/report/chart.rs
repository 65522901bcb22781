//! Charts as SVG within the page. They are drawn in stand-in colours that are then replaced by the
//! style sheet's variables, so one drawing serves light and dark pages.

use std::ops::Range;

use maud::{Markup, PreEscaped, html};
use plotters::chart::ChartContext;
use plotters::coord::ranged1d::{Ranged, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use crate::error::{Error, Result};

/// The largest size of a chart, in the page's pixels.
const SIZE: (u32, u32) = (340, 240);
/// Pixels of the drawing per pixel of the page: the drawing's coordinates are whole numbers.
const FINE: u32 = 4;

/// A colour of the style sheet, named for what it shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ink {
    /// Axes and their labels.
    Text,
    /// The lines behind everything.
    Grid,
    /// A reference to compare with.
    Reference,
    /// The first of two things that are compared.
    First,
    /// The second.
    Second,
}

impl Ink {
    const ALL: [Self; 5] = [Self::Text, Self::Grid, Self::Reference, Self::First, Self::Second];

    /// The style sheet's name for it.
    fn variable(self) -> &'static str {
        match self {
            Self::Text => "var(--ink-2)",
            Self::Grid => "var(--grid)",
            Self::Reference => "var(--reference)",
            Self::First => "var(--first)",
            Self::Second => "var(--second)",
        }
    }

    /// The colour that stands for it in the drawing.
    fn stand_in(self) -> RGBColor {
        RGBColor(1, 0, 1 + self as u8)
    }
}

/// How a line is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stroke {
    /// Without gaps.
    Solid,
    /// With gaps.
    Dashed,
}

/// Something in a chart.
#[derive(Debug, Clone)]
pub enum Mark {
    /// A line through points.
    Line(Ink, Stroke, Vec<(f64, f64)>),
    /// An area between a low and a high at each x.
    Band(Ink, Vec<(f64, f64, f64)>),
    /// Thin vertical lines from a low to a high at x.
    Whiskers(Ink, Vec<(f64, f64, f64)>),
    /// Filled circles at points, with radii in pixels.
    Dots(Ink, Vec<(f64, f64, f64)>),
    /// Bars from 0 up: left, right, height.
    Bars(Ink, Vec<(f64, f64, f64)>),
}

/// One axis.
#[derive(Debug, Clone)]
pub struct Axis {
    /// What it measures.
    pub label: String,
    /// The range that is drawn.
    pub range: Range<f64>,
    /// Whether the scale is logarithmic; for the y axis only.
    pub logarithmic: bool,
}

/// A chart of a small multiple.
#[derive(Debug, Clone)]
pub struct Chart {
    /// How it differs from its neighbours.
    pub title: String,
    /// What it shows, for readers who cannot see it.
    pub alt: String,
    /// Left to right.
    pub x: Axis,
    /// Bottom to top.
    pub y: Axis,
    /// From back to front.
    pub marks: Vec<Mark>,
}

impl Axis {
    /// A linear axis.
    pub fn linear(label: &str, range: Range<f64>) -> Self {
        Self { label: label.to_string(), range, logarithmic: false }
    }

    /// A logarithmic axis, down to the next power of ten, so that at least one is labelled.
    pub fn logarithmic(label: &str, range: Range<f64>) -> Self {
        // A little below, so that rounding does not exclude the power itself.
        let from = 0.999 * 10f64.powf(range.start.log10().floor());
        Self { label: label.to_string(), range: from..range.end.max(2.0 * from), logarithmic: true }
    }
}

impl Chart {
    /// As SVG in the page's colours.
    pub fn to_svg(&self) -> Result<Markup> {
        let mut svg = String::new();
        self.draw(&mut svg)
            .map_err(|error| Error::failed(format!("drawing {:?}: {error}", self.title)))?;
        for ink in Ink::ALL {
            let RGBColor(red, green, blue) = ink.stand_in();
            svg = svg.replace(&format!("#{red:02X}{green:02X}{blue:02X}"), ink.variable());
        }
        // The page decides the size; the viewBox keeps the proportions.
        let sized = format!(r#"<svg width="{}" height="{}""#, SIZE.0 * FINE, SIZE.1 * FINE);
        let label = html! { svg role="img" aria-label=(self.alt) {} }.into_string();
        let opening = label.trim_end_matches("></svg>");
        Ok(PreEscaped(svg.replacen(&sized, opening, 1)))
    }

    fn draw(&self, svg: &mut String) -> std::result::Result<(), Box<dyn std::error::Error + '_>> {
        let root = SVGBackend::with_string(svg, (SIZE.0 * FINE, SIZE.1 * FINE)).into_drawing_area();
        let mut builder = ChartBuilder::on(&root);
        builder
            .margin_top(8 * FINE)
            .margin_right(10 * FINE)
            .x_label_area_size(40 * FINE)
            .y_label_area_size(54 * FINE);
        let (x, y) = (self.x.range.clone(), self.y.range.clone());
        if self.y.logarithmic {
            self.draw_on(&mut builder.build_cartesian_2d(x, y.log_scale())?, &power_of_ten)?;
        } else {
            self.draw_on(&mut builder.build_cartesian_2d(x, y)?, &plain)?;
        }
        root.present()?;
        Ok(())
    }

    fn draw_on<'a, Y: Ranged<ValueType = f64> + ValueFormatter<f64>>(
        &self,
        context: &mut ChartContext<'a, SVGBackend<'_>, Cartesian2d<RangedCoordf64, Y>>,
        y_label: &dyn Fn(&f64) -> String,
    ) -> std::result::Result<(), Box<dyn std::error::Error + 'a>> {
        let text = |size: u32| ("sans-serif", size * FINE).into_font().color(&Ink::Text.stand_in());
        context
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(Ink::Grid.stand_in().stroke_width(FINE))
            .axis_style(Ink::Grid.stand_in().stroke_width(FINE))
            .x_labels(6)
            .y_labels(6)
            .x_label_formatter(&plain)
            .y_label_formatter(y_label)
            .x_desc(&self.x.label)
            .y_desc(&self.y.label)
            .label_style(text(15))
            .axis_desc_style(text(15))
            .set_all_tick_mark_size(3 * FINE)
            .draw()
            .map_err(|error| error.to_string())?;
        // Values beyond the axes are drawn on them; a logarithmic axis has no 0.
        let (lowest, highest) = (self.y.range.start, self.y.range.end);
        let within = |value: f64| value.clamp(lowest, highest);
        for mark in &self.marks {
            let drawn = match mark {
                Mark::Line(ink, stroke, points) => {
                    let points: Vec<(f64, f64)> =
                        points.iter().map(|&(x, y)| (x, within(y))).collect();
                    let style = ink.stand_in().stroke_width(2 * FINE);
                    match stroke {
                        Stroke::Solid => {
                            context.draw_series(LineSeries::new(points, style)).map(drop)
                        }
                        Stroke::Dashed => context
                            .draw_series(DashedLineSeries::new(points, 6 * FINE, 5 * FINE, style))
                            .map(drop),
                    }
                }
                Mark::Band(ink, points) => {
                    let above = points.iter().map(|&(x, _, high)| (x, within(high)));
                    let below = points.iter().rev().map(|&(x, low, _)| (x, within(low)));
                    context
                        .draw_series([Polygon::new(
                            above.chain(below).collect::<Vec<_>>(),
                            ink.stand_in().mix(0.25).filled(),
                        )])
                        .map(drop)
                }
                Mark::Whiskers(ink, whiskers) => {
                    let style = ink.stand_in().mix(0.55).stroke_width(FINE + FINE / 2);
                    let lines = whiskers.iter().map(|&(x, low, high)| {
                        PathElement::new(vec![(x, within(low)), (x, within(high))], style)
                    });
                    context.draw_series(lines.collect::<Vec<_>>()).map(drop)
                }
                Mark::Dots(ink, dots) => {
                    let dots = dots.iter().map(|&(x, y, radius)| {
                        Circle::new(
                            (x, within(y)),
                            (radius * f64::from(FINE)).round() as u32,
                            ink.stand_in().filled(),
                        )
                    });
                    context.draw_series(dots.collect::<Vec<_>>()).map(drop)
                }
                Mark::Bars(ink, bars) => {
                    let bars = bars.iter().map(|&(left, right, height)| {
                        Rectangle::new(
                            [(left, within(0.0)), (right, within(height))],
                            ink.stand_in().filled(),
                        )
                    });
                    context.draw_series(bars.collect::<Vec<_>>()).map(drop)
                }
            };
            drawn.map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

/// As many decimals as the number has, up to three.
fn plain(value: &f64) -> String {
    let text = format!("{value:.3}");
    let short = text.trim_end_matches('0').trim_end_matches('.');
    if short == "-0" { "0".to_string() } else { short.to_string() }
}

/// The labels of a logarithmic axis: 0.001, 0.1, 10; other numbers have none.
fn power_of_ten(value: &f64) -> String {
    let power = value.log10();
    if (power - power.round()).abs() > 1e-9 {
        String::new()
    } else if power < -3.5 {
        format!("1e{}", power.round())
    } else {
        format!("{value:.*}", (-power.round()).max(0.0) as usize)
    }
}

/// Charts side by side, as many as the page's width allows.
pub fn small_multiples(charts: &[Chart]) -> Result<Markup> {
    let drawn: Vec<(&str, Markup)> = charts
        .iter()
        .map(|chart| Ok((chart.title.as_str(), chart.to_svg()?)))
        .collect::<Result<_>>()?;
    Ok(html! {
        div.multiples {
            @for (title, svg) in &drawn {
                figure { figcaption { (title) } (svg) }
            }
        }
    })
}

/// The two kinds of probabilities that every report compares.
pub const RAW_AND_SCALED: [(Ink, Stroke, &str); 2] =
    [(Ink::Second, Stroke::Solid, "raw"), (Ink::First, Stroke::Solid, "after temperature scaling")];

/// The legend: a sample of each mark and its name.
pub fn key(entries: &[(Ink, Stroke, &str)]) -> Markup {
    html! {
        ul.key {
            @for (ink, stroke, name) in entries {
                li {
                    svg viewBox="0 0 28 12" aria-hidden="true" {
                        line x1="1" x2="27" y1="6" y2="6" stroke=(ink.variable()) stroke-width="3" stroke-dasharray=(if *stroke == Stroke::Dashed { "7 5" } else { "none" }) {}
                    }
                    (name)
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(y: Axis) -> Chart {
        Chart {
            title: "ε = 0".into(),
            alt: "falls from 1 to \"0.1\"".into(),
            x: Axis::linear("epochs", 0.0..10.0),
            y,
            marks: vec![
                Mark::Band(Ink::First, vec![(0.0, 0.5, 1.0), (10.0, 0.05, 0.2)]),
                Mark::Line(Ink::First, Stroke::Solid, vec![(0.0, 1.0), (10.0, 0.0)]),
                Mark::Line(Ink::Reference, Stroke::Dashed, vec![(0.0, 0.5), (10.0, 0.5)]),
                Mark::Whiskers(Ink::Second, vec![(5.0, 0.4, 0.7)]),
                Mark::Dots(Ink::Second, vec![(5.0, 0.5, 3.0)]),
                Mark::Bars(Ink::Second, vec![(1.0, 2.0, 0.7)]),
            ],
        }
    }

    #[test]
    fn every_colour_is_the_style_sheets() {
        for axis in [Axis::linear("NLL", 0.0..1.0), Axis::logarithmic("NLL", 0.05..1.0)] {
            let svg = chart(axis).to_svg().unwrap().into_string();
            assert!(!svg.contains("#0") && !svg.contains("#F") && !svg.contains("NaN"), "{svg}");
            for ink in Ink::ALL {
                assert!(svg.contains(ink.variable()), "{ink:?}");
            }
            assert!(
                svg.starts_with(
                    r#"<svg role="img" aria-label="falls from 1 to &quot;0.1&quot;" viewBox="#
                ),
                "{}",
                &svg[..200]
            );
        }
    }

    #[test]
    fn axes_are_labelled_plainly() {
        assert_eq!(
            [0.0, -0.0, 0.25, 100.0, 2.5000001].map(|value| plain(&value)),
            ["0", "0", "0.25", "100", "2.5"]
        );
        assert_eq!(
            [0.001, 1.0, 100.0, 0.02].map(|value| power_of_ten(&value)),
            ["0.001", "1", "100", ""]
        );
        assert_eq!(Axis::logarithmic("", 0.02..3.0).range, 0.00999..3.0);
        assert_eq!(Axis::logarithmic("", 1.0..1.0).range, 0.999..1.998);
    }
}
