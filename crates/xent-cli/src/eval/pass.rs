//! One pass over a data set, on several threads.

use std::sync::{Mutex, PoisonError};

use indicatif::ProgressBar;
use xent_arrays::{Floats, Place};
use xent_metrics::{Evaluation, LabelledRows, Logits, Sample, Settings, Tallies};

use super::feed::{Feed, Piece};
use crate::args::cores;
use crate::error::{Error, Result};

/// More threads than this would wait for the file and take memory meanwhile.
const MOST_THREADS: usize = 8;
/// The most classes in the sums of all threads together, so that these stay small.
const MOST_CLASSES: usize = 1 << 20;

/// Evaluates all rows. Each thread takes the next block when it is free; because sums are exact and
/// the sampled rows depend on their names alone, the result has the same bits whichever thread took
/// which block.
///
/// # Errors
/// The first error by order of the rows.
pub fn evaluate(
    logits: &[Place],
    labels: Vec<Place>,
    settings: &dyn Fn(usize) -> Settings,
    threads: Option<usize>,
    bar: &ProgressBar,
) -> Result<Evaluation> {
    let feed = Feed::open(logits.to_vec(), labels)?;
    let settings = settings(feed.classes());
    let threads = threads
        .unwrap_or_else(|| cores().min(MOST_THREADS))
        .clamp(1, (MOST_CLASSES / settings.classes).max(2));
    bar.set_length(feed.bytes());
    let sample = Mutex::new(Sample::new(settings.classes, settings.sample_logits));
    let feed = Mutex::new(feed);
    let failure: Mutex<Option<(usize, Error)>> = Mutex::new(None);
    let fail = |number: usize, error: Error| {
        let mut first = lock(&failure);
        if first.as_ref().is_none_or(|(other, _)| number < *other) {
            *first = Some((number, error));
        }
    };
    let names: Vec<String> = logits.iter().map(Place::to_string).collect();
    let work = || {
        let mut tallies = Tallies::new(settings.clone());
        let mut evaluated = Vec::new();
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
            let Piece { number, source, first, block, labels, bytes } = piece;
            let floats = block.floats.decode();
            let logits = match &floats {
                Floats::F64(values) => Logits::F64(values),
                Floats::F32(values) => Logits::F32(values),
                // `decode` leaves none.
                Floats::Encoded(..) => Logits::F32(&[]),
            };
            let rows = LabelledRows { source: &names[source], first, logits, labels: &labels };
            evaluated.clear();
            if let Err(error) = tallies.add(&rows, &mut evaluated) {
                fail(number, Error::input(error));
                break;
            }
            lock(&sample).offer_rows(&rows, &evaluated);
            bar.inc(bytes);
        }
        tallies
    };
    let each: Vec<Tallies> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().filter_map(|worker| worker.join().ok()).collect()
    });
    if let Some((_, error)) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    if each.len() < threads {
        return Err(Error::failed("a thread ended early"));
    }
    let mut each = each.into_iter();
    let mut tallies = each.next().unwrap_or_else(|| Tallies::new(settings.clone()));
    each.for_each(|other| tallies.merge(&other));
    Ok(Evaluation::from_parts(tallies, sample.into_inner().unwrap_or_else(PoisonError::into_inner)))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
