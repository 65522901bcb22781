//! Chance levels and intervals by simulation.
//!
//! - The chance level of a calibration error: the labels are redrawn from the confidences, as if
//!   the model were perfectly calibrated. Of n rows with confidence p, Binomial(n, p) are right.
//! - An interval: the rows are resampled. Each row is drawn a Poisson(1) number of times (the
//!   bootstrap for streams: Chamandy et al. 2012), so n tied rows are drawn Poisson(n) times, the
//!   right and the wrong ones independently.
//!
//! Both work on cells of tied rows instead of rows, so their time does not grow with the data.

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Binomial, Distribution, Poisson};
use rayon::prelude::*;
use serde::Serialize;

use super::sorted::{Counted, aurc, counted, equal_mass_error};
use crate::bins::Bin;
use crate::cells::Cells;
use crate::tally::Tally;

/// The number of draws.
const DRAWS: usize = 500;
/// The most cells that are drawn from: closer values are merged.
const CELLS: usize = 1 << 12;
/// The number of cells of all classes times the number of draws: with many classes there are fewer
/// draws.
const CLASS_DRAWS: usize = 1 << 21;
/// The fewest draws.
const LEAST_DRAWS: usize = 40;

/// The score that chance alone reaches.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Chance {
    /// Its mean.
    pub mean: f64,
    /// Its 95 % quantile, if it was simulated: a higher score is more than chance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usual: Option<f64>,
}

/// A statistic of resampled rows, sorted, and of the original cells.
pub struct Draws {
    sorted: Vec<f64>,
    observed: f64,
}

/// All statistics of the resampled rows.
pub struct Resampled {
    pub accuracy: Draws,
    pub top: Draws,
    pub nll: Draws,
    pub brier: Draws,
    pub aurc: Draws,
    pub ece: (Draws, Chance),
    pub mce: (Draws, Chance),
    pub equal_mass: (Draws, Chance),
    pub classwise: (Draws, Chance),
}

/// Each purpose and draw has its own stream of random numbers.
#[derive(Clone, Copy)]
enum Purpose {
    Chance,
    Rows,
    ClassChance,
    ClassRows,
    Normalised,
}

fn stream(seed: u64, purpose: Purpose, draw: usize) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream((purpose as u64) << 32 | draw as u64);
    rng
}

impl Draws {
    fn new(mut draws: Vec<f64>, observed: f64) -> Self {
        draws.sort_by(f64::total_cmp);
        Self { sorted: draws, observed }
    }

    /// The basic interval: twice the estimate less the quantiles. Resampling repeats the estimate's
    /// upward bias, and this removes it from the interval.
    pub fn interval(&self, value: f64, (low, high): (f64, f64)) -> Option<(f64, f64)> {
        let at = |share: f64| {
            self.sorted[((share * self.sorted.len() as f64) as usize).min(self.sorted.len() - 1)]
        };
        let finite = value.is_finite()
            && self.observed.is_finite()
            && self.sorted.first()?.is_finite()
            && self.sorted.last()?.is_finite();
        let shift = value + self.observed;
        finite.then(|| ((shift - at(0.975)).clamp(low, high), (shift - at(0.025)).clamp(low, high)))
    }

    fn chance(&self) -> Chance {
        let n = self.sorted.len();
        let mean = self.sorted.iter().sum::<f64>() / n as f64;
        Chance { mean, usual: self.sorted.get(n * 19 / 20).copied() }
    }
}

/// Cells with the equal-width bin of each.
struct Binned {
    cells: Vec<Counted>,
    bins: Vec<usize>,
    slots: usize,
}

impl Binned {
    fn new(tally: &Tally) -> Self {
        let cells = counted(&tally.confidence.coarsened(CELLS));
        let bins = cells.iter().map(|cell| tally.binning.bin_of(cell.value)).collect();
        Self { cells, bins, slots: tally.bins.len() }
    }

    /// ECE and MCE of these cells, which may have been redrawn.
    fn errors(&self, cells: &[Counted]) -> (f64, f64) {
        let mut bins = vec![(0.0, 0.0); self.slots];
        for (cell, bin) in cells.iter().zip(&self.bins) {
            bins[*bin].0 += cell.rows;
            bins[*bin].1 += cell.correct - cell.rows * cell.value;
        }
        let n: f64 = bins.iter().map(|bin| bin.0).sum();
        let errors = bins.iter().filter(|bin| bin.0 > 0.0);
        (
            errors.clone().map(|bin| bin.1.abs()).sum::<f64>() / n,
            errors.map(|bin| bin.1.abs() / bin.0).fold(0.0, f64::max),
        )
    }

    fn by_chance(&self, rng: &mut impl Rng) -> Vec<Counted> {
        self.cells
            .iter()
            .map(|cell| Counted { correct: binomial(rng, cell.rows as u64, cell.value), ..*cell })
            .collect()
    }
}

/// See [`Tally::chance_ece`].
pub fn chance_ece(tally: &Tally, seed: u64) -> Chance {
    let binned = Binned::new(tally);
    let draws = (0..DRAWS)
        .into_par_iter()
        .map(|draw| binned.errors(&binned.by_chance(&mut stream(seed, Purpose::Chance, draw))).0);
    Draws::new(draws.collect(), 0.0).chance()
}

/// The AURC of resampled rows.
pub fn resampled_aurc(cells: &Cells) -> Draws {
    let cells = counted(&cells.coarsened(CELLS));
    let draws = (0..DRAWS).into_par_iter().map(|draw| {
        let rng = &mut stream(0, Purpose::Normalised, draw);
        aurc(&redrawn(&cells, rng))
    });
    Draws::new(draws.collect(), aurc(&cells))
}

/// Each row a Poisson(1) number of times.
fn redrawn(cells: &[Counted], rng: &mut impl Rng) -> Vec<Counted> {
    let redraw = |cell: &Counted| {
        let (right, wrong) = (poisson(rng, cell.correct), poisson(rng, cell.rows - cell.correct));
        Counted { value: cell.value, rows: right + wrong, correct: right }
    };
    cells.iter().map(redraw).collect()
}

impl Resampled {
    pub fn new(tally: &Tally) -> Self {
        let binned = Binned::new(tally);
        let by_chance: Vec<[f64; 3]> = (0..DRAWS)
            .into_par_iter()
            .map(|draw| {
                let cells = binned.by_chance(&mut stream(0, Purpose::Chance, draw));
                let (ece, mce) = binned.errors(&cells);
                [ece, mce, equal_mass_error(&cells, tally.binning.count)]
            })
            .collect();
        let (nll, brier) = (
            counted(&tally.nll_cells.coarsened(CELLS)),
            counted(&tally.brier_cells.coarsened(CELLS)),
        );
        let top = [tally.top as f64, (tally.rows - tally.top) as f64];
        let statistics = |cells: &[Counted]| {
            let (ece, mce) = binned.errors(cells);
            let share = cells.iter().map(|cell| cell.correct).sum::<f64>()
                / cells.iter().map(|cell| cell.rows).sum::<f64>();
            [share, ece, mce, equal_mass_error(cells, tally.binning.count), aurc(cells)]
        };
        let redrawn: Vec<[f64; 8]> = (0..DRAWS)
            .into_par_iter()
            .map(|draw| {
                let rng = &mut stream(0, Purpose::Rows, draw);
                let [share, ece, mce, mass, risk] = statistics(&redrawn(&binned.cells, rng));
                let [found, missed] = top.map(|rows| poisson(rng, rows));
                [
                    share,
                    ece,
                    mce,
                    mass,
                    risk,
                    found / (found + missed),
                    redrawn_mean(&nll, rng),
                    redrawn_mean(&brier, rng),
                ]
            })
            .collect();
        let [share, ece, mce, mass, risk] = statistics(&binned.cells);
        let rows = |which: usize, observed: f64| {
            Draws::new(redrawn.iter().map(|draw| draw[which]).collect(), observed)
        };
        let chance = |which: usize| {
            Draws::new(by_chance.iter().map(|draw| draw[which]).collect(), 0.0).chance()
        };
        Self {
            accuracy: rows(0, share),
            ece: (rows(1, ece), chance(0)),
            mce: (rows(2, mce), chance(1)),
            equal_mass: (rows(3, mass), chance(2)),
            aurc: rows(4, risk),
            top: rows(5, tally.top as f64 / tally.rows as f64),
            nll: rows(6, mean(&nll)),
            brier: rows(7, mean(&brier)),
            classwise: classwise(tally),
        }
    }
}

fn mean(cells: &[Counted]) -> f64 {
    cells.iter().map(|cell| cell.rows * cell.value).sum::<f64>()
        / cells.iter().map(|cell| cell.rows).sum::<f64>()
}

fn redrawn_mean(cells: &[Counted], rng: &mut impl Rng) -> f64 {
    let (mut rows, mut sum) = (0.0, 0.0);
    for cell in cells {
        let drawn = poisson(rng, cell.rows);
        if drawn > 0.0 {
            (rows, sum) = (rows + drawn, sum + drawn * cell.value);
        }
    }
    sum / rows
}

/// The cells of many classes that have no right row and next to no probability, together.
struct Rare {
    /// Σ over the cells up to each of the expected numbers of right rows.
    expected: Vec<f64>,
    /// Σ of the rows.
    rows: f64,
}

impl Rare {
    /// A cell with fewer expected rows than this may be rare.
    const EXPECTED: f64 = 0.05;

    /// Moves the rare ones out of `cells`.
    fn split(cells: &mut Vec<Bin>) -> Self {
        let mut rare = Self { expected: Vec::new(), rows: 0.0 };
        let mut sum = 0.0;
        cells.retain(|bin| {
            let expected = bin.confidence.value();
            let is_rare = bin.correct == 0 && expected < Self::EXPECTED;
            if is_rare {
                sum += expected;
                rare.expected.push(sum);
                rare.rows += bin.rows as f64;
            }
            !is_rare
        });
        rare
    }

    fn sum(&self) -> f64 {
        self.expected.last().copied().unwrap_or(0.0)
    }

    /// Σ |right − expected| if the labels are drawn from the probabilities. Of so many unlikely
    /// events a Poisson number happens, each in a cell by its share.
    fn by_chance(&self, rng: &mut impl Rng) -> f64 {
        let sum = self.sum();
        let mut happened: Vec<usize> = (0..poisson(rng, sum) as usize)
            .map(|_| {
                let at = rng.random::<f64>() * sum;
                self.expected.partition_point(|to| *to <= at).min(self.expected.len() - 1)
            })
            .collect();
        happened.sort_unstable();
        let of_cell = |cell: usize| {
            self.expected[cell] - if cell > 0 { self.expected[cell - 1] } else { 0.0 }
        };
        let more = happened.chunk_by(|a, b| a == b).map(|same| {
            let expected = of_cell(same[0]);
            (same.len() as f64 - expected).abs() - expected
        });
        sum + more.sum::<f64>()
    }
}

fn classwise(tally: &Tally) -> (Draws, Chance) {
    let mut cells: Vec<Bin> = tally.classes.cells().map(|(_, bin)| bin).collect();
    let k = tally.classes.counts().len() as f64;
    let observed = cells.iter().map(Bin::gap).sum::<f64>();
    let draws = (CLASS_DRAWS / cells.len().max(1)).clamp(LEAST_DRAWS, DRAWS);
    // Where even the fewest draws take long.
    let rare = if draws == LEAST_DRAWS {
        Rare::split(&mut cells)
    } else {
        Rare { expected: Vec::new(), rows: 0.0 }
    };
    let error = |gaps: f64, rows: f64| gaps / (rows * k);
    let by_chance = (0..draws).into_par_iter().map(|draw| {
        let rng = &mut stream(0, Purpose::ClassChance, draw);
        let mut gaps = if rare.expected.is_empty() { 0.0 } else { rare.by_chance(rng) };
        for bin in &cells {
            let drawn = binomial(rng, bin.rows, bin.mean_confidence());
            gaps += (drawn - bin.confidence.value()).abs();
        }
        error(gaps, tally.rows as f64)
    });
    let by_chance = Draws::new(by_chance.collect(), 0.0).chance();
    let redrawn = (0..draws).into_par_iter().map(|draw| {
        let rng = &mut stream(0, Purpose::ClassRows, draw);
        // Of rare cells there are so many that their sum does not scatter.
        let (mut gaps, mut rows) = (rare.sum(), rare.rows);
        for bin in &cells {
            let (right, wrong) =
                (poisson(rng, bin.correct as f64), poisson(rng, (bin.rows - bin.correct) as f64));
            gaps += f64::abs(right - (right + wrong) * bin.mean_confidence());
            rows += right + wrong;
        }
        // Each row is in one bin of each class.
        error(gaps, rows / k)
    });
    (Draws::new(redrawn.collect(), error(observed, tally.rows as f64)), by_chance)
}

/// A binomial number: how many of `n` events of probability p occur.
fn binomial(rng: &mut impl Rng, n: u64, p: f64) -> f64 {
    const FEW: u64 = 8;
    if n <= FEW {
        return (0..n).filter(|_| rng.random::<f64>() < p).count() as f64;
    }
    // The only error is a p outside [0, 1].
    Binomial::new(n, p.clamp(0.0, 1.0)).map_or(f64::NAN, |binomial| binomial.sample(rng) as f64)
}

/// A Poisson number with this mean.
fn poisson(rng: &mut impl Rng, mean: f64) -> f64 {
    if mean > 0.0 {
        Poisson::new(mean).map_or(f64::NAN, |poisson| poisson.sample(rng))
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bins::{BINS, Binning, Bins};
    use crate::input::Logits;
    use crate::row::Reader;

    fn tally(rows: &[[f64; 2]], labels: &[usize]) -> Tally {
        let (mut tally, mut reader) =
            (Tally::new(2, Bins { edges: Binning::RightClosed, count: BINS }), Reader::default());
        for (number, (row, label)) in rows.iter().zip(labels).enumerate() {
            let read = reader.read(Logits::F64(row), *label, 1.0).unwrap();
            tally.add(&reader, &read, *label, "rows", number as u64);
        }
        tally
    }

    #[test]
    fn chance_is_what_scatter_makes() {
        // All confidences are 1/2: a bin of n rows is off by E|Binomial(n, ½)/n − ½| ≈ √(1/(2πn)).
        let rows = 1000;
        let chance = chance_ece(&tally(&vec![[0.0; 2]; rows], &vec![0; rows]), 1);
        let expected = (1.0 / (2.0 * std::f64::consts::PI * rows as f64)).sqrt();
        assert!(
            (chance.mean / expected - 1.0).abs() < 0.2,
            "{chance:?}, expected about {expected}"
        );
        // 95 % of a normal distribution lie within 1.96 deviations, whose mean size is 0.798
        // deviations.
        assert!(
            (chance.usual.unwrap() / chance.mean / (1.96 / 0.798) - 1.0).abs() < 0.2,
            "{chance:?}"
        );
        // Certain rows leave nothing to chance.
        assert_eq!(
            chance_ece(&tally(&[[800.0, 0.0]; 10], &[0; 10]), 1),
            Chance { mean: 0.0, usual: Some(0.0) }
        );
    }

    #[test]
    fn intervals_have_the_width_that_theory_gives() {
        // 400 rows, 300 of them right: the sd of the share is √(.75·.25/400) = .02165.
        let labels: Vec<usize> = (0..400).map(|row| usize::from(row % 4 == 0)).collect();
        let scored = tally(&vec![[1.0, 0.0]; 400], &labels).scored();
        let (low, high) = scored.accuracy.interval.unwrap();
        assert!(
            low < 0.75 && 0.75 < high && ((high - low) / (2.0 * 1.96 * 0.02165) - 1.0).abs() < 0.15,
            "{low} {high}"
        );
        // The NLL is ln(1+e^−1) or 1 + that: the same sd.
        let (low, high) = scored.nll.interval.unwrap();
        assert!(((high - low) / (2.0 * 1.96 * 0.02165) - 1.0).abs() < 0.15, "{low} {high}");
        let perplexity = scored.perplexity;
        assert_eq!(perplexity.value, scored.nll.value.exp());
        assert_eq!(perplexity.interval, Some((low.exp(), high.exp())));
        // The model that knows the frequencies ¾ and ¼: 4^¼·(4/3)^¾.
        let chance = 4f64.powf(0.25) * (4.0f64 / 3.0).powf(0.75);
        assert!((perplexity.chance.unwrap().mean - chance).abs() < 1e-12, "{perplexity:?}");
    }

    #[test]
    fn rare_cells_scatter_as_if_each_were_drawn() {
        let cell = |class: usize| {
            let mut bin = Bin::default();
            (0..4).for_each(|_| bin.add((class % 10 + 1) as f64 / 2000.0, false));
            bin
        };
        let all: Vec<Bin> = (0..3000).map(cell).collect();
        let mut left = all.clone();
        let rare = Rare::split(&mut left);
        assert!(left.is_empty() && rare.rows == 12_000.0);
        let (mut together, mut each) = (0.0, 0.0);
        for draw in 0..200 {
            let rng = &mut stream(1, Purpose::ClassChance, draw);
            together += rare.by_chance(rng) / 200.0;
            let gap = |bin: &Bin| {
                (binomial(rng, bin.rows, bin.mean_confidence()) - bin.confidence.value()).abs()
            };
            each += all.iter().map(gap).sum::<f64>() / 200.0;
        }
        assert!((together / each - 1.0).abs() < 0.03, "{together} {each}");
    }

    #[test]
    fn redrawn_means_scatter_around_the_mean() {
        let cells = [1.0, 2.0, 6.0].map(|value| Counted { value, rows: 1.0, correct: 0.0 });
        let mean_of = (0..4000)
            .map(|draw| redrawn_mean(&cells, &mut stream(3, Purpose::Rows, draw)))
            .filter(|mean| mean.is_finite());
        let (count, sum) = mean_of.fold((0.0, 0.0), |(count, sum), mean| (count + 1.0, sum + mean));
        assert!((sum / count - 3.0).abs() < 0.1, "{}", sum / count);
        assert_eq!(mean(&cells), 3.0);
    }
}
