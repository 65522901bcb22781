//! The table that is printed, as wide as the terminal allows.

use comfy_table::CellAlignment;

use super::measure::Quartiles;
use super::timing::Timing;
use crate::args::word;
use crate::report::grid;

/// Head, contents, and how soon the column is left out if the table is too wide: never for 0,
/// otherwise the largest first.
pub struct Column<T> {
    head: &'static str,
    cell: fn(&T) -> String,
    dispensable: u8,
}

fn columns<'a>() -> [Column<Timing<'a>>; 13] {
    [
        column("rows", |timing| timing.case.rows.to_string(), 0),
        column("classes", |timing| timing.case.classes.to_string(), 0),
        column("dtype", |timing| word(&timing.case.dtype), 0),
        column("layout", |timing| word(&timing.case.layout), 0),
        column("threads", |timing| timing.case.threads.to_string(), 0),
        column("read\nns/element", |timing| time(&timing.measured.read), 4),
        column("copy\nns/element", |timing| time(&timing.measured.copy), 2),
        column("forward\nns/element", |timing| time(&timing.measured.forward), 0),
        column("GB/s", |timing| rate(timing.gb_per_second(&timing.measured.forward, 1)), 1),
        column("per\nread", |timing| short(timing.forward_per_read()), 3),
        column(
            "forward+\nbackward\nns/element",
            |timing| time(&timing.measured.forward_backward),
            0,
        ),
        column(
            "GB/s",
            |timing| rate(timing.gb_per_second(&timing.measured.forward_backward, 2)),
            0,
        ),
        column("per\ncopy", |timing| short(timing.forward_backward_per_copy()), 0),
    ]
}

/// A column.
pub const fn column<T>(head: &'static str, cell: fn(&T) -> String, dispensable: u8) -> Column<T> {
    Column { head, cell, dispensable }
}

/// For a terminal of this many columns.
pub fn to_text(timings: &[Timing<'_>], width: usize) -> String {
    fitted(&columns(), timings, width, CellAlignment::Right)
}

/// A row for each item, with as many columns as fit. `first` is the alignment of the first.
pub fn fitted<T>(columns: &[Column<T>], items: &[T], width: usize, first: CellAlignment) -> String {
    let most = columns.iter().map(|column| column.dispensable).max().unwrap_or(0);
    let fits = |text: &String| text.lines().all(|line| line.chars().count() <= width);
    let draw = |kept| draw(columns, items, kept, first);
    (0..=most).rev().map(draw).find(fits).unwrap_or_else(|| draw(0))
}

/// The columns that are no more dispensable than `kept`.
fn draw<T>(columns: &[Column<T>], items: &[T], kept: u8, first: CellAlignment) -> String {
    let columns = || columns.iter().filter(|column| column.dispensable <= kept);
    let lines = columns().map(|column| column.head.lines().count()).max().unwrap_or(1);
    let header = columns()
        .map(|column| {
            format!("{}{}", "\n".repeat(lines - column.head.lines().count()), column.head)
        })
        .collect();
    let row = |item| columns().map(|column| (column.cell)(item)).collect();
    grid(header, items.iter().map(row).collect(), first)
}

pub fn time(times: &Quartiles) -> String {
    // One round has no spread.
    let spread = if times.low < times.high {
        format!(" ±{:.0}%", 100.0 * times.spread())
    } else {
        String::new()
    };
    short(times.median) + &spread
}

/// In four characters, where that leaves two digits.
fn rate(value: f64) -> String {
    if (0.1..1.0).contains(&value) { format!("{value:.2}") } else { short(value) }
}

/// With three significant digits.
pub fn short(value: f64) -> String {
    let magnitude = value.abs().log10().floor();
    let decimals = if magnitude.is_finite() { (2.0 - magnitude).clamp(0.0, 6.0) } else { 0.0 };
    format!("{value:.*}", decimals as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::cases::Case;
    use crate::bench::machine::Machine;
    use crate::bench::measure::Measured;
    use crate::bench::options::{DType, LayoutName};
    use crate::report::Versions;

    #[test]
    fn three_digits() {
        assert_eq!(
            [0.012345, 0.5, 1.0, 12.345, 123.45, 12345.6, 0.0].map(short),
            ["0.0123", "0.500", "1.00", "12.3", "123", "12346", "0"]
        );
        assert_eq!([0.05, 0.186, 1.5].map(rate), ["0.0500", "0.19", "1.50"]);
    }

    #[test]
    fn the_table_fits_the_terminal_by_leaving_out_what_matters_least() {
        let machine = Machine { cores: 16, cpu: None, free: 0 };
        let versions = Versions::of_this_build();
        let times = |median: f64| Quartiles { low: median * 0.9, median, high: median * 1.15 };
        let measured = Measured {
            rounds: 9,
            read: times(0.1234),
            copy: times(0.3),
            forward: times(0.5),
            forward_backward: times(0.625),
        };
        let case = |rows, classes, dtype, layout| Case::new(rows, classes, dtype, layout, 16, 8);
        let timing = |case| Timing {
            case,
            measured: measured.clone(),
            epsilon: 0.1,
            machine: &machine,
            versions: &versions,
        };
        let timings = [
            timing(case(33_552, 1000, DType::Bf16, LayoutName::Middle)),
            timing(case(256, 128_256, DType::F32, LayoutName::Last)),
        ];
        let shown = |text: &str| ["read ", "copy", "GB/s"].map(|head| text.matches(head).count());
        for (width, heads) in [(120, [2, 2, 2]), (80, [0, 1, 2]), (79, [0, 1, 1]), (10, [0, 1, 1])]
        {
            let text = to_text(&timings, width);
            assert!(
                width == 10 || text.lines().all(|line| line.chars().count() <= width),
                "{width}:\n{text}"
            );
            assert_eq!(shown(&text), heads, "{width}:\n{text}");
            assert_eq!(text.lines().count(), 3 + 1 + 2, "{width}:\n{text}");
        }
    }

    #[test]
    fn one_round_has_no_spread() {
        assert_eq!(time(&Quartiles { low: 0.98, median: 1.0, high: 1.04 }), "1.00 ±3%");
        assert_eq!(time(&Quartiles { low: 1.0, median: 1.0, high: 1.0 }), "1.00");
    }
}
