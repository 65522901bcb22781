//! Metrics that need rows sorted by confidence, computed from cells of tied rows.

use serde::Serialize;

use crate::cells::Cells;

/// Tied rows; after resampling by parts their number need not be whole.
#[derive(Debug, Clone, Copy)]
pub struct Counted {
    pub value: f64,
    pub rows: f64,
    pub correct: f64,
}

/// The cells from low to high.
pub fn counted(cells: &Cells) -> Vec<Counted> {
    cells
        .sorted()
        .into_iter()
        .map(|cell| Counted {
            value: cell.value,
            rows: cell.rows as f64,
            correct: cell.correct as f64,
        })
        .collect()
}

/// The share of wrong rows among the most confident.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RiskCoverage {
    /// Shares of the rows.
    pub coverage: Vec<f64>,
    /// The share of wrong rows among the most confident, for each coverage.
    pub risk: Vec<f64>,
}

/// Expected calibration error over `bins` bins of equally many rows, from low to high confidence;
/// the first bins have one more row if the rows do not divide evenly.
pub fn equal_mass_error(cells: &[Counted], bins: usize) -> f64 {
    let n: f64 = cells.iter().map(|cell| cell.rows).sum();
    let (least, more) = ((n / bins as f64).floor(), n % bins as f64);
    let size = |bin: usize| least + f64::from(u8::from((bin as f64) < more));
    let (mut bin, mut room, mut difference, mut error) = (0, size(0), 0.0, 0.0);
    for cell in cells {
        let mut left = cell.rows;
        while left > 0.0 {
            while room <= 0.0 && bin + 1 < bins {
                error += f64::abs(difference);
                (bin, difference) = (bin + 1, 0.0);
                room = size(bin);
            }
            let taken = if bin + 1 < bins { left.min(room) } else { left };
            difference += taken * (cell.correct / cell.rows - cell.value);
            (left, room) = (left - taken, room - taken);
        }
    }
    (error + difference.abs()) / n
}

/// Mean over i = 1..N of the share of wrong rows among the i most confident.
pub fn aurc(cells: &[Counted]) -> f64 {
    let (mut rows, mut wrong, mut sum) = (0.0, 0.0, 0.0);
    for cell in cells.iter().rev().filter(|cell| cell.rows > 0.0) {
        // Row j of the cell's g: (wrong + share·j)/(rows + j), which is share + (wrong −
        // share·rows)/(rows + j).
        let share = 1.0 - cell.correct / cell.rows;
        sum += share * cell.rows + (wrong - share * rows) * reciprocals(rows, cell.rows);
        (rows, wrong) = (rows + cell.rows, wrong + cell.rows - cell.correct);
    }
    sum / rows
}

/// 1/(a+1) + … + 1/(a+n) for whole numbers a and n.
fn reciprocals(a: f64, n: f64) -> f64 {
    const LARGE: f64 = 32.0;
    let mut sum = 0.0;
    let (mut from, to) = (a, a + n);
    while from < to && (from < LARGE || to - from <= LARGE) {
        from += 1.0;
        sum += 1.0 / from;
    }
    if from < to {
        // H(x) = ln x + γ + 1/2x − 1/12x² + 1/120x⁴ − 1/252x⁶ + …
        let tail =
            |x: f64| (0.5 - (1.0 / 12.0 - (1.0 / 120.0 - 1.0 / (252.0 * x * x)) / (x * x)) / x) / x;
        sum += ((to - from) / from).ln_1p() + (tail(to) - tail(from));
    }
    sum
}

/// The risk at coverages of 1 % to 100 %; a coverage within a tie takes the tie's rows in
/// proportion.
pub fn risk_coverage(cells: &[Counted]) -> RiskCoverage {
    let n: f64 = cells.iter().map(|cell| cell.rows).sum();
    let coverage: Vec<f64> = (1..=100).map(|percent| f64::from(percent) / 100.0).collect();
    let mut cells = cells.iter().rev();
    let (mut rows, mut wrong, mut cell) =
        (0.0, 0.0, Counted { value: 1.0, rows: 0.0, correct: 0.0 });
    let mut risk_at = |share: f64| {
        // The next whole row.
        let wanted = (share * n).ceil().min(n);
        while rows + cell.rows < wanted {
            (rows, wrong) = (rows + cell.rows, wrong + cell.rows - cell.correct);
            match cells.next() {
                Some(next) => cell = *next,
                None => break,
            }
        }
        let part = if cell.rows > 0.0 { (wanted - rows) / cell.rows } else { 0.0 };
        (wrong + part * (cell.rows - cell.correct)) / wanted
    };
    let risk = coverage.iter().map(|share| risk_at(*share)).collect();
    RiskCoverage { coverage, risk }
}

/// For each share, the smallest number that at least this share of the rows does not exceed.
pub fn quantiles<const N: usize>(cells: &Cells, shares: [f64; N]) -> [f64; N] {
    let cells = counted(cells);
    let n: f64 = cells.iter().map(|cell| cell.rows).sum();
    let mut below = 0.0;
    let mut cumulative = cells.iter().map(|cell| {
        below += cell.rows;
        (below, cell.value)
    });
    let mut at = (0.0, f64::NAN);
    shares.map(|share| {
        while at.0 < share * n {
            match cumulative.next() {
                Some(next) => at = next,
                None => break,
            }
        }
        at.1
    })
}

/// The width of up to 60 bins from 0 up, and the share of the rows in each; the last includes
/// everything beyond.
pub fn histogram(cells: &Cells) -> (f64, Vec<f64>) {
    const BARS: usize = 60;
    let cells = counted(cells);
    let finite = || cells.iter().filter(|cell| cell.value.is_finite());
    let n: f64 = finite().map(|cell| cell.rows).sum();
    let mut below = 0.0;
    let end = finite().find(|cell| {
        below += cell.rows;
        below >= 0.995 * n
    });
    let Some(end) = end.map(|cell| cell.value).filter(|end| *end > 0.0) else {
        return (0.0, Vec::new());
    };
    let width = end / (BARS - 1) as f64;
    let mut bars = vec![0.0; BARS];
    finite().for_each(|cell| bars[((cell.value / width) as usize).min(BARS - 1)] += cell.rows / n);
    (width, bars)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::bins::BINS;

    fn cells(rows: &[(f64, bool)]) -> Vec<Counted> {
        let mut cells = Cells::new(1 << 16);
        rows.iter().for_each(|(value, correct)| cells.add(*value, *correct));
        counted(&cells)
    }

    #[test]
    fn risks_by_hand() {
        // Most confident first: right, wrong, right: risks 0, 1/2, 1/3.
        let rows = cells(&[(0.9, true), (0.8, false), (0.7, true)]);
        assert!((aurc(&rows) - (0.5 + 1.0 / 3.0) / 3.0).abs() < 1e-15);
        // One right and one wrong, tied: ½, ½.
        assert!((aurc(&cells(&[(0.9, true), (0.9, false)])) - 0.5).abs() < 1e-15);
        let curve = risk_coverage(&rows);
        assert_eq!([curve.risk[0], curve.risk[49], curve.risk[99]], [0.0, 0.5, 1.0 / 3.0]);
    }

    #[test]
    fn harmonic_numbers_are_right_near_and_far() {
        for (a, n) in [(0.0, 1000.0), (5.0, 100.0), (40.0, 33.0), (1e6, 1e5)] {
            let direct: f64 = (1..=n as u64).map(|j| 1.0 / (a + j as f64)).sum();
            assert!(
                (reciprocals(a, n) - direct).abs() < 1e-12 * direct.max(1.0),
                "{a} {n}: {} {direct}",
                reciprocals(a, n)
            );
        }
    }

    proptest! {
        #[test]
        fn ties_count_with_the_mean_of_their_orders(values in prop::collection::vec((0..4u8, any::<bool>()), 1..7)) {
            let rows: Vec<(f64, bool)> = values.iter().map(|(value, correct)| (f64::from(*value) / 4.0, *correct)).collect();
            // Every order of the rows that confidences allow.
            let mut orders = vec![vec![]];
            for _ in 0..rows.len() {
                orders = orders.iter().flat_map(|order: &Vec<usize>| (0..rows.len()).filter(|i| !order.contains(i)).map(|i| [&order[..], &[i]].concat())).collect();
            }
            orders.retain(|order| order.is_sorted_by(|a, b| rows[*a].0 >= rows[*b].0));
            let of_order = |order: &Vec<usize>| {
                let mut wrong = 0.0;
                order.iter().enumerate().map(|(i, row)| { wrong += f64::from(u8::from(!rows[*row].1)); wrong / (i + 1) as f64 }).sum::<f64>() / rows.len() as f64
            };
            let mean = orders.iter().map(of_order).sum::<f64>() / orders.len() as f64;
            prop_assert!((aurc(&cells(&rows)) - mean).abs() < 1e-12);
        }

        #[test]
        fn equal_mass_splits_evenly(rows in prop::collection::vec((0.0..1.0f64, any::<bool>()), 1..100)) {
            let mut sorted = rows.clone();
            sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
            let (least, more) = (rows.len() / BINS, rows.len() % BINS);
            let (mut rest, mut error) = (&sorted[..], 0.0);
            for bin in 0..BINS {
                let (this, others) = rest.split_at(least + usize::from(bin < more));
                error += this.iter().map(|(p, right)| f64::from(u8::from(*right)) - p).sum::<f64>().abs();
                rest = others;
            }
            prop_assert!((equal_mass_error(&cells(&rows), BINS) - error / rows.len() as f64).abs() < 1e-12);
        }
    }
}
