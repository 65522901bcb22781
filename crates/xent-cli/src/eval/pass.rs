//! Passes over a data set, on several threads.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use indicatif::ProgressBar;
use xent_arrays::{Floats, Place};
use xent_metrics::{
    Evaluation, InputError, LabelledRows, Logits, Reader, Sample, SecondPass, Settings, Slopes,
    Tallies, TemperatureSearch,
};

use super::feed::{Feed, Input, Piece};
use super::probabilities;
use crate::args::cores;
use crate::data::{NO_DISTRIBUTION, SEEM_PROBABILITIES};
use crate::error::{Error, Result};
use crate::terminal::warn;
use crate::threads::on_threads;

/// More threads than this would wait for the file and take memory meanwhile.
const USUAL_THREADS: usize = 8;

/// Evaluates all rows. Each thread takes the next block when it is free; because sums are exact and
/// the sampled rows depend on their contents alone, the result has the same bits whichever thread
/// took which block.
///
/// If the rows are too many to be kept for the temperature, the files are read again for it.
///
/// # Errors
/// The first error by order of the rows.
pub fn evaluate(
    input: &Input<'_>,
    settings: &dyn Fn(usize) -> Settings,
    threads: Option<usize>,
    bar: &ProgressBar,
    again: bool,
) -> Result<Evaluation> {
    let Input { logits, labels, .. } = input;
    let pass = Pass::new(input, threads, bar);
    let feed = pass.open()?;
    let settings = settings(feed.classes());
    settings.check().map_err(|error| Error::input(format!("{}: {error}", logits[0])))?;
    let sample = Mutex::new(Sample::new(settings.classes, settings.sample_logits));
    let each = pass.run(
        feed,
        &|| (Tallies::new(settings.clone()), Vec::new()),
        &|(tallies, evaluated), rows, _| {
            evaluated.clear();
            tallies.add(rows, evaluated).map_err(|error| explained(&error, input))?;
            lock(&sample).offer(rows, evaluated);
            Ok(())
        },
    )?;
    let mut each = each.into_iter().map(|(tallies, _)| tallies);
    let mut tallies = each.next().unwrap_or_else(|| Tallies::new(settings));
    each.for_each(|other| tallies.merge(&other));
    let sample = sample.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut evaluation = Evaluation::from_parts(tallies, sample);
    if pass.likely.load(Relaxed) && !evaluation.raw().is_empty() {
        bar.suspend(|| {
            warn(&format!("{}: {SEEM_PROBABILITIES}", logits[0]));
        });
    }
    let files = || logits.iter().chain(*labels).map(|place| &place.file);
    if again && evaluation.is_sampled() && files().all(|file| file.is_file()) {
        fit(&pass, &mut evaluation)?;
    }
    Ok(evaluation)
}

/// The error, with the file of a label that is wrong, and the option that leaves such rows out.
fn explained(error: &InputError, input: &Input<'_>) -> Error {
    let option = match error {
        InputError::Label { label, .. } if *label < 0 => {
            format!("; --ignore-index={label} leaves such rows out")
        }
        InputError::NotFinite { .. } => "; --skip-non-finite leaves such rows out".to_string(),
        _ => String::new(),
    };
    let labels = match error {
        InputError::Label { file, .. } => {
            let index = input.logits.iter().position(|place| place.to_string() == *file);
            index.and_then(|index| input.labels_of(index))
        }
        _ => None,
    };
    let labels = labels.filter(|labels| input.logits.iter().all(|place| place.file != labels.file));
    let file = labels.map_or(String::new(), |labels| format!("; the labels are in {labels}"));
    Error::input(format!("{error}{file}{option}"))
}

/// Fits the temperature to all rows and computes the numbers at it, in further passes. The search
/// starts at the temperature of the sampled rows, so that a few steps are enough.
fn fit(pass: &Pass<'_>, evaluation: &mut Evaluation) -> Result<()> {
    let settings = evaluation.settings().clone();
    let message = pass.bar.message();
    let mut passes = 1;
    let mut again = || {
        passes += 1;
        pass.bar.reset();
        pass.bar.set_message(format!("{message}, pass {passes} for the temperature"));
        pass.open()
    };
    let Some(sampled) = evaluation.sampled_temperature() else { return Ok(()) };
    let mut search = TemperatureSearch::from(sampled.value);
    let temperature = loop {
        let temperature = search.temperature();
        let slopes = pass.run(
            again()?,
            &|| (Slopes::new(temperature), Reader::default()),
            &|(slopes, reader), rows, _| {
                slopes.add_rows(reader, rows, &settings);
                Ok(())
            },
        )?;
        let mut all = Slopes::new(temperature);
        slopes.iter().for_each(|(slopes, _)| all.merge(slopes));
        if let Some(found) = search.step(&all) {
            break found;
        }
    };
    let empty = || SecondPass::new(settings.clone(), temperature.value);
    let each = pass.run(again()?, &empty, &|second, rows, _| {
        second.add(rows);
        Ok(())
    })?;
    let mut second = empty();
    each.iter().for_each(|other| second.merge(other));
    evaluation
        .set_fitted(temperature, second)
        .map_err(|error| Error::input(format!("{}: {error}", pass.input.logits[0])))
}

/// Adds rows, and the numbers beside them, to the state of a thread.
type Add<'a, S> = dyn Fn(&mut S, &LabelledRows<'_>, &[Vec<f64>]) -> Result<()> + Sync + 'a;

/// What every pass over the same rows has in common.
pub struct Pass<'a> {
    input: &'a Input<'a>,
    /// All rows so far look like probabilities, though they are taken for logits.
    likely: AtomicBool,
    threads: Option<usize>,
    bar: &'a ProgressBar,
}

impl<'a> Pass<'a> {
    /// Over these rows, on so many threads.
    pub fn new(input: &'a Input<'a>, threads: Option<usize>, bar: &'a ProgressBar) -> Self {
        Self { input, likely: AtomicBool::new(!input.probabilities), threads, bar }
    }

    /// The rows.
    pub fn open(&self) -> Result<Feed<'a>> {
        Feed::open(self.input)
    }

    /// Shows all rows, and the numbers beside them, to `add`, with a state of each thread; returns
    /// the states.
    pub fn run<S: Send>(
        &self,
        feed: Feed<'_>,
        state: &(dyn Fn() -> S + Sync),
        add: &Add<'_, S>,
    ) -> Result<Vec<S>> {
        let threads = self
            .threads
            .unwrap_or_else(|| cores().min(USUAL_THREADS))
            .clamp(1, Tallies::most_beside(feed.classes()));
        self.bar.set_length(feed.bytes());
        let classes = feed.classes();
        let feed = Mutex::new(feed);
        let failure: Mutex<Option<(usize, Error)>> = Mutex::new(None);
        let fail = |number: usize, error: Error| {
            let mut first = lock(&failure);
            if first.as_ref().is_none_or(|(other, _)| number < *other) {
                *first = Some((number, error));
            }
        };
        let names: Vec<String> = self.input.logits.iter().map(Place::to_string).collect();
        let work = || {
            let mut state = state();
            loop {
                let piece = match lock(&feed).next() {
                    _ if lock(&failure).is_some() => break,
                    Ok(Some(piece)) => piece,
                    Ok(None) => break,
                    Err(error) => {
                        fail(usize::MAX, error);
                        break;
                    }
                };
                let Piece { number, source, first, block, labels, beside, bytes } = piece;
                let mut floats = block.floats.decode();
                if self.input.probabilities {
                    match probabilities::logits(&floats, classes) {
                        Ok(logits) => floats = logits,
                        Err(row) => {
                            let row = first + row as u64;
                            fail(
                                number,
                                Error::input(format!(
                                    "{}: row {row} {NO_DISTRIBUTION}",
                                    names[source]
                                )),
                            );
                            break;
                        }
                    }
                } else if self.likely.load(Relaxed) && !probabilities::are_likely(&floats, classes)
                {
                    self.likely.store(false, Relaxed);
                }
                let logits = match &floats {
                    Floats::F64(values) => Logits::F64(values),
                    Floats::F32(values) => Logits::F32(values),
                    // `decode` leaves none.
                    Floats::Encoded(..) => Logits::F32(&[]),
                };
                let rows = LabelledRows { source: &names[source], first, logits, labels: &labels };
                if let Err(error) = add(&mut state, &rows, &beside) {
                    fail(number, error);
                    break;
                }
                self.bar.inc(bytes);
            }
            state
        };
        let each = on_threads(threads, &work)?;
        if let Some((_, error)) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
        Ok(each)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::feed::Reading;
    use super::*;

    /// 300 rows of 5 logits with their labels.
    fn write(folder: &std::path::Path, name: &str) -> Vec<Place> {
        let row = |i: usize| {
            let right = |k: usize| f64::from(u8::from(k == (i * 7) % 5 && !i.is_multiple_of(3)));
            let logit = |k: usize| ((i * 31 + k * 17) % 29) as f64 / 9.0 + right(k);
            let logits: Vec<String> = (0..5).map(|k| logit(k).to_string()).collect();
            format!("{},{}\n", logits.join(","), (i * 7) % 5)
        };
        let text = "a,b,c,d,e,label\n".to_string() + &(0..300).map(row).collect::<String>();
        std::fs::write(folder.join(name), text).unwrap();
        vec![Place { file: folder.join(name), name: None }]
    }

    fn scores(logits: &[Place], kept: usize, again: bool) -> xent_metrics::Scores {
        let labels = [Place { file: logits[0].file.clone(), name: Some("label".into()) }];
        let settings = |classes| Settings { sample_logits: kept, ..Settings::new(classes) };
        let bar = ProgressBar::hidden();
        let input = Input {
            logits,
            labels: &labels,
            reading: &Reading::default(),
            probabilities: false,
            soft: false,
        };
        evaluate(&input, &settings, Some(2), &bar, again).unwrap().scores()
    }

    #[test]
    fn rows_beyond_the_budget_are_read_again_and_have_the_same_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (write(folder.path(), "one.csv"), write(folder.path(), "other.csv"));
        let (all, again) = (scores(&one, 1 << 20, true), scores(&one, 200, true));
        let (a, b) = (all.temperature.unwrap(), again.temperature.unwrap());
        assert_eq!((a.rows, b.rows), (Some(300), Some(300)));
        assert!((a.value / b.value - 1.0).abs() < 1e-10, "{a:?} {b:?}");
        let (all, again) = (all.scaled.unwrap(), again.scaled.unwrap());
        let same = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} {b}");
        same(all.nll.value, again.nll.value);
        same(all.ece.value, again.ece.value);
        same(all.ece_classwise.value, again.ece_classwise.value);
        assert_eq!(all.accuracy, again.accuracy);

        // What cannot be read again is sampled: by the rows' contents, not by their file's name.
        let sampled = scores(&one, 200, false);
        let renamed = scores(&other, 200, false);
        assert_eq!(sampled.temperature.unwrap().rows, Some(40));
        assert!(sampled.temperature.unwrap().error.unwrap() > b.error.unwrap());
        assert_eq!(sampled.temperature, renamed.temperature);
        let (a, b) = (sampled.scaled.unwrap(), renamed.scaled.unwrap());
        assert_eq!((a.nll, a.ece, a.aurc), (b.nll, b.ece, b.aurc));
        assert_eq!((a.accuracy, a.top5), (sampled.raw.accuracy, sampled.raw.top5));
    }
}
