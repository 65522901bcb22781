//! A worker's side of the benchmark: JSON lines on standard input and output, and the clock around
//! the work.
//!
//! `bench/README.md` describes the lines; `bench/workers/protocol.py` is the same in Python.

mod case;

use std::io::{BufRead, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::Instant;

use serde::Deserialize;
use serde_json::{Value, json};

pub use case::{Case, Dtype, Logits};

/// What can be timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// The loss.
    Forward,
    /// The loss and its gradient with respect to the logits.
    ForwardBackward,
    /// The logits, copied into memory that exists.
    Copy,
    /// The logits, added up.
    Sum,
}

/// Something that can do the work.
pub trait Contender {
    /// Takes over a case's logits and targets, one class index per row; or says why it cannot do
    /// the case.
    ///
    /// # Errors
    /// What this contender lacks for the case.
    fn prepare(
        &self,
        case: &Case,
        logits: Logits,
        targets: Vec<i64>,
    ) -> Result<Box<dyn Prepared>, String>;
}

/// A case, ready to be done again and again.
pub trait Prepared {
    /// Does the work once, with the memory of the last gradient given back where a step of training
    /// would give it back.
    ///
    /// # Errors
    /// What went wrong.
    fn run(&mut self, work: Work) -> Result<(), String>;

    /// Loss and gradient, in the logits' layout, of the work that is timed.
    ///
    /// # Errors
    /// What went wrong.
    fn answer(&mut self) -> Result<(f64, Logits), String>;
}

#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
enum Request {
    Prepare { case: Case },
    Answer { gradient: PathBuf },
    Time { what: Work, warmup: usize, repetitions: usize },
    Release,
    Quit,
}

/// Answers the runner's requests until it says `quit` or goes away.
pub fn serve(contender: &dyn Contender) {
    let mut prepared: Option<Box<dyn Prepared>> = None;
    say(&json!({"ready": true}));
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { return };
        let reply = match serde_json::from_str(&line) {
            Ok(Request::Quit) => return,
            Ok(request) => {
                catch_unwind(AssertUnwindSafe(|| reply(contender, &mut prepared, request)))
                    .unwrap_or_else(|panic| json!({"error": panic_message(&*panic)}))
            }
            Err(error) => json!({"error": format!("not a request: {error}")}),
        };
        say(&reply);
    }
}

fn reply(
    contender: &dyn Contender,
    prepared: &mut Option<Box<dyn Prepared>>,
    request: Request,
) -> Value {
    let done = match request {
        Request::Prepare { case } => {
            *prepared = None;
            match case.read() {
                Err(error) => Err(error),
                Ok((logits, targets)) => match contender.prepare(&case, logits, targets) {
                    Err(why) => return json!({"unsupported": why}),
                    Ok(ready) => {
                        *prepared = Some(ready);
                        Ok(json!({"prepared": true}))
                    }
                },
            }
        }
        Request::Answer { gradient } => with(prepared, |case| {
            let (loss, values) = case.answer()?;
            values.write(&gradient)?;
            Ok(json!({"loss": loss, "dtype": values.dtype()}))
        }),
        Request::Time { what, warmup, repetitions } => {
            with(prepared, |case| Ok(json!({"ns": time(case, what, warmup, repetitions)?})))
        }
        Request::Release => {
            *prepared = None;
            Ok(json!({"released": true}))
        }
        Request::Quit => unreachable!("serve() ends before"),
    };
    done.unwrap_or_else(|error| json!({"error": error}))
}

fn with(
    prepared: &mut Option<Box<dyn Prepared>>,
    act: impl FnOnce(&mut dyn Prepared) -> Result<Value, String>,
) -> Result<Value, String> {
    act(prepared.as_mut().ok_or("nothing is prepared")?.as_mut())
}

fn time(
    case: &mut dyn Prepared,
    what: Work,
    warmup: usize,
    repetitions: usize,
) -> Result<Vec<u64>, String> {
    for _ in 0..warmup {
        case.run(what)?;
    }
    let mut durations = Vec::with_capacity(repetitions);
    for _ in 0..repetitions {
        let start = Instant::now();
        case.run(what)?;
        durations
            .push(u64::try_from(start.elapsed().as_nanos()).map_err(|error| error.to_string())?);
    }
    Ok(durations)
}

fn say(reply: &Value) {
    let mut out = std::io::stdout().lock();
    // Without a runner there is nobody to tell, and the next read ends the worker.
    let _ = writeln!(out, "{reply}").and_then(|()| out.flush());
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let said = panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
    format!("panic: {}", said.unwrap_or_default())
}
