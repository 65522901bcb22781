//! One trip through a data set, over several threads.

use std::sync::{Mutex, PoisonError};

use indicatif::{ProgressBar, ProgressStyle};
use xent_arrays::{Floats, Place};
use xent_metrics::{Evaluation, Kept, Logits, Rows, Settings, Tallies};

use super::feed::{Feed, Piece};
use crate::error::{Error, Result};

/// Threads beyond these would wait for the file, and take memory meanwhile.
const MOST_THREADS: usize = 8;
/// Classes of all threads' sums together, so that these stay small.
const MOST_CLASSES: usize = 1 << 20;

/// Evaluates all rows. Threads take blocks as they come; since sums are exact and the rows that are kept follow from their names, the result has the same bits whoever took which.
///
/// # Errors
/// The first error by order of the rows.
pub fn evaluate(logits: &[Place], labels: Vec<Place>, settings: &dyn Fn(usize) -> Settings, threads: Option<usize>, bar: &ProgressBar) -> Result<Evaluation> {
    let feed = Feed::open(logits.to_vec(), labels)?;
    let settings = settings(feed.classes());
    let usual = || std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
    let threads = threads.unwrap_or_else(usual).clamp(1, (MOST_CLASSES / settings.classes).max(2));
    bar.set_length(feed.bytes());
    let kept = Mutex::new(Kept::new(settings.classes, settings.kept_logits));
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
        let mut sound = Vec::new();
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
            let rows = Rows { source: &names[source], first, logits, labels: &labels };
            sound.clear();
            if let Err(error) = tallies.add(&rows, &mut sound) {
                fail(number, Error::input(error));
                break;
            }
            lock(&kept).offer_rows(&rows, &sound);
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
    Ok(Evaluation::from_parts(tallies, kept.into_inner().unwrap_or_else(PoisonError::into_inner)))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A bar on the terminal, with rate and time left; nothing where there is none.
pub fn progress_bar(quiet: bool) -> ProgressBar {
    if quiet {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("reading {msg} {wide_bar} {percent:>3} %  {decimal_bytes_per_sec}  {elapsed} (about {eta} left)") {
        bar.set_style(style);
    }
    bar
}
